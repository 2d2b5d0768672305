"""How often something may happen, said a second time: by every stretch of time that it happened in.

Spec: Errors (`rate_limited`).
"""

from attrs import define, field

from gatewayproto.rates import Rate

_NONE: float = 1e-9
"""Less than this of an occurrence too many is none: sums of times are not exact."""


@define(eq=False)
class Allowance:
    """Of every stretch of time, no more are granted than the burst and what the rate adds.

    `granted` are the times and numbers of those that a stretch may begin with that still counts,
    `total` how many there were in all.
    """

    rate: Rate | None
    granted: list[tuple[float, int]] = field(factory=list)
    total: int = 0

    def wait(self, now: float) -> float | None:
        """None where one more may happen now, else the seconds until it may."""
        if self.rate is None:
            return None
        over = max(
            (
                self.total - number + 2 - self.rate.burst - self.rate.per_second * (now - since)
                for since, number in self.granted
            ),
            default=0.0,
        )
        return over / self.rate.per_second if over > _NONE else None

    def take(self, now: float) -> float | None:
        """As `wait`; where one more may happen, it does."""
        wait = self.wait(now)
        if wait is None and self.rate is not None:
            self.total += 1
            self.granted.append((now, self.total))
            self._forget(now, self.rate)
        return wait

    def _forget(self, now: float, rate: Rate) -> None:
        """A stretch that leaves as much room as one that begins now will never leave less."""
        self.granted = [
            (since, number)
            for since, number in self.granted
            if number == self.total or self.total - number + 1 - rate.per_second * (now - since) > 1
        ]

"""Token buckets: how often something may happen, over the long run and all at once.

Time is given, as everywhere in the machines. What is counted, and for whom, is said where it is
counted.

Spec: Errors (`rate_limited`); The handshake; Recovery in band.
"""

from typing import Any

from attrs import define, field, frozen, validators

_FASTEST = 1e6
_SLOWEST = 1e-6


@frozen
class Rate:
    """So many a second over the long run, and up to `burst` of them at once.

    `per_second` is 1e-6 to 1e6, `burst` at least 1; anything else is a `ValueError`.
    """

    per_second: float = field(
        validator=validators.and_(validators.ge(_SLOWEST), validators.le(_FASTEST))
    )
    burst: int = field(
        validator=validators.and_(
            validators.instance_of(int), validators.ge(1), validators.le(1_000_000_000)
        )
    )


@define
class Bucket:
    """One bucket of a rate: `level` tokens at the time `at`; it fills up to the burst."""

    rate: Rate
    level: float
    at: float

    @classmethod
    def full(cls, rate: Rate | None, now: float) -> "Bucket | None":
        """A bucket from which nothing was taken yet; None where there is no limit."""
        return None if rate is None else cls(rate, float(rate.burst), now)

    def take(self, now: float) -> float | None:
        """Take a token; None where there was one, else the seconds until there will be."""
        rate = self.rate
        self.level = min(float(rate.burst), self.level + (now - self.at) * rate.per_second)
        self.at = now
        if self.level < 1.0:
            return (1.0 - self.level) / rate.per_second
        self.level -= 1.0
        return None

    def is_full(self, now: float) -> bool:
        """Tell whether it is as good as a new one."""
        return self.level + (now - self.at) * self.rate.per_second >= self.rate.burst

    def to_state(self, now: float) -> list[float]:
        """Plain JSON data; the time as seconds before `now`."""
        return [self.level, now - self.at]

    @classmethod
    def from_state(
        cls, rate: Rate | None, state: list[float] | None, now: float
    ) -> "Bucket | None":
        """Go on from what `to_state` gave, or as anew where there is a limit only now."""
        if rate is None or state is None:
            return cls.full(rate, now)
        level, ago = state
        return cls(rate, min(level, float(rate.burst)), now - ago)


class Buckets:
    """One bucket for each key, for as many keys as came lately.

    At most `maximum` are kept: beyond it the one that was used longest ago is forgotten, so that
    inventing keys buys an attacker nothing but new keys.
    """

    def __init__(self, rate: Rate | None, *, maximum: int = 10_000) -> None:
        self._rate = rate
        self._maximum = maximum
        self._buckets: dict[str, Bucket] = {}  # by last use, oldest first

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now: float) -> float | None:
        """Take a token for `key`; None where there was one, else the seconds until there will be.

        An empty key is nobody's, and has no limit.
        """
        bucket = self._buckets.pop(key, None) or Bucket.full(self._rate, now)
        if bucket is None or not key:
            return None
        self._buckets[key] = bucket
        self._forget(now)
        return bucket.take(now)

    def _forget(self, now: float) -> None:
        """Each call adds one key at the most, and looks at two."""
        for _ in range(2):
            key, oldest = next(iter(self._buckets.items()))
            crowded = len(self._buckets) > self._maximum
            if len(self._buckets) == 1 or not (crowded or oldest.is_full(now)):
                return
            del self._buckets[key]

    def to_state(self, now: float) -> list[list[Any]]:
        """Plain JSON data; times as seconds before `now`."""
        return [[key, bucket.to_state(now)] for key, bucket in self._buckets.items()]

    def load(self, state: list[list[Any]], now: float) -> None:
        """Go on from what `to_state` gave."""
        loaded = ((key, Bucket.from_state(self._rate, saved, now)) for key, saved in state)
        self._buckets = {key: bucket for key, bucket in loaded if bucket is not None}

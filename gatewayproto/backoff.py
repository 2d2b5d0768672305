"""How long to wait before the next attempt: a pure function of the attempt and one random number.

Spec: The client's side, "Reconnecting".
"""

from attrs import field, frozen
from attrs.validators import ge, gt, le


@frozen(kw_only=True)
class Backoff:
    """Exponential delays with jitter.

    `initial` and `maximum` are in seconds. `jitter` is the part of a delay, 0 to 1, that is left
    to chance: a delay lies between `(1 - jitter) * d` and `d`.
    Raises `ValueError` for values out of bounds or a maximum below the initial delay.
    """

    initial: float = field(default=1.0, validator=gt(0))
    maximum: float = field(default=30.0, validator=[gt(0), le(1e9)])
    multiplier: float = field(default=2.0, validator=[ge(1), le(1e9)])
    jitter: float = field(default=0.5, validator=[ge(0), le(1)])

    def __attrs_post_init__(self) -> None:
        if not self.initial <= self.maximum:
            raise ValueError("the initial delay is above the maximum")

    def delay(self, attempt: int, random: float, *, floor: float = 0.0) -> float:
        """Seconds to wait before try number `attempt` + 1 (the first retry is attempt 1).

        `random` is in [0, 1). `floor` is what the server asked for; it wins over the maximum.
        """
        delay = self.initial
        # Multiplied step by step, because a power overflows where a minimum never does.
        for _ in range(min(attempt - 1, 1024)):
            delay *= self.multiplier
            if delay >= self.maximum or self.multiplier == 1:
                break
        spread = min(delay, self.maximum) * (1.0 - self.jitter * random)
        return max(spread, floor)

"""Callbacks and timers on one thread, in virtual time or in real time."""

import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from attrs import define, field

_TURNS: Final = 1_000_000
"""Callbacks in a row without time passing, after which the loop counts as stuck."""


class Clock(Protocol):
    """Where a loop has its time from, in seconds."""

    def now(self) -> float:
        """The time; it never goes back."""
        ...

    def wait(self, until: float) -> None:
        """Return when it is `until`."""
        ...


class VirtualClock:
    """Begins at 0, and moves only when somebody waits: then at once."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """The time that was waited for last."""
        return self._now

    def wait(self, until: float) -> None:
        """Make it `until`."""
        self._now = max(self._now, until)


class RealClock:
    """The computer's monotonic clock."""

    def now(self) -> float:
        """Seconds since some moment in the past."""
        return time.monotonic()

    def wait(self, until: float) -> None:
        """Sleep."""
        time.sleep(max(0.0, until - self.now()))


@define(eq=False)
class Timer:
    """One callback at one time."""

    callback: Callable[[], None]
    cancelled: bool = field(default=False, init=False)

    def cancel(self) -> None:
        """Do not call it any more."""
        self.cancelled = True


class Loop:
    """Runs callbacks in the order in which they became due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        """The time in seconds."""
        return self._clock.now()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call it in the next turn."""
        self._ready.append(callback)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call it when the time has come."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def run_for(self, seconds: float) -> None:
        """Let so much time pass; with 0, whatever is ready now has its turn."""
        end = self.now() + seconds
        for _ in range(_TURNS):
            if not self._turn(end):
                return
        raise TimeoutError("callbacks go on without end")

    def run_until(self, condition: Callable[[], object], patience: float) -> None:
        """Run until the condition holds.

        Raises:
            TimeoutError: It did not within `patience` seconds.
        """
        end = self.now() + patience
        for _ in range(_TURNS):
            if condition():
                return
            if not self._turn(end):
                break
        if not condition():
            raise TimeoutError(f"what is waited for did not come within {patience} seconds")

    def _turn(self, end: float) -> bool:
        """Call what is ready, or wait for the next timer; False once it is `end`."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        if self._timers and self._timers[0][0] <= self.now():
            self._ready.append(heapq.heappop(self._timers)[2].callback)
        elif not self._ready:
            if self.now() >= end:
                return False
            due = self._timers[0][0] if self._timers else end
            self._clock.wait(min(due, end))
            return True
        self._ready.popleft()()
        return True

"""The one timer of a server or a client."""

import math
from collections.abc import Callable

import trio


class ScopeAlarm:
    """A timer that a task of its own waits for; see `Alarm`."""

    def __init__(self, fire: Callable[[], None]) -> None:
        self._fire = fire
        self._deadline = math.inf
        self._waiting = trio.CancelScope()
        self._life = trio.CancelScope()
        self.ended = trio.Event()
        """Set once the task is over."""

    def set(self, delay: float) -> None:
        """See `Alarm`."""
        self._deadline = self._waiting.deadline = trio.current_time() + delay

    def clear(self) -> None:
        """See `Alarm`; the task ends."""
        self._life.cancel()

    async def run(self) -> None:
        """The task: wait, fire, and again, until it is cleared."""
        try:
            with self._life:
                while True:
                    with trio.CancelScope(deadline=self._deadline) as self._waiting:
                        await trio.sleep_forever()
                    self._deadline = math.inf
                    self._fire()
        finally:
            self.ended.set()

"""The one timer of a server or a client."""

import asyncio
from collections.abc import Callable


class LoopAlarm:
    """A timer of the running loop; see `Alarm`."""

    def __init__(self, fire: Callable[[], None]) -> None:
        self._fire = fire
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None

    def set(self, delay: float) -> None:
        """See `Alarm`."""
        self.clear()
        self._handle = self._loop.call_later(delay, self._fire)

    def clear(self) -> None:
        """See `Alarm`."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

"""How a command hears that it is to end."""

import asyncio
import signal
from collections.abc import Callable
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


def on_end(told: Callable[[], object]) -> None:
    """Call `told` in the running loop on SIGINT and SIGTERM, instead of ending the process."""
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        try:
            loop.add_signal_handler(number, told)
        except NotImplementedError:  # where the loop knows no signals
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(told))

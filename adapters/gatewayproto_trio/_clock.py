"""The clock that machines are driven by: the computer's, or the one that a test has in its hand."""

import trio
from gatewayproto_adapter.clock import monotonic as system_monotonic
from trio.testing import MockClock


def monotonic() -> float:
    """Seconds that never go back, and count while the computer is suspended, where it can tell.

    The same clock as that of `gatewayproto_asyncio`, so that a machine which was saved under one
    adapter may be restored under the other. Where trio runs on a `MockClock`, it is that one, and
    all the time of servers and clients is virtual. Other clocks of trio's are for timers alone.
    """
    try:
        clock = trio.lowlevel.current_clock()
    except RuntimeError:  # trio does not run
        return system_monotonic()
    return clock.current_time() if isinstance(clock, MockClock) else system_monotonic()

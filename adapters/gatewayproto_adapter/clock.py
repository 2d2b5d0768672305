"""The clock that machines are driven by, and that one is restored on."""

import time

if hasattr(time, "CLOCK_BOOTTIME"):

    def monotonic() -> float:
        """Seconds that never go back, and count while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def monotonic() -> float:
        """Seconds that never go back; this platform has no clock that counts suspended time."""
        return time.monotonic()

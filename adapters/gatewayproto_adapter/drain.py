"""How much of the payload that was written to a transport has left its buffer. No I/O here."""

from collections import deque


class DrainLedger:
    """Turns the size of a transport's write buffer into payload bytes that the transport took.

    A transport knows wire bytes only: payload, frame headers, and WebSocket's own answers. The
    ledger keeps where in that stream each payload ends. A payload counts from its first byte on,
    not when its frame is whole, so a large frame on a slow link is seen to move.
    """

    def __init__(self) -> None:
        self._frames: deque[tuple[int, int]] = deque()  # (where it ends on the wire, payload size)
        self._queued_wire = 0
        self._queued: list[tuple[int, int]] = []  # (wire size, payload size), not written yet
        self._written = 0
        self._reported = 0  # payload bytes of the first frame that `taken` has told of
        self.owed = 0
        """Payload bytes that were queued and that `taken` has not told of."""

    def queue(self, *, wire: int, payload: int) -> None:
        """Note a frame of `wire` bytes, its `payload` at the end, among what is to be written."""
        self._queued.append((wire, payload))
        self._queued_wire += wire
        self.owed += payload

    def wrote(self, size: int) -> None:
        """Note that all that was queued went to the transport, in `size` bytes altogether.

        What is more than the frames that were queued counts as written before them.
        """
        end = self._written + size - self._queued_wire
        for wire, payload in self._queued:
            end += wire
            self._frames.append((end, payload))
        self._queued.clear()
        self._queued_wire = 0
        self._written += size

    def taken(self, buffered: int) -> int:
        """How many more payload bytes the transport took, if `buffered` wire bytes are left."""
        reached = self._written - buffered
        total = 0
        while self._frames:
            end, payload = self._frames[0]
            done = max(0, payload - max(0, end - reached))
            total += done - self._reported
            self._reported = done
            if reached < end:
                break
            self._frames.popleft()
            self._reported = 0
        self.owed -= total
        return total

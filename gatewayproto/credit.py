"""How many payload bytes a connection may have in its transport's buffer.

Spec: the architecture page, "Credit, not queues"; Errors (`liveness_timeout`).
"""

from attrs import define

from gatewayproto.errors import LocalProtocolError


@define
class Credit:
    """The payload bytes that a transport was given and has not yet taken.

    `window` bounds what delivery puts there, `answer_window` how far answers may go beyond. One
    frame larger than the window may go when nothing is outstanding; then `own`, how much was
    outstanding by the gateway's own doing, takes the place of the window, so that nobody is cut
    off for an answer behind a large snapshot. `pings` is how much of what is outstanding are our
    own pings, whose way into a dead link's buffer is no sign of life. `owed_since` is when the
    transport last took something, or was first owed something.
    """

    window: int
    answer_window: int
    outstanding: int = 0
    pings: int = 0
    owed_since: float = 0.0
    own: int = 0

    def room_for(self, size: int) -> bool:
        """Tell whether delivery may send a frame of `size` bytes."""
        return self.outstanding == 0 or self.outstanding + size <= self.window

    def answer_fits(self, size: int) -> bool:
        """Tell whether an answer of `size` bytes may go to a peer that has not read the rest."""
        return self.outstanding == 0 or (
            self.outstanding + size <= max(self.window, self.own) + self.answer_window
        )

    def charge(self, size: int, now: float) -> None:
        """Count a frame that was sent."""
        self._count(size, now)
        self.own = self.outstanding

    def charge_answer(self, size: int, now: float) -> None:
        """Count an answer that was sent."""
        first = self.outstanding == 0
        self._count(size, now)
        if first:
            self.own = size

    def charge_ping(self, size: int, now: float) -> None:
        """Count a ping of our own that was sent."""
        self.charge(size, now)
        self.pings += size

    def give_back(self, size: int, now: float) -> bool:
        """Count what the transport took; True if more than our own pings was among it.

        Raises `LocalProtocolError` for more than was outstanding, or nothing.
        """
        if not 1 <= size <= self.outstanding:
            raise LocalProtocolError(f"{self.outstanding} bytes are owed, {size} cannot be taken")
        progress = size > self.pings
        self.owed_since = now
        self.outstanding -= size
        self.own = min(self.own, self.outstanding)
        self.pings = max(0, self.pings - size)
        return progress

    def _count(self, size: int, now: float) -> None:
        if self.outstanding == 0:
            self.owed_since = now
        self.outstanding += size

"""The links of a world: transports that carry frames in order, until something happens to them.

A link has two directions. What the gateway sends is `owed` until the transport takes it (then it is
`Drained`), and `down`, in flight, until the client has it; what the client sends is `up`.

Spec: the verification page, "One world".
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from attrs import define, field, frozen


@frozen
class Close:
    """The end of a direction: a close frame with this code, or none (a FIN, a RST)."""

    code: int | None = None


class Wire(Protocol):
    """What carries a frame over a link: bytes, for instance, cut anywhere."""

    def carry(self, link: "Link", frame: bytes, *, up: bool) -> Iterable[Sequence[bytes]]:
        """For each piece in which the frame arrives, the frames that are whole with it."""
        ...


class Whole:
    """Every frame arrives in one piece."""

    def carry(self, link: "Link", frame: bytes, *, up: bool) -> Iterable[Sequence[bytes]]:  # noqa: ARG002
        """One piece, and in it the frame."""
        return ((frame,),)


@define(eq=False)
class Link:
    """One transport between a client and the gateway.

    - `client_open`, `gateway_open`: whether that side still holds it. A side that was never told
      of a cut holds a half-open link.
    - `dead`: nothing flows any more, in either direction.
    - `stalled`: nothing flows for the time being.
    """

    client: str
    transport: int
    connection: int | None = None
    up: deque[bytes | Close] = field(factory=deque)
    owed: deque[bytes | Close] = field(factory=deque)
    down: deque[bytes | Close] = field(factory=deque)
    client_open: bool = True
    gateway_open: bool = False
    dead: bool = False
    stalled: bool = False

    def copy(self) -> "Link":
        """The same link in another world."""
        return Link(
            self.client,
            self.transport,
            self.connection,
            self.up.copy(),
            self.owed.copy(),
            self.down.copy(),
            self.client_open,
            self.gateway_open,
            self.dead,
            self.stalled,
        )

    @property
    def pending(self) -> bool:
        """Whether it is asked for and not yet open."""
        return self.connection is None and self.client_open

    @property
    def flows(self) -> bool:
        """Whether bytes can move at all."""
        return self.connection is not None and not (self.dead or self.stalled)

    @property
    def can_go_up(self) -> bool:
        """Whether something can reach the gateway's end now, whether or not it still listens."""
        return self.flows and bool(self.up)

    @property
    def can_drain(self) -> bool:
        """Whether the transport can take something from the gateway now."""
        return self.flows and bool(self.owed)

    @property
    def can_go_down(self) -> bool:
        """Whether something can reach the client's end now, whether or not it still listens."""
        return self.flows and bool(self.down or self.owed)

    @property
    def over(self) -> bool:
        """Whether nothing can come of it any more."""
        if self.client_open or self.gateway_open:
            return False
        return self.dead or self.connection is None or not (self.down or self.owed)

    def die(self) -> None:
        """Lose what is in flight, and everything from now on."""
        self.dead = True
        self.up.clear()
        self.owed.clear()
        self.down.clear()

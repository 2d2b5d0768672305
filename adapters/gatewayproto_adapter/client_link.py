"""One connection of a client, but for its transport: bytes to messages, and messages to bytes."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Protocol

from gatewayproto_wsproto import (
    ClientConnection,
    Closed,
    ConnectionState,
    TextReceived,
    Upgraded,
    UpgradeRefused,
    WsEvent,
)

from gatewayproto.inputs import TransportClosed


class LinkOwner(Protocol):
    """What a connection tells its client; once it was closed or has ended, only that it is gone."""

    def alive(self, link: "ClientLink") -> None:
        """Bytes came in."""
        ...

    def upgraded(self, link: "ClientLink") -> None:
        """The WebSocket is open."""
        ...

    def received(self, link: "ClientLink", message: bytes) -> None:
        """A text message came in."""
        ...

    def ended(self, link: "ClientLink", why: TransportClosed) -> None:
        """Nothing more comes in; told once."""
        ...

    def gone(self, link: "ClientLink") -> None:
        """The transport is gone, after `ended` or without it."""
        ...


class ClientLink(ABC):
    """The WebSocket of one connection, and what the client is told of it."""

    def __init__(self, owner: LinkOwner, number: int, ws: ClientConnection) -> None:
        self.number = number
        self._owner = owner
        self._ws = ws
        self._told = False
        self._wanted = True

    @property
    def reading(self) -> bool:
        """Whether the owner wants what comes in."""
        return self._wanted

    # -- for the client -----------------------------------------------------------------------

    def send(self, message: bytes) -> None:
        """Send a text message."""
        self._ws.send_text(message)
        self._wake()

    def read(self, *, on: bool) -> None:
        """Read on, or leave what comes in to the network, which will hold the peer back."""
        self._wanted = on
        self._read_or_not()

    def close(self, code: int, reason: str) -> None:
        """Send what is owed, then close; one that is not open yet is given up."""
        self._told = True
        if self._ws.state is ConnectionState.HANDSHAKE:
            self.abort()
        else:
            self._read_or_not()
            # Our Close frame alone ends nothing: no event comes of it.
            self._ws.close(code, reason)
            self._wake()

    @abstractmethod
    def abort(self) -> None:
        """End at once; what was not sent is lost. Nothing more is told but that it is gone."""

    # -- for the transport --------------------------------------------------------------------

    @abstractmethod
    def _wake(self) -> None:
        """Have what is to be written written, once in this turn of the loop."""

    @abstractmethod
    def _is_stuck(self) -> bool:
        """Whether the transport has bytes left of an earlier write."""

    @abstractmethod
    def _read_or_not(self) -> None:
        """What `_may_read` says may have changed."""

    @abstractmethod
    def _finish(self, *, read_on: bool) -> None:
        """Write what is left and end the transport.

        With `read_on` the server may still be sending: closing before all of that is read and
        dropped would reset the connection, and the server might never see why.
        """

    @property
    def _may_read(self) -> bool:
        """Whether to read from the network.

        Nothing is read while the peer takes nothing: it might ask for ever more. At the end all
        is read: the peer's Close frame or its end lies behind it.
        """
        return self._told or (self._wanted and not self._is_stuck())

    def _receive(self, data: bytes) -> None:
        """Take bytes that came in."""
        if not self._told:
            self._owner.alive(self)
        self._take(self._ws.receive(data))
        self._wake()

    def _receive_eof(self) -> None:
        """Take the end of the peer's stream, or the loss of the transport."""
        self._take(self._ws.receive_eof())

    def _lose(self) -> None:
        """The transport is gone, or could not be opened."""
        self._tell(TransportClosed(connection=self.number))
        self._owner.gone(self)

    # -- events of the WebSocket --------------------------------------------------------------

    def _take(self, events: Iterable[WsEvent]) -> None:
        refused: UpgradeRefused | None = None
        for event in events:
            match event:
                case TextReceived(data=message):
                    if not self._told:
                        self._owner.received(self, message)
                case Upgraded():
                    if not self._told:
                        self._owner.upgraded(self)
                case UpgradeRefused():
                    refused = event
                case Closed():
                    self._end(event, refused)
                case _:  # what only a server's end is told
                    pass

    def _end(self, closed: Closed, refused: UpgradeRefused | None) -> None:
        """The WebSocket has ended; write what is left and end the transport."""
        self._tell(
            TransportClosed(
                connection=self.number,
                code=closed.received_code,
                reason=closed.received_reason,
                http_status=refused.status if refused else None,
                retry_after_seconds=refused.retry_after_seconds if refused else None,
            )
        )
        self._read_or_not()
        self._finish(read_on=not (closed.by_peer or closed.clean))

    def _tell(self, why: TransportClosed) -> None:
        if not self._told:
            self._told = True
            self._owner.ended(self, why)

"""One connection of a client: an asyncio protocol between a transport and the client machine."""

import asyncio
from collections.abc import Iterable
from typing import Protocol, cast

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
from gatewayproto_asyncio._buffers import keep_informed


class Owner(Protocol):
    """What a transport tells its client; once it was closed or has ended, only that it is gone."""

    def alive(self, transport: "ClientTransport") -> None:
        """Bytes came in."""
        ...

    def upgraded(self, transport: "ClientTransport") -> None:
        """The WebSocket is open."""
        ...

    def received(self, transport: "ClientTransport", message: bytes) -> None:
        """A text message came in."""
        ...

    def ended(self, transport: "ClientTransport", why: TransportClosed) -> None:
        """Nothing more comes in; told once."""
        ...

    def gone(self, transport: "ClientTransport") -> None:
        """The transport is gone, after `ended` or without it."""
        ...


class ClientTransport(asyncio.Protocol):
    """Bytes of one transport to messages, and messages to bytes, written once per loop turn."""

    def __init__(self, owner: Owner, number: int, ws: ClientConnection) -> None:
        self.number = number
        self.opening: asyncio.Task[None] | None = None
        """The task that opens it."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the transport is gone, or could not be opened."""
        self._owner = owner
        self._ws = ws
        self._transport: asyncio.Transport | None = None
        self._told = False
        self._paused = False
        self._reading = True
        self._wanted = True
        self._discarding = False
        self._flush_wanted = False

    @property
    def reading(self) -> bool:
        """Whether the owner wants what comes in."""
        return self._wanted

    # -- for the client -----------------------------------------------------------------------

    def send(self, message: bytes) -> None:
        """Send a text message."""
        self._ws.send_text(message)
        self._want_flush()

    def read(self, *, on: bool) -> None:
        """Read on, or leave what comes in to the network, which will hold the peer back."""
        self._wanted = on
        self._read_or_not()

    def _read_or_not(self) -> None:
        """Nothing is read either while the peer takes nothing: it might ask for ever more."""
        on = self._wanted and not self._paused
        if on == self._reading or self._transport is None or self._told:
            return
        self._reading = on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self, code: int, reason: str) -> None:
        """Send what is owed, then close."""
        self._told = True
        if self.opening is not None:
            self.opening.cancel()
        if self._transport is None:
            return
        self._read_to_the_end(self._transport)
        if self._ws.state is ConnectionState.HANDSHAKE:
            self._transport.abort()
        else:
            self._take(self._ws.close(code, reason))
            self._want_flush()

    def abort(self) -> None:
        """End at once; what was not sent is lost."""
        self._told = True
        if self._transport is not None:
            self._transport.abort()

    def opened(self) -> None:
        """The attempt to open it is over, with or without success."""
        self.opening = None
        if self._transport is None:
            self._tell(TransportClosed(connection=self.number))
            self._set_gone()

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        keep_informed(self._transport)
        if self._told:
            self._transport.abort()
        else:
            self._want_flush()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._discarding:
            return
        if not self._told:
            self._owner.alive(self)
        self._take(self._ws.receive(data))
        self._want_flush()

    def eof_received(self) -> None:
        """See asyncio; the transport closes itself afterwards."""
        self._take(self._ws.receive_eof())

    def pause_writing(self) -> None:
        """See asyncio."""
        self._paused = True
        self._read_or_not()

    def resume_writing(self) -> None:
        """See asyncio."""
        self._paused = False
        self._read_or_not()
        self._want_flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why is all the same
        """See asyncio."""
        self._take(self._ws.receive_eof())
        self._tell(TransportClosed(connection=self.number))
        self._set_gone()

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
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._read_to_the_end(transport)
        self._write(transport)
        if closed.by_peer or closed.clean or not transport.can_write_eof():
            transport.close()
        else:
            # The server may still be sending. Closing before all of that is read would reset the
            # connection, and the server might never see why.
            self._discarding = True
            transport.write_eof()

    def _read_to_the_end(self, transport: asyncio.Transport) -> None:
        """Let what is unread come in: the peer's Close frame or its end lies behind it."""
        if not self._reading:
            self._reading = True
            transport.resume_reading()

    def _tell(self, why: TransportClosed) -> None:
        if not self._told:
            self._told = True
            self._owner.ended(self, why)

    def _set_gone(self) -> None:
        self._discarding = True
        if not self.closed.done():
            self.closed.set_result(None)
            self._owner.gone(self)

    def _want_flush(self) -> None:
        if not self._flush_wanted and not self._paused and self._transport is not None:
            self._flush_wanted = True
            asyncio.get_running_loop().call_soon(self._flush, self._transport)

    def _flush(self, transport: asyncio.Transport) -> None:
        self._flush_wanted = False
        if not self._paused and not transport.is_closing():
            self._write(transport)

    def _write(self, transport: asyncio.Transport) -> None:
        data = self._ws.bytes_to_send()
        if data:
            transport.write(data)

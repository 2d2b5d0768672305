"""One connection of a server: an asyncio protocol between a transport and the gateway machine."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, cast

from gatewayproto_wsproto import (
    Closed,
    ConnectionState,
    ServerConnection,
    TextReceived,
    UpgradeRequested,
    WsEvent,
)

from gatewayproto.inputs import (
    Activity,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    FrameReceived,
    GatewayInput,
)
from gatewayproto_asyncio._buffers import keep_informed
from gatewayproto_asyncio._drain import DrainLedger

_FLUSH_AT: Final = 64 * 1024
"""Payload bytes of answers to what one read brought, above which they are written at once."""


class Refusal(Exception):  # noqa: N818 - an answer to the peer, no failure
    """The HTTP status and headers that answer an upgrade in place of it."""

    def __init__(self, status: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers


class Hub(Protocol):
    """What a connection needs of its server."""

    def give(self, input_: GatewayInput) -> None:
        """Give the machine an input and have its actions applied."""
        ...

    def arrived(self, connection: "Connection") -> bool:
        """Take note of a new transport; False if it is to be dropped without a word."""
        ...

    def judge(self, path: str, headers: Mapping[str, str]) -> None:
        """Raise `Refusal` unless a connection may be upgraded."""
        ...

    def admitted(self, connection: "Connection") -> int:
        """The connection is upgraded; give it its number."""
        ...

    def touched(self, connection: "Connection") -> None:
        """See to it that `flush` is called once in this turn of the loop."""
        ...

    def ending(self, connection: "Connection") -> None:
        """The machine knows the connection no more; in `close_timeout` it is gone or aborted."""
        ...

    def gone(self, connection: "Connection") -> None:
        """The transport is gone."""
        ...


class Connection(asyncio.Protocol):
    """Bytes of one transport to inputs of the machine, and the machine's frames to bytes.

    While the transport has bytes left of an earlier write, nothing more is given to it. What is
    held back meanwhile is bounded by the machine's credit and by the WebSocket layer, which owes
    no more than one pong.
    """

    def __init__(self, hub: Hub, max_payload: int) -> None:
        self._hub = hub
        self._ws = ServerConnection(max_message=max_payload)
        self._ledger = DrainLedger()
        self._transport: asyncio.Transport  # from connection_made on, before anything else
        self._paused = False
        self._discarding = False
        self._known = False  # to the machine
        self.number = 0
        """What the machine knows the connection by, above 0 once it is upgraded."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the transport is gone."""

    @property
    def owing(self) -> bool:
        """Whether the machine is still to hear of payload that the transport takes."""
        return self._known and self._ledger.owed > 0

    # -- for the server -----------------------------------------------------------------------

    def send(self, framed: Iterable[bytes], *, wire: int, payload: int) -> None:
        """Send text messages, framed already: `wire` bytes with `payload` bytes in them."""
        for each in framed:
            if not self._ws.send_framed(each):
                return  # closing: the machine hears of the end, not of what was not sent
        self._ledger.queue(wire=wire, payload=payload)
        self._hub.touched(self)

    def close(self, code: int, reason: str) -> None:
        """Send what is owed, then close. The machine has forgotten the connection."""
        self._known = False
        self._hub.ending(self)
        if self._ws.state is ConnectionState.HANDSHAKE:
            self._transport.abort()
        else:
            self._take(self._ws.close(code, reason))
            self._hub.touched(self)

    def leave(self) -> None:
        """Tell the machine, if it knows the connection, that it has ended."""
        if self._known:
            self._known = False
            self._hub.give(ConnectionClosed(self.number))

    def abort(self) -> None:
        """End at once; what was not sent is lost."""
        self._transport.abort()

    def flush(self) -> None:
        """Write what is to be written, unless the transport has enough."""
        if self._paused or self._transport.is_closing():
            return
        self._write()
        self.report_drained()

    def report_drained(self) -> None:
        """Tell the machine what the transport took since the last time."""
        if not self.owing:
            return
        taken = self._ledger.taken(self._transport.get_write_buffer_size())
        if taken > 0:
            self._hub.give(Drained(self.number, taken))

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        keep_informed(self._transport)
        if not self._hub.arrived(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._discarding:
            return
        if self._known:
            self._hub.give(Activity(self.number))
        self._take(self._ws.receive(data))
        self._hub.touched(self)

    def eof_received(self) -> None:
        """See asyncio; the transport closes itself afterwards."""
        self._take(self._ws.receive_eof())
        self._hub.ending(self)

    def pause_writing(self) -> None:
        """See asyncio."""
        self._paused = True

    def resume_writing(self) -> None:
        """See asyncio."""
        self._paused = False
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why is all the same
        """See asyncio."""
        self._discarding = True
        self.leave()
        self._hub.gone(self)
        if not self.closed.done():
            self.closed.set_result(None)

    # -- events of the WebSocket --------------------------------------------------------------

    def _take(self, events: Iterable[WsEvent]) -> None:
        for event in events:
            match event:
                case TextReceived(data=data):
                    if self._known:
                        self._hub.give(FrameReceived(self.number, data))
                    if self._ledger.owed > _FLUSH_AT:
                        # A peer that asks much at once is no peer that does not read.
                        self.flush()
                case UpgradeRequested():
                    self._take(self._answer(event))
                case Closed():
                    self._end(event)
                case _:  # what only a client's end is told
                    pass

    def _answer(self, request: UpgradeRequested) -> tuple[WsEvent, ...]:
        headers: dict[str, str] = {}
        for name, value in request.headers:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        try:
            self._hub.judge(request.path, headers)
        except Refusal as refusal:
            return self._ws.reject(refusal.status, headers=refusal.headers)
        early = self._ws.accept()
        self.number = self._hub.admitted(self)
        self._known = True
        self._hub.give(
            ConnectionOpened(
                connection=self.number,
                path=request.path,
                query=request.query_params,
                headers=headers,
                peer=_address(self._transport.get_extra_info("peername")),
                timestamp=time.time(),
            )
        )
        return early

    def _end(self, closed: Closed) -> None:
        """The WebSocket has ended; write what is left and end the transport."""
        self.leave()
        self._hub.ending(self)
        transport = self._transport
        if transport.is_closing():
            return
        self._write()
        if closed.by_peer or closed.clean or not transport.can_write_eof():
            transport.close()
        else:
            # The peer may still be sending. Closing before all of that is read would reset the
            # connection, and the peer might never see our last words.
            self._discarding = True
            transport.write_eof()

    def _write(self) -> None:
        data = self._ws.bytes_to_send()
        if data:
            self._ledger.wrote(len(data))
            self._transport.write(data)


def _address(peername: object) -> str:
    """An address as `host:port`, for people."""
    match peername:
        case (str() as host, int() as port, *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case _:
            return ""

"""One connection of a server, but for its transport: bytes to inputs, and frames to bytes."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from gatewayproto_wsproto import (
    Closed,
    ConnectionState,
    ServerConnection,
    TextReceived,
    UpgradeRequested,
    WsEvent,
)
from gatewayproto_wsproto.handshake import HeaderPairs

from gatewayproto.inputs import (
    Activity,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    FrameReceived,
    GatewayInput,
)
from gatewayproto_adapter.drain import DrainLedger
from gatewayproto_adapter.proxies import UNIX, network_address

_WRITE_AT: Final = 64 * 1024
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

    def arrived(self, link: "ServerLink") -> bool:
        """Take note of a new transport; False if it is to be dropped without a word."""
        ...

    def judge(self, path: str, headers: dict[str, str]) -> None:
        """Raise `Refusal` unless a connection may be upgraded."""
        ...

    def client_of(self, peer: str, headers: HeaderPairs) -> str:
        """Whose connection it is, as far as proxies that are trusted tell."""
        ...

    def admitted(self, link: "ServerLink") -> int:
        """The connection is upgraded; give it its number."""
        ...

    def burdened(self, link: "ServerLink", frames: int) -> None:
        """So many frames of WebSocket's own came, of which the machine knows nothing."""
        ...

    def owing(self, link: "ServerLink") -> None:
        """Whether the connection is `owing` may have changed."""
        ...

    def ending(self, link: "ServerLink") -> None:
        """The machine knows the connection no more; in `close_timeout` it is gone or aborted."""
        ...

    def gone(self, link: "ServerLink") -> None:
        """The transport is gone."""
        ...


class ServerLink(ABC):
    """The WebSocket of one connection, and what the machine is told of it.

    While the transport has bytes left of an earlier write, nothing more is to be given to it. What
    is held back meanwhile is bounded by the machine's credit and by the WebSocket layer, which owes
    no more than one pong.
    """

    def __init__(self, hub: Hub, *, max_payload: int) -> None:
        self._hub = hub
        self._ws = ServerConnection(max_message=max_payload)
        self._ledger = DrainLedger()
        self._known = False  # to the machine
        self.peer = ""
        """The transport's other end: `host:port`, `unix`, or empty where it is not known."""
        self.number = 0
        """What the machine knows the connection by, above 0 once it is upgraded."""

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
        self._wake()

    def close(self, code: int, reason: str) -> None:
        """Send what is owed, then close. The machine has forgotten the connection."""
        self._known = False
        self._hub.ending(self)
        if self._ws.state is ConnectionState.HANDSHAKE:
            self.abort()
        else:
            # Our Close frame alone ends nothing: no event comes of it.
            self._ws.close(code, reason)
            self._wake()

    def leave(self) -> None:
        """Tell the machine, if it knows the connection, that it has ended."""
        if self._known:
            self._known = False
            self._hub.give(ConnectionClosed(self.number))

    def report_drained(self) -> None:
        """Tell the machine what the transport took since the last time."""
        if self.owing:
            taken = self._ledger.taken(self._unsent())
            if taken > 0:
                self._hub.give(Drained(self.number, taken))
        self._hub.owing(self)

    @abstractmethod
    def abort(self) -> None:
        """End at once; what was not sent is lost."""

    # -- for the transport --------------------------------------------------------------------

    @abstractmethod
    def _wake(self) -> None:
        """Have what is to be written written, once in this turn of the loop."""

    @abstractmethod
    def _unsent(self) -> int:
        """How many bytes of those that `_next_bytes` gave the transport has not taken."""

    @abstractmethod
    def _finish(self, *, read_on: bool) -> None:
        """Write what is left and end the transport.

        With `read_on` the peer may still be sending: closing before all of that is read and dropped
        would reset the connection, and the peer might never see our last words.
        """

    def _receive(self, data: bytes) -> Iterator[None]:
        """Take bytes that came in; yields where it is good to write before going on."""
        if self._known:
            self._hub.give(Activity(self.number))
        yield from self._take(self._ws.receive(data))
        overhead = self._ws.take_overhead()
        if overhead and self._known:
            self._hub.burdened(self, overhead)
        self._wake()

    def _receive_eof(self) -> None:
        """Take the end of the peer's stream."""
        for _ in self._take(self._ws.receive_eof()):
            pass
        self._hub.ending(self)

    def _lose(self) -> None:
        """The transport is gone."""
        self.leave()
        self._hub.gone(self)

    def _next_bytes(self) -> bytes:
        """All that is to be written now."""
        data = self._ws.bytes_to_send()
        if data:
            self._ledger.wrote(len(data))
        return data

    # -- events of the WebSocket --------------------------------------------------------------

    def _take(self, events: Iterable[WsEvent]) -> Iterator[None]:
        for event in events:
            match event:
                case TextReceived(data=data):
                    if self._known:
                        self._hub.give(FrameReceived(self.number, data))
                    if self._ledger.owed > _WRITE_AT:
                        # A peer that asks much at once is no peer that does not read.
                        yield
                case UpgradeRequested():
                    yield from self._take(self._answer(event))
                case Closed():
                    self.leave()
                    self._hub.ending(self)
                    self._finish(read_on=not (event.by_peer or event.clean))
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
        client = self._hub.client_of(self.peer, request.headers)
        self._hub.give(
            ConnectionOpened(
                connection=self.number,
                path=request.path,
                query=request.query_params,
                headers=headers,
                peer=client,
                address=network_address(client),
                timestamp=time.time(),
            )
        )
        return early


def peer_name(peername: object, *, unix: bool) -> str:
    """A socket's peer as `host:port`, for people and for proxies that are trusted."""
    if unix:
        return UNIX
    match peername:
        case (str() as host, int() as port, *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case _:
            return ""

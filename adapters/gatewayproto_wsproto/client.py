"""The client's end of a connection."""

from collections.abc import Iterable, Sequence

import h11
from wsproto.connection import ConnectionType
from wsproto.events import TextMessage
from wsproto.utilities import generate_nonce

from gatewayproto_wsproto.connection import ConnectionState, WebSocketConnection
from gatewayproto_wsproto.events import Closed
from gatewayproto_wsproto.framing import check_utf8
from gatewayproto_wsproto.handshake import (
    DEFAULT_MAX_HANDSHAKE,
    WEBSOCKET_VERSION,
    BadHead,
    HeadReader,
    check_subprotocols,
    encode_headers,
)
from gatewayproto_wsproto.response import check_switch, read_refusal, starts_response
from gatewayproto_wsproto.url import WsUrl


class ClientConnection(WebSocketConnection):
    """The client's end: its first bytes to send ask for the upgrade; then messages flow.

    `headers` go into the request (`Authorization`, `Origin`, …). `max_message` bounds a received
    message, and `max_handshake` the head of the answer, interim answers included; both in bytes.
    The request's key and the masks of frames come from the operating system's random source.

    An answer that is no upgrade gives `UpgradeRefused`, its body unread, redirects not followed;
    one that is not even HTTP only `Closed`.

    Raises:
        ValueError: The URL, a header or a subprotocol is malformed, a header is the handshake's
            own, or a limit is not positive. The message repeats no value.
    """

    def __init__(
        self,
        url: str | WsUrl,
        *,
        headers: Iterable[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        max_message: int,
        max_handshake: int = DEFAULT_MAX_HANDSHAKE,
    ) -> None:
        super().__init__(ConnectionType.CLIENT, max_message, max_handshake)
        self._url = WsUrl.parse(url) if isinstance(url, str) else url
        self._key = generate_nonce()
        self._offered = tuple(subprotocols)
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=max_handshake)
        self._reader = HeadReader(self._http, max_handshake, starts_response)
        self._out.append(self._request(headers))

    @property
    def url(self) -> WsUrl:
        """Whom to connect to."""
        return self._url

    def _request(self, headers: Iterable[tuple[str, str]]) -> bytes:
        check_subprotocols(self._offered)
        fields: list[tuple[bytes, bytes]] = [
            (b"Host", self._url.host_header.encode("ascii")),
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Key", self._key),
            (b"Sec-WebSocket-Version", WEBSOCKET_VERSION.encode("ascii")),
            *encode_headers(headers),
        ]
        if self._offered:
            fields.append((b"Sec-WebSocket-Protocol", ", ".join(self._offered).encode("ascii")))
        try:
            request = h11.Request(
                method=b"GET", target=self._url.target.encode("ascii"), headers=fields
            )
        except h11.LocalProtocolError:
            raise ValueError("the URL or a header is malformed") from None
        return self._http.send(request) + self._http.send(h11.EndOfMessage())

    def _frame(self, message: bytes) -> bytes:
        check_utf8(message)
        return self._frames.send(TextMessage(message.decode()))

    def _receive_handshake(self, data: bytes) -> None:
        self._reader.feed(data)
        while self._state is ConnectionState.HANDSHAKE:
            match self._reader.next_head():
                case None:
                    return
                case h11.InformationalResponse(status_code=101) as response:
                    self._switch(response)
                case h11.Response() as response:
                    self._events.append(read_refusal(response))
                    self._finish(Closed(reason=f"HTTP {response.status_code}", by_peer=True))
                case BadHead():
                    self._finish(Closed(reason="the answer is no HTTP"))
                case _:  # an interim answer: another one follows
                    pass

    def _switch(self, response: h11.InformationalResponse) -> None:
        verdict = check_switch(response, self._key, self._offered)
        if isinstance(verdict, str):
            self._finish(Closed(reason=verdict))
            return
        self._state = ConnectionState.OPEN
        self._events.append(verdict)
        self._receive_frames(self._reader.rest())

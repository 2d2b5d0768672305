"""The server's end of a connection."""

from collections.abc import Iterable, Sequence
from typing import Final

import h11
from wsproto.connection import ConnectionType
from wsproto.utilities import generate_accept_token

from gatewayproto_wsproto.connection import ConnectionState, WebSocketConnection
from gatewayproto_wsproto.errors import WsUsageError
from gatewayproto_wsproto.events import Closed, WsEvent
from gatewayproto_wsproto.framing import frame_text
from gatewayproto_wsproto.handshake import (
    DEFAULT_MAX_HANDSHAKE,
    BadHead,
    HeadReader,
    encode_headers,
)
from gatewayproto_wsproto.request import (
    Refusal,
    UpgradeRequest,
    bad_head,
    check_request,
    starts_request,
    write_refusal,
)

_REJECTIONS: Final = range(400, 600)


class ServerConnection(WebSocketConnection):
    """The server's end: an upgrade is asked for, and accepted or rejected; then messages flow.

    `max_message` bounds a received message, and `max_handshake` the head of the request and, apart
    from that, what a client may send before it has its answer; both in bytes, `ValueError` where
    not positive.

    A request that is none for a WebSocket is answered here, and closed: 400, 405, 414, 426, 431,
    or 501 for an unknown transfer encoding. Extensions are never agreed to.
    """

    def __init__(self, *, max_message: int, max_handshake: int = DEFAULT_MAX_HANDSHAKE) -> None:
        super().__init__(ConnectionType.SERVER, max_message, max_handshake)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=max_handshake)
        self._reader = HeadReader(self._http, max_handshake, starts_request)
        self._max_early = max_handshake
        self._early = bytearray()
        self._request: UpgradeRequest | None = None
        self._answered = False

    def accept(
        self, *, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> tuple[WsEvent, ...]:
        """Answer `UpgradeRequested` with the upgrade; the connection is open.

        Returns what the client sent behind its request without waiting, mostly nothing. Changes
        nothing where the client is gone already.

        Raises:
            WsUsageError: No upgrade is asked for, or it was answered; the subprotocol was not
                offered; a header is malformed or the handshake's own.
        """
        request = self._unanswered()
        if subprotocol is not None and subprotocol not in request.event.subprotocols:
            raise WsUsageError("the client did not offer this subprotocol")
        response_headers: list[tuple[bytes, bytes]] = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", generate_accept_token(request.key)),
            *_encode(headers),
        ]
        if subprotocol is not None:
            response_headers.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
        try:
            response = h11.InformationalResponse(
                status_code=101, reason=b"Switching Protocols", headers=response_headers
            )
        except h11.LocalProtocolError:
            raise WsUsageError("a malformed header") from None
        self._answered = True
        if self._state is ConnectionState.HANDSHAKE:
            self._out.append(self._http.send(response))
            self._state = ConnectionState.OPEN
            early, self._early = bytes(self._early), bytearray()
            self._receive_frames(early)
        return self._take_events()

    def reject(
        self, status: int, *, reason_text: str = "", headers: Sequence[tuple[str, str]] = ()
    ) -> tuple[WsEvent, ...]:
        """Answer `UpgradeRequested` with an HTTP status from 400 to 599, and end with `Closed`.

        `reason_text` is the body, plain text. Changes nothing where the client is gone already.

        Raises:
            WsUsageError: No upgrade is asked for, or it was answered; the status is none of these;
                a header is malformed or the handshake's own.
        """
        self._unanswered()
        if status not in _REJECTIONS:
            raise WsUsageError("a rejection has a status from 400 to 599")
        extra = _encode(headers)
        if self._state is ConnectionState.HANDSHAKE:
            try:
                self._refuse(Refusal(status, reason_text), extra)
            except h11.LocalProtocolError:
                raise WsUsageError("a malformed header") from None
        self._answered = True
        return self._take_events()

    def send_framed(self, framed: bytes) -> bool:
        """Send bytes that `frame_text` made, shared and not copied; for the rest as `send_text`.

        Raises:
            WsUsageError: The handshake is not done.
        """
        if not self._may_send():
            return False
        self._out.append(framed)
        return True

    def _frame(self, message: bytes) -> bytes:
        return frame_text(message)

    def _receive_handshake(self, data: bytes) -> None:
        if self._request is not None:
            # RFC 6455 lets a client send nothing here. What came with the head is forgiven, so
            # that it makes no difference where the bytes were cut.
            if len(self._early) + len(data) > self._max_early:
                self._refuse(Refusal(400, "messages before the answer"))
            else:
                self._early += data
            return
        self._reader.feed(data)
        head = self._reader.next_head()
        if isinstance(head, h11.Request):
            self._judge(head)
        elif isinstance(head, BadHead):
            self._refuse(bad_head(head.status))

    def _judge(self, request: h11.Request) -> None:
        verdict = check_request(request)
        if isinstance(verdict, Refusal):
            self._refuse(verdict)
            return
        self._request = verdict
        self._early += self._reader.rest()
        self._events.append(verdict.event)

    def _refuse(self, refusal: Refusal, extra: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._out.append(write_refusal(self._http, refusal, extra))
        self._early = bytearray()
        self._finish(Closed(reason=f"HTTP {refusal.status}"))

    def _unanswered(self) -> UpgradeRequest:
        if self._request is None or self._answered:
            raise WsUsageError("no upgrade is waiting for an answer")
        return self._request


def _encode(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    try:
        return encode_headers(headers)
    except ValueError as error:
        raise WsUsageError(str(error)) from None

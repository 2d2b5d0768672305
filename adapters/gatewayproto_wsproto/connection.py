"""What both roles share: the open connection, its closing, and the bytes on their way out."""

from abc import ABC, abstractmethod
from enum import Enum
from typing import Final

from wsproto.connection import Connection, ConnectionType
from wsproto.connection import ConnectionState as FrameState
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

from gatewayproto_wsproto.errors import WsUsageError
from gatewayproto_wsproto.events import Closed, TextReceived, WsEvent
from gatewayproto_wsproto.framing import check_close_code, fit_reason
from gatewayproto_wsproto.limits import FrameGuard

_BAD_GATEWAY: Final = 1014
# Our words, not wsproto's: those name positions, which depend on how the bytes were cut.
_FAULTS: Final = {
    CloseReason.PROTOCOL_ERROR: "a frame that WebSocket forbids",
    CloseReason.UNSUPPORTED_DATA: "text messages only",
    CloseReason.INVALID_FRAME_PAYLOAD_DATA: "text that is no UTF-8",
    CloseReason.MESSAGE_TOO_BIG: "message over the size limit",
}


class ConnectionState(Enum):
    """Where a connection stands."""

    #: The HTTP upgrade is not done.
    HANDSHAKE = "handshake"
    #: Messages go both ways.
    OPEN = "open"
    #: Our Close frame is on its way; the peer's is awaited.
    CLOSING = "closing"
    #: Nothing is read or sent any more, but for what `bytes_to_send` still holds.
    CLOSED = "closed"


class WebSocketConnection(ABC):
    """One end of one WebSocket connection; `ServerConnection` and `ClientConnection` are the roles.

    Every call that can cause events returns them. None raises for anything that a peer does;
    `WsUsageError` is for the caller's own mistakes, and leaves everything as it was.
    """

    def __init__(self, role: ConnectionType, max_message: int, max_handshake: int) -> None:
        if max_message < 1 or max_handshake < 1:
            raise ValueError("limits must be positive")
        self._state = ConnectionState.HANDSHAKE
        self._guard = FrameGuard(max_message)
        self._frames = Connection(role, [self._guard])
        self._events: list[WsEvent] = []
        self._message = bytearray()
        self._out: list[bytes] = []
        self._pong: Pong | None = None
        self._sent_code: int | None = None
        self._sent_reason = ""

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands, all events that were returned included."""
        return self._state

    def receive(self, data: bytes) -> tuple[WsEvent, ...]:
        """Take bytes as they were read, cut anywhere; `b""` is no bytes and not the end.

        Memory stays within `max_message` for messages, `max_handshake` for the HTTP head, and what
        one call gives. After `Closed`, bytes are ignored.
        """
        if data and self._state is ConnectionState.HANDSHAKE:
            self._receive_handshake(data)
        elif data and self._state is not ConnectionState.CLOSED:
            self._receive_frames(data)
        return self._take_events()

    def receive_eof(self) -> tuple[WsEvent, ...]:
        """Take the end of the peer's stream, or the loss of the transport."""
        if self._state is ConnectionState.CLOSING:
            self._finish(Closed(code=self._sent_code, reason=self._sent_reason))
        elif self._state is not ConnectionState.CLOSED:
            self._finish(Closed(by_peer=True))
        return self._take_events()

    def take_overhead(self) -> int:
        """How many frames came since the last call that no event tells of.

        Those are control frames, and fragments but for the last of a message. They hold no memory,
        but each takes its time, so a driver may bound how many there are.
        """
        overhead, self._guard.overhead = self._guard.overhead, 0
        return overhead

    def send_text(self, message: bytes) -> bool:
        """Send one text message; False, and nothing sent, once the connection is closing or closed.

        Raises:
            WsUsageError: The message is no UTF-8, or the handshake is not done.
        """
        if not self._may_send():
            return False
        self._out.append(self._frame(message))
        return True

    def close(self, code: int = 1000, reason: str = "") -> tuple[WsEvent, ...]:
        """Close: with a Close frame when open, without a word before; later calls change nothing.

        The reason is cut to 123 bytes of UTF-8 between two characters. When open, `Closed` comes
        with the peer's Close frame, or the end of the stream; messages that arrive until then are
        dropped. How long to wait for it is the driver's to say.

        Raises:
            WsUsageError: The code may not be written in a Close frame.
        """
        check_close_code(code)
        if self._state is ConnectionState.HANDSHAKE:
            self._finish(Closed())
        elif self._state is ConnectionState.OPEN:
            self._send_close(code, fit_reason(reason))
            self._state = ConnectionState.CLOSING
        return self._take_events()

    def bytes_to_send(self) -> bytes:
        """Return, and forget, all bytes that are to be written; `b""` if there are none.

        Pings are answered here, and since the last call only the newest: a peer that pings faster
        than the driver writes costs one pong.
        """
        self._settle_pong()
        data = b"".join(self._out)
        self._out.clear()
        return data

    @abstractmethod
    def _receive_handshake(self, data: bytes) -> None:
        """Take bytes, at least one, before the connection is open."""

    @abstractmethod
    def _frame(self, message: bytes) -> bytes:
        """Return a text message as one frame of this role."""

    def _take_events(self) -> tuple[WsEvent, ...]:
        events = tuple(self._events)
        self._events.clear()
        return events

    def _may_send(self) -> bool:
        if self._state is ConnectionState.HANDSHAKE:
            raise WsUsageError("nothing can be sent before the handshake is done")
        return self._state is ConnectionState.OPEN

    def _finish(self, closed: Closed) -> None:
        self._state = ConnectionState.CLOSED
        self._message = bytearray()
        self._pong = None
        self._events.append(closed)

    def _receive_frames(self, data: bytes) -> None:
        self._frames.receive_data(data)
        for event in self._frames.events():
            self._handle(event)
            if self._state is ConnectionState.CLOSED:
                return
        # A header alone is enough to refuse its frame.
        if self._guard.fault is not None:
            self._fail(self._guard.fault)

    def _handle(self, event: Event) -> None:
        match event:
            case TextMessage(data=text, message_finished=finished):
                if self._state is ConnectionState.OPEN:
                    self._gather(text.encode(), finished=finished)
            case Ping():
                if self._state is ConnectionState.OPEN:
                    self._pong = event.response()
            case CloseConnection(code=code, reason=reason):
                # wsproto reports its own refusal of a frame as the peer's Close. Its state differs.
                if self._frames.state in (FrameState.OPEN, FrameState.LOCAL_CLOSING):
                    self._fail(CloseReason(code))
                else:
                    self._handle_close(code, reason or "")
            case _:  # a pong: that something arrived is all it tells, and the driver knows that
                pass

    def _gather(self, piece: bytes, *, finished: bool) -> None:
        if not finished:
            self._message += piece
        elif self._message:
            self._message += piece
            self._events.append(TextReceived(bytes(self._message)))
            self._message.clear()
        else:
            self._events.append(TextReceived(piece))

    def _handle_close(self, code: int, reason: str) -> None:
        if self._guard.bad_gateway:
            code = _BAD_GATEWAY
        by_peer = self._sent_code is None
        if by_peer:
            self._out.append(self._frames.send(CloseConnection(code)))
        self._finish(
            Closed(
                code=int(code) if by_peer else self._sent_code,
                reason=reason if by_peer else self._sent_reason,
                clean=True,
                by_peer=by_peer,
                received_code=int(code),
                received_reason=reason,
            )
        )

    def _fail(self, fault: CloseReason) -> None:
        """End it for what the peer sent: our Close frame goes out, the peer's is not waited for."""
        if self._sent_code is None:
            self._send_close(int(fault), _FAULTS[fault])
        self._finish(Closed(code=self._sent_code, reason=self._sent_reason))

    def _send_close(self, code: int, reason: str) -> None:
        self._settle_pong()
        self._out.append(self._frames.send(CloseConnection(code, reason)))
        self._sent_code = code
        self._sent_reason = reason

    def _settle_pong(self) -> None:
        """Put the pong that is owed among the bytes to send, while one may still be sent."""
        pong, self._pong = self._pong, None
        if pong is not None:
            self._out.append(self._frames.send(pong))

"""P9 at the gateway: what it holds and sends stays within its limits.

Spec: Delivery; Lagging; The handshake; Sessions.
"""

from collections import Counter, deque
from typing import Final

from gatewayproto.actions import (
    CloseConnection,
    GatewayEvent,
    SessionOpened,
    SubscriberLagged,
)
from gatewayproto.inputs import FrameReceived, Reject, TimerExpired
from gatewayproto.testing.monitors.base import EPSILON
from gatewayproto.testing.monitors.book import Book, Connection
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.wire import (
    DELIVERIES,
    EVENTS,
    PUSHES,
    REJECTIONS,
    WELCOMES,
    Frame,
)
from gatewayproto.testing.steps import Restarted, Step

_SLOW_CONSUMER: Final = 4002
_ANSWER_ROOM: Final = 512
"""Bytes that an answer takes at most, beside what it answers."""


class Bounds(GatewayMonitor):
    """P9, at the gateway: bytes in transports, frames, replays, sessions, and who is too slow."""

    prop = "P9"
    about = "buffers, frames, replays and sessions are within their limits"
    needs = frozenset(
        {
            "P9 window full",
            "P9 frame larger than the window",
            "P9 slow consumer",
            "P9 stalled",
            "P9 too many lags",
        }
    )

    def __init__(self, witnessed: Counter[str], book: Book) -> None:
        super().__init__(witnessed, book)
        self._welcomed: set[int] = set()
        self._replays: dict[int, int] = {}
        self._lags: dict[int, deque[float]] = {}
        self._lagged: set[int] = set()

    def begin(self, step: Step) -> None:
        """A new turn."""
        self._welcomed.clear()
        self._lagged.clear()
        match step.input:
            case FrameReceived(connection=number):
                self._replays.pop(number, None)
            case Restarted():
                self._lags.clear()
                self._replays.clear()
            case _:
                pass

    # -- bytes --------------------------------------------------------------------------------

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """Judge what one frame adds to what the transport is owed."""
        kind, size, owed = frame["type"], len(data), connection.outstanding
        if kind in REJECTIONS and (connection.stage != "live" or isinstance(step.input, Reject)):
            return
        if size > connection.limit:
            self.fail(f"{connection} takes {connection.limit} bytes; its `{kind}` has {size}")
        if kind in WELCOMES:
            self._welcomed.add(connection.number)
            self._replays.pop(connection.number, None)
        elif kind in DELIVERIES or kind in PUSHES:
            self._delivery(connection, kind, size, owed)
            if kind in EVENTS:
                self._replay(connection, frame)
            return
        elif kind == "ping":
            if owed:
                self.fail(f"{connection} owes its transport {owed} bytes and is pinged")
            return
        window = max(self.config.send_window, connection.own)
        if owed and owed + size > window + self.config.answer_window:
            self.fail(
                f"{connection}: `{kind}` of {size} bytes beside {owed}, over {window} and"
                f" {self.config.answer_window}"
            )

    def _delivery(self, connection: Connection, kind: str, size: int, owed: int) -> None:
        window = self.config.send_window
        if not owed and size > window:
            self.saw("frame larger than the window")
        if not owed or owed + size <= window:
            return
        # A snapshot that a welcome announces leaves with it, whatever room there is.
        if kind == "snapshot" and connection.number in self._welcomed:
            self._welcomed.discard(connection.number)
            return
        self.fail(f"{connection}: `{kind}` of {size} bytes beside {owed}, over {window}")

    def _replay(self, connection: Connection, frame: Frame) -> None:
        """What is sent again after one request is no more than a journal holds."""
        if frame["type"] != "replay" or connection.version == 1:
            return
        count = self._replays.get(connection.number, 0) + 1
        self._replays[connection.number] = count
        if count > self.config.retain + self.config.retain_transient:
            self.fail(f"{connection} is sent {count} events again: more than a journal holds")

    # -- who is too slow ----------------------------------------------------------------------

    def told(self, step: Step, event: GatewayEvent) -> None:
        """A follower lagged, or a session began."""
        match event:
            case SubscriberLagged(connection=number):
                lags = self._lags.setdefault(number, deque())
                while lags and lags[0] + self.config.lag_period <= step.now:
                    lags.popleft()
                lags.append(step.now)
                self._lagged.add(number)
                connection = self.book.connections.get(number)
                if connection is not None and connection.version == 1:
                    self.saw("version 1 lagged")
            case SessionOpened():
                if len(self.book.sessions) >= self.config.max_sessions:
                    self.fail(f"a session beyond the {self.config.max_sessions} that may be")
            case _:
                pass

    def closed(self, step: Step, connection: Connection, close: CloseConnection) -> None:
        """Who is closed as too slow was too slow."""
        lags = self._lags.pop(connection.number, deque())
        self._replays.pop(connection.number, None)
        if close.code != _SLOW_CONSUMER:
            return
        self.saw("slow consumer")
        owed, config = connection.outstanding, self.config
        if isinstance(step.input, TimerExpired):
            if not owed or step.now < connection.owed_since + config.stall_timeout - EPSILON:
                self.fail(
                    f"{connection} is closed as too slow: {owed} bytes owed since"
                    f" {connection.owed_since}"
                )
            self.saw("stalled")
            return
        if connection.number in self._lagged:
            if connection.version > 1 and len(lags) <= config.max_lags:
                self.fail(f"{connection} is closed as too slow: it lagged {len(lags)} times")
            self.saw("too many lags")
            return
        answer = connection.limit if connection.stage != "live" else _ANSWER_ROOM
        if isinstance(step.input, FrameReceived):
            answer += len(step.input.data)
        if not owed or owed + answer <= config.send_window + config.answer_window:
            self.fail(f"{connection} is closed as too slow: {owed} bytes owed")
        self.saw("answers unread")

    def end(self, step: Step) -> None:
        """Nobody who lagged too often, or takes nothing, stays."""
        if len(self.book.connections) > self.config.max_connections:
            self.fail(f"{len(self.book.connections)} connections")
        for number in self._lagged:
            if number in self.book.connections and len(self._lags[number]) > self.config.max_lags:
                self.fail(f"connection {number} lagged {len(self._lags[number])} times and stays")
        for connection in self.book.connections.values():
            if connection.outstanding and connection.own >= self.config.send_window:
                self.saw("window full")
            if isinstance(step.input, TimerExpired):
                self._check_stall(step, connection)

    def _check_stall(self, step: Step, connection: Connection) -> None:
        late = connection.owed_since + self.config.stall_timeout + EPSILON
        if connection.stage == "live" and connection.outstanding and step.now > late:
            self.fail(
                f"{connection} takes nothing of {connection.outstanding} bytes since"
                f" {connection.owed_since} and stays"
            )

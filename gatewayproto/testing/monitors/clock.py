"""P10 and P17 at the gateway: timers fire when they are due, and a silent peer is closed in time.

Spec: Liveness; Sessions; The handshake.
"""

import math
from typing import Final

from gatewayproto.actions import CloseConnection, GatewayEvent, SessionExpired
from gatewayproto.errors import CLOSE_NORMAL, CLOSE_SERVICE_RESTART, ERRORS
from gatewayproto.inputs import (
    Accept,
    ChangeEpoch,
    CloseSession,
    Drain,
    Drained,
    FrameReceived,
    Publish,
    Reject,
    SnapshotReady,
    TimerExpired,
)
from gatewayproto.testing.monitors.base import EPSILON
from gatewayproto.testing.monitors.book import Connection, Session
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.wire import HANDSHAKES, Frame, is_off, read, read_loosely
from gatewayproto.testing.steps import Step

_GOING_AWAY: Final = 4000
_LIVENESS_TIMEOUT: Final = 4001
_SLOW_CONSUMER: Final = 4002
_INTERNAL_ERROR: Final = 4004
_HANDSHAKE_TIMEOUT: Final = 4005
_AUTH_EXPIRED: Final = 4006
_TOO_LARGE: Final = 4507
_SESSION_CLOSED: Final = 4508
_LEAVE: Final[frozenset[int | None]] = frozenset({CLOSE_NORMAL})
_BAD_FRAME: Final[frozenset[int | None]] = frozenset({_SLOW_CONSUMER, 4506, _TOO_LARGE, 4508})
_FLOOD: Final[frozenset[int | None]] = frozenset({_SLOW_CONSUMER, 4003})
_REJECTIONS: Final[frozenset[int | None]] = frozenset({spec.close_code for spec in ERRORS.values()})

_CAUSES: Final[dict[type, frozenset[int | None]]] = {
    Publish: frozenset({_SLOW_CONSUMER, _TOO_LARGE}),
    Drained: frozenset({_SLOW_CONSUMER, _TOO_LARGE, _SESSION_CLOSED}),
    CloseSession: frozenset({_SLOW_CONSUMER, _TOO_LARGE, _SESSION_CLOSED}),
    ChangeEpoch: frozenset({_SLOW_CONSUMER, CLOSE_SERVICE_RESTART, _SESSION_CLOSED}),
    Drain: frozenset({_GOING_AWAY, CLOSE_SERVICE_RESTART}),
    SnapshotReady: frozenset({_SLOW_CONSUMER, _TOO_LARGE, _INTERNAL_ERROR, _SESSION_CLOSED}),
    TimerExpired: frozenset({_SLOW_CONSUMER, _LIVENESS_TIMEOUT, _GOING_AWAY, _INTERNAL_ERROR}),
}
"""The close codes that an input may bring upon a welcomed connection, whatever is in it."""


class GatewayClock(GatewayMonitor):
    """P10, at the gateway: early timers do nothing, late ones are over once they are handled."""

    prop = "P10"
    about = "a timer before its deadline does nothing; after it the next deadline is later"
    needs = frozenset({"P10 early timer", "P10 due timer", "P10 session expired", "P10 late timer"})

    def begin(self, step: Step) -> None:
        """Hold a timer against the deadline before it."""
        if not isinstance(step.input, TimerExpired) or self.book.is_fresh:
            return
        deadline = self.book.deadline
        if deadline is None or step.now < deadline:
            self.saw("early timer")
            if step.actions or step.deadline != deadline:
                self.fail(
                    f"a timer at {step.now} before its deadline {deadline} leads to"
                    f" {step.actions}, deadline {step.deadline}"
                )
            return
        self.saw("due timer" if step.now < deadline + 1 else "late timer")
        if step.deadline is not None and step.deadline <= step.now:
            self.fail(f"the deadline {deadline} is handled at {step.now}; {step.deadline} is next")

    def told(self, step: Step, event: GatewayEvent) -> None:
        """A session is forgotten once its window is over."""
        if not isinstance(event, SessionExpired):
            return
        session = self.book.sessions.get(event.session_id)
        since = None if session is None else _unfollowed_since(session)
        window = self.config.resume_window
        if since is None or step.now < since + window - EPSILON:
            self.fail(f"session {event.session_id} is forgotten; nobody follows it since {since}")
        if session is not None and self.book.followers(session.session_id):
            self.fail(f"session {event.session_id} is forgotten, and somebody still reads it")
        self.saw("session expired")

    def end(self, step: Step) -> None:
        """No session outlives its window."""
        if not isinstance(step.input, TimerExpired):
            return
        for session in self.book.sessions.values():
            since = None
            if not self.book.followers(session.session_id):
                since = _unfollowed_since(session)
            if since is not None and step.now > since + self.config.resume_window + EPSILON:
                self.fail(f"session {session.session_id} has nobody since {since} and stays")


def _unfollowed_since(session: Session) -> float | None:
    """When its window began; that of a closed one begins whether or not anybody follows it."""
    return session.idle_since if session.closed_at is None else session.closed_at


class GatewayLiveness(GatewayMonitor):
    """P17, at the gateway: silence is closed by its deadline, a peer that speaks never is."""

    prop = "P17"
    about = "a silent peer is closed by its deadline; one that speaks in time never is"
    needs = frozenset(
        {"P17 silent client closed", "P17 handshake timeout", "P17 ping", "P17 spoke in time"}
    )

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """A ping comes each heartbeat, and no sooner."""
        if frame["type"] != "ping":
            return
        self.saw("ping")
        if step.now < connection.pinged + self.config.heartbeat - EPSILON:
            self.fail(f"{connection} is pinged {step.now - connection.pinged} s after the last")

    def closed(self, step: Step, connection: Connection, close: CloseConnection) -> None:
        """Judge a close for silence."""
        expired = connection.expires is not None and connection.expires <= step.now
        flooded = connection.flood is not None and isinstance(step.input, FrameReceived)
        causes = _FLOOD if flooded else _causes(step.input)
        if expired and close.code == _AUTH_EXPIRED and isinstance(step.input, TimerExpired):
            self.saw("credentials expired")
        elif connection.stage == "live" and close.code not in causes:
            self.fail(f"{connection} is closed with {close.code} for {step.input}")
        if close.code == _HANDSHAKE_TIMEOUT and isinstance(step.input, TimerExpired):
            self.saw("handshake timeout")
        if close.code != _LIVENESS_TIMEOUT or not isinstance(step.input, TimerExpired):
            return
        self.saw("silent client closed")
        if step.now < connection.sign + 2 * self.config.heartbeat - EPSILON:
            self.fail(
                f"{connection} is closed for silence at {step.now}; its last sign was at"
                f" {connection.sign}"
            )

    def end(self, step: Step) -> None:
        """Nobody stays who was silent too long, and the deadline sees to it that nobody will."""
        if isinstance(step.input, TimerExpired):
            for connection in self.book.connections.values():
                self._check(step, connection)
            return
        named = self.book.connections.get(getattr(step.input, "connection", 0))
        if named is not None and step.raised is None:
            self._check_deadline(step, named)

    def _check(self, step: Step, connection: Connection) -> None:
        if step.now > self._limit(connection) + EPSILON:
            self.fail(
                f"{connection}, {connection.stage}, is silent since {connection.sign_at_most} and"
                " stays"
            )
        self._check_deadline(step, connection)
        if connection.stage == "live" and (connection.expires or math.inf) <= step.now:
            self.fail(f"{connection} stays, and its credentials expired at {connection.expires}")
        if connection.stage == "live" and step.now > connection.sign + self.config.heartbeat:
            self.saw("spoke in time")

    def _check_deadline(self, step: Step, connection: Connection) -> None:
        limit = self._limit(connection)
        if limit == float("inf"):
            return
        if step.deadline is None or step.deadline > limit + EPSILON:
            self.fail(f"{connection} must be looked at by {limit}; the deadline is {step.deadline}")

    def _limit(self, connection: Connection) -> float:
        """Until when this connection may go on as it is."""
        if connection.stage == "live":
            silent = connection.sign_at_most + 2 * self.config.heartbeat
            return silent if connection.expires is None else min(silent, connection.expires)
        if connection.stage == "opening":
            return connection.opened + self.config.handshake_timeout
        return float("inf")  # the application's own time counts against nobody


def _causes(input_: object) -> frozenset[int | None]:
    """The close codes that an input may bring upon a welcomed connection."""
    match input_:
        case FrameReceived(data=data):
            frame = read(data)
            leaves = frame is not None and frame["type"] == "leave" and not is_off(frame)
            # A welcomed version 1 client may ask anew, and be rejected for whatever reason.
            loose = read_loosely(data)
            asks = loose is not None and loose["type"] in HANDSHAKES
            return _REJECTIONS if asks else _LEAVE if leaves else _BAD_FRAME
        case Accept() | Reject():
            return _REJECTIONS
        case _:
            return _CAUSES.get(type(input_), frozenset())

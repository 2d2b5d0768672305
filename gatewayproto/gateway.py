"""The server machine: every session and connection of one process.

It routes inputs to the connections and sessions they name and gathers the actions. What a
connection does is in `gatewayproto.connection`, what a subscriber is sent in
`gatewayproto.delivery`, what a session keeps in `gatewayproto.session`.

Spec: the architecture page, "Machines".
"""

from collections.abc import Callable, Iterable
from math import isfinite
from typing import assert_never

from attrs import frozen

from gatewayproto import _connection_live as live
from gatewayproto import _gateway_drain as drain
from gatewayproto import _gateway_pushes as pushes
from gatewayproto import _gateway_saved as saved
from gatewayproto import _gateway_snapshots as snapshots
from gatewayproto import _write_ahead as ahead
from gatewayproto import codec, connection, records
from gatewayproto._connection_link import Link
from gatewayproto._gateway_context import HEALTH_PUSH, Context, TimerKey
from gatewayproto._gateway_metrics import measure
from gatewayproto._ids import random_id
from gatewayproto.actions import CommandDropped, GatewayAction, MessageReceived, Published
from gatewayproto.config import GatewayConfig
from gatewayproto.connection import Input
from gatewayproto.errors import ERRORS, ErrorCode, LocalProtocolError
from gatewayproto.frames import MAX_DEPTH, Object
from gatewayproto.handshake import error_fields
from gatewayproto.inputs import (
    Accept,
    Activity,
    ChangeEpoch,
    CloseSession,
    Complete,
    ConnectionClosed,
    ConnectionOpened,
    Drain,
    Drained,
    FrameReceived,
    GatewayInput,
    Persisted,
    Publish,
    Reject,
    SetHealth,
    SnapshotReady,
    TimerExpired,
)
from gatewayproto.metrics import GatewayMetrics
from gatewayproto.session import encode_published

_MAX_HEALTH = 2048
"""Bytes of encoded health, so that a welcome with it fits the smallest `max_payload`."""
_LONGEST = 1e9
"""Seconds: the longest time that is taken for one."""


@frozen(kw_only=True)
class SessionInfo:
    """What an application may want to know of a session, as of now.

    Where the gateway writes ahead, `unstored` is how many records wait for `Persisted`; the rest
    is as of what is stored, but for `pending_messages`.
    """

    session_id: str
    epoch: str
    agent_id: str
    principal: str | None
    cursor: int
    oldest_cursor: int
    retained: int
    retained_bytes: int
    pending_messages: int
    subscribers: int
    sealed: bool
    unstored: int = 0


class Gateway:
    """The server of the protocol, without I/O.

    `handle` is its only entry; it returns what to do, in order. `now` is a monotonic time in
    seconds that never goes back between calls. `ids` makes session ids, epochs, client ids and
    nonces: strings of at least 122 random bits, 1 to 32 ASCII characters, without a dot.

    Spec: the whole of it, the server's side.
    """

    def __init__(self, config: GatewayConfig, *, ids: Callable[[], str] = random_id) -> None:
        self._context = Context(config, ids)
        self._connections: dict[int, Link] = {}
        self._last_connection = 0

    @property
    def config(self) -> GatewayConfig:
        """The configuration that it was made with."""
        return self._context.config

    @property
    def next_deadline(self) -> float | None:
        """When to give `TimerExpired` at the latest, on the clock of `now`; None for never."""
        return self._context.timers.next_deadline

    def session(self, session_id: str) -> SessionInfo | None:
        """What is to be known of a session; None where there is none of that bare id."""
        session = self._context.sessions.get(session_id)
        if session is None:
            return None
        return SessionInfo(
            session_id=session.session_id,
            epoch=session.epoch,
            agent_id=session.agent_id,
            principal=session.principal,
            cursor=session.journal.cursor,
            oldest_cursor=session.journal.floor + 1,
            retained=len(session.journal),
            retained_bytes=session.journal.size,
            pending_messages=len(session.inbox.pending),
            subscribers=len(self._context.subscribers[session_id].deliveries),
            sealed=session.sealed,
            unstored=0 if session.ledger is None else session.ledger.unstored,
        )

    def metrics(self) -> GatewayMetrics:
        """What it has counted since it was made, and how it stands now.

        It takes time in proportion to the sessions and connections, and changes nothing.
        """
        return measure(self._context, self._connections)

    def pending(self, session_id: str) -> tuple[MessageReceived, ...]:
        """The messages of a session that are not yet done, oldest first.

        After `recover` they are what the former process had accepted and did not complete: whether
        to work on them again is the application's decision, and `Complete` ends each.
        """
        session = self._context.sessions.get(session_id)
        if session is None:
            return ()
        return tuple(
            live.received(session_id, message_id, message)
            for message_id, message in session.inbox.pending.items()
            if session.received(message_id)
        )

    @property
    def connections(self) -> tuple[int, ...]:
        """The numbers of the connections that the machine takes for open, oldest first."""
        return tuple(self._connections)

    @property
    def last_connection(self) -> int:
        """The number of the newest connection ever opened, 0 before any."""
        return self._last_connection

    @property
    def session_ids(self) -> tuple[str, ...]:
        """The bare ids of all sessions, oldest first."""
        return tuple(self._context.sessions)

    def handle(  # noqa: C901, PLR0912 -- one arm for each input
        self, input_: GatewayInput, *, now: float
    ) -> tuple[GatewayAction, ...]:
        """Take one input and give the actions to carry out, in order.

        Raises `LocalProtocolError` for the caller's mistake, and nothing has changed then; never
        anything else, whatever a peer sent.
        """
        if not isfinite(now):
            raise LocalProtocolError(f"{now} is no time")
        match input_:
            case FrameReceived():
                connection.receive(self._existing(input_.connection), input_.data, now)
            case Publish():
                self._publish(input_, now)
            case Drained():
                connection.handle(
                    self._existing(input_.connection), Input.DRAINED, input_.size, now
                )
            case Activity():
                connection.handle(self._existing(input_.connection), Input.ACTIVITY, None, now)
            case ConnectionOpened():
                self._open(input_, now)
            case ConnectionClosed():
                connection.handle(self._existing(input_.connection), Input.GONE, None, now)
            case Accept():
                self._accept(input_, now)
            case Reject():
                self._reject(input_, now)
            case Complete():
                self._complete(input_, now)
            case SetHealth():
                self._set_health(input_, now)
            case ChangeEpoch():
                self._change_epoch(input_, now)
            case SnapshotReady():
                snapshots.take(self._context, self._connections, input_, now)
            case CloseSession():
                self._close_session(input_, now)
            case Drain():
                drain.drain(self._context, self._connections, input_, now)
            case Persisted():
                ahead.release(self._context, self._connections, input_, now)
            case TimerExpired():
                self._expire(now)
            case _:
                assert_never(input_)
        for number in self._context.take_ended():
            self._connections.pop(number, None)
        if not self._connections:
            drain.finish(self._context)
        return self._context.effects.take()

    # -- connections --------------------------------------------------------------------------

    def _open(self, opened: ConnectionOpened, now: float) -> None:
        if opened.connection <= self._last_connection:
            raise LocalProtocolError(f"connection {opened.connection} was opened already")
        if not isfinite(opened.timestamp):
            raise LocalProtocolError(f"{opened.timestamp} is no time")
        self._last_connection = opened.connection
        context = self._context
        if context.draining is not None:
            self._turn_away(
                opened.connection,
                ErrorCode.GOING_AWAY,
                "the gateway takes no new clients",
                context.draining.after,
            )
            return
        wait = context.rates.connections.take(opened.address, now)
        if len(self._connections) >= context.config.max_connections:
            wait = context.config.retry_after
        if wait is not None:
            self._turn_away(opened.connection, ErrorCode.RATE_LIMITED, "too many connections", wait)
            return
        self._connections[opened.connection] = Link.open(opened, context, now)

    def _turn_away(self, number: int, code: ErrorCode, detail: str, retry_after: float) -> None:
        fields = error_fields("error", code, detail, retry_after_seconds=retry_after)
        close_code = ERRORS[code].close_code
        assert close_code is not None
        self._context.counters.reject(code)
        self._context.effects.send((number,), [codec.encode_object(fields)], "rejection")
        self._context.effects.close(number, close_code, code.value)

    def _existing(self, number: int) -> Link:
        """The connection of that number; one that is gone answers every input as a race."""
        link = self._connections.get(number)
        if link is not None:
            return link
        if not 0 < number <= self._last_connection:
            raise LocalProtocolError(f"connection {number} was never opened")
        return Link.closed(number, self._context)

    def _accept(self, accept: Accept, now: float) -> None:
        good_for: object = accept.expires_in
        # What has expired already is for `Reject`.
        if good_for is not None and not (
            isinstance(good_for, int | float) and 0 < good_for <= _LONGEST
        ):
            raise LocalProtocolError(f"credentials cannot be good for {good_for!r} seconds")
        connection.handle(self._existing(accept.connection), Input.ACCEPT, accept, now)

    def _reject(self, reject: Reject, now: float) -> None:
        if ERRORS[reject.code].close_code is None:
            raise LocalProtocolError(f"{reject.code} closes no connection")
        after = reject.retry_after_seconds
        if after is not None and not (isfinite(after) and after >= 0):
            raise LocalProtocolError(f"{after} seconds are no time to wait")
        try:
            codec.check_plain({"message": reject.message}, max_depth=1)
        except ValueError as error:
            raise LocalProtocolError(f"the message cannot be sent: {error}") from error
        connection.handle(self._existing(reject.connection), Input.REJECT, reject, now)

    # -- sessions -----------------------------------------------------------------------------

    def _publish(self, publish: Publish, now: float) -> None:
        context = self._context
        session = context.sessions.get(publish.session_id)
        if session is None or session.is_closed:
            context.effects.emit(CommandDropped(command="publish", target=publish.session_id))
            return
        encoded = encode_published(context.config, session, publish.event)
        kind = "transient" if encoded.event.transient else "durable"
        if session.ledger is not None:
            ahead.publish(context, session, encoded, now)
            context.counters.events_published[kind] += 1
            return
        context.counters.events_published[kind] += 1
        entry = session.append(encoded)
        context.effects.emit(
            Published(session_id=session.session_id, seq=entry.seq, event_id=encoded.event.event_id)
        )
        ahead.deliver(context, self._connections, session, entry, encoded.event, now=now)

    def _complete(self, complete: Complete, now: float) -> None:
        context, message_id = self._context, complete.message_id
        session = context.sessions.get(complete.session_id)
        if session is None:
            context.effects.emit(CommandDropped(command="complete", target=complete.session_id))
            return
        if not (message_id in session.inbox.pending and session.received(message_id)):
            raise LocalProtocolError(f"message {message_id} is not pending")
        context.begin(session, now)
        session.inbox.complete(message_id)
        if session.ledger is not None:
            context.write(session, records.complete(message_id), now)

    def _set_health(self, command: SetHealth, now: float) -> None:
        health = dict(command.health)
        try:
            codec.check_plain(health, max_depth=MAX_DEPTH - 1)
        except ValueError as error:
            raise LocalProtocolError(f"the health cannot be sent: {error}") from error
        body = codec.encode_object(health)
        if len(body) > _MAX_HEALTH:
            raise LocalProtocolError(f"the health takes {len(body)} bytes, over {_MAX_HEALTH}")
        # A copy: what the application still holds may change.
        self._context.set_health(codec.parse_state(body, max_bytes=_MAX_HEALTH), now)

    def _change_epoch(self, command: ChangeEpoch, now: float) -> None:
        context = self._context
        session = context.sessions.get(command.session_id)
        if session is None:
            context.effects.emit(CommandDropped(command="change_epoch", target=command.session_id))
            return
        if session.ledger is not None:
            ahead.change_epoch(context, session, now)
        else:
            ahead.begin_epoch(context, self._connections, session, context.ids(), now)

    def _close_session(self, command: CloseSession, now: float) -> None:
        context = self._context
        session = context.sessions.get(command.session_id)
        if session is None:
            context.effects.emit(CommandDropped(command="close_session", target=command.session_id))
        elif session.is_closed:
            pass
        elif session.ledger is not None:
            ahead.close_session(context, session, now)
        else:
            ahead.seal(context, self._connections, session, now)

    # -- time ---------------------------------------------------------------------------------

    def _expire(self, now: float) -> None:
        due: dict[TimerKey, None] = {}
        for kind, key in self._context.timers.pop_due(now):
            match kind:
                case "session":
                    self._context.expire_session(str(key))
                case "snapshot":
                    session = self._context.sessions[str(key)]
                    snapshots.give_up(self._context, self._connections, session, now)
                case "begin":
                    self._context.begin_all(now)
                case "drain":
                    drain.end(self._context, self._connections, now)
                case "presence" | "health":
                    due[kind, key] = None
                case _:
                    connection.handle(self._connections[int(key)], Input.TIMER, None, now)
        # Only now: they tell the latest, and nobody who was closed in this turn.
        for kind, key in due:
            if kind == "presence" and key in self._context.subscribers:
                pushes.push_presence(self._context, str(key), now)
        if HEALTH_PUSH in due:
            pushes.push_health(self._context, now)

    # -- plain data ---------------------------------------------------------------------------

    def to_state(self, *, now: float) -> Object:
        """The whole machine as plain JSON data, for `from_state` and `recover`.

        It holds session ids, which prove ownership, and tokens that wait for a decision: keep it
        as you keep secrets.
        """
        return saved.save(self._context, self._connections, self._last_connection, now)

    @classmethod
    def from_state(
        cls,
        config: GatewayConfig,
        state: Object,
        *,
        now: float,
        ids: Callable[[], str] = random_id,
    ) -> "Gateway":
        """Go on exactly as the machine would that gave `state`, its transports still open.

        Raises `ValueError` for a state of another schema, or of another `write_ahead`.
        """
        gateway = cls(config, ids=ids)
        gateway._last_connection = saved.load_sessions(gateway._context, state, now)
        gateway._connections.update(saved.load_connections(gateway._context, state, now))
        return gateway

    @classmethod
    def recover(
        cls,
        config: GatewayConfig,
        state: Object,
        *,
        now: float,
        unbroken: bool = False,
        ids: Callable[[], str] = random_id,
    ) -> "Gateway":
        """Rebuild the sessions of a gateway whose process and transports are gone.

        Every session begins a new epoch, so that every client gets a snapshot: nobody can prove
        that `state` holds all that clients were sent. A gateway that writes ahead has every session
        stored whole before it welcomes anybody. `unbroken` asserts just that, and keeps the
        epochs. Request ids stay remembered either way. Raises `ValueError` for a state of another
        schema.

        Spec: Terms (epoch); Requests.
        """
        gateway = cls(config, ids=ids)
        saved.load_sessions(gateway._context, state, now)
        for session in gateway._context.sessions.values():
            session.settle()
            session.wanted = None
            if not unbroken:
                session.begin_epoch(ids())
            # No record holds what this process is told it holds: the next one does.
            given = 0 if session.ledger is None else session.ledger.given
            session.restart(config, given=given, unwritten=True)
            gateway._context.start_resume_window(session.session_id, now)
        gateway._context.begin_soon(now)
        return gateway

    @classmethod
    def recover_stored(
        cls,
        config: GatewayConfig,
        stored: Iterable[tuple[str, int, Object]],
        *,
        now: float,
        unbroken: bool = False,
        ids: Callable[[], str] = random_id,
    ) -> "Gateway":
        """Rebuild the sessions of a gateway that wrote ahead from what its store holds.

        `stored` are session ids, numbers and records as `Persist` gave them: those of one session
        by rising numbers and without a hole, at least from its latest record of kind `session`
        on. Whatever was confirmed by `Persisted` must be among them; what was not may be missing
        from the end.

        `unbroken` asserts that nothing is missing that was confirmed, and keeps the epochs;
        otherwise every session begins a new one, whose record is given when its first timer
        fires, at once, or when the session is first needed. Not before all of those are confirmed
        may the store be called unbroken again. Request ids stay remembered, as if seen now;
        messages not yet done are in `pending`; numbers go on. Raises `ValueError` for records
        that are none, are missing or contradict each other.

        Spec: Terms (epoch); Requests; the architecture page, "Write ahead".
        """
        gateway = cls(config, ids=ids)
        for session, read in records.rebuild(config, stored, now):
            if not unbroken:
                session.begin_epoch(ids())
            base = read.number if unbroken else None
            session.restart(config, given=read.number, base=base, whole=read.whole)
            gateway._context.add_session(session)
            gateway._context.start_resume_window(session.session_id, now)
        gateway._context.begin_soon(now)
        return gateway

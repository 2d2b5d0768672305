"""Walks through a gateway's steps: each monitor is told every frame, close and event in order.

Monitors are told first, then the book: so they judge by what was known before. A frame for a
connection that is closed is no monitor's to judge: it breaks P7 at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from gatewayproto.actions import (
    CloseConnection,
    DrainFinished,
    Emit,
    GatewayEvent,
    JoinRequested,
    Published,
    SendFrames,
    SessionClosed,
    SessionExpired,
    SessionOpened,
    SnapshotNeeded,
    SubscriberJoined,
    SubscriberLeft,
)
from gatewayproto.config import GatewayConfig
from gatewayproto.frames import DEFAULT_MAX_PAYLOAD
from gatewayproto.inputs import (
    Accept,
    Activity,
    ChangeEpoch,
    ConnectionClosed,
    ConnectionOpened,
    Drain,
    Drained,
    FrameReceived,
    Publish,
    SnapshotReady,
    TimerExpired,
)
from gatewayproto.testing.monitors.allowance import Allowance
from gatewayproto.testing.monitors.base import Monitor
from gatewayproto.testing.monitors.book import Book, Connection, Question, Session
from gatewayproto.testing.monitors.wire import DELIVERIES, PUSHES, WELCOMES, Frame, decode, read
from gatewayproto.testing.steps import WORLD, Restarted, Saved, Step, Violation

_HELD_ROOM: Final = 512
"""Bytes that an answer which waits for the welcome takes at most, beside what it answers."""


class GatewayMonitor(Monitor):
    """Judges a gateway by its own steps alone; its peers may send anything."""

    def __init__(self, witnessed: Counter[str], book: Book) -> None:
        super().__init__(witnessed)
        self.book = book
        self.config: GatewayConfig = book.config

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """A frame for a connection."""

    def closed(self, step: Step, connection: Connection, close: CloseConnection) -> None:
        """The gateway ended a connection."""

    def told(self, step: Step, event: GatewayEvent) -> None:
        """The application was told something."""


class GatewayWatch:
    """The monitors of one gateway, and the book that they share."""

    def __init__(
        self,
        config: GatewayConfig,
        kinds: Iterable[Callable[[Counter[str], Book], GatewayMonitor]],
        witnessed: Counter[str],
    ) -> None:
        self.book = Book(config)
        self.monitors = [kind(witnessed, self.book) for kind in kinds]
        self._begin = overriding(self.monitors, Monitor, "begin")
        self._end = overriding(self.monitors, Monitor, "end")
        self._sent = overriding(self.monitors, GatewayMonitor, "sent")
        self._closed = overriding(self.monitors, GatewayMonitor, "closed")
        self._told = overriding(self.monitors, GatewayMonitor, "told")

    def observe(self, step: Step) -> None:
        """Judge one step of the gateway, or something that happened to the world."""
        if step.raised is None:
            self.book.count(step.input, step.now)
        for begin in self._begin:
            begin(step)
        self._take(step)
        if step.who == WORLD:
            return
        for action in step.actions:
            match action:
                case SendFrames():
                    self._frames(step, action)
                case CloseConnection():
                    connection = self._open(action.connection, "a close")
                    for closed in self._closed:
                        closed(step, connection, action)
                    self._forget(connection, step.now)
                case Emit(event=event):
                    for told in self._told:
                        told(step, event)
                    self._note(step, event)
                case _:
                    raise Violation("P13", f"{action} is no action of a gateway")
        for end in self._end:
            end(step)
        self._settle(step)

    def finish(self) -> None:
        """The end of the run."""
        for monitor in self.monitors:
            monitor.finish()

    def _open(self, number: int, what: str) -> Connection:
        connection = self.book.connections.get(number)
        if connection is None:
            raise Violation("P7", f"{what} for connection {number}, which is closed")
        return connection

    # -- inputs -------------------------------------------------------------------------------

    def _take(self, step: Step) -> None:  # noqa: C901, PLR0912 -- an arm for each input
        """Note an input, or a happening, in the book."""
        book, input_ = self.book, step.input
        book.answered = None
        book.given_up.clear()
        match input_:
            case ConnectionOpened(connection=number) if step.raised is None:
                book.last = max(book.last, number)
                opened = Connection(
                    number,
                    step.now,
                    address=input_.address,
                    frames=Allowance(book.config.frame_rate),
                    recoveries=Allowance(book.config.recovery_rate),
                )
                opened.sign = opened.sign_at_most = opened.pinged = opened.owed_since = step.now
                book.connections[number] = opened
            case Activity(connection=number) if number in book.connections:
                opened = book.connections[number]
                opened.sign = opened.sign_at_most = step.now
            case FrameReceived(connection=number) if number in book.connections:
                opened = book.connections[number]
                opened.sign_at_most = step.now
                if opened.stage != "live":
                    opened.held += len(input_.data) + _HELD_ROOM
            case Drained(connection=number, size=size) if (
                number in book.connections and step.raised is None
            ):
                _give_back(book.connections[number], size, step.now)
            case Accept(connection=number, expires_in=good_for) if (
                number in book.connections and step.raised is None
            ):
                expires = None if good_for is None else step.now + good_for
                book.connections[number].expires = expires
            case ConnectionClosed(connection=number) if number in book.connections:
                self._forget(book.connections[number], step.now)
            case ChangeEpoch(session_id=session_id) if session_id in book.sessions:
                book.break_epoch(book.sessions[session_id])
            case Drain() if step.raised is None:
                book.drain(input_, step.now)
            case SnapshotReady() if step.raised is None:
                session = book.sessions.get(input_.session_id)
                if session is not None:
                    book.take_built(session, input_.epoch, input_.cursor)
            case TimerExpired():
                book.expire_questions(step.now)
            case Saved():
                book.saved = {each.session_id: each.copy() for each in book.sessions.values()}
                book.saved_at = step.now
            case Restarted(kind=kind):
                book.restart(kind, step.now)
                book.deadline, book.is_fresh = step.deadline, step.deadline is None
            case _:
                pass

    def _settle(self, step: Step) -> None:
        """What is only true once the whole step is over."""
        if isinstance(step.input, Publish):
            session = self.book.sessions.get(step.input.session_id)
            if session is not None and step.raised is None:
                session.ledger.trim()
        if isinstance(step.input, TimerExpired):
            self.book.note_windows(step.now)
        if isinstance(step.input, Accept) and self.book.config.application_snapshots:
            self._await(step.input)
        self.book.deadline, self.book.is_fresh = step.deadline, False

    def _await(self, accept: Accept) -> None:
        """Who was accepted and neither welcomed nor rejected waits for a state of its session."""
        connection = self.book.connections.get(accept.connection)
        if connection is None or connection.stage != "joining":
            return
        connection.stage, connection.principal = "preparing", accept.principal
        connection.awaits = session_of(self.book, connection.hello.get("session_id"))
        if connection.awaits is not None:
            connection.awaits.idle_since = None

    # -- actions ------------------------------------------------------------------------------

    def _frames(self, step: Step, action: SendFrames) -> None:
        for data in action.frames:
            frame = decode(data)
            for number in action.connections:
                connection = self._open(number, f"a `{frame['type']}`")
                for sent in self._sent:
                    sent(step, connection, frame, data)
                self._charge(connection, frame, len(data), step.now)
                if frame["type"] in WELCOMES:
                    self._welcome(connection, frame)
                elif frame["type"] == "snapshot":
                    self._name_epoch(connection, frame)

    def _charge(self, connection: Connection, frame: Frame, size: int, now: float) -> None:
        first = connection.outstanding == 0
        if first:
            connection.owed_since = now
        connection.outstanding += size
        if frame["type"] == "ping":
            connection.pings += size
            connection.pinged = now
        if first or frame["type"] in DELIVERIES | PUSHES | {"ping"}:
            connection.own = connection.outstanding

    def _welcome(self, connection: Connection, frame: Frame) -> None:
        connection.stage, connection.held = "live", 0
        session = connection.session
        if session is None:
            return
        epoch = frame.get("epoch") or str(frame["session_id"]).partition(".")[2]
        if epoch:
            self.book.name_epoch(session, epoch)

    def _name_epoch(self, connection: Connection, frame: Frame) -> None:
        if connection.session is not None and isinstance(frame.get("epoch"), str):
            self.book.name_epoch(connection.session, frame["epoch"])

    def _note(  # noqa: C901, PLR0912 -- an arm for each event
        self, step: Step, event: object
    ) -> None:
        book = self.book
        match event:
            case JoinRequested(connection=number) if number in book.connections:
                connection = book.connections[number]
                self._leave(connection, step.now)
                connection.stage, connection.version = "joining", event.protocol_version
                connection.expires = None
                data = getattr(step.input, "data", b"")
                connection.hello = read(data) or {}
                connection.limit = connection.hello.get("max_payload", DEFAULT_MAX_PAYLOAD)
            case SessionOpened():
                book.open_session(event.session_id, event.agent_id, event.principal)
                # Until its client joins, which it may not live to do.
                book.sessions[event.session_id].idle_since = step.now
            case SubscriberJoined(connection=number) if number in book.connections:
                connection = book.connections[number]
                connection.session = book.sessions.get(event.session_id)
                connection.client_id = event.client_id
                if connection.stage != "preparing":
                    connection.principal = getattr(step.input, "principal", None)
                connection.awaits = None
                connection.sign = connection.sign_at_most = connection.pinged = step.now
                if connection.session is not None:
                    connection.session.idle_since = None
            case SubscriberLeft(connection=number) if number in book.connections:
                self._leave(book.connections[number], step.now)
                book.connections[number].stage = "opening"  # version 1 begins its attach anew
            case Published(session_id=session_id) if session_id in book.sessions:
                if isinstance(step.input, Publish):
                    book.sessions[session_id].ledger.append(step.input.event)
            case SessionClosed(session_id=session_id) if session_id in book.sessions:
                book.sessions[session_id].closed_at = step.now
            case DrainFinished() if book.drained is not None:
                book.drained.finished = True
            case SnapshotNeeded(session_id=session_id) if session_id in book.sessions:
                session = book.sessions[session_id]
                book.name_epoch(session, event.epoch)
                session.question = Question(event.epoch, event.cursor, event.attempt, step.now)
            case SessionExpired(session_id=session_id):
                book.sessions.pop(session_id, None)
                book.breaks[session_id] = book.breaks.get(session_id, 0) + 1
            case _:
                pass

    def _forget(self, connection: Connection, now: float) -> None:
        self.book.connections.pop(connection.number, None)
        self._leave(connection, now)

    def _leave(self, connection: Connection, now: float) -> None:
        left = {connection.session, connection.awaits}
        connection.session = connection.awaits = None
        for session in left - {None}:
            if session is not None and not self.book.is_followed(session):
                session.idle_since = now


def _give_back(connection: Connection, size: int, now: float) -> None:
    size = min(size, connection.outstanding)
    if size > connection.pings:
        connection.sign = connection.sign_at_most = now
    connection.outstanding -= size
    connection.owed_since = now
    connection.own = min(connection.own, connection.outstanding)
    connection.pings = max(0, connection.pings - size)


def overriding(monitors: Iterable[Monitor], base: type[Monitor], name: str) -> list[Any]:
    """The methods of this name that monitors have in place of the empty one of `base`."""
    return [
        getattr(monitor, name)
        for monitor in monitors
        if getattr(type(monitor), name) is not getattr(base, name)
    ]


def session_of(book: Book, named: object) -> Session | None:
    """The session that a client names, in either form of its id."""
    return book.sessions.get(named.partition(".")[0]) if isinstance(named, str) else None

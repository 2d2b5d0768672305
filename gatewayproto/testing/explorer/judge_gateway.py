"""What the explorer asks of a gateway: what it sends on each connection, and what it decides.

Spec: The welcome; Delivery; Requests.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from attrs import define

from gatewayproto.actions import (
    CloseConnection,
    CommandDropped,
    Emit,
    MessageReceived,
    Published,
    SendFrames,
    SessionClosed,
    SessionExpired,
    SessionOpened,
    SubscriberLagged,
)
from gatewayproto.config import GatewayConfig
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
    Reject,
)
from gatewayproto.testing.explorer.history import Log, canonical
from gatewayproto.testing.explorer.judge_book import Book, Connection, Session
from gatewayproto.testing.monitors.handshakes import read_handshake
from gatewayproto.testing.monitors.wire import WELCOMES, Frame, decode
from gatewayproto.testing.reference import Asked, Decided, Known, decide, resync_reason
from gatewayproto.testing.steps import Step, Violation

_SESSION_CLOSED: Final = 4508
_NAMED: Final = (FrameReceived, Activity, Drained, ConnectionClosed, Accept, Reject)


@define(eq=False)
class GatewayRules:
    """Judges the steps of a gateway."""

    config: GatewayConfig
    witnessed: Counter[str]
    empty: Log

    def judge(self, book: Book, step: Step) -> None:
        """Judge one step and write it into the book."""
        _Turn(self, book, step).judge()


@define(eq=False)
class _Turn:
    """One step of the gateway, being judged. `published` counts the seqs that it gave."""

    rules: GatewayRules
    book: Book
    step: Step
    published: int = 0
    acked: bool | None = None
    decided: Decided | None = None

    def judge(self) -> None:
        """Judge it."""
        input_ = self.step.input
        if isinstance(input_, _NAMED) and input_.connection not in self.book.connections:
            self._fenced()
            return
        log = self._given()
        for action in self.step.actions:
            match action:
                case SendFrames():
                    for number in action.connections:
                        self._sent(number, action.frames)
                case CloseConnection():
                    self._closed(action)
                case Emit(event=event):
                    handle = _TOLD.get(type(event))
                    if handle is not None:
                        handle(self, event)
                case _:
                    pass
        if log is not None and self.published != 1:
            self.fail("P2", f"seq {log.cursor} was published, and {self.published} seqs were given")
        if self.decided is not None:
            self.fail("P4", f"{input_} is answered by no welcome")

    # -- inputs -------------------------------------------------------------------------------

    def _given(self) -> Log | None:
        """Write the input into the book; gives the log if it was published to."""
        input_ = self.step.input
        match input_:
            case ConnectionOpened():
                self.book.connections[input_.connection] = Connection(input_.connection)
            case ConnectionClosed():
                del self.book.connections[input_.connection]
            case FrameReceived():
                self._asked(self.book.connections[input_.connection], input_.data)
            case Accept():
                self.decided = self._decide(self.book.connections[input_.connection], input_)
            case Publish():
                return self._publish(input_)
            case ChangeEpoch() if input_.session_id in self.book.sessions:
                self._change_epoch(input_.session_id)
            case _:
                pass
        return None

    def _fenced(self) -> None:
        """Nothing comes of what names a connection that is gone."""
        for action in self.step.actions:
            if not (isinstance(action, Emit) and isinstance(action.event, CommandDropped)):
                self.fail("P7", f"{action} comes of {self.step.input}, whose connection is gone")
        self.rules.witnessed["fenced"] += 1

    def _asked(self, connection: Connection, data: bytes) -> None:
        """Remember what a frame asks for."""
        if connection.stage == "opening" or connection.version == 1:
            hello = read_handshake(data, self.rules.config)
            if hello is not None:
                connection.stage, connection.hello, connection.session_id = "joining", hello, ""
        if connection.stage != "live":
            return
        frame = decode(data)
        session = self.book.sessions[connection.session_id]
        match frame["type"]:
            case "resume" if connection.version > 1:
                connection.until = session.log.cursor
                self._resume(connection, session, frame)
            case "resync" if connection.version > 1:
                if connection.position is not None and not connection.more:
                    connection.reason, connection.position = "requested", None
            case "message" if "request_id" in frame:
                self.acked = frame["request_id"] in session.ids
            case _:
                pass

    def _resume(self, connection: Connection, session: Session, frame: Frame) -> None:
        """Back to `since`, if it can be; a snapshot that is due or under way comes first."""
        if connection.position is None or connection.more:
            return
        since = frame["since"]
        asked = Asked(
            version=connection.version,
            agent_id=session.agent_id,
            epochs=(frame["epoch"],),
            since=since,
        )
        connection.reason = resync_reason(asked, self._known(session, connection.version))
        if connection.reason is not None:
            connection.position = None
        elif since < connection.position:
            connection.back = since

    def _publish(self, publish: Publish) -> Log | None:
        session = self.book.sessions.get(publish.session_id)
        if session is None or session.closed:
            return None
        session.log = session.log.append(self.rules.config, publish.event)
        if session.epoch:
            self.book.lives[session.epoch] = session.log
        return session.log

    def _change_epoch(self, session_id: str) -> None:
        self.book.sessions[session_id].break_epoch()
        for connection in self.book.connections.values():
            if connection.session_id == session_id and connection.version > 1:
                connection.position, connection.reason = None, "epoch_changed"
                connection.halt, connection.more = None, False

    # -- the decision -------------------------------------------------------------------------

    def _known(self, session: Session, version: int) -> Known:
        return Known(
            agent_id=session.agent_id,
            epoch=session.epoch,
            cursor=session.log.cursor,
            oldest_cursor=session.log.oldest[version],
        )

    def _decide(self, connection: Connection, accept: Accept) -> Decided:
        hello = connection.hello
        if hello is None or hello.asked is None:
            self.fail("P4", f"{connection} is to be accepted, and asked for nothing")
        session = self.book.sessions.get(hello.session_id or "")
        if session is None or session.principal != accept.principal:
            return decide(hello.asked, None)
        return decide(hello.asked, self._known(session, hello.asked.version))

    def _welcome(self, connection: Connection, frame: Frame) -> None:
        expected, self.decided = self.decided, None
        hello = connection.hello
        if (
            expected is None
            or expected.rejected is not None
            or hello is None
            or hello.asked is None
        ):
            self.fail("P4", f"{connection} is welcomed; due is {expected}")
        bare, _, in_id = frame["session_id"].partition(".")
        version, epoch = frame["protocol_version"], frame.get("epoch") or in_id
        session = self.book.sessions.get(bare)
        if session is None:
            self.fail("P4", f"{frame} welcomes to a session that nobody was told of")
        self._name_epoch(session, epoch)
        head, oldest = session.log.cursor, session.log.oldest[version]
        said = (
            frame["resumed"],
            frame.get("resync_reason"),
            frame["sequence"],
            frame["oldest_cursor"],
            frame["cursor"] if version > 1 else frame["head"],
            frame["resync_required"],
            version,
        )
        due = (
            expected.resumed,
            expected.reason,
            expected.sequence,
            oldest,
            head,
            expected.reason is not None,
            hello.asked.version,
        )
        if said != due:
            self.fail("P4", f"{frame} answers {hello.asked}; due is {due}")
        connection.stage, connection.version, connection.session_id = "live", version, bare
        snapshot = expected.resumed and expected.reason is not None
        connection.position = None if snapshot else expected.sequence
        connection.reason = expected.reason if snapshot else None
        connection.until, connection.back, connection.halt = head, None, None
        self._saw(f"welcomed: {expected.reason or ('resumed' if expected.resumed else 'new')}")
        if snapshot and version > 1:
            self._snapshot_leaves_too(connection)

    def _rejected(self, connection: Connection, frame: Frame) -> None:
        due, self.decided = self.decided, None
        if due is not None and due.rejected != frame["code"]:
            self.fail("P4", f"{connection} is rejected by {frame}; due is {due}")
        self._saw(f"rejected {frame['code']}")

    def _snapshot_leaves_too(self, connection: Connection) -> None:
        frames = [
            decode(frame)["type"]
            for action in self.step.actions
            if isinstance(action, SendFrames) and connection.number in action.connections
            for frame in action.frames
        ]
        if frames[1:2] != ["snapshot"]:
            self.fail("P4", f"a welcome that announces a snapshot leaves with {frames}")

    def _name_epoch(self, session: Session, epoch: str) -> None:
        if not session.epoch:
            if epoch in session.past or epoch in self.book.lives:
                self.fail("P12", f"{epoch} goes on, though its numbering is broken")
            session.epoch = epoch
        elif epoch != session.epoch:
            self.fail("P12", f"{session.session_id} is in {epoch}, and was in {session.epoch}")
        self.book.lives[epoch] = session.log

    # -- what is sent -------------------------------------------------------------------------

    def _sent(self, number: int, frames: tuple[bytes, ...]) -> None:
        connection = self.book.connections.get(number)
        if connection is None:
            self.fail("P7", f"frames are sent on connection {number}, which is gone")
        for data in frames:
            frame = decode(data)
            if frame["type"] in WELCOMES:
                self._welcome(connection, frame)
            elif connection.stage == "live":
                handle = _SENT.get(frame["type"])
                if handle is not None:
                    handle(self, connection, frame)
            elif frame["type"] in {"error", "hello_error"}:
                self._rejected(connection, frame)
            else:
                self.fail("P4", f"{frame} comes before the welcome")

    def event(self, connection: Connection, frame: Frame) -> None:
        seq = frame["seq"]
        self._advance(connection, seq, seq)
        log = self.book.sessions[connection.session_id].log
        if seq > log.cursor:
            self.fail("P1", f"{frame} was never published")
        published, wire = log.path[seq].event, log.path[seq].wire
        assert published is not None
        if connection.version == 1:
            if frame["event"]["event_id"] != published.event_id:
                self.fail("P1", f"{frame} is not {published}")
            return
        if frame["event"] != wire:
            self.fail("P1", f"{frame} is not {wire}")
        if (frame["type"] == "replay") != (seq <= connection.until):
            self.fail("P4", f"{frame} with the head at {connection.until} when it asked")

    def skip(self, connection: Connection, frame: Frame) -> None:
        first, last = frame["first"], frame["last"]
        self._advance(connection, first, last)
        log = self.book.sessions[connection.session_id].log
        if last < first or last > log.cursor or not log.is_superseded(first, last):
            self.fail("P3", f"{frame} names what is not superseded")
        self._saw("skip")

    def _advance(self, connection: Connection, first: int, last: int) -> None:
        if connection.position is None:
            self.fail("P5", f"{connection} gets {first} before the snapshot that is due")
        if connection.back is not None and first == connection.back + 1:
            self._saw("gone back")
        elif first != connection.position + 1:
            self.fail("P2", f"{connection} stands at {connection.position} and gets {first}")
        connection.position, connection.back = last, None
        self._halt(connection)

    def _halt(self, connection: Connection) -> None:
        """Where it lagged, nothing goes but the snapshot that is due."""
        if connection.halt is None or connection.position != connection.halt:
            return
        if not connection.more:
            connection.position, connection.halt, connection.reason = None, None, "lagged"

    def snapshot(self, connection: Connection, frame: Frame) -> None:
        session = self.book.sessions[connection.session_id]
        version = connection.version
        state = frame.get("state")
        cursor = frame["cursor"] if version > 1 else frame["state"]["event_cursor"]
        if version > 1:
            self._name_epoch(session, frame["epoch"])
            if frame["reason"] != connection.reason:
                self.fail("P4", f"{frame} for {connection.reason}")
            if state is not None and canonical(state) != session.log.path[cursor].state:
                self.fail("P5", f"{frame} is not the state as of {cursor}")
        if cursor > session.log.cursor or cursor < (connection.position or 0):
            self.fail("P5", f"{frame} while {connection} stands at {connection.position}")
        connection.position, connection.back = cursor, None
        connection.more = frame.get("part", 1) != frame.get("parts", 1)
        if not connection.more:
            connection.reason = None
            self._halt(connection)
            self._saw(f"snapshot sent: {frame.get('reason', 'version 1')}")

    def standing(self, connection: Connection, frame: Frame) -> None:
        """A `caught_up` or a `ping` says where delivery stands, and no further than that."""
        if connection.back is not None and connection.back == frame.get("cursor"):
            connection.position, connection.back = connection.back, None
        if connection.version > 1 and connection.position not in {None, frame["cursor"]}:
            self.fail("P6", f"{frame} while {connection} stands at {connection.position}")

    def ack(self, _: Connection, frame: Frame) -> None:
        duplicate = frame["status"] == "duplicate" if "status" in frame else frame["duplicate"]
        if duplicate is not self.acked:
            self.fail("P8", f"{frame}: whether it was in the inbox: {self.acked}")
        self._saw("ack again" if duplicate else "ack")

    # -- the rest -----------------------------------------------------------------------------

    def _closed(self, action: CloseConnection) -> None:
        """A connection closes for its own sake: what one does closes no other."""
        input_ = self.step.input
        if isinstance(input_, _NAMED) and input_.connection != action.connection:
            self.fail("P7", f"{action} comes of {input_}")
        connection = self.book.connections.pop(action.connection, None)
        if connection is None:
            self.fail("P7", f"{action}, which was gone")
        if action.code == _SESSION_CLOSED:
            self._check_end(connection)
        self._saw(f"closed {action.code}")

    def sent_away(self, connection: Connection, _: Frame) -> None:
        if not isinstance(self.step.input, Drain):
            self.fail("P17", f"{connection} is sent away for {self.step.input}")
        self._saw("sent away")

    def _check_end(self, connection: Connection) -> None:
        """The last close of a session comes when everything up to its head was sent."""
        session = self.book.sessions[connection.session_id]
        if not session.closed:
            self.fail("P3", f"{connection} is closed as if its session were")
        owes = connection.reason is not None or connection.halt is not None or connection.more
        if owes or connection.position != session.log.cursor:
            self.fail("P3", f"{connection} is closed at {connection.position}: more is owed")
        self._saw("closed with everything")

    def opened(self, event: SessionOpened) -> None:
        if event.session_id in self.book.sessions:
            self.fail("P14", f"{event} is there already")
        self.book.sessions[event.session_id] = Session(
            event.session_id, event.agent_id, event.principal, self.rules.empty
        )

    def ended(self, event: SessionClosed) -> None:
        session = self.book.sessions[event.session_id]
        if session.closed or event.cursor != session.log.cursor:
            self.fail("P3", f"{event}; it stands at {session.log.cursor}")
        session.closed = True

    def expired(self, event: SessionExpired) -> None:
        del self.book.sessions[event.session_id]
        self._saw("expired")

    def given(self, event: Published) -> None:
        log = self.book.sessions[event.session_id].log
        newest = log.event
        self.published += 1
        if event.seq != log.cursor or newest is None or event.event_id != newest.event_id:
            self.fail("P2", f"{event}; due is seq {log.cursor}, {newest}")

    def message(self, event: MessageReceived) -> None:
        session = self.book.sessions[event.session_id]
        if event.request_id is None:
            return
        if event.request_id in session.ids:
            self.fail("P8", f"{event} enters the inbox again")
        session.ids |= {event.request_id}
        self.book.entered |= {event.request_id}

    def lagged(self, event: SubscriberLagged) -> None:
        connection = self.book.connections[event.connection]
        session = self.book.sessions[event.session_id]
        oldest = session.log.oldest[connection.version]
        if event.position >= oldest - 1:
            self.fail("P4", f"{event}, and everything from {oldest} on can still be told")
        # What goes before the snapshot comes after this, and may be another snapshot.
        connection.halt = event.position
        self._halt(connection)
        self._saw("lagged")

    def _saw(self, what: str) -> None:
        self.rules.witnessed[what] += 1

    def fail(self, prop: str, text: str) -> NoReturn:
        raise Violation(prop, text)


_TOLD: Final[Mapping[type[object], Callable[[_Turn, Any], None]]] = {
    SessionOpened: _Turn.opened,
    SessionClosed: _Turn.ended,
    SessionExpired: _Turn.expired,
    Published: _Turn.given,
    MessageReceived: _Turn.message,
    SubscriberLagged: _Turn.lagged,
}
_SENT: Final[Mapping[str, Callable[[_Turn, Connection, Frame], None]]] = {
    "event": _Turn.event,
    "replay": _Turn.event,
    "skip": _Turn.skip,
    "snapshot": _Turn.snapshot,
    "caught_up": _Turn.standing,
    "ping": _Turn.standing,
    "message_ack": _Turn.ack,
    "response": _Turn.ack,
    "going_away": _Turn.sent_away,
}

"""P4: every welcome and every rejection is what the decision table says, for the true reason.

Spec: The welcome (the decision table); Versions; The handshake; Version 1.
"""

from collections import Counter
from typing import Any, Final

from attrs import evolve

from gatewayproto.actions import (
    CloseConnection,
    GatewayEvent,
    JoinRequested,
    SubscriberJoined,
)
from gatewayproto.errors import ERRORS, ErrorCode
from gatewayproto.inputs import (
    Accept,
    ChangeEpoch,
    ConnectionOpened,
    Drain,
    FrameReceived,
    Reject,
    SnapshotReady,
    TimerExpired,
)
from gatewayproto.testing.monitors.base import EPSILON
from gatewayproto.testing.monitors.book import Book, Connection, Session
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.handshakes import UNREADABLE, Handshake, read_handshake
from gatewayproto.testing.monitors.wire import REJECTIONS, WELCOMES, Frame, is_off, read
from gatewayproto.testing.reference import Asked, Decided, Known, decide
from gatewayproto.testing.steps import Restarted, Step

_OWN_CODES: Final = {"resume": ("since",), "message": ("request_id",)}
"""Fields that do not make their frame malformed."""


class Decision(GatewayMonitor):
    """P4, at the gateway: a welcome resumes if and only if it can, else names the true reason."""

    prop = "P4"
    about = "the welcome resumes if and only if it can, and names the true reason where it cannot"
    needs = frozenset(
        {
            "P4 new session",
            "P4 resumed",
            "P4 session_unknown",
            "P4 epoch_changed",
            "P4 trimmed",
            "P4 requested",
            "P4 version 1",
            "P4 version 2",
            "P4 another principal's session",
        }
    )

    def __init__(self, witnessed: Counter[str], book: Book) -> None:
        super().__init__(witnessed, book)
        self._handshakes: dict[int, Handshake] = {}
        self._accepted: dict[int, Accept] = {}
        self._joined: SubscriberJoined | None = None
        self._rejected: dict[int, set[str]] = {}
        self._answered: set[int] = set()
        self._known: tuple[Session | None, Known | None] = None, None
        self._full = False
        self._now = 0.0

    def begin(self, step: Step) -> None:
        """Remember what the decision depends on, as of now."""
        self._rejected.clear()
        self._answered.clear()
        self._joined = None
        self._now = step.now
        self._full = len(self.book.connections) >= self.config.max_connections
        match step.input:
            case Restarted():
                self._handshakes.clear()
                self._accepted.clear()
            case Accept(connection=number):
                self._accepted[number] = step.input
            case FrameReceived(connection=number, data=data):
                connection = self.book.connections.get(number)
                handshake = read_handshake(data, self.config)
                if connection is not None and handshake is not None and _may_ask(connection):
                    self._handshakes[number] = handshake
            case _:
                pass

    def end(self, step: Step) -> None:
        """An answer to the handshake is there, where one is due."""
        match step.input:
            case FrameReceived(connection=number) if step.raised is None:
                self._check_asked(step, number)
            case Accept(connection=number) if step.raised is None:
                connection = self.book.connections.get(number)
                if connection is not None and connection.stage != "live":
                    self._check_waits(connection)
                    self.saw("welcome waits")
            case SnapshotReady() | ChangeEpoch() if step.raised is None and self._are_woken(
                step.input
            ):
                for connection in self._waiting(step.input.session_id):
                    self._check_waits(connection)
                    self.saw("welcome waits longer")
            case _:
                pass
        for session_id in self.book.given_up:
            for connection in self._waiting(session_id):
                self.fail(f"{connection} waits for a state that nobody builds")
        joined = None if self._joined is None else self._joined.connection
        # It may be gone in the same breath: what it had not read was too much.
        if joined in self.book.connections and joined not in self._answered:
            self.fail(f"connection {joined} joined without a welcome")

    def _are_woken(self, command: SnapshotReady | ChangeEpoch) -> bool:
        """Whether those who wait look again: a state of a former epoch is none."""
        session = self.book.sessions.get(command.session_id)
        if session is None or isinstance(command, ChangeEpoch):
            return session is not None
        return command.epoch == session.epoch

    def _waiting(self, session_id: str) -> list[Connection]:
        return [
            each
            for each in self.book.connections.values()
            if each.awaits is not None and each.awaits.session_id == session_id
        ]

    def _check_waits(self, connection: Connection) -> None:
        """A welcome waits where a snapshot leaves with it that the application has to build."""
        handshake = self._handshakes.get(connection.number)
        accept = self._accepted.get(connection.number)
        if handshake is None or handshake.asked is None or accept is None:
            self.fail(f"{connection} waits without a handshake that was accepted")
        expected, session = self._expected(handshake, handshake.asked, accept, None)
        if session is None or not self.config.application_snapshots or expected.reason is None:
            self.fail(f"{connection} was accepted and got neither welcome nor rejection")
        usable = session.usable(_least(session, handshake.asked, expected))
        if usable is not None:
            self.fail(f"{connection} is not welcomed, though there is a state as of {usable}")
        if session.question is None:
            self.fail(f"{connection} waits for a state that nobody was asked for")

    def told(self, step: Step, event: GatewayEvent) -> None:
        """The application is asked only for what may be accepted."""
        match event:
            case JoinRequested(connection=number):
                handshake = self._handshakes.get(number)
                if handshake is None or handshake.asked is None:
                    code = None if handshake is None else handshake.code
                    self.fail(f"connection {number} asks to join; it must be told {code}")
                asked = handshake.asked
                said = (event.agent_id, event.protocol_version)
                if said != (asked.agent_id, asked.version):
                    self.fail(f"the application is told {said} of {asked}")
            case SubscriberJoined():
                self._joined = event
            case _:
                pass

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """Judge a welcome or a rejection; nothing else goes before the welcome."""
        if connection.stage == "live":
            return
        if frame["type"] in WELCOMES and connection.stage in {"joining", "preparing"}:
            self._welcome(step, connection, frame)
            self._answered.add(connection.number)
        elif frame["type"] in REJECTIONS:
            self._reject(step, connection, frame)
        else:
            self.fail(f"{connection} is sent `{frame['type']}` while it is {connection.stage}")

    def closed(self, step: Step, connection: Connection, close: CloseConnection) -> None:
        """A rejection closes with the code of its error."""
        codes = self._rejected.pop(connection.number, None)
        if codes is None:
            return
        if close.code not in {ERRORS[ErrorCode(code)].close_code for code in codes}:
            self.fail(f"{connection} is rejected as {sorted(codes)}, closed with {close.code}")

    # -- the welcome --------------------------------------------------------------------------

    def _welcome(self, step: Step, connection: Connection, frame: Frame) -> None:
        handshake = self._handshakes.get(connection.number)
        accept = self._accepted_by(step, connection)
        if handshake is None or handshake.asked is None or accept is None:
            self.fail(f"{connection} is welcomed without a handshake that was accepted")
        expected, session = self._expected(handshake, handshake.asked, accept, frame)
        if expected.rejected is not None:
            self.fail(f"{connection} is welcomed; it must be rejected as {expected.rejected}")
        if session is not None and expected.reason is not None:
            epoch = frame.get("epoch") or str(frame.get("session_id")).partition(".")[2]
            expected = self._as_built(connection, session, handshake.asked, expected, epoch)
        if session is None:
            session = connection.session
        if session is None:
            self.fail(f"{connection} is welcomed to a session that nobody was told of")
        self._check_welcome(connection, handshake, expected, session, frame)
        self._check_told(connection, expected)
        self.saw(expected.reason or ("resumed" if expected.resumed else "new session"))
        self.saw(f"version {handshake.asked.version}")

    def _accepted_by(self, step: Step, connection: Connection) -> Accept | None:
        """What lets a connection in: now, or formerly where it had to wait."""
        match step.input:
            case Accept():
                return step.input
            case SnapshotReady() | ChangeEpoch() if connection.stage == "preparing":
                self.saw("welcome waited")
                return self._accepted.get(connection.number)
            case _:
                return None

    def _as_built(
        self,
        connection: Connection,
        session: Session,
        asked: Asked,
        expected: Decided,
        epoch: str,
    ) -> Decided:
        """The sequence is the cursor of the snapshot that leaves with the welcome."""
        if not self.config.application_snapshots:
            return expected
        usable = session.usable(_least(session, asked, expected), epoch)
        if usable is None:
            self.fail(f"{connection} is welcomed, and there is no state for its snapshot")
        if usable < session.ledger.cursor:
            self.saw("sequence behind the head")
        return evolve(expected, sequence=usable)

    def _expected(
        self, handshake: Handshake, asked: Asked, accept: Accept, frame: Frame | None
    ) -> tuple[Decided, Session | None]:
        """What the table says, and the session that was found."""
        session = self.book.sessions.get(handshake.session_id or "")
        if session is not None and session.is_over:
            self.saw("closed session over")
            session = None
        if session is not None and session.principal != accept.principal:
            self.saw("another principal's session")
            session = None
        if session is None:
            return decide(asked, None), None
        epoch = session.epoch
        if epoch is None and frame is not None:  # the welcome is the first to name it
            epoch = frame.get("epoch") or str(frame.get("session_id")).partition(".")[2]
        known = Known(
            agent_id=session.agent_id,
            epoch=epoch or "",
            cursor=session.ledger.cursor,
            oldest_cursor=session.ledger.oldest(asked.version),
        )
        return decide(asked, known), session

    def _check_welcome(
        self,
        connection: Connection,
        handshake: Handshake,
        expected: Decided,
        session: Session,
        frame: Frame,
    ) -> None:
        asked = handshake.asked
        assert asked is not None
        head = session.ledger.cursor
        fields: dict[str, Any] = {
            "type": "hello_ok" if handshake.kind == "hello" else "joined",
            "protocol_version": asked.version,
            "agent_id": session.agent_id,
            "server_min_version": self.config.versions.minimum,
            "server_max_version": self.config.versions.maximum,
            "resumed": expected.resumed,
            "resync_required": expected.reason is not None,
            "resync_reason": expected.reason,
            "sequence": expected.sequence,
            "oldest_cursor": session.ledger.oldest(asked.version),
        }
        if asked.version == 1:
            goes_on = expected.reason is None
            held = asked.since if expected.reason == "trimmed" else 0
            epoch = session.epoch or str(frame.get("session_id")).partition(".")[2]
            fields["cursor"] = expected.sequence if goes_on else held
            fields["head"] = head
            fields["session_id"] = f"{session.session_id}.{epoch}"
            fields["epoch"] = None
        else:
            fields["cursor"] = head
            fields["session_id"] = session.session_id
            fields["epoch"] = session.epoch or frame.get("epoch")
        for name, value in fields.items():
            if frame.get(name) != value:
                self.fail(
                    f"the welcome of {connection}, which asked for {asked}, has"
                    f" {name} {frame.get(name)!r}, not {value!r}: the session stands at {head},"
                    f" oldest_cursor {session.ledger.oldest(asked.version)}, {session.epoch}"
                )

    def _check_told(self, connection: Connection, expected: Decided) -> None:
        joined = self._joined
        if joined is None:
            self.fail(f"{connection} is welcomed and the application is not told")
        said = (joined.resumed, joined.resync_reason, joined.sequence)
        if said != (expected.resumed, expected.reason, expected.sequence):
            self.fail(f"the application is told {said} of {connection}, which gets {expected}")

    # -- rejections ---------------------------------------------------------------------------

    def _reject(self, step: Step, connection: Connection, frame: Frame) -> None:
        handshake = self._handshakes.get(connection.number)
        allowed = self._due(step, connection, handshake)
        spelled: dict[str, set[str]] = {}
        for due in allowed:
            word = due if handshake is None else handshake.spelled(due)
            spelled.setdefault(word, set()).add(due)
        kind = "hello_error" if handshake is not None and handshake.kind == "hello" else "error"
        # What came without a readable handshake is answered in the words of nobody in particular.
        if frame["type"] not in {kind, "error"} or frame.get("code") not in spelled:
            self.fail(
                f"{connection} is rejected by a {frame['type']} {frame.get('code')};"
                f" due is {kind} with one of {sorted(spelled)}"
            )
        codes = self._rejected[connection.number] = spelled[frame["code"]]
        self._answered.add(connection.number)
        self.saw("rejection")
        if codes == {"version_unsupported"}:
            server = self.config.versions
            said = (frame.get("server_min_version"), frame.get("server_max_version"))
            if said != (server.minimum, server.maximum):
                self.fail(f"a rejection names the versions {said} and not the server's")

    def _due(  # noqa: PLR0911 -- one for each kind of input
        self, step: Step, connection: Connection, handshake: Handshake | None
    ) -> set[str]:
        """The codes of the rejections that are due."""
        match step.input:
            case Drain() | ConnectionOpened() if self.book.drained is not None:
                return {"going_away"}
            case ConnectionOpened() if self._full or self.book.turned_away is not None:
                return {"rate_limited"}
            case TimerExpired() if connection.stage == "opening":
                late = step.now >= connection.opened + self.config.handshake_timeout - EPSILON
                return {"handshake_timeout"} if late else set()
            case TimerExpired() | SnapshotReady() if connection.awaits is not None:
                over = connection.awaits.session_id in self.book.given_up
                return {"internal_error"} if over else set()
            case Reject(code=code):
                return {str(code)}
            case Accept() if handshake is not None and handshake.asked is not None:
                return self._refused(handshake, handshake.asked, step.input)
            case FrameReceived() if connection.flood is not None:
                return {"rate_limited"}
            case FrameReceived(data=data):
                return self._misread(connection, data, handshake)
            case _:
                return set()

    def _refused(self, handshake: Handshake, asked: Asked, accept: Accept) -> set[str]:
        expected, session = self._expected(handshake, asked, accept, None)
        if expected.rejected is not None:
            return {expected.rejected}
        if session is not None:
            return set()
        if len(self.book.sessions) >= self.config.max_sessions:
            return {"rate_limited"}
        wait = self.book.sessions_of(accept.principal, accept.connection).wait(self._now)
        self.book.turned_away = wait
        if wait is None:
            return set()
        self.witnessed["P9 too many sessions of one owner"] += 1
        return {"rate_limited"}

    def _misread(
        self, connection: Connection, data: bytes, handshake: Handshake | None
    ) -> set[str]:
        codes: set[str] = set()
        frame = read(data)
        if handshake is not None and handshake.code is not None and connection.stage == "opening":
            codes.add(handshake.code)
        elif handshake is not None and self.book.turned_away is not None:
            codes.add("rate_limited")
            self.witnessed["P9 too many handshakes from one address"] += 1
        if frame is None:
            codes |= UNREADABLE
        elif is_off(frame, *_OWN_CODES.get(frame["type"], ())):
            codes.add("malformed_frame")
        if len(data) > self.config.max_payload:
            codes.add("payload_too_large")
        if connection.held > self.config.answer_window:
            codes.add("rate_limited")
        return codes

    def _check_asked(self, step: Step, number: int) -> None:
        """A handshake that can be read is asked about; one that cannot is rejected."""
        connection = self.book.connections.get(number)
        handshake = self._handshakes.get(number)
        if connection is None or handshake is None or connection.stage != "opening":
            return
        data = getattr(step.input, "data", b"")
        if read_handshake(data, self.config) is not None:
            due = handshake.code or "the application's decision"
            self.fail(f"{connection} sent a handshake; due is {due}, and nothing came of it")


def _least(session: Session, asked: Asked, expected: Decided) -> int:
    """How new a state must be to leave with a welcome: it takes the client nowhere back."""
    floor = session.ledger.oldest(asked.version) - 1
    keeps = expected.reason in {"trimmed", "requested"}
    return max(floor, asked.since) if keeps else floor


def _may_ask(connection: Connection) -> bool:
    """Whether a handshake that comes now is one, and not one too many."""
    return connection.stage == "opening" or (connection.stage == "live" and connection.version == 1)

"""P14: what happens in one session is seen in no other, and a session is its owner's alone.

Spec: Terms; The welcome; The decision table.
"""

from collections import Counter

from gatewayproto.actions import CloseConnection, GatewayEvent, SubscriberJoined, SubscriberLeft
from gatewayproto.inputs import (
    Accept,
    Activity,
    ChangeEpoch,
    CloseSession,
    Complete,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    FrameReceived,
    Publish,
    Reject,
    SetHealth,
    SnapshotReady,
)
from gatewayproto.testing.monitors.book import Book, Connection
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.wire import WELCOMES, Frame
from gatewayproto.testing.steps import Restarted, Step


class Isolation(GatewayMonitor):
    """P14, at the gateway: an input is heard by its own connection or session alone."""

    prop = "P14"
    about = "sessions do not see each other, and nobody learns of another principal's"
    needs = frozenset({"P14 two sessions", "P14 two principals", "P14 shared session"})

    def __init__(self, witnessed: Counter[str], book: Book) -> None:
        super().__init__(witnessed, book)
        self._connection: int | None = None
        self._session: str | None = None
        self._nobody = False

    def begin(self, step: Step) -> None:
        """Whom an input may concern."""
        self._connection, self._session, self._nobody = None, None, False
        match step.input:
            case (
                ConnectionOpened(connection=number)
                | FrameReceived(connection=number)
                | Activity(connection=number)
                | Drained(connection=number)
                | ConnectionClosed(connection=number)
                | Accept(connection=number)
                | Reject(connection=number)
            ):
                self._connection = number
            case (
                Publish(session_id=session_id)
                | ChangeEpoch(session_id=session_id)
                | CloseSession(session_id=session_id)
                | SnapshotReady(session_id=session_id)
            ):
                self._session = session_id
                if len(self.book.sessions) > 1:
                    self.saw("two sessions")
            case SetHealth() | Complete() | Restarted():
                self._nobody = True
            case _:
                pass

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """A frame goes to those whom the input concerns, and tells of their session only."""
        session = connection.session or connection.awaits
        if self._nobody or self._connection not in {None, connection.number}:
            self.fail(f"{connection} gets {frame} for {step.input}")
        follows = None if session is None else session.session_id
        if self._session not in {None, follows}:
            self.fail(f"{connection} follows session {follows} and gets {frame}")
        if frame["type"] in WELCOMES:
            self._welcome(connection, frame)
        if frame["type"] not in {"event", "replay", "snapshot"}:
            self._no_other(connection, frame, data)

    def closed(self, step: Step, connection: Connection, close: CloseConnection) -> None:
        """Nobody is closed for what another did."""
        session = connection.session or connection.awaits
        follows = None if session is None else session.session_id
        other = self._connection not in {None, connection.number}
        if self._nobody or other or self._session not in {None, follows}:
            self.fail(f"{connection} is closed with {close.code} for {step.input}")

    def _welcome(self, connection: Connection, frame: Frame) -> None:
        session = connection.session
        if session is None:
            return
        if session.principal != connection.principal:
            self.fail(f"{connection}, {connection.principal}, joins {session.principal}'s session")
        ours = {each.client_id for each in self.book.followers(session.session_id)}
        listed = {entry["client_id"] for entry in frame.get("presence") or ()}
        if not listed <= ours or (listed and listed != ours):
            self.fail(f"{connection} is told of {sorted(listed)}; its session has {sorted(ours)}")
        if frame.get("presence_count") != len(ours):
            self.fail(f"{connection} is told of {frame.get('presence_count')}, not {len(ours)}")
        if len(ours) > 1:
            self.saw("shared session")
        if len({each.principal for each in self.book.sessions.values()}) > 1:
            self.saw("two principals")

    def _no_other(self, connection: Connection, frame: Frame, data: bytes) -> None:
        """No id of a session that this client does not own, but where it named it itself."""
        asked = str(connection.hello.get("session_id", ""))
        for session_id, session in self.book.sessions.items():
            mine = connection.session is session or asked.startswith(session_id)
            if mine or session_id.encode() not in data:
                continue
            if any(_holds(value, session_id) for value in frame.values()):
                self.fail(f"{connection} is told of session {session_id}: {frame}")

    def told(self, step: Step, event: GatewayEvent) -> None:
        """The application is told of the session that is concerned."""
        match event:
            case SubscriberJoined(connection=number) | SubscriberLeft(connection=number):
                if self._connection not in {None, number}:
                    self.fail(f"{event} for {step.input}")
            case _:
                pass


def _holds(value: object, session_id: str) -> bool:
    """Whether a field names a session, in either form of its id."""
    return isinstance(value, str) and value.partition(".")[0] == session_id

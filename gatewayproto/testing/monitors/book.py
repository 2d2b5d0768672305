"""What a gateway published and whom it serves, as its inputs and actions tell.

The book is kept from steps alone: sessions by what the application was told, what was published by
`Publish` and its `Published`, epochs by the welcomes and snapshots that name them, connections by
what came and went on them. Monitors are given it as of before what they judge.

Spec: Terms; The handshake; Delivery.
"""

from typing import Final

from attrs import define, field, frozen

from gatewayproto.config import GatewayConfig
from gatewayproto.frames import DEFAULT_MAX_PAYLOAD, Event
from gatewayproto.inputs import ConnectionOpened, Drain, FrameReceived
from gatewayproto.projection import Projection, Transcript
from gatewayproto.testing.monitors.allowance import Allowance
from gatewayproto.testing.monitors.wire import HANDSHAKES, Frame, read_loosely
from gatewayproto.testing.reference import Fold, Ledger, Plain

_STATES_KEPT: Final = 8


@define(eq=False)
class Folded:
    """The state of a session at any cursor that a snapshot may have."""

    config: GatewayConfig
    at: int = 0
    _fold: Fold | Projection | None = None
    _states: dict[int, Plain] = field(factory=dict)

    def state(self, log: list[Event], cursor: int) -> Plain:
        """The fold of the log up to `cursor`."""
        found = self._states.get(cursor)
        if found is None:
            found = self._states[cursor] = self._make(log, cursor)
            while len(self._states) > _STATES_KEPT:
                del self._states[next(iter(self._states))]
        return found

    def _make(self, log: list[Event], cursor: int) -> Plain:
        if self._fold is None or cursor < self.at:
            self._fold, self.at = new_fold(self.config), 0
        for seq in range(self.at + 1, cursor + 1):
            self._fold.apply(seq, log[seq - 1])
        self.at = cursor
        return self._fold.state()


def new_fold(config: GatewayConfig) -> Fold | Projection:
    """A reducer of one's own: the reference's of the transcript, else another of the same kind."""
    return Fold() if config.projection is Transcript else config.projection()


@frozen
class Question:
    """What the application was asked for: a state of this epoch, `asked` at a time in seconds."""

    epoch: str
    cursor: int
    attempt: int
    asked: float


@define(eq=False)
class Session:
    """A session that the application was told of.

    `epoch` is None until one was named since it began or broke; `past` are those that it had.
    `idle_since` is when its last follower left; None while there is one, or somebody is about to
    be one. `closed_at` is when the application closed it, `is_over` whether its window has passed
    since then. Where the application builds the states, `question` is what it was asked for and
    has not answered, and `built` the cursor of the newest state that it gave of this epoch;
    `early` are those that it gave while the epoch had no name yet, by what they named.
    """

    session_id: str
    agent_id: str
    principal: str | None
    ledger: Ledger
    folded: Folded
    epoch: str | None = None
    past: set[str] = field(factory=set)
    idle_since: float | None = None
    closed_at: float | None = None
    is_over: bool = False
    question: Question | None = None
    built: int | None = None
    early: dict[str, int] = field(factory=dict)

    def copy(self) -> "Session":
        """As it is now, to come back to."""
        return Session(
            self.session_id,
            self.agent_id,
            self.principal,
            self.ledger.copy(),
            Folded(self.folded.config),
            self.epoch,
            set(self.past),
            self.idle_since,
            self.closed_at,
            self.is_over,
        )

    def usable(self, least: int, epoch: str | None = None) -> int | None:
        """The cursor of the state that the application gave, if it is as of `least` or later.

        `epoch` is what the epoch turns out to be, where nobody had named it.
        """
        built = self.early.get(epoch or "") if self.epoch is None else self.built
        return built if built is not None and built >= least else None

    def break_epoch(self) -> None:
        """Its numbering cannot be proved to have gone on."""
        if self.epoch is not None:
            self.past.add(self.epoch)
        self.epoch = self.question = self.built = None
        self.early.clear()


@define(eq=False)
class Connection:
    """One connection of the gateway.

    - `stage`: `opening`, `joining` while the application decides, `preparing` while the welcome
      waits for a state of the session that it `awaits`, `live`.
    - `hello`: the handshake that is being decided, or was.
    - `limit`: the largest frame that the client takes, in bytes.
    - `outstanding`: bytes that its transport has not taken; `pings` of them our own pings; `own`
      of them by delivery's doing; `owed_since` when it last took some or was first owed some.
    - `sign`, `sign_at_most`: when the peer last gave a sign of life, by `Activity` and by frames.
    - `expires`: when its credentials do, as the application said last.
    - `held`: what the answers that wait for the welcome take at most, in bytes.
    - `frames`, `recoveries`: what it may still send by its rates; `flood`, `refused`: the seconds
      that it would have had to wait with the frame of this step, and with the recovery in it.
    """

    number: int
    opened: float
    stage: str = "opening"
    hello: Frame = field(factory=dict)
    version: int = 0
    session: Session | None = None
    awaits: Session | None = None
    principal: str | None = None
    client_id: str = ""
    limit: int = DEFAULT_MAX_PAYLOAD
    outstanding: int = 0
    pings: int = 0
    own: int = 0
    owed_since: float = 0.0
    sign: float = 0.0
    sign_at_most: float = 0.0
    pinged: float = 0.0
    expires: float | None = None
    held: int = 0
    address: str = ""
    frames: Allowance = field(factory=lambda: Allowance(None))
    recoveries: Allowance = field(factory=lambda: Allowance(None))
    flood: float | None = None
    refused: float | None = None

    def __str__(self) -> str:
        return f"connection {self.number}"


@define(eq=False)
class Life:
    """What was published in one epoch: L of the properties."""

    session_id: str
    log: list[Event]
    ledger: Ledger
    folded: Folded


@define(eq=False)
class DrainState:
    """A gateway that sends its clients away, until `ends`; `finished` once that was told."""

    command: Drain
    ends: float
    finished: bool = False


@define(eq=False)
class Book:
    """Everything that is known of a gateway.

    `last` is the number of the newest connection; one that is not in `connections` is closed.
    `deadline` is the machine's; nobody knows it of one that is fresh from a restart.
    `lives` has what was published, by epoch; `breaks` how often the numbering of a session was
    broken, so that its clients must start over. `answered` is the question that this step's
    input answers; `given_up` are the sessions for which the application is asked no more.
    `flooded` is the connection that sends one frame too many in this step; `turned_away` the
    seconds that a connection, a handshake or a session comes too early.
    """

    config: GatewayConfig
    sessions: dict[str, Session] = field(factory=dict)
    connections: dict[int, Connection] = field(factory=dict)
    lives: dict[str, Life] = field(factory=dict)
    breaks: dict[str, int] = field(factory=dict)
    last: int = 0
    deadline: float | None = None
    is_fresh: bool = False
    saved: dict[str, Session] | None = None
    saved_at: float = 0.0
    drained: DrainState | None = None
    answered: Question | None = None
    given_up: set[str] = field(factory=set)
    flooded: int | None = None
    turned_away: float | None = None
    _allowances: dict[tuple[str, str], Allowance] = field(factory=dict)

    def followers(self, session_id: str) -> list[Connection]:
        """The welcomed connections of a session."""
        return [
            connection
            for connection in self.connections.values()
            if connection.session is not None and connection.session.session_id == session_id
        ]

    def is_followed(self, session: Session) -> bool:
        """Whether somebody is welcomed to a session, or waits to be."""
        return any(session in (each.session, each.awaits) for each in self.connections.values())

    # -- rates --------------------------------------------------------------------------------

    def count(self, input_: object, now: float) -> None:
        """Count an input by the rates that it falls under."""
        self.flooded = self.turned_away = None
        match input_:
            case ConnectionOpened(address=address):
                wait = self._allowance("connection", address).take(now)
                if len(self.connections) < self.config.max_connections:
                    self.turned_away = wait
            case FrameReceived(connection=number, data=data) if number in self.connections:
                connection = self.connections[number]
                connection.refused, connection.flood = None, connection.frames.take(now)
                if connection.flood is not None:
                    self.flooded = number
                elif self._is_handshake(connection, data):
                    self.turned_away = self._allowance("handshake", connection.address).take(now)
            case _:
                pass

    def _is_handshake(self, connection: Connection, data: bytes) -> bool:
        begins_anew = connection.stage == "live" and connection.version == 1
        if not (connection.stage == "opening" or begins_anew):
            return False
        frame = read_loosely(data) if len(data) <= self.config.max_payload else None
        return frame is not None and frame["type"] in HANDSHAKES

    def sessions_of(self, principal: str | None, connection: int) -> Allowance:
        """How many sessions the owner may open: a principal, or else an address."""
        if principal is not None:
            return self._allowance("session", f"principal {principal}")
        address = self.connections[connection].address if connection in self.connections else ""
        return self._allowance("session", f"address {address}" if address else "")

    def _allowance(self, kind: str, key: str) -> Allowance:
        rates = {
            "connection": self.config.connection_rate,
            "handshake": self.config.handshake_rate,
            "session": self.config.session_rate,
        }
        if not key:
            return Allowance(None)
        return self._allowances.setdefault((kind, key), Allowance(rates[kind]))

    # -- states that the application builds ---------------------------------------------------

    def take_built(self, session: Session, epoch: str, cursor: int) -> None:
        """The application gave a state, in answer to a question or unasked."""
        if session.epoch is None:
            session.early[epoch] = max(cursor, session.early.get(epoch, 0))
        if epoch != session.epoch:
            return
        session.built = max(cursor, session.built or 0)
        self.answered, session.question = session.question, None
        if self.answered is not None and self.answered.attempt >= self.config.max_snapshot_tries:
            self.given_up.add(session.session_id)

    def expire_questions(self, now: float) -> None:
        """Time has passed: what was not answered by now is not waited for."""
        for session in self.sessions.values():
            question = session.question
            if question is not None and now >= question.asked + self.config.snapshot_timeout:
                session.question = None
                self.given_up.add(session.session_id)

    # -- sessions -----------------------------------------------------------------------------

    def open_session(self, session_id: str, agent_id: str, principal: str | None) -> None:
        """A session began."""
        ledger, folded = Ledger.of(self.config), Folded(self.config)
        self.sessions[session_id] = Session(session_id, agent_id, principal, ledger, folded)

    def name_epoch(self, session: Session, epoch: str) -> None:
        """The epoch of a session was named."""
        if session.epoch is None:
            session.epoch, session.built = epoch, session.early.get(epoch)
        if session.epoch == epoch:
            self.lives[epoch] = Life(
                session.session_id, session.ledger.log, session.ledger, session.folded
            )

    def break_epoch(self, session: Session) -> None:
        """A session's numbering is broken; what its epoch was stays what it was."""
        self.breaks[session.session_id] = self.breaks.get(session.session_id, 0) + 1
        if session.epoch is not None and session.epoch in self.lives:
            session.ledger, session.folded = session.ledger.copy(), Folded(self.config)
        session.break_epoch()

    def drain(self, command: Drain, now: float) -> None:
        """Clients are sent away; again, it can only be sooner."""
        ends = now + command.grace
        if self.drained is None:
            self.drained = DrainState(command, ends)
        else:
            self.drained.ends = min(self.drained.ends, ends)

    def note_windows(self, now: float) -> None:
        """A timer was handled: the windows that have passed are over."""
        for session in self.sessions.values():
            if session.closed_at is not None:
                session.is_over = now >= session.closed_at + self.config.resume_window

    def restart(self, kind: str, now: float) -> None:
        """The process died and came back."""
        self.drained = None
        before = self.sessions
        self.connections.clear()
        self._allowances.clear()
        self.last = 0
        match kind:
            case "copy":
                kept = {} if self.saved is None else self.saved
                self.sessions = {session_id: old.copy() for session_id, old in kept.items()}
            case "nothing":
                self.sessions = {}
            case _:
                pass
        for session_id, session in before.items():
            if self.sessions.get(session_id) is not session:
                self.breaks[session_id] = self.breaks.get(session_id, 0) + 1
                again = self.sessions.get(session_id)
                if again is not None and session.epoch is not None:
                    again.past |= {session.epoch, *session.past}
        for session in self.sessions.values():
            session.idle_since = now
            if session.closed_at is not None:
                session.closed_at, session.is_over = now, False
            session.question = None
            if kind != "whole":
                self.break_epoch(session)

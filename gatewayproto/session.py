"""One session: its journal, its projection and its inbox, and their plain data.

A session knows nothing of connections. Who follows it, and how far each has got, is in
`gatewayproto.delivery` and `gatewayproto.subscribers`.

Spec: Terms; Snapshots; Requests.
"""

from collections.abc import Set as AbstractSet

from attrs import define, field, frozen

from gatewayproto import codec
from gatewayproto.config import GatewayConfig
from gatewayproto.errors import FrameError, LocalProtocolError
from gatewayproto.frames import MAX_DEPTH, MAX_INT, Event, Object
from gatewayproto.journal import Entry, Journal, Retention
from gatewayproto.ledger import EpochGiven, EventGiven, Ledger, Sealing
from gatewayproto.projection import Projection
from gatewayproto.requests import Inbox

_DEPTH_AROUND_DATA = 4
"""Levels around an event's `data` where it is deepest: frame, state, messages, message."""


@frozen
class State:
    """A session's state as of `cursor`, encoded once for all who need it."""

    cursor: int
    body: bytes = field(repr=False)
    _plain: Object | None = field(default=None, repr=False)

    def plain(self) -> Object:
        """The state as plain JSON data, to be read only."""
        if self._plain is not None:
            return self._plain
        return codec.parse_state(self.body, max_bytes=len(self.body))


@define
class Wanted:
    """A state that the application is to build. `asked`: it has not answered yet."""

    attempt: int = 0
    asked: bool = False
    exhausted: bool = False


@define(eq=False)
class Session:
    """One ordered stream of events between an agent and its clients.

    `state_size` is the encoded size of the state, in bytes, when it was last asked for. Where the
    application builds the states there is no `projection`: `built` is its newest, if it still is of
    this epoch, and `wanted` what it was asked for. A session that is `sealed` was closed by the
    application: its cursor stays where it is. `ledger` is what waits to be stored, where the
    gateway writes ahead: journal and projection hold only what is stored, the inbox also what
    waits.
    """

    session_id: str
    epoch: str
    agent_id: str
    principal: str | None
    journal: Journal
    projection: Projection | None
    inbox: Inbox
    ledger: Ledger | None = None
    state_size: int = 0
    built: State | None = None
    wanted: Wanted | None = None
    sealed: bool = False
    _state: State | None = None

    @classmethod
    def create(
        cls,
        config: GatewayConfig,
        *,
        session_id: str,
        epoch: str,
        agent_id: str,
        principal: str | None,
    ) -> "Session":
        """A session without a past."""
        return cls(
            session_id,
            epoch,
            agent_id,
            principal,
            Journal(_retention(config)),
            None if config.application_snapshots else config.projection(),
            Inbox(
                ttl=config.request_ttl,
                max_pending=config.max_pending_requests,
                recorded=config.write_ahead,
            ),
            Ledger.create(config, epoch),
        )

    def append(self, encoded: "Encoded") -> Entry:
        """Give an event, checked by `encode_published`, the next seq and fold it in."""
        event = encoded.event
        entry = self.journal.append(event, encoded.body)
        if self.projection is not None:
            self.projection.apply(entry.seq, event)
            self._state = None
        if event.expects_reply:
            self.inbox.ask(event.event_id)
        return entry

    @property
    def cursor(self) -> int:
        """The newest seq given, also to events that wait to be stored."""
        return self.journal.cursor if self.ledger is None else self.ledger.cursor

    @property
    def is_closed(self) -> bool:
        """Whether the application closed it, be that stored or not."""
        return self.sealed or (self.ledger is not None and self.ledger.sealed)

    @property
    def is_opened(self) -> bool:
        """Whether the application was told of it: not before it is stored."""
        return self.ledger is None or self.ledger.opened

    @property
    def has_early_state(self) -> bool:
        """Whether the application built a state that holds what is not stored yet."""
        return self.built is not None and self.built.cursor > self.journal.cursor

    @property
    def open_runs(self) -> AbstractSet[str]:
        """The runs that wait for their final, as of that seq."""
        return self.journal.open_runs if self.ledger is None else self.ledger.open_runs

    def received(self, message_id: int) -> bool:
        """Tell whether the application was told of a message that is in the inbox."""
        return self.ledger is None or message_id <= self.ledger.received

    def settle(self) -> None:
        """Count as stored what waits to be, and tell nobody."""
        for _, effect in self.ledger.waiting if self.ledger is not None else ():
            match effect:
                case EventGiven():
                    self.append(Encoded(effect.body, effect.event))
                    self.journal.trim()
                case EpochGiven():
                    self.begin_epoch(effect.epoch)
                case Sealing():
                    self.sealed = True
                case _:
                    pass

    def restart(
        self,
        config: GatewayConfig,
        *,
        given: int,
        base: int | None = None,
        whole: int = 0,
        unwritten: bool = False,
    ) -> None:
        """Go on in a new process, with nothing that waits and nobody who does.

        `given` is the number of the latest record; the others are those of `Ledger`.
        """
        self.ledger = Ledger.create(config, self.epoch)
        if self.ledger is not None:
            self.ledger.given = self.ledger.stored = given
            self.ledger.base, self.ledger.whole = base, whole
            self.ledger.unwritten = unwritten
            self.ledger.cursor = self.journal.cursor
            self.ledger.open_runs = set(self.journal.open_runs)
            self.ledger.opened, self.ledger.received = True, self.inbox.last_id

    def stop_answering(self, connection: int) -> None:
        """A connection no longer waits for the store, if it ever did."""
        if self.ledger is not None:
            self.ledger.answering.pop(connection, None)

    def state(self, least: int) -> State | None:
        """A state as of `least` or later; None where the application has to build it.

        What a projection gives is as of the head.
        """
        if self.projection is None:
            built = self.built
            usable = built is not None and least <= built.cursor <= self.journal.cursor
            return built if usable else None
        if self._state is None:
            state = self.projection.state()
            self._state = State(self.journal.cursor, codec.encode_object(state), state)
            self.state_size = len(self._state.body)
        return self._state

    def expected_size(self) -> int:
        """About how many bytes the next state takes; 0 before the application built any."""
        if self.state_size == 0:
            self.state(self.journal.cursor)
        return self.state_size

    def take_built(self, state: State) -> None:
        """Take a state of this epoch that the application built, unless there is a newer one."""
        if self.built is None or self.built.cursor <= state.cursor:
            self.built = state
            self.state_size = len(state.body)

    def begin_epoch(self, epoch: str) -> None:
        """Go on under a new epoch: what was built under the former one is of no use."""
        self.epoch = epoch
        self.built = self.wanted = None

    def floor(self, version: int) -> int:
        """The highest seq that cannot be accounted for to a client of this version."""
        return self.journal.floor_v1 if version == 1 else self.journal.floor

    # -- plain data ---------------------------------------------------------------------------

    def to_state(self, now: float) -> Object:
        """Plain JSON data from which `from_state` goes on exactly as this session would."""
        return {
            "session_id": self.session_id,
            "epoch": self.epoch,
            "agent_id": self.agent_id,
            "principal": self.principal,
            "journal": self.journal.to_state(),
            "projection": self.projection and self.projection.state(),
            "inbox": self.inbox.to_state(now),
            "state_size": self.state_size,
            "built": self.built and [self.built.cursor, self.built.body.decode()],
            "wanted": self.wanted and [self.wanted.attempt, self.wanted.asked],
            "sealed": self.sealed,
            "ledger": self.ledger and self.ledger.to_state(),
        }

    @classmethod
    def from_state(cls, config: GatewayConfig, state: Object, now: float) -> "Session":
        """Rebuild a session, with a ledger where it had one. Raises what broken data raises."""
        session = cls.create(
            config,
            session_id=state["session_id"],
            epoch=state["epoch"],
            agent_id=state["agent_id"],
            principal=state["principal"],
        )
        session.journal = Journal.from_state(_retention(config), state["journal"])
        if (state["projection"] is None) != config.application_snapshots:
            raise ValueError("the session was saved with another application_snapshots")
        if session.projection is not None:
            session.projection.load(state["projection"])
        if state["built"] is not None:
            cursor, body = state["built"]
            session.built = State(cursor, body.encode())
        session.wanted = state["wanted"] and Wanted(*state["wanted"])
        session.inbox.load(state["inbox"], now)
        session.state_size = state["state_size"]
        session.sealed = state["sealed"]
        ledger, session.ledger = state["ledger"], None
        if ledger is not None:
            session.ledger = Ledger(config.max_unstored, config.max_unstored_bytes, session.epoch)
            journal = session.journal
            session.ledger.load(ledger, cursor=journal.cursor, open_runs=journal.open_runs)
        return session


@frozen
class Encoded:
    """An event that may be published: its bytes, and a copy that the application cannot change."""

    body: bytes
    event: Event


def encode_published(config: GatewayConfig, session: Session, event: Event) -> Encoded:
    """Check and encode an event that is to be published.

    Raises `LocalProtocolError` for what no client could be sent: data that is no JSON or nests too
    deep, an encoding over `max_event` bytes, a `final` that is transient or names no run, a
    question that is transient, one open run too many, a session whose seqs are used up. Nothing
    has changed then.

    Spec: Framing; Terms.
    """
    try:
        body = codec.encode_event(event, max_depth=MAX_DEPTH - _DEPTH_AROUND_DATA + 1)
        encoded = Encoded(body, codec.decode_event(body))
    except (ValueError, FrameError) as error:
        raise LocalProtocolError(f"the event cannot be sent: {error}") from error
    if len(body) > config.max_event:
        raise LocalProtocolError(f"the event takes {len(body)} bytes, over {config.max_event}")
    if event.final and (event.transient or event.run_id is None):
        raise LocalProtocolError("a final event is durable and names its run")
    if event.expects_reply and event.transient:
        raise LocalProtocolError("an event that expects a reply is durable")
    _check_room(config, session, event)
    return encoded


def _check_room(config: GatewayConfig, session: Session, event: Event) -> None:
    open_runs = session.open_runs
    begins_run = event.transient and event.run_id is not None and event.run_id not in open_runs
    if begins_run and len(open_runs) >= config.max_open_runs:
        raise LocalProtocolError(f"{config.max_open_runs} runs wait for their final event")
    if session.cursor >= MAX_INT:
        raise LocalProtocolError("the session's seqs are used up")


def _retention(config: GatewayConfig) -> Retention:
    return Retention(config.retain, config.retain_transient, config.retain_bytes)

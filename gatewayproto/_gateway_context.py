"""What every connection of one gateway shares: configuration, sessions, deadlines, effects.

Spec: Terms (session ids); Snapshots; the resume window of The welcome.
"""

import math
from collections.abc import Callable
from typing import Final

from attrs import define, field, frozen

from gatewayproto import _gateway_writing as writing
from gatewayproto import codec, records
from gatewayproto._counters import GatewayCounters
from gatewayproto._gateway_effects import Effects
from gatewayproto._timers import Timers
from gatewayproto.actions import SessionClosed, SessionExpired, SessionOpened, SnapshotNeeded
from gatewayproto.config import GatewayConfig
from gatewayproto.delivery import Delivery
from gatewayproto.frames import Health, Object, PresenceEntry
from gatewayproto.ledger import Effect, Opening
from gatewayproto.rates import Buckets
from gatewayproto.session import Session, Wanted
from gatewayproto.subscribers import Subscribers

TimerKey = tuple[str, int | str]
"""What a deadline is for and whose it is: a connection's number or a session's id."""
HEALTH_PUSH: Final[TimerKey] = ("health", "")


@frozen
class Rates:
    """What is counted for more than one connection."""

    connections: Buckets
    handshakes: Buckets
    sessions: Buckets

    @classmethod
    def of(cls, config: GatewayConfig) -> "Rates":
        """Nothing was counted yet."""
        return cls(
            Buckets(config.connection_rate),
            Buckets(config.handshake_rate),
            Buckets(config.session_rate),
        )


@define
class Draining:
    """What a gateway that drains tells newcomers; `finished` once nobody was left."""

    after: float
    finished: bool = False


@define(eq=False)
class Context:
    """The state of a gateway that is no single connection's own.

    `health_pushed` is the version of the health that was pushed last; the next push of it is not
    before `health_not_before`, in seconds on the clock of `now`. `ending` are sessions that have
    expired, by the number of the record that says so, until that is stored.
    """

    config: GatewayConfig
    ids: Callable[[], str]
    counters: GatewayCounters = field(factory=GatewayCounters)
    effects: Effects = field(init=False)
    timers: Timers[TimerKey] = field(factory=Timers)
    sessions: dict[str, Session] = field(factory=dict)
    subscribers: dict[str, Subscribers] = field(factory=dict)
    health: Object = field(factory=dict)
    health_version: int = 0
    health_pushed: int = 0
    health_not_before: float = -math.inf
    _health_frame: bytes | None = None
    ended: list[int] = field(factory=list)
    ending: dict[str, int] = field(factory=dict)
    draining: Draining | None = None
    rates: Rates = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.effects = Effects(self.counters)
        self.rates = Rates.of(self.config)

    def take_ended(self) -> list[int]:
        """The connections that have ended since the last call."""
        ended, self.ended = self.ended, []
        return ended

    def open_session(self, agent_id: str, principal: str | None, now: float) -> Session:
        """Begin a session."""
        session = Session.create(
            self.config,
            session_id=self.ids(),
            epoch=self.ids(),
            agent_id=agent_id,
            principal=principal,
        )
        self.add_session(session)
        self.counters.sessions_opened += 1
        if session.ledger is None:
            self._tell_opened(session)
        else:
            self.write(session, records.opened(session), now, Opening())
        return session

    def _tell_opened(self, session: Session) -> None:
        self.effects.emit(
            SessionOpened(
                session_id=session.session_id,
                agent_id=session.agent_id,
                principal=session.principal,
            )
        )

    def add_session(self, session: Session) -> None:
        """Register a session that nobody follows yet."""
        self.sessions[session.session_id] = session
        self.subscribers[session.session_id] = Subscribers()

    def session_of(self, session_id: str | None) -> Session | None:
        """The session that a handshake names, if it may be attached to."""
        session = self.sessions.get(session_id or "")
        return None if session is None or self._is_over(session) else session

    def follow(
        self, session: Session, delivery: Delivery, entry: PresenceEntry, now: float
    ) -> None:
        """A client was welcomed to a session; it does not expire while one follows it.

        The window of a sealed session goes on all the same: who attaches does not extend it.
        """
        self.subscribers[session.session_id].add(delivery, entry)
        if not session.sealed:
            self.timers.cancel(("session", session.session_id))
        self._plan_presence_push(session.session_id, now)

    def unfollow(self, session: Session, connection: int, now: float) -> None:
        """A client's connection ended; after the last one the resume window begins."""
        self.subscribers[session.session_id].remove(connection)
        self._plan_presence_push(session.session_id, now)
        self._leave_alone(session, now)

    @property
    def is_full(self) -> bool:
        """Whether a session more would be one too many."""
        return len(self.sessions) + len(self.ending) >= self.config.max_sessions

    def await_store(self, session: Session, connection: int) -> None:
        """A client's welcome waits until the session is stored."""
        assert session.ledger is not None
        session.ledger.joining[connection] = None
        self.await_snapshot(session, connection)

    def await_snapshot(self, session: Session, connection: int) -> None:
        """A client's welcome waits for a snapshot; the session does not expire meanwhile."""
        self.subscribers[session.session_id].awaiting[connection] = None
        if not session.sealed:
            self.timers.cancel(("session", session.session_id))

    def stop_awaiting(self, session: Session, connection: int, now: float) -> None:
        """A client's welcome waits no longer, whether it comes now or never."""
        del self.subscribers[session.session_id].awaiting[connection]
        if session.ledger is not None:
            session.ledger.joining.pop(connection, None)
        self._leave_alone(session, now)

    def _leave_alone(self, session: Session, now: float) -> None:
        subscribers = self.subscribers[session.session_id]
        if not subscribers.is_followed and not session.sealed and session.is_opened:
            self.start_resume_window(session.session_id, now)

    def want_snapshot(self, session: Session, now: float) -> None:
        """Ask the application for a session's state, once for all who wait, not without end."""
        wanted = session.wanted = session.wanted or Wanted()
        if wanted.asked:
            return
        wanted.exhausted = wanted.attempt >= self.config.max_snapshot_tries
        if wanted.exhausted:
            return
        wanted.attempt += 1
        wanted.asked = True
        self.timers.set(("snapshot", session.session_id), now + self.config.snapshot_timeout)
        self.effects.emit(
            SnapshotNeeded(
                session_id=session.session_id,
                epoch=session.epoch,
                cursor=session.journal.cursor,
                attempt=wanted.attempt,
            )
        )

    def start_resume_window(self, session_id: str, now: float) -> None:
        """Keep a session that nobody follows for `resume_window` seconds from now."""
        self.timers.set(("session", session_id), now + self.config.resume_window)

    def seal(self, session: Session, now: float) -> None:
        """Close a session; from here on its window runs, whoever follows it."""
        session.sealed = True
        self.counters.sessions_closed += 1
        self.start_resume_window(session.session_id, now)
        self.effects.emit(
            SessionClosed(session_id=session.session_id, cursor=session.journal.cursor)
        )

    def _is_over(self, session: Session) -> bool:
        """Whether a sealed session's window has passed, so that only its readers are left."""
        return session.sealed and self.timers.get(("session", session.session_id)) is None

    def expire_unfollowed(self, session: Session) -> None:
        """Forget a sealed session whose window has passed, once its last reader is gone."""
        if self._is_over(session):
            self.expire_session(session.session_id)

    # -- pushes -------------------------------------------------------------------------------

    def _plan_presence_push(self, session_id: str, now: float) -> None:
        """The list of a session has changed: at the next turn, or when the interval allows it."""
        subscribers, key = self.subscribers[session_id], ("presence", session_id)
        if not subscribers.told:  # and who comes now has it in the welcome
            subscribers.changes.begin_anew(subscribers.presence_version)
            self.timers.cancel(key)
        elif self.timers.get(key) is None:
            self.timers.set(key, max(now, subscribers.changes.not_before))

    def set_health(self, health: Object, now: float) -> None:
        """The health has changed, which is pushed at the next turn or when the interval allows."""
        self.health, self._health_frame = health, None
        self.health_version += 1
        if self.config.push_interval is not None and self.timers.get(HEALTH_PUSH) is None:
            self.timers.set(HEALTH_PUSH, max(now, self.health_not_before))

    def health_frame(self) -> bytes:
        """The health as a push, encoded once for all who get it."""
        if self._health_frame is None:
            frame = Health(version=self.health_version, health=self.health)
            self._health_frame = codec.encode(frame)
        return self._health_frame

    # -- the end of a session -----------------------------------------------------------------

    def expire_session(self, session_id: str) -> None:
        """Forget a session whose resume window is over, unless somebody reads the rest of it."""
        if self.subscribers[session_id].is_followed:
            return
        session = self.sessions.pop(session_id)
        del self.subscribers[session_id]
        self.timers.cancel(("snapshot", session_id))
        self.counters.sessions_expired += 1
        if session.ledger is None:
            self.effects.emit(SessionExpired(session_id=session_id))
            return
        self.ending[session_id] = number = session.ledger.give()
        self.effects.persist(session_id, number, records.expired())

    # -- written ahead ------------------------------------------------------------------------

    def begin(self, session: Session, now: float) -> None:
        """Before a change that is written ahead: see `writing.begin`."""
        writing.begin(self.effects, session, now)

    def begin_soon(self, now: float) -> None:
        """Begin every session that was recovered as soon as the driver hears of the deadline."""
        if any(each.ledger and each.ledger.base is None for each in self.sessions.values()):
            self.timers.set(("begin", ""), now)

    def begin_all(self, now: float) -> None:
        """Begin every session that was recovered and has not begun."""
        for session in self.sessions.values():
            self.begin(session, now)

    def write(
        self, session: Session, record: Object, now: float, effect: Effect | None = None
    ) -> int:
        """Have a change stored; `effect` waits until it is. Gives the record's number."""
        every = self.config.checkpoint_every
        return writing.write(self.effects, session, record, now, effect, every=every)

    def announce(self, session: Session, now: float) -> None:
        """A new session is stored."""
        ledger = session.ledger
        assert ledger is not None
        ledger.opened = True
        self._tell_opened(session)
        self._leave_alone(session, now)  # the client may have gone meanwhile

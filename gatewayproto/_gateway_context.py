"""What every connection of one gateway shares: configuration, sessions, deadlines, effects.

Spec: Terms (session ids); Snapshots; the resume window of The welcome.
"""

from collections.abc import Callable

from attrs import define, field

from gatewayproto import _gateway_writing as writing
from gatewayproto import records
from gatewayproto._gateway_effects import Effects
from gatewayproto._timers import Timers
from gatewayproto.actions import SessionExpired, SessionOpened
from gatewayproto.config import GatewayConfig
from gatewayproto.delivery import Delivery
from gatewayproto.frames import Object, PresenceEntry
from gatewayproto.ledger import Effect, Opening
from gatewayproto.session import Session
from gatewayproto.subscribers import Subscribers

TimerKey = tuple[str, int | str]
"""What a deadline is for and whose it is: a connection's number or a session's id."""


@define(eq=False)
class Context:
    """The state of a gateway that is no single connection's own.

    `ending` are sessions that have expired, by the number of the record that says so, until that
    is stored.
    """

    config: GatewayConfig
    ids: Callable[[], str]
    effects: Effects = field(factory=Effects)
    timers: Timers[TimerKey] = field(factory=Timers)
    sessions: dict[str, Session] = field(factory=dict)
    subscribers: dict[str, Subscribers] = field(factory=dict)
    health: Object = field(factory=dict)
    health_version: int = 0
    ended: list[int] = field(factory=list)
    ending: dict[str, int] = field(factory=dict)

    def take_ended(self) -> list[int]:
        """The connections that have ended since the last call."""
        ended, self.ended = self.ended, []
        return ended

    def open_session(self, agent_id: str, principal: str | None, now: float) -> Session | None:
        """Begin a session; None when there are too many."""
        if len(self.sessions) + len(self.ending) >= self.config.max_sessions:
            return None
        session = Session.create(
            self.config,
            session_id=self.ids(),
            epoch=self.ids(),
            agent_id=agent_id,
            principal=principal,
        )
        self.add_session(session)
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

    def follow(self, session: Session, delivery: Delivery, entry: PresenceEntry) -> None:
        """A client was welcomed to a session; it does not expire while one follows it."""
        self.subscribers[session.session_id].add(delivery, entry)
        self.timers.cancel(("session", session.session_id))

    def unfollow(self, session: Session, connection: int, now: float) -> None:
        """A client's connection ended; after the last one the resume window begins."""
        subscribers = self.subscribers[session.session_id]
        subscribers.remove(connection)
        if not subscribers.deliveries:
            self.start_resume_window(session.session_id, now)

    def start_resume_window(self, session_id: str, now: float) -> None:
        """Keep a session that nobody follows for `resume_window` seconds from now."""
        self.timers.set(("session", session_id), now + self.config.resume_window)

    def expire_session(self, session_id: str) -> None:
        """Forget a session whose resume window is over."""
        session = self.sessions.pop(session_id)
        del self.subscribers[session_id]
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
        if not ledger.joining:  # the client has gone meanwhile
            self.start_resume_window(session.session_id, now)

    def join_later(self, session: Session, connection: int) -> None:
        """A connection waits until a session is stored, which does not expire meanwhile."""
        assert session.ledger is not None
        session.ledger.joining[connection] = None
        self.timers.cancel(("session", session.session_id))

    def join_no_longer(self, session: Session, connection: int, now: float) -> None:
        """A connection that waited for a session is gone."""
        ledger = session.ledger
        assert ledger is not None
        del ledger.joining[connection]
        if ledger.opened and not ledger.joining:
            self.start_resume_window(session.session_id, now)

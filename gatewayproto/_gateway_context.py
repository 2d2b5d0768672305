"""What every connection of one gateway shares: configuration, sessions, deadlines, effects.

Spec: Terms (session ids); Snapshots; the resume window of The welcome.
"""

import math
from collections.abc import Callable
from typing import Final

from attrs import define, field

from gatewayproto import codec
from gatewayproto._gateway_effects import Effects
from gatewayproto._timers import Timers
from gatewayproto.actions import SessionExpired, SessionOpened
from gatewayproto.config import GatewayConfig
from gatewayproto.delivery import Delivery
from gatewayproto.frames import Health, Object, PresenceEntry
from gatewayproto.session import Session
from gatewayproto.subscribers import Subscribers

TimerKey = tuple[str, int | str]
"""What a deadline is for and whose it is: a connection's number or a session's id."""
HEALTH_PUSH: Final[TimerKey] = ("health", "")


@define(eq=False)
class Context:
    """The state of a gateway that is no single connection's own.

    `health_pushed` is the version of the health that was pushed last; the next push of it is not
    before `health_not_before`, in seconds on the clock of `now`.
    """

    config: GatewayConfig
    ids: Callable[[], str]
    effects: Effects = field(factory=Effects)
    timers: Timers[TimerKey] = field(factory=Timers)
    sessions: dict[str, Session] = field(factory=dict)
    subscribers: dict[str, Subscribers] = field(factory=dict)
    health: Object = field(factory=dict)
    health_version: int = 0
    health_pushed: int = 0
    health_not_before: float = -math.inf
    _health_frame: bytes | None = None
    ended: list[int] = field(factory=list)

    def take_ended(self) -> list[int]:
        """The connections that have ended since the last call."""
        ended, self.ended = self.ended, []
        return ended

    def open_session(self, agent_id: str, principal: str | None) -> Session | None:
        """Begin a session; None when there are too many."""
        if len(self.sessions) >= self.config.max_sessions:
            return None
        session = Session.create(
            self.config,
            session_id=self.ids(),
            epoch=self.ids(),
            agent_id=agent_id,
            principal=principal,
        )
        self.add_session(session)
        self.effects.emit(
            SessionOpened(session_id=session.session_id, agent_id=agent_id, principal=principal)
        )
        return session

    def add_session(self, session: Session) -> None:
        """Register a session that nobody follows yet."""
        self.sessions[session.session_id] = session
        self.subscribers[session.session_id] = Subscribers()

    def follow(
        self, session: Session, delivery: Delivery, entry: PresenceEntry, now: float
    ) -> None:
        """A client was welcomed to a session; it does not expire while one follows it."""
        self.subscribers[session.session_id].add(delivery, entry)
        self.timers.cancel(("session", session.session_id))
        self._plan_presence_push(session.session_id, now)

    def unfollow(self, session: Session, connection: int, now: float) -> None:
        """A client's connection ended; after the last one the resume window begins."""
        subscribers = self.subscribers[session.session_id]
        subscribers.remove(connection)
        self._plan_presence_push(session.session_id, now)
        if not subscribers.deliveries:
            self.start_resume_window(session.session_id, now)

    def start_resume_window(self, session_id: str, now: float) -> None:
        """Keep a session that nobody follows for `resume_window` seconds from now."""
        self.timers.set(("session", session_id), now + self.config.resume_window)

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
        """Forget a session whose resume window is over."""
        del self.sessions[session_id]
        del self.subscribers[session_id]
        self.effects.emit(SessionExpired(session_id=session_id))

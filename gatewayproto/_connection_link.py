"""What one connection of the gateway is: its state, and what can be done to it.

The handlers in `_connection_opening` and `_connection_live` act on it; which of them an input calls
is said by the table in `gatewayproto.connection`.

Spec: Errors; Lagging.
"""

from collections import deque
from enum import StrEnum
from itertools import groupby
from operator import itemgetter

from attrs import define, field

from gatewayproto import _gateway_pushes as pushes
from gatewayproto import codec
from gatewayproto._counters import Sent
from gatewayproto._gateway_context import Context
from gatewayproto.actions import SubscriberLagged, SubscriberLeft
from gatewayproto.credit import Credit
from gatewayproto.delivery import Delivery, Pumped
from gatewayproto.errors import ERRORS, ErrorCode
from gatewayproto.handshake import Request, error_fields
from gatewayproto.inputs import Accept, ConnectionOpened
from gatewayproto.rates import Bucket
from gatewayproto.session import Session


class State(StrEnum):
    """Where a connection stands."""

    OPENING = "opening"
    JOINING = "joining"
    PREPARING = "preparing"
    STORING = "accepted, to be stored"
    LIVE_V1 = "live, version 1"
    LIVE_V2 = "live, version 2"
    CLOSED = "closed"


@define(eq=False)
class Link:
    """One connection. `number` is its driver's name for it.

    `token` is the upgrade's, for a handshake that carries none. `held` are the answers to what
    came before the welcome, which nothing precedes, and `held_size` their bytes. `accepted` is the
    decision on a handshake that waits until `awaited` is stored, or has a snapshot for it. `frames`
    and `recoveries` say how much the peer may send. `last_sign` is when the peer last showed a sign
    of life, `last_ping` when it was last pinged. `expires` is when its credentials do; `reviewing`
    tells that the application decides on fresh ones, and `next_token` is the newest that came
    meanwhile. `waiting` are answers to messages and the records they wait for, and `waiting_size`
    their bytes.
    """

    number: int
    context: Context
    credit: Credit
    path: str = ""
    peer: str = ""
    address: str = ""
    timestamp: float = 0.0
    token: str | None = field(default=None, repr=False)
    state: State = State.OPENING
    request: Request | None = None
    accepted: Accept | None = None
    awaited: Session | None = None
    session: Session | None = None
    delivery: Delivery | None = None
    client_id: str = ""
    capabilities: tuple[str, ...] = ()
    expires: float | None = None
    reviewing: bool = False
    next_token: str | None = field(default=None, repr=False)
    held: list[bytes] = field(factory=list)
    held_size: int = 0
    violations: int = 0
    last_sign: float = 0.0
    last_ping: float = 0.0
    frames: Bucket | None = None
    recoveries: Bucket | None = None
    waiting: deque[tuple[int, bytes]] = field(factory=deque)
    waiting_size: int = 0

    @classmethod
    def open(cls, opened: ConnectionOpened, context: Context, now: float) -> "Link":
        """Wait for the handshake of a transport that was opened, but not for ever."""
        link = cls(
            opened.connection,
            context,
            Credit(context.config.send_window, context.config.answer_window, owed_since=now),
            opened.path,
            opened.peer,
            opened.address,
            opened.timestamp,
            _upgrade_token(opened),
            last_sign=now,
            last_ping=now,
            frames=Bucket.full(context.config.frame_rate, now),
            recoveries=Bucket.full(context.config.recovery_rate, now),
        )
        link.arm(now + context.config.handshake_timeout)
        return link

    @classmethod
    def closed(cls, number: int, context: Context) -> "Link":
        """Stand in for a connection that has ended: what still names it lost a race."""
        return cls(number, context, Credit(0, 0), state=State.CLOSED)

    # -- sending ------------------------------------------------------------------------------

    def answer(
        self,
        frame: bytes,
        now: float,
        *,
        kind: Sent = "answer",
        else_close: ErrorCode = ErrorCode.SLOW_CONSUMER,
    ) -> None:
        """Send what waits for no room, unless the peer leaves too much of it unread."""
        if self.state is State.CLOSED:
            return
        if not self.credit.answer_fits(len(frame)):
            self.close(else_close, now)
            return
        self.credit.charge_answer(len(frame), now)
        self.context.effects.send((self.number,), [frame], kind)

    def answer_stored(self, frame: bytes, now: float, number: int | None = None) -> None:
        """Send an answer once a record is stored, unless too many wait.

        `number` is the record's; None for all that were given.
        """
        _, session = self.live()
        ledger = session.ledger
        if ledger is None or ledger.unstored == 0:
            self.answer(frame, now)
            return
        self.waiting_size += len(frame)
        if self.waiting_size > self.context.config.answer_window:
            self.close(ErrorCode.RATE_LIMITED, now)
            return
        self.waiting.append((ledger.given if number is None else number, frame))
        ledger.answering[self.number] = None

    def answer_error(
        self,
        code: ErrorCode,
        detail: str,
        now: float,
        *,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Answer with an `error` and go on."""
        fields = error_fields(
            "error", code, detail, request_id=request_id, retry_after_seconds=retry_after
        )
        self.answer(codec.encode_object(fields), now)

    def pump(self, now: float) -> None:
        """Send what is owed, as far as there is credit; in a sealed session it comes to an end."""
        if self.state is State.CLOSED:
            return
        delivery, session = self.live()
        config = self.context.config
        pumped = delivery.pump(session, now, max_lags=config.max_lags, lag_period=config.lag_period)
        if self.carry_out(pumped, now):
            if pumped.waits:
                self.context.want_snapshot(session, now)
            subscribers = self.context.subscribers[session.session_id]
            if session.sealed and delivery.at_head(session):
                self.close(ErrorCode.SESSION_CLOSED, now)
            elif delivery.at_head(session):
                subscribers.ready[self.number] = delivery
                pushes.catch_up(self.context, subscribers, delivery, now)
            else:
                subscribers.ready.pop(self.number, None)

    def carry_out(self, pumped: Pumped, now: float) -> bool:
        """Send, tell and close as a turn of delivery says; False when it has closed."""
        effects, counters = self.context.effects, self.context.counters
        if pumped.lagged_at is not None and self.session is not None:
            counters.lags += 1
            effects.emit(
                SubscriberLagged(
                    connection=self.number,
                    session_id=self.session.session_id,
                    position=pumped.lagged_at,
                )
            )
        if pumped.begun:
            counters.resyncs.update(pumped.begun)
        counters.snapshots += pumped.completed
        for kind, frames in groupby(pumped.frames, key=itemgetter(0)):
            effects.send((self.number,), [frame for _, frame in frames], kind)
        if pumped.close is not None:
            self.close(pumped.close, now)
        return pumped.close is None

    def live(self) -> tuple[Delivery, Session]:
        """What a welcomed connection has."""
        assert self.delivery is not None
        assert self.session is not None
        return self.delivery, self.session

    # -- time ---------------------------------------------------------------------------------

    def watch(self, now: float) -> None:
        """Arm the deadline that comes first; each is looked at again when it has passed."""
        config, credit = self.context.config, self.credit
        deadlines = [self.last_ping + config.heartbeat, self.last_sign + 2 * config.heartbeat]
        # What is owed from now on can be overdue no earlier than this.
        owed_since = credit.owed_since if credit.outstanding else now
        deadlines.append(owed_since + config.stall_timeout)
        if self.expires is not None:
            deadlines.append(self.expires)
        self.arm(min(deadlines))

    def arm(self, deadline: float) -> None:
        """Set the deadline of whatever this connection waits for."""
        self.context.timers.set(("connection", self.number), deadline)

    # -- the end ------------------------------------------------------------------------------

    def close(self, code: ErrorCode, now: float) -> None:
        """Close with the code of this error."""
        close_code = ERRORS[code].close_code
        assert close_code is not None
        self.end(close_code, code.value, now)

    def end(self, close_code: int, reason: str, now: float) -> None:
        """Close with this code, after what was sent."""
        self.context.effects.close(self.number, close_code, reason)
        self.forget(now)

    def forget(self, now: float) -> None:
        """The connection is no more; its session stays."""
        awaited = self.awaited
        self.stop_awaiting(now)
        if awaited is not None:
            self.context.expire_unfollowed(awaited)
        self.detach(now)
        self.state = State.CLOSED
        self.context.timers.cancel(("connection", self.number))
        self.context.ended.append(self.number)

    def stop_awaiting(self, now: float) -> None:
        """Wait no longer, for a snapshot or for the store, before the welcome."""
        if self.awaited is not None:
            self.context.stop_awaiting(self.awaited, self.number, now)
        self.accepted = self.awaited = None

    def detach(self, now: float) -> None:
        """Stop following the session."""
        session = self.session
        if session is None:
            return
        # What is still to be answered the client asks again after its next welcome.
        self.waiting.clear()
        self.waiting_size = 0
        session.stop_answering(self.number)
        self.context.unfollow(session, self.number, now)
        self.context.effects.emit(
            SubscriberLeft(
                connection=self.number,
                session_id=session.session_id,
                client_id=self.client_id,
            )
        )
        self.session = self.delivery = None
        self.context.expire_unfollowed(session)


def _upgrade_token(opened: ConnectionOpened) -> str | None:
    """The token of the upgrade, for a handshake that carries none."""
    scheme, _, credentials = opened.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        return credentials.strip()
    return opened.query.get("token")

"""What is known of a gateway from outside, and what its next actions must therefore be.

The book follows a gateway by its inputs and the rules of the specification alone. Each rule says
what must go to whom; what was sent is taken off as it is called for, and nothing may be left. What
connections and sessions are is here; what a subscriber is sent is in `_gateway_delivery`, what
every input means in `_gateway_reference`.

Spec: Terms; Requests; Lagging; Liveness.
"""

import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, field

from gatewayproto.actions import (
    CloseConnection,
    Emit,
    GatewayEvent,
    JoinRequested,
    SendFrames,
    SessionExpired,
    SnapshotNeeded,
    SubscriberLeft,
)
from gatewayproto.config import GatewayConfig
from gatewayproto.gateway import SessionInfo
from gatewayproto.inputs import Accept
from gatewayproto.projection import Projection
from gatewayproto.testing.any_peer._client_known import ANY, CLOSE_OF
from gatewayproto.testing.monitors.allowance import Allowance
from gatewayproto.testing.reference import Ledger, Plain, compact
from gatewayproto.testing.steps import Step, Violation

Look = Callable[[str], SessionInfo | None]
"""What the application can ask of a session."""

DEFAULT_MAX_PAYLOAD: Final = 1_048_576
MAX_QUESTIONS: Final = 1000
_LONGEST_MESSAGE: Final = 200
NEXT_STEPS: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            *("going_away", "liveness_timeout", "slow_consumer", "rate_limited"),
            *("internal_error", "handshake_timeout"),
        ),
        "wait_then_retry",
    ),
    **dict.fromkeys(("auth_expired", "auth_required", "auth_unauthorized"), "reauthenticate"),
    "version_unsupported": "upgrade_client",
    **dict.fromkeys(
        (
            *("invalid_protocol_hello", "invalid_cursor", "agent_not_found", "malformed_frame"),
            *("payload_too_large", "session_closed"),
        ),
        "do_not_retry",
    ),
}


@define(eq=False)
class Asked:
    """A handshake that can be read and is being decided; fields as in the frame."""

    kind: str
    version: int
    counts_as: int
    agent_id: str
    session_id: str
    epochs: tuple[str, ...]
    since: int
    wants_snapshot: bool
    max_payload: int
    about: Plain | None


@define(eq=False)
class Peer:
    """One connection: its handshake, its place in its session, and its transport.

    - `state`: `opening`, `joining`, `preparing` while its welcome waits for a state of the session
      that it `awaits`, having been `accepted`, or `live`.
    - `sent`: up to where it was sent this epoch before its position went back; `due_least`: the
      least cursor of the snapshot that is due.
    - `position`, `replay_until`, `attach_target`, `due`, `recovery`, `lags`: what it was sent and
      is owed.
    - `whole`: a snapshot under way, in one frame; where it goes in `parts`, `part` of them went,
      which hold `gathered`.
    - `outstanding`: bytes that its transport has not taken; `pings` of them our own pings; `own`
      of them at the last that was not an answer.
    - `network`: from where it comes; `frames`, `recoveries`: what it may still send by its rates.
    - `blocked_at`: the least that was outstanding while a part waited for its room.
    - `told_version`, `told_list`, `told_health`: what it was told last beside events; no version
      where it is told nothing, no list where that was a count.
    - `join`: its handshake as the application was asked about it; `expires`, `reviewing`,
      `next_token`: its credentials.
    """

    number: int
    opened: float
    path: str = "/"
    address: str = ""
    timestamp: float = 0.0
    token: str | None = None
    state: str = "opening"
    asked: Asked | None = None
    session: "Session | None" = None
    client_id: str = ""
    version: int = 0
    max_payload: int = DEFAULT_MAX_PAYLOAD
    position: int = 0
    replay_until: int = 0
    attach_target: int | None = None
    due: tuple[str, str | None] | None = None
    recovery: tuple[int, str | None] | None = None
    lags: list[float] = field(factory=list)
    whole: Plain | None = None
    part: int = 0
    parts: int = 0
    gathered: str = ""
    blocked_at: int | None = None
    is_ready: bool = False
    held: list[Plain] = field(factory=list)
    violations: int = 0
    sign: float = 0.0
    pinged: float = 0.0
    outstanding: int = 0
    pings: int = 0
    own: int = 0
    owed_since: float = 0.0
    awaits: "Session | None" = None
    accepted: Accept | None = None
    sent: int | None = 0
    due_least: int = 0
    network: str = ""
    frames: Allowance = field(factory=lambda: Allowance(None))
    recoveries: Allowance = field(factory=lambda: Allowance(None))
    told_version: int | None = None
    told_list: list[Plain] | None = None
    told_health: int = 0
    join: JoinRequested | None = None
    expires: float | None = None
    reviewing: bool = False
    next_token: str | None = None


@define
class Wanted:
    """What the application was asked for in a row: how often, and whether it has answered."""

    attempt: int = 0
    asked: bool = False
    exhausted: bool = False


@define(eq=False)
class Session:
    """One session, said a second time: everything that was published, and every message.

    Where the application `builds` the states, `built` is its newest and the cursor of that,
    `wanted` what it was asked for, `gives_up` when it is waited for no longer, and `awaiting` are
    the connections whose welcome waits.
    """

    session_id: str
    epoch: str
    agent_id: str
    principal: str | None
    ledger: Ledger
    fold: Projection
    presence: dict[int, Plain] = field(factory=dict)
    presence_version: int = 0
    pushed_version: int = 0
    pushed_ids: set[str] = field(factory=set)
    push_at: float | None = None
    push_after: float = -math.inf
    state_size: int = 0
    pending: dict[int, Plain] = field(factory=dict)
    next_id: int = 1
    remembered: dict[str, tuple[bytes, float]] = field(factory=dict)
    questions: dict[str, bool] = field(factory=dict)
    expires: float | None = None
    sealed: bool = False
    builds: bool = False
    built: tuple[int, Plain] | None = None
    wanted: Wanted | None = None
    gives_up: float | None = None
    awaiting: dict[int, None] = field(factory=dict)
    _body: tuple[int, bytes] | None = None

    @property
    def cursor(self) -> int:
        """Its newest seq."""
        return self.ledger.cursor

    @property
    def is_over(self) -> bool:
        """Whether it was closed, and its window has passed: nobody may come to it any more."""
        return self.sealed and self.expires is None

    def body(self) -> bytes:
        """The state as of the head, as JSON."""
        if self._body is None or self._body[0] != self.cursor:
            self._body = self.cursor, compact(self.fold.state())
            self.state_size = len(self._body[1])
        return self._body[1]

    def state(self, least: int) -> tuple[int, Plain] | None:
        """A state as of `least` or later, and its cursor; None where it has to be built."""
        if not self.builds:
            return self.cursor, json.loads(self.body())
        return self.built if self.built is not None and self.built[0] >= least else None

    @property
    def is_followed(self) -> bool:
        """Whether somebody is welcomed to it, or waits to be."""
        return bool(self.presence or self.awaiting)

    def shift(self, seconds: float) -> None:
        """So much time has passed unseen: what is remembered is as old as it was then."""
        self.remembered = {
            request_id: (print_, seen + seconds)
            for request_id, (print_, seen) in self.remembered.items()
        }

    def ask(self, event_id: str) -> None:
        """An event that expects a reply was published."""
        self.questions.setdefault(event_id, False)
        if len(self.questions) > MAX_QUESTIONS:
            answered = [known for known, done in self.questions.items() if done]
            del self.questions[(answered or list(self.questions))[0]]


class MistakeError(Exception):
    """The caller's mistake: the machine must raise, and nothing may have changed."""


class GatewayBook:
    """Connections and sessions as the inputs make them, and what the present step must come to."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.sessions: dict[str, Session] = {}
        self.peers: dict[int, Peer] = {}
        self.last = 0
        self.health: Plain = {}
        self.health_version = 0
        self.retry_after: float | None = None
        self.drain_ends: float | None = None
        self.is_drained = False
        self.health_at: float | None = None
        self.witnessed: set[str] = set()
        self.allowances: dict[tuple[str, str], Allowance] = {}
        self.now = 0.0
        self.look: Look = lambda _: None
        self.issued: Sequence[str] = ()
        self._frames: dict[int, deque[bytes]] = {}
        self._closes: list[CloseConnection] = []
        self._events: list[GatewayEvent] = []
        self._must_close: list[tuple[int, int]] = []
        self._must_tell: list[GatewayEvent] = []

    # -- rates --------------------------------------------------------------------------------

    def allowed(self, kind: str, key: str) -> Allowance:
        """What is left of a rate that is counted for more than one connection; "" is nobody's."""
        rates = {
            "connection": self.config.connection_rate,
            "handshake": self.config.handshake_rate,
            "session": self.config.session_rate,
        }
        if not key:
            return Allowance(None)
        return self.allowances.setdefault((kind, key), Allowance(rates[kind]))

    # -- what the step came to, and what it must come to --------------------------------------

    def begin(self, step: Step, issued: Sequence[str], look: Look) -> None:
        """Take a step apart; `issued` are the ids that the machine drew in it."""
        self.now, self.issued, self.look = step.now, issued, look
        self._frames, self._closes, self._events = {}, [], []
        self._must_close, self._must_tell = [], []
        for action in step.actions:
            match action:
                case SendFrames(connections=numbers, frames=frames):
                    for number in numbers:
                        if any(close.connection == number for close in self._closes):
                            raise Violation("P7", f"sends on #{number} after closing it")
                        self._frames.setdefault(number, deque()).extend(frames)
                case CloseConnection():
                    self._closes.append(action)
                case Emit(event=event):
                    self._events.append(event)  # type: ignore[arg-type]  # a gateway's own
                case _:
                    raise Violation("P13", f"{action} is none of a gateway's")

    def finish_step(self) -> None:
        """Nothing may be left of what was sent, closed and told. Raises `Violation`."""
        for number, frames in self._frames.items():
            if frames:
                raise Violation("P2", f"sends {frames[0]!r} to #{number}; nothing calls for it")
        closes = sorted((close.connection, close.code) for close in self._closes)
        if closes != sorted(self._must_close):
            raise Violation("P17", f"closes {self._closes}, must close {self._must_close}")
        left = list(self._events)
        for event in self._must_tell:
            if event not in left:
                raise Violation("P8", f"must tell {event}, tells {self._events or 'nothing'}")
            left.remove(event)
        if left:
            raise Violation("P8", f"tells {left[0]}; must tell {self._must_tell or 'nothing'}")
        for event in self._events:
            self.witnessed.add(f"told {type(event).__name__}")
        for close in self._closes:
            self.witnessed.add(f"closed {close.code}")

    def tell(self, event: GatewayEvent) -> None:
        """The application must be told."""
        self._must_tell.append(event)

    def told(self, kind: type[Any]) -> Any:
        """The next event of this kind that it was told; for what only the machine can name."""
        already = sum(isinstance(event, kind) for event in self._must_tell)
        events = [event for event in self._events if isinstance(event, kind)]
        if len(events) <= already:
            raise Violation("P8", f"must tell {kind.__name__}, tells {self._events or 'nothing'}")
        return events[already]

    def sees_close(self, peer: Peer, code: str | None = None) -> bool:
        """Whether this connection was closed in this step, for this error if one is named."""
        codes = [close.code for close in self._closes if close.connection == peer.number]
        return CLOSE_OF[code] in codes if code else bool(codes)

    def next_frame(self, peer: Peer) -> bytes | None:
        """The next frame that went to this connection and was not called for yet."""
        frames = self._frames.get(peer.number)
        return frames[0] if frames else None

    def take(self, peer: Peer, expected: Plain, prop: str = "P2") -> bytes:
        """A frame must go to this connection, now. Raises `Violation` where another one does."""
        frames = self._frames.get(peer.number)
        if not frames:
            raise Violation(prop, f"must send {_short(expected)} to #{peer.number}, sends nothing")
        data = frames.popleft()
        frame = json.loads(data)
        if frame != expected:
            raise Violation(prop, f"to #{peer.number}: {_difference(expected, frame)}")
        if len(data) > peer.max_payload and peer.state == "live":
            raise Violation("P9", f"{len(data)} bytes to #{peer.number}: over its max_payload")
        self.witnessed.add(f"sent {frame['type']}")
        return data

    def issue(self, id_: str) -> str:
        """An id must be one that was drawn in this step, and so never seen before."""
        if id_ not in self.issued:
            raise Violation("P14", f"{id_!r} is no fresh id")
        return id_

    # -- credit -------------------------------------------------------------------------------

    def has_room(self, peer: Peer, size: int) -> bool:
        """Whether delivery may send so many bytes."""
        return peer.outstanding == 0 or peer.outstanding + size <= self.config.send_window

    def charge(self, peer: Peer, size: int) -> None:
        """Bytes that went, other than an answer's."""
        self._count(peer, size)
        peer.own = peer.outstanding

    def _count(self, peer: Peer, size: int) -> None:
        if peer.outstanding == 0:
            peer.owed_since = self.now
        peer.outstanding += size

    def answer(
        self, peer: Peer, expected: Plain, prop: str = "P13", *, else_close: str = "slow_consumer"
    ) -> None:
        """An answer must go, unless the peer leaves too many of them unread."""
        if peer.number not in self.peers:
            return
        actual = self.next_frame(peer)
        if actual is None:  # what it would have taken is unknown where it has words for people
            size = len(compact({**expected, "message": "x" * _LONGEST_MESSAGE}))
        else:
            size = len(actual)
        bound = max(self.config.send_window, peer.own) + self.config.answer_window
        if peer.outstanding > 0 and peer.outstanding + size > bound:
            self.witnessed.add("answers unread")
            self.close(peer, else_close)
            return
        first = peer.outstanding == 0
        self._count(peer, len(self.take(peer, expected, prop)))
        if first:
            peer.own = peer.outstanding

    def answer_error(self, peer: Peer, code: str, request_id: str | None = None) -> None:
        """An `error` must go, and the connection lives on."""
        self.answer(peer, error("error", code, request_id=request_id))

    # -- the end of a connection --------------------------------------------------------------

    def close(self, peer: Peer, code: str) -> None:
        """The connection must be closed with the code of this error."""
        self.close_with(peer, CLOSE_OF[code])

    def close_with(self, peer: Peer, code: int) -> None:
        """The connection must be closed with this close code."""
        self._must_close.append((peer.number, code))
        self.forget(peer)

    def forget(self, peer: Peer) -> None:
        """The connection is no more; its session stays."""
        self.stop_awaiting(peer)
        self.detach(peer)
        del self.peers[peer.number]

    def stop_awaiting(self, peer: Peer) -> None:
        """Its welcome waits no longer, whether it comes now or never."""
        session, peer.awaits = peer.awaits, None
        if session is None:
            return
        del session.awaiting[peer.number]
        if not session.is_followed and not session.sealed:
            session.expires = self.now + self.config.resume_window
        if session.is_over and not session.is_followed:
            self.expire(session)

    def want(self, session: Session) -> None:
        """The application must be asked for a state: once for all who wait, not without end."""
        wanted = session.wanted = session.wanted or Wanted()
        if wanted.asked:
            return
        wanted.exhausted = wanted.attempt >= self.config.max_snapshot_tries
        if wanted.exhausted:
            return
        wanted.attempt += 1
        wanted.asked = True
        session.gives_up = self.now + self.config.snapshot_timeout
        self.tell(
            SnapshotNeeded(
                session_id=session.session_id,
                epoch=session.epoch,
                cursor=session.cursor,
                attempt=wanted.attempt,
            )
        )

    def detach(self, peer: Peer) -> None:
        """It no longer follows its session."""
        session = peer.session
        if session is None:
            return
        del session.presence[peer.number]
        session.presence_version += 1
        if not session.is_followed and not session.sealed:
            session.expires = self.now + self.config.resume_window
        self.tell(
            SubscriberLeft(
                connection=peer.number, session_id=session.session_id, client_id=peer.client_id
            )
        )
        peer.session, peer.is_ready = None, False
        if session.is_over and not session.is_followed:
            self.witnessed.add("expired after its last reader")
            self.expire(session)

    def expire(self, session: Session) -> None:
        """It must be forgotten."""
        del self.sessions[session.session_id]
        self.tell(SessionExpired(session_id=session.session_id))

    # -- time ---------------------------------------------------------------------------------

    def due_at(self, peer: Peer) -> float | None:
        """When something must happen to a connection, if nothing else does."""
        config = self.config
        if peer.state == "opening":
            return peer.opened + config.handshake_timeout
        if peer.state in {"joining", "preparing"}:
            return None
        at = min(peer.pinged + config.heartbeat, peer.sign + 2 * config.heartbeat)
        at = min(at, math.inf if peer.expires is None else peer.expires)
        return min(at, peer.owed_since + config.stall_timeout) if peer.outstanding else at

    @property
    def next_due(self) -> float | None:
        """When something must happen next, if nothing else does."""
        dues = [self.due_at(peer) for peer in self.peers.values()]
        dues += [session.expires for session in self.sessions.values()]
        dues += [session.gives_up for session in self.sessions.values()]
        dues.append(self.drain_ends)
        dues += [session.push_at for session in self.sessions.values()]
        dues.append(self.health_at)
        return min((at for at in dues if at is not None), default=None)

    def check_deadline(self, deadline: float | None, *, expired: bool) -> None:
        """It must be no later than what is due, and after a timer lie in the future."""
        due = self.next_due
        if due is not None and (deadline is None or deadline > due + 1e-6):
            raise Violation("P10", f"waits until {deadline}; something is due at {due}")
        if due is None and deadline is not None:
            raise Violation("P10", f"waits until {deadline} for nothing")
        if expired and deadline is not None and deadline <= self.now:
            raise Violation("P10", f"after the timer it still waits for {deadline}")


def present(frame: Plain) -> Plain:
    """Without what is null, which means the same as absent."""
    return {name: value for name, value in frame.items() if value is not None}


def error(
    kind: str,
    code: str,
    *,
    wire_code: str | None = None,
    next_step: str | None = None,
    retry_after: float | None = None,
    request_id: str | None = None,
    versions: tuple[int, int] | None = None,
) -> Plain:
    """An `error` or a `hello_error`; its message is for people."""
    fields = {
        "type": kind,
        "code": wire_code or code,
        "message": ANY,
        "next_step": next_step or NEXT_STEPS.get(code),
        "retry_after_seconds": retry_after,
        "request_id": request_id,
    }
    if code == "version_unsupported" and versions is not None:
        fields["server_min_version"], fields["server_max_version"] = versions
    return {name: value for name, value in fields.items() if value is not None}


def _difference(expected: Plain, frame: Plain) -> str:
    if expected.get("type") != frame.get("type"):
        return f"must send {_short(expected)}, sends {_short(frame)}"
    names = [name for name in {**expected, **frame} if expected.get(name) != frame.get(name)]
    must = {name: expected.get(name) for name in names}
    sent = {name: frame.get(name) for name in names}
    return f"the {frame['type']} must have {_short(must)}, has {_short(sent)}"


def _short(frame: Plain) -> str:
    text = str(frame)
    return text if len(text) <= 300 else f"{text[:300]}…"  # noqa: PLR2004 -- what can be read

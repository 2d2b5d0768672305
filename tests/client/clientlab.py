"""A client machine on a bench: virtual time, countable ids, and a server played by hand.

The server's frames are plain JSON written by the standard library, so that they share no line with
the code that they test.
"""

import itertools
import json
import random
from typing import Any, Final, TypeVar

from gatewayproto.actions import (
    ClientAction,
    ClientEvent,
    CloseTransport,
    Emit,
    OpenTransport,
    ResumeToken,
    RetryScheduled,
    SendFrame,
)
from gatewayproto.backoff import Backoff
from gatewayproto.client import Client, ClientState
from gatewayproto.config import ClientConfig
from gatewayproto.inputs import (
    ClientInput,
    Connect,
    Disconnect,
    FrameReceived,
    Taken,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)

T = TypeVar("T")
Frame = dict[str, Any]

HEARTBEAT: Final = 32.0
TTL: Final = 256.0
POLICY: Final[Frame] = {
    "max_payload": 1_048_576,
    "heartbeat_ms": 32_000,
    "resume_window_ms": 300_000,
    "request_ttl_ms": 256_000,
    "max_pending_requests": 64,
}
# Without jitter, and all of it exact in binary: virtual time can be compared for equality.
STEADY: Final = Backoff(initial=1.0, maximum=16.0, multiplier=2.0, jitter=0.0)
HELD: Final = ResumeToken(session_id="s1", epoch="e1", cursor=5)


class Told:
    """What one input, or some in a row, made the machine do."""

    def __init__(self, actions: tuple[ClientAction, ...]) -> None:
        self.actions = actions

    @property
    def events(self) -> list[ClientEvent]:
        """What the application was told."""
        return [action.event for action in self.actions if isinstance(action, Emit)]

    @property
    def frames(self) -> list[Frame]:
        """What was sent."""
        sent = [action.frame for action in self.actions if isinstance(action, SendFrame)]
        return [json.loads(frame) for frame in sent]

    def of(self, kind: type[T]) -> list[T]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def one(self, kind: type[T]) -> T:
        """The only event of this kind."""
        (event,) = self.of(kind)
        return event

    def sent(self, kind: str) -> list[Frame]:
        """The frames of one type."""
        return [frame for frame in self.frames if frame["type"] == kind]

    @property
    def opened(self) -> list[OpenTransport]:
        """The transports asked for."""
        return [action for action in self.actions if isinstance(action, OpenTransport)]

    @property
    def closed(self) -> list[CloseTransport]:
        """The transports given up."""
        return [action for action in self.actions if isinstance(action, CloseTransport)]


class Lab:
    """One client. Its application takes everything at once, unless `slow`."""

    def __init__(
        self,
        *,
        resume: ResumeToken | None = None,
        seed: int = 0,
        slow: bool = False,
        **config: Any,
    ) -> None:
        fields: dict[str, Any] = {"agent_id": "demo", "backoff": STEADY, **config}
        self.config = ClientConfig(**fields)
        self.rng = random.Random(seed)
        self._count = itertools.count(1)
        self.client = Client(self.config, rng=self.rng, resume=resume, ids=self.ids)
        self.slow = slow
        self.now = 0.0
        self.connection = 0
        self.policy: Frame | None = POLICY

    def ids(self) -> str:
        return f"id-{next(self._count)}"

    @property
    def state(self) -> ClientState:
        return self.client.state

    @property
    def cursor(self) -> int:
        assert self.client.resume_token is not None
        return self.client.resume_token.cursor

    def give(self, *inputs: ClientInput) -> Told:
        """Give inputs at the present time."""
        actions: list[ClientAction] = []
        for input_ in inputs:
            done = self.client.handle(input_, now=self.now)
            actions += done
            for action in done:
                if isinstance(action, OpenTransport):
                    self.connection = action.connection
            if done and not self.slow and self.client.resume_token is not None:
                actions += self.client.handle(Taken(self.cursor), now=self.now)
        return Told(tuple(actions))

    def server(self, *frames: Frame, connection: int | None = None) -> Told:
        """Let the server send frames."""
        number = self.connection if connection is None else connection
        return self.give(*(FrameReceived(number, json.dumps(frame).encode()) for frame in frames))

    def raw(self, data: bytes) -> Told:
        """Let the server send bytes."""
        return self.give(FrameReceived(self.connection, data))

    def close(self, code: int | None = None, **fields: Any) -> Told:
        """Let the transport end, by the server's close code or by a fault."""
        return self.give(TransportClosed(connection=self.connection, code=code, **fields))

    def pass_time(self, seconds: float) -> Told:
        """Let time pass, with a timer that is never late."""
        end = self.now + seconds
        actions: list[ClientAction] = []
        for _ in range(10_000):
            due = self.client.next_deadline
            if due is None or due > end:
                self.now = end
                return Told(tuple(actions))
            self.now = max(self.now, due)
            actions += self.give(TimerExpired()).actions
        raise AssertionError("the machine spins")

    # -- the usual beginnings -----------------------------------------------------------------

    def connect(self) -> Told:
        """Up to the handshake, which is sent."""
        return Told(self.give(Connect()).actions + self.open().actions)

    def open(self) -> Told:
        """The transport that was asked for opens."""
        return self.give(TransportOpened(self.connection))

    def live(self, *after: Frame, **fields: Any) -> Told:
        """Up to the welcome of a version 2 server, and what follows it."""
        self.connect()
        return self.server(self.welcome(**fields), *after)

    def back(self, *after: Frame, **fields: Any) -> Told:
        """From a lost connection over the next attempt to the next welcome."""
        hello = self.try_again()
        told = self.server(self.welcome(**fields), *after)
        return Told(hello.actions + told.actions)

    def try_again(self) -> Told:
        """Wait for the next attempt, and open its transport."""
        due = self.client.next_deadline
        assert due is not None
        waited = self.pass_time(due - self.now)
        assert self.state == ClientState.CONNECTING, self.state
        return Told(waited.actions + self.open().actions)

    def welcome(self, **fields: Any) -> Frame:
        """A version 2 welcome: resumed at the cursor where the client holds a session."""
        held = self.client.resume_token
        since = 0 if held is None else held.cursor
        frame = {
            "type": "hello_ok",
            "session_id": "s1",
            "agent_id": "demo",
            "protocol": 2,
            "protocol_version": 2,
            "server_min_version": 1,
            "server_max_version": 2,
            "resumed": held is not None,
            "epoch": "e1",
            "cursor": since,
            "oldest_cursor": 1,
            "resync_required": False,
            "sequence": since,
            "policy": self.policy,
        }
        return without_none({**frame, **fields})

    def welcome_v1(self, **fields: Any) -> Frame:
        """A version 1 welcome as deployed servers give it: no floor, no epoch, no policy."""
        frame = {"type": "hello_ok", "session_id": "s1", "protocol_version": 1, "cursor": 0}
        return without_none({**frame, **fields})


def reach(lab: Lab, state: ClientState) -> None:
    """Bring a client that holds a position, and was not yet started or waits, into a state."""
    if state is ClientState.IDLE:
        return
    if lab.state is ClientState.WAITING:
        if state is ClientState.WAITING:
            return
        due = lab.client.next_deadline
        assert due is not None
        lab.pass_time(due - lab.now)
    else:
        lab.give(Connect())
    match state:
        case ClientState.CONNECTING:
            pass
        case ClientState.STOPPED:
            lab.give(Disconnect())
        case ClientState.WAITING:
            lab.close()
        case ClientState.TOKEN_NEEDED:
            lab.close(http_status=401, retry_after_seconds=4.0)
        case _:
            lab.open()
            lab.server(*_answers(lab, state))
    assert lab.state is state, lab.state


def _answers(lab: Lab, state: ClientState) -> list[Frame]:
    """What the server says to a handshake, so that the client is in this state."""
    match state:
        case ClientState.REJOINING:
            return [lab.welcome_v1()]
        case ClientState.REJECTED:
            return [{"type": "hello_error", "code": "bogus", "message": ""}]
        case ClientState.LIVE:
            return [lab.welcome()]
        case ClientState.RECOVERING:
            return [lab.welcome(), event(99)]
        case ClientState.RESYNCING:
            return [lab.welcome(resync_required=True, resync_reason="trimmed")]
        case _:
            return []


def without_none(frame: Frame) -> Frame:
    return {name: value for name, value in frame.items() if value is not None}


def event(seq: int, kind: str = "event", **fields: Any) -> Frame:
    inner = {"type": "note", "data": {"n": seq}, "event_id": f"ev-{seq}", "timestamp": 1.5}
    return {"type": kind, "seq": seq, "event": {**inner, **fields}}


def events(first: int, last: int, kind: str = "event") -> list[Frame]:
    return [event(seq, kind) for seq in range(first, last + 1)]


def skip(first: int, last: int) -> Frame:
    return {"type": "skip", "first": first, "last": last, "reason": "superseded"}


def caught_up(cursor: int, **fields: Any) -> Frame:
    return {"type": "caught_up", "cursor": cursor, **fields}


def snapshot(cursor: int, reason: str = "lagged", **fields: Any) -> Frame:
    frame = {"type": "snapshot", "cursor": cursor, "epoch": "e1", "reason": reason}
    return without_none({**frame, "state": {"upto": cursor}, **fields})


def ack(request_id: str, *, duplicate: bool = False) -> Frame:
    return {"type": "message_ack", "request_id": request_id, "duplicate": duplicate}


def nack(request_id: str, code: str = "inbox_full") -> Frame:
    return {"type": "message_nack", "request_id": request_id, "code": code, "message": "no"}


def retry_of(told: Told) -> RetryScheduled:
    return told.one(RetryScheduled)

"""Scripts for a client and any peer.

A script is a list of steps, each plain data, so that Hypothesis can shrink it. The peer may send
every frame of a small alphabet at every moment.
"""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from gatewayproto.actions import (
    ClientAction,
    Emit,
    OpenTransport,
    SendFrame,
)
from gatewayproto.client import Client, ClientState
from gatewayproto.inputs import (
    Abort,
    Activity,
    ClientInput,
    Connect,
    Disconnect,
    FrameReceived,
    Resync,
    Send,
    SetToken,
    Taken,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from tests.client.clientlab import POLICY, Frame, event, skip, snapshot

Step = tuple[Any, ...]
SEQS = st.integers(1, 9)
CURSORS = st.integers(0, 9)
EPOCHS = st.sampled_from(["e1", "e1", "e2"])
SESSIONS = st.sampled_from(["s1", "s1", "s1", "s2"])
# None, one that was never asked with, or the newest that the client sent.
NONCES = st.sampled_from([None, "stale", "newest", "newest"])
REASONS = ["trimmed", "cursor_ahead", "requested", "epoch_changed", "session_unknown", "lagged"]
KINDS = st.sampled_from(["event", "replay"])
# The peer that knows what comes next, which is what makes long scripts go anywhere.
NEXT = 0


def steps() -> st.SearchStrategy[Step]:
    """One step of a script; the usual ones more often."""
    welcome = st.tuples(
        st.just("welcome"),
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(["hello_ok", "joined"]),
                "session_id": SESSIONS,
                "epoch": EPOCHS,
                "resumed": st.sampled_from([True, True, True, False]),
                "reason": st.sampled_from([None, None, None, *REASONS]),
                "off": st.sampled_from([0, 0, 0, 1, -1]),
                "window": st.sampled_from([1, 3, 64]),
            }
        ),
    )
    welcome_v1 = st.tuples(
        st.just("welcome_v1"),
        st.sampled_from(["hello_ok", "joined"]),
        st.sampled_from(["s1", "s1", "s2", "s1.e1"]),
        st.one_of(st.none(), CURSORS),
        st.sampled_from([None, 1, 1, 4]),
        st.booleans(),
    )
    usual = st.one_of(
        st.just(("go on",)),
        st.just(("go on",)),
        st.tuples(st.just("event"), st.just(NEXT), KINDS),
        st.just(("taken all",)),
        st.tuples(st.just("answer"), st.sampled_from(["ack", "nack", "error", "response"])),
    )
    frames = st.one_of(
        welcome,
        welcome_v1,
        st.tuples(st.just("event"), SEQS, KINDS),
        st.tuples(st.just("skip"), st.integers(-2, 2), st.integers(-1, 3)),
        st.tuples(st.just("caught_up"), CURSORS, NONCES),
        st.tuples(st.just("snapshot"), CURSORS, EPOCHS, st.sampled_from(REASONS), NONCES),
        st.tuples(st.just("part"), CURSORS, st.integers(1, 3), st.sampled_from(["{", "}", "{}"])),
        st.tuples(st.just("baseline"), CURSORS),
        st.tuples(st.just("ping"), CURSORS),
        st.tuples(st.just("numbered"), SEQS),
        st.tuples(
            st.just("reject"),
            st.sampled_from(["rate_limited", "auth_expired", "agent_not_found", "bogus"]),
        ),
        st.tuples(st.just("going_away"), st.integers(0, 8)),
        st.tuples(st.just("raw"), st.sampled_from([b"", b"{", b"[]", b'{"type":"x"}', b"\xff"])),
    )
    world = st.one_of(
        st.tuples(
            st.just("closed"), st.sampled_from([None, 1000, 1012, 4000, 4003, 4006, 4499, 4508])
        ),
        st.tuples(st.just("http"), st.sampled_from([401, 404, 429, 503])),
        st.just(("activity",)),
        st.tuples(st.just("late"), st.sampled_from([0.25, 8.0, 64.0, 4096.0])),
        st.tuples(
            st.just("early"),
        ),
        st.tuples(st.just("from the past"), SEQS),
    )
    commands = st.one_of(
        st.just(("connect",)),
        st.just(("send",)),
        st.just(("send",)),
        st.just(("abort",)),
        st.tuples(st.just("taken"), CURSORS),
        st.just(("taken all",)),
        st.just(("resync",)),
        st.tuples(st.just("token"), st.sampled_from([None, "t1", "t2"])),
    )
    rare = st.one_of(st.just(("disconnect",)), frames, frames, world)
    # `one_of` would flatten the groups into one, in which each step is as likely as another.
    groups = [*[usual] * 12, *[frames] * 3, *[world] * 2, *[commands] * 4, rare]
    return st.sampled_from(groups).flatmap(lambda group: group)


def scripts() -> st.SearchStrategy[list[Step]]:
    # Left to itself, a list is short; what is deep takes many steps.
    return st.one_of(st.lists(steps(), max_size=60), st.lists(steps(), min_size=30, max_size=60))


class Peer:
    """Makes inputs of steps: the server, the transport, the clock and the application at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.connection = 0
        self.is_open = False
        self.hello: Frame = {}
        self.welcome: Frame = {}
        self.nonce: str | None = None
        self.token: str | None = None
        self.sent = 0
        self.unanswered: list[str] = []
        self.cursor = 0

    def see(self, actions: tuple[ClientAction, ...]) -> None:
        """Take notice of what the client did."""
        for action in actions:
            match action:
                case OpenTransport(connection=number):
                    self.connection, self.is_open = number, False
                case SendFrame(frame=data):
                    frame = json.loads(data)
                    self.nonce = frame.get("nonce", self.nonce)
                    if frame["type"] in {"hello", "join"}:
                        self.hello = frame
                    if frame["type"] == "message":
                        self.unanswered.append(frame["request_id"])
                case Emit(event=told):
                    token = getattr(told, "token", None)
                    self.cursor = self.cursor if token is None else token.cursor
                case _:
                    pass

    def input_of(self, step: Step, client: Client) -> ClientInput | None:
        """The input that a step stands for; None where its driver could not give it now."""
        name, *arguments = LAWFUL[client.state] if step == ("go on",) else step
        if name in CLOCK:
            self.now = CLOCK[name](self, client, *arguments)
            return TimerExpired()
        if name in COMMANDS:
            return COMMANDS[name](self, *arguments)
        if name in TRANSPORT:
            return TRANSPORT[name](self, *arguments) if self.connection else None
        if not self.is_open:
            return None
        if name == "raw":
            return FrameReceived(self.connection, *arguments)
        frame = FRAMES[name](self, *arguments)
        if frame["type"] in {"hello_ok", "joined"}:
            self.welcome = frame
        return FrameReceived(self.connection, json.dumps(frame).encode())

    # -- inputs -------------------------------------------------------------------------------

    def opened(self) -> ClientInput | None:
        """The transport opens, once."""
        if self.is_open:
            return None
        self.is_open = True
        return TransportOpened(self.connection)

    def refused(self, status: int) -> ClientInput | None:
        """An HTTP answer in place of the upgrade."""
        if self.is_open:
            return None
        return TransportClosed(
            connection=self.connection, http_status=status, retry_after_seconds=2.0
        )

    def from_the_past(self, seq: int) -> ClientInput | None:
        """An event on the connection before this one."""
        if self.connection == 1:
            return None
        return FrameReceived(self.connection - 1, json.dumps(event(seq)).encode())

    def send(self) -> ClientInput:
        """The next message."""
        self.sent += 1
        return Send(content="x" * (self.sent % 3), request_id=f"m{self.sent}")

    def renew(self, token: str | None) -> ClientInput:
        """Another token."""
        self.token = token
        return SetToken(token)

    # -- frames -------------------------------------------------------------------------------

    def honest_welcome(self) -> Frame:
        """What a good server of the client's newest version answers."""
        session_id = self.hello.get("session_id", "s1").partition(".")[0]
        if 1 in {self.hello.get("protocol_max"), self.hello.get("max_version")}:
            since = self.hello.get("since", 0)
            kind = "joined" if self.hello["type"] == "join" else "hello_ok"
            fields = {"session_id": session_id, "cursor": since, "oldest_cursor": 1}
            return {"type": kind, **fields}
        epoch = self.hello.get("epoch", "e1")
        unproved = "session_id" in self.hello and "epoch" not in self.hello
        frame = self._welcome(session_id, epoch, "epoch_changed" if unproved else None)
        # There is more than the client has had, which the welcome must not make it believe.
        return {**frame, "cursor": frame["cursor"] + 2}

    def honest_snapshot(self) -> Frame:
        """The snapshot that the last welcome announced."""
        if "epoch" not in self.welcome:
            return {"type": "snapshot", "state": {"event_cursor": 4}}
        return snapshot(4, "epoch_changed", epoch=self.welcome["epoch"])

    def any_welcome(self, said: dict[str, Any]) -> Frame:
        """A welcome that may contradict everything."""
        frame = self._welcome(
            said["session_id"], said["epoch"], said["reason"], resumed=said["resumed"]
        )
        frame["policy"] = {**POLICY, "max_pending_requests": said["window"]}
        frame["sequence"] = max(0, frame["sequence"] + said["off"])
        return {**frame, "type": said["type"]}

    def _welcome(
        self, session_id: str, epoch: str, reason: str | None, *, resumed: bool = True
    ) -> Frame:
        resumed = resumed and "session_id" in self.hello
        since = self.hello.get("since", 0) if resumed else 0
        return {
            "type": "joined" if self.hello.get("type") == "join" else "hello_ok",
            "session_id": session_id if resumed else f"{session_id}-{self.connection}",
            "protocol_version": 2,
            "resumed": resumed,
            "epoch": epoch,
            "cursor": since,
            "oldest_cursor": 1,
            "resync_required": reason is not None,
            "resync_reason": reason,
            "sequence": since,
            "policy": POLICY,
        }

    def skip(self, ahead: int, length: int) -> Frame:
        """A skip around what is expected, or beside it, or the wrong way."""
        first = max(1, self.cursor + 1 + ahead)
        return skip(first, max(1, first + length))

    def answer(self, kind: str) -> Frame:
        """An answer to the oldest message that has none."""
        request_id = self.unanswered.pop(0) if self.unanswered else "bogus"
        fields: Frame = {"request_id": request_id, **ANSWERS[kind]}
        return fields

    def nonce_of(self, which: str | None) -> str | None:
        """The newest nonce that the client sent, or another."""
        return self.nonce if which == "newest" else which


ANSWERS: dict[str, Frame] = {
    "ack": {"type": "message_ack", "duplicate": False},
    "nack": {"type": "message_nack", "code": "inbox_full", "message": "no"},
    "error": {"type": "error", "code": "inbox_full", "message": "no"},
    "response": {"type": "response", "status": "accepted"},
}
# What a good server, a good driver and a good application would do next.
LAWFUL: dict[ClientState, Step] = {
    ClientState.IDLE: ("early",),
    ClientState.CONNECTING: ("opened",),
    ClientState.HANDSHAKING: ("honest welcome",),
    ClientState.REJOINING: ("honest welcome",),
    ClientState.REJECTED: ("closed", 1012),
    ClientState.LIVE: ("event", NEXT, "event"),
    ClientState.RECOVERING: ("caught up",),
    ClientState.RESYNCING: ("honest snapshot",),
    ClientState.WAITING: ("due",),
    ClientState.TOKEN_NEEDED: ("token", "t1"),
    ClientState.STOPPED: ("early",),
}
CLOCK: dict[str, Callable[..., float]] = {
    "due": lambda peer, client: max(peer.now, client.next_deadline or peer.now),
    "late": lambda peer, _, seconds: peer.now + seconds,
    "early": lambda peer, _: peer.now,
}
COMMANDS: dict[str, Callable[..., ClientInput]] = {
    "connect": lambda _: Connect(),
    "send": Peer.send,
    "abort": lambda _: Abort(),
    "taken": lambda _, seq: Taken(seq),
    "taken all": lambda peer: Taken(peer.cursor),
    "resync": lambda _: Resync(),
    "token": Peer.renew,
    "disconnect": lambda _: Disconnect(),
}
TRANSPORT: dict[str, Callable[..., ClientInput | None]] = {
    "opened": Peer.opened,
    "activity": lambda peer: Activity(peer.connection),
    "closed": lambda peer, code: TransportClosed(connection=peer.connection, code=code),
    "http": Peer.refused,
    "from the past": Peer.from_the_past,
}
FRAMES: dict[str, Callable[..., Frame]] = {
    "honest welcome": Peer.honest_welcome,
    "honest snapshot": Peer.honest_snapshot,
    "welcome": Peer.any_welcome,
    "welcome_v1": lambda _, kind, session_id, cursor, floor, resync: {
        "type": kind,
        "session_id": session_id,
        "cursor": cursor,
        "oldest_cursor": floor,
        "resync_required": resync,
    },
    "event": lambda peer, seq, kind: event(seq or peer.cursor + 1, kind),
    "skip": Peer.skip,
    "caught up": lambda peer: {
        "type": "caught_up",
        "cursor": peer.cursor,
        "nonce": peer.nonce,
    },
    "caught_up": lambda peer, cursor, nonce: {
        "type": "caught_up",
        "cursor": cursor,
        "nonce": peer.nonce_of(nonce),
    },
    "snapshot": lambda peer, cursor, epoch, reason, nonce: snapshot(
        cursor, reason, epoch=epoch, nonce=peer.nonce_of(nonce)
    ),
    "part": lambda _, cursor, part, chunk: snapshot(
        cursor, state=None, part=part, parts=2, chunk=chunk
    ),
    "baseline": lambda _, cursor: {"type": "snapshot", "state": {"event_cursor": cursor}},
    "ping": lambda _, cursor: {"type": "ping", "cursor": cursor},
    "answer": Peer.answer,
    "numbered": lambda _, seq: {"type": "status", "seq": seq, "data": {"n": seq}},
    "reject": lambda _, code: {"type": "hello_error", "code": code, "message": "no"},
    "going_away": lambda _, seconds: {
        "type": "going_away",
        "reason": "x",
        "after_ms": seconds * 1000,
        "spread_ms": 0,
    },
}


def counting_ids() -> Callable[[], str]:
    numbers = iter(range(1, 1_000_000))
    return lambda: f"id-{next(numbers)}"

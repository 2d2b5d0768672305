"""Runs of a gateway, made by hand: each shows some properties at work."""

from collections.abc import Mapping
from typing import Any

from gatewayproto import GatewayConfig
from gatewayproto.actions import (
    CloseConnection,
    CommandDropped,
    JoinRequested,
    MessageReceived,
    Published,
    SendFrames,
    SessionExpired,
    SessionOpened,
    SubscriberJoined,
    SubscriberLagged,
    SubscriberLeft,
)
from gatewayproto.errors import ErrorCode
from gatewayproto.inputs import (
    Accept,
    Activity,
    ChangeEpoch,
    Complete,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    FrameReceived,
    Publish,
    Reject,
    SetHealth,
    TimerExpired,
)
from gatewayproto.testing.reference import compact, event_object, event_v1, fold
from gatewayproto.testing.steps import WORLD, Restarted, Rested, Saved, Setup
from tests.testing.handmade import Script, event, event_frame, frame, welcome

LIMITS: dict[str, Any] = {
    "heartbeat": 32.0,
    "handshake_timeout": 16.0,
    "resume_window": 64.0,
    "request_ttl": 16.0,
    "stall_timeout": 48.0,
    "max_payload": 4096,
    "max_pending_requests": 2,
    "retain": 2,
    "retain_transient": 2,
    "send_window": 1500,
    "answer_window": 1024,
    "max_lags": 1,
    "max_sessions": 3,
    "push_interval": None,
}

FIRST = event(1)
TOKENS = [event(n, run_id="r", transient=True, data={"text": f"t{n}"}) for n in (2, 3)]
FINAL = event(4, run_id="r", final=True)
LOG = [FIRST, *TOKENS, FINAL]


def script(options: Mapping[str, Any], **usual: Any) -> Script:
    """A gateway and nothing yet; `options` of its configuration go before what is usual."""
    return Script(Setup(gateway=GatewayConfig(**{**LIMITS, **usual, **options})))


def ask(run: Script, number: int, label: str = "", *, version: int = 2, **fields: Any) -> None:
    """A connection opens and asks to join."""
    run.gateway("", ConnectionOpened(connection=number))
    run.gateway("", Activity(number))
    hello = frame("hello", **{
        "agent_id": "agent", "protocol_min": version, "protocol_max": version, **fields,
    })  # fmt: skip
    run.gateway(label, FrameReceived(number, hello), asked(number, version))
    run.now += 0.25


def asked(number: int, version: int = 2) -> JoinRequested:
    """What the application is told of a handshake."""
    return JoinRequested(connection=number, agent_id="agent", protocol_version=version)


def joined(number: int, **fields: Any) -> SubscriberJoined:
    """What the application is told of a welcome."""
    usual: dict[str, Any] = {
        "connection": number,
        "session_id": "s",
        "client_id": f"k{number}",
        "resumed": False,
        "sequence": 0,
        "resync_reason": None,
    }
    return SubscriberJoined(**{**usual, **fields})


def begin(run: Script, number: int = 1, label: str = "accept", principal: str = "p") -> None:
    """A session `s` in epoch `E`, and its first follower at its head."""
    ask(run, number, "ask" if label == "accept" else "")
    run.gateway(
        label,
        Accept(connection=number, principal=principal),
        SessionOpened(session_id="s", agent_id="agent", principal=principal),
        joined(number),
        send(number, welcome(), frame("caught_up", cursor=0)),
    )


def send(number: int | tuple[int, ...], *frames: bytes) -> SendFrames:
    """Frames for one connection, or for some."""
    return SendFrames((number,) if isinstance(number, int) else number, frames)


def publish(run: Script, label: str, seq: int, to: int | None, *, session: str = "s") -> None:
    """An event of the log is published and sent to one who has room."""
    what = LOG[seq - 1]
    actions = [] if to is None else [send(to, event_frame("event", seq, what))]
    run.gateway(label, Publish(session_id=session, event=what), numbered(seq, session), *actions)


def numbered(seq: int, session: str = "s") -> Published:
    """What the application is told of an event of the log."""
    return Published(session_id=session, seq=seq, event_id=f"e{seq}")


def drain(
    run: Script, number: int, label: str = "", *actions: Any, size: int = 0, **how: Any
) -> None:
    """The transport takes everything that it was given by now, or so much."""
    run.gateway(label, Drained(number, size or owed(run, number)), *actions, **how)


def owed(run: Script, number: int) -> int:
    """What a transport was given and has not taken."""
    total = 0
    for step in run.steps:
        if isinstance(step.input, Drained) and step.input.connection == number:
            total -= step.input.size
        for action in step.actions:
            if isinstance(action, SendFrames) and number in action.connections:
                total += sum(map(len, action.frames))
    return total


def resumed(since: int, **fields: Any) -> bytes:
    """The welcome of one who goes on in session `s`, whose head is 4."""
    usual: Mapping[str, Any] = {
        "resumed": True,
        "cursor": 4,
        "oldest_cursor": 1,
        "sequence": since,
    }
    return welcome(**{**usual, **fields})


# -- runs -------------------------------------------------------------------------------------


def delivery(**options: Any) -> Script:
    """Live events, a resume with a skip and a replay, and a ping."""
    run = script(options)
    begin(run)
    drain(run, 1)
    publish(run, "event 1", 1, 1)
    publish(run, "event 2", 2, 1)
    run.gateway("close", ConnectionClosed(1), left(1))
    publish(run, "event 3", 3, None)
    publish(run, "event 4", 4, None)
    ask(run, 2, session_id="s", epoch="E", since=1)
    run.gateway(
        "resume",
        Accept(connection=2, principal="p"),
        joined(2, resumed=True, sequence=1),
        send(
            2,
            resumed(1),
            frame("skip", first=2, last=3, reason="superseded"),
            event_frame("replay", 4, FINAL),
            frame("caught_up", cursor=4),
        ),
    )
    drain(run, 2)
    run.wait(32.0)
    run.gateway("ping", TimerExpired(), send(2, frame("ping", nonce="n", cursor=4)))
    return run


def left(number: int) -> SubscriberLeft:
    """What the application is told of an end."""
    return SubscriberLeft(connection=number, session_id="s", client_id=f"k{number}")


def snapshot(reason: str, cursor: int, epoch: str = "E", **fields: Any) -> bytes:
    """A snapshot of the log at a cursor."""
    fields.setdefault("state", fold(LOG[:cursor]))
    return frame("snapshot", cursor=cursor, epoch=epoch, reason=reason, **fields)


def recovery(**options: Any) -> Script:
    """A snapshot that is trimmed's answer, a resume and a resync in band, a new epoch."""
    run = script(options, retain=1)
    begin(run)
    publish(run, "", 1, 1)
    run.gateway(
        "go back",
        FrameReceived(1, frame("resume", since=0, epoch="E", nonce="a")),
        send(1, event_frame("replay", 1, FIRST), frame("caught_up", cursor=1, nonce="a")),
    )
    run.gateway(
        "resync",
        FrameReceived(1, frame("resync", nonce="b")),
        send(1, snapshot("requested", 1, nonce="b"), frame("caught_up", cursor=1, nonce="b")),
    )
    publish(run, "", 2, 1)
    publish(run, "", 3, 1)
    drain(run, 1)
    run.gateway("epoch", ChangeEpoch(session_id="s"), send(1, snapshot("epoch_changed", 3, "F")))
    publish(run, "", 4, 1)
    ask(run, 2, session_id="s", epoch="F", since=0)
    run.gateway(
        "trimmed",
        Accept(connection=2, principal="p"),
        joined(2, resumed=True, sequence=4, resync_reason="trimmed"),
        send(
            2,
            resumed(4, epoch="F", oldest_cursor=2, resync_required=True, resync_reason="trimmed",
                presence_count=2,
            ),
            snapshot("trimmed", 4, "F"),
            frame("caught_up", cursor=4),
        ),
    )  # fmt: skip
    return run


BIG = event(1, data={"text": "x" * 1300})


def lagging(**options: Any) -> Script:
    """One who takes nothing until what it needs is gone, and another who keeps up."""
    run = script(options, retain=1)
    begin(run)
    run.gateway(
        "",
        Publish(session_id="s", event=BIG),
        numbered(1),
    )
    more = event(2, data={"text": "y" * 100})
    run.gateway("", Publish(session_id="s", event=more), numbered(2))
    state = fold([BIG, more])
    whole = frame("snapshot", cursor=2, epoch="E", reason="lagged", state=state)
    run.gateway(
        "lag",
        Drained(1, owed(run, 1)),
        SubscriberLagged(connection=1, session_id="s", position=0),
        send(1, whole),
    )
    run.wait(48.0)
    run.gateway(
        "stall",
        TimerExpired(),
        CloseConnection(1, 4002, "slow_consumer"),
        left(1),
    )
    run.gateway("late frame", FrameReceived(1, frame("ping", nonce="x")))
    run.gateway("late bytes", Drained(1, 5))
    run.gateway(
        "late accept",
        Accept(connection=1, principal="p"),
        CommandDropped(command="accept", target=1),
    )
    run.wait(64.0)
    run.gateway("expired", TimerExpired(), SessionExpired(session_id="s"), deadline=None)
    return run


def decisions(**options: Any) -> Script:
    """Rejections, a session of another's, a cursor ahead, and an epoch that is gone."""
    run = script(options)
    begin(run)
    for seq in range(1, 5):
        publish(run, "", seq, 1)
    ask(run, 2, session_id="s", epoch="E", since=3)
    run.gateway(
        "stranger",
        Accept(connection=2, principal="thief"),
        SessionOpened(session_id="z", agent_id="agent", principal="thief"),
        joined(2, session_id="z", resync_reason="session_unknown"),
        send(
            2,
            welcome(
                session_id="z", epoch="Z", resync_required=True, resync_reason="session_unknown"
            ),
            frame("caught_up", cursor=0),
        ),
    )
    asks: list[tuple[int, dict[str, Any], str]] = [
        (3, {"epoch": "E", "since": 5}, "cursor_ahead"),
        (4, {"epoch": "D", "since": 4}, "epoch_changed"),
    ]
    for number, fields, reason in asks:
        ask(run, number, session_id="s", **fields)
        run.gateway(
            reason,
            Accept(connection=number, principal="p"),
            joined(number, resumed=True, sequence=4, resync_reason=reason),
            send(
                number,
                resumed(4, resync_required=True, resync_reason=reason, presence_count=number - 1),
                snapshot(reason, 4),
                frame("caught_up", cursor=4),
            ),
        )
    rejections(run)
    return run


def rejections(run: Script) -> None:
    """Handshakes that cannot be read, or that the application refuses."""
    for number, hello, code, close in (
        (5, {"since": "5"}, "invalid_cursor", 4502),
        (6, {"protocol_min": 3, "protocol_max": 3}, "version_unsupported", 4500),
        (7, {"protocol_min": 2, "protocol_max": 1}, "invalid_protocol_hello", 4501),
    ):
        run.gateway("", ConnectionOpened(connection=number))
        fields = {"agent_id": "agent", "protocol_min": 2, "protocol_max": 2, **hello}
        words: dict[str, Any] = {"code": code, "message": "no"}
        if code == "version_unsupported":
            words |= {"server_min_version": 1, "server_max_version": 2}
        run.gateway(
            code,
            FrameReceived(number, frame("hello", **fields)),
            send(number, frame("hello_error", **words)),
            CloseConnection(number, close, code),
        )
    ask(run, 8)
    run.gateway(
        "refused",
        Reject(connection=8, code=ErrorCode.AUTH_REQUIRED),
        send(8, frame("hello_error", code="auth_required", message="no")),
        CloseConnection(8, 4503, "auth_required"),
    )
    run.gateway("", ConnectionOpened(connection=9))
    run.wait(16.0)
    run.gateway(
        "late hello",
        TimerExpired(),
        send(9, frame("error", code="handshake_timeout", message="no")),
        CloseConnection(9, 4005, "handshake_timeout"),
    )


def message(request_id: str | None = "q", content: str = "hi", **fields: Any) -> bytes:
    """A message of the client's."""
    return frame("message", content=content, request_id=request_id, **fields)


def received(message_id: int, request_id: str | None = "q", content: str = "hi") -> Any:
    """A message that enters the inbox."""
    return MessageReceived(
        session_id="s",
        message_id=message_id,
        content=content,
        request_id=request_id,
        reply_to=None,
        metadata=None,
    )


def ack(request_id: str = "q", *, duplicate: bool = False) -> bytes:
    """The acknowledgement of a message."""
    return frame("message_ack", request_id=request_id, duplicate=duplicate)


def nack(code: str, request_id: str | None = "q") -> bytes:
    """The refusal of a message."""
    return frame("message_nack", code=code, message="no", request_id=request_id)


def requests(**options: Any) -> Script:
    """A message, its copy, another under its id, a full inbox, and a restart from the store."""
    run = script(options)
    begin(run)
    run.gateway("message", FrameReceived(1, message()), received(1), send(1, ack()))
    run.gateway("copy", FrameReceived(1, message()), send(1, ack(duplicate=True)))
    run.gateway(
        "conflict",
        FrameReceived(1, message(content="no")),
        send(1, nack("request_conflict")),
    )
    run.gateway("unnamed", FrameReceived(1, message(None)), received(2, None))
    run.gateway("full", FrameReceived(1, message("r")), send(1, nack("inbox_full", "r")))
    run.gateway("", Complete(session_id="s", message_id=1))
    run.gateway("bad id", FrameReceived(1, message("")), send(1, nack("invalid_request", None)))
    restart(run, "store", epoch="F")
    run.gateway("copy again", FrameReceived(2, message()), send(2, ack(duplicate=True)))
    run.wait(33.0)
    run.gateway("", Activity(2))
    run.gateway("forgotten", FrameReceived(2, message()), received(3), send(2, ack()))
    return run


def restart(run: Script, kind: Any, *, epoch: str, number: int = 2) -> None:
    """The process dies; a client comes back with a position at 0 of epoch `E`."""
    run.add("", WORLD, Restarted(kind), deadline=None)
    ask(run, number, session_id="s", epoch="E", since=0)
    broken = epoch != "E"
    reason = "epoch_changed" if broken else None
    frames = [snapshot("epoch_changed", 0, epoch)] if broken else []
    run.gateway(
        f"back after {kind}",
        Accept(connection=number, principal="p"),
        joined(number, resumed=True, resync_reason=reason),
        send(
            number,
            welcome(resumed=True, epoch=epoch, resync_required=broken, resync_reason=reason),
            *frames,
            frame("caught_up", cursor=0),
        ),
    )


def restarts(**options: Any) -> Script:
    """A restart with the state whole, and one from a copy."""
    run = script(options)
    begin(run)
    run.add("", WORLD, Saved(), deadline=None)
    restart(run, "whole", epoch="E")
    run.gateway("", ConnectionClosed(2), left(2))
    restart(run, "copy", epoch="G", number=3)
    return run


def clock(**options: Any) -> Script:
    """An early timer, a ping, and a client that is silent for two heartbeats."""
    run = script(options, stall_timeout=1e6)
    begin(run)
    drain(run, 1)
    run.gateway("early", TimerExpired())
    run.wait(32.0)
    ping = frame("ping", nonce="n", cursor=0)
    run.gateway("first ping", TimerExpired(), send(1, ping))
    run.wait(32.0)
    run.gateway(
        "silence",
        TimerExpired(),
        CloseConnection(1, 4001, "liveness_timeout"),
        left(1),
    )
    return run


def version_1(**options: Any) -> Script:
    """A version 1 client: live events, and a snapshot for what it cannot be told of."""
    run = script(options, retain=1)
    ask(run, 1, version=1)
    old: dict[str, Any] = {
        "session_id": "s.E",
        "protocol": 1,
        "protocol_version": 1,
        "epoch": None,
        "head": 0,
    }
    run.gateway(
        "accept",
        Accept(connection=1, principal="p"),
        SessionOpened(session_id="s", agent_id="agent", principal="p"),
        joined(1),
        send(1, welcome(**old)),
    )
    for seq in range(1, 5):
        what = LOG[seq - 1]
        run.gateway(
            f"event {seq}",
            Publish(session_id="s", event=what),
            numbered(seq),
            send(1, compact(event_v1(seq, what))),
        )
    run.gateway("ack", FrameReceived(1, message()), received(1), send(1, response("accepted")))
    ask(run, 2, version=1, session_id="s.E", since=0)
    resync: dict[str, Any] = {"resync_required": True, "resync_reason": "trimmed"}
    placed = {**fold(LOG), "event_cursor": 4, "session_id": "s.E", "agent_id": "agent"}
    run.gateway(
        "trimmed",
        Accept(connection=2, principal="p"),
        joined(2, resumed=True, sequence=4, resync_reason="trimmed"),
        send(
            2,
            resumed(4, **{**old, **resync, "cursor": 0, "head": 4, "oldest_cursor": 2,
                             "presence_count": 2}),
            frame("snapshot", state=placed),
        ),
    )  # fmt: skip
    return run


def response(status: str) -> bytes:
    """The acknowledgement of version 1."""
    return frame("response", status=status, request_id="q")


def two_sessions(**options: Any) -> Script:
    """Two principals, each with a session."""
    run = script(options)
    begin(run)
    ask(run, 2)
    run.gateway(
        "other",
        Accept(connection=2, principal="other"),
        SessionOpened(session_id="t", agent_id="agent", principal="other"),
        joined(2, session_id="t"),
        send(2, welcome(session_id="t", epoch="T"), frame("caught_up", cursor=0)),
    )
    publish(run, "event 1", 1, 1)
    run.gateway(
        "pong", FrameReceived(2, frame("ping", nonce="x")), send(2, frame("pong", nonce="x"))
    )
    run.gateway(
        "garbage",
        FrameReceived(2, b"\xff"),
        send(2, frame("error", code="malformed_frame", message="no")),
    )
    return run


def plain_event(number: int) -> dict[str, Any]:
    """An event of the log as its clients see it."""
    return event_object(LOG[number - 1])


def entry(number: int) -> dict[str, Any]:
    """A client in a list of who is connected."""
    return {"client_id": f"k{number}", "agent_id": "agent", "connected_at": 0.0}


def presence(version: int, **fields: Any) -> bytes:
    """A push of who is connected."""
    return frame("presence", version=version, **fields)


def pushes(**options: Any) -> Script:
    """Two come and one leaves, the health changes, and credentials run out."""
    run = script(options, push_interval=1.0)
    ask(run, 1)
    run.gateway(
        "first",
        Accept(connection=1, principal="p"),
        SessionOpened(session_id="s", agent_id="agent", principal="p"),
        joined(1),
        send(1, welcome(presence=[entry(1)]), frame("caught_up", cursor=0)),
    )
    drain(run, 1)
    ask(run, 2, session_id="s", epoch="E", since=0)
    listed = [entry(1), entry(2)]
    run.gateway(
        "second",
        Accept(connection=2, principal="p", expires_in=8.0),
        joined(2, resumed=True),
        send(
            2,
            resumed(0, cursor=0, presence=listed, presence_count=2, presence_version=2),
            frame("caught_up", cursor=0),
        ),
        deadline=run.now,
    )
    drain(run, 2, deadline=run.now)
    change = presence(2, from_version=1, joined=[entry(2)], left=[])
    run.gateway("change", TimerExpired(), send(1, change), deadline=run.now + 1.0)
    run.now += 0.5
    ask(run, 3, session_id="s", epoch="E", since=0)
    run.gateway(
        "third",
        Accept(connection=3, principal="p"),
        joined(3, resumed=True),
        send(
            3,
            resumed(0, cursor=0, presence=None, presence_count=3, presence_version=3),
            frame("caught_up", cursor=0),
        ),
        deadline=run.now + 0.25,
    )
    drain(run, 3, deadline=run.now + 0.25)
    run.now += 0.25
    whole = [*listed, entry(3)]
    run.gateway(
        "more",
        TimerExpired(),
        send(1, presence(3, from_version=2, joined=[entry(3)], left=[])),
        send(2, presence(3, entries=whole)),
        deadline=run.now + 7.0,
    )
    run.gateway("set", SetHealth(health={"ok": True}), deadline=run.now)
    told = frame("health", version=1, health={"ok": True})
    run.gateway("health", TimerExpired(), send((1, 2, 3), told), deadline=run.now + 7.0)
    run.now += 7.0
    run.gateway(
        "expired",
        TimerExpired(),
        CloseConnection(2, 4006, "auth_expired"),
        left(2),
        send(1, presence(4, from_version=3, joined=[], left=["k2"])),
        send(3, presence(4, presence_count=2)),
    )
    drain(run, 1)
    run.now += 2.0
    run.add("rest", WORLD, Rested())
    return run

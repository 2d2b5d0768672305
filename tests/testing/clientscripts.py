"""Runs of a client, made by hand: each shows some properties at work."""

from typing import Any

from gatewayproto import Event
from gatewayproto.actions import (
    CaughtUp,
    CloseTransport,
    EventReceived,
    Gap,
    Joined,
    MessageAccepted,
    MessageRefused,
    OpenTransport,
    OutcomeUnknown,
    ResumeToken,
    RetryScheduled,
    SendFrame,
    Skipped,
    SnapshotReceived,
    StateChanged,
    Stopped,
    TokenNeeded,
)
from gatewayproto.backoff import Backoff
from gatewayproto.config import ClientConfig
from gatewayproto.inputs import (
    Activity,
    Connect,
    Disconnect,
    FrameReceived,
    Send,
    Taken,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.testing.reference import compact, event_v1
from gatewayproto.testing.steps import Setup
from tests.testing.handmade import Script, event, event_frame, frame, token, welcome

LIMITS: dict[str, Any] = {
    "agent_id": "agent",
    "handshake_timeout": 8.0,
    "recovery_timeout": 8.0,
    "heartbeat": 32.0,
    "backoff": Backoff(initial=1.0, maximum=4.0, jitter=0.0),
    "max_queued": 3,
}
EVENTS = [event(n) for n in range(1, 10)]


def script(options: dict[str, Any], **usual: Any) -> Script:
    """A client and nothing yet; `options` of its configuration go before what is usual."""
    return Script(Setup(clients={"c": ClientConfig(**{**LIMITS, **usual, **options})}))


def hello(number: int, held: ResumeToken | None = None, **fields: Any) -> SendFrame:
    """The handshake of a client that holds this position."""
    position: dict[str, Any] = {}
    if held is not None:
        position = {"session_id": held.session_id, "epoch": held.epoch, "since": held.cursor}
    usual = {"agent_id": "agent", "protocol_min": 1, "protocol_max": 2, "max_payload": 1048576}
    return SendFrame(number, frame("hello", **{**usual, **position, **fields}))


def joined(held: ResumeToken, **fields: Any) -> Joined:
    """What the application is told of the usual welcome."""
    usual: dict[str, Any] = {
        "token": held,
        "session_id": "s",
        "epoch": "E",
        "protocol_version": 2,
        "resumed": False,
        "cursor": 0,
        "oldest_cursor": 1,
        "sequence": 0,
        "resync_required": False,
        "resync_reason": None,
        "presence": None,
        "health": {},
    }
    return Joined(**{**usual, **fields})


def begin(run: Script) -> None:
    """A client that joined a new session `s` in epoch `E`."""
    run.client("connect", Connect(), StateChanged("connecting"), OpenTransport(connection=1))
    run.client("hello", TransportOpened(1), hello(1))
    run.now += 0.25
    comes(run, 1, "joined", welcome(), StateChanged("connected"), joined(token(0)))
    comes(run, 1, "caught up", frame("caught_up", cursor=0), CaughtUp(cursor=0))


def comes(run: Script, number: int, label: str, data: bytes, *actions: Any, **how: Any) -> None:
    """A frame comes in."""
    run.client(label, FrameReceived(number, data), *actions, **how)


def lands(run: Script, number: int, label: str, seq: int, kind: str = "event") -> None:
    """The next event comes in and is handed on, and the application takes it."""
    what = EVENTS[seq - 1]
    comes(run, number, label, event_frame(kind, seq, what), handed(seq, replayed=kind != "event"))
    run.client("", Taken(seq))


def handed(seq: int, *, replayed: bool = False, what: Event | None = None) -> EventReceived:
    """An event is handed on."""
    return EventReceived(
        seq=seq, replayed=replayed, event=what or EVENTS[seq - 1], token=token(seq)
    )


def skipped(first: int, last: int) -> Skipped:
    """Seqs are accounted for and will not come."""
    return Skipped(first=first, last=last, reason="superseded", token=token(last))


def skip(first: int, last: int) -> bytes:
    """The same, as it goes over the wire."""
    return frame("skip", first=first, last=last, reason="superseded")


# -- runs -------------------------------------------------------------------------------------


def events(**options: Any) -> Script:
    """Events, a duplicate, a skip, a gap with its recovery, and one at the tail."""
    run = script(options)
    begin(run)
    lands(run, 1, "event 1", 1)
    comes(run, 1, "duplicate", event_frame("event", 1, EVENTS[0]))
    comes(run, 1, "skip", skip(1, 3), skipped(2, 3))
    run.client("", Taken(3))
    resume = frame("resume", epoch="E", since=3, nonce="a")
    comes(
        run, 1, "gap", event_frame("event", 5, EVENTS[4]), Gap(expected=4, received=5),
        SendFrame(1, resume),
    )  # fmt: skip
    comes(run, 1, "ahead", event_frame("event", 6, EVENTS[5]))
    lands(run, 1, "event 4", 4, "replay")
    lands(run, 1, "event 5", 5, "replay")
    comes(run, 1, "not the answer", frame("caught_up", cursor=5))
    answer = frame("caught_up", cursor=5, nonce="a")
    comes(run, 1, "answer", answer, CaughtUp(cursor=5))
    ping, pong = frame("ping", nonce="p", cursor=6), frame("pong", nonce="p", cursor=5)
    comes(
        run, 1, "tail", ping, SendFrame(1, pong), Gap(expected=6, received=6),
        SendFrame(1, frame("resume", epoch="E", since=5, nonce="b")),
    )  # fmt: skip
    return run


def again(
    run: Script, number: int, held: ResumeToken, label: str = "hello again", *, wait: float = 1.0
) -> None:
    """The client waits and comes back with its position."""
    run.wait(wait)
    run.client(f"retry {number}", TimerExpired(), OpenTransport(connection=number))
    run.client(label, TransportOpened(number), hello(number, held))
    run.now += 0.25


def retry(attempt: int = 1, delay: float = 1.0, code: str | None = None) -> RetryScheduled:
    """What the application is told of a delay."""
    return RetryScheduled(delay=delay, attempt=attempt, code=code)


def lose(run: Script, number: int, label: str, attempt: int = 1, delay: float = 1.0) -> None:
    """The transport is gone, and the client waits."""
    run.client(
        label,
        TransportClosed(connection=number),
        StateChanged("reconnecting"),
        retry(attempt, delay),
    )


def snapshots(**options: Any) -> Script:
    """A resync after a reconnect, whole; and one in parts, for a new epoch."""
    run = script(options)
    begin(run)
    lands(run, 1, "event 1", 1)
    lose(run, 1, "lost")
    again(run, 2, token(1))
    late = welcome(resumed=True, cursor=5, oldest_cursor=4, resync_required=True,
                   resync_reason="trimmed", sequence=5)  # fmt: skip
    facts: dict[str, Any] = {
        "resumed": True,
        "cursor": 5,
        "oldest_cursor": 4,
        "resync_required": True,
        "resync_reason": "trimmed",
        "sequence": 5,
    }
    comes(run, 2, "resync", late, StateChanged("connected"), joined(token(1), **facts))
    comes(run, 2, "old news", frame("ping", nonce="p", cursor=5), SendFrame(
        2, frame("pong", nonce="p", cursor=1)))  # fmt: skip
    comes(
        run, 2, "snapshot",
        frame("snapshot", cursor=5, epoch="E", reason="trimmed", state={"x": 1}),
        taken_over(5, "trimmed"),
    )  # fmt: skip
    parts = {"cursor": 2, "epoch": "F", "reason": "epoch_changed", "parts": 2}
    comes(run, 2, "part 1", frame("snapshot", **parts, part=1, chunk='{"x"'))
    comes(
        run, 2, "part 2", frame("snapshot", **parts, part=2, chunk=":1}"),
        taken_over(2, "epoch_changed", "F"),
    )  # fmt: skip
    return run


def taken_over(cursor: int, reason: str, epoch: str = "E") -> SnapshotReceived:
    """A snapshot is handed on."""
    return SnapshotReceived(
        cursor=cursor, epoch=epoch, reason=reason, state={"x": 1}, token=token(cursor, epoch)
    )


def send(run: Script, request_id: str, *actions: Any, label: str = "") -> None:
    """The application sends a message."""
    run.client(label or f"send {request_id}", Send(content="hi", request_id=request_id), *actions)


def written(number: int, request_id: str) -> SendFrame:
    """A message is written."""
    return SendFrame(number, frame("message", content="hi", request_id=request_id))


def ack(request_id: str, *, duplicate: bool = False) -> bytes:
    """It is acknowledged."""
    return frame("message_ack", request_id=request_id, duplicate=duplicate)


def messages(**options: Any) -> Script:
    """Messages with every end, a full window, a full queue, a reconnect and a new session."""
    run = script(options)
    begin(run)
    send(run, "a", written(1, "a"))
    send(run, "b", written(1, "b"))
    send(run, "c")
    full = MessageRefused(request_id="d", code="inbox_full", message="too many wait")
    send(run, "d", full)
    accepted = MessageAccepted(request_id="a", duplicate=False)
    comes(run, 1, "ack a", ack("a"), accepted, written(1, "c"))
    lose(run, 1, "lost")
    again(run, 2, token(0))
    same = welcome(resumed=True)
    comes(
        run, 2, "resumed", same, StateChanged("connected"), joined(token(0), resumed=True),
        written(2, "b"), written(2, "c"),
    )  # fmt: skip
    repeated = MessageAccepted(request_id="b", duplicate=True)
    comes(run, 2, "ack b", ack("b", duplicate=True), repeated)
    send(run, "e", written(2, "e"))
    send(run, "f")
    comes(
        run, 2, "nack c", frame("message_nack", request_id="c", code="request_conflict",
                                message="no"),
        MessageRefused(request_id="c", code="request_conflict", message="no"), written(2, "f"),
    )  # fmt: skip
    send(run, "g")
    lose(run, 2, "lost again", 2, 2.0)
    again(run, 3, token(0), "hello once more", wait=2.0)
    other = welcome(session_id="t", epoch="T")
    comes(
        run, 3, "new session", other, StateChanged("connected"),
        joined(token(0, "T", "t"), session_id="t", epoch="T"),
        OutcomeUnknown(request_id="e"), OutcomeUnknown(request_id="f"), written(3, "g"),
    )  # fmt: skip
    run.wait(16.0)
    run.client("time is up", TimerExpired(), OutcomeUnknown(request_id="g"))
    leave = SendFrame(3, frame("leave"))
    run.client(
        "end", Disconnect(), leave, CloseTransport(connection=3), StateChanged("disconnected"),
        Stopped(code="disconnected", message=""), deadline=None,
    )  # fmt: skip
    gone = MessageRefused(request_id="h", code="disconnected", message="it has stopped")
    run.client("after the end", Send(content="hi", request_id="h"), gone, deadline=None)
    run.client("late news", Activity(3), deadline=None)
    return run


def endings(**options: Any) -> Script:
    """Attempts that fail one after the other, credentials that are too old, and a final code."""
    run = script(options)
    run.client("", Connect(), StateChanged("connecting"), OpenTransport(connection=1))
    run.client("refused", TransportClosed(connection=1, http_status=503, retry_after_seconds=3.0),
               StateChanged("reconnecting"), retry(1, 3.0, "http_503"))  # fmt: skip
    run.client("early", TimerExpired())
    run.wait(3.0)
    run.client("second try", TimerExpired(), OpenTransport(connection=2))
    run.client("old transport", Activity(1))
    run.wait(8.0)
    run.client(
        "no answer", TimerExpired(),
        CloseTransport(connection=2, code=4005, reason="handshake_timeout"),
        retry(2, 2.0, "handshake_timeout"),
    )  # fmt: skip
    run.wait(2.0)
    run.client("", TimerExpired(), OpenTransport(connection=3))
    run.client(
        "token", TransportClosed(connection=3, code=4006), TokenNeeded(code="auth_expired"),
        deadline=None,
    )  # fmt: skip
    return run


def rejected(**options: Any) -> Script:
    """A rejection that is final."""
    run = script(options)
    run.client("", Connect(), StateChanged("connecting"), OpenTransport(connection=1))
    run.client("", TransportOpened(1), hello(1))
    error = frame("hello_error", code="version_unsupported", message="no")
    comes(
        run, 1, "rejected", error, CloseTransport(connection=1, reason="rejected"),
        StateChanged("disconnected"), Stopped(code="version_unsupported", message="no"),
        deadline=None,
    )  # fmt: skip
    return run


def silence(**options: Any) -> Script:
    """A server that says nothing for two heartbeats."""
    run = script(options)
    begin(run)
    run.wait(32.0)
    run.client("ask", TimerExpired(), SendFrame(1, frame("ping", nonce="p")))
    run.wait(32.0)
    close = CloseTransport(connection=1, code=4001, reason="liveness_timeout")
    run.client(
        "given up", TimerExpired(), close, StateChanged("reconnecting"),
        retry(1, 1.0, "liveness_timeout"),
    )  # fmt: skip
    return run


def version_1(**options: Any) -> Script:
    """A version 1 server: its events, a reconnect, and its answer to `join`."""
    run = script(options)
    run.client("", Connect(), StateChanged("connecting"), OpenTransport(connection=1))
    run.client("", TransportOpened(1), hello(1))
    run.now += 0.25
    old = frame("hello_ok", session_id="s.E", cursor=0, protocol_version=1)
    facts: dict[str, Any] = {
        "session_id": "s.E",
        "epoch": None,
        "protocol_version": 1,
        "oldest_cursor": None,
        "health": None,
    }
    held = token(0, None, "s.E")
    comes(run, 1, "joined", old, StateChanged("connected"), joined(held, **facts),
          CaughtUp(cursor=0))  # fmt: skip
    data = {**EVENTS[0].data, "cursor": 1}
    comes(
        run, 1, "event 1", compact(event_v1(1, EVENTS[0])),
        EventReceived(
            seq=1, replayed=False, token=token(1, None, "s.E"),
            event=Event(type="note", data=data, event_id="e1", timestamp=1.0),
        ),
    )  # fmt: skip
    run.client("", Taken(1))
    lose(run, 1, "lost")
    again(run, 2, token(1, None, "s.E"))
    asked = {"agent_id": "agent", "min_version": 1, "max_version": 2, "session_id": "s.E"}
    join = SendFrame(2, frame("join", **asked, since=1, max_payload=1048576))
    comes(run, 2, "join", frame("hello_ok", session_id="s.E", cursor=1, protocol_version=1), join)
    return run

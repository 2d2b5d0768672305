"""Runs of a gateway, made by hand, in which something ends: a session, or the gateway."""

from typing import Any

from gatewayproto.actions import (
    CloseConnection,
    CommandDropped,
    DrainFinished,
    SessionClosed,
    SessionExpired,
)
from gatewayproto.inputs import (
    Accept,
    CloseSession,
    ConnectionClosed,
    ConnectionOpened,
    Drain,
    FrameReceived,
    Publish,
    TimerExpired,
)
from tests.testing.gatewayscripts import (
    FIRST,
    ask,
    begin,
    drain,
    joined,
    left,
    numbered,
    resumed,
    script,
    send,
)
from tests.testing.handmade import Script, event, event_frame, frame

OVER = CloseConnection(1, 4508, "session_closed")
BIG = event(1, data={"text": "x" * 1300})
SENT_AWAY = frame("going_away", reason="restart", after_ms=1500, spread_ms=2000)


def rejection(kind: str = "error", after: float | None = 1.5) -> bytes:
    """What a newcomer is told."""
    return frame(
        kind,
        code="going_away",
        message="no",
        next_step="wait_then_retry",
        retry_after_seconds=after,
    )


def closing(**options: Any) -> Script:
    """A session is closed while one reads on; the rest is fetched; a message is refused."""
    run = script(options)
    begin(run)
    run.gateway("", Publish(session_id="s", event=BIG), numbered(1))
    closed = SessionClosed(session_id="s", cursor=1)
    run.gateway("seal", CloseSession(session_id="s"), closed)
    run.gateway(
        "refused",
        FrameReceived(1, frame("message", content="x", request_id="r")),
        send(1, frame("message_nack", code="session_closed", message="no", request_id="r")),
    )
    run.gateway(
        "published",
        Publish(session_id="s", event=event(2)),
        CommandDropped(command="publish", target="s"),
    )
    rest = event_frame("event", 1, BIG)
    drain(run, 1, "rest", send(1, rest), OVER, left(1))
    ask(run, 2, session_id="s", epoch="E", since=0)
    run.gateway(
        "",
        Accept(connection=2, principal="p"),
        joined(2, resumed=True),
        send(2, resumed(0, cursor=1)),
    )
    drain(
        run,
        2,
        "fetched",
        send(2, event_frame("replay", 1, BIG), frame("caught_up", cursor=1)),
        CloseConnection(2, 4508, "session_closed"),
        left(2),
    )
    run.wait(64.0)
    run.gateway("expired", TimerExpired(), SessionExpired(session_id="s"), deadline=None)
    return run


def reading_on(**options: Any) -> Script:
    """The window of a closed session passes while somebody still reads."""
    run = script(options, stall_timeout=100.0, heartbeat=100.0)
    begin(run)
    run.gateway("", Publish(session_id="s", event=BIG), numbered(1))
    run.gateway("", CloseSession(session_id="s"), SessionClosed(session_id="s", cursor=1))
    run.wait(64.0)
    run.gateway("over", TimerExpired())
    ask(run, 2, session_id="s", epoch="E", since=0)
    drain(
        run,
        1,
        "last",
        send(1, event_frame("event", 1, BIG)),
        OVER,
        left(1),
        SessionExpired(session_id="s"),
    )
    return run


def draining(**options: Any) -> Script:
    """Everybody is sent away: one leaves, one is closed, newcomers are turned away."""
    run = script(options)
    begin(run)
    drain(run, 1)
    ask(run, 2, session_id="s", epoch="E", since=0)
    run.gateway(
        "",
        Accept(connection=2, principal="p"),
        joined(2, resumed=True),
        send(2, resumed(0, cursor=0, presence_count=2), frame("caught_up", cursor=0)),
    )
    drain(run, 2)
    ask(run, 3)
    run.gateway(
        "drain",
        Drain(after=1.5, spread=2.0, grace=8.0),
        send(1, SENT_AWAY),
        send(2, SENT_AWAY),
        send(3, rejection("hello_error")),
        CloseConnection(3, 4000, "going_away"),
    )
    run.gateway(
        "newcomer",
        ConnectionOpened(connection=4),
        send(4, rejection()),
        CloseConnection(4, 4000, "going_away"),
    )
    run.gateway("still", Publish(session_id="s", event=FIRST), numbered(1), send(
        (1, 2), event_frame("event", 1, FIRST)
    ))  # fmt: skip
    drain(run, 1)
    drain(run, 2)
    run.gateway("left", ConnectionClosed(1), left(1))
    run.gateway("again", Drain(grace=20.0))
    run.wait(8.0)
    run.gateway(
        "over",
        TimerExpired(),
        CloseConnection(2, 4000, "going_away"),
        left(2),
        DrainFinished(),
    )
    return run

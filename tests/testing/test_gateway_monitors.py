"""The monitors of a gateway: what is right passes, and each thing that is wrong is noticed.

Runs are made by hand (`gatewayscripts`); a row of the table breaks one step of one of them and
names the property that is broken then.
"""

from collections.abc import Callable
from typing import Any

import pytest

from gatewayproto.actions import (
    CloseConnection,
    JoinRequested,
    MessageReceived,
    Published,
    SessionExpired,
    SubscriberJoined,
    SubscriberLagged,
)
from gatewayproto.errors import LocalProtocolError
from gatewayproto.testing.steps import Violation
from gatewayproto.versions import VersionRange
from tests.testing import gatewayscripts as scripts
from tests.testing.gatewayscripts import FINAL, FIRST, send, snapshot
from tests.testing.handmade import (
    Change,
    Script,
    also,
    at,
    both,
    event,
    event_frame,
    first,
    frame,
    instead,
    raising,
    replaced,
    sent,
    silent,
    told,
    unsent,
    untold,
    waits,
)

RUNS: dict[str, Callable[..., Script]] = {
    run.__name__: run
    for run in (
        scripts.delivery,
        scripts.recovery,
        scripts.lagging,
        scripts.decisions,
        scripts.requests,
        scripts.restarts,
        scripts.clock,
        scripts.version_1,
        scripts.two_sessions,
        scripts.pushes,
    )
}

WRONG: list[tuple[str, str, str, Change]] = [
    # P1: what is sent is what was published.
    ("P1", "delivery", "event 1", replaced("event", event_frame("event", 1, event(9)))),
    ("P1", "delivery", "event 1", told(Published, seq=2)),
    ("P1", "delivery", "event 1", also(Published(session_id="s", seq=1, event_id="e1"))),
    ("P1", "delivery", "event 3", silent),
    ("P1", "delivery", "resume", replaced("replay", event_frame("event", 4, FINAL))),
    ("P1", "delivery", "event 2", also(send(1, event_frame("event", 3, event(3))))),
    ("P1", "version_1", "event 1", sent("replay", event=scripts.plain_event(1))),
    # P2: in order, once.
    ("P2", "delivery", "event 1", also(send(1, event_frame("event", 1, FIRST)))),
    ("P2", "delivery", "resume", unsent("skip")),
    ("P2", "delivery", "resume", sent("skip", first=1)),
    # P3: everything is accounted for.
    ("P3", "delivery", "event 1", unsent("event")),
    ("P3", "delivery", "resume", sent("skip", last=2)),
    ("P3", "delivery", "resume", sent("skip", last=4)),
    ("P3", "delivery", "resume", unsent("caught_up")),
    ("P3", "delivery", "resume", also(send(2, frame("caught_up", cursor=4)))),
    ("P3", "recovery", "resync", sent("caught_up", nonce="a")),
    ("P3", "recovery", "resync", sent("snapshot", nonce="a")),
    ("P3", "recovery", "epoch", silent),
    ("P3", "recovery", "epoch", first(send(1, event_frame("event", 4, FINAL)))),
    ("P3", "recovery", "trimmed", unsent("snapshot")),
    ("P3", "lagging", "lag", unsent("snapshot")),
    # P4: the decision, and the reasons of snapshots.
    ("P4", "delivery", "resume", sent("hello_ok", sequence=4)),
    ("P4", "delivery", "resume", sent("hello_ok", resync_required=True)),
    ("P4", "delivery", "resume", sent("hello_ok", resumed=False)),
    ("P4", "delivery", "resume", sent("hello_ok", oldest_cursor=2)),
    ("P4", "delivery", "resume", sent("hello_ok", cursor=1)),
    ("P4", "delivery", "resume", told(SubscriberJoined, sequence=4)),
    ("P4", "recovery", "trimmed", sent("hello_ok", resync_reason="epoch_changed")),
    ("P4", "recovery", "trimmed", sent("snapshot", reason="lagged")),
    ("P4", "recovery", "trimmed", sent("hello_ok", resync_required=False, resync_reason=None)),
    ("P4", "decisions", "stranger", sent("hello_ok", resumed=True)),
    ("P4", "decisions", "stranger", sent("hello_ok", resync_required=False)),
    ("P4", "decisions", "cursor_ahead", sent("hello_ok", resync_reason="trimmed")),
    ("P4", "decisions", "epoch_changed", sent("hello_ok", resync_reason="cursor_ahead")),
    ("P4", "decisions", "invalid_cursor", sent("hello_error", code="invalid_protocol_hello")),
    ("P4", "decisions", "invalid_cursor", instead(scripts.asked(5))),
    ("P4", "decisions", "invalid_cursor", silent),
    ("P4", "decisions", "version_unsupported", sent("hello_error", server_max_version=3)),
    ("P4", "decisions", "version_unsupported", instead(scripts.asked(6))),
    ("P4", "decisions", "invalid_protocol_hello", instead(scripts.asked(7))),
    ("P4", "decisions", "refused", sent("hello_error", code="rate_limited")),
    ("P4", "decisions", "late hello", sent("error", code="rate_limited")),
    ("P4", "delivery", "ask", first(send(1, frame("pong")))),
    ("P4", "delivery", "ask", told(JoinRequested, protocol_version=1)),
    ("P4", "delivery", "accept", unsent("hello_ok")),
    ("P4", "version_1", "trimmed", sent("hello_ok", cursor=4)),
    ("P4", "version_1", "trimmed", sent("hello_ok", head=0)),
    ("P4", "version_1", "trimmed", sent("hello_ok", session_id="s")),
    # P5: snapshots are the fold.
    ("P5", "recovery", "trimmed", sent("snapshot", state={"messages": []})),
    ("P5", "recovery", "epoch", replaced("snapshot", snapshot("epoch_changed", 3, "F", state={}))),
    ("P5", "lagging", "lag", sent("snapshot", state={})),
    ("P5", "version_1", "trimmed", sent("snapshot", state={"event_cursor": 4})),
    # P6: cursors are honest.
    ("P6", "delivery", "ping", sent("ping", cursor=5)),
    ("P6", "delivery", "resume", sent("caught_up", cursor=3)),
    ("P6", "recovery", "trimmed", replaced("snapshot", snapshot("trimmed", 3, "F"))),
    ("P6", "lagging", "lag", told(SubscriberLagged, position=1)),
    # P7: what ended is over.
    ("P7", "delivery", "close", also(send(1, frame("ping", nonce="n")))),
    ("P7", "delivery", "event 3", also(send(1, event_frame("event", 3, event(3))))),
    ("P7", "lagging", "late frame", also(send(1, frame("pong", nonce="x")))),
    ("P7", "lagging", "late frame", waits(1.0)),
    ("P7", "lagging", "late bytes", waits(None)),
    ("P7", "lagging", "late accept", instead(scripts.joined(1))),
    # P8: requests.
    ("P8", "requests", "message", also(scripts.received(2))),
    ("P8", "requests", "message", untold(MessageReceived)),
    ("P8", "requests", "message", unsent("message_ack")),
    ("P8", "requests", "message", sent("message_ack", duplicate=True)),
    ("P8", "requests", "message", told(MessageReceived, content="ho")),
    ("P8", "requests", "copy", instead(scripts.received(3), send(1, scripts.ack()))),
    ("P8", "requests", "copy", sent("message_ack", duplicate=False)),
    ("P8", "requests", "copy", silent),
    ("P8", "requests", "conflict", instead(send(1, scripts.ack(duplicate=True)))),
    ("P8", "requests", "full", instead(scripts.received(3, "r"), send(1, scripts.ack("r")))),
    ("P8", "requests", "unnamed", also(send(1, scripts.ack()))),
    ("P8", "requests", "bad id", sent("message_nack", code="request_conflict")),
    ("P8", "requests", "copy again", instead(scripts.received(3), send(2, scripts.ack()))),
    ("P8", "requests", "forgotten", at(-2.0)),
    ("P8", "version_1", "ack", sent("response", status="duplicate")),
    # P9: bounds.
    ("P9", "lagging", "stall", both(instead(), at(1.0))),
    ("P9", "clock", "first ping", also(send(1, frame("ping", nonce="m", cursor=0)))),
    ("P9", "two_sessions", "pong", sent("pong", nonce="x" * 2600)),
    # P10: time.
    ("P10", "clock", "early", also(send(1, frame("ping", nonce="m", cursor=0)))),
    ("P10", "clock", "early", waits(1.0)),
    ("P10", "clock", "first ping", waits(0.0)),
    ("P10", "lagging", "expired", both(untold(SessionExpired), at(1.0))),
    # P12: epochs.
    ("P12", "restarts", "back after whole", sent("hello_ok", epoch="X")),
    ("P12", "restarts", "back after copy", sent("hello_ok", epoch="E")),
    ("P12", "requests", "back after store", sent("hello_ok", epoch="E")),
    # P13: totality.
    ("P13", "delivery", "event 1", raising(KeyError("seq"))),
    ("P13", "delivery", "event 1", raising(LocalProtocolError("no"))),
    ("P13", "two_sessions", "garbage", silent),
    ("P13", "two_sessions", "garbage", sent("error", code="oops")),
    ("P13", "decisions", "refused", sent("hello_error", message=None)),
    # P14: isolation.
    ("P14", "two_sessions", "pong", also(send(1, frame("pong", nonce="x")))),
    ("P14", "two_sessions", "event 1", also(send(2, event_frame("event", 1, FIRST)))),
    ("P14", "two_sessions", "garbage", sent("error", request_id="s")),
    ("P14", "two_sessions", "other", sent("hello_ok", presence_count=2)),
    ("P14", "two_sessions", "event 1", also(CloseConnection(2, 1000))),
    # P14: what is pushed.
    ("P14", "pushes", "change", sent("presence", version=1)),
    ("P14", "pushes", "change", sent("presence", version=3)),
    ("P14", "pushes", "change", sent("presence", from_version=0)),
    ("P14", "pushes", "change", sent("presence", joined=[])),
    ("P14", "pushes", "change", sent("presence", joined=[scripts.entry(2), scripts.entry(9)])),
    ("P14", "pushes", "change", sent("presence", left=["k1"])),
    ("P14", "pushes", "change", sent("presence", left=["k9"])),
    ("P14", "pushes", "change", also(send(2, scripts.presence(3, entries=[])))),
    ("P14", "pushes", "more", sent("presence", entries=[scripts.entry(1)], from_version=None)),
    ("P14", "pushes", "more", sent("presence", presence_count=2, joined=None, left=None,
        from_version=None, entries=None)),
    ("P14", "pushes", "more", also(
        send(3, scripts.presence(4, from_version=3, joined=[], left=[]))
    )),
    ("P14", "pushes", "third", sent("hello_ok", presence_version=2)),
    ("P14", "pushes", "health", sent("health", version=0)),
    ("P14", "pushes", "health", sent("health", health={})),
    ("P14", "pushes", "set", also(send(1, frame("health", version=1, health={"ok": True})))),
    ("P14", "version_1", "event 1", also(send(1, frame("health", version=1, health={})))),
    ("P14", "delivery", "event 1", also(send(1, scripts.presence(2, entries=[])))),
    # P15: the list is known at rest.
    ("P15", "pushes", "expired", unsent("presence")),
    # P16: no snapshot that nothing called for.
    ("P16", "delivery", "event 2", also(send(1, snapshot("lagged", 2)))),
    ("P16", "delivery", "event 2", also(
        SubscriberLagged(connection=1, session_id="s", position=2)
    )),
    # P17: silence.
    ("P17", "clock", "silence", both(instead(), at(1.0))),
    ("P17", "decisions", "late hello", both(instead(), at(1.0))),
    ("P17", "delivery", "event 1", also(CloseConnection(1, 1000))),
    ("P17", "two_sessions", "pong", waits(None)),
    ("P17", "pushes", "expired", instead()),
    ("P17", "pushes", "second", waits(30.0)),
    ("P17", "pushes", "health", also(
        CloseConnection(2, 4006, "auth_expired")
    )),
]  # fmt: skip


UNDER_OTHER_LIMITS = [
    ("P9", "lagging", {"stall_timeout": 60.0}),
    ("P3", "lagging", {"send_window": 4096}),
    ("P9", "two_sessions", {"max_sessions": 1}),
    ("P9", "two_sessions", {"max_connections": 1}),
    ("P10", "lagging", {"resume_window": 100.0}),
    ("P8", "requests", {"request_ttl": 32.0}),
    ("P8", "requests", {"request_ttl": 0.0625}),
    ("P8", "requests", {"max_pending_requests": 3}),
    ("P4", "recovery", {"retain": 4, "retain_transient": 4}),
    ("P4", "decisions", {"handshake_timeout": 20.0}),
    ("P4", "delivery", {"protocol_strict": True, "versions": VersionRange(1, 1)}),
    ("P17", "clock", {"heartbeat": 48.0}),
    ("P14", "pushes", {"push_interval": None}),
    ("P14", "pushes", {"push_interval": 2.0}),
]


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_what_is_right_passes(run: Callable[..., Script]) -> None:
    run().play()


@pytest.mark.parametrize(
    ("prop", "run", "label", "change"),
    WRONG,
    ids=[f"{prop}-{run}-{label}-{number}" for number, (prop, run, label, _) in enumerate(WRONG)],
)
def test_what_is_wrong_is_noticed(prop: str, run: str, label: str, change: Change) -> None:
    assert RUNS[run]().finding(label, change) == prop


@pytest.mark.parametrize(("prop", "run", "options"), UNDER_OTHER_LIMITS)
def test_limits_are_those_of_the_configuration(
    prop: str, run: str, options: dict[str, Any]
) -> None:
    with pytest.raises(Violation) as found:
        RUNS[run](**options).play()
    assert found.value.prop == prop

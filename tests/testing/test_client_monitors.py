"""The monitors of a client: what is right passes, and each thing that is wrong is noticed.

Runs are made by hand (`clientscripts`); a row of the table breaks one step of one of them and names
the property that is broken then.
"""

from collections.abc import Callable
from typing import Any

import pytest

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
    RetryScheduled,
    SendFrame,
    Skipped,
    SnapshotReceived,
    StateChanged,
    Stopped,
)
from gatewayproto.backoff import Backoff
from gatewayproto.inputs import TransportClosed
from gatewayproto.testing.steps import Violation
from gatewayproto.versions import VersionRange
from tests.testing import clientscripts as scripts
from tests.testing.clientscripts import handed, retry, written
from tests.testing.handmade import (
    Change,
    Script,
    also,
    at,
    both,
    event,
    first,
    frame,
    given,
    instead,
    raising,
    sent,
    silent,
    token,
    told,
    unsent,
    untold,
    waits,
)

RUNS: dict[str, Callable[..., Script]] = {
    run.__name__: run
    for run in (
        scripts.events,
        scripts.snapshots,
        scripts.messages,
        scripts.endings,
        scripts.rejected,
        scripts.silence,
        scripts.version_1,
    )
}

WRONG: list[tuple[str, str, str, Change]] = [
    # P1: nothing is made up.
    ("P1", "events", "event 1", told(EventReceived, event=event(9))),
    ("P1", "events", "event 1", also(handed(2))),
    ("P1", "events", "caught up", also(handed(1))),
    ("P1", "version_1", "event 1", told(EventReceived, event=event(9))),
    # P2: in order, once.
    ("P2", "events", "event 1", silent),
    ("P2", "events", "duplicate", also(handed(1))),
    ("P2", "events", "gap", instead(handed(5))),
    ("P2", "events", "skip", told(Skipped, first=1)),
    ("P1", "events", "skip", instead(handed(2))),
    # P3: everything is accounted for, gaps are told once.
    ("P3", "events", "skip", silent),
    ("P3", "events", "gap", silent),
    ("P3", "events", "gap", told(Gap, expected=3)),
    ("P3", "events", "gap", told(Gap, received=6)),
    ("P3", "events", "gap", unsent("resume")),
    ("P3", "events", "ahead", also(Gap(expected=4, received=6))),
    ("P3", "events", "event 1", first(Gap(expected=1, received=1))),
    ("P3", "events", "tail", untold(Gap)),
    ("P3", "events", "not the answer", also(CaughtUp(cursor=5))),
    ("P3", "events", "answer", also(CaughtUp(cursor=5))),
    ("P3", "events", "tail", sent("resume", nonce="a")),
    ("P3", "snapshots", "old news", also(Gap(expected=2, received=5))),
    ("P3", "snapshots", "old news", also(handed(2))),
    # P4: the welcome is believed as it stands.
    ("P4", "snapshots", "resync", told(Joined, sequence=4)),
    ("P4", "snapshots", "resync", told(Joined, cursor=1)),
    ("P4", "events", "joined", told(Joined, resumed=True)),
    ("P4", "messages", "new session", told(Joined, session_id="s", token=token(0, "T"))),
    ("P4", "events", "caught up", also(scripts.joined(token(0)))),
    # P5: the snapshot is handed on as it came.
    ("P5", "snapshots", "snapshot", told(SnapshotReceived, state={})),
    ("P5", "snapshots", "part 2", told(SnapshotReceived, state={})),
    ("P5", "snapshots", "snapshot", told(SnapshotReceived, reason="lagged")),
    ("P2", "snapshots", "snapshot", silent),
    ("P2", "snapshots", "part 1", also(scripts.taken_over(2, "epoch_changed", "F"))),
    # P6: the cursor is what was handed on.
    ("P6", "events", "event 1", told(EventReceived, token=token(0))),
    ("P6", "events", "event 1", told(EventReceived, token=token(1, "F"))),
    ("P6", "events", "skip", told(Skipped, token=token(2))),
    ("P6", "events", "gap", sent("resume", since=1)),
    ("P6", "events", "gap", sent("resume", epoch="F")),
    ("P6", "events", "tail", sent("pong", cursor=6)),
    ("P6", "snapshots", "hello again", sent("hello", since=None)),
    ("P6", "snapshots", "hello again", sent("hello", since=0)),
    ("P6", "snapshots", "hello again", sent("hello", epoch="F")),
    ("P6", "snapshots", "resync", told(Joined, token=token(5))),
    ("P6", "snapshots", "snapshot", told(SnapshotReceived, token=token(4))),
    ("P6", "messages", "hello again", sent("hello", since=None, session_id=None)),
    ("P6", "messages", "new session", told(Joined, token=token(3, "T", "t"))),
    ("P6", "version_1", "join", sent("join", since=2)),
    ("P6", "events", "hello", sent("hello", since=0)),
    # P7: what was given up is over.
    ("P7", "endings", "old transport", also(retry())),
    ("P7", "endings", "old transport", waits(9.0)),
    ("P7", "messages", "late news", waits(9.0)),
    ("P7", "messages", "after the end", also(StateChanged("connecting"))),
    ("P7", "endings", "refused", also(SendFrame(1, frame("leave")))),
    ("P7", "events", "event 1", also(OpenTransport(connection=2))),
    # P8: one end for each message, in order.
    ("P8", "messages", "ack a", both(untold(MessageAccepted), unsent("message"))),
    ("P8", "messages", "ack a", also(MessageAccepted(request_id="a", duplicate=False))),
    ("P8", "messages", "ack b", told(MessageAccepted, request_id="c")),
    ("P8", "messages", "send b", also(OutcomeUnknown(request_id="a"))),
    ("P8", "messages", "resumed", unsent("message")),
    ("P8", "messages", "resumed", instead(
        StateChanged("connected"), scripts.joined(token(0), resumed=True),
        written(2, "c"), written(2, "b"),
    )),
    ("P8", "messages", "new session", untold(OutcomeUnknown)),
    ("P8", "messages", "new session", both(untold(OutcomeUnknown), also(written(3, "e")))),
    ("P8", "messages", "new session", also(OutcomeUnknown(request_id="g"))),
    ("P8", "messages", "hello again", also(written(2, "b"))),
    ("P8", "messages", "ack b", also(written(2, "c"))),
    ("P8", "messages", "time is up", both(silent, at(1.0))),
    ("P8", "messages", "end", first(MessageRefused(request_id="g", code="oops", message=""))),
    # P9: windows.
    ("P9", "messages", "send c", also(written(1, "c"))),
    ("P9", "messages", "send d", silent),
    ("P9", "messages", "send a", instead(
        MessageRefused(request_id="a", code="inbox_full", message="")
    )),
    # P10: time.
    ("P10", "endings", "early", also(OpenTransport(connection=2))),
    ("P10", "endings", "early", waits(1.0)),
    ("P10", "endings", "second try", waits(0.0)),
    ("P10", "endings", "refused", told(RetryScheduled, attempt=2)),
    ("P10", "endings", "refused", told(RetryScheduled, delay=1.0)),
    ("P10", "endings", "no answer", told(RetryScheduled, attempt=1)),
    ("P10", "endings", "no answer", told(RetryScheduled, delay=4.0)),
    ("P10", "endings", "no answer", told(RetryScheduled, delay=1.0)),
    ("P10", "messages", "lost again", told(RetryScheduled, attempt=1)),
    ("P10", "snapshots", "lost", waits(None)),
    # P13: totality.
    ("P13", "events", "gap", raising(AssertionError("no"))),
    # P15: what may be retried is.
    ("P15", "endings", "token", both(instead(retry(3, 4.0)), waits(0.5))),
    ("P15", "endings", "refused", instead(Stopped(code="http_503", message=""))),
    ("P15", "rejected", "rejected", both(
        instead(CloseTransport(connection=1), StateChanged("reconnecting"), retry(1)), waits(0.5)
    )),
    ("P15", "snapshots", "lost", given(TransportClosed(connection=1, code=4502))),
    ("P15", "messages", "end", untold(Stopped)),
    # P17: silence.
    ("P17", "silence", "given up", both(silent, at(1.0))),
    ("P17", "silence", "ask", waits(40.0)),
    ("P17", "silence", "ask", instead(
        CloseTransport(connection=1, code=4001, reason="liveness_timeout"), retry()
    )),
    ("P17", "events", "hello", waits(9.0)),
    ("P17", "events", "gap", waits(9.0)),
    ("P17", "snapshots", "resync", waits(9.0)),
    ("P17", "events", "connect", waits(None)),
    ("P17", "endings", "second try", waits(None)),
]  # fmt: skip


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


UNDER_OTHER_LIMITS: list[tuple[str, str, dict[str, Any]]] = [
    ("P9", "messages", {"max_queued": 2}),
    ("P9", "messages", {"max_queued": 10}),
    ("P10", "endings", {"backoff": Backoff(initial=0.5, maximum=1.0, jitter=0.0)}),
    ("P10", "endings", {"max_attempts": 1}),
    ("P17", "endings", {"handshake_timeout": 10.0}),
    ("P4", "events", {"versions": VersionRange(1, 1)}),
]


@pytest.mark.parametrize(("prop", "run", "options"), UNDER_OTHER_LIMITS)
def test_limits_are_those_of_the_configuration(
    prop: str, run: str, options: dict[str, Any]
) -> None:
    with pytest.raises(Violation) as found:
        RUNS[run](**options).play()
    assert found.value.prop == prop

"""The monitors of gateways that write ahead: what leaves before it is stored is noticed."""

from typing import Any

import pytest

from gatewayproto.actions import MessageReceived, Persist, Published, SessionExpired, SessionOpened
from gatewayproto.inputs import (
    Accept,
    ChangeEpoch,
    Complete,
    ConnectionClosed,
    FrameReceived,
    Persisted,
    Publish,
    TimerExpired,
)
from gatewayproto.testing.campaign import campaign
from gatewayproto.testing.monitors.ahead import WriteAhead
from gatewayproto.testing.reference import compact, event_object
from gatewayproto.testing.steps import WORLD, Restarted
from tests.testing import gatewayscripts as scripts
from tests.testing.gatewayscripts import FIRST, LOG, send, snapshot
from tests.testing.handmade import (
    Change,
    Script,
    also,
    event_frame,
    first,
    frame,
    given,
    instead,
    sent,
    welcome,
)

SECOND = LOG[1]


def persist(number: int, kind: str, **fields: Any) -> Persist:
    return Persist(session_id="s", number=number, record={"kind": kind, **fields})


def persist_event(number: int, seq: int, published: Any) -> Persist:
    text = compact(event_object(published)).decode()
    return persist(number, "event", seq=seq, event=text)


def stored(number: int) -> Persisted:
    return Persisted(session_id="s", number=number)


def ahead(**options: Any) -> Script:
    """A session from its first record to its last, each confirmed in a step of its own."""
    run = scripts.script(options, write_ahead=True)
    scripts.ask(run, 1, "ask")
    opened = persist(1, "opened", epoch="E", agent_id="agent", principal="p")
    run.gateway("accept", Accept(connection=1, principal="p"), opened)
    run.gateway(
        "welcome",
        stored(1),
        SessionOpened(session_id="s", agent_id="agent", principal="p"),
        scripts.joined(1),
        send(1, welcome(), frame("caught_up", cursor=0)),
    )
    run.gateway(
        "publish",
        Publish(session_id="s", event=FIRST),
        persist_event(2, 1, FIRST),
        Published(session_id="s", seq=1, event_id="e1"),
    )
    message = frame("message", content="hi", request_id="r")
    plain = {"type": "message", "content": "hi", "request_id": "r"}
    record = persist(3, "message", message_id=1, message=plain, forgotten=[])
    run.gateway("message", FrameReceived(1, message), record)
    run.gateway("copy", FrameReceived(1, message))
    run.gateway("event", stored(2), send(1, event_frame("event", 1, FIRST)))
    received = MessageReceived(
        session_id="s",
        message_id=1,
        content="hi",
        request_id="r",
        reply_to=None,
        metadata=None,
    )
    acks = [frame("message_ack", request_id="r", duplicate=each) for each in (False, True)]
    run.gateway("acks", stored(3), received, send(1, *acks))
    done = Complete(session_id="s", message_id=1)
    run.gateway("done", done, persist(4, "complete", message_id=1))
    run.gateway("epoch", ChangeEpoch(session_id="s"), persist(5, "epoch", epoch="F"))
    run.gateway("", stored(4))
    run.gateway("changed", stored(5), send(1, snapshot("epoch_changed", 1, "F")))
    run.gateway("gone", ConnectionClosed(1), scripts.left(1), deadline=run.now + 64.0)
    run.wait(64.0)
    run.gateway("timer", TimerExpired(), persist(6, "expired"))
    run.gateway("expired", stored(6), SessionExpired(session_id="s"))
    return run


def crashed(**options: Any) -> Script:
    """What was not confirmed is lost, and its numbers and seqs are given again."""
    run = ahead(**options)
    cut = run.labels["event"]
    del run.steps[cut:]
    run.add("crash", WORLD, Restarted("whole"))
    run.gateway(
        "again",
        Publish(session_id="s", event=SECOND),
        persist_event(2, 1, SECOND),
        Published(session_id="s", seq=1, event_id="e2"),
    )
    run.gateway("", stored(2))
    return run


@pytest.mark.parametrize("run", [ahead, crashed])
def test_what_is_right_passes(run: Any) -> None:
    run().play()


EARLY_ACK = send(1, frame("message_ack", request_id="r", duplicate=False))
WRONG: list[tuple[str, str, Change]] = [
    ("accept", "P12", also(SessionOpened(session_id="s", agent_id="agent", principal="p"))),
    ("accept", "P12", instead(persist(2, "opened", epoch="E", agent_id="agent", principal="p"))),
    ("welcome", "P12", sent("hello_ok", epoch="F")),
    ("welcome", "P12", sent("hello_ok", cursor=1)),
    ("welcome", "P12", sent("caught_up", cursor=1)),
    ("publish", "P12", also(send(1, event_frame("event", 1, FIRST)))),
    ("publish", "P12", instead(persist_event(3, 1, FIRST))),
    ("message", "P12", also(EARLY_ACK)),
    ("copy", "P12", instead(EARLY_ACK)),
    ("event", "P12", also(EARLY_ACK)),
    ("event", "P12", given(stored(1))),
    ("event", "P12", also(send(1, event_frame("event", 2, SECOND)))),
    ("acks", "P8", instead(EARLY_ACK)),
    ("epoch", "P12", also(send(1, snapshot("epoch_changed", 1, "F")))),
    ("changed", "P12", sent("snapshot", cursor=2)),
    ("timer", "P12", also(SessionExpired(session_id="s"))),
]


@pytest.mark.parametrize(("label", "prop", "change"), WRONG)
def test_what_leaves_too_early_is_noticed(label: str, prop: str, change: Change) -> None:
    assert ahead().finding(label, change) == prop


def test_work_on_what_is_not_stored_is_noticed() -> None:
    received = MessageReceived(
        session_id="s", message_id=1, content="hi", request_id="r", reply_to=None, metadata=None
    )
    assert ahead().finding("message", first(received)) == "P12"


def test_a_number_that_is_given_again_after_a_crash_is_that_of_a_record_that_was_lost() -> None:
    assert crashed().finding("again", instead(persist_event(4, 1, SECOND))) == "P12"


def test_gateways_that_write_ahead_keep_every_property_and_witness_their_own() -> None:
    result = campaign("stored", range(120))
    assert result.broken == ()
    assert {each for each in WriteAhead.ahead if not result.witnessed[each]} == set()

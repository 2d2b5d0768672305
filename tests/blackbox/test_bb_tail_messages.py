"""`gatewayproto tail --send`: every message comes to exactly one end."""

from typing import Any

import pytest

from tests.blackbox.bbcommand import START, Tail
from tests.blackbox.bbplay import (
    Played,
    caught_up,
    end,
    event,
    events,
    kinds,
    snapshot,
    taken,
)
from tests.blackbox.bbwire import Frame, Listener


def ack(request_id: str, *, duplicate: bool = False) -> Frame:
    return {"type": "message_ack", "request_id": request_id, "duplicate": duplicate}


def sending(
    listener: Listener, *texts: str, options: tuple[str, ...] = (), **fields: Any
) -> tuple[Tail, Played]:
    """Start a client that sends these, and welcome it."""
    options += tuple(part for text in texts for part in ("--send", text))
    tail = Tail(listener.url, *options)
    played = taken(listener, START)
    played.welcome(caught_up(0), **fields)
    return tail, played


def received(played: Played, *texts: str) -> list[str]:
    """Take these messages, in this order; their ids."""
    ids = []
    for text in texts:
        frame = played.expect("message")
        content = frame["content"]
        assert (content if isinstance(content, str) else content["text"]) == text
        assert 22 <= len(frame["request_id"]) <= 128
        ids.append(frame["request_id"])
    return ids


def ends(lines: list[Frame]) -> list[tuple[str, str]]:
    """Tell how each message ended."""
    found = kinds(lines, "accepted", "refused", "outcome_unknown")
    return [(line["emit"], line["request_id"]) for line in found]


def test_messages_are_sent_after_the_welcome_in_order_each_with_its_id(listener: Listener) -> None:
    tail, played = sending(listener, "one", "two", "three")
    ids = received(played, "one", "two", "three")
    assert len(set(ids)) == 3
    played.send(ack(ids[0]), ack(ids[1], duplicate=True), ack(ids[2]))
    tail.until("accepted", request_id=ids[2])
    played.settle(0)
    lines = end(tail, played)
    assert kinds(lines, "accepted") == [
        {"emit": "accepted", "request_id": ids[0], "duplicate": False},
        {"emit": "accepted", "request_id": ids[1], "duplicate": True},
        {"emit": "accepted", "request_id": ids[2], "duplicate": False},
    ]


@pytest.mark.parametrize("code", ["inbox_full", "request_conflict", "invalid_request", "bogus"])
def test_a_refusal_is_told_with_its_code_and_not_sent_again(listener: Listener, code: str) -> None:
    tail, played = sending(listener, "one", "two")
    one, two = received(played, "one", "two")
    played.send({"type": "message_nack", "request_id": one, "code": code, "message": "no"})
    refused = tail.until("refused")
    assert (refused["request_id"], refused["code"]) == (one, code)
    played.peer.cut()
    played = taken(listener)
    played.welcome(caught_up(0))
    assert received(played, "two") == [two]
    played.send(ack(two))
    tail.until("accepted", request_id=two)
    played.settle(0)
    assert ends(end(tail, played)) == [("refused", one), ("accepted", two)]


@pytest.mark.on_trio
def test_what_is_unacknowledged_is_sent_again_in_order(listener: Listener) -> None:
    tail, played = sending(listener, "one", "two", "three")
    ids = received(played, "one", "two", "three")
    played.send(ack(ids[1]))
    tail.until("accepted", request_id=ids[1])
    for _ in range(3):
        played.peer.cut()
        played = taken(listener)
        played.welcome(caught_up(0))
        assert received(played, "one", "three") == [ids[0], ids[2]]
    played.send(ack(ids[0], duplicate=True), ack(ids[2]))
    tail.until("accepted", request_id=ids[2])
    played.settle(0)
    assert len(ends(end(tail, played))) == 3


def test_nothing_is_sent_before_the_welcome(listener: Listener) -> None:
    tail = Tail(listener.url, "--send", "one")
    played = taken(listener, START)
    played.keeps_quiet(0.1)
    played.peer.cut()
    played = taken(listener)
    played.welcome(caught_up(0))
    (one,) = received(played, "one")
    played.send(ack(one))
    tail.until("accepted")
    end(tail, played)


def test_an_acknowledgement_of_nothing_is_nothing(listener: Listener) -> None:
    tail, played = sending(listener, "one")
    (one,) = received(played, "one")
    played.send(ack("bogus"), ack(one), ack(one), ack(one, duplicate=True))
    played.send({"type": "message_nack", "request_id": one, "code": "inbox_full", "message": "x"})
    played.send({"type": "message_nack", "code": "invalid_request", "message": "x"})
    tail.until("accepted")
    played.settle(0)
    assert ends(end(tail, played)) == [("accepted", one)]


LOST: dict[str, Frame] = {
    "not resumed": {"resumed": False, "session_id": "s2", "epoch": "e2"},
    "epoch changed": {
        "epoch": "e2",
        "resync_required": True,
        "resync_reason": "epoch_changed",
        "cursor": 4,
        "sequence": 4,
    },
}


@pytest.mark.parametrize("fields", LOST.values(), ids=LOST)
def test_what_was_written_ends_unknown_when_the_state_was_lost(
    listener: Listener, fields: Frame
) -> None:
    tail, played = sending(listener, "one", "two", "three")
    one, two, three = received(played, "one", "two", "three")
    played.send(ack(two))
    tail.until("accepted")
    played.peer.cut()
    played = taken(listener)
    after = [snapshot(4, "epoch_changed", epoch="e2")] if "resync_reason" in fields else []
    played.welcome(*after, **fields)
    tail.until("outcome_unknown", request_id=three)
    played.settle(4 if after else 0)
    lines = end(tail, played)
    assert ends(lines) == [
        ("accepted", two),
        ("outcome_unknown", one),
        ("outcome_unknown", three),
    ]


@pytest.mark.parametrize("reason", ["trimmed", "cursor_ahead", "requested"])
def test_a_resync_for_another_reason_sends_again(listener: Listener, reason: str) -> None:
    tail, played = sending(listener, "one")
    (one,) = received(played, "one")
    played.peer.cut()
    played = taken(listener)
    fields = {"resync_required": True, "resync_reason": reason, "cursor": 4, "sequence": 4}
    played.welcome(snapshot(4, reason), **fields)
    assert received(played, "one") == [one]
    played.send(ack(one))
    tail.until("accepted")
    assert ends(end(tail, played)) == [("accepted", one)]


def test_a_live_change_of_epoch_ends_what_was_written(listener: Listener) -> None:
    tail, played = sending(listener, "one", "two")
    one, two = received(played, "one", "two")
    played.send(ack(one), snapshot(0, "epoch_changed", epoch="e2"))
    tail.until("outcome_unknown", request_id=two)
    played.settle(0)
    played.peer.cut()
    played = taken(listener)
    played.welcome(caught_up(0), epoch="e2")
    played.settle(0)
    assert ends(end(tail, played)) == [("accepted", one), ("outcome_unknown", two)]


def test_a_snapshot_of_the_same_epoch_ends_nothing(listener: Listener) -> None:
    tail, played = sending(listener, "one")
    (one,) = received(played, "one")
    played.send(snapshot(5, "lagged"))
    tail.until("snapshot")
    played.settle(5)
    played.send(ack(one))
    tail.until("accepted")
    assert ends(end(tail, played)) == [("accepted", one)]


def test_a_message_whose_time_is_up_ends_unknown_and_is_not_sent_again(listener: Listener) -> None:
    policy = {"request_ttl_ms": 300}
    tail, played = sending(listener, "one", policy=policy)
    (one,) = received(played, "one")
    tail.until("outcome_unknown", request_id=one)
    played.peer.cut()
    played = taken(listener)
    played.welcome(caught_up(0), policy=policy)
    played.settle(0)
    assert ends(end(tail, played)) == [("outcome_unknown", one)]


def test_a_message_beyond_the_servers_limit_is_never_written(listener: Listener) -> None:
    policy = {"max_payload": 2000}
    tail, played = sending(listener, "x" * 3000, "short", policy=policy)
    (short,) = received(played, "short")
    played.send(ack(short))
    tail.until("accepted", request_id=short)
    played.settle(0)
    lines = end(tail, played)
    (refused,) = kinds(lines, "refused")
    assert refused["code"] == "payload_too_large"
    assert refused["request_id"] != short


def test_no_more_than_the_servers_bound_are_unacknowledged(listener: Listener) -> None:
    policy = {"max_pending_requests": 2}
    tail, played = sending(listener, "one", "two", "three", policy=policy)
    one, two = received(played, "one", "two")
    played.settle(0)
    played.keeps_quiet(0.1)
    played.send(ack(one), ack(two))
    tail.until("accepted", request_id=two)
    # The third waits for room, or was refused for want of it: one end, in either case.
    if not kinds(tail.emitted, "refused"):
        (three,) = received(played, "three")
        played.send(ack(three))
        tail.until("accepted", request_id=three)
    assert len(ends(end(tail, played))) == 3


def test_messages_wait_for_no_event_and_events_for_no_message(listener: Listener) -> None:
    tail, played = sending(listener, "one", options=("--until", "3"))
    (one,) = received(played, "one")
    played.send(*events(1, 2), ack(one), event(3, request_id=one))
    played.ended()
    lines = tail.finished(0)
    assert ends(lines) == [("accepted", one)]
    assert kinds(lines, "event")[-1]["event"]["request_id"] == one

"""`gatewayproto tail` against a played server: what it comes back with."""

import pytest

from tests.blackbox.bbplay import (
    caught_up,
    end,
    event,
    events,
    followed,
    kinds,
    seqs,
    skip,
    snapshot,
    taken,
)
from tests.blackbox.bbwire import Frame, Listener


@pytest.mark.on_trio
def test_a_cut_at_every_event_comes_back_with_the_cursor(listener: Listener) -> None:
    tail, played = followed(listener)
    for seq in range(1, 9):
        played.send(event(seq))
        tail.until("event", seq=seq)
        played.peer.cut()
        played = taken(listener)
        assert played.position == ("s1", "e1", seq)
        played.welcome(caught_up(seq))
    lines = end(tail, played)
    assert seqs(lines) == list(range(1, 9))
    states = [line["state"] for line in kinds(lines, "state")]
    assert states[0] == "connecting"
    assert states[-1] == "disconnected"
    assert states.count("reconnecting") == 8
    assert states.count("connected") == 9


def test_since_is_said_also_at_0(listener: Listener) -> None:
    tail, played = followed(listener, caught_up(0))
    tail.until("caught_up")
    played.peer.cut()
    played = taken(listener)
    assert played.position == ("s1", "e1", 0)
    played.welcome(caught_up(0))
    end(tail, played)


def test_the_cursor_of_a_welcome_is_not_adopted(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 2))
    tail.until("event", seq=2)
    played.peer.cut()
    for _ in range(2):
        played = taken(listener)
        assert played.position == ("s1", "e1", 2)
        played.welcome(cursor=50)
        tail.until("joined", cursor=50)
        played.peer.cut()
    played = taken(listener)
    assert played.position == ("s1", "e1", 2)
    played.welcome(*events(3, 4, "replay"), cursor=4)
    tail.until("event", seq=4)
    assert kinds(end(tail, played), "gap") == []


def test_what_was_skipped_or_covered_counts(listener: Listener) -> None:
    tail, played = followed(listener, skip(1, 5))
    tail.until("skipped")
    played.peer.cut()
    played = taken(listener)
    assert played.position == ("s1", "e1", 5)
    snap = snapshot(9)
    played.welcome(snap, resync_required=True, resync_reason="trimmed", sequence=9, cursor=9)
    tail.until("snapshot")
    played.peer.cut()
    played = taken(listener)
    assert played.position == ("s1", "e1", 9)
    played.welcome(caught_up(9))
    end(tail, played)


def test_a_resync_whose_snapshot_did_not_come_changes_nothing(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 3))
    tail.until("event", seq=3)
    played.peer.cut()
    played = taken(listener)
    fields = {"resync_required": True, "sequence": 9, "cursor": 9, "oldest_cursor": 8}
    played.welcome(resync_reason="trimmed", **fields)
    joined = tail.until("joined", resync_required=True)
    assert (joined["resync_reason"], joined["sequence"]) == ("trimmed", 9)
    played.peer.cut()
    played = taken(listener)
    assert played.position == ("s1", "e1", 3)
    played.welcome(snapshot(9), event(10), resync_reason="trimmed", **fields)
    tail.until("event", seq=10)
    assert kinds(end(tail, played), "gap") == []


def test_not_resumed_replaces_session_epoch_and_cursor_at_once(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 5))
    tail.until("event", seq=5)
    played.peer.cut()
    played = taken(listener)
    fresh = {"session_id": "s2", "epoch": "e2", "resumed": False, "cursor": 0, "sequence": 0}
    fresh |= {"resync_required": True, "resync_reason": "session_unknown"}
    played.welcome(**fresh)
    joined = tail.until("joined", session_id="s2")
    assert joined["resumed"] is False
    played.peer.cut()
    played = taken(listener)
    assert played.position == ("s2", "e2", 0)
    fields = {"session_id": "s2", "epoch": "e2"}
    played.welcome(*events(1, 2, "replay"), caught_up(2), cursor=2, **fields)
    tail.until("event", seq=2)
    played.peer.cut()
    played = taken(listener)
    assert played.position == ("s2", "e2", 2)
    played.welcome(caught_up(2), **fields)
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 5, 1, 2]
    assert kinds(lines, "gap") == []


def test_a_live_change_of_epoch_is_kept_with_its_cursor(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 5))
    tail.until("event", seq=5)
    played.send(snapshot(2, "epoch_changed", epoch="e2"))
    assert tail.until("snapshot")["epoch"] == "e2"
    played.peer.cut()
    played = taken(listener)
    assert played.position == ("s1", "e2", 2)
    played.welcome(event(3), epoch="e2")
    tail.until("event", seq=3)
    assert seqs(end(tail, played)) == [1, 2, 3, 4, 5, 3]


def test_a_new_epoch_in_the_welcome_counts_from_its_snapshot(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 5))
    tail.until("event", seq=5)
    played.peer.cut()
    fields: Frame = {"epoch": "e2", "cursor": 2, "sequence": 2}
    fields |= {"resync_required": True, "resync_reason": "epoch_changed"}
    played = taken(listener)
    played.welcome(**fields)
    tail.until("joined", epoch="e2")
    played.peer.cut()
    played = taken(listener)
    # Nothing of the new epoch was handed on: the three still belong together.
    assert played.position == ("s1", "e1", 5)
    played.welcome(snapshot(2, "epoch_changed", epoch="e2"), event(3), **fields)
    tail.until("event", seq=3)
    played.peer.cut()
    played = taken(listener)
    assert played.position == ("s1", "e2", 3)
    played.welcome(caught_up(3), epoch="e2")
    assert kinds(end(tail, played), "gap") == []


def test_a_silent_server_is_left_after_twice_its_heartbeat(listener: Listener) -> None:
    tail, played = followed(listener, caught_up(0), policy={"heartbeat_ms": 150})
    played.ended()
    played = taken(listener)
    assert played.position == ("s1", "e1", 0)
    played.welcome(caught_up(0), policy={"heartbeat_ms": 150})
    tail.until("retry")
    # One that pings is not left.
    for _ in range(8):
        played.settle(0)
        played.keeps_quiet(0.1)
    tail.interrupt()
    played.ended()
    assert len(kinds(tail.finished(0), "retry")) == 1

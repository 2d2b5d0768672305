"""Recovery on a living connection: `resume`, `resync`, and what bad ones get."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.blackbox.bbaccount import Account, account
from tests.blackbox.bbserve import NO_CURSORS, Follower, Gateway, Past, handshake, new_id
from tests.blackbox.bbwire import Frame


@pytest.fixture(scope="module")
def small(adapter: str) -> Iterator[Gateway]:
    running = Gateway("--retain", "10", "--retain-transient", "10", adapter=adapter)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def past(gateway: Gateway) -> Past:
    """Make a session with a run in it: 1 … 4 durable, 5 … 9 transient, 10 final, 11, 12."""
    return gateway.session("burst 4", "tokens 5 1", "burst 2")


def attached(gateway: Gateway, past: Past, since: int | None = None) -> Follower:
    """Open a connection that is caught up."""
    at = past.cursor if since is None else since
    follower = gateway.attach(handshake(**past.at(at)))
    follower.catch_up()
    follower.frames.clear()
    return follower


def recovered(follower: Follower, request: Frame, since: int, **expected: Any) -> Account:
    """Ask for a recovery and account for its answer up to its `caught_up`."""
    nonce = new_id()
    follower.peer.send({**request, "nonce": nonce})
    frame = follower.until_type("caught_up")
    assert frame["nonce"] == nonce
    result = account(follower.frames, since, **expected)
    follower.live()
    return result


@pytest.mark.parametrize("since", range(13))
def test_resume_goes_back_and_replays(gateway: Gateway, past: Past, since: int) -> None:
    follower = attached(gateway, past)
    request = {"type": "resume", "epoch": past.epoch, "since": since}
    result = recovered(follower, request, since, head=12)
    durable = [1, 2, 3, 4, 10, 11, 12]
    assert result.replayed == [seq for seq in durable if seq > since]
    assert result.events == {seq: past.events[seq] for seq in result.replayed}
    first = max(since + 1, 5)
    assert result.skips == ([(first, 9)] if first <= 9 else [])
    assert len(result.caught_up) == 1
    assert result.caught_up[0]["cursor"] == 12


def test_live_events_after_a_resume_come_as_event(gateway: Gateway) -> None:
    past = gateway.session("burst 4")
    follower = attached(gateway, past)
    follower.ask("before")
    follower.until_seq(5)
    follower.frames.clear()
    recovered(follower, {"type": "resume", "epoch": past.epoch, "since": 2}, 2, head=5)
    follower.ask("after")
    follower.until_seq(6)
    result = account(follower.frames, 2, head=5)
    assert result.replayed == [3, 4, 5]
    assert result.live == [6]


def test_resume_without_a_nonce_is_answered_without_one(gateway: Gateway, past: Past) -> None:
    follower = attached(gateway, past)
    follower.peer.send({"type": "resume", "epoch": past.epoch, "since": 11})
    assert follower.recv()["seq"] == 12
    assert follower.recv() == {"type": "caught_up", "cursor": 12}


@pytest.mark.parametrize("since", [0, 5, 12, 13])
def test_resume_of_another_epoch_is_a_snapshot(gateway: Gateway, past: Past, since: int) -> None:
    follower = attached(gateway, past)
    request = {"type": "resume", "epoch": "other", "since": since}
    result = recovered(follower, request, 12, resync=True)
    assert [(s["reason"], s["cursor"]) for s in result.snapshots] == [("epoch_changed", 12)]
    assert result.snapshots[0]["epoch"] == past.epoch


@pytest.mark.parametrize("since", [13, 2**53 - 1])
def test_resume_beyond_the_head_is_a_snapshot(gateway: Gateway, past: Past, since: int) -> None:
    follower = attached(gateway, past)
    request = {"type": "resume", "epoch": past.epoch, "since": since}
    result = recovered(follower, request, 12, resync=True)
    assert [(s["reason"], s["cursor"]) for s in result.snapshots] == [("cursor_ahead", 12)]


def test_resume_below_the_floor_is_a_snapshot_and_at_it_a_replay(small: Gateway) -> None:
    past = small.session("burst 30")
    for since, reasons in ((0, ["trimmed"]), (19, ["trimmed"]), (20, []), (29, [])):
        follower = attached(small, past)
        request = {"type": "resume", "epoch": past.epoch, "since": since}
        result = recovered(follower, request, since, resync=bool(reasons))
        assert [snapshot["reason"] for snapshot in result.snapshots] == reasons
        assert result.cursor == 30


@pytest.mark.parametrize("since", NO_CURSORS)
def test_a_bad_since_is_an_error_and_the_connection_lives(
    gateway: Gateway, past: Past, since: str
) -> None:
    follower = attached(gateway, past)
    bad = {"type": "resume", "epoch": past.epoch, "since": "HERE", "nonce": "n"}
    follower.peer.send_text(json.dumps(bad).replace('"HERE"', since))
    frame = follower.peer.expect("error", code="invalid_cursor")
    assert frame["message"]
    follower.live()
    request: Frame = {"type": "resume", "epoch": past.epoch, "since": 11}
    assert recovered(follower, request, 11, head=12).replayed == [12]


def test_resync_is_a_snapshot_as_requested(gateway: Gateway) -> None:
    past = gateway.session("burst 12")
    follower = attached(gateway, past)
    nonce = new_id()
    follower.peer.send({"type": "resync", "nonce": nonce})
    snapshot = follower.recv()
    assert snapshot["type"] == "snapshot"
    assert (snapshot["reason"], snapshot["cursor"]) == ("requested", 12)
    assert (snapshot["epoch"], snapshot["nonce"]) == (past.epoch, nonce)
    assert follower.recv() == {"type": "caught_up", "cursor": 12, "nonce": nonce}
    follower.ask("next")
    follower.until_seq(13)
    assert account(follower.frames, 12).live == [13]


def test_resync_of_an_empty_session_is_an_empty_state_at_0(gateway: Gateway) -> None:
    follower = gateway.attach()
    follower.until_type("caught_up")
    follower.peer.send({"type": "resync"})
    snapshot = follower.peer.expect("snapshot", reason="requested", cursor=0)
    assert "nonce" not in snapshot
    assert isinstance(snapshot["state"], dict)
    assert follower.peer.expect("caught_up", cursor=0) == {"type": "caught_up", "cursor": 0}


def test_a_resync_tells_the_same_state_as_start_snapshot(gateway: Gateway, past: Past) -> None:
    one = attached(gateway, past)
    one.peer.send({"type": "resync"})
    two = gateway.attach(handshake(**past.at(3, start="snapshot")))
    first, second = one.until_type("snapshot"), two.until_type("snapshot")
    assert first["cursor"] == second["cursor"]
    assert first["state"] == second["state"]


@pytest.mark.parametrize("kind", ["resume", "resync"])
def test_recoveries_at_once_end_with_the_newest_nonce(gateway: Gateway, kind: str) -> None:
    past = gateway.session("burst 20")
    follower = attached(gateway, past)
    nonces = [new_id() for _ in range(4)]
    fields = {"epoch": past.epoch, "since": 4} if kind == "resume" else {}
    follower.peer.send(*({"type": kind, "nonce": nonce, **fields} for nonce in nonces))
    follower.settle()
    told = [frame["nonce"] for frame in follower.frames if frame["type"] == "caught_up"]
    errors = [frame for frame in follower.frames if frame["type"] == "error"]
    assert told, follower.frames
    assert told == [nonce for nonce in nonces if nonce in told], "out of order, or twice"
    for error in errors:
        assert error["code"] == "rate_limited"
        assert error["retry_after_seconds"] > 0
    assert errors or told[-1] == nonces[-1]
    # Each answer accounts for everything after its own beginning.
    part: list[Frame] = []
    for frame in follower.frames:
        if frame["type"] in {"error", "pong"}:
            continue
        part.append(frame)
        if frame["type"] == "caught_up":
            assert account(part, 4, resync=kind == "resync").cursor == 20
            part.clear()
    assert part == []


def test_resume_in_the_middle_of_a_stream_loses_nothing(gateway: Gateway) -> None:
    follower = gateway.attach()
    follower.ask("tokens 60 10")
    follower.until_seq(20)
    follower.peer.send({"type": "resume", "epoch": follower.epoch, "since": 5, "nonce": "n"})
    # What was on its way comes first; the answer begins with the replay of 6.
    first = follower.until_type("replay", seq=6)
    before, after = split_at(follower.frames, first)
    assert account(before, 0, head=0).cursor >= 20
    follower.frames = after
    follower.until_type("caught_up", nonce="n")
    follower.until_seq(61)
    result = account(follower.frames, 5)
    assert result.cursor == 61
    assert len(result.caught_up) == 1
    assert result.replayed == list(range(6, result.live[0]))


def split_at(frames: list[Frame], first: Frame) -> tuple[list[Frame], list[Frame]]:
    at = next(i for i, frame in enumerate(frames) if frame is first)
    return frames[:at], frames[at:]


def test_a_recovery_of_one_connection_is_not_seen_by_another(gateway: Gateway) -> None:
    past = gateway.session("burst 5")
    one, two = attached(gateway, past), attached(gateway, past)
    recovered(one, {"type": "resume", "epoch": past.epoch, "since": 0}, 0, head=5)
    two.live()
    two.ask("x")
    two.until_seq(6)
    assert account(two.frames, 5).cursor == 6

"""What is too large for the other side is never sent whole: snapshots go in parts."""

from typing import Any

import pytest

from tests.blackbox.bbserve import Gateway, Past, handshake, v1
from tests.blackbox.bbwire import Frame

LIMITS = pytest.mark.parametrize("limit", [4096, 5000, 65536])
LARGE = {"text": 'quotes " and é and 🛰 and \u0000 ' * 2000}


@pytest.fixture(scope="module")
def large(gateway: Gateway) -> Past:
    """Make a session of three small events around two of some 100 KB."""
    follower = gateway.attach()
    contents: list[object] = ["first", LARGE, "middle", LARGE, "last"]
    for seq, content in enumerate(contents, 1):
        follower.ask(content)
        follower.until_seq(seq)
    events = follower.account().events
    follower.peer.cut()
    return Past(follower.session_id, follower.epoch, 5, events)


def check_parts(frames: list[Frame]) -> int:
    """Hold each run of parts to the specification; how many parts there were."""
    parts = 0
    before: Frame | None = None
    for frame in frames:
        if "part" not in frame:
            assert before is None, f"in the middle of a snapshot: {frame['type']}"
            continue
        assert frame["part"] == (1 if before is None else before["part"] + 1)
        assert before is None or without_chunk(frame) == without_chunk(before)
        before = frame if frame["part"] < frame["parts"] else None
        parts += 1
    assert before is None
    return parts


def without_chunk(frame: Frame) -> Frame:
    return {name: value for name, value in frame.items() if name not in {"part", "chunk"}}


@LIMITS
def test_a_large_snapshot_goes_in_parts(gateway: Gateway, large: Past, limit: int) -> None:
    fields: dict[str, Any] = {"start": "snapshot", "max_payload": limit}
    follower = gateway.attach(handshake(**large.at(0, **fields)))
    result = follower.catch_up()
    assert check_parts(follower.frames) > 1
    assert follower.peer.largest <= limit
    assert str(LARGE["text"]) in result.snapshots[0]["state"]["messages"][1]["data"]["text"]
    whole = gateway.attach(handshake(**large.at(0, start="snapshot")))
    assert whole.catch_up().snapshots[0]["state"] == result.snapshots[0]["state"]
    follower.live()


@LIMITS
def test_an_event_that_is_too_large_for_a_client_is_covered(
    gateway: Gateway, large: Past, limit: int
) -> None:
    follower = gateway.attach(handshake(**large.at(0, max_payload=limit)))
    result = follower.catch_up()
    assert result.cursor == 5
    assert check_parts(follower.frames) > 1
    assert follower.peer.largest <= limit
    assert all(result.events[seq] == large.events[seq] for seq in result.events)


@LIMITS
def test_a_live_event_that_is_too_large_for_a_client_is_covered(
    gateway: Gateway, limit: int
) -> None:
    follower = gateway.attach(max_payload=limit)
    other = gateway.attach(handshake(**follower.token()))
    for content in ("small", LARGE, "small again"):
        other.ask(content)
    other.until_seq(3)
    follower.until_seq(3)
    result = follower.account()
    assert result.cursor == 3
    assert follower.peer.largest <= limit
    assert [snapshot["reason"] for snapshot in result.snapshots] == ["lagged"]
    assert other.account().texts() == ["small", LARGE["text"], "small again"]


def test_a_snapshot_to_version_1_sheds_its_oldest_messages(gateway: Gateway, large: Past) -> None:
    opening = v1(session_id=large.session_id, start="snapshot", max_payload=65536)
    follower = gateway.attach(opening)
    frame = follower.recv()
    assert set(frame) == {"type", "state"}
    assert frame["state"]["truncated"] is True
    assert frame["state"]["event_cursor"] == 5
    assert follower.peer.largest <= 65536
    assert "last" in str(frame["state"])
    assert "first" not in str(frame["state"])
    opening = v1(session_id=large.session_id, start="snapshot")
    frame = gateway.attach(opening).recv()
    assert frame["state"].get("truncated") in {None, False}
    assert "first" in str(frame["state"])

"""What the server decides about a session at a handshake, row by row."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.blackbox.bbaccount import check_event
from tests.blackbox.bbserve import ABSENT, Follower, Gateway, Past, handshake, v1
from tests.blackbox.bbwire import Frame

SPELLINGS = pytest.mark.parametrize("spelling", ["hello", "join"])
RETAIN = 10


@pytest.fixture(scope="module")
def small(adapter: str) -> Iterator[Gateway]:
    running = Gateway("--retain", str(RETAIN), "--retain-transient", str(RETAIN), adapter=adapter)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def past(gateway: Gateway) -> Past:
    """Make a session with 12 durable events and a run: 13 … 17 transient, 18 final."""
    return gateway.session("burst 12", "tokens 5 0")


@pytest.fixture(scope="module")
def trimmed(small: Gateway) -> Past:
    """Make a session with 30 durable events, of which the journal keeps 10."""
    return small.session("burst 30")


def facts(follower: Follower) -> tuple[bool, bool, object, int, int, int]:
    welcome = follower.welcome
    return (
        welcome["resumed"],
        welcome["resync_required"],
        welcome.get("resync_reason"),
        welcome["cursor"],
        welcome["oldest_cursor"],
        welcome["sequence"],
    )


def expect_snapshot(follower: Follower, reason: str, cursor: int) -> Frame:
    """Take the snapshot that leaves with the welcome, then `caught_up`."""
    frame = follower.recv()
    assert frame["type"] == "snapshot", frame
    assert (frame["reason"], frame["cursor"]) == (reason, cursor), frame
    assert frame["epoch"] == follower.epoch, frame
    assert "nonce" not in frame, frame
    frame = follower.recv()
    assert frame == {"type": "caught_up", "cursor": cursor}
    result = follower.account()
    assert result.cursor == cursor
    follower.live()
    return result.snapshots[0]


# No session, or none that is the client's


@SPELLINGS
@pytest.mark.parametrize("since", [ABSENT, None, 0])
@pytest.mark.parametrize("start", [ABSENT, "replay", "snapshot"])
def test_no_session_id_makes_a_new_session(
    gateway: Gateway, spelling: str, since: object, start: object
) -> None:
    follower = gateway.attach(handshake(spelling, since=since, start=start))
    assert facts(follower) == (False, False, None, 0, 1, 0)
    assert follower.recv() == {"type": "caught_up", "cursor": 0}
    follower.live()


@SPELLINGS
@pytest.mark.parametrize("since", [1, 7, 2**53 - 1])
def test_since_without_a_session_is_session_unknown(
    gateway: Gateway, spelling: str, since: int
) -> None:
    follower = gateway.attach(handshake(spelling, since=since))
    assert facts(follower) == (False, True, "session_unknown", 0, 1, 0)
    assert follower.recv() == {"type": "caught_up", "cursor": 0}
    follower.live()


@SPELLINGS
@pytest.mark.parametrize("session_id", ["x", "", "a" * 64, "no.such", "..", "\u0000", "\U0001f6f0"])
@pytest.mark.parametrize("epoch", [ABSENT, "e"])
def test_an_unknown_session_becomes_a_new_one_under_a_new_id(
    gateway: Gateway, spelling: str, session_id: str, epoch: object
) -> None:
    opening = handshake(spelling, session_id=session_id, epoch=epoch)
    follower = gateway.attach(opening)
    assert facts(follower) == (False, False, None, 0, 1, 0)
    assert follower.session_id != session_id
    assert follower.recv() == {"type": "caught_up", "cursor": 0}
    follower = gateway.attach({**opening, "since": 4})
    assert facts(follower) == (False, True, "session_unknown", 0, 1, 0)
    assert follower.session_id != session_id
    assert follower.recv() == {"type": "caught_up", "cursor": 0}


def test_every_new_session_has_an_id_and_an_epoch_of_its_own(gateway: Gateway) -> None:
    followers = [gateway.attach() for _ in range(20)]
    assert len({follower.session_id for follower in followers}) == 20
    assert len({follower.epoch for follower in followers}) == 20


# The session is found


@SPELLINGS
@pytest.mark.parametrize("since", range(19))
def test_every_position_within_the_session_goes_on_there(
    gateway: Gateway, past: Past, spelling: str, since: int
) -> None:
    follower = gateway.attach(handshake(spelling, **past.at(since)))
    assert facts(follower) == (True, False, None, 18, 1, since)
    assert follower.session_id == past.session_id
    assert follower.epoch == past.epoch
    result = follower.catch_up()
    durable = [*range(1, 13), 18]
    assert result.replayed == [seq for seq in durable if seq > since]
    assert result.events == {seq: past.events[seq] for seq in result.replayed}
    first = max(since + 1, 13)
    assert result.skips == ([(first, 17)] if first <= 17 else [])
    assert result.caught_up == [{"type": "caught_up", "cursor": 18}]
    assert result.snapshots == []
    follower.live()


@SPELLINGS
@pytest.mark.parametrize("since", [ABSENT, None])
def test_since_absent_is_0(gateway: Gateway, past: Past, spelling: str, since: object) -> None:
    follower = gateway.attach(handshake(spelling, **past.at(since)))
    assert facts(follower) == (True, False, None, 18, 1, 0)
    assert follower.catch_up().cursor == 18


@SPELLINGS
@pytest.mark.parametrize("since", [0, 5, 18, 19, 2**53 - 1])
@pytest.mark.parametrize("epoch", ["other", "x" * 64])
def test_another_epoch_is_epoch_changed(
    gateway: Gateway, past: Past, spelling: str, since: int, epoch: str
) -> None:
    opening = handshake(spelling, **{**past.at(since), "epoch": epoch})
    follower = gateway.attach(opening)
    assert facts(follower) == (True, True, "epoch_changed", 18, 1, 18)
    assert follower.epoch == past.epoch
    expect_snapshot(follower, "epoch_changed", 18)


@SPELLINGS
@pytest.mark.parametrize("since", [1, 18, 19])
@pytest.mark.parametrize("epoch", [ABSENT, None])
def test_a_position_without_an_epoch_is_epoch_changed(
    gateway: Gateway, past: Past, spelling: str, since: int, epoch: object
) -> None:
    opening = handshake(spelling, **{**past.at(since), "epoch": epoch})
    follower = gateway.attach(opening)
    assert facts(follower) == (True, True, "epoch_changed", 18, 1, 18)
    expect_snapshot(follower, "epoch_changed", 18)


@SPELLINGS
def test_the_beginning_needs_no_epoch(gateway: Gateway, past: Past, spelling: str) -> None:
    follower = gateway.attach(handshake(spelling, session_id=past.session_id, since=0))
    assert facts(follower) == (True, False, None, 18, 1, 0)
    assert follower.catch_up().cursor == 18


@SPELLINGS
@pytest.mark.parametrize("since", [19, 20, 2**53 - 1])
@pytest.mark.parametrize("start", [ABSENT, "snapshot"])
def test_a_position_beyond_the_head_is_cursor_ahead(
    gateway: Gateway, past: Past, spelling: str, since: int, start: object
) -> None:
    follower = gateway.attach(handshake(spelling, **past.at(since, start=start)))
    assert facts(follower) == (True, True, "cursor_ahead", 18, 1, 18)
    expect_snapshot(follower, "cursor_ahead", 18)


@SPELLINGS
@pytest.mark.parametrize("since", [0, 1, 18, 19])
@pytest.mark.parametrize("start", [ABSENT, "snapshot"])
def test_a_position_below_the_floor_is_trimmed(
    small: Gateway, trimmed: Past, spelling: str, since: int, start: object
) -> None:
    follower = small.attach(handshake(spelling, **trimmed.at(since, start=start)))
    assert facts(follower) == (True, True, "trimmed", 30, 21, 30)
    expect_snapshot(follower, "trimmed", 30)


@SPELLINGS
@pytest.mark.parametrize("since", [20, 21, 25, 29, 30])
def test_a_position_at_the_floor_or_above_goes_on(
    small: Gateway, trimmed: Past, spelling: str, since: int
) -> None:
    follower = small.attach(handshake(spelling, **trimmed.at(since)))
    assert facts(follower) == (True, False, None, 30, 21, since)
    assert follower.catch_up().replayed == list(range(since + 1, 31))


@SPELLINGS
@pytest.mark.parametrize("since", [ABSENT, 0, 7, 18])
def test_start_snapshot_gives_one_as_requested(
    gateway: Gateway, past: Past, spelling: str, since: object
) -> None:
    follower = gateway.attach(handshake(spelling, **past.at(since, start="snapshot")))
    assert facts(follower) == (True, True, "requested", 18, 1, 18)
    expect_snapshot(follower, "requested", 18)


@SPELLINGS
def test_start_replay_is_the_default(gateway: Gateway, past: Past, spelling: str) -> None:
    follower = gateway.attach(handshake(spelling, **past.at(17, start="replay")))
    assert facts(follower) == (True, False, None, 18, 1, 17)


def test_the_order_of_the_rows_decides(small: Gateway, trimmed: Past) -> None:
    for since, start in ((31, "snapshot"), (0, "snapshot"), (25, "snapshot"), (25, "replay")):
        opening = handshake(**{**trimmed.at(since, start=start), "epoch": "other"})
        assert small.attach(opening).welcome["resync_reason"] == "epoch_changed"
    follower = small.attach(handshake(session_id=trimmed.session_id, since=5))
    assert follower.welcome["resync_reason"] == "epoch_changed"
    follower = small.attach(handshake(session_id=trimmed.session_id, since=0))
    assert follower.welcome["resync_reason"] == "trimmed"


def test_live_events_follow_a_snapshot_without_a_hole(small: Gateway) -> None:
    past = small.session("burst 20")
    follower = small.attach(handshake(**past.at(3)))
    follower.ask("after the snapshot")
    follower.until_seq(21)
    result = follower.account()
    assert result.snapshots[0]["cursor"] == 20
    assert result.live == [21]
    assert result.texts() == ["after the snapshot"]


def test_a_snapshot_has_what_was_said_and_what_is_asked(gateway: Gateway) -> None:
    past = gateway.session("words of the first answer", "ask a question that is open")
    follower = gateway.attach(handshake(**past.at(0, start="snapshot")))
    text = json.dumps(follower.until_type("snapshot")["state"])
    assert "words of the first answer" in text
    assert "a question that is open" in text
    assert past.events[2]["event_id"] in text


def test_a_snapshot_has_the_text_so_far_of_an_open_run(gateway: Gateway) -> None:
    follower = gateway.attach()
    follower.ask("tokens 40 25")
    follower.until_seq(5)
    other = gateway.attach(handshake(**follower.token(), start="snapshot"))
    snapshot = other.until_type("snapshot")
    text = json.dumps(snapshot["state"])
    assert 5 <= snapshot["cursor"] <= 40
    assert "".join(f"t{n} " for n in range(snapshot["cursor"])) in text
    assert f"t{snapshot['cursor']} " not in text
    assert other.until_seq(41)["event"]["final"] is True
    assert other.account().cursor == 41


# Version 1


def v1_facts(follower: Follower) -> tuple[Any, ...]:
    welcome = follower.welcome
    return (
        welcome["resumed"],
        welcome.get("resync_reason"),
        welcome["cursor"],
        welcome["head"],
        welcome["sequence"],
    )


def expect_v1_replay(follower: Follower, seq: int) -> Frame:
    """Take one event in the only form that deployed clients track."""
    frame = follower.recv()
    assert set(frame) == {"type", "seq", "event"}, frame
    assert (frame["type"], frame["seq"]) == ("replay", seq), frame
    event = frame["event"]
    assert (event["sequence"], event["data"]["cursor"]) == (seq, seq), frame
    names = {"type", "data", "event_id", "timestamp", "source", "target", "sequence"}
    assert set(event) <= names, frame
    check_event({name: value for name, value in event.items() if name != "sequence"})
    return {**event, "data": {k: v for k, v in event["data"].items() if k != "cursor"}}


def expect_v1_snapshot(follower: Follower, cursor: int) -> Frame:
    """Take the snapshot that leaves with the welcome, in the form of version 1."""
    frame = follower.recv()
    assert set(frame) == {"type", "state"}, frame
    state = frame["state"]
    assert frame["type"] == "snapshot"
    assert state["event_cursor"] == cursor
    assert state["session_id"] == follower.session_id
    assert state["agent_id"] == "demo"
    follower.live()
    return frame


@SPELLINGS
@pytest.mark.parametrize("versions", [(ABSENT, ABSENT), (1, 1)])
def test_a_new_version_1_session_begins_at_0(
    gateway: Gateway, spelling: str, versions: tuple[object, object]
) -> None:
    follower = gateway.attach(handshake(spelling, range=versions))
    assert v1_facts(follower) == (False, None, 0, 0, 0)
    assert follower.welcome["oldest_cursor"] == 1
    follower.live()
    follower = gateway.attach(handshake(spelling, range=versions, since=4))
    assert v1_facts(follower) == (False, "session_unknown", 0, 0, 0)
    follower.live()


@SPELLINGS
@pytest.mark.parametrize("since", range(19))
@pytest.mark.parametrize("with_epoch", [False, True])
def test_version_1_goes_on_anywhere_and_gets_what_was_superseded(
    gateway: Gateway, past: Past, spelling: str, since: int, with_epoch: bool
) -> None:
    session_id = f"{past.session_id}.{past.epoch}" if with_epoch else past.session_id
    follower = gateway.attach(v1(spelling, session_id=session_id, since=since))
    assert v1_facts(follower) == (True, None, since, 18, since)
    assert follower.welcome["oldest_cursor"] == 1
    assert follower.session_id == f"{past.session_id}.{past.epoch}"
    for seq in range(since + 1, 19):
        event = expect_v1_replay(follower, seq)
        if 13 <= seq <= 17:
            assert (event["type"], event["data"]) == ("token", {"text": f"t{seq - 13} "})
        else:
            told = past.events[seq]
            assert {name: event[name] for name in ("type", "data", "event_id")} == {
                name: told[name] for name in ("type", "data", "event_id")
            }
    follower.live()


@SPELLINGS
def test_an_old_epoch_in_a_version_1_session_id_is_epoch_changed(
    gateway: Gateway, past: Past, spelling: str
) -> None:
    for since in (0, 5, 18, 40):
        opening = v1(spelling, session_id=f"{past.session_id}.other", since=since)
        follower = gateway.attach(opening)
        assert v1_facts(follower) == (True, "epoch_changed", 0, 18, 18)
        assert follower.session_id == f"{past.session_id}.{past.epoch}"
        expect_v1_snapshot(follower, 18)


@SPELLINGS
def test_version_1_beyond_the_head_is_cursor_ahead(
    gateway: Gateway, past: Past, spelling: str
) -> None:
    follower = gateway.attach(v1(spelling, session_id=past.session_id, since=19))
    assert v1_facts(follower) == (True, "cursor_ahead", 0, 18, 18)
    expect_v1_snapshot(follower, 18)


@SPELLINGS
def test_version_1_may_ask_for_a_snapshot(gateway: Gateway, past: Past, spelling: str) -> None:
    opening = v1(spelling, session_id=past.session_id, since=5, start="snapshot")
    follower = gateway.attach(opening)
    assert v1_facts(follower) == (True, "requested", 0, 18, 18)
    expect_v1_snapshot(follower, 18)


@SPELLINGS
@pytest.mark.parametrize("since", [0, 1, 18, 19])
def test_version_1_below_the_floor_is_trimmed_with_its_since_as_cursor(
    small: Gateway, trimmed: Past, spelling: str, since: int
) -> None:
    opening = v1(spelling, session_id=trimmed.session_id, since=since)
    follower = small.attach(opening)
    head = follower.welcome["head"]
    assert v1_facts(follower) == (True, "trimmed", since, head, head)
    expect_v1_snapshot(follower, head)


@SPELLINGS
def test_version_1_has_the_floor_of_what_is_still_held(small: Gateway, spelling: str) -> None:
    past = small.session("burst 3", "tokens 40 0")
    follower = small.attach(handshake(spelling, **past.at(0)))
    assert facts(follower) == (True, False, None, 44, 1, 0)
    result = follower.catch_up()
    assert result.replayed == [1, 2, 3, 44]
    assert result.skips == [(4, 43)]
    session_id = past.session_id
    follower = small.attach(v1(spelling, session_id=session_id, since=44))
    floor = follower.welcome["oldest_cursor"]
    assert 44 - RETAIN <= floor <= 44
    follower = small.attach(v1(spelling, session_id=session_id, since=floor - 1))
    assert v1_facts(follower) == (True, None, floor - 1, 44, floor - 1)
    for seq in range(floor, 45):
        expect_v1_replay(follower, seq)
    follower.live()
    follower = small.attach(v1(spelling, session_id=session_id, since=floor - 2))
    assert v1_facts(follower) == (True, "trimmed", floor - 2, 44, 44)
    expect_v1_snapshot(follower, 44)


@SPELLINGS
def test_either_form_of_the_id_leads_to_the_session_in_version_2(
    gateway: Gateway, past: Past, spelling: str
) -> None:
    full = f"{past.session_id}.{past.epoch}"
    follower = gateway.attach(handshake(spelling, session_id=full, since=16))
    assert facts(follower) == (True, False, None, 18, 1, 16)
    assert follower.session_id == past.session_id
    follower = gateway.attach(handshake(spelling, session_id=full, epoch=past.epoch, since=16))
    assert facts(follower) == (True, False, None, 18, 1, 16)
    opening = handshake(spelling, session_id=f"{past.session_id}.other", since=16)
    assert gateway.attach(opening).welcome["resync_reason"] == "epoch_changed"


@pytest.mark.on_trio
def test_live_events_to_version_1_are_replays_too(gateway: Gateway) -> None:
    follower = gateway.attach(v1())
    follower.ask("tokens 3 1")
    follower.ask("burst 2")
    frames: list[Frame] = []
    while len(frames) < 6:
        frame = follower.recv()
        if frame["type"] != "response":
            frames.append(frame)
    assert [frame["seq"] for frame in frames] == [1, 2, 3, 4, 5, 6]
    for frame in frames:
        assert frame["type"] == "replay"
        assert frame["event"]["sequence"] == frame["seq"]
        assert frame["event"]["data"]["cursor"] == frame["seq"]
    follower.live()

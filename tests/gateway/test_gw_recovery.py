"""Recovery in band, lagging, and followers that come and go."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto.actions import SubscriberLagged, SubscriberLeft
from gatewayproto.inputs import ChangeEpoch
from gatewayproto.testing.reference import fold
from tests.gateway.gwworld import MAX_INT, Frame, Peer, World, encode, kinds, only, seqs

BIG = "x" * 300


def follower(events: int = 10, *, auto: bool = True, **options: Any) -> tuple[World, Peer]:
    world = World.make(**options)
    peer = world.connect(auto=auto)
    for _ in range(events):
        world.publish(peer.session_id)
    peer.drain_all()
    return world, peer


def ask(peer: Peer, since: Any, *, epoch: Any = None, nonce: str = "n") -> list[Frame]:
    return peer.send("resume", epoch=epoch or peer.epoch, since=since, nonce=nonce)


# -- resume -----------------------------------------------------------------------------------


def test_resume_replays_from_there_and_says_when_it_has_caught_up() -> None:
    world, peer = follower()
    frames = ask(peer, 7)
    assert [(f["type"], f.get("seq")) for f in frames] == [
        ("replay", 8), ("replay", 9), ("replay", 10), ("caught_up", None),
    ]  # fmt: skip
    assert frames[-1] == {"type": "caught_up", "cursor": 10, "nonce": "n"}
    world.publish(peer.session_id)
    assert kinds(peer.take()) == ["event"]


def test_resume_never_moves_a_position_forward() -> None:
    world, peer = follower(0, auto=False, send_window=1000)
    for _ in range(6):
        world.publish(peer.session_id, data={"text": BIG})
    sent = peer.drain()
    assert 0 < len(seqs(sent)) < 6
    frames = ask(peer, 6) + peer.drain_all()
    assert seqs(sent + frames) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("since", "epoch", "reason"),
    [
        (11, None, "cursor_ahead"),
        (MAX_INT, None, "cursor_ahead"),
        (3, None, "trimmed"),
        (0, None, "trimmed"),
        (9, "stale", "epoch_changed"),
        (99, "stale", "epoch_changed"),
    ],
)
def test_resume_that_cannot_be_granted_is_answered_by_a_snapshot(
    since: int, epoch: str | None, reason: str
) -> None:
    world, peer = follower(retain=6)
    snapshot, caught_up = ask(peer, since, epoch=epoch)
    assert (snapshot["type"], snapshot["reason"], snapshot["nonce"]) == ("snapshot", reason, "n")
    assert (snapshot["cursor"], snapshot["epoch"]) == (10, peer.epoch)
    assert caught_up == {"type": "caught_up", "cursor": 10, "nonce": "n"}
    world.publish(peer.session_id)
    assert seqs(peer.take()) == [11]


def test_resume_without_an_epoch_names_none() -> None:
    _, peer = follower()
    snapshot, _ = peer.send("resume", since=3)
    assert snapshot["reason"] == "epoch_changed"
    assert "nonce" not in snapshot
    assert seqs(peer.send("resume", since=0)) == list(range(1, 11))


@pytest.mark.parametrize("since", [-1, "5", 5.0, True, None, ..., [], MAX_INT + 1], ids=repr)
def test_bad_since_is_answered_and_the_connection_lives(since: Any) -> None:
    world, peer = follower(max_violations=1)
    fields = {} if since is ... else {"since": since}
    (error,) = peer.send("resume", epoch=peer.epoch, **fields)
    assert (error["type"], error["code"]) == ("error", "invalid_cursor")
    world.publish(peer.session_id)
    assert seqs(peer.take()) == [11]


@pytest.mark.parametrize("frame", [
    {"type": "resume", "epoch": "e", "since": 0},
    {"type": "resume", "epoch": "e", "since": -1},
    {"type": "resync"},
])  # fmt: skip
def test_version_1_knows_no_recovery_in_band(frame: Frame) -> None:
    world = World.make(max_violations=1)
    peer = world.connect(1)
    (error,) = peer.send_raw(encode(frame))
    assert error["code"] == "unknown_type"
    assert not peer.closed


# -- resync -----------------------------------------------------------------------------------


def test_resync_gives_a_snapshot_of_now() -> None:
    world, peer = follower(0)
    log = [world.publish(peer.session_id) for _ in range(3)]
    log.append(world.publish(peer.session_id, transient=True, run_id="r", data={"text": "so "}))
    log.append(world.publish(peer.session_id, transient=True, run_id="r", data={"text": "far"}))
    log.append(world.publish(peer.session_id, expects_reply=True))
    peer.take()
    snapshot, caught_up = peer.send("resync", nonce="n")
    assert snapshot == {
        "type": "snapshot",
        "cursor": 6,
        "epoch": peer.epoch,
        "reason": "requested",
        "nonce": "n",
        "state": fold(log),
    }
    assert snapshot["state"]["runs"]["r"]["text"] == "so far"
    assert snapshot["state"]["questions"] == ["e6"]
    assert caught_up == {"type": "caught_up", "cursor": 6, "nonce": "n"}


def test_recoveries_are_merged_and_carry_the_newest_nonce() -> None:
    world, peer = follower(20, auto=False, send_window=400)
    first = ask(peer, 0, nonce="a")
    merged = ask(peer, 5, nonce="b") + ask(peer, 15, nonce="c")
    world.publish(peer.session_id)
    rest = peer.drain_all()
    got = first + merged + rest
    assert 0 < len(first) < 15
    assert only(got, "caught_up") == [{"type": "caught_up", "cursor": 20, "nonce": "c"}]
    assert seqs(got) == list(range(1, 22))
    assert [f["type"] for f in got if f.get("seq") in {20, 21}] == ["replay", "event"]


@pytest.mark.parametrize("then", ["resume", "resync"])
def test_recovery_yields_to_a_snapshot_that_waits_for_room(then: str) -> None:
    world, peer = follower(3, auto=False, send_window=1)
    world.publish(peer.session_id)  # is owed to the transport
    assert seqs(peer.take()) == [4]
    assert peer.send("resync", nonce="a") == []
    fields = {"epoch": peer.epoch, "since": 2} if then == "resume" else {}
    assert peer.send(then, nonce="b", **fields) == []
    frames = peer.drain_all()
    assert [(f["type"], f.get("cursor"), f["nonce"]) for f in frames] == [
        ("snapshot", 4, "b"), ("caught_up", 4, "b"),
    ]  # fmt: skip


def test_a_snapshot_begins_when_its_frame_has_room_and_not_when_its_state_would_have() -> None:
    world = World.make(send_window=256)
    peer = world.connect(auto=False)
    peer.drain_all()
    world.publish(peer.session_id, data={"text": "x" * 64}, transient=True)
    owed = peer.owed
    assert 256 - 120 < owed < 256 - 40  # room for the state, and none for the frame around it
    peer.take()
    assert peer.send("resync", nonce="a") == []
    world.publish(peer.session_id, transient=True)
    assert peer.send("resync", nonce="b") == []
    frames = peer.drain_all()
    assert [(f["type"], f.get("cursor"), f["nonce"]) for f in frames] == [
        ("snapshot", 2, "b"), ("caught_up", 2, "b"),
    ]  # fmt: skip


def in_parts() -> tuple[World, Peer, list[Frame]]:
    """A follower that has part 1 of a snapshot; the next waits for room."""
    world = World.make(send_window=1)
    peer = world.connect(auto=False, max_payload=4096)
    for _ in range(10):
        world.publish(peer.session_id, data={"text": BIG * 5})
    peer.drain_all()
    frames = peer.send("resync", nonce="a")
    assert [f["part"] for f in frames] == [1]
    return world, peer, frames


def test_recovery_yields_to_a_snapshot_in_parts() -> None:
    world, peer, frames = in_parts()
    world.publish(peer.session_id)
    assert ask(peer, 5, nonce="b") == []
    assert peer.send("resync", nonce="c") == []
    world.publish(peer.session_id)
    frames += peer.drain_all()
    parts = only(frames, "snapshot")
    assert [f["part"] for f in parts] == list(range(1, parts[0]["parts"] + 1))
    assert {f["nonce"] for f in parts} == {"a"}
    assert json.loads("".join(f["chunk"] for f in parts))["messages"][-1]["seq"] == 10
    rest = frames[len(parts) :]
    # Event 11 was published before the latest `resume`, event 12 since.
    assert [(f["type"], f.get("seq")) for f in rest] == [
        ("replay", 11), ("caught_up", None), ("event", 12),
    ]  # fmt: skip
    assert rest[1]["nonce"] == "c"


def test_trim_while_a_snapshot_in_parts_waits_is_no_hole() -> None:
    world = World.make(send_window=1, retain=1)
    peer = world.connect(auto=False, max_payload=4096)
    for _ in range(10):
        world.publish(peer.session_id, data={"text": BIG * 5})
    frames = peer.drain_all() + peer.send("resync")
    for _ in range(5):
        world.publish(peer.session_id)  # 11 to 15, of which 15 is retained
    frames += peer.drain_all()
    assert not only(frames, "skip")
    last = only(frames, "snapshot")[-1]
    assert (last["reason"], last["cursor"]) == ("lagged", 15)
    assert frames[-1] == {"type": "caught_up", "cursor": 15}


def test_epoch_change_begins_a_snapshot_in_parts_anew() -> None:
    world, peer, _ = in_parts()
    world.give(ChangeEpoch(session_id=peer.session_id))
    info = world.gateway.session(peer.session_id)
    assert info is not None
    frames = peer.drain_all()
    parts = only(frames, "snapshot")
    assert [f["part"] for f in parts] == list(range(1, parts[0]["parts"] + 1))
    assert {(f["epoch"], f["reason"]) for f in parts} == {(info.epoch, "epoch_changed")}
    assert info.epoch != peer.epoch
    assert frames[-1] == {"type": "caught_up", "cursor": 10, "nonce": "a"}


def test_nothing_goes_between_the_need_for_a_snapshot_and_the_snapshot() -> None:
    world, peer = follower(0, auto=False, send_window=2000)
    for _ in range(3):
        world.publish(peer.session_id, data={"text": BIG * 4})
        peer.drain_all()
    for events in (3, 5):  # the second time, its size is known beforehand
        world.publish(peer.session_id)
        (event,) = peer.take()
        assert peer.send("resync", nonce="n") == []  # no room for it, though for events
        for _ in range(events):
            world.publish(peer.session_id)
        assert peer.drain(1) == []
        snapshot, *rest = peer.drain_all()
        assert snapshot["type"] == "snapshot"
        assert snapshot["cursor"] >= event["seq"]
        head = event["seq"] + events
        assert seqs(rest) == list(range(snapshot["cursor"] + 1, head + 1))
        assert len(only(rest, "caught_up")) == 1


# -- lagging ----------------------------------------------------------------------------------


def stall(world: World, peer: Peer, events: int) -> list[Frame]:
    """Let so many events pass a follower that takes none of them; then let it take all."""
    for _ in range(events):
        world.publish(peer.session_id)
    return peer.drain_all()


def test_lagging_follower_gets_a_snapshot_on_the_same_connection() -> None:
    world, peer = follower(0, auto=False, send_window=1, retain=3)
    frames = stall(world, peer, 10)
    assert [(f["type"], f.get("seq")) for f in frames] == [("event", 1), ("snapshot", None)]
    assert (frames[1]["reason"], frames[1]["cursor"]) == ("lagged", 10)
    assert "nonce" not in frames[1]
    assert world.hear(SubscriberLagged) == [
        SubscriberLagged(connection=1, session_id=peer.session_id, position=1)
    ]


def test_what_is_still_retained_is_no_reason_for_a_snapshot() -> None:
    world, peer = follower(0, auto=False, send_window=1, retain=3)
    assert seqs(stall(world, peer, 4)) == [1, 2, 3, 4]
    assert not world.told(SubscriberLagged)


def test_snapshots_for_lagging_are_bounded_in_a_period() -> None:
    options = {"send_window": 1, "retain": 1, "max_lags": 3, "lag_period": 64}
    world, peer = follower(0, auto=False, **options)
    for _ in range(3):
        assert only(stall(world, peer, 5), "snapshot")
        world.advance(16)
    world.advance(15.875)
    assert not peer.closed
    stall(world, peer, 5)  # the first of them was not a whole period ago
    assert (peer.code, peer.reason) == (4002, "slow_consumer")
    assert world.hear(SubscriberLeft)


def test_share_of_snapshots_is_given_back_with_the_period() -> None:
    options = {"send_window": 1, "retain": 1, "max_lags": 3, "lag_period": 64}
    world, peer = follower(0, auto=False, **options)
    for _ in range(12):
        peer.send("ping")
        peer.drain_all()
        assert only(stall(world, peer, 5), "snapshot")
        world.advance(22)
    assert not peer.closed


def test_lagging_version_1_is_closed_and_joins_again() -> None:
    world = World.make(send_window=1, retain=3)
    peer = world.connect(1, auto=False)
    peer.drain_all()
    frames = stall(world, peer, 10)
    assert seqs(frames) == [1]
    assert (peer.code, peer.reason) == (4002, "slow_consumer")
    again = world.connect(1, session_id=peer.welcome["session_id"], since=1)
    assert again.welcome["resync_reason"] == "trimmed"


def test_long_replay_evicts_nobody() -> None:
    world = World.make(send_window=2000, retain=2000, max_lags=1, stall_timeout=8)
    maker = world.connect()
    for _ in range(1000):
        world.publish(maker.session_id)
    peer = world.connect(auto=False, session_id=maker.session_id)
    frames = peer.take()
    while peer.owed:
        world.advance(4)
        maker.send("ping")
        frames += peer.drain(500)
    assert seqs(frames) == list(range(1, 1001))
    assert not peer.closed


def test_burst_of_tokens_that_was_too_fast_shrinks_to_one_skip() -> None:
    world, peer = follower(0, auto=False, send_window=1)
    world.publish(peer.session_id)
    for _ in range(500):
        world.publish(peer.session_id, transient=True, run_id="r", data={"text": "t"})
    world.publish(peer.session_id, final=True, run_id="r", data={"text": "t" * 500})
    frames = peer.drain_all()
    assert frames[1] == {"type": "skip", "first": 2, "last": 501, "reason": "superseded"}
    assert seqs(frames) == [1, 502]


def test_final_of_an_earlier_run_supersedes_nothing_of_a_later_one() -> None:
    world = World.make()
    maker = world.connect()
    for kind in ("transient", "final", "transient", "transient"):
        fields: dict[str, Any] = {"run_id": "r", kind: True}
        world.publish(maker.session_id, **fields)
    peer = world.connect(session_id=maker.session_id)
    frames = peer.take()
    assert only(frames, "skip") == [{"type": "skip", "first": 1, "last": 1, "reason": "superseded"}]
    assert seqs(frames) == [2, 3, 4]


# -- who follows ------------------------------------------------------------------------------


def test_second_connection_takes_nothing_from_the_first() -> None:
    world, first = follower(2)
    first.take()
    second = world.connect(session_id=first.session_id, epoch=first.epoch, since=2)
    second.take()
    world.publish(first.session_id)
    assert first.take() == second.take() != []


@pytest.mark.parametrize("version", [1, 2])
def test_late_close_of_an_old_connection_leaves_its_successor_alone(version: int) -> None:
    world = World.make(resume_window=100, heartbeat=1000)
    old = world.connect(version, auto=False)
    world.publish(old.session_id)
    new = world.connect(version, session_id=old.welcome["session_id"], since=0)
    assert new.welcome["resumed"] is True
    old.cut()
    world.advance(150)  # no resume window has begun
    new.take()
    world.publish(old.session_id)
    assert seqs(new.take()) == [2]
    info = world.gateway.session(old.session_id)
    assert info is not None
    assert info.subscribers == 1


def test_event_that_nobody_was_there_to_receive_is_recorded() -> None:
    world, peer = follower(1)
    peer.cut()
    world.publish(peer.session_id)
    world.publish(peer.session_id, transient=True, run_id="r")
    again = world.connect(session_id=peer.session_id, epoch=peer.epoch, since=1)
    assert seqs(again.take()) == [2, 3]


def test_events_are_numbered_once_whatever_the_number_of_followers() -> None:
    world, first = follower(0)
    peers = [first, *(world.connect(session_id=first.session_id) for _ in range(4))]
    for peer in peers:
        peer.take()
    for n in range(1, 4):
        world.publish(first.session_id)
        assert [seqs(peer.take()) for peer in peers] == [[n]] * 5
    info = world.gateway.session(first.session_id)
    assert info is not None
    assert info.retained == info.cursor == 3


# -- nobody costs another anything ------------------------------------------------------------

OPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=60)


def shared(script: list[tuple[int, int]], *, crowd: bool, version: int) -> list[Frame]:
    """What one follower is sent by a script in which others may take part."""
    world = World.make(retain=4, retain_transient=4, send_window=600, max_lags=2)
    peer = world.connect(version)
    others: list[Peer] = []
    for code, a in script:
        match code:
            case 0 | 1 | 2:
                world.publish(peer.session_id, transient=True, run_id="r", data={"text": BIG[:a]})
            case 3 | 4:
                world.publish(peer.session_id, data={"text": BIG})
            case 5:
                world.publish(peer.session_id, final=True, run_id="r")
            case 6 if crowd and len(others) < 4:
                fields: dict[str, Any] = {"since": a} if a % 2 else {}
                others.append(
                    world.connect(1 + a % 2, auto=a > 7, session_id=peer.session_id, **fields)
                )
            case 7 if others and not others[a % len(others)].closed:
                others[a % len(others)].drain(a * 100)
            case 8 if others and not others[a % len(others)].closed:
                others[a % len(others)].send("resync")
            case 9 if others and not others[a % len(others)].closed:
                others.pop(a % len(others)).cut()
            case _:
                pass
    return peer.frames


@settings(max_examples=60)
@given(OPS, st.sampled_from([1, 2]))
def test_follower_is_sent_the_same_whoever_else_follows(
    script: list[tuple[int, int]], version: int
) -> None:
    assert shared(script, crowd=True, version=version) == shared(
        script, crowd=False, version=version
    )


def renamed(frames: list[Frame]) -> str:
    """Frames with their ids named by the order in which they appear."""
    names: dict[str, str] = {}
    return re.sub(
        r'(?<=[".])i\d+(?=[".])',
        lambda found: names.setdefault(found[0], f"id{len(names)}"),
        json.dumps(frames),
    )


def two_sessions(  # noqa: C901, PLR0912 -- one arm for each step
    script: list[tuple[int, int, int]], *, both: bool
) -> list[str]:
    """What the clients of session 0 are sent; with `both`, session 1 is as busy beside it."""
    world = World.make(retain=3, retain_transient=3, send_window=500, max_lags=2, heartbeat=8)
    makers = [world.connect(principal=name) for name in ("p", "q")]
    peers: list[list[Peer]] = [[makers[0]], [makers[1]]]
    same: dict[str, Any] = {"event_id": "e", "timestamp": 1.0, "data": {"text": BIG}}
    for code, a, which in script:
        if which and not both and code < 9:
            continue
        mine = peers[which]
        peer = mine[a % len(mine)]
        match code:
            case 0 | 1:
                world.publish(makers[which].session_id, transient=True, run_id="r", **same)
            case 2 | 3:
                world.publish(makers[which].session_id, expects_reply=True, **same)
            case 4:
                world.publish(makers[which].session_id, final=True, run_id="r", **same)
            case 5:
                named = makers[a % 2].session_id  # the other's is as good as unknown
                if a % 2 and not which:
                    named = "never-was"
                peer = world.connect(
                    1 + a % 2, auto=a < 7, principal="pq"[which], session_id=named, since=a // 2
                )
                if peer.session_id == makers[which].session_id:
                    mine.append(peer)
            case 6 if not peer.closed:
                peer.send("message", content=str(a), request_id=f"r{a}")
            case 7 if not peer.closed:
                peer.drain(a * 100)
            case 8 if not peer.closed:
                peer.send("resync")
            case 9:
                world.advance(a)
            case _:
                pass
    return [renamed(peer.frames) for peer in peers[0]]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 1)), max_size=60))
def test_session_is_the_same_whatever_happens_in_another(
    script: list[tuple[int, int, int]],
) -> None:
    assert two_sessions(script, both=True) == two_sessions(script, both=False)

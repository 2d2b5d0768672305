"""Credit, stalls, life signs and deadlines: what is owed, and when a peer is given up."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto.actions import SendFrames, SubscriberLeft
from gatewayproto.inputs import Activity, Drained, FrameReceived, Publish, TimerExpired
from tests.gateway.gwworld import (
    Frame,
    Peer,
    World,
    encode,
    handshake,
    kinds,
    make_event,
    only,
    seqs,
)

VERSIONS = pytest.mark.parametrize("version", [1, 2])
STEP = 0.125


def slow(version: int = 2, **options: Any) -> tuple[World, Peer]:
    """A follower that has its welcome; from now on its transport takes what the test says."""
    world = World.make(**options)
    peer = world.connect(version, auto=False)
    peer.drain_all()
    return world, peer


# -- the window -------------------------------------------------------------------------------


@VERSIONS
def test_delivery_stops_at_the_window_and_goes_on_with_room(version: int) -> None:
    world, peer = slow(version, send_window=1000)
    frames: list[Frame] = []
    for _ in range(50):
        world.publish(peer.session_id)
    first = peer.owed
    assert 500 < first <= 1000
    frames += peer.take()
    assert peer.drain(1) == []
    while peer.owed:
        frames += peer.drain(120)
        assert peer.owed <= 1000
    assert seqs(frames) == list(range(1, 51))


@VERSIONS
def test_frame_larger_than_the_window_goes_alone(version: int) -> None:
    world, peer = slow(version, send_window=100)
    for _ in range(3):
        world.publish(peer.session_id, data={"text": "x" * 500})
    assert seqs(peer.take()) == [1]
    assert peer.drain(peer.owed - 1) == []
    assert seqs(peer.drain()) == [2]
    assert seqs(peer.drain()) == [3]


def test_followers_with_room_share_one_action_and_the_same_bytes() -> None:
    world = World.make()
    first = world.connect()
    for version in (2, 2, 1, 1):
        world.connect(version, session_id=first.session_id)
    world.publish(first.session_id)
    world.peers[2].auto = False
    world.publish(first.session_id, data={"text": "x" * 300_000})  # 2 has no room from here on
    world.publish(first.session_id)
    assert seqs(world.peers[2].frames) == [1, 2]
    assert all(seqs(world.peers[n].frames) == [1, 2, 3] for n in (1, 3, 4, 5))
    event = make_event(4)
    _, *sent = world.give(Publish(session_id=first.session_id, event=event))
    assert [each.connections for each in sent if isinstance(each, SendFrames)] == [(1, 3), (4, 5)]
    world.peers[2].drain_all()
    _, *sent = world.give(Publish(session_id=first.session_id, event=event))
    shared = [each.connections for each in sent if isinstance(each, SendFrames)]
    assert sorted(map(sorted, shared)) == [[1, 2, 3], [4, 5]]


# -- answers ----------------------------------------------------------------------------------


@VERSIONS
def test_answers_to_a_peer_that_reads_nothing_are_bounded(version: int) -> None:
    world, peer = slow(version, send_window=300, answer_window=500)
    for _ in range(20):
        world.publish(peer.session_id)
    peer.take()
    answered = 0
    while not peer.closed:
        answered += len(peer.send("ping", nonce="n"))
        assert peer.owed <= 800
        assert answered < 100
    assert (peer.code, peer.reason) == (4002, "slow_consumer")
    assert answered >= 500 // 30
    assert world.hear(SubscriberLeft)


@VERSIONS
def test_answer_goes_whatever_its_size_when_nothing_is_owed(version: int) -> None:
    _, peer = slow(version, send_window=1, answer_window=1)
    assert peer.send("ping", nonce="n" * 100) == [{"type": "pong", "nonce": "n" * 100}]
    assert not peer.closed


@VERSIONS
def test_what_the_gateway_itself_sent_is_not_held_against_the_next_answer(version: int) -> None:
    """A snapshot beyond all windows is on its way; its reader may still say something."""
    world = World.make(send_window=1000, answer_window=1000)
    maker = world.connect()
    for _ in range(20):
        world.publish(maker.session_id, data={"text": "x" * 1000})
    peer = world.connect(version, auto=False, session_id=maker.session_id, since=99)
    assert only(peer.take(), "snapshot")
    assert peer.owed > 10_000
    assert peer.send("ping", nonce="n") == [{"type": "pong", "nonce": "n"}]
    peer.drain(10_000)
    assert peer.send("ping", nonce="n") == [{"type": "pong", "nonce": "n"}]
    peer.drain_all()
    world.publish(maker.session_id)
    assert seqs(peer.take()) == [21]
    # The bound is still there.
    for _ in range(60):
        world.publish(maker.session_id)
        peer.send("ping", nonce="n" * 100)
    assert peer.code == 4002


def test_answers_held_before_the_welcome_close_nobody() -> None:
    world = World.make(send_window=1000, answer_window=1000)
    maker = world.connect()
    for _ in range(20):
        world.publish(maker.session_id, data={"text": "x" * 1000})
    peer = world.open(auto=False)
    for _ in range(10):
        peer.send("ping", nonce="early")
    world.attach(peer, 2, session_id=maker.session_id, epoch="stale", since=1)
    assert not peer.closed
    assert len(only(peer.drain_all(), "pong")) == 10


def test_welcome_for_which_there_is_no_room_ends_a_version_1_connection() -> None:
    world, peer = slow(1, send_window=1, answer_window=200)
    world.publish(peer.session_id)
    peer.take()
    world.give(FrameReceived(peer.number, encode(handshake("hello", 1))))
    assert peer.send("ping") == []  # held, for after a welcome that never comes
    world.accept(peer)
    assert peer.take() == []
    assert (peer.code, peer.reason) == (4002, "slow_consumer")


# -- stalls -----------------------------------------------------------------------------------


@VERSIONS
def test_transport_that_takes_nothing_is_given_up_after_the_stall_timeout(version: int) -> None:
    world, peer = slow(version, stall_timeout=5, heartbeat=100, send_window=1)
    world.advance(3)
    world.publish(peer.session_id)  # owed since now
    world.publish(peer.session_id)
    world.advance(4.875)
    peer.drain(1)  # it takes something
    world.advance(4.875)
    assert not peer.closed
    world.give(Activity(peer.number))  # what comes in is no sign that anything goes out
    world.advance(STEP)
    assert (peer.code, peer.reason) == (4002, "slow_consumer")


def test_transport_that_owes_nothing_does_not_stall() -> None:
    world, peer = slow(stall_timeout=5, heartbeat=100)
    for _ in range(30):
        world.advance(4)
        world.publish(peer.session_id)
        peer.drain_all()
        world.give(Activity(peer.number))
    assert not peer.closed


# -- life signs -------------------------------------------------------------------------------


@VERSIONS
def test_silent_peer_is_closed_after_twice_the_heartbeat(version: int) -> None:
    world, peer = slow(version, heartbeat=10, stall_timeout=1000)
    world.advance(7)
    world.give(Activity(peer.number))
    world.advance(19.875)
    assert not peer.closed
    world.advance(STEP)
    assert (peer.code, peer.reason) == (4001, "liveness_timeout")


@VERSIONS
def test_what_the_transport_takes_is_a_life_sign_our_pings_aside(version: int) -> None:
    world, peer = slow(version, heartbeat=10, stall_timeout=1000, send_window=1)
    for _ in range(8):
        world.publish(peer.session_id)
    for _ in range(3):
        world.advance(15)
        peer.drain(1)
    assert not peer.closed
    peer.drain_all()
    world.advance(10)
    assert kinds(peer.take()) == ["ping"]
    peer.drain(peer.owed - 1)
    peer.drain()  # the ping alone
    world.advance(9.875)
    assert not peer.closed
    world.advance(STEP)
    assert peer.code == 4001


def test_what_goes_out_behind_a_ping_is_a_life_sign() -> None:
    world, peer = slow(heartbeat=10, stall_timeout=1000)
    world.advance(15)
    assert kinds(peer.take()) == ["ping"]
    world.publish(peer.session_id)
    peer.drain()  # the ping, and an event
    world.advance(19.875)
    assert not peer.closed


@VERSIONS
def test_heartbeat_says_where_delivery_stands(version: int) -> None:
    world, peer = slow(version, heartbeat=10)
    nonces: list[str] = []
    for n in range(5):
        world.publish(peer.session_id)
        peer.drain_all()
        world.advance(10)
        (ping,) = only(peer.drain_all(), "ping")
        assert ping.get("cursor") == (n + 1 if version == 2 else None)
        nonces.append(ping["nonce"])
        peer.send("pong", nonce=ping["nonce"], cursor=n + 1)
    assert len(set(nonces)) == 5
    assert not peer.closed


def test_no_ping_goes_behind_what_is_still_owed() -> None:
    world, peer = slow(heartbeat=10, stall_timeout=100)
    world.publish(peer.session_id)
    peer.take()
    for _ in range(3):
        world.advance(10)
        world.give(Activity(peer.number))
    assert peer.take() == []
    peer.drain_all()
    world.advance(10)
    assert kinds(peer.take()) == ["ping"]


@VERSIONS
def test_ping_is_answered_with_its_nonce(version: int) -> None:
    _, peer = slow(version)
    assert peer.send("ping") == [{"type": "pong"}]
    assert peer.send("ping", nonce=None) == [{"type": "pong"}]
    assert peer.send("ping", nonce="") == [{"type": "pong", "nonce": ""}]
    assert peer.send("ping", nonce="é\u0000", cursor=5) == [{"type": "pong", "nonce": "é\u0000"}]
    assert peer.send("pong", nonce="x", cursor=3) == []


# -- the model of all of it -------------------------------------------------------------------


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), max_size=40),
    st.integers(1, 4),
    st.integers(1, 12),
)
def test_peer_is_given_up_by_its_deadline_and_never_before(
    script: list[tuple[int, int]], heartbeat: int, stall: int
) -> None:
    """P17, step by step on a grid that all deadlines lie on."""
    world, peer = slow(heartbeat=heartbeat, stall_timeout=stall, send_window=300)
    sign = pinged = owed_since = world.now
    for steps, what in script:
        for _ in range(steps):
            now = world.now + STEP
            owed = peer.owed
            world.advance(STEP)
            if owed and now >= owed_since + stall:
                assert peer.code == 4002
                return
            if now >= sign + 2 * heartbeat:
                assert peer.code == 4001
                return
            assert not peer.closed
            if now >= pinged + heartbeat:
                pinged = now
                assert kinds(peer.take()) == ([] if owed else ["ping"])
                if not owed:
                    owed_since = now
        if what == 1:
            world.give(Activity(peer.number))
            sign = world.now
        elif what in {2, 3} and peer.owed:
            first_is_ping = _oldest_owed_is_ping(peer)
            size = 1 if what == 2 else peer.owed
            peer.drain(size)
            owed_since = world.now
            if not (first_is_ping and size <= first_is_ping):
                sign = world.now
        elif what == 4:
            if not peer.owed:
                owed_since = world.now
            world.publish(peer.session_id)
            peer.take()


def _oldest_owed_is_ping(peer: Peer) -> int:
    """Bytes of a ping that the transport still has, if that is what comes first."""
    owed = peer.owed
    for size, frame in zip(peer.sizes[::-1], peer.frames[::-1], strict=True):
        if owed <= size:
            return owed if frame["type"] == "ping" else 0
        owed -= size
    return 0


# -- timers -----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 200)), max_size=30))
def test_early_timer_changes_nothing_and_a_handled_deadline_moves_on(
    script: list[tuple[int, int]],
) -> None:
    """P10. That a deadline moves on is held by `World.advance`."""
    world = World.make(heartbeat=3, stall_timeout=5, resume_window=7, handshake_timeout=4)
    world.connect()
    deadlines: list[float] = []
    for what, arg in script:
        open_peers = [peer for peer in world.peers.values() if not peer.closed]
        match what:
            case 0:
                world.open(auto=bool(arg % 2))
            case 1:
                world.connect(auto=bool(arg % 2))
            case 2 if open_peers:
                open_peers[arg % len(open_peers)].send("ping")
            case 3 if open_peers:
                open_peers[arg % len(open_peers)].cut()
            case _:
                world.advance(arg * STEP)
        deadline = world.gateway.next_deadline
        if deadline is not None:
            assert deadline > world.now
            deadlines.append(deadline)
        before = world.state()
        assert world.gateway.handle(TimerExpired(), now=world.now) == ()
        assert world.state() == before
        assert world.gateway.next_deadline == deadline
    assert all(a <= b or b > a - 400 for a, b in pairwise(deadlines))


@pytest.mark.parametrize("jump", [100, 10_000, 1e9])
def test_jump_of_the_clock_neither_spins_nor_fires_what_is_not_due(jump: float) -> None:
    world = World.make(heartbeat=10, resume_window=1e6)
    peer = world.connect()
    gone = world.connect()
    gone.cut()
    world.now += jump
    world.give(TimerExpired())
    assert peer.code == 4001
    expired = gone.session_id not in world.gateway.session_ids
    assert expired is (jump >= 1e6)
    deadline = world.gateway.next_deadline
    assert deadline is None or deadline > world.now


def test_drained_after_the_end_is_a_harmless_race() -> None:
    world, peer = slow()
    world.publish(peer.session_id)
    peer.send("leave")
    assert world.give(Drained(peer.number, 10**9)) == ()

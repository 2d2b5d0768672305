"""How often a client may do something: frames, recoveries, connections, handshakes, sessions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto import Rate
from gatewayproto.rates import Bucket, Buckets
from tests.gateway.gwworld import Peer, World, kinds, only

RATE_LIMITED = 4003


# -- buckets ----------------------------------------------------------------------------------

times = st.lists(st.integers(0, 64), max_size=60)


@given(times, st.integers(1, 5), st.sampled_from([0.25, 1.0, 8.0]))
def test_never_more_than_the_burst_and_what_the_time_gives(
    gaps: list[int], burst: int, per_second: float
) -> None:
    """In every stretch of time, not only from the beginning. Times are in quarters of a second."""
    bucket = Bucket.full(Rate(per_second, burst), 0.0)
    assert bucket is not None
    now, taken = 0.0, []
    for gap in gaps:
        now += gap / 4
        wait = bucket.take(now)
        if wait is None:
            taken.append(now)
        else:
            assert wait > 0
            assert Bucket(bucket.rate, bucket.level, bucket.at).take(now + wait + 1e-9) is None
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - start) * per_second


@given(times)
def test_whoever_keeps_to_the_rate_is_never_refused(gaps: list[int]) -> None:
    bucket, now = Bucket.full(Rate(2.0, 1), 0.0), 0.0
    assert bucket is not None
    for gap in gaps:
        now += 0.5 + gap
        assert bucket.take(now) is None


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3)), max_size=80))
def test_what_is_kept_of_keys_is_bounded_and_a_full_bucket_is_as_good_as_none(
    takes: list[tuple[str, int]],
) -> None:
    rate = Rate(1.0, 2)
    buckets, roomy, now = Buckets(rate, maximum=3), Buckets(rate), 0.0
    for key, gap in takes:
        now += gap
        wait = buckets.take(key, now)
        assert len(buckets) <= 3
        if roomy.take(key, now) is None:
            assert wait is None, "a key that is forgotten starts full"


def test_nobody_and_no_rate_have_no_limit() -> None:
    limited, free = Buckets(Rate(1e-6, 1)), Buckets(None)
    assert [limited.take("", 0.0) for _ in range(3)] == [None] * 3
    assert [free.take("x", 0.0) for _ in range(3)] == [None] * 3
    assert Bucket.full(None, 0.0) is None


@pytest.mark.parametrize(("per_second", "burst"), [(0, 1), (-1, 1), (1e7, 1), (1, 0), (1, 1.0)])
def test_rate_out_of_its_bounds_is_refused(per_second: float, burst: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Rate(per_second, burst)


# -- frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_frame_too_many_is_told_when_to_come_again_and_closed(version: int) -> None:
    world = World.make(frame_rate=Rate(0.5, 4))
    peer = world.connect(version)
    other = world.connect(version)
    peer.take()
    for _ in range(3):
        assert kinds(peer.send("ping")) == ["pong"]
    (error,) = peer.send("ping")
    assert (error["type"], error["code"]) == ("error", "rate_limited")
    assert error["retry_after_seconds"] == 2.0
    assert peer.code == RATE_LIMITED
    assert kinds(other.send("ping"))[-1:] == ["pong"]


def test_frames_in_time_are_never_too_many() -> None:
    world = World.make(frame_rate=Rate(2.0, 1))
    peer = world.open()
    peer.send("hello", agent_id="agent", protocol_min=2, protocol_max=2)
    world.accept(peer)
    for _ in range(20):
        world.advance(0.5)
        assert kinds(peer.send("ping"))[-1:] == ["pong"]


def test_flood_of_a_peer_that_does_not_read_is_closed_as_such() -> None:
    world = World.make(frame_rate=Rate(1e-6, 1), send_window=1, answer_window=1)
    peer = world.connect(auto=False)
    assert peer.send("ping") == []
    assert peer.code == 4002


def test_frames_before_the_welcome_count_as_well() -> None:
    world = World.make(frame_rate=Rate(1.0, 3))
    peer = world.open()
    for _ in range(3):
        assert peer.send("ping") == []
    assert peer.send("ping")[-1]["code"] == "rate_limited"
    assert peer.code == RATE_LIMITED


# -- recoveries -------------------------------------------------------------------------------


def test_recovery_too_many_is_answered_and_the_connection_lives() -> None:
    world = World.make(recovery_rate=Rate(0.25, 2))
    peer = world.connect()
    world.publish(peer.session_id)
    peer.take()
    for kind, fields in (("resync", {}), ("resume", {"epoch": peer.epoch, "since": 0})):
        assert kinds(peer.send(kind, nonce="n", **fields))[-1] == "caught_up"
    for kind, fields in (("resync", {}), ("resume", {"epoch": peer.epoch, "since": 0})):
        (error,) = peer.send(kind, nonce="n", **fields)
        assert (error["code"], error["retry_after_seconds"]) == ("rate_limited", 4.0)
    world.publish(peer.session_id)
    assert kinds(peer.take()) == ["event"]
    world.advance(4.0)
    assert kinds(peer.send("resync"))[0] == "snapshot"


def test_recovery_that_is_merged_costs_nothing() -> None:
    world = World.make(recovery_rate=Rate(1e-6, 1), send_window=1)
    peer = world.connect(auto=False)
    for nonce in "abcd":
        assert peer.send("resync", nonce=nonce) == []
    assert [f["nonce"] for f in only(peer.drain_all(), "snapshot")] == ["d"]


# -- addresses and principals -----------------------------------------------------------------


def arrive(world: World, address: str, **fields: Any) -> Peer:
    return world.open(address=address, **fields)


def test_connections_of_one_address_are_counted_and_of_none_are_not() -> None:
    world = World.make(connection_rate=Rate(0.5, 2))
    here = [arrive(world, "192.0.2.1") for _ in range(3)]
    there = arrive(world, "192.0.2.2")
    nowhere = [arrive(world, "") for _ in range(5)]
    assert [peer.code for peer in here] == [None, None, RATE_LIMITED]
    (error,) = here[-1].take()
    assert (error["code"], error["retry_after_seconds"]) == ("rate_limited", 2.0)
    assert not any(peer.closed for peer in (there, *nowhere))
    world.advance(2.0)
    assert not arrive(world, "192.0.2.1").closed


def test_handshakes_of_one_address_are_counted_on_whatever_connection() -> None:
    world = World.make(handshake_rate=Rate(1.0, 3))
    peer = arrive(world, "192.0.2.1")
    for _ in range(3):
        world.attach(peer, 1, kind="join")
    assert not peer.closed
    peer.send("join", agent_id="agent")
    assert peer.code == RATE_LIMITED
    other = arrive(world, "192.0.2.1")
    answer = other.send("hello", agent_id="agent", protocol_min=2, protocol_max=2)[-1]
    assert (answer["type"], answer["code"]) == ("hello_error", "rate_limited")
    assert 0 < answer["retry_after_seconds"] <= 1.0


def test_sessions_are_counted_by_principal_or_else_by_address() -> None:
    world = World.make(session_rate=Rate(0.5, 2))

    def join(principal: str | None, address: str, **fields: Any) -> Peer:
        peer = arrive(world, address)
        world.attach(peer, principal=principal, **fields)
        return peer

    mine = [join("ann", f"192.0.2.{n}") for n in range(3)]
    assert [peer.code for peer in mine] == [None, None, RATE_LIMITED]
    assert mine[-1].take()[-1]["retry_after_seconds"] == 2.0
    back = join("ann", "192.0.2.9", session_id=mine[0].session_id)
    assert not back.closed, "to come back opens no session"
    assert not join("bob", "192.0.2.0").closed
    strangers = [join(None, "ann") for _ in range(3)]
    assert [peer.code for peer in strangers] == [None, None, RATE_LIMITED]
    assert not join(None, "").closed


def test_what_was_counted_is_not_forgotten_by_a_move() -> None:
    world = World.make(
        connection_rate=Rate(0.25, 1), frame_rate=Rate(0.25, 2), recovery_rate=Rate(0.25, 1)
    )
    peer = arrive(world, "192.0.2.1")
    world.attach(peer)
    world.restore(later=512.0)
    assert arrive(world, "192.0.2.1").closed
    peer.take()
    assert kinds(peer.send("resync"))[0] == "snapshot"
    assert peer.send("ping")[-1]["code"] == "rate_limited"

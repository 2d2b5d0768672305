"""Bounds that hold to the byte and to the instant, and what is left alone by what comes near it."""

from typing import Any

import pytest

from gatewayproto import Gateway, GatewayConfig, LocalProtocolError
from gatewayproto.actions import SubscriberJoined, SubscriberLeft
from gatewayproto.inputs import (
    Accept,
    ChangeEpoch,
    ConnectionOpened,
    FrameReceived,
    Publish,
    SetHealth,
)
from tests.gateway.gwworld import (
    START,
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

BIG = "x" * 3000


def slow(version: int = 2, **options: Any) -> tuple[World, Peer]:
    """A follower whose transport takes only what the test says."""
    world = World.make(**options)
    peer = world.connect(version, auto=False)
    peer.drain_all()
    return world, peer


def resumed(world: World, peer: Peer, since: int, **fields: Any) -> Peer:
    return world.connect(session_id=peer.session_id, epoch=peer.epoch, since=since, **fields)


# -- what the journal keeps -------------------------------------------------------------------


@pytest.mark.parametrize("transient", [None, True])
def test_newest_events_are_there_however_many_were_let_go(transient: bool | None) -> None:
    world = World.make(retain=4, retain_transient=4)
    peer = world.connect()
    for count in (200, 400):
        for _ in range(200):
            world.publish(peer.session_id, transient=transient)
        assert seqs(peer.take()[-200:]) == list(range(count - 199, count + 1))
        late = resumed(world, peer, count - 4)
        assert late.welcome["resync_required"] is False
        assert seqs(late.take()) == list(range(count - 3, count + 1))
        assert resumed(world, peer, count - 5).welcome["resync_reason"] == "trimmed"


def test_newest_tokens_are_there_however_many_runs_have_ended() -> None:
    world = World.make(retain=4, retain_transient=4)
    peer = world.connect()
    for number in range(100):
        for _ in range(3):
            world.publish(peer.session_id, run_id=f"r{number}", transient=True)
        world.publish(peer.session_id, run_id=f"r{number}", final=True)
    for count in range(401, 411):
        world.publish(peer.session_id, transient=True)
        late = resumed(world, peer, max(count - 4, 400))
        assert seqs(late.take()) == list(range(max(count - 3, 401), count + 1))


def test_durable_event_of_a_run_ends_nothing_unless_it_is_the_final() -> None:
    world = World.make()
    peer = world.connect()
    world.publish(peer.session_id, run_id="r", transient=True, data={"text": "so "})
    world.publish(peer.session_id, run_id="r")
    world.publish(peer.session_id, run_id="r", transient=True, data={"text": "far"})
    assert seqs(only(resumed(world, peer, 0).take(), "replay")) == [1, 2, 3]
    (snapshot,) = only(peer.send("resync"), "snapshot")
    assert snapshot["state"]["runs"]["r"]["text"] == "so far"


def test_transient_events_without_a_run_open_none_also_when_restored() -> None:
    world = World.make(max_open_runs=1)
    peer = world.connect()
    world.publish(peer.session_id, transient=True)
    world.restore()
    world.publish(peer.session_id, run_id="r", transient=True)
    assert seqs(only(peer.take(), "event")) == [1, 2]


def test_recovered_gateway_takes_its_ids_from_where_it_is_told() -> None:
    world = World.make()
    world.connect()
    world.recover()
    taken = world.ids.last
    peer = world.connect()
    assert (peer.session_id, peer.epoch) == (f"i{taken + 1}", f"i{taken + 2}")


def test_bad_frames_are_counted_on_when_the_machine_was_moved() -> None:
    world = World.make(max_violations=3)
    peer = world.connect()
    for _ in range(2):
        assert kinds(peer.send_raw(b"{"))[-1] == "error"
        world.restore(later=1000)
    assert not peer.closed
    peer.send_raw(b"{")
    assert (peer.code, peer.reason) == (4506, "malformed_frame")


def test_ids_fit_every_place_that_they_are_put_into() -> None:
    gateway = Gateway(GatewayConfig())
    gateway.handle(ConnectionOpened(connection=1), now=START)
    hello = handshake("hello", 2)
    gateway.handle(FrameReceived(1, encode(hello)), now=START)
    gateway.handle(Accept(connection=1, principal=None), now=START)
    (session_id,) = gateway.session_ids
    info = gateway.session(session_id)
    assert info is not None
    for made in (session_id, info.epoch):
        assert made.isascii()
        assert 21 <= len(made) <= 32  # of 64 characters each: 122 bits at least
        assert "." not in made


@pytest.mark.parametrize(
    ("fields", "resumed_at", "reason"),
    [
        ({"since": 1}, 1, None),
        ({"since": 9}, 3, "cursor_ahead"),
        ({"start": "snapshot"}, 3, "requested"),
    ],
)
def test_application_is_told_where_a_follower_goes_on(
    fields: Frame, resumed_at: int, reason: str | None
) -> None:
    world = World.make()
    peer = world.connect()
    for _ in range(3):
        world.publish(peer.session_id)
    world.connect(session_id=peer.session_id, epoch=peer.epoch, **fields)
    new, again = world.told(SubscriberJoined)
    assert new == SubscriberJoined(
        connection=1,
        session_id=peer.session_id,
        client_id=new.client_id,
        resumed=False,
        sequence=0,
        resync_reason=None,
    )
    assert new.client_id != again.client_id
    assert again == SubscriberJoined(
        connection=2,
        session_id=peer.session_id,
        client_id=again.client_id,
        resumed=True,
        sequence=resumed_at,
        resync_reason=reason,
    )


def test_what_is_no_input_is_not_passed_over_in_silence() -> None:
    off: Any = make_event(1)
    with pytest.raises(AssertionError):
        World.make().gateway.handle(off, now=START)


# -- to the byte ------------------------------------------------------------------------------


def test_event_that_just_fits_its_client_is_sent_and_a_larger_one_is_covered() -> None:
    world = World.make()
    peer = world.connect()
    world.publish(peer.session_id, data={"text": BIG})
    size = peer.sizes[-1]
    exact, short = (resumed(world, peer, 1, max_payload=limit) for limit in (size, size - 1))
    exact.take()
    short.take()
    world.publish(peer.session_id, data={"text": BIG})
    assert kinds(exact.take()) == ["event"]
    assert set(kinds(short.take())) == {"snapshot"}
    # A replay takes one byte more than an event.
    exact, short = (resumed(world, peer, 1, max_payload=limit) for limit in (size + 1, size))
    assert kinds(exact.take()) == ["replay", "caught_up"]
    assert set(kinds(short.take())) == {"snapshot", "caught_up"}


def test_version_1_snapshot_that_just_fits_sheds_nothing() -> None:
    world = World.make()
    peer = world.connect()
    for _ in range(3):
        world.publish(peer.session_id, data={"text": BIG})

    def state(**fields: Any) -> tuple[Frame, int]:
        follower = world.connect(1, session_id=peer.session_id, start="snapshot", **fields)
        sizes = dict(zip(kinds(follower.frames), follower.sizes, strict=True))
        return only(follower.frames, "snapshot")[0]["state"], sizes["snapshot"]

    whole, size = state()
    assert state(max_payload=size) == (whole, size)
    shed, less = state(max_payload=size - 1)
    assert (len(shed["messages"]), shed["truncated"], less < size) == (2, True, True)


def test_event_of_just_the_largest_size_is_published() -> None:
    event = make_event(1, data={"text": BIG})
    peer_of = World.make()
    peer_of.give(Publish(session_id=peer_of.connect().session_id, event=event))
    (session_id,) = peer_of.gateway.session_ids
    info = peer_of.gateway.session(session_id)
    assert info is not None
    world = World.make(max_event=info.retained_bytes)
    peer = world.connect()
    world.give(Publish(session_id=peer.session_id, event=event))
    assert seqs(only(peer.take(), "event")) == [1]


def test_health_of_just_the_largest_size_is_taken() -> None:
    world = World.make()
    bare = len(encode({"text": ""}).replace(b" ", b""))
    world.give(SetHealth(health={"text": "x" * (2048 - bare)}))
    assert len(world.connect().welcome["health"]["text"]) == 2048 - bare
    with pytest.raises(LocalProtocolError):
        world.give(SetHealth(health={"text": "x" * (2049 - bare)}))


def test_delivery_fills_the_window_to_the_byte() -> None:
    probe = World.make()
    peer = probe.connect()
    probe.publish(peer.session_id, data={"text": BIG})
    size = peer.sizes[-1]
    world, peer = slow(send_window=2 * size)
    for _ in range(3):
        world.publish(peer.session_id, data={"text": BIG})
    assert seqs(peer.take()) == [1, 2]
    assert peer.owed == 2 * size


def test_answers_fill_their_window_to_the_byte() -> None:
    pong = len(b'{"type":"pong","nonce":"n"}')
    _, peer = slow(send_window=pong, answer_window=pong)
    assert peer.send("ping", nonce="n") + peer.send("ping", nonce="n")
    assert peer.owed == 2 * pong
    assert not peer.closed
    peer.send("ping", nonce="n")
    assert peer.code == 4002


def test_answers_before_the_welcome_fill_their_window_to_the_byte() -> None:
    pong = len(b'{"type":"pong","nonce":"n"}')
    world = World.make(answer_window=2 * pong)
    peer = world.open()
    for _ in range(2):
        assert peer.send("ping", nonce="n") == []
    assert not peer.closed
    peer.send("ping", nonce="n")
    assert (peer.code, peer.reason) == (4003, "rate_limited")


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_owed_follows_the_welcome_without_waiting_for_the_transport(version: int) -> None:
    world = World.make()
    peer = world.connect()
    world.publish(peer.session_id)
    late = world.connect(version, session_id=peer.session_id, auto=False)
    assert seqs(late.take()) == [1]


def test_welcome_for_which_there_is_no_room_closes_once_whatever_it_announces() -> None:
    world = World.make(send_window=1, answer_window=1)
    session_id = world.connect().session_id
    world.publish(session_id, run_id="r", transient=True, data={"text": BIG})
    peer = world.open(auto=False)
    world.attach(peer, 1, session_id=session_id, since=1, max_payload=1024)
    fields = {"session_id": session_id, "start": "snapshot", "max_payload": 1024}
    world.give(FrameReceived(peer.number, encode(handshake("hello", 1, **fields))))
    world.accept(peer)
    assert (peer.code, peer.reason) == (4002, "slow_consumer")


def test_each_handshake_of_version_1_has_the_whole_window_for_what_comes_before_its_welcome() -> (
    None
):
    pong = len(b'{"type":"pong","nonce":"n"}')
    world = World.make(answer_window=2 * pong)
    peer = world.open()
    for count in (2, 4):
        peer.send("hello", agent_id="agent")
        for _ in range(2):
            assert peer.send("ping", nonce="n") == []
        world.accept(peer)
        assert kinds(peer.frames).count("pong") == count
        peer.take()


def test_welcome_without_a_list_leaves_out_the_health_that_does_not_fit() -> None:
    world = World.make(presence_max=0)
    world.give(SetHealth(health={"text": "x" * 1500}))
    peer = world.connect(max_payload=1024)
    assert "health" not in peer.welcome
    assert "presence" not in peer.welcome
    assert peer.welcome["presence_count"] == 1
    assert "health" in world.connect(max_payload=4096).welcome


@pytest.mark.parametrize("more", [1, 2])
def test_handshake_under_way_goes_on_when_the_machine_was_moved(more: int) -> None:
    pong = len(b'{"type":"pong","nonce":"n"}')
    world = World.make(answer_window=2 * pong)
    peer = world.open()
    peer.send("hello", agent_id="agent", protocol_min=2, protocol_max=2)
    peer.send("ping", nonce="1")
    world.restore(later=1000)
    for number in range(more):
        peer.send("ping", nonce=str(number + 2))
    if more == 2:
        assert (peer.code, peer.reason) == (4003, "rate_limited")
        return
    world.accept(peer)
    assert kinds(peer.frames) == ["hello_ok", "pong", "pong", "caught_up"]
    assert [frame["nonce"] for frame in only(peer.frames, "pong")] == ["1", "2"]


# -- snapshots --------------------------------------------------------------------------------


def test_first_snapshot_of_a_session_waits_for_its_room_and_is_then_of_now() -> None:
    world, peer = slow(send_window=300)
    world.publish(peer.session_id, data={"text": BIG})
    peer.drain_all()
    world.publish(peer.session_id)
    peer.take()
    assert peer.owed < 300
    assert peer.send("resync", nonce="n") == []
    world.publish(peer.session_id)
    (snapshot,) = only(peer.drain_all(), "snapshot")
    assert (snapshot["cursor"], snapshot["nonce"]) == (3, "n")


@pytest.mark.parametrize("request_", ["resync", "resume"])
def test_epoch_change_answers_the_recovery_that_waits(request_: str) -> None:
    world, peer = slow(send_window=1)
    world.publish(peer.session_id)
    world.publish(peer.session_id)
    peer.take()
    peer.send(request_, nonce="n", epoch=peer.epoch, since=0)
    world.give(ChangeEpoch(session_id=peer.session_id))
    frames = peer.drain_all()
    (snapshot,) = only(frames, "snapshot")
    assert (snapshot["reason"], snapshot["nonce"]) == ("epoch_changed", "n")
    assert [frame.get("nonce") for frame in only(frames, "caught_up")][-1] == "n"


# -- to the instant ---------------------------------------------------------------------------


def lag(world: World, peer: Peer) -> list[Frame]:
    """Let a follower of a session that retains one event miss some."""
    for _ in range(5):
        world.publish(peer.session_id)
    return peer.drain_all()


LAGS = {"send_window": 1, "retain": 1, "max_lags": 1, "lag_period": 64, "heartbeat": 10**6}


@pytest.mark.parametrize("moved", [False, True])
def test_lag_counts_for_its_period_and_no_longer_also_when_moved(moved: bool) -> None:
    world, peer = slow(**LAGS)
    for _ in range(3):
        assert only(lag(world, peer), "snapshot")
        world.advance(40)
        if moved:
            world.restore(later=1000)
        world.advance(24)
    assert not peer.closed
    assert only(lag(world, peer), "snapshot")
    world.advance(40)
    if moved:
        world.restore(later=1000)
    world.advance(23.875)
    lag(world, peer)
    assert peer.code == 4002


ANSWERED: list[Frame] = [
    {"type": "ping"},
    {"type": "dance"},
    {"type": "message", "content": "hi", "request_id": "r"},
    {"type": "message", "content": "hi", "request_id": 5},
    {"type": "message", "content": "hi", "reply_to": "nothing"},
    {"type": "message"},
]
RECOVERY: list[Frame] = [{"type": "resume", "epoch": "i2", "since": -1}, {"type": "resync"}]


@pytest.mark.parametrize(
    ("version", "frame"), [(v, frame) for v in (1, 2) for frame in ANSWERED + RECOVERY * (v - 1)]
)
def test_answer_of_which_a_byte_is_left_is_given_up_at_its_time(version: int, frame: Frame) -> None:
    world, peer = slow(version, stall_timeout=8, heartbeat=10**6)
    world.advance(3)
    answer, *_ = peer.send(frame["type"], **{k: v for k, v in frame.items() if k != "type"})
    if "error" in answer["type"] or "nack" in answer["type"]:
        assert answer["message"]
    for left in (peer.owed, 1):
        peer.drain(peer.owed - left)
        world.advance(7.875)
        assert not peer.closed
    world.advance(0.125)
    assert (peer.code, peer.reason) == (4002, "slow_consumer")


@pytest.mark.parametrize("version", [1, 2])
def test_leaving_is_nobodys_fault(version: int) -> None:
    peer = World.make().connect(version)
    peer.send("leave")
    assert (peer.code, peer.reason) == (1000, "leave")


def test_second_handshake_of_version_1_leaves_the_first_session() -> None:
    world = World.make(resume_window=50, heartbeat=10**6)
    peer = world.connect(1)
    first = peer.session_id
    world.advance(10)
    world.attach(peer, 1)
    assert peer.session_id != first
    joined, _ = world.told(SubscriberJoined)
    assert world.told(SubscriberLeft) == [
        SubscriberLeft(connection=1, session_id=first, client_id=joined.client_id)
    ]
    info = world.gateway.session(first)
    assert info is not None
    assert info.subscribers == 0
    world.publish(first)
    world.publish(peer.session_id, "mine")
    assert [frame["event"]["type"] for frame in only(peer.take(), "replay")] == ["mine"]
    world.advance(49.875)
    assert first in world.gateway.session_ids
    world.advance(0.125)
    assert world.gateway.session_ids == (peer.session_id,)


# -- requests ---------------------------------------------------------------------------------


def test_id_is_forgotten_at_its_time_also_when_the_machine_was_moved() -> None:
    world = World.make(request_ttl=10, heartbeat=10**6)
    peer = world.connect()
    peer.send("message", content="hi", request_id="r")
    world.advance(15)
    world.restore(later=1000)
    world.advance(4.875)
    assert kinds(peer.send("message", content="ho", request_id="r")) == ["message_nack"]
    world.advance(15)
    world.restore(later=1000)
    world.advance(5)
    assert kinds(peer.send("message", content="ho", request_id="r")) == ["message_ack"]


def test_message_that_answers_nothing_is_the_answer_to_nothing() -> None:
    world = World.make()
    peer = world.connect()
    peer.send("message", content="hi", request_id="r")
    world.restore()
    for number, unasked in enumerate(("null", "None", "r")):
        (nack,) = peer.send("message", content="ho", request_id=f"q{number}", reply_to=unasked)
        assert nack["code"] == "invalid_request"

"""The order and the grouping of actions, and the welcome that just fits."""

import pytest

from gatewayproto.actions import Emit, SendFrames, SubscriberLagged
from gatewayproto.inputs import Accept, FrameReceived, Publish, SetHealth
from tests.gateway.gwworld import World, encode, handshake, kinds, make_event, read_frame


def test_frames_that_follow_each_other_on_a_connection_are_one_action() -> None:
    world = World.make()
    peer = world.open()
    world.give(FrameReceived(peer.number, encode(handshake("hello", 2))))
    actions = world.give(Accept(connection=peer.number, principal=None))
    (sent,) = [each for each in actions if isinstance(each, SendFrames)]
    assert kinds([read_frame(data) for data in sent.frames]) == ["hello_ok", "caught_up"]


def test_what_is_told_stands_between_what_was_sent_before_it_and_after() -> None:
    world = World.make()
    first = world.connect()
    small = world.connect(session_id=first.session_id, max_payload=1024)
    event = make_event(1, data={"text": "x" * 3000})
    _, *actions = world.give(Publish(session_id=first.session_id, event=event))
    lagged = SubscriberLagged(connection=small.number, session_id=first.session_id, position=0)
    assert actions[1] == Emit(lagged)
    assert [each.connections for each in actions if isinstance(each, SendFrames)] == [(1,), (2,)]
    assert isinstance(actions[0], SendFrames)
    assert isinstance(actions[2], SendFrames)


def test_what_the_transport_takes_counts_while_version_1_shakes_hands_again() -> None:
    world = World.make(stall_timeout=8, heartbeat=10**6)
    peer = world.connect(1, auto=False)
    world.advance(7)
    world.give(FrameReceived(peer.number, encode(handshake("hello", 1))))
    peer.drain(peer.owed - 1)
    world.advance(7)
    world.accept(peer)
    assert kinds(peer.frames) == ["hello_ok", "hello_ok"]
    world.advance(0.875)
    assert not peer.closed
    world.advance(0.125)
    assert (peer.code, peer.reason) == (4002, "slow_consumer")


def test_answers_behind_a_large_welcome_have_their_whole_window() -> None:
    pong = len(b'{"type":"pong","nonce":"n"}')
    world = World.make(send_window=1, answer_window=2 * pong)
    peer = world.open(auto=False)
    world.give(FrameReceived(peer.number, encode(handshake("hello", 2))))
    for _ in range(2):
        peer.send("ping", nonce="n")
    world.accept(peer)
    assert kinds(peer.frames) == ["hello_ok", "pong", "pong"]
    assert not peer.closed
    peer.send("ping", nonce="n")
    assert (peer.code, peer.reason) == (4002, "slow_consumer")


@pytest.mark.parametrize("more", ["event", "answer"])
def test_what_is_sent_meanwhile_gives_a_stalled_transport_no_more_time(more: str) -> None:
    world = World.make(stall_timeout=8, heartbeat=10**6)
    peer = world.connect(auto=False)
    peer.drain_all()
    world.publish(peer.session_id)
    world.advance(7)
    if more == "event":
        world.publish(peer.session_id)
    else:
        peer.send("ping")
    world.advance(0.875)
    assert not peer.closed
    world.advance(0.125)
    assert (peer.code, peer.reason) == (4002, "slow_consumer")


def test_welcome_that_just_fits_leaves_out_nothing() -> None:
    def welcomed(limit: int) -> tuple[int, set[str]]:
        world = World.make()
        world.give(SetHealth(health={"text": "x" * 600}))
        peer = world.connect(max_payload=limit)
        return peer.sizes[0], set(peer.welcome)

    size, whole = welcomed(4096)
    assert size > 1024
    assert welcomed(size) == (size, whole)
    assert welcomed(size - 1)[1] == whole - {"presence"}

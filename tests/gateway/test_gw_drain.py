"""Draining: everybody is asked to leave, nobody new is taken, and an end is told."""

import math
from typing import Any

import pytest

from gatewayproto import ErrorCode, LocalProtocolError
from gatewayproto.actions import (
    CloseConnection,
    CommandDropped,
    DrainFinished,
    Emit,
    MessageReceived,
    SendFrames,
)
from gatewayproto.inputs import Accept, ConnectionOpened, Drain, FrameReceived, Reject
from tests.gateway.gwworld import START, Peer, World, encode, handshake, kinds, only, seqs

GOING_AWAY = {"type": "going_away", "reason": "restart", "after_ms": 2500, "spread_ms": 4000}


def drain(world: World, grace: float = 30.0, **fields: Any) -> None:
    world.give(Drain(after=2.5, spread=4.0, grace=grace, **fields))


# -- those who are there ----------------------------------------------------------------------


def test_every_version_2_client_is_told_once_and_goes_on_until_it_leaves() -> None:
    world = World.make()
    first = world.connect()
    second = world.connect(session_id=first.session_id)
    first.take()
    second.take()
    drain(world)
    assert first.take() == second.take() == [GOING_AWAY]
    world.publish(first.session_id)
    assert seqs(first.take()) == seqs(second.take()) == [1]
    # Messages are taken as ever.
    (ack,) = first.send("message", content="x", request_id="r")
    assert (ack["type"], ack["duplicate"]) == ("message_ack", False)
    assert len(world.hear(MessageReceived)) == 1
    first.send("leave")
    assert first.code == 1000
    assert not world.told(DrainFinished)
    second.cut()
    assert world.hear(DrainFinished) == [DrainFinished()]


def test_those_who_stay_are_closed_when_their_time_is_up() -> None:
    world = World.make(heartbeat=10**6)
    peer = world.connect()
    drain(world, grace=30)
    world.advance(29.875)
    assert not peer.closed
    world.publish(peer.session_id)
    world.advance(0.125)
    assert (peer.code, peer.reason) == (4000, "going_away")
    assert seqs(peer.take()) == [1]
    assert len(world.told(DrainFinished)) == 1


def test_version_1_clients_are_closed_after_what_was_sent() -> None:
    world = World.make()
    peer = world.connect(1)
    world.publish(peer.session_id)
    drain(world)
    assert (peer.code, peer.reason) == (1012, "going_away")
    assert kinds(peer.take()) == ["replay"]
    assert len(world.told(DrainFinished)) == 1


def test_the_request_passes_ahead_of_events_that_wait_for_room() -> None:
    world = World.make(send_window=1)
    peer = world.connect(auto=False)
    for _ in range(3):
        world.publish(peer.session_id)
    drain(world)
    assert peer.take() == [GOING_AWAY]
    assert seqs(peer.drain_all()) == [1, 2, 3]


def test_it_may_come_between_the_parts_of_a_snapshot() -> None:
    world = World.make(send_window=1)
    first = world.connect(auto=False, max_payload=1024)
    for _ in range(4):
        world.publish(first.session_id, data={"text": "x" * 700})
    first.send("resync")
    first.drain()
    assert only(first.frames, "snapshot")
    drain(world)
    first.drain_all()
    frames = first.frames
    parts = only(frames, "snapshot")
    assert [frame["part"] for frame in parts] == list(range(1, parts[0]["parts"] + 1))
    inside = frames[frames.index(parts[0]) : frames.index(parts[-1])]
    assert GOING_AWAY in inside


def test_who_leaves_its_answers_unread_is_closed_instead() -> None:
    world = World.make(send_window=1, answer_window=10)
    peer = world.connect(auto=False)
    drain(world)
    assert (peer.code, peer.reason) == (4000, "going_away")
    assert peer.take() == []


def test_without_grace_they_are_told_and_closed_at_once() -> None:
    world = World.make()
    peer = world.connect()
    peer.take()
    actions = world.give(Drain(reason="bye"))
    assert [type(action) for action in actions[:2]] == [SendFrames, CloseConnection]
    assert peer.take() == [{"type": "going_away", "reason": "bye", "after_ms": 0, "spread_ms": 0}]
    assert peer.code == 4000
    assert actions[-1] == Emit(DrainFinished())


# -- newcomers --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hello", "join"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_handshake_under_way_is_rejected(kind: str, version: int) -> None:
    world = World.make()
    waiting, opening = world.open(), world.open()
    world.give(FrameReceived(waiting.number, encode(handshake(kind, version))))
    drain(world)
    (frame,) = waiting.take()
    assert frame["type"] == ("hello_error" if kind == "hello" else "error")
    known = version == 2 or kind == "join"
    assert frame["code"] == ("going_away" if known else "configuration_error")
    assert (frame["retry_after_seconds"], frame["next_step"]) == (2.5, "wait_then_retry")
    (frame,) = opening.take()
    assert (frame["type"], frame["code"]) == ("error", "going_away")
    assert waiting.code == opening.code == 4000
    # The application's decision comes too late.
    world.give(Accept(connection=waiting.number))
    world.give(Reject(connection=waiting.number, code=ErrorCode.AUTH_REQUIRED))
    assert [each.command for each in world.hear(CommandDropped)] == ["accept", "reject"]
    assert world.gateway.session_ids == ()


def test_a_new_connection_is_turned_away_before_its_handshake() -> None:
    world = World.make(max_connections=1)
    stays = world.connect()
    drain(world)
    for _ in range(2):
        peer = world.open()
        (frame,) = peer.take()
        assert (frame["type"], frame["code"]) == ("error", "going_away")
        assert frame["retry_after_seconds"] == 2.5
        assert (peer.code, peer.reason) == (4000, "going_away")
    stays.cut()
    assert len(world.told(DrainFinished)) == 1
    assert world.open().code == 4000  # also after the end
    assert len(world.told(DrainFinished)) == 1


def test_a_second_version_1_handshake_under_way_is_rejected_too() -> None:
    world = World.make()
    peer = world.connect(1)
    peer.send_raw(encode(handshake("join", 1)))
    drain(world)
    assert (peer.take()[-1]["code"], peer.code) == ("going_away", 4000)


# -- again, saved, refused --------------------------------------------------------------------


def test_the_end_of_a_gateway_without_connections_is_told_at_once() -> None:
    world = World.make()
    assert world.give(Drain(grace=30)) == (Emit(DrainFinished()),)
    assert world.gateway.next_deadline is None
    assert world.give(Drain()) == ()


def test_a_second_command_can_only_make_the_time_shorter() -> None:
    world = World.make(heartbeat=10**6)
    peer = world.connect()
    drain(world, grace=30)
    peer.take()
    for grace, left in ((60, 30), (20, 20), (25, 20)):
        world.give(Drain(reason="again", after=9, grace=grace))
        assert world.gateway.next_deadline == START + left
    assert peer.take() == []
    assert world.open().take()[0]["retry_after_seconds"] == 2.5
    world.give(Drain())
    assert peer.code == 4000
    assert peer.take() == []
    assert len(world.told(DrainFinished)) == 1


@pytest.mark.parametrize("later", [0.0, 1000.0])
def test_it_goes_on_when_saved_and_restored(later: float) -> None:
    world = World.make(heartbeat=10**6)
    peer = world.connect()
    drain(world, grace=30)
    peer.take()
    world.advance(10)
    world.restore(later=later)
    assert world.open().code == 4000
    world.advance(19.875)
    assert not peer.closed
    world.advance(0.125)
    assert peer.code == 4000
    assert len(world.told(DrainFinished)) == 1
    world.restore()
    assert world.give(Drain()) == ()


def test_a_new_process_takes_clients_again() -> None:
    world = World.make()
    peer = world.connect()
    drain(world)
    named: dict[str, Any] = {"session_id": peer.session_id, "epoch": peer.epoch, "since": 0}
    world.recover(unbroken=True)
    world.give(ConnectionOpened(connection=90))  # numbers go on above the old ones
    world.peers[90] = Peer(world, 90)
    world.attach(world.peers[90], **named)
    assert world.peers[90].welcome["resumed"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"after": -1.0},
        {"spread": math.inf},
        {"grace": math.nan},
        {"grace": 1e10},
        {"after": "1"},
        {"reason": "x" * 1000},
        {"reason": "\ud800"},
        {"reason": 5},
    ],
)
def test_what_cannot_be_said_is_the_callers_mistake(wrong: dict[str, Any]) -> None:
    world = World.make()
    peer = world.connect()
    before = world.state()
    fields: dict[str, Any] = {"grace": 5.0, **wrong}
    with pytest.raises(LocalProtocolError):
        world.give(Drain(**fields))
    assert world.state() == before
    assert not peer.closed

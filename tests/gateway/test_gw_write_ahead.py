"""Writing ahead: what leaves the machine when, in which order, within which bounds."""

from typing import Any

import pytest

from gatewayproto import LocalProtocolError
from gatewayproto.actions import (
    CommandDropped,
    Emit,
    MessageReceived,
    Persist,
    Published,
    SendFrames,
    SessionExpired,
    SessionOpened,
    SubscriberJoined,
)
from gatewayproto.inputs import (
    ChangeEpoch,
    Complete,
    FrameReceived,
    Persisted,
    Publish,
)
from tests.gateway.gwworld import (
    Peer,
    World,
    encode,
    event_object,
    handshake,
    kinds,
    make_event,
    only,
    seqs,
)


def ahead(**options: Any) -> World:
    """A gateway that writes ahead; its store keeps up until it is `late`."""
    return World.make(write_ahead=True, **options)


def late(**options: Any) -> tuple[World, Peer]:
    """The same with a client that was welcomed, after which the store is late."""
    world = ahead(**options)
    peer = world.connect()
    peer.take()
    world.late = True
    return world, peer


def record_kinds(world: World) -> list[str]:
    return [each.record["kind"] for each in world.records]


# -- what waits -------------------------------------------------------------------------------


def test_nothing_is_persisted_unless_it_was_asked_for() -> None:
    world = World.make()
    peer = world.connect()
    world.publish(peer.session_id)
    peer.send("message", content="hi", request_id="r")
    world.give(Complete(session_id=peer.session_id, message_id=1))
    world.give(ChangeEpoch(session_id=peer.session_id))
    peer.cut()
    world.advance(1000)
    assert world.records == []


def test_records_are_numbered_without_holes_session_by_session() -> None:
    world = ahead()
    for _ in range(2):
        peer = world.connect()
        world.publish(peer.session_id)
        peer.send("message", content="hi", request_id="r")
        world.give(Complete(session_id=peer.session_id, message_id=1))
        world.give(ChangeEpoch(session_id=peer.session_id))
        numbers = [each.number for each in world.records if each.session_id == peer.session_id]
        assert numbers == [1, 2, 3, 4, 5]
    assert record_kinds(world)[:5] == ["opened", "event", "message", "complete", "epoch"]


def test_welcome_waits_until_its_session_is_stored() -> None:
    world = ahead()
    world.late = True
    peer = world.open()
    world.give(FrameReceived(peer.number, encode(handshake("hello", 2))))
    world.accept(peer)
    peer.send("ping", nonce="early")
    assert peer.take() == []
    assert world.told(SessionOpened) == []
    world.confirm()
    assert kinds(peer.take()) == ["hello_ok", "pong", "caught_up"]
    assert [type(each) for each in world.events[-2:]] == [SessionOpened, SubscriberJoined]


def test_event_waits_until_it_is_stored() -> None:
    world, peer = late()
    event = make_event(1)
    actions = world.give(Publish(session_id=peer.session_id, event=event))
    assert [type(each) for each in actions] == [Persist, Emit]
    assert world.hear(Published)[0].seq == 1
    assert peer.take() == []
    info = world.gateway.session(peer.session_id)
    assert info is not None
    assert (info.cursor, info.unstored) == (0, 1)
    world.confirm()
    assert peer.take() == [{"type": "event", "seq": 1, "event": event_object(event)}]
    info = world.gateway.session(peer.session_id)
    assert info is not None
    assert (info.cursor, info.unstored) == (1, 0)


def test_one_confirmation_lets_everything_go_up_to_its_number_in_order() -> None:
    world, peer = late()
    for _ in range(5):
        world.publish(peer.session_id)
    world.confirm(3)
    assert seqs(peer.take()) == [1, 2, 3]
    world.confirm()
    assert seqs(peer.take()) == [4, 5]


def test_who_comes_meanwhile_is_told_of_what_is_stored_alone() -> None:
    world, peer = late()
    world.publish(peer.session_id)
    world.publish(peer.session_id)
    world.confirm(1)
    second = world.connect(session_id=peer.session_id, epoch=peer.epoch, since=1)
    assert (second.welcome["cursor"], second.welcome["resync_required"]) == (1, False)
    ahead_of_it = world.connect(session_id=peer.session_id, epoch=peer.epoch, since=2)
    assert ahead_of_it.welcome["resync_reason"] == "cursor_ahead"
    (snapshot,) = only(peer.send("resync"), "snapshot")
    assert (snapshot["cursor"], len(snapshot["state"]["messages"])) == (1, 1)
    world.advance(world.config.heartbeat)
    assert {frame["cursor"] for frame in only(peer.frames, "ping")} == {1}


def test_message_is_handed_over_and_acknowledged_once_it_is_stored() -> None:
    world, peer = late()
    twin = world.connect(session_id=peer.session_id, epoch=peer.epoch, since=0)
    twin.take()
    assert peer.send("message", content="hi", request_id="r") == []
    assert twin.send("message", content="hi", request_id="r") == []
    assert world.told(MessageReceived) == []
    assert world.gateway.pending(peer.session_id) == ()
    with pytest.raises(LocalProtocolError, match="not pending"):
        world.give(Complete(session_id=peer.session_id, message_id=1))
    world.confirm()
    assert peer.take() == [{"type": "message_ack", "request_id": "r", "duplicate": False}]
    assert twin.take() == [{"type": "message_ack", "request_id": "r", "duplicate": True}]
    assert [each.message_id for each in world.told(MessageReceived)] == [1]
    assert world.gateway.pending(peer.session_id) == tuple(world.told(MessageReceived))
    world.give(Complete(session_id=peer.session_id, message_id=1))


def test_duplicate_of_what_is_stored_is_acknowledged_at_once() -> None:
    world, peer = late()
    peer.send("message", content="hi", request_id="r")
    world.confirm()
    peer.take()
    (ack,) = peer.send("message", content="hi", request_id="r")
    assert ack["duplicate"] is True


def test_acknowledgement_precedes_what_was_published_after_its_message() -> None:
    world, peer = late()
    peer.send("message", content="hi", request_id="r")
    world.publish(peer.session_id)
    world.confirm()
    assert kinds(peer.take()) == ["message_ack", "event"]


@pytest.mark.parametrize("version", [1, 2])
def test_refusal_that_speaks_of_another_message_waits_for_that(version: int) -> None:
    world = ahead()
    peer = world.connect(version)
    world.publish(peer.session_id, event_id="q", expects_reply=True)
    peer.take()
    world.late = True
    assert peer.send("message", content="yes", request_id="r1", reply_to="q") == []
    assert peer.send("message", content="no", request_id="r2", reply_to="q") == []
    assert peer.send("message", content="no", request_id="r1", reply_to="q") == []
    at_once = peer.send("message", content="no", request_id="r3", reply_to="unknown")
    assert [frame["code"] for frame in at_once] == ["invalid_request"]
    world.confirm()
    codes = [frame.get("code") for frame in peer.take()]
    assert codes == [None, "already_answered", "request_conflict"]


def test_message_without_an_id_waits_too() -> None:
    world, peer = late()
    assert peer.send("message", content="hi") == []
    assert world.told(MessageReceived) == []
    world.confirm()
    assert peer.take() == []
    assert len(world.told(MessageReceived)) == 1


def test_nobody_is_answered_who_has_gone_meanwhile() -> None:
    world, peer = late()
    twin = world.connect(session_id=peer.session_id, epoch=peer.epoch, since=0)
    twin.take()
    for each in (peer, twin):
        each.send("message", content="hi", request_id="r")
    peer.cut()
    world.confirm()
    assert kinds(twin.take()) == ["message_ack"]


def test_answer_of_an_earlier_attach_is_left_to_the_next_copy() -> None:
    """Nothing precedes a welcome, also on a connection that had one before."""
    world = ahead()
    peer = world.connect(1)
    peer.take()
    world.late = True
    peer.send("message", content="hi", request_id="r")
    world.give(FrameReceived(peer.number, encode(handshake("join", 1))))
    world.confirm()
    assert peer.take() == []
    world.late = False
    world.accept(peer)
    world.settle()
    assert kinds(peer.take()) == ["joined"]


def test_epoch_begins_when_it_is_stored() -> None:
    world, peer = late()
    world.publish(peer.session_id)
    world.give(ChangeEpoch(session_id=peer.session_id))
    world.publish(peer.session_id)
    assert peer.take() == []
    twin = world.connect(session_id=peer.session_id, epoch=peer.epoch, since=0)
    assert twin.epoch == peer.epoch
    world.confirm(1)
    assert seqs(peer.take()) == [1]
    world.confirm(1)
    (snapshot,) = peer.take()
    assert (snapshot["reason"], snapshot["cursor"]) == ("epoch_changed", 1)
    assert snapshot["epoch"] != peer.epoch
    world.confirm()
    assert seqs(peer.take()) == [2]


def test_persist_precedes_what_depends_on_it() -> None:
    world, peer = late()
    for input_ in (
        Publish(session_id=peer.session_id, event=make_event(1)),
        FrameReceived(peer.number, encode({"type": "message", "content": "", "request_id": "r"})),
        ChangeEpoch(session_id=peer.session_id),
    ):
        actions = world.give(input_)
        assert isinstance(actions[0], Persist)
        assert not [each for each in actions if isinstance(each, SendFrames)]


# -- the end of sessions ----------------------------------------------------------------------


def test_session_is_over_for_the_application_once_that_is_stored() -> None:
    world, peer = late()
    peer.cut()
    world.advance(world.config.resume_window)
    assert record_kinds(world) == ["opened", "expired"]
    assert world.gateway.session(peer.session_id) is None
    assert world.told(SessionExpired) == []
    world.restore()
    world.confirm()
    assert len(world.told(SessionExpired)) == 1
    world.give(Persisted(session_id=peer.session_id, number=2))
    assert len(world.told(SessionExpired)) == 1


def test_session_that_ends_unstored_counts_until_it_is_stored() -> None:
    world, peer = late(max_sessions=1)
    peer.cut()
    world.advance(world.config.resume_window)
    turned_away = world.connect()
    assert turned_away.reason == "rate_limited"
    world.late = False
    world.settle()
    assert not world.connect().closed


def test_what_waited_when_a_session_expired_goes_nowhere() -> None:
    world, peer = late()
    peer.send("message", content="hi", request_id="r")
    world.publish(peer.session_id)
    peer.cut()
    world.advance(world.config.resume_window)
    with pytest.raises(LocalProtocolError, match="never given"):
        world.give(Persisted(session_id=peer.session_id, number=5))
    world.give(Persisted(session_id=peer.session_id, number=3))
    assert world.told(SessionExpired) == []
    world.confirm()
    assert world.told(MessageReceived) == []
    assert len(world.told(SessionExpired)) == 1
    world.publish(peer.session_id)
    assert world.hear(CommandDropped)[-1].command == "publish"


@pytest.mark.parametrize("gone_first", [False, True])
def test_session_whose_client_goes_before_it_is_stored_expires(gone_first: bool) -> None:
    world = ahead()
    world.late = True
    peer = world.open()
    world.give(FrameReceived(peer.number, encode(handshake("hello", 2))))
    world.accept(peer)
    if gone_first:
        peer.cut()
        world.advance(2 * world.config.resume_window)
        assert record_kinds(world) == ["opened"]
        world.confirm()
    else:
        world.confirm()
        peer.cut()
    world.late = False
    world.advance(world.config.resume_window)
    assert record_kinds(world) == ["opened", "expired"]
    assert [type(each) for each in world.events][-1] is SessionExpired
    assert len(world.told(SessionOpened)) == 1


# -- bounds -----------------------------------------------------------------------------------


def test_records_that_wait_are_bounded() -> None:
    world, peer = late(max_unstored=2)
    peer.send("message", content="hi", request_id="r")
    world.publish(peer.session_id)
    before = world.state()
    with pytest.raises(LocalProtocolError, match="2 records wait"):
        world.publish(peer.session_id)
    with pytest.raises(LocalProtocolError, match="2 records wait"):
        world.give(ChangeEpoch(session_id=peer.session_id))
    assert world.state() == before
    (nack,) = peer.send("message", content="hi", request_id="s")
    assert nack["code"] == "inbox_full"
    assert peer.send("message", content="hi", request_id="r") == []
    world.confirm(1)
    assert kinds(peer.take()) == ["message_ack"]
    world.publish(peer.session_id)
    world.confirm()
    assert seqs(peer.take()) == [1, 2]


def test_bytes_that_wait_are_bounded_but_for_a_single_event() -> None:
    world, peer = late(max_unstored_bytes=300)
    world.publish(peer.session_id, data={"text": "x" * 400})
    with pytest.raises(LocalProtocolError, match="wait to be stored"):
        world.publish(peer.session_id)
    world.confirm()
    world.publish(peer.session_id)
    world.publish(peer.session_id)
    assert len(peer.take()) == 1


def test_answers_that_wait_are_bounded() -> None:
    world, peer = late(answer_window=200)
    for _ in range(3):
        assert peer.send("message", content="hi", request_id="r") == []
    peer.send("message", content="hi", request_id="r")
    assert (peer.code, peer.reason) == (4003, "rate_limited")
    world.confirm()
    assert len(world.told(MessageReceived)) == 1


def test_room_for_answers_comes_back() -> None:
    world, peer = late(answer_window=200)
    for number in range(10):
        assert peer.send("message", content="hi", request_id=f"r{number}") == []
        world.confirm()
        assert kinds(peer.take()) == ["message_ack"]


def test_bound_on_open_runs_counts_those_that_wait() -> None:
    world, peer = late(max_open_runs=1)
    world.publish(peer.session_id, "token", run_id="a", transient=True)
    with pytest.raises(LocalProtocolError, match="1 runs wait"):
        world.publish(peer.session_id, "token", run_id="b", transient=True)
    world.publish(peer.session_id, "answer", run_id="a", final=True)
    world.publish(peer.session_id, "token", run_id="b", transient=True)
    with pytest.raises(LocalProtocolError, match="1 runs wait"):
        world.publish(peer.session_id, "token", run_id="a", transient=True)
    world.confirm()
    with pytest.raises(LocalProtocolError, match="1 runs wait"):
        world.publish(peer.session_id, "token", run_id="a", transient=True)


# -- moved whole ------------------------------------------------------------------------------


def test_whatever_waits_is_moved_with_the_machine() -> None:
    world, peer = late()
    world.publish(peer.session_id)
    peer.send("message", content="hi", request_id="r")
    world.give(ChangeEpoch(session_id=peer.session_id))
    second = world.open()
    world.give(FrameReceived(second.number, encode(handshake("hello", 2))))
    world.accept(second)
    second.send("ping", nonce="early")
    world.restore(later=8)
    assert second.take() == peer.take() == []
    world.confirm()
    assert kinds(peer.take()) == ["event", "message_ack", "snapshot"]
    assert kinds(second.take()) == ["hello_ok", "pong", "caught_up"]
    assert [type(each) for each in world.events[-3:]] == [
        *(MessageReceived, SessionOpened, SubscriberJoined)
    ]


# -- confirmations ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [-1, 0, 3])
def test_number_that_was_never_given_is_the_callers_mistake(number: int) -> None:
    world, peer = late()
    world.publish(peer.session_id)
    before = world.state()
    with pytest.raises(LocalProtocolError, match="never given"):
        world.give(Persisted(session_id=peer.session_id, number=number))
    assert world.state() == before


def test_gateway_that_does_not_write_ahead_gave_no_number() -> None:
    world = World.make()
    peer = world.connect()
    with pytest.raises(LocalProtocolError, match="never given"):
        world.give(Persisted(session_id=peer.session_id, number=1))


def test_confirmation_that_is_old_or_of_an_unknown_session_changes_nothing() -> None:
    world, peer = late()
    world.publish(peer.session_id)
    world.publish(peer.session_id)
    world.confirm()
    before = world.state()
    for session_id, number in ((peer.session_id, 1), (peer.session_id, 3), ("gone", 99)):
        assert world.give(Persisted(session_id=session_id, number=number)) == ()
    assert world.state() == before


# -- whole sessions ---------------------------------------------------------------------------


def test_session_is_given_whole_every_so_many_records() -> None:
    world = ahead(checkpoint_every=3)
    peer = world.connect()
    for _ in range(5):
        world.publish(peer.session_id)
    assert record_kinds(world) == [
        *("opened", "event", "event", "session"),
        *("event", "event", "event", "session"),
    ]


def test_whole_session_holds_what_waits_as_well() -> None:
    world, peer = late(checkpoint_every=5)
    world.publish(peer.session_id)
    peer.send("message", content="hi", request_id="r")
    world.give(ChangeEpoch(session_id=peer.session_id))
    world.publish(peer.session_id)
    assert record_kinds(world)[-1] == "session"
    del world.records[:-1]
    world.confirmed = 1
    world.crash()
    info = world.gateway.session(peer.session_id)
    assert info is not None
    assert (info.cursor, info.retained, info.pending_messages) == (2, 2, 1)
    assert info.epoch != peer.epoch
    again = world.connect(session_id=peer.session_id, epoch=info.epoch, since=0)
    assert seqs(again.take()) == [1, 2]
    (ack,) = again.send("message", content="hi", request_id="r")
    assert ack["duplicate"] is True


def test_records_are_the_drivers_to_keep() -> None:
    """A record that is not stored yet is not changed by what the machine goes on to do."""
    world, peer = late(checkpoint_every=2)
    world.publish(peer.session_id, "token", run_id="a", transient=True, data={"text": "one"})
    peer.send("message", content={"text": ["hi"]}, request_id="r")
    before = world.store()
    assert [record["kind"] for _, _, record in before] == ["opened", "event", "session", "message"]
    world.confirm()
    world.publish(peer.session_id, "token", run_id="a", transient=True, data={"text": "two"})
    world.give(Complete(session_id=peer.session_id, message_id=1))
    world.confirm()
    assert world.store()[: len(before)] == before

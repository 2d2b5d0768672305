"""Sealed sessions: everybody gets the rest, nobody gets more, and then they end."""

from typing import Any

import pytest

from gatewayproto.actions import (
    CloseConnection,
    CommandDropped,
    Emit,
    MessageReceived,
    SessionClosed,
    SessionExpired,
    SubscriberLeft,
)
from gatewayproto.inputs import ChangeEpoch, CloseSession, Complete, Publish
from tests.gateway.gwworld import Peer, World, kinds, make_event, only, seqs

CLOSED = 4508


def close(world: World, session_id: str) -> None:
    world.give(CloseSession(session_id=session_id))


def lagging(world: World, version: int = 2, events: int = 5) -> Peer:
    """A follower of a new session whose transport has taken nothing yet, not even its welcome."""
    peer = world.connect(version, auto=False)
    for _ in range(events):
        world.publish(peer.session_id)
    peer.take()
    return peer


def named(peer: Peer, since: int) -> dict[str, Any]:
    """What a later handshake has to say to go on where this one stood."""
    epoch = {"epoch": peer.welcome["epoch"]} if "epoch" in peer.welcome else {}
    return {"session_id": peer.welcome["session_id"], "since": since, **epoch}


# -- the closing ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_who_has_everything_is_closed_at_once(version: int) -> None:
    world = World.make()
    first = world.connect(version)
    second = world.connect(version, session_id=first.welcome["session_id"])
    other = world.connect(version)
    world.publish(first.session_id)
    actions = world.give(CloseSession(session_id=first.session_id))
    assert actions[0] == Emit(SessionClosed(session_id=first.session_id, cursor=1))
    assert [each for each in actions if isinstance(each, CloseConnection)] == [
        CloseConnection(1, CLOSED, "session_closed"),
        CloseConnection(2, CLOSED, "session_closed"),
    ]
    assert seqs(first.take()) == seqs(second.take()) == [1]
    assert other.take()[:0] == []
    assert not other.closed
    assert [left.connection for left in world.hear(SubscriberLeft)] == [1, 2]


@pytest.mark.parametrize("version", [1, 2])
def test_who_lags_gets_the_rest_and_is_closed_then_and_not_before(version: int) -> None:
    world = World.make(send_window=1)
    peer = lagging(world, version)
    close(world, peer.session_id)
    rest: list[int] = []
    while len(rest) < 5:
        assert peer.code is None
        rest += seqs(peer.drain())
    assert rest == [1, 2, 3, 4, 5]
    assert (peer.code, peer.reason) == (CLOSED, "session_closed")
    if version == 2:
        # Its attach is complete as well: it was at the head then, so long ago.
        assert kinds(peer.frames).count("caught_up") == 1


def test_what_was_superseded_comes_as_a_skip_before_the_close() -> None:
    world = World.make(send_window=1)
    peer = lagging(world, events=0)
    world.publish(peer.session_id, run_id="r", transient=True)
    world.publish(peer.session_id, run_id="r", transient=True)
    world.publish(peer.session_id, run_id="r", final=True)
    close(world, peer.session_id)
    frames = peer.drain_all()
    assert [(frame["first"], frame["last"]) for frame in only(frames, "skip")] == [(1, 2)]
    assert seqs(frames) == [3]
    assert peer.code == CLOSED


def test_what_is_gone_comes_as_a_snapshot_in_all_its_parts_before_the_close() -> None:
    world = World.make(send_window=1, retain=1)
    peer = world.connect(auto=False, max_payload=1024)
    for _ in range(4):
        world.publish(peer.session_id, data={"text": "x" * 700})
    close(world, peer.session_id)
    frames = peer.drain_all()
    snapshot = only(frames, "snapshot")
    assert len(snapshot) > 1
    assert [frame["part"] for frame in snapshot] == list(range(1, snapshot[0]["parts"] + 1))
    assert {(frame["reason"], frame["cursor"]) for frame in snapshot} == {("lagged", 4)}
    assert peer.code == CLOSED


def test_version_1_that_needs_what_is_gone_is_closed_as_ever() -> None:
    world = World.make(send_window=1, retain=1)
    peer = lagging(world, 1)
    close(world, peer.session_id)
    peer.drain_all()
    assert peer.code == 4002
    again = world.connect(1, **named(peer, 0))
    assert again.welcome["resync_reason"] == "trimmed"
    assert kinds(again.take()) == ["snapshot"]
    assert again.code == CLOSED


@pytest.mark.parametrize("ask", ["resume", "resync"])
def test_a_recovery_that_was_asked_for_is_answered_in_full_before_the_close(ask: str) -> None:
    world = World.make(send_window=1)
    peer = lagging(world, events=3)
    fields: dict[str, Any] = {"since": 0, "epoch": peer.epoch} if ask == "resume" else {}
    if ask == "resume":
        peer.drain()
        peer.drain()
        assert seqs(peer.frames)
    close(world, peer.session_id)
    peer.send(ask, nonce="n", **fields)
    assert not peer.closed
    frames = peer.drain_all()
    assert frames[-1]["type"] == "caught_up"
    assert (frames[-1]["nonce"], frames[-1]["cursor"]) == ("n", 3)
    assert only(frames, "snapshot" if ask == "resync" else "replay")
    assert peer.code == CLOSED


def test_a_second_closing_is_harmless() -> None:
    world = World.make(send_window=1, resume_window=50)
    peer = lagging(world)
    close(world, peer.session_id)
    world.advance(20)
    before = world.state()
    assert world.give(CloseSession(session_id=peer.session_id)) == ()
    assert world.state() == before
    peer.drain_all()
    assert peer.code == CLOSED


def test_closing_a_session_that_is_gone_is_dropped() -> None:
    world = World.make()
    dropped = CommandDropped(command="close_session", target="gone")
    assert world.give(CloseSession(session_id="gone")) == (Emit(dropped),)


def test_nothing_is_published_in_a_closed_session() -> None:
    world = World.make(send_window=1)
    peer = lagging(world)
    close(world, peer.session_id)
    before = world.state()
    dropped = CommandDropped(command="publish", target=peer.session_id)
    event = make_event(9)
    assert world.give(Publish(session_id=peer.session_id, event=event)) == (Emit(dropped),)
    assert world.state() == before
    info = world.gateway.session(peer.session_id)
    assert info is not None
    assert (info.sealed, info.cursor) == (True, 5)


# -- messages ---------------------------------------------------------------------------------


def test_a_message_to_a_closed_session_is_refused_and_copies_are_still_acknowledged() -> None:
    world = World.make(send_window=1)
    peer = lagging(world)
    (ack,) = only(peer.send("message", content="hi", request_id="r"), "message_ack")
    assert ack["duplicate"] is False
    close(world, peer.session_id)
    (nack,) = only(peer.send("message", content="more", request_id="s"), "message_nack")
    assert (nack["code"], nack["request_id"]) == ("session_closed", "s")
    (nack,) = only(peer.send("message", content="more"), "message_nack")
    assert (nack["code"], "request_id" in nack) == ("session_closed", False)
    (ack,) = only(peer.send("message", content="hi", request_id="r"), "message_ack")
    assert ack["duplicate"] is True
    (nack,) = only(peer.send("message", content="other", request_id="r"), "message_nack")
    assert nack["code"] == "request_conflict"
    # A reply to nothing: that the session is closed is what counts.
    (nack,) = only(peer.send("message", content="x", request_id="t", reply_to="?"), "message_nack")
    assert nack["code"] == "session_closed"
    (received,) = world.told(MessageReceived)
    # What was taken before is still to be done.
    world.give(Complete(session_id=peer.session_id, message_id=received.message_id))
    assert world.gateway.pending(peer.session_id) == ()


def test_version_1_is_refused_by_an_error() -> None:
    world = World.make(send_window=1)
    peer = lagging(world, 1)
    close(world, peer.session_id)
    (error,) = only(peer.send("message", content="more", request_id="s"), "error")
    assert (error["code"], error["request_id"]) == ("session_closed", "s")
    assert not peer.closed


# -- the window -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_the_owner_may_come_for_the_rest_within_the_window(version: int) -> None:
    world = World.make(resume_window=50, heartbeat=10**6)
    peer = world.connect(version)
    world.publish(peer.session_id)
    peer.cut()
    world.publish(peer.session_id)
    world.advance(30)
    close(world, peer.session_id)
    world.advance(49.875)
    again = world.connect(version, **named(peer, 1))
    assert (again.welcome["resumed"], again.welcome["resync_required"]) == (True, False)
    rest = ["replay"] if version == 1 else ["replay", "caught_up"]
    frames = again.take()
    assert kinds(frames) == rest
    assert seqs(frames) == [2]
    assert again.code == CLOSED
    # To attach has not extended it.
    world.advance(0.125)
    assert world.hear(SessionExpired) == [SessionExpired(session_id=peer.session_id)]
    assert world.connect(version, **named(peer, 2)).welcome["resumed"] is False


def test_the_usual_decision_table_holds_in_a_closed_session() -> None:
    world = World.make(retain=1)
    peer = world.connect(principal="p")
    for _ in range(3):
        world.publish(peer.session_id)
    close(world, peer.session_id)

    def reason_of(**fields: Any) -> tuple[object, list[str]]:
        named_: dict[str, Any] = {"session_id": peer.session_id, "epoch": peer.epoch, **fields}
        again = world.connect(principal="p", **named_)
        assert again.code == CLOSED
        return again.welcome.get("resync_reason"), kinds(again.take())

    assert reason_of(since=3) == (None, ["caught_up"])
    assert reason_of(since=2) == (None, ["replay", "caught_up"])
    assert reason_of(since=0) == ("trimmed", ["snapshot", "caught_up"])
    assert reason_of(since=9) == ("cursor_ahead", ["snapshot", "caught_up"])
    assert reason_of(since=1, epoch="other") == ("epoch_changed", ["snapshot", "caught_up"])
    assert reason_of(since=3, start="snapshot") == ("requested", ["snapshot", "caught_up"])
    # Nobody else learns of it.
    foreign = world.connect(principal="q", session_id=peer.session_id)
    assert (foreign.welcome["resumed"], foreign.closed) == (False, False)
    assert world.connect(principal="p", session_id=peer.session_id, agent_id="b").code == 4504


def test_who_still_reads_at_the_end_of_the_window_is_finished_first() -> None:
    world = World.make(send_window=1, resume_window=50, stall_timeout=40, heartbeat=30)
    peer = lagging(world)
    close(world, peer.session_id)
    for _ in range(2):
        world.advance(30)
        peer.drain(1)
    assert not peer.closed
    assert not world.told(SessionExpired)
    # For everybody else its window is over.
    assert world.connect(**named(peer, 0)).welcome["resumed"] is False
    assert seqs(peer.drain_all()) == [1, 2, 3, 4, 5]
    assert peer.code == CLOSED
    ended = [
        type(each) for each in world.events if isinstance(each, SubscriberLeft | SessionExpired)
    ]
    assert ended == [SubscriberLeft, SessionExpired]
    assert world.gateway.session(peer.session_id) is None


@pytest.mark.parametrize("end", ["stall", "cut"])
def test_who_reads_no_more_does_not_keep_it_beyond_the_window(end: str) -> None:
    world = World.make(send_window=1, resume_window=50, stall_timeout=60, heartbeat=10**6)
    peer = lagging(world)
    close(world, peer.session_id)
    world.advance(55)
    assert not world.told(SessionExpired)
    world.advance(5) if end == "stall" else peer.cut()
    assert peer.closed
    assert world.hear(SessionExpired) == [SessionExpired(session_id=peer.session_id)]
    assert world.gateway.next_deadline is None


def test_a_reader_that_goes_within_the_window_leaves_it_to_others() -> None:
    world = World.make(send_window=1, resume_window=50, heartbeat=10**6)
    peer = lagging(world)
    close(world, peer.session_id)
    world.advance(20)
    peer.cut()
    world.advance(29.875)
    assert not world.told(SessionExpired)
    world.advance(0.125)
    assert len(world.hear(SessionExpired)) == 1


# -- epochs and saved state -------------------------------------------------------------------


def test_a_new_epoch_reaches_those_that_still_read_a_closed_session() -> None:
    world = World.make(send_window=1)
    peer = lagging(world)
    old = world.connect(1, auto=False, session_id=peer.session_id, since=0)
    close(world, peer.session_id)
    before = peer.epoch
    world.give(ChangeEpoch(session_id=peer.session_id))
    assert old.code == 1012
    frames = peer.drain_all()
    (snapshot,) = only(frames, "snapshot")
    assert (snapshot["reason"], snapshot["cursor"]) == ("epoch_changed", 5)
    assert snapshot["epoch"] != before
    assert peer.code == CLOSED


def test_a_closed_session_stays_closed_when_saved_and_restored() -> None:
    world = World.make(send_window=1, resume_window=50, heartbeat=10**6)
    peer = lagging(world)
    close(world, peer.session_id)
    world.advance(20)
    world.restore(later=1000)
    (nack,) = only(peer.send("message", content="x", request_id="s"), "message_nack")
    assert nack["code"] == "session_closed"
    world.advance(31)
    assert not world.told(SessionExpired)
    world.restore(later=1000)  # now with its window over
    assert world.connect(**named(peer, 0)).welcome["resumed"] is False
    peer.drain_all()
    assert peer.code == CLOSED
    assert len(world.told(SessionExpired)) == 1


@pytest.mark.parametrize("unbroken", [True, False])
def test_after_a_crash_a_closed_session_is_closed_and_has_its_window_anew(unbroken: bool) -> None:
    world = World.make(send_window=1, resume_window=50, heartbeat=10**6)
    peer = lagging(world)
    close(world, peer.session_id)
    world.advance(45)
    world.recover(unbroken=unbroken)
    world.advance(45)
    again = world.connect(**named(peer, 0))
    assert again.welcome.get("resync_reason") == (None if unbroken else "epoch_changed")
    assert again.code == CLOSED
    world.advance(5)
    assert len(world.told(SessionExpired)) == 1

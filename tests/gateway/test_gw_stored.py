"""Recovering from what was stored: what is kept, what goes on, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto import Gateway, GatewayConfig
from gatewayproto.actions import MessageReceived, SessionExpired
from gatewayproto.inputs import ChangeEpoch, Complete, Persisted
from tests.gateway.gwworld import START, Frame, Ids, Peer, World, kinds, only, seqs

Stored = list[tuple[str, int, Frame]]


def ahead(**options: Any) -> World:
    return World.make(write_ahead=True, **options)


def recover(stored: Stored, **options: Any) -> Gateway:
    config = GatewayConfig(write_ahead=True, **options)
    return Gateway.recover_stored(config, stored, now=START, unbroken=True, ids=Ids(last=1000))


def again(world: World, peer: Peer, since: int) -> Peer:
    """The client of `peer`, back with what it saw last."""
    return world.connect(session_id=peer.session_id, epoch=peer.epoch, since=since)


def lived(**options: Any) -> tuple[World, Peer]:
    """A session in which everything has happened that is recorded."""
    world = ahead(**options)
    peer = world.connect(principal="p")
    world.publish(peer.session_id, event_id="q1", expects_reply=True)
    world.publish(peer.session_id, event_id="q2", expects_reply=True)
    world.publish(peer.session_id, "token", run_id="a", transient=True, data={"text": "x"})
    peer.send("message", content={"text": "yes"}, request_id="r1", reply_to="q1")
    peer.send("message", content="hi", request_id="r2", metadata={"m": 1})
    peer.send("message", content="without an id")
    world.give(Complete(session_id=peer.session_id, message_id=2))
    world.give(ChangeEpoch(session_id=peer.session_id))
    world.publish(peer.session_id, "answer", run_id="a", final=True, data={"text": "x"})
    world.publish(peer.session_id, "token", run_id="b", transient=True, data={"text": "y"})
    return world, peer


# -- what is kept -----------------------------------------------------------------------------


def recovered_state(world: World) -> Frame:
    """The sessions of the machine, but for what a new process has of its own."""
    state = json.loads(world.state())
    (session,) = state["sessions"]
    for name in (
        "followers",
        "ready",
        "presence_version",
        "state_size",
        "told",
        "changes",
        "awaiting",
    ):
        session.pop(name)
    session["inbox"]["remembered"] = [each[:2] for each in session["inbox"]["remembered"]]
    for name in ("whole", "base"):
        session["ledger"].pop(name)
    assert isinstance(session, dict)
    return session


@pytest.mark.parametrize("every", [1, 2, 3, 5, 7, 1000])
@pytest.mark.parametrize("superseded", [False, True])
def test_session_comes_back_as_it_was(every: int, superseded: bool) -> None:
    world, _ = lived(checkpoint_every=every)
    before = recovered_state(world)
    if superseded:  # the store has let go what it may
        kinds_ = [each.record["kind"] for each in world.records]
        whole = max((at for at, kind in enumerate(kinds_) if kind == "session"), default=0)
        del world.records[:whole]
        world.confirmed = len(world.records)
    world.crash()
    assert recovered_state(world) == before


def test_client_goes_on_where_it_was_when_the_store_is_unbroken() -> None:
    world = ahead()
    peer = world.connect()
    for _ in range(3):
        world.publish(peer.session_id)
    world.crash()
    back = again(world, peer, 1)
    assert (back.welcome["resumed"], back.welcome["resync_required"]) == (True, False)
    assert back.epoch == peer.epoch
    assert seqs(back.take()) == [2, 3]
    world.publish(peer.session_id)
    assert seqs(back.take()) == [4]


def test_client_gets_a_snapshot_of_a_new_epoch_when_it_may_be_broken() -> None:
    world = ahead()
    peer = world.connect()
    world.publish(peer.session_id)
    world.crash(unbroken=False)
    back = again(world, peer, 1)
    assert back.welcome["resync_reason"] == "epoch_changed"
    assert back.epoch != peer.epoch
    assert kinds(back.take())[0] == "snapshot"


def test_new_epoch_is_stored_before_anybody_hears_of_it() -> None:
    world = ahead()
    peer = world.connect()
    world.publish(peer.session_id)
    world.crash(unbroken=False)
    world.late = True
    stored = len(world.records)
    with pytest.raises(IndexError):  # there is no welcome
        again(world, peer, 1)
    back = world.peers[max(world.peers)]
    assert back.frames == []
    (record,) = world.records[stored:]
    assert (record.number, record.record["kind"]) == (3, "epoch")
    world.confirm()
    assert kinds(back.take())[:2] == ["hello_ok", "snapshot"]
    assert back.epoch == record.record["epoch"]
    # The same client after another crash: what it was told is in the store.
    world.crash()
    third = again(world, back, 1)
    assert (third.epoch, third.welcome["resync_required"]) == (back.epoch, False)


def test_new_epoch_of_a_session_is_its_next_record() -> None:
    world = ahead()
    peer = world.connect()
    world.publish(peer.session_id)
    world.crash(unbroken=False)
    world.publish(peer.session_id)
    world.publish(peer.session_id)
    assert [(each.number, each.record["kind"]) for each in world.records[2:]] == [
        *((3, "epoch"), (4, "event"), (5, "event"))
    ]


def test_new_epochs_of_all_sessions_are_stored_as_soon_as_the_timer_fires() -> None:
    """Or a store that was broken once would pass for unbroken after the next crash."""
    world = ahead()
    peers = [world.connect(), world.connect()]
    world.crash(unbroken=False)
    assert world.gateway.next_deadline == world.now
    world.restore()
    world.advance(0)
    assert world.gateway.next_deadline == world.now + world.config.resume_window
    assert [each.record["kind"] for each in world.records] == ["opened"] * 2 + ["epoch"] * 2
    world.crash()
    assert world.gateway.next_deadline == world.now + world.config.resume_window
    for peer in peers:
        back = again(world, peer, 0)
        assert back.welcome["resync_reason"] == "epoch_changed"


def test_who_waits_for_a_recovered_session_keeps_it_alive() -> None:
    world = ahead()
    peer = world.connect()
    world.crash(unbroken=False)
    world.late = True
    with pytest.raises(IndexError):
        again(world, peer, 0)
    world.advance(2 * world.config.resume_window)
    waiting = world.peers[max(world.peers)]
    world.confirm()
    assert kinds(waiting.take())[0] == "hello_ok"
    waiting.cut()
    world.advance(world.config.resume_window)
    assert world.gateway.session(peer.session_id) is None


def test_session_that_nobody_waits_for_any_longer_expires() -> None:
    world = ahead()
    peer = world.connect()
    world.crash(unbroken=False)
    world.late = True
    for _ in range(2):
        with pytest.raises(IndexError):
            again(world, peer, 0)
    for waiting in tuple(world.peers.values()):
        world.advance(2 * world.config.resume_window)
        assert world.gateway.session(peer.session_id) is not None
        waiting.cut()
    world.advance(world.config.resume_window)
    assert world.gateway.session(peer.session_id) is None
    world.confirm()
    assert len(world.told(SessionExpired)) == 1


def test_seq_of_an_event_that_was_lost_unseen_is_given_again() -> None:
    world = ahead()
    peer = world.connect()
    world.publish(peer.session_id)
    world.late = True
    world.publish(peer.session_id, "lost")
    world.crash(lost=1)
    world.late = False
    world.publish(peer.session_id, "kept")
    back = again(world, peer, 1)
    assert [frame["event"]["type"] for frame in only(back.take(), "replay")] == ["kept"]
    assert [each.number for each in world.records] == [1, 2, 3]


# -- requests ---------------------------------------------------------------------------------


def test_request_that_was_acknowledged_is_not_taken_again() -> None:
    world = ahead()
    peer = world.connect()
    peer.send("message", content="hi", request_id="r")
    world.crash()
    assert [each.request_id for each in world.gateway.pending(peer.session_id)] == ["r"]
    back = again(world, peer, 0)
    back.take()
    (ack,) = back.send("message", content="hi", request_id="r")
    assert ack["duplicate"] is True
    assert len(world.told(MessageReceived)) == 1
    (nack,) = back.send("message", content="other", request_id="r")
    assert nack["code"] == "request_conflict"


def test_message_that_was_done_is_not_pending() -> None:
    world, peer = lived()
    world.crash()
    pending = world.gateway.pending(peer.session_id)
    assert [each.message_id for each in pending] == [1, 3]
    assert [each.content for each in pending] == [{"text": "yes"}, "without an id"]
    world.give(Complete(session_id=peer.session_id, message_id=3))
    world.crash()
    assert [each.message_id for each in world.gateway.pending(peer.session_id)] == [1]


def test_question_stays_answered() -> None:
    world, peer = lived()
    world.crash()
    back = world.connect(session_id=peer.session_id, principal="p")
    back.take()
    (nack,) = back.send("message", content="no", request_id="s1", reply_to="q1")
    assert nack["code"] == "already_answered"
    assert kinds(back.send("message", content="no", request_id="s2", reply_to="q2")) == [
        "message_ack"
    ]


@pytest.mark.parametrize("every", [1, 1000])
def test_request_is_remembered_as_if_seen_at_the_recovery(every: int) -> None:
    world = ahead(checkpoint_every=every, request_ttl=10, resume_window=1000)
    peer = world.connect()
    peer.send("message", content="hi", request_id="r")
    world.advance(19)
    world.crash()
    for seconds, duplicate in ((19, True), (20, False)):
        world.advance(seconds)
        back = again(world, peer, 0)
        back.take()
        (ack,) = back.send("message", content="hi", request_id="r")
        assert ack["duplicate"] is duplicate
        back.cut()


@pytest.mark.parametrize("every", [1, 2, 1000])
def test_request_that_was_forgotten_takes_no_room_after_a_recovery(every: int) -> None:
    """Ten times `max_pending_requests` ids are remembered, whatever was stored."""
    world = ahead(checkpoint_every=every, max_pending_requests=1, request_ttl=10)
    peer = world.connect()

    def ask(who: Peer, request_id: str) -> str:
        (answer,) = who.send("message", content="hi", request_id=request_id)
        for each in world.gateway.pending(peer.session_id):
            world.give(Complete(session_id=peer.session_id, message_id=each.message_id))
        return str(answer["type"])

    peer.take()
    for number in range(10):
        assert ask(peer, f"old{number}") == "message_ack"
    assert ask(peer, "more") == "message_nack"
    world.advance(15)
    assert ask(peer, "old3") == "message_ack"  # seen again, so it stays
    world.advance(5)
    assert ask(peer, "old3") == "message_ack"
    for number in range(5):
        assert ask(peer, f"new{number}") == "message_ack"
    world.crash()
    back = again(world, peer, 0)
    back.take()
    for number in range(5, 9):
        assert ask(back, f"new{number}") == "message_ack"
    assert ask(back, "more") == "message_nack"
    (ack,) = back.send("message", content="hi", request_id="old3")
    assert ack["duplicate"] is True


def test_answer_to_a_question_that_was_let_go_while_it_waited_comes_back() -> None:
    world = ahead(retain=10)
    peer = world.connect()
    world.publish(peer.session_id, event_id="first", expects_reply=True)
    for number in range(999):
        world.publish(peer.session_id, event_id=f"q{number}", expects_reply=True)
    world.late = True
    world.publish(peer.session_id, event_id="one too many", expects_reply=True)
    peer.send("message", content="yes", request_id="r", reply_to="first")
    world.crash()
    assert [each.request_id for each in world.gateway.pending(peer.session_id)] == ["r"]


# -- the other ways to go on ------------------------------------------------------------------


def test_whole_state_may_be_recovered_too_and_is_stored_before_anybody_is_welcomed() -> None:
    world = ahead()
    peer = world.connect()
    world.publish(peer.session_id)
    world.late = True
    world.publish(peer.session_id)
    peer.send("message", content="hi", request_id="r")
    world.give(ChangeEpoch(session_id=peer.session_id))
    world.recover(unbroken=True)
    info = world.gateway.session(peer.session_id)
    assert info is not None
    assert (info.cursor, info.unstored) == (2, 0)
    assert info.epoch != peer.epoch
    assert [each.request_id for each in world.gateway.pending(peer.session_id)] == ["r"]
    world.late = False
    world.advance(0)
    back = world.connect(session_id=peer.session_id, epoch=info.epoch, since=1)
    assert seqs(back.take()) == [2]
    assert (world.records[-1].number, world.records[-1].record["kind"]) == (6, "session")


def test_store_may_be_taken_up_or_left() -> None:
    world = World.make()
    peer = world.connect()
    world.publish(peer.session_id)
    state = world.gateway.to_state(now=world.now)
    config = GatewayConfig(write_ahead=True)
    with pytest.raises(ValueError, match="write_ahead"):
        Gateway.from_state(config, state, now=START)
    taken_up = World(config, world.ids, Gateway.recover(config, state, now=START, unbroken=True))
    back = again(taken_up, peer, 0)
    assert seqs(back.take()) == [1]
    assert [(each.number, each.record["kind"]) for each in taken_up.records] == [(1, "session")]
    with pytest.raises(ValueError, match="write_ahead"):
        Gateway.from_state(world.config, taken_up.gateway.to_state(now=START), now=START)
    left = World(world.config, world.ids, Gateway(world.config))
    left.gateway = Gateway.recover_stored(world.config, taken_up.store(), now=START, unbroken=True)
    left.publish(peer.session_id)
    assert seqs(again(left, peer, 0).take()) == [1, 2]
    assert left.records == []


def test_session_that_was_ending_is_not_recovered() -> None:
    world = ahead(max_sessions=1)
    peer = world.connect()
    peer.cut()
    world.late = True
    world.advance(world.config.resume_window)
    world.recover()
    world.late = False
    assert not world.connect().closed


# -- the end of a session ---------------------------------------------------------------------


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_session_that_expired_is_gone_whatever_the_store_still_has_of_it(kept: int) -> None:
    world = ahead()
    peer = world.connect()
    world.publish(peer.session_id)
    peer.cut()
    world.advance(world.config.resume_window)
    gateway = recover(world.store()[-kept:])
    assert gateway.session_ids == ()


def test_sessions_come_back_in_the_order_of_their_first_record() -> None:
    world = ahead()
    peers = [world.connect(), world.connect(), world.connect()]
    for peer in reversed(peers):
        world.publish(peer.session_id)
    gateway = recover(world.store())
    assert gateway.session_ids == tuple(peer.session_id for peer in peers)


# -- what is refused --------------------------------------------------------------------------


OPENED = {"kind": "opened", "epoch": "E", "agent_id": "a", "principal": None}
EVENT = {"type": "note", "data": {}, "event_id": "e", "timestamp": 1.0}


def event(seq: Any, **fields: Any) -> Frame:
    return {"kind": "event", "seq": seq, "event": json.dumps(EVENT), **fields}


def message(message_id: Any = 1, **fields: Any) -> Frame:
    taken = {"type": "message", "content": "hi", "request_id": "r"}
    made = {"kind": "message", "message_id": message_id, "message": taken, "forgotten": []}
    return {**made, **fields}


def whole(**fields: Any) -> Frame:
    world, _ = lived(checkpoint_every=1)
    return {**world.store()[-1][2], **fields}


def journal(**fields: Any) -> Frame:
    record = whole()
    return {**record, "journal": {**record["journal"], **fields}}


BROKEN: dict[str, list[Frame]] = {
    "no kind": [{}],
    "a kind of another time": [{"kind": "sealed"}],
    "a kind that is none": [{"kind": ["event"]}],
    "a field too many": [{**OPENED, "color": "red"}],
    "a field too few": [{"kind": "opened", "epoch": "E", "agent_id": "a"}],
    "an epoch that is none": [{**OPENED, "epoch": ""}],
    "no beginning": [event(1)],
    "two beginnings": [OPENED, OPENED],
    "a seq too many": [OPENED, event(2)],
    "a seq twice": [OPENED, event(1), event(1)],
    "a seq that is none": [OPENED, event("1")],
    "an event that is no JSON": [OPENED, event(1, event="{")],
    "an event that is none": [OPENED, event(1, event='{"type":"note"}')],
    "an event that is no object": [OPENED, event(1, event="[]")],
    "a message too many": [OPENED, message(2)],
    "a message that is none": [OPENED, message(message={"content": 5})],
    "a message done that was never there": [OPENED, {"kind": "complete", "message_id": 1}],
    "a message done twice": [OPENED, message(), *[{"kind": "complete", "message_id": 1}] * 2],
    "an epoch without one": [OPENED, {"kind": "epoch"}],
    "something after the end": [OPENED, {"kind": "expired"}, event(1)],
    "an end that says more": [{"kind": "expired", "why": "time"}],
    "a journal that is none": [whole(journal={})],
    "a journal out of order": [journal(events=[[2, json.dumps(EVENT)], [1, json.dumps(EVENT)]])],
    "a journal past its cursor": [journal(cursor=1)],
    "a journal with a lost event past its cursor": [journal(lost=9)],
    "a journal whose event is none": [journal(events=[[1, "{}"]])],
    "a journal with an ended run of nothing": [journal(ended=[[9]])],
    "a journal with an ended run of what is durable": [journal(ended=[[1]])],
    "a journal with a run that lost what never was": [journal(open={"b": 9})],
    "an inbox that is none": [whole(inbox={})],
    "an unstored event that is none": [whole(unstored=["5"])],
    "a projection that is none": [whole(projection=[])],
}


@pytest.mark.parametrize("records", BROKEN.values(), ids=BROKEN)
def test_records_that_are_off_are_refused(records: list[Frame]) -> None:
    stored = [("s", number, record) for number, record in enumerate(records, start=1)]
    with pytest.raises(ValueError, match=r"record|session"):
        recover(stored)


@pytest.mark.parametrize(
    "numbers", [(2, 3, 4), (1, 3, 4), (1, 2, 4), (1, 1, 2), (2, 1, 3), (0, 1, 2), (1.0, 2, 3)]
)
def test_numbers_that_are_off_are_refused(numbers: tuple[Any, ...]) -> None:
    records = (OPENED, event(1), event(2))
    right = recover([("s", *each) for each in zip((1, 2, 3), records, strict=True)])
    assert right.session_ids == ("s",)
    with pytest.raises(ValueError, match="record"):
        recover([("s", *each) for each in zip(numbers, records, strict=True)])


def test_session_without_a_name_is_refused() -> None:
    stored: Any = [(5, 1, OPENED)]
    with pytest.raises(ValueError, match="id"):
        recover(stored)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
LIVED = lived(checkpoint_every=4)[0].store()


@given(st.data())
def test_whatever_is_in_the_store_gives_a_gateway_or_a_value_error(data: st.DataObject) -> None:
    """Records with anything in place of anything else; what comes of them can be used."""
    stored: Stored = json.loads(json.dumps(LIVED))
    begin = data.draw(st.integers(0, len(stored) - 1))
    stored = stored[begin : data.draw(st.integers(begin + 1, len(stored)))]
    for _ in range(data.draw(st.integers(1, 3))):
        at: Any = data.draw(st.sampled_from(stored))[2]
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(at[key], dict | list) or data.draw(st.booleans()):
                at[key] = data.draw(JSON)
                break
            at = at[key]
    try:
        gateway = recover(stored)
    except ValueError:
        return
    world = World(gateway.config, Ids(last=2000), gateway)
    for session_id in gateway.session_ids:
        world.publish(session_id)
        world.give(ChangeEpoch(session_id=session_id))
        for pending in gateway.pending(session_id):
            world.give(Complete(session_id=session_id, message_id=pending.message_id))
    world.give(Persisted(session_id="gone", number=1))
    world.advance(1000)
    assert gateway.session_ids == ()

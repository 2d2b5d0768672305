"""Snapshots that the application builds while the world moves on."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto import ErrorCode, Gateway, GatewayConfig, LocalProtocolError
from gatewayproto.actions import (
    CommandDropped,
    SessionExpired,
    SnapshotNeeded,
    SubscriberJoined,
)
from gatewayproto.inputs import ChangeEpoch, CloseSession, Reject, SnapshotReady
from tests.gateway.gwworld import Frame, Peer, World, kinds, only, seqs

INTERNAL_ERROR = 4004


def building(events: int = 5, *, auto: bool = True, **options: Any) -> tuple[World, Peer]:
    world = World.make(application_snapshots=True, **options)
    peer = world.connect(auto=auto)
    for _ in range(events):
        world.publish(peer.session_id)
    peer.drain_all()
    return world, peer


def ready(world: World, cursor: int | None = None, **fields: Any) -> None:
    """Answer what was asked last, as of `cursor` or of the head that was asked for."""
    asked = world.told(SnapshotNeeded)[-1]
    at = asked.cursor if cursor is None else cursor
    given: dict[str, Any] = {
        "session_id": asked.session_id,
        "epoch": asked.epoch,
        "cursor": at,
        "state": {"upto": at},
        **fields,
    }
    world.give(SnapshotReady(**given))


def attach(world: World, peer: Peer, *, auto: bool = True, **fields: Any) -> Peer:
    """A second follower, whose welcome may have to wait."""
    other = world.open(auto=auto)
    other.send("hello", agent_id="agent", protocol_min=2, protocol_max=2, **fields,
               session_id=peer.session_id)  # fmt: skip
    world.accept(other)
    return other


def snapshot_of(frames: list[Frame]) -> Frame:
    (found,) = only(frames, "snapshot")
    return found


# -- from the need to the snapshot ------------------------------------------------------------


def test_nothing_of_the_session_goes_out_between_the_need_and_the_snapshot() -> None:
    world, peer = building()
    assert peer.send("resync", nonce="n") == []
    (needed,) = world.hear(SnapshotNeeded)
    assert (needed.session_id, needed.cursor, needed.attempt) == (peer.session_id, 5, 1)
    for _ in range(3):
        world.publish(peer.session_id)
    assert peer.take() == []
    assert kinds(peer.send("ping", nonce="p")) == ["pong"]
    ready(world, 6)
    frames = peer.take()
    assert kinds(frames) == ["snapshot", "caught_up", "event", "event"]
    assert snapshot_of(frames) == {
        "type": "snapshot", "cursor": 6, "epoch": peer.epoch, "reason": "requested", "nonce": "n",
        "state": {"upto": 6},
    }  # fmt: skip
    assert seqs(frames) == [7, 8]
    assert only(frames, "caught_up")[0]["nonce"] == "n"


def test_one_question_to_the_application_for_all_who_wait() -> None:
    world, first = building()
    others = [world.connect(session_id=first.session_id, epoch=first.epoch, since=5) for _ in "ab"]
    for peer in (first, *others):
        peer.take()
        peer.send("resync", nonce="n")
    assert len(world.hear(SnapshotNeeded)) == 1
    ready(world)
    for peer in (first, *others):
        assert snapshot_of(peer.take())["cursor"] == 5


def test_recovery_that_comes_meanwhile_is_merged_and_answered_with_its_nonce() -> None:
    world, peer = building()
    peer.send("resync", nonce="a")
    peer.send("resume", epoch=peer.epoch, since=2, nonce="b")
    ready(world)
    frames = peer.take()
    assert kinds(frames) == ["snapshot", "caught_up"]
    assert [frame["nonce"] for frame in frames] == ["b", "b"]
    assert len(world.hear(SnapshotNeeded)) == 1


# -- what is refused --------------------------------------------------------------------------


def test_state_that_was_kept_of_a_former_epoch_serves_nobody() -> None:
    world, peer = building()
    peer.send("resync", nonce="n")
    ready(world)
    assert snapshot_of(peer.take())["epoch"] == peer.epoch
    world.give(ChangeEpoch(session_id=peer.session_id))
    assert peer.take() == []
    assert world.told(SnapshotNeeded)[-1].epoch != peer.epoch
    ready(world)
    assert snapshot_of(peer.take())["epoch"] == world.told(SnapshotNeeded)[-1].epoch


def test_who_was_given_a_new_session_in_place_of_a_lost_one_is_taken_nowhere_back_either() -> None:
    world = World.make(application_snapshots=True)
    peer = world.connect(session_id="gone", epoch="e", since=7)
    for _ in range(3):
        world.publish(peer.session_id)
    peer.take()
    peer.send("resync", nonce="n")
    ready(world, 2)
    assert peer.take() == []
    ready(world, 3)
    assert snapshot_of(peer.take())["cursor"] == 3


def test_state_that_the_journal_cannot_go_on_from_is_asked_for_again() -> None:
    world, peer = building(retain=2)
    late = attach(world, peer, since=1, epoch=peer.epoch)
    assert late.take() == []
    ready(world, 2)
    assert late.take() == []
    assert [each.attempt for each in world.hear(SnapshotNeeded)] == [1, 2]
    ready(world, 3)
    frames = late.take()
    assert kinds(frames) == ["hello_ok", "snapshot", "replay", "replay", "caught_up"]
    assert frames[0]["resync_reason"] == "trimmed"
    assert frames[0]["sequence"] == frames[1]["cursor"] == 3
    assert world.hear(SubscriberJoined)[-1].sequence == 3


def test_lagging_subscriber_is_sent_no_state_that_would_leave_it_lagging() -> None:
    world, peer = building(retain=2, send_window=1)
    peer.auto = False
    for _ in range(6):
        world.publish(peer.session_id)
    assert seqs(peer.drain_all()) == [6]
    ready(world, 8)
    assert peer.take() == []
    assert [each.attempt for each in world.hear(SnapshotNeeded)] == [1, 2]
    ready(world, 9)
    frames = peer.drain_all()
    assert (snapshot_of(frames)["reason"], snapshot_of(frames)["cursor"]) == ("lagged", 9)
    assert seqs(frames) == [10, 11]


def test_state_behind_what_the_connection_was_sent_is_refused_even_after_a_resume() -> None:
    world, peer = building(7, send_window=1)
    peer.auto = False
    assert seqs(peer.send("resume", epoch=peer.epoch, since=4, nonce="n")) == [5]
    peer.send("resync", nonce="m")
    peer.drain_all()
    ready(world, 6)
    assert peer.drain_all() == []
    assert [each.attempt for each in world.hear(SnapshotNeeded)] == [1, 2]
    ready(world, 7)
    assert snapshot_of(peer.drain_all())["reason"] == "requested"


def test_handshake_that_asks_for_a_snapshot_gets_none_behind_its_own_cursor() -> None:
    world, peer = building()
    other = attach(world, peer, since=4, epoch=peer.epoch, start="snapshot")
    ready(world, 3)
    assert other.take() == []
    ready(world, 4)
    assert [each["cursor"] for each in only(other.take(), "snapshot")] == [4]


def test_event_too_large_for_a_peer_is_covered_by_a_state_at_or_past_it() -> None:
    world, peer = building(0)
    small = world.connect(session_id=peer.session_id, max_payload=1024)
    small.take()
    world.publish(peer.session_id, data={"text": "x" * 3000})
    world.publish(peer.session_id)
    ready(world, 0)
    assert small.take() == []
    ready(world, 1)
    frames = small.take()
    assert kinds(frames) == ["snapshot", "event"]
    assert frames[0]["cursor"] == 1


def test_application_that_never_gets_it_right_costs_the_connection_and_no_more() -> None:
    world, peer = building(max_snapshot_tries=3)
    bystander = world.connect(session_id=peer.session_id, epoch=peer.epoch, since=5)
    bystander.take()
    late = attach(world, peer, since=4, epoch=peer.epoch, start="snapshot")
    peer.send("resync")
    for _ in range(3):
        assert not peer.closed
        ready(world, 2)
    assert [each.attempt for each in world.hear(SnapshotNeeded)] == [1, 2, 3]
    assert peer.code == late.code == INTERNAL_ERROR
    assert late.take()[-1]["code"] == "internal_error"
    assert not bystander.closed
    world.publish(peer.session_id)
    assert seqs(bystander.take()) == [6]


def test_application_that_does_not_answer_in_time_costs_the_connection() -> None:
    world, peer = building(snapshot_timeout=3.0)
    late = attach(world, peer, start="snapshot")
    peer.send("resync")
    world.advance(2.9)
    assert not peer.closed
    assert not late.closed
    world.advance(0.2)
    assert peer.code == late.code == INTERNAL_ERROR
    again = attach(world, peer, start="snapshot")
    assert world.hear(SnapshotNeeded)[-1].attempt == 1
    ready(world)
    assert kinds(again.take()) == ["hello_ok", "snapshot", "caught_up"]


def test_peer_that_has_no_room_is_not_closed_for_the_applications_fault() -> None:
    world, peer = building(snapshot_timeout=3.0, send_window=1)
    slow = world.connect(session_id=peer.session_id, epoch=peer.epoch, since=0, auto=False)
    assert slow.owed, "it has not even taken its welcome"
    slow.send("resync")
    peer.send("resync")
    world.advance(3.1)
    assert peer.closed
    assert not slow.closed


# -- what is kept, what is late ---------------------------------------------------------------


def test_state_given_unasked_serves_whoever_needs_one_later() -> None:
    world, peer = building()
    world.give(
        SnapshotReady(session_id=peer.session_id, epoch=peer.epoch, cursor=4, state={"upto": 4})
    )
    late = attach(world, peer, start="snapshot")
    assert kinds(late.take()) == ["hello_ok", "snapshot", "replay", "caught_up"]
    assert world.hear(SnapshotNeeded) == []


def test_epoch_change_asks_for_a_state_of_the_new_epoch_and_takes_no_other() -> None:
    world, peer = building()
    late = attach(world, peer, start="snapshot")
    peer.send("resync", nonce="n")
    old = world.hear(SnapshotNeeded)[-1]
    world.give(ChangeEpoch(session_id=peer.session_id))
    new = world.hear(SnapshotNeeded)[-1]
    assert (new.epoch != old.epoch, new.attempt) == (True, 1)
    ready(world, epoch=old.epoch)
    assert peer.take() == late.take() == []
    ready(world, 2)
    for each, reason in ((peer, "epoch_changed"), (late, "requested")):
        snapshot = snapshot_of(each.take())
        assert (snapshot["epoch"], snapshot["cursor"]) == (new.epoch, 2)
        assert snapshot["reason"] == reason


def test_session_does_not_expire_while_a_welcome_waits_and_does_after_it_left() -> None:
    world, peer = building(resume_window=5.0, snapshot_timeout=100.0)
    late = attach(world, peer, start="snapshot")
    peer.cut()
    world.advance(20)
    assert world.hear(SessionExpired) == []
    late.cut()
    world.advance(5.1)
    assert len(world.hear(SessionExpired)) == 1
    world.give(SnapshotReady(session_id=peer.session_id, epoch=peer.epoch, cursor=0, state={}))
    assert [each.command for each in world.hear(CommandDropped)] == ["snapshot_ready"]


def test_session_that_was_closed_expires_once_the_last_welcome_no_longer_waits() -> None:
    world, peer = building(resume_window=5.0, snapshot_timeout=100.0)
    late = attach(world, peer, start="snapshot")
    world.give(CloseSession(session_id=peer.session_id))
    assert peer.code == 4508
    world.advance(20)
    assert world.hear(SessionExpired) == []
    late.cut()
    assert len(world.hear(SessionExpired)) == 1


def test_closed_session_is_left_with_its_snapshot_and_what_follows() -> None:
    world, peer = building()
    late = attach(world, peer, start="snapshot")
    peer.send("resync")
    world.give(CloseSession(session_id=peer.session_id))
    assert not peer.closed
    ready(world, 3)
    assert kinds(late.take()) == ["hello_ok", "snapshot", "replay", "replay", "caught_up"]
    ready(world, 5)
    assert kinds(peer.take()) == ["snapshot", "caught_up"]
    assert peer.code == late.code == 4508


def test_application_may_change_its_mind_while_the_welcome_waits() -> None:
    world, peer = building()
    late = attach(world, peer, start="snapshot")
    world.give(Reject(connection=late.number, code=ErrorCode.AUTH_UNAUTHORIZED))
    assert late.take()[-1]["code"] == "auth_unauthorized"
    ready(world)
    assert kinds(peer.take()) == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"cursor": 6}, "the session is at 5"),
        ({"cursor": -1}, "the session is at 5"),
        ({"state": {"x": float("nan")}}, "cannot be sent"),
        ({"state": {"x": "y" * 200}}, "over 100"),
    ],
)
def test_what_cannot_be_a_snapshot_is_the_callers_mistake(fields: Any, why: str) -> None:
    world, peer = building(max_snapshot=100)
    peer.send("resync")
    before = world.state()
    with pytest.raises(LocalProtocolError, match=why):
        ready(world, **fields)
    assert world.state() == before


def test_gateway_with_a_projection_takes_no_states() -> None:
    world = World.make()
    peer = world.connect()
    with pytest.raises(LocalProtocolError, match="projection"):
        world.give(SnapshotReady(session_id=peer.session_id, epoch=peer.epoch, cursor=0, state={}))


def test_version_1_gets_the_state_as_its_snapshot() -> None:
    world, peer = building(retain=1)
    late = world.open()
    late.send("join", agent_id="agent", session_id=peer.session_id, since=1)
    world.accept(late)
    ready(world, 4)
    welcome, snapshot, event = late.take()
    assert (welcome["cursor"], welcome["sequence"], welcome["head"]) == (1, 4, 5)
    assert (snapshot["state"]["upto"], snapshot["state"]["event_cursor"]) == (4, 4)
    assert event["seq"] == 5


# -- as a law ---------------------------------------------------------------------------------


class Law:
    """A follower that asks for much, an application that answers anything, and others who join."""

    def __init__(self) -> None:
        self.world, self.peer = building(
            3, retain=2, send_window=400, max_lags=1000, max_snapshot_tries=1000
        )
        self.followers = [self.peer]

    def publish(self, _: int) -> None:
        self.world.publish(self.peer.session_id)

    def resync(self, _: int) -> None:
        self.peer.send("resync", nonce="n")

    def resume(self, since: int) -> None:
        self.peer.send("resume", epoch=self.peer.epoch, since=since, nonce="m")

    def drain(self, _: int) -> None:
        self.peer.auto = not self.peer.auto
        self.peer.drain()

    def move(self, later: int) -> None:
        self.world.restore(later=later)

    def epoch(self, _: int) -> None:
        self.world.give(ChangeEpoch(session_id=self.peer.session_id))

    def attach(self, _: int) -> None:
        self.followers.append(attach(self.world, self.peer, start="snapshot"))

    def come_late(self, since: int) -> None:
        self.followers.append(attach(self.world, self.peer, since=since, epoch=self.peer.epoch))

    def ready(self, cursor: int) -> None:
        if asked := self.world.told(SnapshotNeeded):
            ready(self.world, min(cursor, asked[-1].cursor))

    def settle(self) -> None:
        """The application answers rightly, and everybody reads."""
        for _ in range(10):
            self.ready(2**53)
            for each in self.followers:
                each.drain_all()


DEEDS = ("publish", "resync", "resume", "drain", "move", "epoch", "attach", "come_late", "ready")


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 12)), max_size=30))
def test_whatever_the_application_answers_everything_is_accounted_for(
    deeds: list[tuple[str, int]],
) -> None:
    """Whoever reads on is at the head at the end, and never went back or past a hole."""
    law = Law()
    for deed, number in deeds:
        getattr(law, deed)(number)
    law.settle()
    info = law.world.gateway.session(law.peer.session_id)
    assert info is not None
    for follower in law.followers:
        assert not follower.closed
        assert account(follower) == info.cursor


def account(peer: Peer) -> int:
    """Where a client is that does what it is told; the frames leave it no doubt."""
    cursor = 0
    reached = 0
    epoch: object = None
    for frame in peer.frames:
        match frame["type"]:
            case "hello_ok":
                cursor = reached = frame["sequence"]
                epoch = frame["epoch"]
            case "snapshot":
                if frame["epoch"] == epoch:
                    assert frame["cursor"] >= reached, "back behind what it was sent"
                else:
                    reached = 0
                epoch, cursor = frame["epoch"], frame["cursor"]
            case "skip":
                assert frame["first"] <= cursor + 1
                cursor = max(cursor, frame["last"])
            case "event" | "replay":
                assert frame["seq"] <= cursor + 1, "a hole"
                cursor = max(cursor, frame["seq"])
            case _:
                pass
        reached = max(reached, cursor)
    return cursor


# -- where the gateway writes ahead -----------------------------------------------------------


def test_state_with_events_that_are_not_stored_waits_for_the_store() -> None:
    world, peer = building(write_ahead=True)
    late = attach(world, peer, start="snapshot")
    world.late = True
    world.publish(peer.session_id)
    ready(world, 6)
    assert late.take() == []
    assert [each.attempt for each in world.hear(SnapshotNeeded)] == [1]
    world.confirm()
    frames = late.take()
    assert kinds(frames) == ["hello_ok", "snapshot", "caught_up"]
    assert frames[1]["cursor"] == 6


def test_closing_is_stored_before_anybody_is_closed_and_outlives_a_crash() -> None:
    world, peer = building(write_ahead=True)
    world.late = True
    world.publish(peer.session_id)
    world.give(CloseSession(session_id=peer.session_id))
    world.publish(peer.session_id)
    assert [each.command for each in world.hear(CommandDropped)] == ["publish"]
    assert kinds(peer.send("message", content="hi", request_id="r")) == ["message_nack"]
    assert not peer.closed
    world.confirm()
    assert kinds(peer.take()) == ["event"]
    assert peer.code == 4508
    world.crash(unbroken=True)
    again = attach(world, peer, since=5, epoch=peer.epoch)
    assert seqs(again.take()) == [6]
    assert again.code == 4508


# -- several things in one turn ---------------------------------------------------------------


def test_epoch_that_ends_a_closed_session_with_its_last_reader() -> None:
    world = World.make(send_window=1, resume_window=8.0, heartbeat=500.0, stall_timeout=1000.0)
    peer = world.connect(1, auto=False)
    world.publish(peer.session_id)
    world.give(CloseSession(session_id=peer.session_id))
    world.advance(9.0)
    world.give(ChangeEpoch(session_id=peer.session_id))
    assert peer.code == 1012
    assert len(world.hear(SessionExpired)) == 1


@pytest.mark.parametrize("write_ahead", [False, True])
def test_reader_of_a_closed_session_gets_the_rest_whose_snapshot_came_after_the_window(
    write_ahead: bool,
) -> None:
    world, peer = building(resume_window=5.0, snapshot_timeout=100.0, write_ahead=write_ahead)
    world.give(CloseSession(session_id=peer.session_id))
    late = attach(world, peer, start="snapshot")
    world.advance(20.0)
    ready(world, 3)
    frames = late.take()
    assert kinds(frames) == ["hello_ok", "snapshot", "replay", "replay", "caught_up"]
    assert frames[0]["resumed"] is True
    assert late.code == 4508
    assert len(world.hear(SessionExpired)) == 1


def test_epoch_that_changes_while_a_state_waits_for_the_store_asks_once_for_the_new_one() -> None:
    world, peer = building(write_ahead=True, max_snapshot_tries=1)
    peer.send("resync")
    old = world.hear(SnapshotNeeded)[-1]
    world.late = True
    world.give(ChangeEpoch(session_id=peer.session_id))
    world.publish(peer.session_id)
    ready(world, 6, epoch=old.epoch)
    world.confirm()
    (needed,) = world.hear(SnapshotNeeded)
    assert (needed.attempt, needed.epoch != old.epoch) == (1, True)
    assert not peer.closed


def test_application_that_was_in_time_is_not_blamed_for_the_store() -> None:
    world, peer = building(write_ahead=True, snapshot_timeout=3.0)
    late = attach(world, peer, start="snapshot")
    world.late = True
    world.publish(peer.session_id)
    ready(world, 6)
    world.advance(4.0)
    assert not late.closed
    world.confirm()
    assert kinds(late.take())[:2] == ["hello_ok", "snapshot"]


def test_credentials_that_expire_before_the_welcome_end_the_wait() -> None:
    world, peer = building(snapshot_timeout=100.0)
    late = world.open()
    late.send(
        "hello", agent_id="agent", protocol_min=2, protocol_max=2, start="snapshot",
        session_id=peer.session_id,
    )  # fmt: skip
    world.accept(late, expires_in=3.0)
    world.advance(2.0)
    assert not late.closed
    world.advance(1.5)
    assert (late.code, late.take()[-1]["code"]) == (4006, "auth_expired")


def test_snapshot_that_comes_after_the_credentials_have_expired_is_for_nobody() -> None:
    world, peer = building(snapshot_timeout=100.0)
    late = world.open()
    late.send(
        "hello", agent_id="agent", protocol_min=2, protocol_max=2, start="snapshot",
        session_id=peer.session_id,
    )  # fmt: skip
    world.accept(late, expires_in=3.0)
    world.now += 5.0
    ready(world)
    assert kinds(late.take()) == ["hello_error"]
    assert late.code == 4006


def test_ping_says_where_a_peer_stands_that_got_half_a_snapshot_of_the_former_epoch() -> None:
    world, peer = building(0, send_window=1, heartbeat=8.0, snapshot_timeout=1e6)
    small = world.connect(session_id=peer.session_id, max_payload=1024, auto=False)
    small.drain_all()
    for _ in range(3):
        world.publish(peer.session_id)
    small.drain_all()
    small.send("resync")
    ready(world, state={"text": "x" * 5000})
    assert small.owed
    world.give(ChangeEpoch(session_id=peer.session_id))
    small.drain()
    world.advance(9.0)
    pings = only(small.take(), "ping")
    assert [each["cursor"] for each in pings] == [3]


def test_closing_answers_what_is_stored_before_it_closes() -> None:
    world, peer = building(write_ahead=True)
    world.late = True
    first = world.connect(session_id=peer.session_id, epoch=peer.epoch, since=5)
    first.send("message", content="hi", request_id="r")
    first.cut()
    world.publish(peer.session_id)
    assert peer.send("message", content="hi", request_id="r") == []
    world.give(CloseSession(session_id=peer.session_id))
    world.confirm()
    acks = only(peer.take(), "message_ack")
    assert [each["request_id"] for each in acks] == ["r"]
    assert peer.code == 4508


def test_state_of_another_way_to_build_snapshots_is_refused() -> None:
    world, _ = building()
    state = world.gateway.to_state(now=world.now)
    for config in (GatewayConfig(), GatewayConfig(application_snapshots=True)):
        if config.application_snapshots:
            assert Gateway.recover(config, state, now=0.0).session_ids
        else:
            with pytest.raises(ValueError, match="application_snapshots"):
                Gateway.recover(config, state, now=0.0)


@pytest.mark.parametrize("how", ["moved", "recovered"])
def test_closing_that_waits_for_the_store_is_not_forgotten(how: str) -> None:
    world, peer = building(write_ahead=True, checkpoint_every=1)
    world.late = True
    world.publish(peer.session_id)
    world.give(CloseSession(session_id=peer.session_id))
    if how == "moved":
        world.restore(later=512.0)
        world.confirm()
        assert seqs(peer.take()) == [6]
        assert peer.code == 4508
    else:
        world.recover(unbroken=True)
        world.late = False
        world.confirm()
        again = attach(world, peer, since=5, epoch=peer.epoch)
        world.confirm()
        assert seqs(again.drain_all()) == [6]
        assert again.code == 4508


def test_session_whose_states_the_application_builds_is_stored_whole_without_any() -> None:
    world, peer = building(write_ahead=True, checkpoint_every=1)
    world.crash(unbroken=True)
    again = attach(world, peer, since=3, epoch=peer.epoch)
    assert seqs(again.take()) == [4, 5]

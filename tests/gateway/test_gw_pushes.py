"""Presence and health as pushes: the latest state, to who has room, and never in an event's way."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto import GatewayConfig
from gatewayproto.actions import SendFrames, SessionExpired, SubscriberJoined, SubscriberLeft
from gatewayproto.inputs import CloseSession, SetHealth, TimerExpired
from tests.gateway.gwworld import PUSHES, Frame, Peer, World, kinds, only, seqs


def pushes(peer: Peer) -> list[Frame]:
    return only(peer.take(), *PUSHES)


def client_id(peer: Peer) -> str:
    joined = peer.world.told(SubscriberJoined)
    return next(each.client_id for each in joined if each.connection == peer.number)


def follow(world: World, first: Peer | None = None, version: int = 2, **fields: Any) -> Peer:
    """A connection to that session, or to a new one; all that came with its welcome is taken."""
    if first is not None:
        fields["session_id"] = first.session_id
    peer = world.connect(version, **fields)
    peer.take()
    return peer


# -- presence ---------------------------------------------------------------------------------


def test_who_comes_is_told_to_the_others_and_who_leaves_to_those_that_stay() -> None:
    world = World.make()
    one = follow(world)
    two = follow(world, one, client={"name": "tab"})
    world.advance(0)  # the first change after a quiet time is told at the next turn
    (push,) = pushes(one)
    entry = two.welcome["presence"][-1]
    assert entry["client_id"] == client_id(two)
    assert push == {
        "type": "presence", "version": 2, "from_version": 1, "joined": [entry], "left": [],
    }  # fmt: skip
    assert pushes(two) == []  # it has itself in its own welcome
    world.advance(1)
    two.cut()
    world.advance(0)
    (push,) = pushes(one)
    assert (push["version"], push["from_version"]) == (3, 2)
    assert (push["joined"], push["left"]) == ([], [entry["client_id"]])


def test_changes_within_the_interval_go_together_after_it() -> None:
    world = World.make(push_interval=2.0)
    one = follow(world)
    follow(world, one)
    world.advance(0)
    assert len(pushes(one)) == 1
    world.advance(0.5)
    three, four = follow(world, one), follow(world, one)
    world.advance(1.499)
    assert pushes(one) == pushes(three) == []
    world.advance(0.001)
    (push,) = pushes(one)
    assert (push["version"], push["from_version"]) == (4, 2)
    assert [each["client_id"] for each in push["joined"]] == [client_id(three), client_id(four)]


def test_who_came_in_between_gets_the_whole_list() -> None:
    world = World.make()
    one = follow(world)
    two = follow(world, one)
    three = follow(world, one)
    world.advance(0)
    assert pushes(three) == []  # its welcome had everything
    (push,) = pushes(two)
    assert push == {"type": "presence", "version": 3, "entries": three.welcome["presence"]}


def test_who_comes_and_leaves_within_the_interval_is_not_told_but_counted() -> None:
    world = World.make()
    one, other = follow(world), None
    follow(world, one).cut()
    world.advance(5)
    assert pushes(one) == []
    other = follow(world, one)
    assert other.welcome["presence_version"] == 4
    world.advance(0)
    (push,) = pushes(one)
    assert (push["from_version"], push["version"]) == (1, 4)
    assert [each["client_id"] for each in push["joined"]] == [client_id(other)]
    assert push["left"] == []


def test_a_storm_costs_one_push_for_each_interval() -> None:
    world = World.make(push_interval=1.0, presence_max=200)
    one = follow(world)
    for _ in range(100):
        follow(world, one)
        world.advance(1 / 32)
    world.advance(1)
    told = pushes(one)
    # One at once, one a second, one for the rest.
    assert 3 <= len(told) <= 5
    assert told[-1]["version"] == 101
    assert sum(len(push["joined"]) for push in told) == 100


def test_all_who_know_the_same_get_the_same_bytes_by_one_action() -> None:
    world = World.make()
    one = follow(world)
    rest = [follow(world, one) for _ in range(3)]
    world.advance(1)
    follow(world, one)
    (action,) = [a for a in world.give(TimerExpired()) if isinstance(a, SendFrames)]
    assert action.connections == tuple(peer.number for peer in (one, *rest))
    assert len(action.frames) == 1


def test_above_its_bound_the_list_is_a_count() -> None:
    world = World.make(presence_max=2)
    one = follow(world)
    two = follow(world, one)
    world.advance(1)
    one.take()
    three = follow(world, one)
    world.advance(0)
    for peer in (one, two):
        assert pushes(peer) == [{"type": "presence", "version": 3, "presence_count": 3}]
    assert pushes(three) == []
    world.advance(1)
    two.cut()
    world.advance(0)
    # Neither knows a list that a change could be of.
    listed = follow(world, one).welcome
    assert "presence" not in listed
    for peer in (one, three):
        (push,) = pushes(peer)
        assert [each["client_id"] for each in push["entries"]] == [client_id(one), client_id(three)]
        assert push["version"] == 4


def test_a_list_that_a_peer_could_not_take_is_a_count() -> None:
    world = World.make()
    small = follow(world, max_payload=1024)
    large = follow(world, small)
    world.advance(1)
    pushes(small)
    pushes(large)
    wide = {"name": "x" * 256, "version": "y" * 256}
    for _ in range(3):
        follow(world, small, client=wide)
    world.advance(1)
    assert pushes(small) == [{"type": "presence", "version": 5, "presence_count": 5}]
    assert len(pushes(large)[0]["joined"]) == 3


def test_a_change_too_large_for_a_peer_that_knows_the_list_is_told_as_the_list() -> None:
    world = World.make()
    small = follow(world, max_payload=4096)
    others = [follow(world, small) for _ in range(50)]
    world.advance(1)
    assert [set(push) for push in pushes(small)] == [
        {"type", "version", "from_version", "joined", "left"}
    ]
    # More come and go than a frame has room for, while the list stays short.
    for peer in others:
        peer.cut()
    wide = {"name": "x" * 256, "version": "y" * 256}
    newer = [follow(world, small, client=wide) for _ in range(6)]
    newer += [follow(world, small) for _ in range(3)]
    world.advance(1)
    (push,) = pushes(small)
    assert len(push["entries"]) == 1 + len(newer)


# -- room -------------------------------------------------------------------------------------


def test_without_room_the_latest_list_comes_once_there_is() -> None:
    world = World.make(send_window=600)
    one = follow(world, auto=False)
    one.drain_all()
    world.publish(one.session_id, data={"text": "x" * 500})
    assert seqs(one.take()) == [1]
    for _ in range(2):
        follow(world, one).cut()
        follow(world, one)
        world.advance(1)
    two = follow(world, one)
    world.advance(1)
    assert one.take() == []
    frames = one.drain()
    (push,) = frames
    assert push["version"] == two.welcome["presence_version"]
    assert len(push["entries"]) == 4
    # And from there on it is told of changes again.
    world.advance(1)
    one.drain_all()
    two.cut()
    world.advance(1)
    (push,) = one.take()
    assert push["left"] == [client_id(two)]


def test_events_go_before_a_push_and_need_no_room_for_it() -> None:
    world = World.make(send_window=600)
    one = follow(world, auto=False)
    one.drain_all()
    for _ in range(4):
        world.publish(one.session_id, data={"text": "x" * 300})
    follow(world, one)
    world.give(SetHealth(health={"ok": True}))
    world.advance(1)
    frames = one.drain_all()
    assert seqs(frames) == [1, 2, 3, 4]
    assert kinds(frames)[-2:] == ["presence", "health"]


def test_a_push_waits_for_the_end_of_a_snapshot_in_parts() -> None:
    world = World.make(send_window=1)
    one = follow(world)
    for _ in range(4):
        world.publish(one.session_id, data={"text": "x" * 500})
    late = follow(world, one, start="snapshot", max_payload=1024, auto=False)
    world.advance(0)
    two = follow(world, one)
    world.advance(1)
    frames = late.drain_all()
    assert "presence" in kinds(frames)
    last_part = max(i for i, frame in enumerate(frames) if frame["type"] == "snapshot")
    assert kinds(frames).index("presence") > last_part
    assert kinds(frames).index("caught_up") < kinds(frames).index("presence")
    assert only(frames, "presence")[0]["entries"][-1]["client_id"] == client_id(two)


def test_a_push_moves_no_cursor_and_is_no_event() -> None:
    world = World.make(heartbeat=4.0)
    one = follow(world)
    world.publish(one.session_id)
    two = follow(world, one)
    world.give(SetHealth(health={"ok": True}))
    world.advance(4)
    assert [frame["cursor"] for frame in only(one.take(), "ping")] == [1]
    assert seqs(two.take()) == []


# -- who is told ------------------------------------------------------------------------------


def test_nobody_is_told_of_another_session() -> None:
    world = World.make()
    one, other = follow(world), follow(world)
    follow(world, one)
    world.advance(5)
    assert len(pushes(one)) == 1
    assert pushes(other) == []


def test_version_1_is_listed_and_told_nothing() -> None:
    world = World.make()
    old = follow(world, version=1)
    assert world.gateway.next_deadline == world.now + 30.0
    one = follow(world, old)
    assert len(one.welcome["presence"]) == 2
    world.advance(1)
    follow(world, old, version=1)
    world.give(SetHealth(health={"ok": True}))
    world.advance(1)
    assert pushes(old) == []
    (push, _) = pushes(one)
    assert len(push["joined"]) == 1


def test_without_an_interval_there_are_no_pushes() -> None:
    world = World.make(push_interval=None)
    one = follow(world)
    two = follow(world, one)
    world.give(SetHealth(health={"ok": True}))
    assert world.gateway.next_deadline == world.now + 30.0
    world.advance(10)
    assert pushes(one) == pushes(two) == []
    assert "presence" not in one.welcome["features"]["events"]
    pushed = follow(World.make()).welcome["features"]
    assert {"presence", "health"} <= {*pushed["events"]}
    assert {"auth", "abort"} <= {*pushed["methods"]}
    old = follow(World.make(), version=1).welcome["features"]
    assert not {"presence", "health"} & {*old["events"]}
    assert "abort" in old["methods"]
    assert "auth" not in old["methods"]


def test_a_machine_that_is_moved_under_a_configuration_without_pushes_sends_none() -> None:
    world = World.make()
    one = follow(world)
    follow(world, one)
    world.give(SetHealth(health={"ok": True}))
    world.config = GatewayConfig(push_interval=None)
    world.restore()
    world.advance(5)
    assert pushes(one) == []


def test_nobody_waits_to_tell_a_session_that_is_empty() -> None:
    world = World.make(resume_window=50)
    one = follow(world)
    two = follow(world, one)
    one.cut()
    two.cut()
    assert world.gateway.next_deadline == world.now + 50.0
    world.advance(100)
    assert world.gateway.session_ids == ()
    assert world.gateway.next_deadline is None


def test_a_recovered_gateway_begins_with_what_welcomes_say() -> None:
    world = World.make()
    one = follow(world)
    follow(world, one)
    world.give(SetHealth(health={"a": 1}))
    world.recover()
    back = follow(world, one)
    assert (back.welcome["presence_version"], back.welcome["presence_count"]) == (3, 1)
    world.advance(10)
    assert pushes(back) == []
    follow(world, one)
    world.advance(0)
    (push,) = pushes(back)
    assert (push["from_version"], push["version"]) == (3, 4)


# -- health -----------------------------------------------------------------------------------


def test_health_is_told_to_all_sessions_by_one_action() -> None:
    world = World.make(push_interval=2.0)
    one, other = follow(world), follow(world)
    world.give(SetHealth(health={"load": 1}))
    (action,) = world.give(TimerExpired())
    assert isinstance(action, SendFrames)
    assert action.connections == (one.number, other.number)
    told = {"type": "health", "version": 1, "health": {"load": 1}}
    assert pushes(one) == pushes(other) == [told]
    for load in (2, 3, 4):
        world.give(SetHealth(health={"load": load}))
    world.advance(1.999)
    assert pushes(one) == []
    world.advance(0.001)
    assert pushes(one) == [{"type": "health", "version": 4, "health": {"load": 4}}]
    world.advance(10)
    world.give(SetHealth(health={}))
    world.advance(0)
    assert [push["version"] for push in pushes(other)] == [4, 5]


def test_what_the_welcome_said_is_not_pushed_again() -> None:
    world = World.make()
    world.give(SetHealth(health={"load": 1}))
    one = follow(world)
    assert one.welcome["health_version"] == 1
    world.advance(5)
    assert pushes(one) == []


def test_health_waits_for_room_and_is_the_latest_then() -> None:
    world = World.make(send_window=600)
    one = follow(world, auto=False)
    one.drain_all()
    world.publish(one.session_id, data={"text": "x" * 500})
    one.take()
    for load in (1, 2):
        world.give(SetHealth(health={"load": load, "pad": "x" * 100}))
        world.advance(1)
    world.give(SetHealth(health={"load": 3, "pad": ""}))
    (push,) = one.drain()
    assert (push["version"], push["health"]["load"]) == (3, 3)
    world.advance(5)
    assert one.drain_all() == []


def test_health_that_a_peer_could_not_take_is_not_told() -> None:
    world = World.make()
    small, large = follow(world, max_payload=1024), follow(world)
    world.give(SetHealth(health={"pad": "x" * 1500}))
    world.advance(1)
    assert pushes(small) == []
    assert len(pushes(large)) == 1
    world.give(SetHealth(health={"pad": ""}))
    world.advance(1)
    assert [push["version"] for push in pushes(small)] == [2]


# -- whatever happens -------------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=60)


def truth_of(world: World) -> dict[str, list[set[str]]]:
    """Every list that each session had, by the version that its number is."""
    lists: dict[str, list[set[str]]] = {}
    for event in world.events:
        if isinstance(event, SubscriberJoined | SubscriberLeft):
            told = lists.setdefault(event.session_id, [set()])
            change = {event.client_id}
            joined = isinstance(event, SubscriberJoined)
            told.append(told[-1] | change if joined else told[-1] - change)
    return lists


def check(peer: Peer, lists: list[set[str]]) -> set[str] | None:
    """Fold what a peer was told; the list that it knows, None where it is a count."""
    known: set[str] | None = None
    version = health = -1
    for frame in peer.frames:
        if "presence_version" in frame:
            version, health = frame["presence_version"], frame["health_version"]
            listed = frame.get("presence")
            known = None if listed is None else {entry["client_id"] for entry in listed}
        elif frame["type"] == "presence":
            assert frame["version"] > version
            if "from_version" in frame:
                assert frame["from_version"] == version
                assert known is not None
                joined = {entry["client_id"] for entry in frame["joined"]}
                assert joined.isdisjoint(known)
                assert known >= {*frame["left"]}
                known = (known | joined) - {*frame["left"]}
            elif "entries" in frame:
                known = {entry["client_id"] for entry in frame["entries"]}
            else:
                known = None
                assert frame["presence_count"] == len(lists[frame["version"]])
            version = frame["version"]
        elif frame["type"] == "health":
            assert frame["version"] > health
            health = frame["version"]
            assert frame["health"] == {"n": health}
        assert known is None or known == lists[version]
    return known


def do(world: World, living: list[Peer], kind: int, which: int, made: int) -> int:
    """One step; the first two connections stay. Gives how often the health was set."""
    peer = living[which % len(living)]
    match kind:
        case 0 | 1 | 2:
            room = [1024, 2048, 1_048_576][which % 3]
            named = living[which % 2].session_id
            living.append(world.connect(auto=which > 3, session_id=named, max_payload=room))
        case 3 | 4 if peer not in living[:2]:
            living.remove(peer)
            peer.cut()
        case 5:
            world.publish(peer.session_id, data={"text": "x" * 40 * which})
        case 6:
            world.give(SetHealth(health={"n": made + 1}))
            return 1
        case 7:
            peer.drain(1 + 40 * which)
        case 8:
            world.restore(later=8.0 * which)
        case _:
            world.advance(which / 4)
    return 0


@settings(max_examples=150)
@given(STEPS, st.sampled_from([60, 400, 2000]), st.sampled_from([2, 100]))
def test_pushes_applied_to_the_welcome_give_the_true_list(
    steps: list[tuple[int, int]], window: int, maximum: int
) -> None:
    world = World.make(
        send_window=window,
        presence_max=maximum,
        heartbeat=1e6,
        stall_timeout=1e6,
        answer_window=1_000_000,
    )
    living = [world.connect(), world.connect()]
    made = 0
    for kind, which in steps:
        made += do(world, living, kind, which, made)
    world.advance(2)
    while any(peer.owed for peer in living):
        for peer in living:
            peer.drain()
    lists = truth_of(world)
    for number, peer in world.peers.items():
        known = check(peer, lists[peer.session_id])
        if peer in living and known is not None:
            assert known == lists[peer.session_id][-1], number
        if peer in living and made:
            health = [f["version"] for f in peer.frames if f["type"] == "health"]
            assert [peer.welcome["health_version"], *health][-1] == made


def test_list_of_a_session_that_ends_in_the_same_turn_is_told_to_nobody() -> None:
    """A clock that jumps makes due at once: the push, the window of a closed session, a stall."""
    world = World.make(resume_window=5.0, stall_timeout=8.0, send_window=1, heartbeat=1e6)
    reader = world.connect()
    slow = world.connect(session_id=reader.session_id, auto=False)
    world.publish(reader.session_id)
    world.advance(6.0)
    world.give(CloseSession(session_id=reader.session_id))
    assert reader.closed
    assert not slow.closed
    world.now += 60.0
    world.give(TimerExpired())
    assert slow.code == 4002
    assert len(world.hear(SessionExpired)) == 1

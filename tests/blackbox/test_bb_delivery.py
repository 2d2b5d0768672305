"""Delivery: what the demo agent publishes reaches everybody who follows, exactly once."""

import itertools
import json
import random
from collections.abc import Iterator

import pytest

from tests.blackbox.bbaccount import account
from tests.blackbox.bbserve import Follower, Gateway, Past, handshake, v1
from tests.blackbox.bbwire import Frame, PeerClosedError


@pytest.fixture(scope="module")
def small(adapter: str) -> Iterator[Gateway]:
    running = Gateway("--retain", "10", "--retain-transient", "10", adapter=adapter)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def mixed(gateway: Gateway) -> Past:
    """Make a session with durable events between three runs: 24 seqs."""
    return gateway.session("burst 3", "tokens 5 1", "tokens 4 1", "burst 2", "tokens 7 1")


# What the demo agent publishes


def test_a_burst_is_so_many_durable_notes(gateway: Gateway) -> None:
    follower = gateway.attach()
    request_id = follower.ask("burst 5")
    follower.until_seq(5)
    events = follower.account().events
    assert [(event["type"], event["data"]) for event in events.values()] == [
        ("note", {"n": n}) for n in range(1, 6)
    ]
    for event in events.values():
        assert event["request_id"] == request_id
        assert "transient" not in event
        assert "expects_reply" not in event


def test_tokens_are_one_run_with_its_final(gateway: Gateway) -> None:
    follower = gateway.attach()
    request_id = follower.ask("tokens 4 20")
    follower.until_seq(5)
    events = follower.account().events
    tokens = [events[seq] for seq in range(1, 5)]
    assert [(e["type"], e["data"], e["transient"]) for e in tokens] == [
        ("token", {"text": f"t{n} "}, True) for n in range(4)
    ]
    final = events[5]
    assert (final["type"], final["final"]) == ("response", True)
    assert final["data"]["text"] == "t0 t1 t2 t3 "
    assert "transient" not in final
    assert len({event["run_id"] for event in events.values()}) == 1
    assert {event["request_id"] for event in events.values()} == {request_id}


def test_no_tokens_are_a_run_of_its_final_alone(gateway: Gateway) -> None:
    follower = gateway.attach()
    follower.ask("tokens 0")
    follower.until_seq(1)
    event = follower.account().events[1]
    assert (event["type"], event["data"]["text"], event["final"]) == ("response", "", True)


@pytest.mark.parametrize(
    "content",
    ["plain words", {"text": "plain words"}, {"text": "plain words", "more": [1, {"a": None}]}],
)
def test_anything_else_is_answered_with_its_text(gateway: Gateway, content: object) -> None:
    follower = gateway.attach()
    request_id = follower.ask(content)
    follower.until_seq(1)
    event = follower.account().events[1]
    assert (event["type"], event["data"]["text"]) == ("response", "plain words")
    assert event["request_id"] == request_id
    assert "transient" not in event


@pytest.mark.parametrize("text", ['é漢🛰\u2028\u0000\t"\\</script>', " ", "tokens", "burst x"])
def test_any_text_comes_back_as_it_was(gateway: Gateway, text: str) -> None:
    follower = gateway.attach()
    follower.ask(text)
    event = follower.until_seq(1)["event"]
    assert (event["type"], event["data"]["text"]) == ("response", text)


def test_messages_are_worked_on_one_after_the_other(gateway: Gateway) -> None:
    follower = gateway.attach()
    ids = [follower.ask(text) for text in ("sleep 0.15 first", "burst 2", "last")]
    follower.until_seq(4)
    result = follower.account()
    assert [event["request_id"] for event in result.events.values()] == [
        ids[0],
        ids[1],
        ids[1],
        ids[2],
    ]
    assert result.events[1]["data"]["text"] == "first"
    assert result.events[4]["data"]["text"] == "last"


def test_event_ids_are_unique_and_times_do_not_run_back(gateway: Gateway) -> None:
    past = gateway.session("burst 50", "tokens 20 1")
    events = [past.events[seq] for seq in sorted(past.events)]
    assert len({event["event_id"] for event in events}) == len(events)
    times = [event["timestamp"] for event in events]
    assert times == sorted(times)


# Live, replay, caught up


def test_live_events_come_as_event_after_one_caught_up(gateway: Gateway) -> None:
    follower = gateway.attach()
    assert follower.recv() == {"type": "caught_up", "cursor": 0}
    follower.ask("burst 4")
    follower.until_seq(4)
    follower.settle()
    result = follower.account()
    assert result.live == [1, 2, 3, 4]
    assert len(result.caught_up) == 1


def test_replays_come_before_caught_up_and_live_events_after(gateway: Gateway) -> None:
    past = gateway.session("burst 4")
    follower = gateway.attach(handshake(**past.at(1)))
    follower.ask("burst 3")
    follower.until_seq(7)
    follower.settle()
    result = follower.account()
    assert result.replayed == [2, 3, 4]
    assert result.live == [5, 6, 7]
    assert result.caught_up == [{"type": "caught_up", "cursor": 4}]
    kinds = [f["type"] for f in follower.frames if f["type"] not in {"message_ack", "pong"}]
    assert kinds == ["replay"] * 3 + ["caught_up"] + ["event"] * 3


@pytest.mark.on_trio
def test_every_connection_gets_the_same_events(gateway: Gateway) -> None:
    first = gateway.attach()
    tabs = [first, *(gateway.attach(handshake(**first.token())) for _ in range(4))]
    for tab in tabs:
        tab.until_type("caught_up")
    for n, tab in enumerate(tabs):
        tab.ask(f"from tab {n}")
        for other in tabs:
            other.until_seq(n + 1)
    events = [tab.account().events for tab in tabs]
    assert all(seen == events[0] for seen in events)
    assert [event["data"]["text"] for event in events[0].values()] == [
        f"from tab {n}" for n in range(5)
    ]


def test_a_subscriber_is_in_its_own_welcomes_list(gateway: Gateway) -> None:
    one = gateway.attach(handshake(client={"name": "check", "version": "1"}))
    two = gateway.attach(handshake("join", **one.token()))
    three = gateway.attach(v1(session_id=one.session_id))
    stranger = gateway.attach()
    lists = [tab.welcome["presence"] for tab in (one, two, three, stranger)]
    assert [len(entries) for entries in lists] == [1, 2, 3, 1]
    for before, after in itertools.pairwise(lists[:3]):
        assert all(entry in after for entry in before)
    for entry in lists[2]:
        assert {"client_id", "agent_id", "connected_at"} <= set(entry)
        assert set(entry) <= {"client_id", "agent_id", "connected_at", "client"}
        assert entry["agent_id"] == "demo"
    assert lists[0][0]["client"] == {"name": "check", "version": "1"}
    assert len({entry["client_id"] for entry in lists[2]}) == 3
    # What proves ownership is shown to nobody else.
    assert one.session_id not in json.dumps(lists)


def test_who_comes_and_leaves_is_pushed_to_the_others_of_the_session(gateway: Gateway) -> None:
    one = gateway.attach()
    assert {"presence", "health"} <= set(one.welcome["features"]["events"])
    stranger = gateway.attach()
    for follower in (one, stranger):
        follower.catch_up()
    known = {entry["client_id"] for entry in one.welcome["presence"]}
    version = one.welcome["presence_version"]
    two = gateway.attach(handshake(**one.token()))
    came = {entry["client_id"] for entry in two.welcome["presence"]} - known
    push = one.peer.expect("presence", from_version=version, left=[])
    assert {entry["client_id"] for entry in push["joined"]} == came
    assert push["version"] > version
    two.peer.cut()
    push = one.peer.expect("presence", from_version=push["version"], joined=[])
    assert set(push["left"]) == came
    stranger.live()
    assert {frame["type"] for frame in stranger.peer.log} == {"hello_ok", "caught_up", "pong"}


def test_acknowledgements_go_only_to_the_connection_that_asked(gateway: Gateway) -> None:
    one = gateway.attach()
    two = gateway.attach(handshake(**one.token()))
    one.ask("hello")
    for tab in (one, two):
        tab.until_seq(1)
        tab.settle()
    assert [f["type"] for f in one.frames].count("message_ack") == 1
    assert [f["type"] for f in two.frames].count("message_ack") == 0


def test_two_sessions_have_nothing_of_each_other(gateway: Gateway) -> None:
    one, two = gateway.attach(), gateway.attach()
    one.ask("only for one")
    one.until_seq(1)
    two.settle()
    assert two.account().cursor == 0
    two.ask("only for two")
    two.until_seq(1)
    assert two.account().texts() == ["only for two"]


@pytest.mark.on_trio
def test_a_cut_at_every_frame_of_a_replay_loses_nothing(gateway: Gateway, mixed: Past) -> None:
    for start in range(mixed.cursor + 1):
        follower = gateway.attach(handshake(**mixed.at(start)))
        position = start
        events: dict[int, Frame] = {}
        while position < mixed.cursor:
            follower.until(lambda frame: frame["type"] in {"replay", "skip"})
            part = follower.account()
            follower.peer.cut()
            assert part.cursor > position
            events |= part.events
            position = part.cursor
            follower = gateway.attach(handshake(**mixed.at(position)))
            assert follower.welcome["sequence"] == position
        assert follower.catch_up().cursor == mixed.cursor
        assert events == {
            seq: event
            for seq, event in mixed.events.items()
            if seq > start and "transient" not in event
        }
        follower.peer.cut()


@pytest.mark.on_trio
def test_a_client_that_is_cut_all_the_time_has_it_all_in_the_end(gateway: Gateway) -> None:
    rng = random.Random(7)
    watcher = gateway.attach()
    token = watcher.token()
    for text in ("tokens 150 2", "burst 30", "tokens 150 1", "end"):
        watcher.ask(text)
    last = 151 + 30 + 151 + 1
    position = 0
    events: dict[int, Frame] = {}
    cuts = 0
    while position < last:
        follower = gateway.attach(handshake(**token, since=position))
        assert follower.welcome["resync_required"] is False
        follower.until_seq(min(last, position + 1 + rng.randrange(12)))
        part = follower.account()
        follower.peer.cut()
        assert not set(events) & set(part.events)
        events |= part.events
        position = part.cursor
        cuts += 1
    assert cuts > 5
    watcher.until_seq(last)
    complete = watcher.account().events
    assert events.items() <= complete.items()
    assert set(events) >= {seq for seq, e in complete.items() if "transient" not in e}


def test_attaching_in_the_middle_of_a_stream_neither_doubles_nor_loses(gateway: Gateway) -> None:
    first = gateway.attach()
    first.ask("tokens 300 1")
    tabs: list[Follower] = []
    while len(tabs) < 15:
        first.until_seq(10 * (len(tabs) + 1))
        since = 5 * len(tabs)
        tabs.append(gateway.attach(handshake(**first.token(), since=since)))
    for tab in tabs:
        final = tab.until_seq(301)["event"]
        assert final["data"]["text"] == "".join(f"t{n} " for n in range(300))
        result = tab.account()
        assert result.cursor == 301
        assert len(result.caught_up) == 1


def test_the_late_end_of_an_old_connection_leaves_its_successor_alone(gateway: Gateway) -> None:
    old = gateway.attach()
    new = gateway.attach(handshake(**old.token(), since=0))
    old.ask("one")
    new.until_seq(1)
    old.until_seq(1)
    old.peer.cut()
    new.ask("two")
    new.until_seq(2)
    assert new.account().texts() == ["one", "two"]
    third = gateway.attach(handshake(**new.token(), since=1))
    new.peer.send({"type": "leave"})
    with pytest.raises(PeerClosedError, match="1000"):
        new.until_type("never")
    third.ask("three")
    third.until_seq(3)
    assert third.account().texts() == ["two", "three"]


def test_work_goes_on_while_nobody_is_connected(gateway: Gateway) -> None:
    follower = gateway.attach()
    follower.ask("sleep 0.1 nobody was there")
    follower.ask("tokens 10 5")
    follower.until_type("message_ack")
    follower.until_type("message_ack")
    follower.peer.cut()
    clock = gateway.attach()
    clock.ask("sleep 0.4 x")
    clock.until_seq(1)
    follower = gateway.attach(handshake(**follower.token(), since=0))
    assert follower.head == 12
    result = follower.catch_up()
    assert result.replayed == [1, 12]
    assert result.skips == [(2, 11)]


# Runs and what supersedes them


def test_a_run_cut_in_the_middle_comes_back_as_a_skip_and_its_final(gateway: Gateway) -> None:
    for position in (1, 5, 9):
        watcher = gateway.attach()
        follower = gateway.attach(handshake(**watcher.token()))
        watcher.ask("tokens 10 15")
        follower.until_seq(position)
        cursor = follower.account().cursor
        follower.peer.cut()
        watcher.until_seq(11)
        follower = gateway.attach(handshake(**watcher.token(), since=cursor))
        result = follower.catch_up()
        assert result.skips == ([(cursor + 1, 10)] if cursor < 10 else [])
        assert result.replayed == [11]
        assert result.events[11] == watcher.account().events[11]


def test_an_open_run_is_replayed_token_by_token(gateway: Gateway) -> None:
    watcher = gateway.attach()
    watcher.ask("tokens 30 20")
    watcher.until_seq(8)
    follower = gateway.attach(handshake(**watcher.token(), since=3))
    head = follower.head
    assert 8 <= head < 31
    follower.until_seq(31)
    result = follower.account()
    assert result.replayed == list(range(4, head + 1))
    assert result.live == list(range(head + 1, 32))
    assert result.skips == []


def test_two_runs_are_skipped_apart_each_with_its_final(gateway: Gateway, mixed: Past) -> None:
    follower = gateway.attach(handshake(**mixed.at(0)))
    result = follower.catch_up()
    assert result.skips == [(4, 8), (10, 13), (17, 23)]
    assert result.replayed == [1, 2, 3, 9, 14, 15, 16, 24]


def test_a_flood_of_tokens_pushes_no_durable_event_out(small: Gateway) -> None:
    past = small.session("burst 5", "tokens 500 0", "burst 3")
    follower = small.attach(handshake(**past.at(0)))
    assert follower.welcome["oldest_cursor"] == 1
    result = follower.catch_up()
    assert result.replayed == [1, 2, 3, 4, 5, 506, 507, 508, 509]
    assert result.skips == [(6, 505)]
    assert [result.events[seq]["data"] for seq in range(1, 6)] == [{"n": n} for n in range(1, 6)]


def test_the_floor_rises_in_an_open_run_and_falls_when_it_ends(small: Gateway) -> None:
    watcher = small.attach()
    watcher.ask("burst 2")
    watcher.ask("tokens 60 15")
    watcher.until_seq(40)
    follower = small.attach(handshake(**watcher.token(), since=0))
    head = follower.head
    assert head < 63
    assert follower.welcome["oldest_cursor"] == head - 9
    assert follower.welcome["resync_reason"] == "trimmed"
    snapshot = follower.recv()
    assert (snapshot["type"], snapshot["cursor"]) == ("snapshot", head)
    assert "".join(f"t{n} " for n in range(head - 2)) in json.dumps(snapshot["state"])
    follower.until_seq(63)
    assert follower.account().live == list(range(head + 1, 64))
    follower = small.attach(handshake(**watcher.token(), since=0))
    assert follower.welcome["oldest_cursor"] == 1
    assert follower.welcome["resync_required"] is False
    result = follower.catch_up()
    assert result.replayed == [1, 2, 63]
    assert result.skips == [(3, 62)]


def test_the_floor_follows_the_journal_event_by_event(small: Gateway) -> None:
    watcher = small.attach()
    for count in range(1, 16):
        watcher.ask(f"event {count}")
        watcher.until_seq(count)
        other = small.attach(handshake(**watcher.token(), since=count))
        assert other.welcome["oldest_cursor"] == max(1, count - 9)
        other.peer.cut()


def test_versions_side_by_side_get_the_same_story(gateway: Gateway) -> None:
    two = gateway.attach()
    one = gateway.attach(v1(session_id=two.session_id))
    two.ask("tokens 5 10")
    two.ask("burst 3")
    two.until_seq(9)
    one.until(lambda frame: frame.get("seq") == 9)
    events = two.account().events
    told = [frame for frame in one.frames if frame["type"] == "replay"]
    assert [frame["seq"] for frame in told] == list(range(1, 10))
    for frame in told:
        event = events[frame["seq"]]
        assert frame["event"]["event_id"] == event["event_id"]
        assert frame["event"]["data"] == {**event["data"], "cursor": frame["seq"]}


def test_the_account_of_one_connection_needs_no_other(gateway: Gateway, mixed: Past) -> None:
    for since in range(mixed.cursor + 1):
        follower = gateway.attach(handshake(**mixed.at(since)))
        follower.until_type("caught_up")
        result = account(follower.frames, since, head=mixed.cursor)
        assert result.cursor == mixed.cursor
        follower.peer.cut()

"""Sessions: how long they live, whose they are, what is refused when it is published."""

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from gatewayproto import Event, Gateway, GatewayConfig, LocalProtocolError
from gatewayproto.actions import (
    CloseConnection,
    CommandDropped,
    Emit,
    Published,
    SendFrames,
    SessionExpired,
    SessionOpened,
    SubscriberLeft,
)
from gatewayproto.inputs import (
    Accept,
    ChangeEpoch,
    ConnectionClosed,
    ConnectionOpened,
    FrameReceived,
    Publish,
    SetHealth,
)
from gatewayproto.projection import Transcript
from tests.gateway.gwworld import (
    MAX_INT,
    START,
    World,
    encode,
    event_object,
    handshake,
    make_event,
    only,
    seqs,
)

# -- how long they live -----------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("end", ["leave", "cut"])
def test_session_outlives_its_last_connection_by_the_resume_window(version: int, end: str) -> None:
    world = World.make(resume_window=50, heartbeat=10**6)
    first = world.connect(version)
    second = world.connect(version, session_id=first.welcome["session_id"])
    named = {"session_id": first.welcome["session_id"]}
    world.advance(1000)
    first.send("leave") if end == "leave" else first.cut()
    world.advance(1000)
    assert list(world.gateway.session_ids) == [first.session_id]
    second.send("leave") if end == "leave" else second.cut()
    assert [each.connection for each in world.hear(SubscriberLeft)] == [1, 2]
    world.advance(49.875)
    third = world.connect(version, **named)
    assert third.welcome["resumed"] is True
    world.advance(1000)
    third.cut()
    world.publish(first.session_id)  # is no life sign
    world.advance(49.875)
    assert not world.told(SessionExpired)
    world.advance(0.125)
    assert world.hear(SessionExpired) == [SessionExpired(session_id=first.session_id)]
    assert not world.gateway.session_ids
    assert world.gateway.session(first.session_id) is None
    assert world.gateway.next_deadline is None
    assert world.connect(version, **named).welcome["resumed"] is False


def test_commands_for_a_session_that_is_gone_are_dropped() -> None:
    world = World.make()
    event = make_event(1)
    for command, name in (
        (Publish(session_id="gone", event=event), "publish"),
        (ChangeEpoch(session_id="gone"), "change_epoch"),
    ):
        dropped = CommandDropped(command=name, target="gone")  # type: ignore[arg-type] # one of its names
        assert world.give(command) == (Emit(dropped),)


def test_session_tells_what_is_to_be_known_of_it() -> None:
    world = World.make()
    peer = world.connect(principal="p", agent_id="a")
    assert world.hear(SessionOpened) == [
        SessionOpened(session_id=peer.session_id, agent_id="a", principal="p")
    ]
    event = world.publish(peer.session_id)
    peer.send("message", content="")
    info = world.gateway.session(peer.session_id)
    assert info is not None
    assert (info.session_id, info.epoch, info.agent_id, info.principal) == (
        peer.session_id, peer.epoch, "a", "p",
    )  # fmt: skip
    assert (info.cursor, info.oldest_cursor, info.retained) == (1, 1, 1)
    assert (info.pending_messages, info.subscribers) == (1, 1)
    assert info.retained_bytes >= len(event.event_id)
    assert world.gateway.session("never-was") is None
    assert world.gateway.config is world.config


def test_ids_come_from_a_source_that_nobody_can_guess() -> None:
    gateway = Gateway(GatewayConfig())
    for number in range(1, 6):
        gateway.handle(ConnectionOpened(connection=number), now=START)
        gateway.handle(FrameReceived(number, encode(handshake("hello", 2))), now=START)
        gateway.handle(Accept(connection=number), now=START)
    found = [*gateway.session_ids]
    for session_id in gateway.session_ids:
        info = gateway.session(session_id)
        assert info is not None
        found.append(info.epoch)
    assert len(set(found)) == 10
    assert all(22 <= len(each) <= 64 and "." not in each for each in found)  # 122 bits and more


# -- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hello", "join"])
def test_sessions_are_bounded(kind: str) -> None:
    world = World.make(max_sessions=2, retry_after=7.5, resume_window=20)
    first, second = world.connect(), world.connect()
    third = world.connect(kind=kind)
    (frame,) = third.take()
    assert frame["type"] == ("hello_error" if kind == "hello" else "error")
    assert (frame["code"], frame["retry_after_seconds"]) == ("rate_limited", 7.5)
    assert third.code == 4003
    # A session that exists is no new one.
    assert world.connect(session_id=second.session_id).welcome["resumed"] is True
    first.cut()
    world.advance(20)
    assert world.connect().welcome["resumed"] is False


def test_connections_are_bounded() -> None:
    world = World.make(max_connections=2, retry_after=7.5)
    first, second = world.open(), world.connect()
    third = world.open()
    (frame,) = third.take()
    assert (frame["type"], frame["code"]) == ("error", "rate_limited")
    assert (frame["next_step"], frame["retry_after_seconds"]) == ("wait_then_retry", 7.5)
    assert (third.code, third.reason) == (4003, "rate_limited")
    assert third.send_raw(b"{}") == []
    first.cut()
    assert world.connect(session_id=second.session_id).welcome["resumed"] is True


def test_journal_of_superseded_events_does_not_grow() -> None:
    world = World.make(retain=1, retain_transient=1, projection=lambda: Transcript(100))
    maker = world.connect()
    session_id = maker.session_id
    maker.cut()

    def rounds(count: int) -> int:
        for _ in range(count):
            world.publish(session_id, transient=True, run_id="r")
            world.publish(session_id, final=True, run_id="r")
        world.events.clear()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = rounds(300)
        assert rounds(1500) - before < 20_000
    finally:
        tracemalloc.stop()
    late = world.connect(session_id=session_id, since=0)
    assert late.welcome["oldest_cursor"] == late.welcome["cursor"] - 1


def test_open_runs_are_bounded() -> None:
    world = World.make(max_open_runs=2, retain_transient=0)
    session_id = world.connect().session_id
    for run_id in ("a", "b", "a"):
        world.publish(session_id, transient=True, run_id=run_id)
    before = world.state()
    with pytest.raises(LocalProtocolError, match="final"):
        world.publish(session_id, transient=True, run_id="c")
    assert world.state() == before
    world.publish(session_id, transient=True)  # of no run
    world.publish(session_id, final=True, run_id="c")  # a run without transient events
    world.publish(session_id, final=True, run_id="a")
    world.publish(session_id, transient=True, run_id="c")


# -- what is published ------------------------------------------------------------------------


def test_event_reaches_its_clients_as_it_was_published() -> None:
    world = World.make()
    peer = world.connect()
    peer.take()
    data = {
        "text": 'é\u0000"\\ \U0001f600',
        "n": [MAX_INT, -MAX_INT, 0.1, True, None],
        "o": {"": {}},
    }
    full = {
        "source": "s", "target": "t", "run_id": "r", "request_id": "q", "final": True,
        "expects_reply": True,
    }  # fmt: skip
    cases: list[dict[str, Any]] = [
        {},
        full,
        {"transient": True},
        {"transient": False, "final": False},
    ]
    for fields in cases:
        event = world.publish(peer.session_id, data=data, **fields)
        (frame,) = peer.take()
        assert frame["event"] == event_object(event)


def test_event_is_taken_as_it_was_when_it_was_published() -> None:
    world = World.make()
    peer = world.connect()
    data: dict[str, Any] = {"list": [1]}
    event = make_event(1, data=data)
    world.give(Publish(session_id=peer.session_id, event=event))
    data["list"].append(2)
    (snapshot, _) = peer.send("resync")[-2:]
    assert snapshot["state"]["messages"][0]["data"] == {"list": [1]}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"d": value}
    return value


@pytest.mark.parametrize("build", [
    lambda: make_event(1, data={"n": math.nan}),
    lambda: make_event(1, data={"n": math.inf}),
    lambda: make_event(1, data={"n": -math.inf}),
    lambda: make_event(1, timestamp=math.nan),
    lambda: make_event(1, data={"n": MAX_INT + 1}),
    lambda: make_event(1, data={"n": [-(2**70)]}),
    lambda: make_event(1, data={"s": "\ud800"}),
    lambda: make_event(1, data={"\ud800": 1}),
    lambda: make_event(1, data={5: 1}),
    lambda: make_event(1, data={"b": b"bytes"}),
    lambda: make_event(1, data={"s": {1, 2}}),
    lambda: make_event(1, data={"o": object()}),
    lambda: make_event(1, data=nested(61)),
    lambda: make_event(1, data="text"),
    lambda: make_event(1, data=[1]),
    lambda: make_event(1, data=None),
    lambda: make_event(1, ""),
    lambda: make_event(1, event_id=""),
    lambda: make_event(1, event_id=5),
    lambda: make_event(1, timestamp="now"),
    lambda: make_event(1, run_id="", transient=True),
    lambda: make_event(1, transient="yes"),
    lambda: make_event(1, data={"text": "x" * 1_048_576}),
    lambda: make_event(1, final=True),
    lambda: make_event(1, expects_reply=True, transient=True),
    lambda: make_event(1, final=True, run_id="r", transient=True),
])  # fmt: skip
def test_event_that_no_client_could_be_sent_is_the_callers_mistake(
    build: Callable[[], Event],
) -> None:
    world = World.make()
    peer = world.connect()
    world.publish(peer.session_id)
    peer.take()
    before = world.state()
    with pytest.raises(LocalProtocolError):
        world.give(Publish(session_id=peer.session_id, event=build()))
    assert world.state() == before
    assert peer.take() == []
    world.publish(peer.session_id)
    assert seqs(peer.take()) == [2]


@pytest.mark.parametrize("fields", [
    {"data": nested(60)},
    {"data": nested(60), "transient": True, "run_id": "r"},
])  # fmt: skip
def test_deepest_event_can_be_sent_in_every_form(fields: dict[str, Any]) -> None:
    world = World.make()
    maker = world.connect()
    world.publish(maker.session_id, **fields)
    for version in (1, 2):
        for since in (0, 99):
            peer = world.connect(version, session_id=maker.session_id, since=since)
            for frame in peer.take():
                assert depth(frame) <= 64
    parts = only(maker.send("resync"), "snapshot")
    assert depth(parts[0]) == 64


def depth(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(depth, value.values()), default=0)
        case list():
            return 1 + max(map(depth, value), default=0)
        case _:
            return 0


@pytest.mark.parametrize("pad", ["x", "é", '"', "\u0000"])
def test_largest_event_fits_every_client_of_default_size(pad: str) -> None:
    """That each frame fits its receiver is held by `Peer.received`."""
    world = World.make(max_event=8192 - 512, send_window=10**7)
    maker = world.connect()
    peers = [world.connect(n, session_id=maker.session_id, max_payload=8192) for n in (1, 2)]
    low, high = 0, 8192
    while low < high:
        middle = (low + high + 1) // 2
        try:
            world.publish(maker.session_id, data={"text": pad * middle}, source="s", target="t")
            low = middle
        except LocalProtocolError:
            high = middle - 1
    for peer in peers:
        assert not peer.closed
        assert not only(peer.take(), "snapshot")


def test_published_is_told_before_it_is_sent() -> None:
    world = World.make()
    peer = world.connect()
    told, sent = world.give(Publish(session_id=peer.session_id, event=make_event(7)))
    assert told == Emit(Published(session_id=peer.session_id, seq=1, event_id="e7"))
    assert isinstance(sent, SendFrames)


def test_seqs_are_used_up_one_day() -> None:
    world = World.make()
    peer = world.connect()
    state = world.gateway.to_state(now=world.now)
    state["sessions"][0]["journal"].update(cursor=MAX_INT - 1, lost=MAX_INT - 1, gone=MAX_INT - 1)
    world.gateway = type(world.gateway).from_state(
        world.config, state, now=world.now, ids=world.ids
    )
    world.publish(peer.session_id)
    with pytest.raises(LocalProtocolError, match="used up"):
        world.publish(peer.session_id)


# -- a new epoch ------------------------------------------------------------------------------


def test_epoch_change_under_living_connections() -> None:
    world = World.make()
    second = world.connect()
    first = world.connect(1, session_id=second.session_id)
    world.publish(second.session_id)
    second.take()
    first.take()
    actions = world.give(ChangeEpoch(session_id=second.session_id))
    (snapshot,) = second.take()
    info = world.gateway.session(second.session_id)
    assert info is not None
    assert info.epoch != second.epoch
    assert (snapshot["reason"], snapshot["epoch"], snapshot["cursor"]) == (
        "epoch_changed", info.epoch, 1,
    )  # fmt: skip
    assert CloseConnection(first.number, 1012, "epoch_changed") in actions
    world.publish(second.session_id)
    assert seqs(second.take()) == [2]  # the numbering goes on
    old = world.connect(1, session_id=first.welcome["session_id"], since=1)
    assert old.welcome["resync_reason"] == "epoch_changed"
    new = world.connect(1, session_id=old.welcome["session_id"], since=1)
    assert new.welcome["resync_required"] is False


# -- health -----------------------------------------------------------------------------------


def test_health_is_in_every_welcome_from_then_on() -> None:
    world = World.make()
    world.give(SetHealth(health={"ok": True, "load": [0.5]}))
    assert world.connect().welcome["health"] == {"ok": True, "load": [0.5]}
    world.give(SetHealth(health={}))
    welcome = world.connect(1).welcome
    assert (welcome["health"], welcome["health_version"]) == ({}, 2)


@pytest.mark.parametrize("health", [
    {"n": math.nan}, {"n": 2**60}, {"s": "x" * 2048}, {"b": b""}, nested(64),
])  # fmt: skip
def test_health_that_cannot_be_sent_is_the_callers_mistake(health: dict[str, Any]) -> None:
    world = World.make()
    before = world.state()
    with pytest.raises(LocalProtocolError):
        world.give(SetHealth(health=health))
    assert world.state() == before


def test_deepest_health_can_be_sent() -> None:
    world = World.make()
    world.give(SetHealth(health=nested(63)))
    assert depth(world.connect().welcome) == 64


def test_health_is_as_it_was_when_it_was_set() -> None:
    world = World.make()
    health = {"agent": {"state": "up"}}
    world.give(SetHealth(health=health))
    health["agent"]["state"] = "down"
    assert world.connect().welcome["health"] == {"agent": {"state": "up"}}


@pytest.mark.weighs
def test_what_the_journal_let_go_is_freed() -> None:
    """`retain_bytes` bounds memory, not only what can still be replayed."""
    world = World.make(retain_bytes=100_000, projection=lambda: Transcript(max_bytes=1000))
    maker = world.connect()
    world.give(ConnectionClosed(maker.number))
    tracemalloc.start()
    try:
        for _ in range(60):  # fewer than what a compaction waits for
            event = make_event(1, data={"text": "x" * 100_000})
            world.gateway.handle(Publish(session_id=maker.session_id, event=event), now=world.now)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000, "60 events of 100 kB, of which the journal keeps none"

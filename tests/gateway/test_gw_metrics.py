"""What a gateway counts is what it did, and to count changes nothing."""

import json
from collections import Counter
from typing import Any

import pytest

from gatewayproto import Gateway, GatewayMetrics
from gatewayproto.actions import (
    CloseConnection,
    Emit,
    GatewayAction,
    GatewayEvent,
    MessageReceived,
    Published,
    SendFrames,
    SessionClosed,
    SessionExpired,
    SessionOpened,
    SubscriberLagged,
)
from gatewayproto.errors import ErrorCode
from gatewayproto.inputs import CloseSession, Complete, ConnectionOpened, Drain, Publish, Reject
from tests.gateway.gwworld import START, World, encode, handshake, make_event

GROUPS = {
    **dict.fromkeys(("event", "replay"), "event"),
    **dict.fromkeys(("hello_ok", "joined"), "welcome"),
    **dict.fromkeys(("message_ack", "message_nack", "pong", "response"), "answer"),
    **{kind: kind for kind in ("skip", "caught_up", "snapshot", "ping")},
    "going_away": "notice",
    "presence": "notice",
    "health": "notice",
}


class Watched(World):
    """A world that counts what its gateway does, by its actions alone."""

    def watch(self) -> None:
        self.frames: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.closes: Counter[str] = Counter()
        self.whole = 0

    def apply(self, actions: tuple[GatewayAction, ...]) -> None:
        for action in actions:
            if isinstance(action, SendFrames):
                for data in action.frames:
                    for number in action.connections:
                        self._count(number, data)
            elif isinstance(action, CloseConnection):
                self.closes[str(action.code)] += 1
        super().apply(actions)

    def _count(self, number: int, data: bytes) -> None:
        frame = json.loads(data)
        kind = GROUPS.get(frame["type"])
        if kind is None:  # an `error`: a rejection where it comes first, else an answer
            kind = "answer" if self.peers[number].frames else "rejection"
        self.frames[kind] += 1
        self.bytes[kind] += len(data)
        if kind == "snapshot":
            self.whole += frame.get("part") == frame.get("parts")

    def number_of(self, kind: type[GatewayEvent]) -> int:
        return len(self.told(kind))


def watched(**options: Any) -> Watched:
    world = Watched.make(**options)
    assert isinstance(world, Watched)
    world.watch()
    return world


def check(world: Watched) -> GatewayMetrics:
    """The counters are what was seen from outside."""
    metrics = world.gateway.metrics()
    assert metrics.frames_sent == dict(world.frames)
    assert metrics.bytes_sent == dict(world.bytes)
    assert metrics.closes == dict(world.closes)
    assert metrics.skips == world.frames["skip"]
    assert metrics.snapshots == world.whole
    assert metrics.sessions_opened == world.number_of(SessionOpened)
    assert metrics.sessions_closed == world.number_of(SessionClosed)
    assert metrics.sessions_expired == world.number_of(SessionExpired)
    assert metrics.lags == world.number_of(SubscriberLagged)
    assert metrics.messages_taken == world.number_of(MessageReceived)
    assert sum(metrics.events_published.values()) == world.number_of(Published)
    assert metrics.handshakes.get("rejected", 0) == sum(metrics.rejections.values())
    assert metrics.bytes_outstanding == sum(
        peer.owed for peer in world.peers.values() if not peer.closed
    )
    return metrics


def test_frames_and_bytes_are_counted_by_what_they_are() -> None:
    world = watched(send_window=1, retain=2, heartbeat=30, stall_timeout=10**6)
    peer = world.connect(auto=False, max_payload=1024)
    old = world.connect(1, session_id=peer.session_id)
    world.publish(peer.session_id, run_id="r", transient=True)
    world.publish(peer.session_id, run_id="r", final=True)
    peer.drain_all()
    for _ in range(5):
        world.publish(peer.session_id, data={"text": "x" * 700})
    peer.drain_all()
    peer.send("message", content="x", request_id="r")
    peer.send("message", content="x", request_id="r")
    old.send("message", content="x", request_id="s", reply_to="?")
    peer.send("dance")
    peer.send_raw(b"{")
    peer.drain_all()
    world.advance(30)
    world.give(Drain(grace=5))
    peer.drain_all()
    metrics = check(world)
    assert set(metrics.frames_sent) == {*GROUPS.values()}
    assert (metrics.lags, metrics.resyncs, metrics.snapshots) == (1, {"lagged": 1}, 1)
    assert metrics.events_published == {"transient": 1, "durable": 6}
    assert metrics.messages_refused == {"invalid_request": 1}
    assert (metrics.messages_taken, metrics.messages_duplicate) == (1, 1)
    assert metrics.violations == 1
    assert metrics.closes == {"1012": 1}
    assert metrics.draining == 1
    world.open()
    assert check(world).rejections == {"going_away": 1}


@pytest.mark.parametrize("version", [1, 2])
def test_handshakes_are_counted_by_their_outcome(version: int) -> None:
    world = watched(retain=1, resume_window=50, max_connections=6, heartbeat=10**6)
    peer = world.connect(version)
    for _ in range(3):
        world.publish(peer.session_id)
    named = {"session_id": peer.welcome["session_id"]}
    world.connect(version, **named, since=3, epoch=peer.welcome.get("epoch", ...))
    world.connect(version, **named, since=0)
    world.connect(version, session_id="gone", since=5, epoch="e")
    world.connect(version, agent_id=5)
    waiting = world.open()
    waiting.send_raw(encode(handshake("hello", version)))
    world.give(Reject(connection=waiting.number, code=ErrorCode.AUTH_REQUIRED))
    world.open()
    world.open()
    world.open()
    metrics = check(world)
    assert metrics.handshakes == {"opened": 2, "resumed": 1, "resynced": 1, "rejected": 3}
    assert metrics.rejections == {
        "invalid_protocol_hello": 1, "auth_required": 1, "rate_limited": 1,
    }  # fmt: skip
    assert metrics.resyncs == {"trimmed": 1, "session_unknown": 1}
    world.advance(10)
    assert check(world).rejections["handshake_timeout"] == 2


def test_a_snapshot_that_could_not_begin_is_none() -> None:
    world = watched(send_window=2000, max_event=10**6)
    peer = world.connect(auto=False)
    peer.drain_all()
    for _ in range(3):
        world.publish(peer.session_id, data={"text": "x" * 500})
    peer.send("resync")
    metrics = check(world)
    assert (metrics.resyncs, metrics.snapshots) == ({}, 0)
    peer.drain_all()
    metrics = check(world)
    assert (metrics.resyncs, metrics.snapshots) == ({"requested": 1}, 1)


def test_gauges_are_how_things_stand() -> None:
    world = watched(send_window=1, resume_window=50, heartbeat=10**6)
    empty = world.gateway.metrics()
    assert (empty.lag_max, empty.lag_total, empty.subscribers, empty.sessions) == (0, 0, 0, 0)
    slow = world.connect(auto=False)
    slower = world.connect(auto=False, session_id=slow.session_id)
    old = world.connect(1)
    world.open()
    joining = world.open()
    joining.send_raw(encode(handshake("hello", 2)))
    for _ in range(3):
        world.publish(slow.session_id)
    slow.drain()
    slow.drain()
    old.send("message", content="1", request_id="r")
    old.send("message", content="2")
    world.give(CloseSession(session_id=slow.session_id))
    metrics = check(world)
    assert metrics.connections == {
        "opening": 1,
        "joining": 1,
        "storing": 0,
        "preparing": 0,
        "live_v1": 1,
        "live_v2": 2,
    }
    assert (metrics.sessions, metrics.sessions_sealed, metrics.subscribers) == (2, 1, 3)
    assert (metrics.lag_max, metrics.lag_total) == (3, 5)
    info = world.gateway.session(slow.session_id)
    assert info is not None
    assert (metrics.journal_events, metrics.journal_bytes) == (3, info.retained_bytes)
    assert (metrics.messages_pending, metrics.requests_remembered) == (2, 1)
    assert metrics.draining == 0
    world.give(Complete(session_id=old.session_id, message_id=1))
    slower.cut()
    metrics = check(world)
    assert (metrics.messages_pending, metrics.requests_remembered) == (1, 1)
    assert (metrics.lag_max, metrics.lag_total) == (2, 2)


def test_a_broadcast_counts_every_receiver() -> None:
    world = watched()
    first = world.connect()
    others = [world.connect(session_id=first.session_id) for _ in range(4)]
    world.publish(first.session_id)
    assert check(world).frames_sent["event"] == 1 + len(others)


def test_to_ask_changes_nothing_and_what_was_given_stays() -> None:
    world = watched()
    peer = world.connect()
    before, metrics = world.state(), world.gateway.metrics()
    assert world.gateway.metrics() == metrics
    assert world.state() == before
    world.publish(peer.session_id)
    assert metrics.events_published == {}
    assert world.gateway.metrics().events_published == {"durable": 1}


def test_counters_are_a_process_own_and_not_saved() -> None:
    world = watched()
    peer = world.connect()
    world.publish(peer.session_id)
    state = world.gateway.to_state(now=world.now)
    assert "counters" not in json.dumps(state)
    for again in (
        Gateway.from_state(world.config, state, now=START),
        Gateway.recover(world.config, state, now=START),
    ):
        metrics = again.metrics()
        assert (metrics.frames_sent, metrics.sessions_opened) == ({}, 0)
        assert (metrics.sessions, metrics.journal_events) == (1, 1)
    # What is counted has no say in what is done.
    restored = Gateway.from_state(world.config, state, now=START, ids=world.ids)
    event = make_event(7)
    for gateway in (world.gateway, restored):
        assert len(gateway.handle(Publish(session_id=peer.session_id, event=event), now=START)) == 2
    assert restored.to_state(now=START) == world.gateway.to_state(now=START)


def test_a_full_gateway_counts_whom_it_turns_away() -> None:
    world = watched(max_connections=1)
    world.connect()
    actions = world.gateway.handle(ConnectionOpened(connection=2), now=world.now)
    assert not any(isinstance(action, Emit) for action in actions)
    assert world.gateway.metrics().rejections == {"rate_limited": 1}

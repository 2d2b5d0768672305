"""Snapshots: whole or in parts, shed for version 1, and what only they can cover."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto import Event, Gateway, GatewayConfig
from gatewayproto.actions import SendFrames
from gatewayproto.inputs import Accept, ConnectionOpened, Drained, FrameReceived, Publish
from gatewayproto.projection import Transcript
from gatewayproto.testing.reference import compact, fold
from tests.gateway.gwworld import Frame, Peer, World, kinds, make_event, only, seqs


def joined(frames: list[Frame]) -> Any:
    """The state of a snapshot in parts, having checked each of them."""
    parts = only(frames, "snapshot")
    assert [f["part"] for f in parts] == list(range(1, len(parts) + 1))
    shown = [{k: v for k, v in f.items() if k not in {"part", "chunk"}} for f in parts]
    assert all(fields == shown[0] for fields in shown)
    assert shown[0]["parts"] == len(parts)
    assert "state" not in shown[0]
    return json.loads("".join(f["chunk"] for f in parts))


@settings(max_examples=60)
@given(
    st.lists(st.text(max_size=900), min_size=1, max_size=8),
    st.integers(1024, 9000),
    st.sampled_from(["n", "\u0000" * 128, "\U0001f600" * 128]),
)
def test_large_snapshot_comes_in_parts_that_each_fit(
    texts: list[str], max_payload: int, nonce: str
) -> None:
    """That each frame fits its receiver is held by `Peer.received`."""
    world = World.make()
    maker = world.connect()
    log = [world.publish(maker.session_id, data={"text": text}) for text in texts]
    peer = world.connect(session_id=maker.session_id, max_payload=max_payload, start="snapshot")
    state = fold(log)
    for asked in (None, nonce):
        frames = peer.take() if asked is None else peer.send("resync", nonce=asked)
        assert kinds(frames)[-1] == "caught_up"
        first = frames[0]
        assert first.get("nonce") == asked
        whole = {k: v for k, v in first.items() if k not in {"part", "parts", "chunk", "state"}}
        fits = len(compact({**whole, "state": state})) <= max_payload
        assert ("part" not in first) is fits
        assert state == (first["state"] if fits else joined(frames))


@pytest.mark.parametrize("size", [127, 128, 129, 1000, 4000, 20_000])
@pytest.mark.parametrize("kind", ["resync", "resume", "ping"])
def test_nonce_of_any_size_raises_nothing_and_what_answers_it_fits(size: int, kind: str) -> None:
    world = World.make()
    peer = world.connect(max_payload=4096)
    for _ in range(5):
        world.publish(peer.session_id, data={"text": "x" * 1000})
    peer.take()
    fields = {"epoch": "stale", "since": 0} if kind == "resume" else {}
    frames = peer.send(kind, nonce="\u0001" * size, **fields)
    assert frames or peer.closed
    world.publish(peer.session_id)
    if not peer.closed:
        assert seqs(frames + peer.take())[-1] == 6


def state_of(frames: list[Frame]) -> Frame:
    (snapshot,) = only(frames, "snapshot")
    state: Frame = snapshot["state"]
    return state


def v1_snapshot(world: World, session_id: str, **fields: Any) -> tuple[Peer, Frame]:
    peer = world.connect(1, session_id=session_id, since=10**6, **fields)
    return peer, state_of(peer.take())


def test_version_1_sheds_its_oldest_messages_until_it_fits() -> None:
    world = World.make()
    maker = world.connect()
    log = [world.publish(maker.session_id, data={"text": "x" * 500}) for _ in range(20)]
    log.append(world.publish(maker.session_id, run_id="r", transient=True, data={"text": "so"}))
    whole = fold(log)
    _, state = v1_snapshot(world, maker.session_id)
    assert {k: state[k] for k in whole} == whole
    assert "truncated" not in state
    for max_payload in (4096, 5000, 9999):
        peer, state = v1_snapshot(world, maker.session_id, max_payload=max_payload)
        kept = len(state["messages"])
        assert state["truncated"] is True
        assert 0 < kept < 20
        assert state["messages"] == whole["messages"][-kept:]
        assert (state["runs"], state["questions"]) == (whole["runs"], [])
        # No message was shed without need.
        one_more = {**state, "messages": whole["messages"][-kept - 1 :]}
        assert len(compact({"type": "snapshot", "state": one_more})) > max_payload
        assert state["event_cursor"] == 21
        assert state["session_id"] == peer.welcome["session_id"]


def test_snapshot_that_version_1_cannot_take_at_all_closes() -> None:
    world = World.make()
    maker = world.connect()
    world.publish(maker.session_id, data={"text": "x" * 5000}, transient=True, run_id="r")
    world.publish(maker.session_id)
    peer = world.connect(1, session_id=maker.session_id, since=9, max_payload=4096)
    assert not only(peer.frames, "snapshot")
    assert (peer.code, peer.reason) == (4507, "payload_too_large")
    # A second handshake, behind what its transport still has, fares the same.
    peer = world.connect(1, auto=False, session_id=maker.session_id, since=2, max_payload=4096)
    world.attach(peer, 1, session_id=maker.session_id, since=9, max_payload=4096)
    peer.drain_all()
    assert peer.code == 4507


def test_event_larger_than_its_client_takes_is_covered_by_a_snapshot() -> None:
    world = World.make()
    maker = world.connect()
    log = [world.publish(maker.session_id) for _ in range(2)]
    small = world.connect(session_id=maker.session_id, max_payload=4096)
    first = world.connect(1, session_id=maker.session_id, max_payload=4096)
    small.take()
    first.take()
    log.append(world.publish(maker.session_id, data={"text": "x" * 5000}))
    frames = small.take()
    assert {(f["reason"], f["cursor"]) for f in frames} == {("lagged", 3)}
    assert joined(frames) == fold(log)
    assert not small.closed
    assert first.code == 4507  # version 1 has no parts
    world.publish(maker.session_id)
    assert seqs(small.take()) == [4]
    # In a replay as well; what comes before it is sent.
    late = world.connect(session_id=maker.session_id, max_payload=4096)
    frames = late.take()
    assert seqs(frames) == [1, 2]
    assert kinds(frames)[2:] == ["snapshot"] * (len(frames) - 3) + ["caught_up"]
    assert joined(frames)["messages"][-1]["seq"] == 4
    # And with a recovery its nonce goes along.
    frames = small.send("resume", epoch=small.epoch, since=2, nonce="n")
    assert {f["nonce"] for f in frames} == {"n"}


def test_superseded_events_are_never_too_large() -> None:
    world = World.make()
    maker = world.connect()
    world.publish(maker.session_id, data={"text": "x" * 5000}, run_id="r", transient=True)
    world.publish(maker.session_id, run_id="r", final=True)
    peer = world.connect(session_id=maker.session_id, max_payload=4096)
    assert kinds(peer.take()) == ["skip", "replay", "caught_up"]


def test_application_may_bring_its_own_projection() -> None:
    class Counting:
        def __init__(self) -> None:
            self.count = 0

        def apply(self, seq: int, event: object, /) -> None:  # noqa: ARG002
            self.count += 1

        def state(self) -> Frame:
            return {"count": self.count}

        def load(self, state: Frame, /) -> None:
            self.count = state["count"]

    world = World.make(projection=Counting)
    peer = world.connect()
    for _ in range(3):
        world.publish(peer.session_id)
    world.restore()
    assert state_of(peer.send("resync")) == {"count": 3}
    # Without messages there is nothing to shed, and it fits.
    _, state = v1_snapshot(world, peer.session_id)
    assert state["count"] == 3
    assert "truncated" not in state


@pytest.mark.parametrize("version", [1, 2])
def test_snapshot_and_what_follows_give_the_state_of_one_that_never_left(version: int) -> None:
    """P5, with the package's own reducer at both ends."""
    world = World.make(retain=2)
    maker = world.connect()
    kept = Transcript()
    for n in range(6):
        event = world.publish(maker.session_id, run_id="r", transient=True, data={"text": str(n)})
        kept.apply(n + 1, event)
    peer = world.connect(version, session_id=maker.session_id, since=99)
    state = state_of(peer.take())
    mine = Transcript()
    mine.load(state)
    for n in range(6, 9):
        event = world.publish(maker.session_id, run_id="r", transient=True, data={"text": str(n)})
        for projection in (kept, mine):
            projection.apply(n + 1, event)
    assert mine.state() == kept.state()
    assert mine.state()["runs"]["r"]["text"] == "012345678"
    final = make_event(99, run_id="r", final=True)
    for projection in (kept, mine):
        projection.apply(10, final)
    assert mine.state() == kept.state()


def test_a_trim_while_a_snapshot_waits_for_room_is_no_skip() -> None:
    """The journal moves past a snapshot of which only the first part has left."""
    gateway = Gateway(
        GatewayConfig(retain_transient=2, send_window=4096), ids=iter(map(str, range(99))).__next__
    )
    hello = {"type": "hello", "agent_id": "a", "protocol_min": 2, "protocol_max": 2}

    def attach(number: int, **fields: object) -> list[dict[str, object]]:
        gateway.handle(ConnectionOpened(connection=number), now=0.0)
        frame = json.dumps({**hello, **fields}).encode()
        gateway.handle(FrameReceived(number, frame), now=0.0)
        return sent(gateway.handle(Accept(connection=number), now=0.0), number)

    def sent(actions: tuple[object, ...], number: int) -> list[dict[str, object]]:
        return [
            json.loads(frame)
            for action in actions
            if isinstance(action, SendFrames) and number in action.connections
            for frame in action.frames
        ]

    def publish(**fields: Any) -> None:
        event = Event(type="x", event_id="e", timestamp=0.0, **fields)
        gateway.handle(Publish(session_id=str(session_id), event=event), now=0.0)

    session_id = attach(1)[0]["session_id"]
    publish(data={"text": "long " * 2000})
    first = attach(2, session_id=session_id, start="snapshot", max_payload=4096)
    assert {frame["type"] for frame in first[1:]} == {"snapshot"}
    assert first[1]["parts"] != len(first) - 1, "the rest of the snapshot waits"
    for _ in range(9):
        publish(data={"text": "t"}, run_id="r", transient=True)
    frames: list[dict[str, object]] = []
    taken = first
    while taken:
        size = sum(len(json.dumps(frame, separators=(",", ":"))) for frame in taken)
        taken = sent(gateway.handle(Drained(2, size), now=0.0), 2)
        frames += taken
    assert "skip" not in {frame["type"] for frame in frames}
    assert "lagged" in {frame.get("reason") for frame in frames}

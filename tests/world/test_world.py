"""Both machines together, under faults: P1 to P3, P5, P6, P8, P10, P12 and P15 by their account."""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gatewayproto import Event, Gateway, GatewayConfig
from gatewayproto.actions import SendFrames
from gatewayproto.inputs import Accept, ConnectionOpened, Drained, FrameReceived, Publish
from tests.world.scramble import scramble
from tests.world.simworld import Link, World

CONFIG = GatewayConfig(
    retain=6,
    retain_transient=5,
    send_window=900,
    heartbeat=10.0,
    stall_timeout=30.0,
    resume_window=120.0,
    handshake_timeout=10.0,
    request_ttl=60.0,
    max_pending_requests=4,
)


class Faults(RuleBasedStateMachine):
    """Any interleaving of work and faults; at the end faults stop, and all must converge."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(config=CONFIG, ttl=60.0)

    @initialize(clients=st.integers(1, 2))
    def shared(self, clients: int) -> None:
        """Two clients of their own, and others that share the first one's session."""
        world = self.world
        world.heal()
        token = world.peers[0].machine.resume_token
        assert token is not None
        for _ in range(clients):
            world.add_peer(token)

    def _link(self, pick: int, *, kind: str) -> Link | None:
        links = self.world.pick(kind)
        return links[pick % len(links)] if links else None

    def _session(self, pick: int) -> str:
        sessions = self.world.gateway.session_ids
        return sessions[pick % len(sessions)]

    @rule(pick=st.integers(0, 9))
    def open(self, pick: int) -> None:
        if link := self._link(pick, kind="new"):
            self.world.open(link)

    @rule(pick=st.integers(0, 9))
    def refuse(self, pick: int) -> None:
        if link := self._link(pick, kind="new"):
            self.world.cut(link)

    @rule(pick=st.integers(0, 9), count=st.integers(1, 4))
    def up(self, pick: int, count: int) -> None:
        for _ in range(count):
            if link := self._link(pick, kind="up"):
                self.world.deliver_up(link)

    @rule(pick=st.integers(0, 9), count=st.integers(1, 6))
    def down(self, pick: int, count: int) -> None:
        for _ in range(count):
            if link := self._link(pick, kind="down"):
                self.world.deliver_down(link)

    @precondition(lambda self: self.world.joins)
    @rule(pick=st.integers(0, 9))
    def accept(self, pick: int) -> None:
        self.world.accept(pick % len(self.world.joins))

    @rule(pick=st.integers(0, 9), sides=st.sampled_from(["both", "client", "gateway"]))
    def cut(self, pick: int, sides: str) -> None:
        if link := self._link(pick, kind="any"):
            self.world.cut(link, client=sides != "gateway", gateway=sides != "client")

    @precondition(lambda self: self.world.gateway.session_ids)
    @rule(pick=st.integers(0, 3), run=st.sampled_from("ab"), count=st.integers(1, 8))
    def tokens(self, pick: int, run: str, count: int) -> None:
        for number in range(count):
            self.world.publish(
                self._session(pick), data={"text": f"t{number} "}, run_id=run, transient=True
            )

    @precondition(lambda self: self.world.gateway.session_ids)
    @rule(pick=st.integers(0, 3), run=st.sampled_from("ab"))
    def final(self, pick: int, run: str) -> None:
        self.world.publish(self._session(pick), data={"text": "whole"}, run_id=run, final=True)

    @precondition(lambda self: self.world.gateway.session_ids)
    @rule(pick=st.integers(0, 3), count=st.integers(1, 8))
    def durable(self, pick: int, count: int) -> None:
        for _ in range(count):
            self.world.publish(self._session(pick), data={"n": 1})

    @rule(pick=st.integers(0, 3))
    def send(self, pick: int) -> None:
        peers = self.world.peers
        self.world.send(peers[pick % len(peers)], "hello")

    @rule(pick=st.integers(0, 3))
    def take(self, pick: int) -> None:
        peers = self.world.peers
        self.world.take(peers[pick % len(peers)])

    @precondition(lambda self: self.world.unfinished)
    @rule(pick=st.integers(0, 9))
    def finish(self, pick: int) -> None:
        self.world.finish(pick % len(self.world.unfinished))

    @rule(seconds=st.sampled_from([0.25, 2.0, 11.0, 35.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def swap(self) -> None:
        self.world.swap()

    @rule()
    def save(self) -> None:
        self.world.save()

    @rule(unbroken=st.booleans())
    def restart(self, unbroken: bool) -> None:
        self.world.restart(unbroken=unbroken)

    @precondition(lambda self: self.world.saved)
    @rule()
    def restart_from_copy(self) -> None:
        self.world.restart_from_copy()

    def teardown(self) -> None:
        if self.world.peers:
            self.world.heal()


TestFaults = Faults.TestCase
TestFaults.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


WITNESSES = {
    "event",
    "replay",
    "skip",
    "snapshot trimmed",
    "snapshot lagged",
    "snapshot epoch_changed",
    "MessageAccepted",
    "OutcomeUnknown",
    "SessionExpired",
    "restart, unbroken",
    "restart, recovered",
    "restart, older copy",
}
"""What must have happened in the seeded runs, or they would show nothing."""


def test_seeded_faults_lose_nothing_and_everything_happened() -> None:
    witnessed: set[str] = set()
    for seed in range(250):
        world = World(config=CONFIG, seed=seed, ttl=60.0)
        world.heal()
        token = world.peers[0].machine.resume_token
        assert token is not None
        world.add_peer(token)
        scramble(world, 120)
        world.heal()
        witnessed |= world.witnessed
    assert witnessed >= WITNESSES


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

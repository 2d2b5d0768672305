"""A gateway under virtual time with the peers that follow it, and the laws that hold in each test.

Frames are read here as plain JSON: nothing of the package tells these tests what a frame is.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define, field

from gatewayproto import Event, Gateway, GatewayConfig
from gatewayproto.actions import (
    CloseConnection,
    Emit,
    GatewayAction,
    GatewayEvent,
    JoinRequested,
    Persist,
    SendFrames,
)
from gatewayproto.inputs import (
    Accept,
    Activity,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    FrameReceived,
    GatewayInput,
    Persisted,
    Publish,
    TimerExpired,
)

Frame = dict[str, Any]
E = TypeVar("E", bound=GatewayEvent)

START = 1024.0
MAX_INT = 2**53 - 1
DEFAULT_MAX_PAYLOAD = 1_048_576
WELCOMES = ("hello_ok", "joined")
ANSWERS = ("error", "hello_error")
DELIVERIES = ("event", "replay", "skip", "caught_up", "snapshot")
PUSHES = ("presence", "health")
RANGE_FIELDS = {
    "hello": ("protocol_min", "protocol_max"),
    "join": ("min_version", "max_version"),
}


class Ids:
    """Ids that can be told in advance: i1, i2, ..., of at least `width` characters."""

    def __init__(self, last: int = 0, width: int = 0) -> None:
        self.last = last
        self.width = width

    def __call__(self) -> str:
        self.last += 1
        return f"i{self.last}".ljust(self.width, "x")


def handshake(kind: str, version: int | None, **fields: Any) -> Frame:
    """A handshake that offers one version, or none at all; a field that is `...` is left out."""
    frame: Frame = {"type": kind, "agent_id": "agent"}
    if version is not None:
        frame.update(dict.fromkeys(RANGE_FIELDS[kind], version))
    frame.update(fields)
    return {name: value for name, value in frame.items() if value is not ...}


def encode(frame: Mapping[str, Any]) -> bytes:
    return json.dumps(frame, ensure_ascii=False).encode()


@define(eq=False)
class Peer:
    """One connection, seen from its far end. `owed` is what its transport has not taken yet."""

    world: "World"
    number: int
    auto: bool = True
    limit: int = DEFAULT_MAX_PAYLOAD
    frames: list[Frame] = field(factory=list)
    sizes: list[int] = field(factory=list)
    read: int = 0
    owed: int = 0
    code: int | None = None
    reason: str = ""
    attaching: bool = False
    welcome: Frame = field(factory=dict)

    @property
    def closed(self) -> bool:
        return self.code is not None

    @property
    def session_id(self) -> str:
        """The bare id, whatever form the welcome had."""
        return str(self.welcome["session_id"]).partition(".")[0]

    @property
    def epoch(self) -> str:
        return str(self.welcome["epoch"])

    def take(self) -> list[Frame]:
        """The frames that came since the last call."""
        new, self.read = self.frames[self.read :], len(self.frames)
        return new

    def send(self, type_: str, **fields: Any) -> list[Frame]:
        """Send a frame; what came since the last look."""
        return self.send_raw(encode({"type": type_, **fields}))

    def send_raw(self, data: bytes) -> list[Frame]:
        self.world.give(Activity(self.number))
        self.world.give(FrameReceived(self.number, data))
        return self.take()

    def drain(self, size: int | None = None) -> list[Frame]:
        """Let the transport take so much, or all that it is owed now."""
        size = self.owed if size is None else min(size, self.owed)
        if size:
            self.owed -= size
            self.world.give(Drained(self.number, size))
        return self.take()

    def drain_all(self) -> list[Frame]:
        """Let the transport take everything until nothing more comes."""
        frames = self.take()
        while self.owed and not self.closed:
            frames += self.drain()
        return frames

    def cut(self) -> None:
        """The transport is gone."""
        self.owed = 0
        self.code = -1
        self.world.give(ConnectionClosed(self.number))

    def received(self, size: int, frame: Frame) -> None:
        config = self.world.config
        assert not self.closed, f"a frame after the end: {frame}"
        assert size <= self.limit, f"{size} bytes for a peer that takes {self.limit}"
        kind = frame["type"]
        if not self.frames:
            assert kind in {*WELCOMES, *ANSWERS}, f"{kind} before the welcome"
        if kind == "ping":
            assert self.owed == 0
        elif kind in PUSHES or (kind in DELIVERIES and not self.attaching):
            assert self.owed == 0 or self.owed + size <= config.send_window
        if kind in WELCOMES:
            self.welcome = frame
            self.attaching = True  # what leaves together with it does so whatever room there is
        self.owed += size
        self.sizes.append(size)
        self.frames.append(frame)


@define(eq=False)
class World:
    """One gateway, its peers, and the application's ear. `now` moves by `advance` alone.

    Where the gateway writes ahead, `records` are what it gave to be stored, of which the first
    `confirmed` are; while the store is not `late` that is all of them.
    """

    config: GatewayConfig
    ids: Ids
    gateway: Gateway
    now: float = START
    peers: dict[int, Peer] = field(factory=dict)
    events: list[GatewayEvent] = field(factory=list)
    heard: int = 0
    events_made: int = 0
    records: list[Persist] = field(factory=list)
    confirmed: int = 0
    late: bool = False

    @classmethod
    def make(cls, **options: Any) -> "World":
        for rate in ("frame_rate", "recovery_rate"):
            options.setdefault(rate, None)  # these worlds ask for more than a client would
        config, ids = GatewayConfig(**options), Ids()
        return cls(config, ids, Gateway(config, ids=ids))

    # -- inputs -------------------------------------------------------------------------------

    def give(self, input_: GatewayInput) -> tuple[GatewayAction, ...]:
        """Give one input and apply the actions; then let those drain that do so by themselves."""
        actions = self.gateway.handle(input_, now=self.now)
        self.apply(actions)
        self.settle()
        return actions

    def settle(self) -> None:
        """Let the transports take everything that do so by themselves."""
        for peer in tuple(self.peers.values()):
            while peer.auto and peer.owed and not peer.closed:
                size, peer.owed = peer.owed, 0
                self.apply(self.gateway.handle(Drained(peer.number, size), now=self.now))
        if not self.late and self.confirmed < len(self.records):
            self.confirm()

    def confirm(self, count: int | None = None) -> None:
        """The store has that many more of the records, or all that were given."""
        end = len(self.records) if count is None else self.confirmed + count
        new, self.confirmed = self.records[self.confirmed : end], end
        for session_id, number in {each.session_id: each.number for each in new}.items():
            self.give(Persisted(session_id=session_id, number=number))

    def apply(self, actions: tuple[GatewayAction, ...]) -> None:
        for action in actions:
            match action:
                case SendFrames():
                    assert action.frames
                    assert action.connections
                    for data in action.frames:
                        for number in action.connections:
                            self.peers[number].received(len(data), read_frame(data))
                case CloseConnection():
                    peer = self.peers[action.connection]
                    assert not peer.closed
                    peer.code, peer.reason = action.code, action.reason
                case Persist():
                    self.records.append(action)
                case Emit():
                    self.events.append(action.event)
        for peer in self.peers.values():
            peer.attaching = False

    def advance(self, seconds: float) -> None:
        """Let time pass, with every deadline met in time."""
        end = self.now + seconds
        while (deadline := self.gateway.next_deadline) is not None and deadline <= end:
            assert deadline >= self.now
            self.now = deadline
            self.give(TimerExpired())
            after = self.gateway.next_deadline
            assert after is None or after > self.now, "a deadline that stays"
        self.now = end

    def open(self, *, auto: bool = True, **fields: Any) -> Peer:
        """A transport is open, its handshake still to come."""
        peer = Peer(self, max(self.peers, default=0) + 1, auto)
        self.peers[peer.number] = peer
        self.give(ConnectionOpened(connection=peer.number, **fields))
        return peer

    def connect(
        self,
        version: int | None = 2,
        *,
        kind: str = "hello",
        principal: str | None = None,
        auto: bool = True,
        **fields: Any,
    ) -> Peer:
        """Open, shake hands and accept. What came with the welcome is still to be taken."""
        peer = self.open(auto=auto)
        self.attach(peer, version, kind=kind, principal=principal, **fields)
        return peer

    def attach(
        self,
        peer: Peer,
        version: int | None = 2,
        *,
        kind: str = "hello",
        principal: str | None = None,
        **fields: Any,
    ) -> None:
        """Shake hands and accept; the welcome, if there was one, is taken."""
        if isinstance(fields.get("max_payload"), int):
            peer.limit = fields["max_payload"]
        before = len(peer.frames)
        self.give(FrameReceived(peer.number, encode(handshake(kind, version, **fields))))
        if not peer.closed:
            self.accept(peer, principal)
        if peer.frames[before]["type"] in WELCOMES:
            peer.read = before + 1

    def accept(
        self, peer: Peer, principal: str | None = None, expires_in: float | None = None
    ) -> None:
        actions = self.gateway.handle(
            Accept(connection=peer.number, principal=principal, expires_in=expires_in),
            now=self.now,
        )
        self.apply(actions)
        self.settle()

    def publish(self, session_id: str, type_: str = "note", **fields: Any) -> Event:
        """Publish an event with an id of its own."""
        self.events_made += 1
        event = make_event(self.events_made, type_, **fields)
        self.give(Publish(session_id=session_id, event=event))
        return event

    # -- what was seen ------------------------------------------------------------------------

    def hear(self, kind: type[E]) -> list[E]:
        """What the application was told of this kind since it last asked for any."""
        new, self.heard = self.events[self.heard :], len(self.events)
        return [event for event in new if isinstance(event, kind)]

    def told(self, kind: type[E]) -> list[E]:
        """All that the application was ever told of this kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def state(self) -> str:
        """The machine as text, to be compared."""
        return json.dumps(self.gateway.to_state(now=self.now), sort_keys=True)

    def restore(self, *, later: float = 0.0) -> None:
        """Move the machine whole, by way of JSON, onto a clock that is `later`."""
        state = json.loads(json.dumps(self.gateway.to_state(now=self.now)))
        self.now += later
        self.gateway = Gateway.from_state(self.config, state, now=self.now, ids=self.ids)

    def recover(self, *, unbroken: bool = False) -> None:
        """The process and all its transports are gone; what was stored is not."""
        state = json.loads(json.dumps(self.gateway.to_state(now=self.now)))
        self.gateway = Gateway.recover(
            self.config, state, now=self.now, unbroken=unbroken, ids=self.ids
        )
        self.peers.clear()

    def crash(self, *, lost: int = 0, unbroken: bool = True) -> None:
        """The process is gone; of what was not confirmed, the store lacks the newest `lost`."""
        kept = max(self.confirmed, len(self.records) - lost)
        del self.records[kept:]
        self.confirmed = kept
        self.gateway = Gateway.recover_stored(
            self.config, self.store(), now=self.now, unbroken=unbroken, ids=self.ids
        )
        self.peers.clear()

    def store(self) -> list[tuple[str, int, Frame]]:
        """All that was given to be stored, by way of JSON."""
        return [
            (each.session_id, each.number, json.loads(json.dumps(each.record)))
            for each in self.records
        ]


def read_frame(data: bytes) -> Frame:
    frame = json.loads(data.decode())
    assert isinstance(frame, dict)
    assert isinstance(frame["type"], str)
    return frame


def make_event(number: int, type_: str = "note", **fields: Any) -> Event:
    fields.setdefault("data", {"n": number})
    fields.setdefault("event_id", f"e{number}")
    fields.setdefault("timestamp", 1.7e9 + number)
    return Event(type=type_, **fields)


def event_object(event: Event) -> Frame:
    """An event as its clients must see it: no field that does not apply."""
    names = (
        *("type", "data", "event_id", "timestamp", "source", "target", "run_id", "request_id"),
        *("transient", "final", "expects_reply"),
    )
    values = ((name, getattr(event, name)) for name in names)
    return {name: value for name, value in values if value is not None}


def joins(world: World) -> list[JoinRequested]:
    return world.hear(JoinRequested)


def seqs(frames: list[Frame]) -> list[int]:
    return [frame["seq"] for frame in frames if "seq" in frame]


def kinds(frames: list[Frame]) -> list[str]:
    return [frame["type"] for frame in frames]


def only(frames: list[Frame], *types: str) -> list[Frame]:
    return [frame for frame in frames if frame["type"] in types]

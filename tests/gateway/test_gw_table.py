"""Every cell of the connection's table, driven through the machine's one entry."""

from collections.abc import Callable
from typing import Any

import pytest

from gatewayproto import ErrorCode, LocalProtocolError
from gatewayproto._connection_link import State
from gatewayproto._table import Cell, Table, Verdict, handled, ignored
from gatewayproto.actions import CommandDropped, Emit, SnapshotNeeded
from gatewayproto.connection import CONNECTION_TABLE, Input
from gatewayproto.inputs import (
    Accept,
    Activity,
    CloseSession,
    ConnectionClosed,
    Drain,
    Drained,
    FrameReceived,
    GatewayInput,
    Persisted,
    Reject,
    SnapshotReady,
    TimerExpired,
)
from gatewayproto.rates import Rate
from tests.gateway.gwworld import Frame, Peer, World, encode, handshake

Maker = Callable[[World, Peer], GatewayInput | None]
Circumstance = Callable[[State], tuple[World, Peer]]
WAITING = {State.PREPARING, State.LIVE_V2}
SNAPSHOTS = (Input.SNAPSHOT, Input.NO_SNAPSHOT)


# -- states -----------------------------------------------------------------------------------


def arrive(world: World, state: State, *, auto: bool, **fields: object) -> Peer:
    """Bring a new connection into that state."""
    peer = world.open(auto=auto)
    if state is State.OPENING:
        return peer
    if state is State.PREPARING:
        fields = {**needing_a_snapshot(world), **fields}
    version = 1 if state is State.LIVE_V1 else 2
    world.give(FrameReceived(peer.number, encode(handshake("hello", version, **fields))))
    world.late = world.late or state is State.STORING
    if state is not State.JOINING:
        world.accept(peer)
    if state is State.CLOSED:
        peer.send("leave")
    peer.take()
    return peer


def needing_a_snapshot(world: World) -> Frame:
    """A handshake's fields for a session of two events."""
    session_id = world.connect().session_id
    for _ in range(2):
        world.publish(session_id)
    return {"session_id": session_id, "start": "snapshot", "since": 2, "epoch": "i2"}


def easy(state: State) -> tuple[World, Peer]:
    """A peer that takes everything at once, and limits that nothing reaches."""
    world = World.make(write_ahead=state is State.STORING)
    return world, arrive(world, state, auto=True)


def tight(state: State) -> tuple[World, Peer]:
    """No answer fits beside what is owed already, and no bad frame is forgiven."""
    world = World.make(
        send_window=1, answer_window=1, max_violations=1, write_ahead=state is State.STORING
    )
    return world, arrive(world, state, auto=False)


def overrun(state: State) -> tuple[World, Peer]:
    """The journal has let go what the subscriber needs, and it has had its share of snapshots."""
    world = World.make(send_window=1, retain=1, max_lags=1, write_ahead=state is State.STORING)
    peer = arrive(world, state, auto=False)
    if state in {State.LIVE_V1, State.LIVE_V2}:
        for _ in range(3):
            world.publish(peer.session_id)
        if state is State.LIVE_V2:
            peer.drain()  # takes the welcome, lags, gets its one snapshot
            for _ in range(3):
                world.publish(peer.session_id)
        assert peer.owed
    peer.take()
    return world, peer


def foreign(state: State) -> tuple[World, Peer]:
    """The handshake names a session of another agent."""
    world = World.make()
    other = world.connect(agent_id="other")
    other.send("leave")
    named = {"session_id": other.session_id} if state is State.JOINING else {}
    return world, arrive(world, state, auto=True, **named)


def deployed(state: State) -> tuple[World, Peer]:
    """The handshake is of version 1."""
    world = World.make(write_ahead=state is State.STORING)
    if state not in {State.JOINING, State.STORING}:
        return world, arrive(world, state, auto=True)
    peer = world.open()
    world.give(FrameReceived(peer.number, encode(handshake("join", None))))
    if state is State.STORING:
        world.late = True
        world.accept(peer)
    return world, peer


def patient(**options: Any) -> World:
    """A gateway whose application builds the snapshots, and has more time than anything else."""
    long = dict.fromkeys(("heartbeat", "stall_timeout", "resume_window"), 1e6)
    return World.make(application_snapshots=True, snapshot_timeout=100.0, **long, **options)


def building(state: State, **options: int) -> tuple[World, Peer]:
    """The application builds the snapshots, and this subscriber, if it is one, needs one."""
    world = patient(max_snapshot_tries=1, **options)
    fields = needing_a_snapshot(world) if state is State.JOINING else {}
    peer = arrive(world, state, auto=True, **fields)
    if state is State.LIVE_V2:
        world.publish(peer.session_id)
        peer.send("resync")
    return world, peer


def building_tightly(state: State) -> tuple[World, Peer]:
    """The same, where no answer fits, no bad frame is forgiven, and there is no room."""
    world, peer = building(state, answer_window=1, send_window=1, max_violations=1)
    if state is State.LIVE_V2:
        ready = snapshot()(world, peer)
        assert ready is not None
        world.give(ready)
        peer.auto = False
        world.publish(peer.session_id)
        peer.send("resync")
    return world, peer


def building_for_deployed(state: State) -> tuple[World, Peer]:
    """The same for a peer of version 1 that waits for its welcome."""
    world = patient()
    needed = needing_a_snapshot(world)
    peer = world.open()
    if state is State.PREPARING:
        fields = {**needed, "max_payload": 1024}
        world.give(FrameReceived(peer.number, encode(handshake("join", 1, **fields))))
        world.accept(peer)
    return world, peer


def building_around_giants(state: State) -> tuple[World, Peer]:
    """The same, where only snapshots account for the events, and one is all there may be."""
    world = patient(max_lags=1)
    peer = arrive(world, state, auto=True, max_payload=1024)
    if state is State.LIVE_V2:
        for _ in range(2):
            world.publish(peer.session_id, data={"text": "x" * 2000})
    return world, peer


def denied(state: State) -> tuple[World, Peer]:
    """This subscriber has had its one recovery, and no answer fits beside what it is owed."""
    world = World.make(recovery_rate=Rate(1e-6, 1), send_window=1, answer_window=1)
    peer = arrive(world, state, auto=False)
    if state is State.LIVE_V2:
        peer.drain_all()
        peer.send("resync")
        peer.drain_all()
        world.publish(peer.session_id)
    return world, peer


def flooded(state: State) -> tuple[World, Peer]:
    """This peer has sent the one frame that it may."""
    world = patient(frame_rate=Rate(1e-6, 1), write_ahead=state is State.STORING)
    peer = arrive(world, state, auto=True)
    if state is State.OPENING:
        peer.send("ping")
    return world, peer


def sealed(state: State) -> tuple[World, Peer]:
    """The session is closed; what is left of it has no room, but a snapshot has."""
    world = World.make(send_window=4096)
    peer = arrive(world, state, auto=False)
    if state in {State.LIVE_V1, State.LIVE_V2}:
        world.publish(peer.session_id, transient=True, data={"bulk": "x" * 8000})
        world.give(CloseSession(session_id=peer.session_id))
        assert peer.owed
        assert not peer.closed
    return world, peer


def ahead(state: State) -> tuple[World, Peer]:
    """The store is late with an answer, and another one has taken its room meanwhile."""
    world = World.make(write_ahead=True, send_window=1, answer_window=64)
    peer = arrive(world, state, auto=False)
    world.late = True
    if state in {State.LIVE_V1, State.LIVE_V2}:
        peer.send("message", content="hi", request_id="q")
        peer.send("ping", nonce="some")
    return world, peer


def expiring(state: State) -> tuple[World, Peer]:
    """Its credentials will not be good for as long as the welcome has to wait."""
    world = patient(write_ahead=state is State.STORING)
    if state not in {State.STORING, State.PREPARING}:
        return world, arrive(world, state, auto=True)
    fields = needing_a_snapshot(world) if state is State.PREPARING else {}
    world.late = state is State.STORING
    peer = world.open()
    world.give(FrameReceived(peer.number, encode(handshake("hello", 2, **fields))))
    world.accept(peer, expires_in=20.0)
    return world, peer


def recovered_to_build(state: State) -> tuple[World, Peer]:
    """The session is one that was stored, and its snapshots are the application's to build."""
    return recovered(state, application_snapshots=True, snapshot_timeout=100.0)


def recovered(state: State, **options: Any) -> tuple[World, Peer]:
    """The session is one that was stored, and holds what a version 1 client cannot be sent."""
    world = World.make(write_ahead=True, **options)
    before = world.connect()
    world.publish(before.session_id, data={"text": "x" * 2000})
    world.crash(unbroken=False)
    world.late = state is State.STORING
    world.give(TimerExpired())  # gives the new epoch to be stored
    peer = world.open()
    if state is State.OPENING:
        return world, peer
    named = {"session_id": before.session_id, "max_payload": 1024}
    if world.config.application_snapshots:
        named["start"] = "snapshot"
    world.give(FrameReceived(peer.number, encode(handshake("hello", 1, **named))))
    if state is not State.JOINING:
        world.accept(peer)
    return world, peer


CIRCUMSTANCES: tuple[Circumstance, ...] = (
    *(denied, flooded, ahead, recovered, recovered_to_build, expiring),
    *(easy, tight, overrun, foreign, deployed, sealed),
    *(building, building_tightly, building_for_deployed, building_around_giants),
)


# -- inputs -----------------------------------------------------------------------------------


def frame(type_: str, **fields: object) -> Maker:
    return lambda _, peer: FrameReceived(peer.number, encode({"type": type_, **fields}))


def raw(data: bytes) -> Maker:
    return lambda _, peer: FrameReceived(peer.number, data)


def after(seconds: float) -> Maker:
    def make(world: World, _: Peer) -> GatewayInput:
        world.now += seconds
        return TimerExpired()

    return make


def resume_of_now(world: World, peer: Peer) -> GatewayInput:
    """A `resume` that the decision table would grant."""
    info = world.gateway.session(peer.session_id) if peer.welcome else None
    since, epoch = (info.cursor, info.epoch) if info else (0, "e")
    return FrameReceived(
        peer.number, encode({"type": "resume", "epoch": epoch, "since": since, "nonce": "n"})
    )


def drained(_: World, peer: Peer) -> GatewayInput:
    size, peer.owed = max(peer.owed, 1), 0
    return Drained(peer.number, size)


def snapshot(**fields: int) -> Maker:
    """What the application was asked for, as of the head or an earlier `cursor`."""

    def make(world: World, peer: Peer) -> GatewayInput | None:
        asked = world.told(SnapshotNeeded)
        if not asked or state_of(world, peer) not in WAITING:
            return None
        return SnapshotReady(
            session_id=asked[-1].session_id,
            epoch=asked[-1].epoch,
            cursor=fields.get("cursor", asked[-1].cursor),
            state={"text": "x" * fields.get("size", 0)},
        )

    return make


def no_snapshot(world: World, peer: Peer) -> GatewayInput | None:
    if not world.told(SnapshotNeeded) or state_of(world, peer) not in WAITING:
        return None
    return after(100)(world, peer)


def one_too_many(world: World, peer: Peer) -> GatewayInput | None:
    return frame("ping")(world, peer) if world.config.frame_rate else None


def hello(version: int, **fields: object) -> Maker:
    return lambda _, peer: FrameReceived(peer.number, encode(handshake("hello", version, **fields)))


def stored(world: World, peer: Peer) -> GatewayInput:
    """What the connection waits for, if it does; else a session that is gone."""
    if peer.closed or world.confirmed == len(world.records):
        return Persisted(session_id="gone", number=1)
    newest = world.records[-1]
    world.confirmed = len(world.records)
    return Persisted(session_id=newest.session_id, number=newest.number)


MAKERS: dict[Input, tuple[Maker, ...]] = {
    Input.HANDSHAKE: (hello(1), hello(2), hello(2, since=-1), hello(1, agent_id=5)),
    Input.MESSAGE: (frame("message", content="hi", request_id="r"),),
    Input.ABORT: (frame("abort", run_id="r"),),
    Input.RESUME: (resume_of_now,),
    Input.RESYNC: (frame("resync", nonce="n"),),
    Input.AUTH: (frame("auth", token="t"),),
    Input.PING: (frame("ping", nonce="n"),),
    Input.PONG: (frame("pong", nonce="n", cursor=0),),
    Input.LEAVE: (frame("leave"),),
    Input.UNKNOWN: (frame("dance"),),
    Input.INVALID: (frame("message", content="hi", request_id=""),),
    Input.MALFORMED: (raw(b"{"), raw(b"\xff"), raw(b"[]"), raw(b'{"type":5}')),
    Input.FLOOD: (one_too_many,),
    Input.ACTIVITY: (lambda _, peer: Activity(peer.number),),
    Input.DRAINED: (drained,),
    Input.GONE: (lambda _, peer: ConnectionClosed(peer.number),),
    Input.ACCEPT: (
        lambda _, peer: Accept(connection=peer.number),
        lambda _, peer: Accept(connection=peer.number, principal="another", expires_in=1.0),
    ),
    Input.REJECT: (lambda _, peer: Reject(connection=peer.number, code=ErrorCode.AUTH_REQUIRED),),
    Input.SNAPSHOT: (snapshot(), snapshot(size=2000), snapshot(cursor=0), snapshot(cursor=1)),
    Input.NO_SNAPSHOT: (no_snapshot,),
    Input.TIMER: (after(30), after(60)),
    Input.DRAIN: (lambda *_: Drain(grace=5), lambda *_: Drain()),
    Input.STORED: (stored,),
}


# -- the walk ---------------------------------------------------------------------------------


def state_of(world: World, peer: Peer) -> State:
    """Where the machine says that the connection stands."""
    found = [
        each["state"]
        for each in world.gateway.to_state(now=world.now)["connections"]
        if each["number"] == peer.number
    ]
    return State(found[0]) if found else State.CLOSED


def run(circumstance: Circumstance, state: State, maker: Maker, verdict: Verdict) -> State | None:
    """Give one input in one state; where it ended. None where the input cannot be given there."""
    world, peer = circumstance(state)
    if state_of(world, peer) is not state:
        return None
    owed = peer.owed
    input_ = maker(world, peer)
    if input_ is None or (isinstance(input_, FrameReceived) and floods(world, maker)):
        return None
    if isinstance(input_, Drain) and state is State.CLOSED:
        return None
    if isinstance(input_, Drained) and owed == 0 and state is not State.CLOSED:
        return None  # nothing can be taken: the caller's mistake, whatever the state
    before = world.state()
    if verdict is Verdict.CALLER_MISTAKE:
        with pytest.raises(LocalProtocolError):
            world.give(input_)
        assert world.state() == before
        return state_of(world, peer)
    actions = world.give(input_)
    if verdict in {Verdict.RACE, Verdict.IGNORED}:
        assert world.state() == before
        dropped = isinstance(input_, Accept | Reject)
        assert [isinstance(each, Emit) for each in actions] == [True] * dropped
        assert len(world.hear(CommandDropped)) == dropped
    elif verdict is Verdict.PEER_FAULT:
        assert peer.take() or held(world, peer) or peer.closed
    end = state_of(world, peer)
    if not isinstance(input_, ConnectionClosed):
        assert peer.closed == (end is State.CLOSED)
    return end


def floods(world: World, maker: Maker) -> bool:
    """Whether a frame of any kind would be one too many."""
    return world.config.frame_rate is not None and maker is not one_too_many


def held(world: World, peer: Peer) -> list[Frame]:
    states = world.gateway.to_state(now=world.now)["connections"]
    return [each for fields in states if fields["number"] == peer.number for each in fields["held"]]


# Nothing was sent before the welcome, so nothing can be taken; only who waits for a snapshot hears
# of one.
BEFORE_WELCOME = (State.OPENING, State.JOINING, State.STORING, State.PREPARING)
UNREACHABLE_INPUT = {
    *((state, Input.DRAINED) for state in BEFORE_WELCOME),
    *((state, input_) for state in set(State) - WAITING for input_ in SNAPSHOTS),
    (State.CLOSED, Input.DRAIN),
}


@pytest.mark.parametrize("input_", Input)
@pytest.mark.parametrize("state", State)
def test_cell_ends_where_it_says_and_nowhere_else(state: State, input_: Input) -> None:
    cell = CONNECTION_TABLE[state, input_]
    ends = {
        run(circumstance, state, maker, cell.verdict)
        for circumstance in CIRCUMSTANCES
        for maker in MAKERS[input_]
    } - {None}
    if (state, input_) in UNREACHABLE_INPUT:
        assert ends <= cell.ends
    else:
        assert ends == cell.ends


@pytest.mark.parametrize(
    "state", [each for each in State if each not in {State.PREPARING, State.CLOSED}]
)
def test_taking_more_than_was_owed_is_the_callers_mistake(state: State) -> None:
    world, peer = easy(state)
    before = world.state()
    for size in (1, 0, -1):
        with pytest.raises(LocalProtocolError):
            world.give(Drained(peer.number, size))
    assert world.state() == before


def test_table_without_a_cell_or_with_one_too_many_is_refused() -> None:
    full: dict[State, dict[Input, Cell[State]]] = {
        state: dict.fromkeys(Input, ignored(state)) for state in State
    }
    assert Table("whole", State, Input, full)[State.OPENING, Input.PING].handler is None
    del full[State.OPENING][Input.PING]
    with pytest.raises(ValueError, match="gap: opening lacks"):
        Table("gap", State, Input, full)
    del full[State.OPENING]
    with pytest.raises(ValueError, match="row"):
        Table("row", State, Input, full)


def test_handler_that_leaves_the_table_is_noticed() -> None:
    cell = handled(lambda: None, State.OPENING)
    assert cell.ends == {State.OPENING}
    assert cell.verdict is Verdict.HANDLED

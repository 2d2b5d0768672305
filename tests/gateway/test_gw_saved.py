"""Saved and restored: the same from there on (P12); recovered: nothing passes for unbroken."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto import Gateway, GatewayConfig, LocalProtocolError
from gatewayproto.actions import MessageReceived, Persist
from gatewayproto.errors import ErrorCode
from gatewayproto.inputs import (
    Accept,
    Activity,
    ChangeEpoch,
    Complete,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    FrameReceived,
    GatewayInput,
    Persisted,
    Publish,
    Reject,
    SetHealth,
    TimerExpired,
)
from tests.gateway.gwworld import START, Ids, World, encode, handshake, make_event, seqs

OPTIONS: dict[str, Any] = {
    "retain": 3, "retain_transient": 3, "retain_bytes": 2000, "send_window": 900,
    "answer_window": 400, "heartbeat": 4, "stall_timeout": 6, "resume_window": 8,
    "request_ttl": 3, "max_lags": 2, "lag_period": 8, "handshake_timeout": 5,
    "max_pending_requests": 2, "max_connections": 6, "max_sessions": 3, "max_violations": 3,
}  # fmt: skip
AHEAD: dict[str, Any] = {
    **OPTIONS, "write_ahead": True, "max_unstored": 6, "max_unstored_bytes": 700,
    "checkpoint_every": 4, "max_connections": 5,
}  # fmt: skip
OPS = st.tuples(st.integers(0, 15), st.integers(0, 9), st.integers(0, 9))
OPS_AHEAD = st.tuples(st.integers(0, 19), st.integers(0, 9), st.integers(0, 9))


class Machine:
    """One gateway with ids of its own; inputs are made from numbers and what it was seen to do."""

    def __init__(self, gateway: Gateway, ids: Ids) -> None:
        self.gateway = gateway
        self.ids = ids
        self.given: dict[str, int] = {}

    def moved(self, now: float, later: float) -> "Machine":
        text = json.dumps(self.gateway.to_state(now=now), allow_nan=False)
        ids = Ids(self.ids.last)
        config = self.gateway.config
        return Machine(Gateway.from_state(config, json.loads(text), now=now + later, ids=ids), ids)


def make_input(  # noqa: C901, PLR0911, PLR0912 -- one arm for each kind of input
    op: tuple[int, int, int], machine: Machine, opened: int, count: int
) -> GatewayInput:
    code, a, b = op
    connection = 1 + a % max(1, opened)
    sessions = machine.gateway.session_ids or ("none",)
    session_id = sessions[b % len(sessions)]
    match code:
        case 0:
            return ConnectionOpened(
                connection=opened + 1, path="/p", query={"token": "q"}, peer="x", timestamp=b
            )
        case 1 | 2:
            fields: dict[str, Any] = {"session_id": session_id, "since": a, "client": {"name": "n"}}
            if b > 6:
                fields["max_payload"] = 4096
            if b == 5:
                fields["start"] = "snapshot"
            return FrameReceived(connection, encode(handshake("hello", 1 + b % 2, **fields)))
        case 3 | 4:
            good_for = 1.0 + b if code == 4 else None
            principal = None if b < 8 else "p"
            return Accept(connection=connection, principal=principal, expires_in=good_for)
        case 5 | 6:
            fields = {"run_id": "rs"[a % 2], "data": {"text": "t" * 50 * b}}
            return Publish(session_id=session_id, event=make_event(count, transient=True, **fields))
        case 7:
            fields = {"expects_reply": True} if a % 2 else {}
            return Publish(session_id=session_id, event=make_event(count, **fields))
        case 8:
            event = make_event(count, final=True, run_id="rs"[a % 2])
            return Publish(session_id=session_id, event=event)
        case 9:
            return Drained(connection, [1, 10, 50, 100, 200, 400, 800, 1600, 3200, 1][b])
        case 10:
            frames: list[dict[str, Any]] = [
                {"type": "ping", "nonce": "n" * a},
                {"type": "resume", "epoch": "i2", "since": a, "nonce": "r"},
                {"type": "resync"},
                {"type": "message", "content": "c", "request_id": f"r{a}"},
                {"type": "message", "content": "c", "reply_to": f"e{a}"},
                {"type": "abort", "run_id": "r"} if a > 5 else {"type": "dance"},
                {"type": 5},
                {"type": "leave"},
                {"type": "auth", "token": f"t{a}"} if a > 3 else {"type": "pong"},
                {"type": "message", "content": "d", "request_id": f"r{a}"},
            ]
            return FrameReceived(connection, encode(frames[b]))
        case 11:
            return Activity(connection)
        case 12:
            return ConnectionClosed(connection) if b < 5 else TimerExpired()
        case 13:
            return Reject(connection=connection, code=ErrorCode.AUTH_REQUIRED)
        case 14:
            if b < 2:
                return ChangeEpoch(session_id=session_id)
            return SetHealth(health={"b": b})
        case 16 | 17 | 18 | 19:
            ended = [each for each in machine.given if each not in sessions]
            if ended and a == 0:
                session_id = ended[-1]
            number = machine.given.get(session_id, 1)
            return Persisted(session_id=session_id, number=number - (a - 4 if a > 4 else 0))
        case _:
            return Complete(session_id=session_id, message_id=1 + a)


@settings(max_examples=120)
@given(st.lists(OPS, max_size=100), st.integers(0, 5), st.integers(0, 8))
def test_machine_moved_at_any_step_goes_on_the_same(
    script: list[tuple[int, int, int]], every: int, offset: int
) -> None:
    move_at_any_step(script, every, offset, OPTIONS)


@settings(max_examples=120)
@given(st.lists(OPS_AHEAD, max_size=100), st.integers(0, 5), st.integers(0, 8))
def test_machine_that_writes_ahead_goes_on_the_same_with_what_waits(
    script: list[tuple[int, int, int]], every: int, offset: int
) -> None:
    move_at_any_step(script, every, offset, AHEAD)


def move_at_any_step(
    script: list[tuple[int, int, int]], every: int, offset: int, options: dict[str, Any]
) -> None:
    ids = Ids()
    still = Machine(Gateway(GatewayConfig(**options), ids=ids), ids)
    moved, later, now, opened = still.moved(START, 0.0), 0.0, START, 0
    for count, op in enumerate(script, start=1):
        now += op[2] / 8
        if count % (every + 1) == 0:
            moved = moved.moved(now + later, offset * 64.0)
            later += offset * 64.0
        input_ = make_input(op, still, opened, count)
        if isinstance(input_, ConnectionOpened):
            opened = input_.connection
        gave = attempt(still, input_, now)
        for action in gave if isinstance(gave, tuple) else ():
            if isinstance(action, Persist):
                still.given[action.session_id] = action.number
        assert attempt(moved, input_, now + later) == gave
        deadline = still.gateway.next_deadline
        other = moved.gateway.next_deadline
        assert deadline == (None if other is None else other - later)
        assert still.gateway.session_ids == moved.gateway.session_ids
        for session_id in still.gateway.session_ids:
            assert still.gateway.pending(session_id) == moved.gateway.pending(session_id)
    assert still.gateway.to_state(now=now) == moved.gateway.to_state(now=now + later)


def attempt(machine: Machine, input_: GatewayInput, now: float) -> object:
    try:
        return machine.gateway.handle(input_, now=now)
    except LocalProtocolError as error:
        return str(error)


@settings(max_examples=60)
@given(st.lists(OPS, max_size=80))
def test_to_state_and_the_rest_of_what_is_read_change_nothing(
    script: list[tuple[int, int, int]],
) -> None:
    machines = []
    for _ in range(2):
        ids = Ids()
        config = GatewayConfig(**OPTIONS)
        machines.append(Machine(Gateway(config, ids=ids), ids))
    watched, alone = machines
    now, opened = START, 0
    for count, op in enumerate(script, start=1):
        now += op[2] / 8
        input_ = make_input(op, alone, opened, count)
        if isinstance(input_, ConnectionOpened):
            opened = input_.connection
        assert attempt(watched, input_, now) == attempt(alone, input_, now)
        first = json.dumps(watched.gateway.to_state(now=now))
        assert json.dumps(watched.gateway.to_state(now=now)) == first
        for session_id in watched.gateway.session_ids:
            assert watched.gateway.session(session_id) == alone.gateway.session(session_id)


def test_followers_keep_their_order() -> None:
    world = World.make()
    maker = world.connect()
    early, late = world.open(), world.open()
    for peer in (late, early):  # welcomed in another order than they were opened
        world.attach(peer, 2, session_id=maker.session_id)
    world.restore(later=8)
    listed = world.connect(session_id=maker.session_id).welcome["presence"]
    mine = [maker, late, early]
    assert [entry["client_id"] for entry in listed[:3]] == [
        peer.welcome["presence"][-1]["client_id"] for peer in mine
    ]


@pytest.mark.parametrize("schema", [None, "gatewayproto.gateway/0", 1, ...])
def test_state_of_another_schema_is_refused(schema: Any) -> None:
    world = World.make()
    world.connect()
    state = world.gateway.to_state(now=world.now)
    if schema is ...:
        del state["schema"]
    else:
        state["schema"] = schema
    with pytest.raises(ValueError, match="schema"):
        Gateway.from_state(world.config, state, now=world.now)
    with pytest.raises(ValueError, match="schema"):
        Gateway.recover(world.config, state, now=world.now)


# -- recovery ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("unbroken", [False, True])
def test_recovered_session_begins_a_new_epoch_unless_it_is_unbroken(
    version: int, unbroken: bool
) -> None:
    world = World.make()
    peer = world.connect(version, principal="p")
    for _ in range(5):
        world.publish(peer.session_id)
    info = world.gateway.session(peer.session_id)
    assert info is not None
    named: dict[str, Any] = {"session_id": peer.welcome["session_id"], "principal": "p"}
    if version == 2:
        named["epoch"] = peer.epoch
    world.recover(unbroken=unbroken)
    after = world.gateway.session(peer.session_id)
    assert after is not None
    assert (after.cursor, after.oldest_cursor, after.retained) == (5, 1, 5)
    assert (after.epoch == info.epoch) is unbroken
    assert (after.agent_id, after.principal, after.subscribers) == ("agent", "p", 0)
    world.publish(peer.session_id)  # the numbering goes on
    again = world.connect(version, since=3, **named)
    assert again.welcome["resumed"] is True
    frames = again.take()
    if unbroken:
        assert seqs(frames) == [4, 5, 6]
    else:
        assert again.welcome["resync_reason"] == "epoch_changed"
        assert frames[0]["type"] == "snapshot"
        assert seqs(frames) == []
    world.publish(peer.session_id)
    assert seqs(again.take()) == [7]
    assert world.connect(session_id=peer.session_id, principal="q").welcome["resumed"] is False


def test_older_copy_is_noticed_by_its_epoch() -> None:
    world = World.make()
    peer = world.connect()
    world.publish(peer.session_id)
    old = json.loads(json.dumps(world.gateway.to_state(now=world.now)))
    for _ in range(3):
        world.publish(peer.session_id)
    world.peers.clear()
    world.gateway = Gateway.recover(world.config, old, now=world.now, ids=world.ids)
    for _ in range(9):
        world.publish(peer.session_id)
    again = world.connect(session_id=peer.session_id, epoch=peer.epoch, since=4)
    assert again.welcome["resync_reason"] == "epoch_changed"


def test_recovered_session_waits_for_its_clients_a_whole_resume_window() -> None:
    world = World.make(resume_window=50)
    peer = world.connect()
    gone = world.connect()
    gone.cut()
    world.advance(40)
    world.recover()
    world.advance(49.875)
    assert set(world.gateway.session_ids) == {peer.session_id, gone.session_id}
    world.advance(0.125)
    assert world.gateway.session_ids == ()


def test_recovered_inbox_remembers_requests_and_questions() -> None:
    world = World.make(request_ttl=10)
    peer = world.connect()
    question = world.publish(peer.session_id, expects_reply=True).event_id
    fields = {"content": "hi", "request_id": "r", "reply_to": question}
    peer.send("message", **fields)
    (received,) = world.hear(MessageReceived)
    world.recover()
    again = world.connect(session_id=peer.session_id)
    again.take()
    (ack,) = again.send("message", **fields)
    assert (ack["type"], ack["duplicate"]) == ("message_ack", True)
    (nack,) = again.send("message", content="", reply_to=question)
    assert nack["code"] == "already_answered"
    assert not world.hear(MessageReceived)
    # What was accepted and not completed is the application's to decide on.
    assert world.gateway.pending(peer.session_id) == (received,)
    world.give(Complete(session_id=peer.session_id, message_id=received.message_id))
    assert world.gateway.pending(peer.session_id) == ()
    assert world.gateway.pending("never-was") == ()

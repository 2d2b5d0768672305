"""The table of the client, cell by cell: each does what it says, and ends where it says."""

from collections.abc import Iterator
from typing import Any

import pytest

from gatewayproto._client_states import DEADLINES, Trigger
from gatewayproto._client_states import FRAMES as FRAME_TRIGGERS
from gatewayproto._table import Verdict
from gatewayproto.client import CLIENT_TABLE, ClientState
from gatewayproto.errors import LocalProtocolError
from gatewayproto.inputs import (
    Abort,
    Activity,
    ClientInput,
    Connect,
    Disconnect,
    Resync,
    Send,
    SetToken,
    Taken,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.versions import VersionRange
from tests.client.clientlab import (
    HELD,
    POLICY,
    Frame,
    Lab,
    ack,
    caught_up,
    event,
    nack,
    reach,
    skip,
    snapshot,
)

S, T = ClientState, Trigger
GOING_AWAY: Frame = {"type": "going_away", "reason": "x", "after_ms": 1, "spread_ms": 0}
BAD_FRAME: Frame = {"type": 5}

Step = ClientInput | Frame | float | str
"""An input; a frame from the server; seconds that pass; or how the timer in question fires."""


def commands(lab: Lab) -> dict[Trigger, list[ClientInput]]:
    number = max(1, lab.connection)
    return {
        T.CONNECT: [Connect()],
        T.SEND: [Send(content="x")],
        T.ABORT: [Abort()],
        T.TAKEN: [Taken(5)],
        T.RESYNC: [Resync()],
        T.SET_TOKEN: [SetToken("new"), SetToken(None)],
        T.DISCONNECT: [Disconnect()],
        T.OPENED: [TransportOpened(number)],
        T.ACTIVITY: [Activity(number)],
        T.CLOSED: [
            TransportClosed(connection=number),
            TransportClosed(connection=number, code=4006),
            TransportClosed(connection=number, code=4508),
        ],
    }


def welcomes(lab: Lab) -> list[list[Step]]:
    """What a welcome may be, by the state it comes in; each with what is to come before it."""
    kind = "joined" if lab.state is S.REJOINING else "hello_ok"
    if lab.state not in {S.HANDSHAKING, S.REJOINING}:
        return [[lab.welcome()], [lab.welcome_v1()]]
    return [
        [lab.welcome(type=kind)],
        [lab.welcome(type=kind, resync_required=True, resync_reason="trimmed")],
        [lab.welcome(type=kind, sequence=None)],
        [lab.welcome_v1(type=kind, cursor=9)],
        [lab.welcome_v1(type=kind, cursor=2, oldest_cursor=1)],
        [lab.welcome_v1(type="hello_ok")],
        [Resync(), lab.welcome(type=kind)],
    ]


FRAMES: dict[Trigger, list[Frame]] = {
    T.ERROR: [
        {"type": "error", "code": "bogus", "message": ""},
        {"type": "error", "code": "rate_limited", "message": ""},
        {"type": "error", "code": "auth_expired", "message": ""},
        {"type": "error", "code": "agent_not_found", "message": ""},
    ],
    T.EVENT: [event(6), event(5), event(8)],
    T.SKIP: [skip(6, 7), skip(1, 5), skip(8, 9), skip(9, 8)],
    T.CAUGHT_UP: [caught_up(5), caught_up(9), caught_up(5, nonce="id-1"), caught_up(9, nonce="x")],
    T.SNAPSHOT: [
        snapshot(9),
        snapshot(9, epoch="e2"),
        snapshot(9, state=None, part=1, parts=2, chunk="{"),
    ],
    T.ACK: [ack("x")],
    T.NACK: [nack("x")],
    T.PING: [{"type": "ping", "cursor": 5}, {"type": "ping", "cursor": 9}],
    T.PONG: [{"type": "pong"}],
    T.PRESENCE: [
        {"type": "presence", "version": 10, "entries": []},
        {"type": "presence", "version": 11, "entries": [], "presence_count": 0},
    ],
    T.HEALTH: [{"type": "health", "version": 1, "health": {}}],
    T.GOING_AWAY: [GOING_AWAY],
    T.UNKNOWN: [{"type": "bogus"}],
    T.BAD_FRAME: [BAD_FRAME],
}


DUE: list[list[Step]] = [["due"]]
TIMERS: dict[Trigger, list[list[Step]]] = {
    T.LEAVE_DUE: [[GOING_AWAY, "due"]],
    T.LIVENESS_LATE: [[32.0, "due"], [32.0, "due, and the clock jumped"]],
}


def samples(lab: Lab, trigger: Trigger) -> list[list[Step]]:
    """Inputs for a cell, each the last of its list; what stands before them prepares it."""
    if trigger is T.WELCOME:
        return welcomes(lab)
    if trigger in DEADLINES:
        return TIMERS.get(trigger, DUE)
    found: list[list[Step]] = [[each] for each in FRAMES.get(trigger, [])]
    found.extend([command] for command in commands(lab).get(trigger, []))
    if trigger is T.CAUGHT_UP and lab.state is S.RECOVERING:
        found.append([caught_up(9, nonce="id-1")])
        found.append([event(6), caught_up(9, nonce="id-1")])
    if trigger is T.CAUGHT_UP and lab.state is S.LIVE and lab.client.protocol_version != 1:
        found.append([event(9), snapshot(5), caught_up(9)])
    if trigger is T.SET_TOKEN and lab.state is S.TOKEN_NEEDED:
        found.append([4.0, SetToken("new")])
    return found


def deadline_of(lab: Lab, trigger: Trigger) -> float | None:
    deadlines: list[tuple[str, float]] = lab.client.to_state(now=0.0)["deadlines"]
    return dict(deadlines).get(trigger)


def take(lab: Lab, step: Step, trigger: Trigger) -> tuple[Any, ...]:
    match step:
        case str():
            due = deadline_of(lab, trigger)
            assert due is not None, (lab.state, trigger)
            lab.now = due if step == "due" else due + 1000.0
            return lab.give(TimerExpired()).actions
        case float() | int():
            return lab.pass_time(step).actions
        case dict():
            if lab.connection == 0:
                return lab.server(step, connection=1).actions
            return lab.server(step).actions
        case _:
            return lab.give(step).actions


def labs(state: ClientState, trigger: Trigger) -> Iterator[Lab]:
    """Clients in this state: of either version, with attempts to spare and without."""
    config: dict[str, Any] = {
        "handshake_timeout": 8.0,
        "recovery_timeout": 8.0 if trigger is T.RECOVERY_LATE else 1e6,
    }
    for spent in (False, True):
        lab = Lab(resume=HELD, max_attempts=1 if spent else None, **config)
        if trigger is T.REQUEST_LATE and state is not S.IDLE:
            # A message that was written on an earlier connection, or on this one.
            lab.policy = {**POLICY, "request_ttl_ms": 500 if state is S.WAITING else 2000}
            lab.live()
            lab.give(Send(content="x"))
            lab.close()
        elif spent and state is not S.IDLE:
            lab.connect()
            lab.close()
        reach(lab, state)
        yield lab
    if trigger in {T.REQUEST_LATE, T.LEAVE_DUE}:
        return
    if state in {S.LIVE, S.RESYNCING}:
        for limit in (None, 1):
            lab = Lab(resume=HELD, max_attempts=limit, **config)
            lab.connect()
            if limit:
                lab.close()
                lab.try_again()
            resync = {"resync_required": True} if state is S.RESYNCING else {}
            if trigger is T.PONG:  # from a server that names no floor, and is ahead
                lab.server(lab.welcome_v1(cursor=9, **resync))
                lab.server(lab.welcome_v1(type="joined", cursor=9, **resync))
            else:
                lab.server(lab.welcome_v1(cursor=5, oldest_cursor=1, **resync))
            assert lab.state is state
            yield lab
    if state is S.HANDSHAKING:
        lab = Lab(resume=HELD, versions=VersionRange(2, 2))
        reach(lab, state)
        yield lab
    if state is S.REJECTED:
        for step in ("do_not_retry", "reauthenticate"):
            lab = Lab(resume=HELD, **config)
            lab.connect()
            lab.server({"type": "error", "code": "bogus", "next_step": step})
            yield lab


def tries(state: ClientState, trigger: Trigger) -> Iterator[tuple[Lab, list[Step]]]:
    for number, lab in enumerate(labs(state, trigger)):
        for which in range(len(samples(lab, trigger))):
            again = list(labs(state, trigger))[number]
            yield again, samples(again, trigger)[which]


@pytest.mark.parametrize("state", list(ClientState))
def test_every_cell_does_what_it_says(state: ClientState) -> None:
    for trigger in Trigger:
        cell = CLIENT_TABLE[state, trigger]
        if trigger in DEADLINES and cell.handler is None:
            # No such deadline is ever set in this state.
            assert all(deadline_of(lab, trigger) is None for lab in labs(state, trigger))
            continue
        ends: set[ClientState] = set()
        for lab, (*before, step) in tries(state, trigger):
            for each in before:
                take(lab, each, trigger)
            assert lab.state is state, (trigger, before)
            saved = lab.client.to_state(now=lab.now)
            if cell.verdict is Verdict.CALLER_MISTAKE:
                with pytest.raises(LocalProtocolError):
                    take(lab, step, trigger)
            else:
                actions = take(lab, step, trigger)
                assert actions == () or cell.handler is not None, (trigger, step)
            ends.add(lab.state)
            if cell.handler is None:
                assert lab.client.to_state(now=lab.now) == saved, (trigger, step)
        assert ends == cell.ends, (trigger, ends, cell.ends)


def test_frames_deadlines_and_the_rest_are_all_that_can_happen() -> None:
    rest = {*commands(Lab(resume=HELD))}
    assert {*FRAME_TRIGGERS} == {*FRAMES, T.WELCOME}
    assert rest.isdisjoint(FRAME_TRIGGERS)
    assert {*DEADLINES} == {*Trigger} - rest - {*FRAME_TRIGGERS}


def test_every_handler_says_what_it_does() -> None:
    for state in ClientState:
        for trigger in Trigger:
            handler = CLIENT_TABLE[state, trigger].handler
            assert handler is None or (handler.__doc__ or "").strip()

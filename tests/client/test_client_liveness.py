"""Silence, slow applications, and clocks that jump."""

import json

import pytest

from gatewayproto.actions import RetryScheduled
from gatewayproto.client import ClientState
from gatewayproto.inputs import Activity, Taken, TimerExpired
from tests.client.clientlab import HEARTBEAT, HELD, POLICY, Lab, event, events, reach, retry_of


def test_a_silent_server_is_pinged_and_given_up_after_twice_its_heartbeat() -> None:
    lab = Lab()
    lab.live()
    told = lab.pass_time(HEARTBEAT)
    (ping,) = told.frames
    assert ping["type"] == "ping"
    assert ping["nonce"]
    assert lab.pass_time(HEARTBEAT - 0.5).actions == ()
    told = lab.pass_time(0.5)
    assert lab.now == 2 * HEARTBEAT
    assert [closing.code for closing in told.closed] == [4001]
    assert retry_of(told).code == "liveness_timeout"


@pytest.mark.parametrize("sign", ["frame", "activity", "event"])
def test_a_server_that_speaks_in_time_is_never_given_up(sign: str) -> None:
    lab = Lab()
    lab.live()
    for seq in range(1, 20):
        assert lab.pass_time(2 * HEARTBEAT - 1).of(RetryScheduled) == []
        match sign:
            case "frame":
                lab.server({"type": "pong"})
            case "activity":
                lab.give(Activity(lab.connection))
            case _:
                lab.server(event(seq))


def test_the_configured_heartbeat_counts_where_the_server_states_none() -> None:
    for policy in (None, {**POLICY, "heartbeat_ms": 0}):
        lab = Lab(heartbeat=8.0)
        lab.live(policy=policy)
        assert lab.pass_time(15.5).of(RetryScheduled) == []
        assert retry_of(lab.pass_time(0.5)).code == "liveness_timeout"


@pytest.mark.parametrize(("stated", "counts"), [(1, 0.1), (300, 0.3), (2**53 - 1, 86_400.0)])
def test_a_heartbeat_beyond_reason_is_taken_for_the_nearest_within(
    stated: int, counts: float
) -> None:
    lab = Lab(handshake_timeout=0.001)
    lab.live(policy={**POLICY, "heartbeat_ms": stated})
    assert lab.pass_time(counts * 0.99).actions == ()
    assert [frame["type"] for frame in lab.pass_time(counts * 0.02).frames] == ["ping"]
    assert lab.pass_time(counts).of(RetryScheduled)[0].code == "liveness_timeout"


def test_a_flood_of_pings_is_answered_one_by_one_with_bounded_answers() -> None:
    lab = Lab()
    lab.connect()
    lab.server(lab.welcome_v1())
    for nonce in ("x" * 100, "x" * 1_000_000):
        told = lab.server({"type": "ping", "nonce": nonce})
        assert len(told.actions) == 1
        assert len(json.dumps(told.frames)) < 4096


def test_silence_is_not_counted_while_the_application_is_behind() -> None:
    lab = Lab(slow=True)
    lab.live(*events(1, 3))
    # A driver whose application is slow does not read: it cannot have heard anything.
    assert lab.pass_time(10 * HEARTBEAT).actions == ()
    lab.give(Taken(2))
    assert lab.pass_time(10 * HEARTBEAT).actions == ()
    lab.give(Taken(3))
    assert lab.pass_time(2 * HEARTBEAT - 1).of(RetryScheduled) == []
    assert retry_of(lab.pass_time(1)).code == "liveness_timeout"


def test_what_was_not_taken_on_one_connection_counts_on_the_next() -> None:
    lab = Lab(slow=True)
    lab.live(*events(1, 3))
    lab.close()
    lab.back()
    assert lab.pass_time(10 * HEARTBEAT).actions == ()
    lab.give(Taken(3))
    assert retry_of(lab.pass_time(2 * HEARTBEAT)).code == "liveness_timeout"


def test_a_recovery_is_bounded_however_slow_the_application() -> None:
    lab = Lab(slow=True, recovery_timeout=8.0)
    lab.live(*events(1, 3), event(9))
    assert retry_of(lab.pass_time(8.0)).code == "recovery_timeout"


def jump(lab: Lab, seconds: float) -> list[str]:
    """The clock jumps, and only then is the timer seen."""
    lab.now += seconds
    told = lab.give(TimerExpired())
    return [frame["type"] for frame in told.frames] + [
        retry.code or "" for retry in told.of(RetryScheduled)
    ]


def test_after_a_jump_of_the_clock_there_is_a_ping_before_the_connection_is_given_up() -> None:
    lab = Lab(handshake_timeout=8.0)
    lab.live()
    assert jump(lab, 1000 * HEARTBEAT) == ["ping"]
    # The answer takes its time, but not for ever.
    assert lab.pass_time(7.5).actions == ()
    lab.server({"type": "pong"})
    assert lab.pass_time(2 * HEARTBEAT - 1).of(RetryScheduled) == []
    # Again, between the ping and the end.
    lab = Lab(handshake_timeout=8.0)
    lab.live()
    assert [frame["type"] for frame in lab.pass_time(HEARTBEAT).frames] == ["ping"]
    assert jump(lab, 1000 * HEARTBEAT) == ["ping"]
    assert retry_of(lab.pass_time(8.0)).code == "liveness_timeout"


def test_a_timer_that_is_a_little_late_is_no_jump() -> None:
    lab = Lab(handshake_timeout=8.0)
    lab.live()
    lab.pass_time(HEARTBEAT)
    assert jump(lab, HEARTBEAT + 1.0) == ["liveness_timeout"]


@pytest.mark.parametrize("state", list(ClientState))
def test_a_timer_that_fires_early_is_nothing(state: ClientState) -> None:
    lab = Lab(resume=HELD)
    reach(lab, state)
    due = lab.client.next_deadline
    assert (due is None) == (state in {ClientState.IDLE, ClientState.TOKEN_NEEDED, "stopped"})
    lab.now = 1000.0 if due is None else due - 0.25
    before = lab.client.to_state(now=lab.now)
    assert lab.give(TimerExpired()).actions == ()
    assert lab.client.to_state(now=lab.now) == before


def test_liveness_of_one_connection_is_nothing_to_the_next() -> None:
    lab = Lab()
    lab.live()
    lab.pass_time(HEARTBEAT + 1)
    lab.close()
    lab.back()
    assert lab.pass_time(HEARTBEAT).of(RetryScheduled) == []
    assert lab.give(Activity(1)).actions == ()
    assert retry_of(lab.pass_time(HEARTBEAT)).code == "liveness_timeout"

"""What a client retries, how long it waits, and what ends it."""

import json
from typing import Any

import pytest

from gatewayproto.actions import (
    CaughtUp,
    CloseTransport,
    EventReceived,
    MessageRefused,
    OpenTransport,
    OutcomeUnknown,
    RetryScheduled,
    StateChanged,
    Stopped,
    TokenNeeded,
)
from gatewayproto.backoff import Backoff
from gatewayproto.client import ClientState
from gatewayproto.errors import LocalProtocolError
from gatewayproto.inputs import (
    Abort,
    Connect,
    Disconnect,
    Resync,
    Send,
    SetToken,
    Taken,
    TimerExpired,
    TransportClosed,
)
from tests.client.clientlab import HELD, Frame, Lab, Told, caught_up, event, reach, retry_of

MAY_RETRY = [
    *(None, 1000, 1001, 1005, 1006, 1011, 1012, 1013, 1014, 3000, 3999),
    *(4000, 4001, 4002, 4003, 4004, 4005, 4007, 4499),
]
MAY_NOT = [1002, 1003, 1007, 1008, 1009, 1010, *range(4500, 4510), 4750, 4999]
NAMES: dict[int | None, str | None] = {
    None: None,
    1005: None,
    1006: None,
    4000: "going_away",
    4001: "liveness_timeout",
    4002: "slow_consumer",
    4003: "rate_limited",
    4004: "internal_error",
    4005: "handshake_timeout",
    4500: "version_unsupported",
    4501: "invalid_protocol_hello",
    4502: "invalid_cursor",
    4503: "auth_required",
    4504: "auth_unauthorized",
    4505: "agent_not_found",
    4506: "malformed_frame",
    4507: "payload_too_large",
    4508: "session_closed",
}


def name_of(code: int | None) -> str | None:
    return NAMES.get(code, f"close_{code}")


def reject(lab: Lab, code: str, close: int | None = None, **fields: Any) -> Told:
    """A rejection as the server writes it, and the close that follows it."""
    frame = {"type": "hello_error", "code": code, "message": "no", **fields}
    return Told(lab.server(frame).actions + lab.close(close).actions)


# -- close codes ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", MAY_RETRY)
@pytest.mark.parametrize("welcomed", [True, False])
def test_closes_that_may_be_retried_are(code: int | None, welcomed: bool) -> None:
    lab = Lab()
    if welcomed:
        lab.live()
    else:
        lab.connect()
    told = lab.close(code)
    assert retry_of(told) == RetryScheduled(delay=1.0, attempt=1, code=name_of(code))
    assert told.closed == []
    assert lab.try_again().opened == [OpenTransport(connection=2)]


@pytest.mark.parametrize("code", MAY_NOT)
@pytest.mark.parametrize("welcomed", [True, False])
def test_closes_that_may_not_be_retried_end_it(code: int, welcomed: bool) -> None:
    lab = Lab()
    if welcomed:
        lab.live()
    else:
        lab.connect()
    told = lab.close(code, reason="why")
    assert told.events == [
        StateChanged("disconnected"),
        Stopped(code=name_of(code) or "", message="why"),
    ]
    assert lab.client.next_deadline is None
    assert lab.state == ClientState.STOPPED


def test_an_error_after_the_welcome_decides_nothing() -> None:
    lab = Lab()
    lab.live()
    for code in ("version_unsupported", "session_closed", "auth_required", "bogus"):
        error = {"type": "error", "code": code, "message": "no", "next_step": "do_not_retry"}
        assert lab.server(error).actions == ()
    assert retry_of(lab.close()).code is None
    lab.back()
    lab.server({"type": "error", "code": "internal_error", "message": "no"})
    assert lab.close(4508).one(Stopped).code == "session_closed"


# -- rejections -------------------------------------------------------------------------------

FINAL = [
    "version_unsupported",
    "protocol_unsupported",
    "invalid_protocol_hello",
    "invalid_cursor",
    "auth_required",
    "auth_unauthorized",
    "agent_not_found",
    "malformed_frame",
    "payload_too_large",
    "session_closed",
]
PASSING = [
    "going_away",
    "liveness_timeout",
    "slow_consumer",
    "rate_limited",
    "internal_error",
    "handshake_timeout",
]


@pytest.mark.parametrize("kind", ["hello_error", "error"])
@pytest.mark.parametrize("code", FINAL)
def test_a_final_rejection_ends_it_at_once_with_its_code(code: str, kind: str) -> None:
    lab = Lab()
    lab.connect()
    told = lab.server({"type": kind, "code": code, "message": "no", "next_step": "x"})
    assert told.one(Stopped) == Stopped(code=code, message="no")
    assert told.closed[0].connection == 1
    assert lab.close(1000).actions == ()
    assert lab.client.next_deadline is None


@pytest.mark.parametrize("code", PASSING)
def test_a_passing_rejection_is_retried(code: str) -> None:
    lab = Lab()
    lab.connect()
    told = reject(lab, code, 4500, next_step="do_not_retry")
    assert retry_of(told).code == code
    assert told.of(Stopped) == []


@pytest.mark.parametrize(
    ("close", "step", "retried"),
    [
        (4777, "wait_then_retry", False),
        (4500, None, False),
        (1008, "wait_then_retry", False),
        (4333, "do_not_retry", True),
        (1000, "do_not_retry", True),
        (1013, "do_not_retry", True),
        (3500, None, True),
        (None, "do_not_retry", False),
        (1005, "do_not_retry", False),
        (1006, "upgrade_client", False),
        (None, "downgrade_client", False),
        (None, "wait_then_retry", True),
        (None, "a step of tomorrow", True),
        (None, None, True),
    ],
)
def test_an_unknown_rejection_goes_by_its_close_code_else_by_its_next_step(
    close: int | None, step: str | None, retried: bool
) -> None:
    for code in ("bogus", "configuration_error", "unknown_type"):
        lab = Lab()
        lab.connect()
        told = reject(lab, code, close, next_step=step)
        if retried:
            assert retry_of(told).code == code
        else:
            assert told.one(Stopped) == Stopped(code=code, message="no")


@pytest.mark.parametrize("fields", [{}, {"code": None}, {"code": 5, "message": ["x"]}])
def test_a_rejection_without_a_code_goes_by_its_close(fields: Frame) -> None:
    for close, code in ((4501, "invalid_protocol_hello"), (1008, "close_1008")):
        lab = Lab()
        lab.connect()
        lab.server({"type": "error", **fields})
        assert lab.close(close).one(Stopped) == Stopped(code=code, message="")
    lab = Lab()
    lab.connect()
    lab.server({"type": "error", "next_step": "do_not_retry", **fields})
    assert lab.close().one(Stopped).code == "closed"


def test_an_unknown_rejection_without_a_close_goes_by_its_next_step_in_the_end() -> None:
    for step, kind in (("do_not_retry", Stopped), (None, RetryScheduled)):
        lab = Lab(handshake_timeout=8.0)
        lab.connect()
        rejection = {"type": "hello_error", "code": "bogus", "message": "no", "next_step": step}
        assert lab.server(rejection).actions == ()
        # Nothing that still comes matters, be it a welcome.
        assert lab.server(lab.welcome(), event(1), {"type": "ping"}).actions == ()
        assert lab.raw(b"nonsense").actions == ()
        told = lab.pass_time(8.0)
        assert told.of(kind)
        assert told.closed


# -- credentials ------------------------------------------------------------------------------


def expired(how: str) -> tuple[Lab, Told]:
    lab = Lab(token="old", resume=HELD)
    match how:
        case "rejection":
            lab.connect()
            return lab, lab.server({"type": "hello_error", "code": "auth_expired", "message": ""})
        case "close":
            lab.live()
            return lab, lab.close(4006)
        case "401" | "403":
            lab.give(Connect())
            return lab, lab.close(http_status=int(how))
        case _:
            lab.connect()
            return lab, reject(lab, "bogus", None, next_step="reauthenticate")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("rejection", "auth_expired"),
        ("close", "auth_expired"),
        ("401", "auth_required"),
        ("403", "auth_unauthorized"),
        ("next_step", "bogus"),
    ],
)
def test_what_a_new_token_can_mend_waits_for_it_with_cursor_and_queue(how: str, code: str) -> None:
    lab, told = expired(how)
    assert told.one(TokenNeeded).code == code
    assert told.of(RetryScheduled) == []
    lab.give(Send(content="x", request_id="r"))
    assert lab.pass_time(1000.0).actions == ()
    assert lab.give(SetToken(None)).actions == ()
    told = lab.give(SetToken("new"))
    assert told.opened == [OpenTransport(connection=2, token="new")]
    (hello,) = lab.open().frames
    assert (hello["token"], hello["since"]) == ("new", 5)
    assert [frame["request_id"] for frame in lab.server(lab.welcome()).frames] == ["r"]


def test_a_new_token_comes_back_no_sooner_than_the_server_allows() -> None:
    lab = Lab()
    lab.connect()
    lab.server({"type": "hello_error", "code": "auth_expired", "retry_after_seconds": 8})
    lab.pass_time(3.0)
    assert retry_of(lab.give(SetToken("new"))).delay == 5.0
    assert lab.pass_time(5.0).opened[0].token == "new"


def test_a_token_that_no_handshake_has_carried_is_tried_before_another_is_asked_for() -> None:
    lab = Lab(token="old")
    lab.connect()
    lab.give(SetToken("new"))
    told = lab.server({"type": "hello_error", "code": "auth_expired", "message": ""})
    assert told.of(TokenNeeded) == []
    assert retry_of(told).code == "auth_expired"
    (hello,) = lab.try_again().frames
    assert hello["token"] == "new"
    told = lab.server({"type": "hello_error", "code": "auth_expired", "message": ""})
    assert told.of(TokenNeeded)


# -- HTTP answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 301, 429, 500, 502, 503, 504, 599])
def test_http_answers_that_may_be_retried_are(status: int) -> None:
    lab = Lab()
    lab.give(Connect())
    told = lab.close(http_status=status, retry_after_seconds=7.0)
    assert retry_of(told) == RetryScheduled(delay=7.0, attempt=1, code=f"http_{status}")


@pytest.mark.parametrize("status", [400, 404, 410, 426, 451])
def test_other_http_answers_are_final(status: int) -> None:
    lab = Lab()
    lab.give(Connect())
    told = lab.close(http_status=status, reason="Gone", retry_after_seconds=7.0)
    assert told.one(Stopped) == Stopped(code=f"http_{status}", message="Gone")


DAY = 86_400.0


@pytest.mark.parametrize("asked", [86_401, 1e18, 1e308])
def test_no_server_keeps_a_client_away_for_more_than_a_day(asked: float) -> None:
    lab = Lab()
    lab.give(Connect())
    assert retry_of(lab.close(http_status=503, retry_after_seconds=asked)).delay == DAY
    lab.try_again()
    assert retry_of(reject(lab, "rate_limited", 4003, retry_after_seconds=asked)).delay == DAY
    lab.try_again()
    assert retry_of(reject(lab, "bogus", 4444, retry_after_seconds=asked)).delay == DAY
    lab.back(caught_up(0))
    lab.server({"type": "error", "code": "x", "message": "", "retry_after_seconds": asked})
    assert retry_of(lab.close()).delay == DAY
    lab.back(going_away(after=2**53 - 1, spread=2**53 - 1))
    assert DAY <= retry_of(lab.close()).delay <= 2 * DAY
    lab.back(caught_up(0))
    told = reject_token(lab, asked)
    assert told.of(TokenNeeded)
    assert retry_of(lab.give(SetToken("new"))).delay == DAY


def reject_token(lab: Lab, asked: float) -> Told:
    lab.close()
    lab.try_again()
    return reject(lab, "auth_expired", 4006, retry_after_seconds=asked)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "9007199254740992"])
@pytest.mark.parametrize("kind", ["hello_error", "error"])
def test_a_number_out_of_range_in_a_rejection_is_a_bad_frame(kind: str, number: str) -> None:
    for where in ('"retry_after_seconds":%s', '"more":{"x":[%s]}'):
        lab = Lab()
        lab.connect()
        fields = where % number
        told = lab.raw(
            b'{"type":"%b","code":"agent_not_found",%b}' % (kind.encode(), fields.encode())
        )
        assert retry_of(told) == RetryScheduled(delay=1.0, attempt=1, code="malformed_frame")
        assert json.loads(json.dumps(lab.client.to_state(now=0.0)))


@pytest.mark.parametrize("nonsense", [-5.0, float("nan"), float("inf")])
def test_nonsense_for_a_time_to_wait_is_none(nonsense: float) -> None:
    lab = Lab()
    lab.give(Connect())
    assert retry_of(lab.close(http_status=503, retry_after_seconds=nonsense)).delay == 1.0


# -- waiting ----------------------------------------------------------------------------------


def test_delays_grow_to_the_maximum_while_attempts_are_counted() -> None:
    lab = Lab()
    lab.connect()
    told = [lab.close()]
    for _ in range(6):
        lab.try_again()
        told.append(lab.close())
    retries = [retry_of(each) for each in told]
    assert [retry.attempt for retry in retries] == [1, 2, 3, 4, 5, 6, 7]
    assert [retry.delay for retry in retries] == [1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]


def test_jitter_comes_from_the_generator_that_was_given() -> None:
    spread = Backoff(initial=4.0, maximum=4.0, jitter=0.5)
    delays = []
    for seed in (1, 1, 2):
        lab = Lab(seed=seed, backoff=spread)
        lab.connect()
        delays.append(retry_of(lab.close()).delay)
    assert delays[0] == delays[1] != delays[2]
    assert all(2.0 <= delay <= 4.0 for delay in delays)


def test_the_count_starts_again_once_caught_up_and_not_at_the_welcome() -> None:
    lab = Lab()
    lab.connect()
    lab.close()
    for attempt in (2, 3, 4):
        lab.back(event(attempt - 1), cursor=9)
        assert retry_of(lab.close()).attempt == attempt
    lab.back(caught_up(3))
    assert retry_of(lab.close()).attempt == 1


def test_a_caught_up_that_is_no_answer_starts_no_count_again() -> None:
    lab = Lab()
    lab.connect()
    lab.close()
    lab.back(caught_up(0, nonce="stale"), caught_up(3))
    assert lab.state == ClientState.RECOVERING
    assert retry_of(lab.close()).attempt == 2


def test_max_attempts_counts_the_tries_in_a_row_after_the_first() -> None:
    lab = Lab(max_attempts=2)
    lab.connect()
    assert retry_of(lab.close()).attempt == 1
    lab.back(caught_up(0))
    assert retry_of(lab.close()).attempt == 1
    lab.try_again()
    assert retry_of(lab.close()).attempt == 2
    lab.try_again()
    told = lab.close()
    assert told.of(RetryScheduled) == []
    assert told.one(Stopped).code == "max_attempts"
    lab = Lab(max_attempts=1)
    lab.connect()
    lab.close(4003)
    lab.try_again()
    assert lab.close(4003).one(Stopped).code == "rate_limited"


def test_the_servers_floor_is_above_the_maximum() -> None:
    lab = Lab()
    lab.connect()
    told = reject(lab, "rate_limited", 4003, retry_after_seconds=100)
    assert retry_of(told).delay == 100.0
    lab.back(caught_up(0))
    # After the welcome it carries over to the close, and is good for one time.
    error = {"type": "error", "code": "x", "message": "", "retry_after_seconds": 50.5}
    lab.server(error, {**error, "retry_after_seconds": 1})
    assert retry_of(lab.close(4003)).delay == 50.5
    lab.back(caught_up(0))
    assert retry_of(lab.close()).delay == 1.0


def test_a_floor_of_an_unknown_rejection_counts_too() -> None:
    lab = Lab()
    lab.connect()
    assert retry_of(reject(lab, "bogus", 4444, retry_after_seconds=9)).delay == 9.0
    # Whatever stands there.
    lab.try_again()
    assert retry_of(reject(lab, "bogus", 4444, retry_after_seconds="soon")).delay == 2.0
    lab.try_again()
    assert retry_of(reject(lab, "bogus", 4444, retry_after_seconds=-9)).delay == 4.0


# -- going away -------------------------------------------------------------------------------


def going_away(after: int = 20_000, spread: int = 0) -> Frame:
    return {"type": "going_away", "reason": "restart", "after_ms": after, "spread_ms": spread}


def test_a_client_that_is_told_to_leave_holds_its_messages_and_comes_back_when_said() -> None:
    lab = Lab()
    lab.live(going_away())
    assert lab.give(Send(content="x", request_id="r")).frames == []
    # What is on its way still counts.
    assert lab.server(event(1)).of(EventReceived)
    told = lab.close(4000)
    assert retry_of(told) == RetryScheduled(delay=20.0, attempt=1, code="going_away")
    told = lab.back(caught_up(1))
    assert [frame["request_id"] for frame in told.sent("message")] == ["r"]
    # It was good for one time.
    assert retry_of(lab.close()).delay == 1.0


@pytest.mark.parametrize("code", [None, 1012])
def test_the_close_after_it_may_say_anything_that_can_be_retried(code: int | None) -> None:
    lab = Lab()
    lab.live(going_away())
    retry = retry_of(lab.close(code))
    assert retry.delay == 20.0
    assert retry.code == (name_of(code) or "going_away")


def test_a_server_that_does_not_close_is_left_soon() -> None:
    lab = Lab()
    lab.live(going_away(after=500), going_away())
    told = lab.pass_time(2.0)
    assert told.frames == [{"type": "leave", "reason": "going_away"}]
    assert told.closed == [CloseTransport(connection=1, code=1000, reason="going_away")]
    assert retry_of(told).delay == 20.0


def test_the_spread_is_a_random_part() -> None:
    delays = []
    for seed in range(5):
        lab = Lab(seed=seed)
        lab.live(going_away(spread=10_000))
        delays.append(retry_of(lab.close(4000)).delay)
    assert all(20.0 <= delay <= 30.0 for delay in delays)
    assert len(set(delays)) == 5


# -- the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(ClientState))
def test_disconnect_succeeds_in_every_state_as_often_as_it_is_called(state: ClientState) -> None:
    lab = Lab(resume=HELD)
    reach(lab, state)
    told = lab.give(Disconnect())
    if state is not ClientState.STOPPED:
        assert told.events == [
            StateChanged("disconnected"),
            Stopped(code="disconnected", message=""),
        ]
        left = state in {ClientState.LIVE, ClientState.RECOVERING, ClientState.RESYNCING}
        assert told.frames == ([{"type": "leave"}] if left else [])
        linked = state not in {ClientState.IDLE, ClientState.WAITING, ClientState.TOKEN_NEEDED}
        assert [closing.code for closing in told.closed] == ([1000] if linked else [])
    assert lab.client.next_deadline is None
    for command in (Disconnect(), Abort(), Resync(), SetToken("x"), Taken(3), TimerExpired()):
        assert lab.give(command).actions == ()
    with pytest.raises(LocalProtocolError):
        lab.give(Connect())
    (refused,) = lab.give(Send(content="late", request_id="late")).events
    assert isinstance(refused, MessageRefused)
    assert (refused.request_id, refused.code) == ("late", "disconnected")
    for number in range(1, lab.connection + 1):
        assert lab.give(TransportClosed(connection=number, code=4508)).actions == ()
        assert lab.server(event(6), connection=number).actions == ()


def test_at_the_end_every_message_comes_to_its_own() -> None:
    policy = {
        "max_payload": 9999,
        "heartbeat_ms": 30_000,
        "resume_window_ms": 1,
        "request_ttl_ms": 300_000,
        "max_pending_requests": 1,
    }
    for end in (Disconnect(), TransportClosed(connection=1, code=4508)):
        lab = Lab()
        lab.live(policy=policy)
        lab.give(Send(content="1", request_id="one"), Send(content="2", request_id="two"))
        told = lab.give(end)
        assert told.one(OutcomeUnknown).request_id == "one"
        assert told.one(MessageRefused).request_id == "two"
        assert told.one(MessageRefused).code == "disconnected"
        assert isinstance(told.events[-1], Stopped)


def test_caught_up_is_told_after_a_return() -> None:
    lab = Lab(resume=HELD)
    assert lab.live(caught_up(5)).one(CaughtUp).cursor == 5
    lab.close()
    assert lab.back(caught_up(5)).one(CaughtUp).cursor == 5

"""Deadlines that are there for a reason only, bounds to the byte, and what is said at each end."""

import json
import random
from typing import Any

import pytest

from gatewayproto.actions import (
    CloseTransport,
    EventReceived,
    HealthReceived,
    Joined,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    ResumeToken,
    SendFrame,
    Skipped,
    SnapshotReceived,
    StateChanged,
    Stopped,
)
from gatewayproto.backoff import Backoff
from gatewayproto.client import Client, ClientState
from gatewayproto.inputs import Disconnect, Resync, Send, SetToken, Taken, TimerExpired
from gatewayproto.versions import VersionRange
from tests.client.clientlab import (
    HEARTBEAT,
    HELD,
    POLICY,
    Frame,
    Lab,
    Told,
    ack,
    caught_up,
    event,
    events,
    reach,
    retry_of,
    skip,
    snapshot,
)


def moved(lab: Lab) -> None:
    """Save the machine and go on with its copy."""
    state = lab.client.to_state(now=lab.now)
    lab.client = Client.from_state(lab.config, state, rng=lab.rng, now=lab.now, ids=lab.ids)


def nonce_of(told: Told, kind: str) -> Any:
    (frame,) = told.sent(kind)
    return frame["nonce"]


def test_version_is_that_of_the_present_connection() -> None:
    lab = Lab()
    versions = [lab.client.protocol_version]
    for step in (lab.connect, lambda: lab.server(lab.welcome()), lab.close):
        step()
        versions.append(lab.client.protocol_version)
    assert versions == [None, None, 2, None]


@pytest.mark.parametrize("state", [ClientState.LIVE, ClientState.RECOVERING, ClientState.RESYNCING])
def test_ping_is_answered_wherever_there_was_a_welcome(state: ClientState) -> None:
    lab = Lab(resume=HELD)
    reach(lab, state)
    assert lab.server({"type": "ping", "nonce": "n"}).frames == [
        {"type": "pong", "nonce": "n", "cursor": HELD.cursor}
    ]
    assert lab.state is state


def test_what_is_no_input_is_not_passed_over_in_silence() -> None:
    off: Any = event(1)
    with pytest.raises(AssertionError):
        Lab().client.handle(off, now=0.0)


# -- deadlines --------------------------------------------------------------------------------


def test_once_everything_was_answered_only_the_silence_is_waited_for() -> None:
    lab = Lab(recovery_timeout=4.0)
    lab.policy = {**POLICY, "request_ttl_ms": 16_000}
    lab.live(caught_up(0))
    silence = lab.now + HEARTBEAT
    assert lab.client.next_deadline == silence
    lab.server(event(1), skip(2, 3))
    assert lab.client.next_deadline == silence
    lab.give(Send(content="x", request_id="r"))
    assert lab.client.next_deadline == lab.now + 16.0
    assert len(lab.server(ack("r")).of(MessageAccepted)) == 1
    assert lab.client.next_deadline == silence
    nonce = nonce_of(lab.server(event(9)), "resume")
    assert lab.client.next_deadline == lab.now + 4.0
    lab.server(event(4), caught_up(4, nonce=nonce))
    assert (lab.state, lab.client.next_deadline) == (ClientState.LIVE, silence)
    nonce = nonce_of(lab.give(Resync()), "resync")
    lab.server(snapshot(7, "requested", nonce=nonce), event(8))
    assert (lab.state, lab.client.next_deadline) == (ClientState.LIVE, silence)


def test_event_that_was_not_taken_stops_the_count_of_silence_at_once() -> None:
    lab = Lab(slow=True)
    lab.live()
    lab.server(event(1))
    assert lab.client.next_deadline is None
    lab.give(Taken(1))
    assert lab.client.next_deadline == lab.now + HEARTBEAT


def test_position_that_was_resumed_from_was_taken() -> None:
    lab = Lab(resume=HELD, slow=True)
    lab.live()
    assert lab.client.next_deadline == lab.now + HEARTBEAT
    (pong,) = lab.server({"type": "ping", "nonce": "n"}).frames
    assert pong["cursor"] == HELD.cursor


def test_every_byte_of_a_snapshot_in_parts_is_progress() -> None:
    lab = Lab(recovery_timeout=8.0)
    lab.live()
    nonce = nonce_of(lab.give(Resync()), "resync")
    text = '{"upto":3}'
    for part, chunk in enumerate(text, start=1):
        lab.pass_time(7.5)
        fields = {"part": part, "parts": len(text), "chunk": chunk, "nonce": nonce}
        lab.server(snapshot(3, "requested", state=None, **fields))
    assert (lab.state, lab.cursor) == (ClientState.LIVE, 3)


TEXT = '{"upto":3}'


def part(number: int, parts: int = len(TEXT), chunk: str | None = None) -> Frame:
    chunk = TEXT[number - 1] if chunk is None else chunk
    return snapshot(3, state=None, part=number, parts=parts, chunk=chunk)


def test_snapshot_may_come_in_as_many_parts_as_it_may_have_bytes() -> None:
    for limit, code in ((len(TEXT), None), (len(TEXT) - 1, 1009)):
        lab = Lab(max_snapshot=limit)
        lab.live()
        told = lab.server(*(part(number) for number in range(1, len(TEXT) + 1)))
        assert [close.code for close in told.closed] == ([] if code is None else [code])
        assert [each.state for each in told.of(SnapshotReceived)] == [{"upto": 3}] * (code is None)


@pytest.mark.parametrize(
    ("before", "late"),
    [
        ([part(1), part(2), snapshot(3)], part(3)),
        ([part(1, 2, TEXT[:4]), part(2, 2, TEXT[4:])], part(3, 2, "")),
    ],
)
def test_part_behind_a_whole_snapshot_is_the_next_of_nothing(
    before: list[Frame], late: Frame
) -> None:
    lab = Lab()
    lab.live()
    assert lab.server(*before).one(SnapshotReceived).cursor == 3
    assert retry_of(lab.server(late)).code == "malformed_frame"


def test_snapshot_that_was_not_taken_stops_the_count_of_silence() -> None:
    lab = Lab(slow=True)
    lab.live()
    lab.server(event(1))
    lab.give(Taken(1))
    lab.give(Resync())
    lab.server(snapshot(1, "requested"))
    assert lab.client.next_deadline is None
    lab.give(Taken(1))
    assert lab.client.next_deadline == lab.now + HEARTBEAT


def test_timer_is_late_by_as_much_as_a_server_has_for_its_answer_and_no_more() -> None:
    for late, kind in ((8.0, []), (8.125, ["ping"])):
        lab = Lab(handshake_timeout=8.0)
        lab.live()
        lab.pass_time(HEARTBEAT)
        lab.now += HEARTBEAT + late
        assert [frame["type"] for frame in lab.give(TimerExpired()).frames] == kind


def test_repeated_going_away_puts_nothing_off() -> None:
    lab = Lab(seed=3)
    lab.live()
    frame = {"type": "going_away", "reason": "drain", "after_ms": 2000, "spread_ms": 8000}
    lab.server(frame)
    lab.pass_time(0.75)
    lab.server({**frame, "spread_ms": 0})
    assert retry_of(lab.pass_time(0.25)).delay == 2.0


def test_return_is_spread_by_the_part_that_the_generator_gives() -> None:
    lab = Lab(seed=3)
    part = random.Random(3).random()
    lab.live()
    lab.server({"type": "going_away", "reason": "drain", "after_ms": 2000, "spread_ms": 8000})
    assert retry_of(lab.pass_time(1.0)).delay == 2.0 + part * 8.0


def full() -> Lab:
    """One message is written, and another waits for room."""
    lab = Lab()
    lab.policy = {**POLICY, "max_pending_requests": 1, "request_ttl_ms": 16_000}
    lab.live()
    assert lab.give(Send(content="x", request_id="a")).sent("message")
    lab.pass_time(4.0)
    assert not lab.give(Send(content="x", request_id="b")).sent("message")
    return lab


def test_message_that_waited_has_its_whole_time_from_when_it_was_written() -> None:
    lab = full()
    told = lab.pass_time(12.0)  # the first is late now
    assert [each.request_id for each in told.of(OutcomeUnknown)] == ["a"]
    assert [frame["request_id"] for frame in told.sent("message")] == ["b"]
    assert lab.pass_time(15.875).of(OutcomeUnknown) == []
    assert lab.pass_time(0.125).one(OutcomeUnknown).request_id == "b"
    lab = full()
    told = lab.server(snapshot(1, "epoch_changed", epoch="e2"))
    assert [each.request_id for each in told.of(OutcomeUnknown)] == ["a"]
    assert [frame["request_id"] for frame in told.sent("message")] == ["b"]
    assert lab.pass_time(15.875).of(OutcomeUnknown) == []
    assert lab.pass_time(0.125).one(OutcomeUnknown).request_id == "b"


def test_wish_for_a_snapshot_is_moot_in_a_new_session() -> None:
    lab = Lab()
    lab.connect()
    lab.give(Resync())
    assert lab.server(lab.welcome()).frames == []
    lab.close()
    (hello,) = lab.try_again().sent("hello")
    assert "start" not in hello


# -- what is told -----------------------------------------------------------------------------


def test_delay_of_a_first_return_is_the_backoffs_alone() -> None:
    lab = Lab(backoff=Backoff(initial=0.25, maximum=16.0, multiplier=2.0, jitter=0.0))
    lab.live()
    assert retry_of(lab.close()).delay == 0.25
    lab.try_again()
    assert retry_of(lab.close(4003, retry_after_seconds=0.625)).delay == 0.625
    lab.try_again()
    lab.server({"type": "hello_error", "code": "bogus", "message": ""})
    assert retry_of(lab.close(4003, retry_after_seconds=99.0)).delay == 99.0


def test_name_of_the_state_changes_where_a_new_token_is_needed() -> None:
    lab = Lab()
    lab.live()
    assert lab.close(4006).one(StateChanged).state == "reconnecting"
    lab = Lab()
    lab.connect()
    assert lab.close(http_status=401).one(StateChanged).state == "reconnecting"


def test_return_with_a_new_token_that_has_to_wait_is_one_more_attempt() -> None:
    lab = Lab()
    lab.connect()
    assert retry_of(lab.close()).attempt == 1
    lab.try_again()
    lab.server({"type": "hello_error", "code": "auth_expired", "retry_after_seconds": 8})
    assert retry_of(lab.give(SetToken("new"))).attempt == 2
    lab.try_again()
    assert retry_of(lab.close()).attempt == 3


@pytest.mark.parametrize("reason", ["", "out of order"])
def test_last_of_the_attempts_ends_with_what_its_close_said(reason: str) -> None:
    lab = Lab(max_attempts=1)
    lab.connect()
    lab.close(reason="earlier")
    lab.try_again()
    message = lab.close(reason=reason).one(Stopped).message
    assert message == reason if reason else message


def test_connection_that_is_given_up_says_why() -> None:
    lab = Lab()
    lab.live()
    (close,) = lab.pass_time(2 * HEARTBEAT).closed
    assert (close.code, close.reason) == (4001, "liveness_timeout")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"type": "hello_error", "code": "auth_required", "message": ""}, "rejected"),
        ({"type": "hello_error", "code": "rate_limited", "message": ""}, "rejected"),
        ({"type": "hello_ok", "protocol_version": 1}, "version_unsupported"),
    ],
)
def test_handshake_that_fails_is_closed_as_nobodys_fault(frame: Frame, reason: str) -> None:
    lab = Lab(versions=VersionRange(2, 2))
    lab.connect()
    assert lab.server(frame).closed == [CloseTransport(connection=1, code=1000, reason=reason)]


def test_disconnect_is_closed_as_nobodys_fault() -> None:
    lab = Lab()
    lab.live()
    told = lab.give(Disconnect())
    assert told.closed == [CloseTransport(connection=1, code=1000, reason="disconnected")]


def test_rejection_that_no_close_follows_is_closed_as_nobodys_fault() -> None:
    lab = Lab()
    lab.connect()
    assert lab.server({"type": "hello_error", "code": "bogus", "message": ""}).closed == []
    told = lab.pass_time(lab.config.handshake_timeout)
    assert told.closed == [CloseTransport(connection=1, code=1000, reason="rejected")]


def test_version_of_a_welcome_may_stand_in_either_field() -> None:
    for absent in ("protocol", "protocol_version"):
        lab = Lab()
        lab.live(**{absent: None})
        assert lab.client.protocol_version == 2


@pytest.mark.parametrize("version", [1, 2])
def test_resync_without_a_reason_has_one_that_says_so(version: int) -> None:
    lab = Lab(resume=HELD)
    lab.connect()
    fields: Frame = {"resync_required": True, "oldest_cursor": 1}
    welcome = lab.welcome_v1(**fields) if version == 1 else lab.welcome(**fields)
    assert lab.server(welcome).one(Joined).resync_reason == "unspecified"


@pytest.mark.parametrize(
    ("held", "fields"),
    [
        (HELD, {"resumed": None, "session_id": "s2", "sequence": 0}),
        (ResumeToken(session_id="s1", epoch=None, cursor=1), {}),
    ],
)
def test_welcome_of_version_2_that_leaves_it_open_is_not_believed(
    held: ResumeToken, fields: Frame
) -> None:
    lab = Lab(resume=held)
    assert retry_of(lab.live(**fields)).code == "malformed_frame"
    assert lab.client.resume_token == held


def test_floor_of_version_2_names_nothing_as_lost() -> None:
    lab = Lab(resume=HELD)
    told = lab.live(event(6), cursor=20, oldest_cursor=10)
    assert told.of(Skipped) == []
    assert [each.seq for each in told.of(EventReceived)] == [6]


def test_refusal_by_an_error_says_what_the_error_said() -> None:
    lab = Lab()
    lab.live()
    lab.give(Send(content="x", request_id="r"))
    error = {"type": "error", "code": "inbox_full", "message": "later", "request_id": "r"}
    assert lab.server(error).one(MessageRefused) == MessageRefused(
        request_id="r", code="inbox_full", message="later"
    )


def test_health_is_told_with_its_version() -> None:
    lab = Lab()
    lab.live()
    told = lab.server({"type": "health", "version": 3, "health": {"ok": True}})
    assert told.one(HealthReceived) == HealthReceived(version=3, health={"ok": True})


def test_replay_is_one_however_new_what_it_carries() -> None:
    lab = Lab()
    lab.live()
    nonce = nonce_of(lab.server(event(2)), "resume")
    told = lab.server(*events(1, 2, "replay"), caught_up(2, nonce=nonce), event(3))
    assert [each.replayed for each in told.of(EventReceived)] == [True, True, False]


def test_messages_that_wait_are_moved_with_their_order_and_their_time() -> None:
    lab = full()
    state = json.loads(json.dumps(lab.client.to_state(now=lab.now)))
    lab.now += 1000.0
    lab.client = Client.from_state(lab.config, state, rng=lab.rng, now=lab.now, ids=lab.ids)
    assert lab.give(Send(content="x", request_id="c")).sent("message") == []
    lab.close()
    told = lab.back(caught_up(0))
    assert told.sent("message") == [{"type": "message", "content": "x", "request_id": "a"}]
    # The first was written four seconds before the move, and the return took one.
    assert lab.pass_time(10.875).of(OutcomeUnknown) == []
    told = lab.pass_time(0.125)
    assert told.one(OutcomeUnknown).request_id == "a"
    assert told.sent("message") == [{"type": "message", "content": "x", "request_id": "b"}]
    assert lab.server(ack("a")).of(MessageAccepted) == []
    told = lab.server(ack("b"))
    assert told.one(MessageAccepted).request_id == "b"
    assert told.sent("message") == [{"type": "message", "content": "x", "request_id": "c"}]


@pytest.mark.parametrize("how", ["resume", "resync"])
def test_machine_that_has_recovered_can_be_moved(how: str) -> None:
    lab = Lab()
    lab.live(caught_up(0))
    if how == "resume":
        nonce = nonce_of(lab.server(event(2)), "resume")
        lab.server(*events(1, 2), caught_up(2, nonce=nonce))
    else:
        nonce = nonce_of(lab.give(Resync()), "resync")
        lab.server(snapshot(2, "requested", nonce=nonce), caught_up(2, nonce=nonce))
    moved(lab)
    assert [each.seq for each in lab.server(event(3)).of(EventReceived)] == [3]
    lab.close()
    (hello,) = lab.try_again().sent("hello")
    assert hello.get("start") is None


# -- to the byte ------------------------------------------------------------------------------


def test_message_of_just_the_servers_size_is_written() -> None:
    lab = Lab()
    lab.live()
    told = lab.give(Send(content="x" * 2000, request_id="r"))
    (size,) = (len(each.frame) for each in told.actions if isinstance(each, SendFrame))
    for limit, sent in ((size, 1), (size - 1, 0)):
        lab = Lab()
        lab.policy = {**POLICY, "max_payload": limit}
        lab.live()
        told = lab.give(Send(content="x" * 2000, request_id="r"))
        assert len(told.sent("message")) == sent
        assert [bool(each.message) for each in told.of(MessageRefused)] == [True] * (1 - sent)
        # One that waited meets the same bound.
        lab = Lab()
        lab.policy = {**POLICY, "max_payload": limit}
        lab.give(Send(content="x" * 2000, request_id="r"))
        assert len(lab.live().sent("message")) == sent

"""Being sent away, and the end of a session: what is held, what is kept, when a client is back."""

import pytest

from gatewayproto.actions import (
    EventReceived,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    SnapshotReceived,
    Stopped,
)
from gatewayproto.backoff import Backoff
from gatewayproto.client import ClientState
from gatewayproto.inputs import Disconnect, Resync, Send, SetToken
from tests.client.clientlab import (
    HELD,
    Frame,
    Lab,
    ack,
    caught_up,
    event,
    events,
    nack,
    reach,
    retry_of,
    snapshot,
)

DAY = 86_400.0


def going_away(after: int = 20_000, spread: int = 0) -> Frame:
    return {"type": "going_away", "reason": "restart", "after_ms": after, "spread_ms": spread}


def sent_away(*then: Frame, **options: object) -> Lab:
    """A client that was told to leave with one message written and one held."""
    lab = Lab(**options)  # type: ignore[arg-type] # the options of the lab
    lab.live(caught_up(0))
    lab.give(Send(content="1", request_id="written"))
    lab.server(going_away(), *then)
    assert lab.give(Send(content="2", request_id="held")).frames == []
    return lab


# -- the hold ---------------------------------------------------------------------------------


def test_what_was_held_goes_after_the_return_in_order() -> None:
    lab = sent_away()
    lab.give(Send(content="3", request_id="later"))
    lab.pass_time(2.0)
    assert lab.give(Send(content="4", request_id="away")).frames == []
    told = lab.back(caught_up(0))
    ids = [frame["request_id"] for frame in told.sent("message")]
    assert ids == ["written", "held", "later", "away"]


def test_an_answer_that_is_on_its_way_still_counts_and_frees_nothing_to_write() -> None:
    lab = sent_away()
    told = lab.server(ack("written"))
    assert told.one(MessageAccepted).request_id == "written"
    assert told.frames == []
    lab.pass_time(2.0)
    told = lab.back(caught_up(0))
    assert [frame["request_id"] for frame in told.sent("message")] == ["held"]


def test_a_held_message_is_never_late_and_a_written_one_is() -> None:
    lab = sent_away(going_away(after=1_000_000))
    told = lab.pass_time(300.0)
    assert told.one(OutcomeUnknown).request_id == "written"
    assert told.of(MessageRefused) == []
    told = lab.back(caught_up(0))
    assert [frame["request_id"] for frame in told.sent("message")] == ["held"]


def test_what_comes_before_it_leaves_is_handed_on_and_the_return_goes_on_behind_it() -> None:
    lab = sent_away()
    assert [each.seq for each in lab.server(*events(1, 3)).of(EventReceived)] == [1, 2, 3]
    lab.pass_time(2.0)
    (hello,) = lab.try_again().sent("hello")
    assert (hello["since"], hello["session_id"], hello["epoch"]) == (3, "s1", "e1")


def test_a_snapshot_whose_parts_it_came_between_is_whole() -> None:
    lab = Lab(resume=HELD)
    lab.live(resync_required=True, resync_reason="trimmed", cursor=9, sequence=9)
    part: Frame = {"reason": "trimmed", "state": None, "parts": 2}
    told = lab.server(
        snapshot(9, part=1, chunk='{"a":', **part),
        going_away(),
        snapshot(9, part=2, chunk="1}", **part),
    )
    assert told.one(SnapshotReceived).state == {"a": 1}


# -- commands meanwhile -----------------------------------------------------------------------


@pytest.mark.parametrize("left", [False, True])
def test_disconnect_meanwhile_ends_every_message(left: bool) -> None:
    lab = sent_away()
    if left:
        lab.pass_time(2.0)
    told = lab.give(Disconnect())
    assert told.one(OutcomeUnknown).request_id == "written"
    assert told.one(MessageRefused).request_id == "held"
    assert told.one(Stopped).code == "disconnected"
    assert [frame["type"] for frame in told.frames] == ([] if left else ["leave"])
    assert lab.client.next_deadline is None


@pytest.mark.parametrize("left", [False, True])
def test_a_token_that_came_meanwhile_is_the_next_handshakes_and_hurries_nobody(left: bool) -> None:
    lab = sent_away()
    if left:
        lab.pass_time(2.0)
    told = lab.give(SetToken("fresh"))
    assert [frame["type"] for frame in told.frames] == ([] if left else ["auth"])
    due = lab.client.next_deadline
    if not left:
        due = retry_of(lab.close(4000)).delay + lab.now
    assert due is not None
    assert due >= 20.0
    (hello,) = lab.try_again().sent("hello")
    assert hello["token"] == "fresh"


def test_a_snapshot_that_was_wished_meanwhile_is_asked_for_after_the_return() -> None:
    lab = sent_away()
    lab.pass_time(2.0)
    lab.give(Resync())
    (hello,) = lab.try_again().sent("hello")
    assert hello["start"] == "snapshot"


@pytest.mark.parametrize("state", [ClientState.LIVE, ClientState.RECOVERING, ClientState.RESYNCING])
def test_whatever_it_was_doing_it_leaves_in_time(state: ClientState) -> None:
    lab = Lab(resume=HELD)
    reach(lab, state)
    lab.server(going_away())
    told = lab.pass_time(1.0)
    assert told.sent("leave") == [{"type": "leave", "reason": "going_away"}]
    assert retry_of(told).delay == 20.0
    assert retry_of(told).code == "going_away"


# -- how long it stays away -------------------------------------------------------------------


def test_the_latest_request_counts_and_the_first_one_says_when_to_leave() -> None:
    lab = Lab()
    lab.live(going_away(after=50_000))
    lab.pass_time(0.5)
    lab.server(going_away(after=3_000))
    told = lab.pass_time(0.5)
    assert retry_of(told).delay == 3.0


@pytest.mark.parametrize("after", [86_400_001, 2**53 - 1])
@pytest.mark.parametrize("spread", [0, 2**53 - 1])
def test_no_number_keeps_it_away_for_ever(after: int, spread: int) -> None:
    lab = Lab()
    lab.live(going_away(after, spread))
    assert DAY <= retry_of(lab.close(4000)).delay <= 2 * DAY


@pytest.mark.parametrize("wrong", [{"after_ms": -1}, {"after_ms": 0.5}, {"spread_ms": "1"}])
def test_numbers_that_are_none_make_a_bad_frame(wrong: Frame) -> None:
    lab = Lab()
    lab.live()
    told = lab.server({**going_away(), **wrong})
    assert [each.code for each in told.closed] == [1002]
    assert retry_of(told).delay == 1.0


def test_what_it_asks_for_is_a_floor_beside_the_backoff() -> None:
    lab = Lab(backoff=Backoff(initial=8.0, maximum=64.0, jitter=0.0))
    lab.live(going_away(after=5_000))
    assert retry_of(lab.close(4000)).delay == 8.0
    lab.back(going_away(after=100_000))
    # Not caught up in between: the count goes on. The longer of both is waited.
    assert retry_of(lab.close(4000)).delay == 100.0
    lab.back({"type": "error", "code": "x", "message": "", "retry_after_seconds": 70}, going_away())
    assert retry_of(lab.close(4000)).delay == 70.0


def test_the_close_without_the_frame_is_an_ordinary_retry() -> None:
    lab = Lab()
    lab.live(caught_up(0))
    retry = retry_of(lab.close(4000))
    assert (retry.delay, retry.code) == (1.0, "going_away")


def test_a_rejection_of_newcomers_is_waited_out() -> None:
    lab = Lab()
    lab.connect()
    error = {"type": "error", "code": "going_away", "message": "", "retry_after_seconds": 7.5}
    retry = retry_of(lab.server(error))
    assert (retry.delay, retry.code) == (7.5, "going_away")


# -- the end of the session -------------------------------------------------------------------


def test_the_close_of_a_session_ends_the_client_and_everything_received_is_kept() -> None:
    lab = Lab()
    told = lab.live(*events(1, 3))
    assert [each.seq for each in told.of(EventReceived)] == [1, 2, 3]
    told = lab.close(4508, reason="session_closed")
    assert told.one(Stopped) == Stopped(code="session_closed", message="session_closed")
    assert lab.state is ClientState.STOPPED
    assert lab.cursor == 3
    assert lab.client.next_deadline is None


def test_a_refusal_because_the_session_is_closed_ends_the_message_in_either_version() -> None:
    lab = Lab()
    lab.live()
    lab.give(Send(content="x", request_id="r"))
    assert lab.server(nack("r", "session_closed")).one(MessageRefused).code == "session_closed"
    old = Lab()
    old.connect()
    old.server(old.welcome_v1())
    old.give(Send(content="x", request_id="r"))
    error = {"type": "error", "code": "session_closed", "message": "", "request_id": "r"}
    assert old.server(error).one(MessageRefused).code == "session_closed"
    assert old.state is ClientState.LIVE
    assert old.server(event(1)).of(EventReceived)

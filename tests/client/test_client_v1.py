"""A version 1 server, deployed as it is: it guards nothing, so the client does."""

from typing import Any

import pytest

from gatewayproto.actions import (
    CaughtUp,
    EventReceived,
    Gap,
    Joined,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    ResumeToken,
    RetryScheduled,
    Skipped,
    SnapshotReceived,
)
from gatewayproto.client import Client, ClientState
from gatewayproto.inputs import Resync, Send
from gatewayproto.versions import VersionRange
from tests.client.clientlab import HEARTBEAT, Frame, Lab, Told, retry_of, skip

HELD_V1 = ResumeToken(session_id="s1", epoch=None, cursor=5)


def replay(seq: int, **fields: Any) -> Frame:
    inner: Frame = {"type": "note", "data": {"n": seq, "cursor": seq}, "event_id": f"ev-{seq}"}
    inner |= {"timestamp": 1.5, "sequence": seq}
    return {"type": "replay", "seq": seq, "event": {**inner, **fields}}


def replays(first: int, last: int) -> list[Frame]:
    return [replay(seq) for seq in range(first, last + 1)]


def baseline(cursor: int, **fields: Any) -> Frame:
    state = {"event_cursor": cursor, "session_id": "s1", "agent_id": "demo", "messages": []}
    return {"type": "snapshot", "state": {**state, **fields}}


def seqs(told: Told) -> list[int]:
    return [each.seq for each in told.of(EventReceived)]


def fresh(*after: Frame, **config: Any) -> tuple[Lab, Told]:
    """A client without state, which believes the welcome."""
    lab = Lab(**config)
    lab.connect()
    return lab, lab.server(lab.welcome_v1(), *after)


def held(*after: Frame, **fields: Any) -> tuple[Lab, Told]:
    """A client that holds 1 to 5, and what it does with this welcome."""
    lab = Lab(resume=HELD_V1)
    lab.connect()
    return lab, lab.server(lab.welcome_v1(**fields), *after)


def joined(lab: Lab, *after: Frame, **fields: Any) -> Told:
    """The answer to `join`."""
    return lab.server(lab.welcome_v1(type="joined", **fields), *after)


# -- the first visit --------------------------------------------------------------------------


def test_a_visit() -> None:
    lab, told = fresh(*replays(1, 3))
    first = told.one(Joined)
    assert (first.session_id, first.epoch, first.protocol_version) == ("s1", None, 1)
    assert (first.resumed, first.cursor, first.sequence) == (False, 0, 0)
    assert seqs(told) == [1, 2, 3]
    event = told.of(EventReceived)[0]
    assert (event.event.type, event.event.event_id, event.event.data["n"]) == ("note", "ev-1", 1)
    assert event.token == ResumeToken(session_id="s1", epoch=None, cursor=1)
    assert lab.client.protocol_version == 1
    pong = {"type": "pong", "nonce": "n"}
    assert lab.server({"type": "ping", "nonce": "n"}).frames == [pong]
    assert lab.server({"type": "ping", "nonce": 7}).frames == [{"type": "pong"}]
    assert lab.server({"type": "pong"}, {"type": "bogus"}).actions == ()


def test_only_version_1_may_be_spoken() -> None:
    lab, told = fresh(replay(1), versions=VersionRange(1, 1))
    assert told.one(Joined).protocol_version == 1
    lab.close()
    (hello,) = lab.try_again().frames
    assert (hello["protocol_min"], hello["protocol_max"]) == (1, 1)
    assert (hello["session_id"], hello["since"]) == ("s1", 1)
    assert "epoch" not in hello


def test_what_a_welcome_has_beside_its_position_is_read_leniently() -> None:
    lab = Lab(heartbeat=8.0)
    lab.connect()
    odd = {"policy": {"heartbeat_ms": 5}, "presence": 7, "health": [], "resync_reason": 5}
    told = lab.server(lab.welcome_v1(**odd, features="x", resumed="yes"))
    assert told.one(Joined).presence is None
    assert retry_of(lab.pass_time(16.0)).code == "liveness_timeout"
    lab = Lab()
    lab.connect()
    entry = {"client_id": "c", "agent_id": "demo", "connected_at": 1}
    told = lab.server(lab.welcome_v1(presence=[entry], health={"ok": True}))
    assert told.one(Joined).health == {"ok": True}
    assert told.one(Joined).presence


@pytest.mark.parametrize(
    "fields",
    [
        {"session_id": None},
        {"session_id": 5},
        {"cursor": "5"},
        {"head": -1},
        {"oldest_cursor": 1.5},
        {"sequence": 2**53},
        {"x": 2**53},
        {"resync_required": "no"},
        {"protocol_version": 1.0},
    ],
)
def test_what_positions_depend_on_is_read_strictly(fields: dict[str, Any]) -> None:
    _, told = held(**fields)
    assert told.of(Joined) == []
    assert retry_of(told).code == "malformed_frame"


# -- events -----------------------------------------------------------------------------------


def test_any_frame_with_a_number_is_an_event() -> None:
    _, told = fresh(
        {"type": "tool_call", "seq": 1, "data": {"tool": "x"}, "event_id": "e", "timestamp": 3},
        {"type": "status", "seq": 2, "text": "busy"},
        {"type": "error", "seq": 3, "code": "agent_not_found", "message": "no"},
        {"type": "message", "seq": 4, "data": {"text": "hi"}, "final": True, "run_id": "r"},
        {"type": "event", "seq": 5, "event": {"type": "note", "data": {"n": 5}}},
        {"type": "event", "seq": 6, "event": {"data": [1], "event_id": 5, "timestamp": "now"}},
        {"type": "caught_up", "seq": 7, "cursor": 99},
        {"type": "skip", "seq": 8, "first": 8, "last": 99},
        {"type": "unnumbered", "data": {}},
        {"type": "unnumbered", "seq": "9", "data": {}},
        {"type": "unnumbered", "seq": 9.0, "data": {}},
        {"type": "unnumbered", "seq": True, "data": {}},
        {"type": "ping", "seq": 99},
        {"type": "pong", "seq": 99},
        replay(9),
    )
    assert seqs(told) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    events = [each.event for each in told.of(EventReceived)]
    assert [event.type for event in events] == [
        *("tool_call", "status", "error", "message", "note", "event", "caught_up", "skip", "note"),
    ]
    assert (events[0].data, events[0].event_id, events[0].timestamp) == ({"tool": "x"}, "e", 3.0)
    assert events[1].data == {"type": "status", "seq": 2, "text": "busy"}
    assert (events[1].event_id, events[1].timestamp) == ("2", 0.0)
    assert events[2].data["code"] == "agent_not_found"
    assert (events[3].data, events[3].final, events[3].run_id) == ({"text": "hi"}, True, "r")
    assert events[4].data == {"n": 5}
    assert (events[5].data["data"], events[5].event_id, events[5].timestamp) == ([1], "6", 0.0)
    assert told.of(Gap) == []


def test_numbers_below_what_is_expected_are_duplicates() -> None:
    lab, told = fresh(*replays(1, 4), replay(2), replay(4), {"type": "x", "seq": 0})
    told = Told(told.actions + lab.server({"type": "x", "seq": -3}, replay(5)).actions)
    assert seqs(told) == [1, 2, 3, 4, 5]
    assert told.of(Gap) == []


def test_what_version_2_names_means_nothing() -> None:
    lab, _ = fresh(replay(1))
    for frame in (
        skip(2, 9),
        {"type": "caught_up", "cursor": 9},
        {"type": "presence", "version": 1},
        {"type": "health", "version": 1, "health": {}},
        {"type": "going_away", "reason": "x", "after_ms": 1, "spread_ms": 0},
        {"type": "message_nack", "code": "x"},
    ):
        assert lab.server(frame).actions == ()
    assert lab.cursor == 1


def test_replayed_is_what_was_there_at_the_welcome() -> None:
    lab = Lab()
    lab.connect()
    told = lab.server(lab.welcome_v1(cursor=0, head=2), *replays(1, 3))
    assert [each.replayed for each in told.of(EventReceived)] == [True, True, False]


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "status", "seq": 2**53},
        {"type": "status", "seq": 2, "x": 2**53},
        {"type": "snapshot", "state": {"messages": []}},
        {"type": "snapshot", "state": {"event_cursor": "9"}},
        {"type": "snapshot", "state": {"event_cursor": True}},
        {"type": "snapshot", "state": {"event_cursor": -1}},
        {"type": "snapshot", "state": [9]},
        {"type": "snapshot"},
        {"type": "hello_ok", "session_id": "s1", "cursor": 9},
        baseline(9, session_id="s2"),
    ],
)
def test_what_cannot_be_believed_ends_the_connection(frame: Frame) -> None:
    lab, _ = fresh(replay(1))
    told = lab.server(frame)
    assert retry_of(told).code == "malformed_frame"
    assert lab.cursor == 1


# -- messages ---------------------------------------------------------------------------------


def test_a_numbered_response_is_acknowledgement_and_event() -> None:
    lab, _ = fresh()
    names = ["a", "b", "c", "d", "e"]
    lab.give(*(Send(content="x", request_id=name) for name in names))
    nested = {"type": "response", "seq": 1, "status": "accepted", "request_id": "a"}
    nested |= {"data": {"text": "answer"}}
    flat = {"type": "response", "seq": 2, "status": "duplicate", "request_id": "b", "text": "flat"}
    other = {"type": "response", "seq": 3, "status": "done", "request_id": "c"}
    plain = {"type": "response", "status": "accepted", "request_id": "d"}
    bare = {"type": "response", "request_id": "e"}
    told = lab.server(nested, flat, other, plain, bare)
    accepted = told.of(MessageAccepted)
    assert [each.request_id for each in accepted] == names
    assert [each.duplicate for each in accepted] == [False, True, False, False, False]
    events = [each.event for each in told.of(EventReceived)]
    assert [(event.type, event.request_id) for event in events] == [
        ("response", "a"),
        ("response", "b"),
        ("response", "c"),
    ]
    assert events[0].data == {"text": "answer"}
    assert events[1].data["text"] == "flat"


def test_a_response_that_is_neither_is_nothing() -> None:
    lab, _ = fresh()
    lab.give(Send(content="x", request_id="a"))
    for frame in (
        {"type": "response", "status": "failed", "request_id": "a"},
        {"type": "response", "status": "accepted"},
        {"type": "response", "status": "accepted", "request_id": 5},
        {"type": "response", "status": "accepted", "request_id": "bogus"},
    ):
        assert lab.server(frame).actions == ()


def test_an_acknowledgement_behind_a_gap_is_one_all_the_same() -> None:
    lab, _ = fresh()
    lab.give(Send(content="x", request_id="a"))
    told = lab.server({"type": "response", "seq": 9, "request_id": "a"})
    assert told.one(MessageAccepted).request_id == "a"
    assert told.one(Gap).received == 9


def test_a_refusal_comes_as_an_error_with_the_id() -> None:
    lab, _ = fresh()
    lab.give(Send(content="x", request_id="a"))
    error = {"type": "error", "code": "inbox_full", "message": "no", "request_id": "a"}
    assert lab.server(error).one(MessageRefused).code == "inbox_full"
    assert lab.server({"type": "error"}, {"type": "hello_error", "code": "x"}).actions == ()


# -- believing a welcome ----------------------------------------------------------------------


def test_while_it_holds_state_no_welcome_without_a_floor_is_believed() -> None:
    lab, told = held(cursor=9)
    assert told.of(Joined) == []
    (join,) = told.frames
    assert join["type"] == "join"
    assert (join["session_id"], join["since"]) == ("s1", 5)
    assert (join["min_version"], join["max_version"]) == (1, 2)
    # What comes until the answer is dropped, be it another `hello_ok`.
    dropped = [replay(6), replay(9), baseline(9), lab.welcome_v1(oldest_cursor=1), {"type": "x"}]
    assert lab.server(*dropped).actions == ()
    assert lab.server({"type": "ping", "nonce": "n"}).frames == [{"type": "pong", "nonce": "n"}]
    assert lab.client.resume_token == HELD_V1
    told = joined(lab, *replays(6, 9), cursor=9)
    assert told.one(Joined).resumed
    assert seqs(told) == [6, 7, 8, 9]


def test_at_0_a_session_is_joined_again_too() -> None:
    lab, _ = fresh()
    lab.close()
    assert lab.try_again().frames[0]["since"] == 0
    assert lab.server(lab.welcome_v1()).sent("join")[0]["since"] == 0


def test_the_handshakes_time_goes_on_while_it_joins() -> None:
    lab = Lab(resume=HELD_V1, handshake_timeout=8.0)
    lab.connect()
    lab.pass_time(5.0)
    lab.server(lab.welcome_v1())
    assert retry_of(lab.pass_time(3.0)).code == "handshake_timeout"
    assert lab.client.resume_token == HELD_V1


def test_a_bad_frame_or_a_rejection_while_it_joins_is_one() -> None:
    lab, _ = held()
    assert retry_of(lab.raw(b"nonsense")).code == "malformed_frame"
    lab, _ = held()
    error = {"type": "error", "code": "rate_limited", "message": "", "retry_after_seconds": 9}
    assert retry_of(lab.server(error)).delay == 9.0


def test_a_welcome_with_a_floor_is_believed_at_once() -> None:
    _, told = held(*replays(6, 7), oldest_cursor=1, cursor=7)
    assert told.one(Joined).oldest_cursor == 1
    assert told.frames == []
    assert seqs(told) == [6, 7]


def test_messages_go_after_the_answer_that_is_believed() -> None:
    lab, _ = fresh(*replays(1, 3))
    lab.give(Send(content="x", request_id="a"))
    lab.close()
    lab.try_again()
    assert lab.server(lab.welcome_v1()).sent("message") == []
    lab.give(Send(content="x", request_id="b"))
    told = joined(lab, cursor=3)
    assert [frame["request_id"] for frame in told.sent("message")] == ["a", "b"]


def test_a_server_behind_the_client_has_lost_its_state() -> None:
    lab = Lab(resume=HELD_V1)
    lab.connect()
    lab.server(lab.welcome_v1(oldest_cursor=1, cursor=9))
    lab.give(Send(content="x", request_id="a"))
    lab.close()
    lab.try_again()
    lab.server(lab.welcome_v1(cursor=2))
    told = joined(lab, cursor=2)
    assert told.of(Joined) == []
    (join,) = told.sent("join")
    assert (join["session_id"], join["since"]) == ("s1", 0)
    # Until the answer nothing has changed: on another connection it would begin again.
    assert lab.client.resume_token == HELD_V1
    told = joined(lab, *replays(1, 2), cursor=2)
    # The application is told to drop its state, so the session is not called a resumed one.
    assert told.one(Joined).resumed is False
    assert told.one(Joined).token.cursor == 0
    assert told.one(OutcomeUnknown).request_id == "a"
    assert seqs(told) == [1, 2]
    assert told.of(Gap) == []


def test_the_real_head_is_what_counts_where_it_is_said() -> None:
    _, told = held(oldest_cursor=1, cursor=0, head=9)
    assert told.one(Joined).cursor == 9
    _, told = held(oldest_cursor=1, cursor=9, head=4)
    assert told.sent("join")[0]["since"] == 0


def test_resumed_is_that_the_session_id_is_the_same() -> None:
    _, told = held(replay(6), oldest_cursor=1, cursor=6, resumed=False)
    assert told.one(Joined).resumed is True
    assert seqs(told) == [6]
    lab, told = held(replay(1), oldest_cursor=1, cursor=1, resumed=True, session_id="s2")
    assert told.one(Joined).resumed is False
    assert seqs(told) == [1]
    assert lab.client.resume_token == ResumeToken(session_id="s2", epoch=None, cursor=1)


@pytest.mark.parametrize(
    ("session_id", "epoch", "answer", "resumed"),
    [
        ("s1.e1", None, "s1.e1", True),
        ("s1.e1", None, "s1.e2", False),
        ("s1.e1", None, "s2.e1", False),
        ("s1", "e1", "s1.e1", True),
        ("s1", "e1", "s1.e2", False),
    ],
)
def test_an_id_that_carries_its_epoch_names_another_session_in_another_epoch(
    session_id: str, epoch: str | None, answer: str, resumed: bool
) -> None:
    lab = Lab(resume=ResumeToken(session_id=session_id, epoch=epoch, cursor=5))
    lab.connect()
    told = lab.server(lab.welcome_v1(session_id=answer, oldest_cursor=1, cursor=5))
    assert told.one(Joined).resumed is resumed
    assert lab.client.resume_token == ResumeToken(
        session_id=answer, epoch=None, cursor=5 if resumed else 0
    )


# -- gaps and floors --------------------------------------------------------------------------


def test_a_gap_closes_and_joins_again() -> None:
    lab, _ = fresh(*replays(1, 2))
    told = lab.server(replay(5), replay(6))
    assert told.of(Gap) == [Gap(expected=3, received=5)]
    assert told.closed
    assert retry_of(told).code == "gap"
    assert lab.try_again().frames[0]["since"] == 2
    lab.server(lab.welcome_v1(cursor=6))
    assert seqs(joined(lab, *replays(3, 6), cursor=6)) == [3, 4, 5, 6]


def test_a_ping_ahead_is_a_gap_too() -> None:
    lab, _ = fresh(*replays(1, 2))
    told = lab.server({"type": "ping", "cursor": 4})
    assert told.one(Gap) == Gap(expected=3, received=4)
    assert retry_of(told).code == "gap"


def back_at_the_hole(lab: Lab, *after: Frame, **fields: Any) -> Told:
    """Come back where a gap was told, to a server that names no floor."""
    lab.try_again()
    lab.server(lab.welcome_v1(**fields))
    return joined(lab, *after, **fields)


def test_a_hole_that_is_there_again_is_named_and_what_lies_above_it_is_had() -> None:
    lab, _ = fresh(*replays(1, 2))
    assert lab.server(replay(5), replay(6)).one(Gap) == Gap(expected=3, received=5)
    told = back_at_the_hole(lab, *replays(5, 7), cursor=7)
    assert told.of(Gap) == []
    lost = told.one(Skipped)
    assert (lost.first, lost.last, lost.reason) == (3, 4, "trimmed")
    assert seqs(told) == [5, 6, 7]
    assert not told.closed


def test_what_was_only_lost_on_the_way_is_recovered_and_not_passed_over() -> None:
    lab, _ = fresh(*replays(1, 2))
    lab.server(replay(5))
    told = back_at_the_hole(lab, *replays(3, 5), cursor=5)
    assert (seqs(told), told.of(Skipped)) == ([3, 4, 5], [])
    assert lab.server(replay(9)).one(Gap) == Gap(expected=6, received=9)
    told = back_at_the_hole(lab, replay(6), replay(9), cursor=9)
    assert told.one(Gap) == Gap(expected=7, received=9), "another hole is asked for once more"


def test_a_server_that_names_its_floor_is_asked_again() -> None:
    lab, _ = fresh(*replays(1, 2))
    lab.server(replay(5))
    lab.try_again()
    told = lab.server(lab.welcome_v1(cursor=5, oldest_cursor=1), replay(5))
    assert told.one(Gap) == Gap(expected=3, received=5)
    assert told.of(Skipped) == []


def test_a_tail_that_never_comes_is_told_once_asked_for_again_and_never_passed_over() -> None:
    lab = Lab()
    lab.connect()
    told = lab.server(lab.welcome_v1(cursor=7), {"type": "pong"})
    assert told.one(Gap) == Gap(expected=1, received=7)
    assert retry_of(told).code == "gap"
    told = back_at_the_hole(lab, {"type": "pong"}, cursor=7)
    assert (told.of(Gap), told.of(Skipped), told.of(CaughtUp)) == ([], [], [])
    assert retry_of(told).code == "gap"
    told = back_at_the_hole(lab, *replays(1, 7), cursor=7)
    assert seqs(told) == [1, 2, 3, 4, 5, 6, 7]
    assert told.one(CaughtUp).cursor == 7


def test_a_hole_is_remembered_by_a_client_that_is_saved() -> None:
    lab, _ = fresh(*replays(1, 2))
    lab.server(replay(5))
    state = lab.client.to_state(now=lab.now)
    lab.client = Client.from_state(lab.config, state, rng=lab.rng, now=lab.now, ids=lab.ids)
    assert back_at_the_hole(lab, replay(5), cursor=5).one(Skipped).last == 4


@pytest.mark.parametrize("resume", [None, HELD_V1])
def test_a_floor_above_what_is_expected_is_named_and_not_asked_for_again(
    resume: ResumeToken | None,
) -> None:
    expected = 1 if resume is None else 6
    lab = Lab(resume=resume)
    lab.connect()
    told = lab.server(lab.welcome_v1(oldest_cursor=10, cursor=12), *replays(10, 12))
    assert told.one(Gap) == Gap(expected=expected, received=10)
    lost = told.one(Skipped)
    assert (lost.first, lost.last, lost.reason) == (expected, 9, "trimmed")
    assert seqs(told) == [10, 11, 12]
    assert lab.state == ClientState.LIVE


def test_a_floor_just_at_what_is_expected_loses_nothing() -> None:
    _, told = held(*replays(6, 7), oldest_cursor=6, cursor=7)
    assert (told.of(Gap), told.of(Skipped)) == ([], [])
    assert seqs(told) == [6, 7]


# -- snapshots --------------------------------------------------------------------------------


def test_a_snapshot_carries_its_cursor_in_its_state() -> None:
    lab, told = fresh(*replays(1, 2), baseline(7), replay(7), replay(8))
    taken = told.one(SnapshotReceived)
    assert (taken.cursor, taken.epoch) == (7, None)
    assert taken.state["messages"] == []
    assert taken.token == ResumeToken(session_id="s1", epoch=None, cursor=7)
    assert seqs(told) == [1, 2, 8]
    without_session = {"type": "snapshot", "state": {"event_cursor": 9, "session_id": 5}}
    assert lab.server(without_session).one(SnapshotReceived).cursor == 9


def test_a_resync_waits_for_its_snapshot() -> None:
    fields = {"resync_required": True, "resync_reason": "trimmed", "oldest_cursor": 10}
    lab, told = held(replay(6), replay(30), cursor=5, head=20, **fields)
    assert told.one(Joined).resync_reason == "trimmed"
    assert (told.of(EventReceived), told.of(Gap)) == ([], [])
    assert lab.client.resume_token == HELD_V1
    told = lab.server(baseline(20), replay(21))
    assert told.one(SnapshotReceived).reason == "trimmed"
    assert seqs(told) == [21]
    lab, _ = held(cursor=5, **fields)
    assert retry_of(lab.pass_time(10.0)).code == "recovery_timeout"


def test_a_floor_is_no_gap_where_a_new_epoch_brings_a_snapshot() -> None:
    lab = Lab(resume=ResumeToken(session_id="s1.old", epoch=None, cursor=3))
    lab.connect()
    fields = {"resync_required": True, "resync_reason": "epoch_changed"}
    welcome = lab.welcome_v1(
        session_id="s1.new", cursor=0, head=20, sequence=20, oldest_cursor=10, **fields
    )
    told = lab.server(welcome)
    assert told.one(Joined).resumed is False
    assert (told.of(Gap), told.of(Skipped)) == ([], [])
    state = {"messages": [], "event_cursor": 20, "session_id": "s1.new"}
    told = lab.server({"type": "snapshot", "state": state}, replay(21))
    assert told.one(SnapshotReceived).reason == "epoch_changed"
    assert seqs(told) == [21]


def test_a_snapshot_is_asked_for_with_another_handshake() -> None:
    lab, _ = fresh(*replays(1, 2))
    lab.give(Send(content="x", request_id="a"))
    (join,) = lab.give(Resync()).frames
    assert (join["type"], join["start"], join["since"]) == ("join", "snapshot", 2)
    assert lab.server(replay(3)).actions == ()
    fields = {"resync_required": True, "resync_reason": "requested"}
    told = joined(lab, baseline(3), replay(4), cursor=2, **fields)
    assert told.one(SnapshotReceived).reason == "requested"
    assert [frame["request_id"] for frame in told.sent("message")] == ["a"]
    assert seqs(told) == [4]
    # One that knows no `start` is not asked for ever.
    assert lab.give(Resync()).sent("join")
    told = joined(lab, replay(5), cursor=5, oldest_cursor=1)
    assert told.frames[:-1] == []
    assert seqs(told) == [5]
    assert lab.state == ClientState.LIVE


def test_what_an_error_asked_for_outlives_a_rejection_of_such_a_handshake() -> None:
    lab, _ = fresh(*replays(1, 2))
    wait = {"code": "rate_limited", "message": "", "retry_after_seconds": 8.0}
    lab.server({"type": "error", **wait})
    assert lab.give(Resync()).sent("join")
    lab.server({"type": "error", "code": "bogus", "message": ""})
    assert retry_of(lab.close(1012)).delay == 8.0


def test_an_answer_to_such_a_handshake_that_does_not_come_ends_the_connection() -> None:
    lab, _ = fresh(*replays(1, 2), handshake_timeout=8.0)
    lab.pass_time(20.0)
    lab.give(Resync())
    assert retry_of(lab.pass_time(8.0)).code == "handshake_timeout"


# -- having caught up -------------------------------------------------------------------------


def test_caught_up_is_the_welcomes_head() -> None:
    lab = Lab()
    lab.connect()
    assert lab.server(lab.welcome_v1(cursor=0)).one(CaughtUp).cursor == 0
    lab, told = held(cursor=7, oldest_cursor=1)
    assert told.of(CaughtUp) == []
    assert lab.server(replay(6)).of(CaughtUp) == []
    assert lab.server(replay(7)).one(CaughtUp).cursor == 7
    assert lab.server(replay(8)).of(CaughtUp) == []
    # Where it says nothing of its head, what is there is all there is.
    lab = Lab()
    lab.connect()
    assert lab.server(lab.welcome_v1(cursor=None)).one(CaughtUp).cursor == 0


def test_the_count_of_attempts_does_not_start_again_at_the_welcome() -> None:
    lab = Lab()
    lab.connect()
    lab.close()
    for attempt in (2, 3, 4):
        lab.try_again()
        lab.server(lab.welcome_v1(cursor=0, oldest_cursor=1))
        assert retry_of(lab.close()).attempt == attempt
    lab.try_again()
    assert lab.server(lab.welcome_v1(cursor=1, oldest_cursor=1), {"type": "pong"}).of(Gap) == []
    assert retry_of(lab.close()).attempt == 5
    lab.try_again()
    lab.server(lab.welcome_v1(cursor=1, oldest_cursor=1), replay(1))
    assert retry_of(lab.close()).attempt == 1


def test_a_quiet_server_is_pinged_and_its_answer_starts_the_count_again() -> None:
    lab = Lab()
    lab.connect()
    lab.close()
    lab.try_again()
    lab.server(lab.welcome_v1())
    (ping,) = lab.pass_time(HEARTBEAT).frames
    lab.server({"type": "pong", "nonce": ping["nonce"]})
    assert lab.pass_time(HEARTBEAT).of(RetryScheduled) == []
    assert retry_of(lab.close()).attempt == 1

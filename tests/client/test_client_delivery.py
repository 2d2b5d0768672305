"""Events, skips, snapshots, gaps: every seq is accounted for once, in order."""

import json
from typing import Any

import pytest

from gatewayproto.actions import (
    CaughtUp,
    EventReceived,
    Gap,
    HealthReceived,
    Joined,
    PresenceReceived,
    ResumeToken,
    RetryScheduled,
    Skipped,
    SnapshotReceived,
    StateChanged,
)
from gatewayproto.client import ClientState
from gatewayproto.inputs import Resync, Taken, TransportOpened
from tests.client.clientlab import (
    HELD,
    Frame,
    Lab,
    Told,
    caught_up,
    event,
    events,
    reach,
    retry_of,
    skip,
    snapshot,
)


def seqs(told: Told) -> list[int]:
    return [each.seq for each in told.of(EventReceived)]


def gapped(*after: Frame) -> tuple[Lab, str]:
    """A client that has 1 to 3 and has seen 7; and the nonce that it asked with."""
    lab = Lab(recovery_timeout=8.0)
    lab.live(*events(1, 3))
    (resume,) = lab.server(event(7), *after).sent("resume")
    return lab, resume["nonce"]


# -- what comes in order ----------------------------------------------------------------------


def test_events_are_handed_on_whole_with_a_token_each() -> None:
    lab = Lab()
    fields: dict[str, Any] = {
        "source": "agent",
        "target": "user",
        "run_id": "r",
        "request_id": "q",
        "expects_reply": True,
        "final": True,
    }
    told = lab.live(event(1, "replay"), event(2, **fields), cursor=1)
    first, second = told.of(EventReceived)
    assert (first.seq, first.replayed, second.seq, second.replayed) == (1, True, 2, False)
    assert first.token == ResumeToken(session_id="s1", epoch="e1", cursor=1)
    assert second.token == ResumeToken(session_id="s1", epoch="e1", cursor=2)
    assert {name: getattr(second.event, name) for name in fields} == fields
    assert second.event.data == {"n": 2}


def test_duplicates_are_dropped_and_move_nothing() -> None:
    lab = Lab()
    lab.live(*events(1, 6))
    for frame in (event(6), event(1), event(3, "replay"), skip(2, 4), skip(1, 6)):
        assert lab.server(frame).actions == ()
        assert lab.cursor == 6
    assert seqs(lab.server(event(7))) == [7]


def test_a_skip_accounts_for_what_was_not_yet() -> None:
    lab = Lab()
    told = lab.live(*events(1, 4), skip(2, 8), event(9))
    (skipped,) = told.of(Skipped)
    # What it names of the past was handed on before.
    assert (skipped.first, skipped.last, skipped.reason) == (5, 8, "superseded")
    assert skipped.token.cursor == 8
    assert seqs(told) == [1, 2, 3, 4, 9]


def test_a_skip_that_ends_before_it_begins_is_a_bad_frame() -> None:
    lab = Lab()
    lab.live(*events(1, 2))
    assert lab.server(skip(5, 3)).one(RetryScheduled).code == "malformed_frame"
    assert lab.cursor == 2


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "event", "seq": "3", "event": event(3)["event"]},
        {"type": "event", "seq": 0, "event": event(3)["event"]},
        {"type": "event", "seq": 2**53, "event": event(3)["event"]},
        {"type": "event", "seq": 3},
        {"type": "skip", "first": 3, "reason": "superseded"},
        {"type": "caught_up"},
        {"type": "ping", "cursor": "2"},
        {"type": "snapshot", "cursor": 9, "epoch": "e1", "reason": "lagged"},
        {"type": "message_ack", "duplicate": False},
        {"type": "error"},
    ],
)
def test_a_bad_frame_ends_the_connection_and_keeps_the_cursor(frame: Frame) -> None:
    lab = Lab()
    lab.live(*events(1, 2))
    told = lab.server(frame, event(3))
    assert told.closed[0].code == 1002
    assert told.one(RetryScheduled).code == "malformed_frame"
    assert told.of(EventReceived) == []
    assert lab.cursor == 2


def test_unknown_types_and_fields_are_ignored() -> None:
    lab = Lab()
    lab.live()
    unknown: list[Frame] = [
        {"type": "bogus", "seq": 5},
        {"type": "bogus", "cursor": 9},
        {"type": ""},
    ]
    assert lab.server(*unknown).actions == ()
    assert seqs(lab.server({**event(1), "more": 1})) == [1]


def test_presence_and_health_are_passed_on() -> None:
    lab = Lab()
    lab.live(presence=[], presence_version=1)
    entry = {"client_id": "c", "agent_id": "demo", "connected_at": 1.5, "client": {"name": "n"}}
    told = lab.server(
        {"type": "presence", "version": 2, "from_version": 1, "joined": [entry], "left": ["d"]},
        {"type": "presence", "version": 3, "entries": [entry]},
        {"type": "health", "version": 4, "health": {"ok": False}},
    )
    change, whole = told.of(PresenceReceived)
    assert (change.version, change.from_version, change.left) == (2, 1, ("d",))
    assert change.joined is not None
    assert change.joined[0].client_id == "c"
    assert whole.entries == change.joined
    assert told.one(HealthReceived).health == {"ok": False}


# -- gaps -------------------------------------------------------------------------------------

BEYOND: dict[str, tuple[Frame, int]] = {
    "event": (event(6), 6),
    "replay": (event(5, "replay"), 5),
    "skip": (skip(5, 9), 5),
    "ping": ({"type": "ping", "cursor": 8}, 8),
    "caught_up": (caught_up(4), 4),
    "caught_up of another": (caught_up(4, nonce="stale"), 4),
}


@pytest.mark.parametrize(("frame", "received"), BEYOND.values(), ids=BEYOND)
def test_a_gap_is_told_once_and_asked_for(frame: Frame, received: int) -> None:
    lab = Lab()
    lab.live(*events(1, 3))
    told = lab.server(frame, event(7), skip(9, 9), {"type": "ping", "cursor": 30})
    assert told.of(Gap) == [Gap(expected=4, received=received)]
    assert (told.of(EventReceived), told.of(Skipped), told.of(CaughtUp)) == ([], [], [])
    (resume,) = told.sent("resume")
    assert (resume["since"], resume["epoch"]) == (3, "e1")
    told = lab.server(*events(4, 9, "replay"), caught_up(9, nonce=resume["nonce"]), event(10))
    assert seqs(told) == [4, 5, 6, 7, 8, 9, 10]
    assert told.one(CaughtUp).cursor == 9
    assert told.of(Gap) == []


def test_every_recovery_has_a_nonce_of_its_own() -> None:
    lab = Lab()
    lab.live()
    nonces: set[str] = set()
    for at in range(0, 40, 10):
        (resume,) = lab.server(event(at + 5)).sent("resume")
        nonces.add(resume["nonce"])
        lab.server(skip(at + 1, at + 10), caught_up(at + 10, nonce=resume["nonce"]))
        assert lab.state == ClientState.LIVE
    assert len(nonces) == 4


@pytest.mark.parametrize("stale", [caught_up(3), caught_up(3, nonce="stale"), caught_up(9)])
def test_the_caught_up_of_another_is_no_answer(stale: Frame) -> None:
    lab, _ = gapped()
    assert lab.server(stale).actions == ()
    assert lab.state == ClientState.RECOVERING
    told = lab.pass_time(8.0)
    assert told.one(RetryScheduled).code == "recovery_timeout"
    assert told.closed
    assert lab.cursor == 3


def test_a_recovery_that_comes_slowly_is_no_silent_one() -> None:
    lab, nonce = gapped()
    for seq in range(4, 8):
        lab.pass_time(7.0)
        assert seqs(lab.server(event(seq, "replay"))) == [seq]
    assert lab.server(caught_up(7, nonce=nonce)).one(CaughtUp).cursor == 7
    assert lab.pass_time(30.0).of(RetryScheduled) == []


def test_a_recovery_short_of_its_own_cursor_is_asked_for_again() -> None:
    lab, nonce = gapped()
    told = lab.server(event(4, "replay"), caught_up(7, nonce=nonce))
    assert told.of(Gap) == [Gap(expected=5, received=7)]
    (again,) = told.sent("resume")
    assert again["since"] == 4
    assert again["nonce"] != nonce
    assert lab.server(caught_up(7, nonce=nonce)).actions == ()


UNMOVED: dict[str, list[Frame]] = {
    "its caught_up is ahead": [caught_up(7, nonce="THE NONCE")],
    "its caught_up is level, a ping ahead": [
        caught_up(3, nonce="THE NONCE"),
        {"type": "ping", "cursor": 7},
    ],
    "its caught_up is level, the same event again": [caught_up(3, nonce="THE NONCE"), event(7)],
    "its caught_up is level, a skip ahead": [caught_up(3, nonce="THE NONCE"), skip(5, 7)],
    "a snapshot of where it stood": [snapshot(3), caught_up(7, nonce="THE NONCE")],
}


@pytest.mark.parametrize("frames", UNMOVED.values(), ids=UNMOVED)
def test_a_recovery_that_recovers_nothing_is_not_asked_for_for_ever(frames: list[Frame]) -> None:
    lab, nonce = gapped()
    answer = [
        {**frame, "nonce": nonce} if frame.get("nonce") == "THE NONCE" else frame
        for frame in frames
    ]
    told = lab.server(*answer)
    assert told.of(Gap) == []
    assert told.sent("resume") == []
    assert told.one(RetryScheduled).code == "malformed_frame"
    assert lab.client.resume_token == ResumeToken(session_id="s1", epoch="e1", cursor=3)
    # The next connection is asked anew.
    told = lab.back(event(9))
    assert told.one(Gap) == Gap(expected=4, received=9)
    assert told.sent("resume")


def test_a_wish_for_a_snapshot_outlives_a_recovery_that_recovers_nothing() -> None:
    lab, _ = gapped()
    (resync,) = lab.give(Resync()).sent("resync")
    lab.server(caught_up(7, nonce=resync["nonce"]))
    assert lab.try_again().frames[0]["start"] == "snapshot"


def test_a_gap_may_be_answered_with_a_snapshot() -> None:
    lab, nonce = gapped(event(8))
    told = lab.server(event(9), snapshot(9, nonce=nonce), event(10), caught_up(9, nonce=nonce))
    assert told.one(SnapshotReceived).cursor == 9
    assert seqs(told) == [10]
    assert told.one(CaughtUp).cursor == 9
    # Recovered: a new hole is a new gap.
    assert lab.server(event(12)).one(Gap) == Gap(expected=11, received=12)


def test_an_error_answers_no_recovery() -> None:
    lab, _ = gapped()
    assert lab.server({"type": "error", "code": "rate_limited", "message": "x"}).actions == ()
    assert lab.pass_time(8.0).one(RetryScheduled).code == "recovery_timeout"


def test_a_gap_of_one_connection_is_none_on_the_next() -> None:
    lab, _ = gapped()
    lab.close()
    told = lab.back(*events(4, 8, "replay"), caught_up(8), cursor=8)
    assert told.of(Gap) == []
    assert seqs(told) == [4, 5, 6, 7, 8]
    # Nor is its timeout.
    assert lab.pass_time(20.0).of(RetryScheduled) == []


def test_a_ping_or_caught_up_behind_or_level_is_no_gap() -> None:
    lab = Lab()
    lab.live(*events(1, 5))
    told = lab.server(*({"type": "ping", "cursor": cursor} for cursor in (0, 3, 5)))
    assert told.of(Gap) == []
    assert lab.server(caught_up(2)).of(Gap) == []


def test_caught_up_is_told_once_an_attach() -> None:
    lab = Lab()
    told = lab.live(event(1), caught_up(1), caught_up(1))
    assert told.of(CaughtUp) == [CaughtUp(cursor=1)]
    assert lab.server(caught_up(1, nonce="foreign")).actions == ()


# -- snapshots --------------------------------------------------------------------------------


def test_a_snapshot_replaces_and_is_not_overtaken_by_older_events() -> None:
    lab = Lab()
    told = lab.live(*events(1, 3), snapshot(9), *events(7, 10), skip(8, 9))
    taken = told.one(SnapshotReceived)
    assert (taken.cursor, taken.epoch, taken.reason) == (9, "e1", "lagged")
    assert taken.state == {"upto": 9}
    assert taken.token == ResumeToken(session_id="s1", epoch="e1", cursor=9)
    assert seqs(told) == [1, 2, 3, 10]


def test_a_snapshot_moves_the_cursor_both_ways() -> None:
    lab = Lab()
    told = lab.live(*events(1, 6), snapshot(3), *events(3, 5))
    assert seqs(told) == [1, 2, 3, 4, 5, 6, 4, 5]
    assert told.of(Gap) == []


@pytest.mark.parametrize("reason", ["trimmed", "cursor_ahead", "requested", "epoch_changed"])
def test_after_a_resync_nothing_counts_before_the_snapshot(reason: str) -> None:
    epoch = "e2" if reason == "epoch_changed" else "e1"
    fields = {"resync_required": True, "resync_reason": reason, "epoch": epoch}
    for early in (event(6), event(9), skip(6, 8)):
        lab = Lab(resume=HELD)
        told = lab.live(**fields, sequence=8, cursor=8)
        assert told.one(Joined).resync_reason == reason
        assert told.one(Joined).token == HELD
        assert lab.server({"type": "ping", "cursor": 8}).of(Gap) == []
        assert lab.server(caught_up(8)).actions == ()
        told = lab.server(early)
        assert (told.of(EventReceived), told.of(Skipped)) == ([], [])
        assert told.one(RetryScheduled).code == "malformed_frame"
        assert lab.client.resume_token == HELD
        told = lab.back(snapshot(8, reason, epoch=epoch), event(9), **fields, cursor=8)
        assert told.one(SnapshotReceived).token.epoch == epoch
        assert seqs(told) == [9]
        assert told.of(Gap) == []


def test_a_resync_whose_snapshot_does_not_come_ends_the_connection() -> None:
    lab = Lab(resume=HELD, recovery_timeout=8.0)
    lab.live(resync_required=True, resync_reason="trimmed", sequence=9, cursor=9)
    assert lab.pass_time(8.0).one(RetryScheduled).code == "recovery_timeout"
    assert lab.client.resume_token == HELD


def test_a_live_change_of_epoch_comes_with_its_snapshot() -> None:
    lab = Lab()
    lab.live(*events(1, 5))
    told = lab.server(snapshot(2, "epoch_changed", epoch="e2"), event(3))
    assert told.one(SnapshotReceived).token == ResumeToken(session_id="s1", epoch="e2", cursor=2)
    assert told.of(EventReceived)[0].token.epoch == "e2"
    # From now on it is this epoch's snapshots that are believed.
    assert lab.server(snapshot(9, epoch="e2")).one(SnapshotReceived).cursor == 9
    assert lab.server(snapshot(9)).one(RetryScheduled).code == "malformed_frame"


def test_a_snapshot_of_another_epoch_is_a_bad_frame() -> None:
    lab = Lab()
    lab.live(*events(1, 5))
    told = lab.server(snapshot(9, "lagged", epoch="e2"))
    assert told.of(SnapshotReceived) == []
    assert told.one(RetryScheduled).code == "malformed_frame"
    assert lab.client.resume_token == ResumeToken(session_id="s1", epoch="e1", cursor=5)


def test_what_is_asked_for_while_recovering_is_merged() -> None:
    lab, _ = gapped()
    (resync,) = lab.give(Resync()).sent("resync")
    told = lab.server(*events(4, 7, "replay"), caught_up(7, nonce=resync["nonce"]))
    assert seqs(told) == [4, 5, 6, 7]
    assert told.of(CaughtUp)
    assert lab.state == ClientState.LIVE


# -- snapshots in parts -----------------------------------------------------------------------


def parts(cursor: int, *chunks: str, **fields: Any) -> list[Frame]:
    return [
        snapshot(cursor, state=None, part=part, parts=len(chunks), chunk=chunk, **fields)
        for part, chunk in enumerate(chunks, 1)
    ]


STATE = {"text": "é\U0001f6f0", "list": [1, 2.5, None, True], "deep": {"a": {"b": {}}}}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_snapshot_in_parts_is_the_same_snapshot(size: int) -> None:
    text = json.dumps(STATE)
    frames = parts(9, *(text[at : at + size] for at in range(0, len(text), size)))
    lab = Lab()
    told = lab.live(event(1), *frames, event(10))
    taken = told.one(SnapshotReceived)
    assert (taken.cursor, taken.state) == (9, STATE)
    assert seqs(told) == [1, 10]


def test_part_1_begins_anew_and_a_whole_snapshot_ends_what_was_begun() -> None:
    lab = Lab()
    one, two, _ = parts(9, '{"a"', ":1", "}")
    told = lab.live(one, two, *parts(11, '{"b":', "2}"))
    assert (told.one(SnapshotReceived).cursor, told.one(SnapshotReceived).state) == (11, {"b": 2})
    assert lab.server(one, two, snapshot(12)).one(SnapshotReceived).cursor == 12
    assert lab.server(*parts(13, "", "{", "", "}")).one(SnapshotReceived).state == {}


def test_parts_count_as_progress_from_the_first_after_a_new_request() -> None:
    """However far the one before had come: a slow and steady answer is not given up."""
    lab = Lab()
    lab.live(caught_up(0))
    lab.server(*parts(9, "{", " ", "}", reason="lagged")[:2])
    lab.give(Resync())
    told: list[SnapshotReceived] = []
    for part in parts(9, "{", " ", "}"):
        lab.pass_time(8.0)
        told += lab.server(part).of(SnapshotReceived)
    assert [each.cursor for each in told] == [9]


def test_parts_of_one_connection_do_not_go_on_on_the_next() -> None:
    lab = Lab()
    one, two = parts(9, "{", "}")
    lab.live(one)
    lab.close()
    assert lab.back(two).of(RetryScheduled)[-1].code == "malformed_frame"


BAD_PARTS: dict[str, list[Frame]] = {
    "not the first": parts(9, "{", "}")[1:],
    "one left out": [parts(9, "{", " ", "}")[0], parts(9, "{", " ", "}")[2]],
    "twice": [parts(9, "{", " ", "}")[0], *parts(9, "{", " ", "}")[1:2] * 2],
    "another cursor": [parts(9, "{", "}")[0], parts(8, "{", "}")[1]],
    "another reason": [parts(9, "{", "}")[0], parts(9, "{", "}", reason="requested")[1]],
    "another nonce": [parts(9, "{", "}")[0], parts(9, "{", "}", nonce="n")[1]],
    "another count": [parts(9, "{", "}")[0], parts(9, "{", " ", "}")[1]],
    "more than said": [snapshot(9, state=None, part=2, parts=1, chunk="{}")],
    "the first is more than said": [snapshot(9, state=None, part=1, parts=0, chunk="{}")],
    "both forms": [snapshot(9, part=1, parts=1, chunk="{}")],
    "state and parts": [snapshot(9, parts=1)],
    "state and chunk": [snapshot(9, chunk="{}")],
    "neither": [snapshot(9, state=None)],
    "no chunk": [snapshot(9, state=None, part=1, parts=1)],
    "no count": [snapshot(9, state=None, part=1, chunk="{}")],
    "no json": parts(9, "{", "]"),
    "a list": parts(9, "[", "]"),
    "a name twice": parts(9, '{"a":1,', '"a":2}'),
    "too deep": parts(9, '{"a":' + "[" * 70, "]" * 70 + "}"),
    "an integer too large": parts(9, '{"a":90071992', "54740993}"),
}


@pytest.mark.parametrize("frames", BAD_PARTS.values(), ids=BAD_PARTS)
def test_parts_that_do_not_fit_are_a_bad_frame(frames: list[Frame]) -> None:
    lab = Lab()
    lab.live(event(1))
    told = lab.server(*frames)
    assert told.of(SnapshotReceived) == []
    assert told.one(RetryScheduled).code == "malformed_frame"
    assert lab.cursor == 1


def test_parts_have_a_bound_together() -> None:
    lab = Lab(max_payload=4096, max_snapshot=64_000)
    lab.live()
    frames = parts(9, *([" " * 1000] * 70))
    lab.server(*frames[:64])
    assert lab.state == ClientState.LIVE
    told = lab.server(*frames[64:])
    assert retry_of(told).code == "payload_too_large"
    assert [closing.code for closing in told.closed] == [1009]


def test_the_bound_of_a_snapshot_is_not_that_of_a_frame() -> None:
    lab = Lab(max_payload=4096)
    text = json.dumps({"text": "x" * 400_000})
    frames = parts(9, *(text[at : at + 3000] for at in range(0, len(text), 3000)))
    told = lab.live(*frames)
    assert told.one(SnapshotReceived).state == {"text": "x" * 400_000}


def test_more_parts_than_bytes_that_may_come_are_refused_at_the_first() -> None:
    lab = Lab(max_snapshot=100)
    lab.live()
    first = {**parts(9, "{", "}")[0], "parts": 101}
    assert retry_of(lab.server(first)).code == "payload_too_large"


def test_a_snapshot_that_comes_slowly_in_parts_is_no_silent_recovery() -> None:
    lab = Lab(resume=HELD, recovery_timeout=8.0)
    lab.live(resync_required=True, resync_reason="trimmed", sequence=9, cursor=9)
    *begun, last = parts(9, "{", " ", " ", "}")
    for frame in begun:
        lab.pass_time(7.0)
        lab.server(frame)
    lab.pass_time(7.0)
    assert lab.server(last).one(SnapshotReceived).state == {}


TRICKLES: dict[str, list[Frame]] = {
    "nothing in them": parts(9, "{", *[""] * 20),
    "the first again and again": [parts(9, "{", "}")[0]] * 20,
    "the same two again and again": parts(9, "{", " ", "}")[:2] * 20,
    "the first of another again and again": [parts(at, "{", "}")[0] for at in range(9, 29)],
}


@pytest.mark.parametrize("frames", TRICKLES.values(), ids=TRICKLES)
@pytest.mark.parametrize("state", [ClientState.RESYNCING, ClientState.RECOVERING])
def test_parts_that_bring_a_snapshot_no_nearer_are_no_progress(
    frames: list[Frame], state: ClientState
) -> None:
    lab = Lab(resume=HELD, recovery_timeout=8.0)
    reach(lab, state)
    for frame in frames:
        told = lab.pass_time(3.0)
        if told.of(RetryScheduled):
            assert told.one(RetryScheduled).code == "recovery_timeout"
            assert lab.now <= 20.0
            return
        lab.server(frame)
    raise AssertionError("kept alive by nothing")


def test_a_snapshot_begun_before_a_recovery_counts_for_it() -> None:
    lab = Lab(recovery_timeout=8.0)
    one, two, three, four = parts(9, "{", " " * 10, " ", "}")
    lab.live(one, two)
    lab.give(Resync())
    lab.pass_time(7.0)
    lab.server(three)
    lab.pass_time(7.0)
    assert lab.server(four).of(SnapshotReceived)


# -- resync on the application's wish ---------------------------------------------------------


def test_a_snapshot_may_be_asked_for() -> None:
    lab = Lab()
    lab.live(*events(1, 3))
    (resync,) = lab.give(Resync()).sent("resync")
    # What comes before the answer still counts, and what is missing the snapshot will cover.
    told = lab.server(event(4), event(9))
    assert seqs(told) == [4]
    assert told.of(Gap) == []
    nonce = resync["nonce"]
    told = lab.server(snapshot(9, "requested", nonce=nonce), caught_up(9, nonce=nonce), event(10))
    assert told.one(SnapshotReceived).reason == "requested"
    assert told.of(CaughtUp)
    assert seqs(told) == [10]


def test_a_snapshot_that_was_asked_for_in_vain_is_asked_for_again() -> None:
    lab = Lab(recovery_timeout=8.0)
    lab.live(*events(1, 3))
    lab.give(Resync())
    assert lab.pass_time(8.0).one(RetryScheduled).code == "recovery_timeout"
    (hello,) = lab.try_again().frames
    assert hello["start"] == "snapshot"
    assert hello["since"] == 3
    fields = {"resync_required": True, "resync_reason": "requested"}
    lab.server(lab.welcome(**fields), snapshot(3, "requested"))
    lab.close()
    (hello,) = lab.try_again().frames
    assert "start" not in hello


def test_a_wish_for_a_snapshot_waits_for_a_connection() -> None:
    lab = Lab(resume=HELD)
    lab.give(Resync())
    (hello,) = lab.connect().frames
    assert hello["start"] == "snapshot"
    # The server would not hear of it: it is not asked for ever.
    assert lab.server(lab.welcome()).frames == []
    lab.close()
    (hello,) = lab.try_again().frames
    assert "start" not in hello


def test_a_wish_after_the_handshake_was_sent_follows_the_welcome() -> None:
    lab = Lab(resume=HELD)
    lab.connect()
    assert lab.give(Resync()).actions == ()
    assert [frame["type"] for frame in lab.server(lab.welcome()).frames] == ["resync"]


def test_a_new_session_needs_no_snapshot() -> None:
    lab = Lab()
    lab.give(Resync())
    lab.connect()
    assert lab.server(lab.welcome()).frames == []
    assert lab.state == ClientState.LIVE
    lab.close()
    (hello,) = lab.try_again().frames
    assert "start" not in hello


def test_while_a_snapshot_is_due_another_is_not_asked_for() -> None:
    lab = Lab(resume=HELD)
    lab.live(resync_required=True, resync_reason="trimmed")
    assert lab.give(Resync()).actions == ()


# -- fencing ----------------------------------------------------------------------------------


def test_what_comes_from_a_connection_that_was_given_up_changes_nothing() -> None:
    lab = Lab(recovery_timeout=8.0)
    lab.live(*events(1, 2))
    lab.server(event(9))
    lab.pass_time(8.0)
    before = lab.client.to_state(now=lab.now)
    assert lab.server(*events(3, 9), connection=1).actions == ()
    assert lab.close(4508).actions == ()
    assert lab.client.to_state(now=lab.now) == before
    told = lab.back(*events(3, 4, "replay"))
    assert lab.server(event(5), connection=1).actions == ()
    assert lab.give(TransportOpened(1)).actions == ()
    assert seqs(told) == [3, 4]
    assert lab.cursor == 4


def test_the_cursor_that_is_said_is_what_was_handed_on() -> None:
    lab = Lab()
    for seq in range(1, 6):
        if seq == 1:
            lab.live(event(1))
        else:
            lab.back(event(seq))
        assert lab.cursor == seq
        lab.close()
    hello = lab.try_again().frames[0]
    assert hello["since"] == 5


def test_states_are_told_when_they_change() -> None:
    lab = Lab()
    told = Told(lab.connect().actions + lab.server(lab.welcome()).actions)
    assert told.of(StateChanged) == [StateChanged("connecting"), StateChanged("connected")]
    told = Told(lab.close().actions + lab.try_again().actions + lab.close().actions)
    assert told.of(StateChanged) == [StateChanged("reconnecting")]
    assert lab.back().of(StateChanged) == [StateChanged("connected")]


def test_a_pong_says_what_the_application_has_taken() -> None:
    lab = Lab(slow=True)
    lab.live(*events(1, 3))
    ping = {"type": "ping", "nonce": "n", "cursor": 3}
    assert lab.server(ping).frames == [{"type": "pong", "nonce": "n", "cursor": 0}]
    lab.give(Taken(2))
    assert lab.server(ping).frames[0]["cursor"] == 2
    lab.give(Taken(1), Taken(99))
    assert lab.server(ping).frames[0]["cursor"] == 2
    lab.give(Taken(3))
    assert lab.server(ping).frames[0]["cursor"] == 3
    # A snapshot is to be taken too, and another epoch counts from nothing.
    assert lab.server(snapshot(2), {"type": "ping"}).frames == [{"type": "pong", "cursor": 1}]
    lab.give(Taken(2))
    told = lab.server(snapshot(9, "epoch_changed", epoch="e2"), {"type": "ping"})
    assert told.frames == [{"type": "pong", "cursor": 0}]

"""Known bugs of version 1, put into the machines: the plays with deployed peers notice each."""

from collections.abc import Callable, Iterable

import pytest

from tests.blackbox.bbwire import Frame
from tests.deployed import dpplay_server
from tests.deployed.dpaccount import Said, follow, holds
from tests.deployed.dpclient import View
from tests.deployed.dpplay_client import against_restarts
from tests.mutants.patching import Edit, Patcher

SERVER_BUGS = {
    "the welcome tells the head where delivery goes on": Edit(
        "_gateway_welcome:_cursor_v1",
        "return decision.since",
        "return decision.session.journal.cursor if decision.session else 0",
    ),
    "the welcome tells the head where it resyncs": Edit(
        "_gateway_welcome:_cursor_v1",
        'return request.since if decision.reason == "trimmed" else 0',
        "return decision.session.journal.cursor if decision.session else 0",
    ),
    "the session id does not carry the epoch": Edit(
        "versions:join_session_id", 'return f"{session_id}.{epoch}"', "return session_id"
    ),
    "a range with some superseded gone counts as held": Edit(
        "journal:Journal.floor_v1", "return self._gone", "return self._floor"
    ),
    "the number is not in the data": Edit(
        "versions:replay_frame_v1", '"cursor": seq}', '"cursor": seq - 1}'
    ),
    "a snapshot tells the cursor after its own": Edit(
        "versions:snapshot_frame_v1", '"event_cursor": cursor', '"event_cursor": cursor + 1'
    ),
}
CLIENT_BUGS = {
    "the client believes a welcome without a floor": Edit(
        "_client_opening:_believe_v1", "attach.oldest_cursor is None and", "False and"
    ),
    "the client does not check its cursor against the head": Edit(
        "_client_opening:_believe_v1", "held.cursor > attach.head", "False"
    ),
    "the client believes the field resumed": Edit(
        "_client_welcome:_read_v1",
        "is_same_session(held, welcome.session_id)",
        'parsed.fields.get("resumed", True)',
    ),
    "the client hands on what lies beyond a gap": Edit(
        "_client_live:take_event", "if frame.seq > expected:", "if False:"
    ),
}


def notices(play: Callable[[int], object], edit: Edit, seeds: Iterable[int]) -> bool:
    with Patcher() as patcher:
        patcher.edit(edit.place, edit.old, edit.new)
        for seed in seeds:
            try:
                play(seed)
            except (AssertionError, TimeoutError, ExceptionGroup):
                return True
    return False


@pytest.mark.deep
@pytest.mark.parametrize("bug", SERVER_BUGS)
def test_a_deployed_client_notices_it(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A broken server may leave its client waiting: that counts, and need not take so long.
    monkeypatch.setattr("tests.blackbox.bbwire.Peer.recv.__defaults__", (2.0,))
    assert notices(against_restarts, SERVER_BUGS[bug], range(150))


@pytest.mark.deep
@pytest.mark.parametrize("bug", CLIENT_BUGS)
def test_it_is_noticed_at_a_deployed_server(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpplay_server, "_DEADLINE", 4.0)
    assert notices(dpplay_server.in_process, CLIENT_BUGS[bug], range(200))


# -- the account itself -----------------------------------------------------------------------


def welcome(cursor: int, session_id: str = "s.1", *, resync: bool = False) -> Frame:
    frame = {"type": "joined", "session_id": session_id, "cursor": cursor, "resumed": True}
    return {**frame, "resync_required": resync}


def replay(seq: int, number: int | None = None) -> Frame:
    inner: Frame = dict.fromkeys(("type", "event_id", "timestamp", "source", "target"))
    inner |= {"data": {"cursor": seq}, "sequence": seq if number is None else number}
    return {"type": "replay", "seq": seq, "event": inner}


def snapshot(cursor: int, session_id: str = "s.1") -> Frame:
    return {"type": "snapshot", "state": {"event_cursor": cursor, "session_id": session_id}}


@pytest.mark.parametrize(
    "log",
    [
        [welcome(0), replay(1), replay(3)],
        [welcome(0), replay(1), replay(1)],
        [welcome(0), replay(1), welcome(2)],
        [welcome(3)],
        [welcome(0), replay(1), welcome(1), replay(1)],
        [welcome(0), replay(1), welcome(1, "s.2")],
        [welcome(0), replay(1, 2)],
        [welcome(0), replay(1), replay(2), snapshot(1)],
        [welcome(0), snapshot(3, "s.2")],
        [welcome(0), replay(1), welcome(1, resync=True), replay(2)],
        [welcome(0), {"type": "event", "seq": 1}],
        [welcome(0), {"type": "caught_up", "cursor": 0}],
        [welcome(0), {"type": "message_ack", "request_id": "r"}],
    ],
)
def test_the_account_fails_what_breaks_the_promise(log: list[Frame]) -> None:
    with pytest.raises(AssertionError):
        follow(log)


@pytest.mark.parametrize(
    "log",
    [
        [welcome(0), replay(1), replay(2), welcome(2), replay(3)],
        [welcome(0), replay(1), welcome(1, resync=True), snapshot(9), replay(10)],
        [welcome(0), replay(1), welcome(0, "s.2", resync=True), snapshot(1, "s.2")],
        [welcome(0), replay(1), welcome(0, "s.2", resync=True), welcome(0, "s.2"), replay(1)],
    ],
)
def test_the_account_passes_what_keeps_it(log: list[Frame]) -> None:
    follow(log)


def test_what_is_shown_is_compared_with_what_was_published() -> None:
    said = [Said("note", {"n": 1}), Said("token", {"text": "a"}, "r", transient=True)]
    note = {"seq": 1, "type": "note", "data": {"n": 1}}
    events = [{"type": each.type, "data": each.data} for each in said]
    run = {"type": "token", "text": "a"}
    holds(View(None, 0, events), said)
    holds(View({"messages": [note], "runs": {"x": run}}, 2), said)
    for wrong in (
        View(None, 0, events[:1]),
        View(None, 0, events[::-1]),
        View(None, 1, events[1:]),
        View({"messages": [], "runs": {"x": run}}, 2),
        View({"messages": [note], "runs": {}}, 2),
        View({"messages": [note], "runs": {"x": run}}, 1, events[1:1]),
    ):
        with pytest.raises(AssertionError):
            holds(wrong, said)

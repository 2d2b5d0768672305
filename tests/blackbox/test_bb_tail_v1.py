"""`gatewayproto tail` against a deployed version 1 server, which guards nothing itself."""

from typing import Any

import pytest

from tests.blackbox.bbaccount import given
from tests.blackbox.bbcommand import START, Tail
from tests.blackbox.bbplay import Played, end, kinds, seqs, taken
from tests.blackbox.bbwire import Frame, Listener


def replay(seq: int, **fields: Any) -> Frame:
    """Build an event in the one form of deployed servers."""
    inner = {
        "type": "note",
        "data": {"n": seq, "cursor": seq},
        "event_id": f"event-{seq}",
        "timestamp": 1_750_000_000.5,
        "sequence": seq,
        **fields,
    }
    return {"type": "replay", "seq": seq, "event": inner}


def replays(first: int, last: int) -> list[Frame]:
    return [replay(seq) for seq in range(first, last + 1)]


def fresh(listener: Listener, *after: Frame, options: tuple[str, ...] = ()) -> tuple[Tail, Played]:
    """Start a client without state, which believes this server's welcome."""
    tail = Tail(listener.url, *options)
    played = taken(listener, START)
    played.welcome_v1(*after)
    return tail, played


def back(listener: Listener, since: int, *dropped: Frame, **fields: Any) -> Played:
    """Take a client back that holds state: its first welcome is not believed."""
    played = taken(listener)
    assert (played.opening["session_id"], played.opening["since"]) == ("s1", since)
    played.welcome_v1(*dropped, **fields)
    played.again(type="join", session_id="s1", since=since)
    return played


@pytest.mark.on_trio
def test_a_visit_to_a_version_1_server(listener: Listener) -> None:
    tail, played = fresh(listener, *replays(1, 3))
    tail.until("event", seq=3)
    played.send({"type": "ping", "nonce": "n1"})
    assert played.peer.recv_but("ping").get("nonce") == "n1"
    lines = [given(line) for line in end(tail, played)]
    (joined,) = kinds(lines, "joined")
    assert (joined["session_id"], joined["protocol_version"]) == ("s1", 1)
    assert joined["resumed"] is False
    assert seqs(lines) == [1, 2, 3]
    first = kinds(lines, "event")[0]["event"]
    assert (first["type"], first["event_id"]) == ("note", "event-1")
    assert first["data"]["n"] == 1
    assert kinds(lines, "gap", "retry") == []


def test_only_version_1_may_be_offered(listener: Listener) -> None:
    tail, played = fresh(listener, replay(1), options=("--protocol-max", "1"))
    names = ("protocol_max", "max_version")
    assert [played.opening[name] for name in names if name in played.opening] == [1]
    tail.until("event", seq=1)
    end(tail, played)


def test_any_frame_with_a_number_is_an_event(listener: Listener) -> None:
    tail, played = fresh(
        listener,
        {"type": "tool_call", "seq": 1, "data": {"tool": "x"}},
        {"type": "status", "seq": 2, "text": "busy"},
        {"type": "error", "seq": 3, "code": "tool_failed", "message": "no"},
        {"type": "message", "seq": 4, "data": {"text": "hi"}},
        {"type": "event", "seq": 5, "event": {"type": "note", "data": {"n": 5}}},
        {"type": "unnumbered", "data": {}},
        {"type": "unnumbered", "seq": "7", "data": {}},
        {"type": "unnumbered", "seq": 7.0, "data": {}},
        {"type": "unnumbered", "seq": True, "data": {}},
        {"type": "ping", "seq": 99},
        {"type": "pong", "seq": 99},
        replay(6),
    )
    tail.until("event", seq=6)
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 5, 6]
    told = [line["event"] for line in kinds(lines, "event")]
    assert [event["type"] for event in told] == [
        *("tool_call", "status", "error", "message", "note", "note"),
    ]
    assert told[0]["data"] == {"tool": "x"}
    assert told[1]["data"]["text"] == "busy"
    assert told[2]["data"]["code"] == "tool_failed"
    assert told[3]["data"] == {"text": "hi"}
    assert told[4]["data"] == {"n": 5}
    assert kinds(lines, "gap", "retry") == []


def test_a_numbered_response_is_acknowledgement_and_event(listener: Listener) -> None:
    tail, played = fresh(listener, options=("--send", "one", "--send", "two", "--send", "three"))
    ids = [played.expect("message")["request_id"] for _ in range(3)]
    nested = {"type": "response", "seq": 1, "status": "accepted", "request_id": ids[0]}
    nested |= {"data": {"text": "answer"}}
    flat = {"type": "response", "seq": 2, "status": "duplicate", "request_id": ids[1]}
    flat |= {"text": "flat"}
    plain = {"type": "response", "status": "accepted", "request_id": ids[2]}
    played.send(nested, flat, plain, replay(3))
    tail.until("event", seq=3)
    lines = end(tail, played)
    assert kinds(lines, "accepted") == [
        {"emit": "accepted", "request_id": ids[0], "duplicate": False},
        {"emit": "accepted", "request_id": ids[1], "duplicate": True},
        {"emit": "accepted", "request_id": ids[2], "duplicate": False},
    ]
    assert seqs(lines) == [1, 2, 3]
    told = [line["event"] for line in kinds(lines, "event")]
    assert (told[0]["type"], told[0]["data"]) == ("response", {"text": "answer"})
    assert told[1]["type"] == "response"
    assert told[1]["data"]["text"] == "flat"


def test_a_refusal_comes_as_an_error_with_the_id(listener: Listener) -> None:
    tail, played = fresh(listener, options=("--send", "one"))
    one = played.expect("message")["request_id"]
    error = {"type": "error", "code": "inbox_full", "message": "no", "request_id": one}
    played.send(error)
    assert tail.until("refused")["code"] == "inbox_full"
    end(tail, played)


def test_while_it_holds_state_no_welcome_without_a_floor_is_believed(listener: Listener) -> None:
    tail, played = fresh(listener, *replays(1, 3))
    tail.until("event", seq=3)
    played.peer.cut()
    # What a deployed server sends of its own accord is a baseline that proves nothing.
    baseline = {"type": "snapshot", "state": {"event_cursor": 9, "session_id": "s1"}}
    played = back(listener, 3, replay(9), baseline, replay(1), cursor=9)
    played.welcome_v1(*replays(4, 6), cursor=6)
    tail.until("event", seq=6)
    played.send(replay(7))
    tail.until("event", seq=7)
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 5, 6, 7]
    assert kinds(lines, "gap", "snapshot") == []


def test_at_0_a_session_is_joined_again_too(listener: Listener) -> None:
    tail, played = fresh(listener)
    tail.until("joined")
    played.peer.cut()
    played = taken(listener)
    assert (played.opening["session_id"], played.opening["since"]) == ("s1", 0)
    played.welcome_v1(oldest_cursor=1)
    played.send(replay(1))
    tail.until("event", seq=1)
    end(tail, played)


def test_a_welcome_with_a_floor_is_believed_at_once(listener: Listener) -> None:
    tail, played = fresh(listener, *replays(1, 3))
    tail.until("event", seq=3)
    played.peer.cut()
    played = taken(listener)
    assert (played.opening["session_id"], played.opening["since"]) == ("s1", 3)
    played.welcome_v1(*replays(4, 5), oldest_cursor=1, sequence=3)
    tail.until("event", seq=5)
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 5]
    assert kinds(lines, "gap") == []


def test_a_server_behind_the_client_has_lost_its_state(listener: Listener) -> None:
    tail, played = fresh(listener, *replays(1, 5))
    tail.until("event", seq=5)
    played.peer.cut()
    played = back(listener, 5, cursor=2)
    played.welcome_v1(cursor=2)
    played.again(type="join", since=0)
    played.welcome_v1(*replays(1, 2), cursor=2)
    tail.until("event", seq=2)
    played.peer.cut()
    played = back(listener, 2, cursor=2)
    played.welcome_v1(replay(3), cursor=2)
    tail.until("event", seq=3)
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 5, 1, 2, 3]
    assert kinds(lines, "gap") == []


def test_resumed_is_that_the_session_id_is_the_same(listener: Listener) -> None:
    tail, played = fresh(listener, *replays(1, 3))
    tail.until("event", seq=3)
    played.peer.cut()
    played = back(listener, 3, resumed=False)
    played.welcome_v1(replay(4), resumed=False, cursor=4)
    joined = tail.until("joined", resumed=True)
    assert joined["session_id"] == "s1"
    tail.until("event", seq=4)
    played.peer.cut()
    played = back(listener, 4, resumed=True)
    played.welcome_v1(replay(1), session_id="s2", resumed=True, cursor=1)
    assert tail.until("joined", session_id="s2")["resumed"] is False
    tail.until("event", seq=1)
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 1]


def test_a_gap_closes_and_joins_again(listener: Listener) -> None:
    tail, played = fresh(listener, *replays(1, 2))
    played.send(replay(5), replay(6))
    assert tail.until("gap") == {"emit": "gap", "expected": 3, "received": 5}
    played.ended()
    played = back(listener, 2, cursor=6)
    played.welcome_v1(*replays(3, 6), cursor=6)
    tail.until("event", seq=6)
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 5, 6]
    assert len(kinds(lines, "gap")) == 1


def test_duplicates_of_version_1_are_dropped(listener: Listener) -> None:
    tail, played = fresh(listener, *replays(1, 4), replay(2), replay(4), replay(1), replay(5))
    tail.until("event", seq=5)
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 5]
    assert kinds(lines, "gap") == []


def test_a_version_1_snapshot_carries_its_cursor_in_its_state(listener: Listener) -> None:
    tail, played = fresh(listener, *replays(1, 2))
    state = {"event_cursor": 7, "session_id": "s1", "agent_id": "demo", "messages": ["x"]}
    played.send({"type": "snapshot", "state": state}, replay(8))
    tail.until("event", seq=8)
    lines = end(tail, played)
    (line,) = kinds(lines, "snapshot")
    assert line["cursor"] == 7
    assert line["state"]["messages"] == ["x"]
    assert seqs(lines) == [1, 2, 8]
    assert kinds(lines, "gap") == []


def test_unacknowledged_messages_go_after_the_answer_that_is_believed(listener: Listener) -> None:
    tail, played = fresh(listener, *replays(1, 3), options=("--send", "one"))
    one = played.expect("message")["request_id"]
    tail.until("event", seq=3)
    played.peer.cut()
    played = back(listener, 3)
    played.keeps_quiet(0.1)
    played.welcome_v1(cursor=3)
    assert played.expect("message")["request_id"] == one
    played.send({"type": "response", "status": "duplicate", "request_id": one})
    assert tail.until("accepted")["duplicate"] is True
    end(tail, played)


def test_a_lost_version_1_session_leaves_written_messages_unknown(listener: Listener) -> None:
    tail, played = fresh(listener, *replays(1, 3), options=("--send", "one"))
    one = played.expect("message")["request_id"]
    tail.until("event", seq=3)
    played.peer.cut()
    played = back(listener, 3, session_id="s2", resumed=False, cursor=0)
    played.welcome_v1(session_id="s2", resumed=False, cursor=0)
    assert tail.until("outcome_unknown")["request_id"] == one
    played.keeps_quiet(0.1)
    end(tail, played)


def test_a_version_1_rejection_ends_it_with_its_code(listener: Listener) -> None:
    for code, close in (
        ("protocol_unsupported", 4500),
        ("configuration_error", 4501),
        ("auth_required", 4503),
    ):
        tail = Tail(listener.url, "--protocol-max", "1")
        taken(listener, START).reject(code, close)
        assert kinds(tail.finished(1), "stopped")[0]["code"] == code

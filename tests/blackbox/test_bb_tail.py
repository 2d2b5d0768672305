"""`gatewayproto tail` against a played server: following, gaps, duplicates, recovery."""

import json
from typing import Any

import pytest

from tests.blackbox.bbaccount import given
from tests.blackbox.bbcommand import START, Command, Tail
from tests.blackbox.bbplay import (
    Played,
    caught_up,
    end,
    event,
    events,
    followed,
    kinds,
    seqs,
    skip,
    snapshot,
    taken,
)
from tests.blackbox.bbwire import Frame, Listener

# The handshake and the lines


def test_the_first_handshake_offers_a_range_and_claims_nothing(listener: Listener) -> None:
    tail = Tail(listener.url)
    played = taken(listener, START)
    opening = given(played.opening)
    versions = ("protocol_min", "protocol_max")
    if opening["type"] == "join":
        versions = ("min_version", "max_version")
    assert [opening[name] for name in versions] == [1, 2]
    assert opening["agent_id"] == "demo"
    assert played.position[:2] == (None, None)
    assert played.position[2] in {None, 0}
    assert tail.next_line() == {"emit": "state", "state": "connecting"}
    played.welcome(caught_up(0))
    tail.until("caught_up", cursor=0)
    end(tail, played)


def test_options_are_what_the_handshake_says(listener: Listener) -> None:
    tail = Tail(
        listener.url,
        *("--agent-id", "ann", "--protocol-min", "2", "--protocol-max", "2"),
        *("--session", "s9", "--epoch", "e9", "--since", "7"),
    )
    played = taken(listener, START)
    assert played.opening["agent_id"] == "ann"
    names = {"hello": "protocol_min", "join": "min_version"}
    assert played.opening[names[played.opening["type"]]] == 2
    assert played.position == ("s9", "e9", 7)
    played.welcome(event(8), session_id="s9", epoch="e9")
    tail.until("event", seq=8)
    end(tail, played)


def test_a_stored_position_may_be_0_and_is_said(listener: Listener) -> None:
    options = ("--session", "s9", "--epoch", "e9", "--since", "0")
    tail = Tail(listener.url, *options)
    played = taken(listener, START)
    assert played.position == ("s9", "e9", 0)
    played.welcome(caught_up(0), session_id="s9", epoch="e9")
    tail.until("caught_up")
    end(tail, played)


def test_a_token_reaches_the_server(listener: Listener) -> None:
    tail = Tail(listener.url, "--token", "open-sesame")
    sock, target, headers = listener.accept_request(START)
    sock.close()
    peer = listener.accept()
    played = Played(peer, peer.recv())
    told = [target, headers.get("authorization", ""), played.opening.get("token") or ""]
    assert any("open-sesame" in text for text in told)
    played.welcome(caught_up(0))
    tail.until("caught_up")
    end(tail, played)


def test_the_lines_of_a_quiet_visit(listener: Listener) -> None:
    tail, played = followed(listener, caught_up(0))
    tail.until("caught_up")
    lines = [given(line) for line in end(tail, played)]
    assert lines[0] == {"emit": "state", "state": "connecting"}
    assert {"emit": "state", "state": "connected"} in lines
    assert {
        "emit": "joined",
        "session_id": "s1",
        "epoch": "e1",
        "protocol_version": 2,
        "resumed": False,
        "cursor": 0,
        "oldest_cursor": 1,
        "sequence": 0,
        "resync_required": False,
    } in lines
    assert {"emit": "caught_up", "cursor": 0} in lines
    assert {"emit": "state", "state": "disconnected"} in lines
    assert kinds(lines, "stopped")[0]["code"] == "disconnected"
    assert isinstance(kinds(lines, "stopped")[0]["message"], str)
    assert kinds(lines, "retry", "gap", "event") == []


@pytest.mark.on_trio
def test_every_frame_has_its_line_in_order(listener: Listener) -> None:
    rich = event(
        2,
        source="agent",
        target="user",
        run_id="r1",
        request_id="q1",
        expects_reply=True,
        data={"text": "é🛰\u2028", "deep": [{"a": None}]},
    )
    tail, played = followed(
        listener,
        event(1, "replay"),
        caught_up(1),
        rich,
        skip(3, 5),
        event(6, transient=True, run_id="r2"),
        event(7, final=True, run_id="r2"),
        snapshot(9, "lagged"),
        event(10),
        cursor=1,
    )
    tail.until("event", seq=10)
    played.settle(10)
    lines = [given(line) for line in end(tail, played)]
    told = kinds(lines, "event", "skipped", "snapshot", "caught_up", "gap")
    assert told == [
        {"emit": "event", "seq": 1, "replayed": True, "event": event(1)["event"]},
        {"emit": "caught_up", "cursor": 1},
        {"emit": "event", "seq": 2, "replayed": False, "event": rich["event"]},
        {"emit": "skipped", "first": 3, "last": 5, "reason": "superseded"},
        {
            "emit": "event",
            "seq": 6,
            "replayed": False,
            "event": event(6, transient=True, run_id="r2")["event"],
        },
        {
            "emit": "event",
            "seq": 7,
            "replayed": False,
            "event": event(7, final=True, run_id="r2")["event"],
        },
        {
            "emit": "snapshot",
            "cursor": 9,
            "epoch": "e1",
            "reason": "lagged",
            "state": {"messages": ["up to 9"]},
        },
        {"emit": "event", "seq": 10, "replayed": False, "event": event(10)["event"]},
    ]


def test_unknown_types_and_fields_are_ignored(listener: Listener) -> None:
    tail, played = followed(listener, future={"a": 1})
    played.send(
        {"type": "bogus", "seq": 5},
        {"type": "bogus", "cursor": 99},
        {**event(1), "more": 1},
        {"type": "", "x": []},
        event(2, colour="red"),
        caught_up(2, more=True),
    )
    tail.until("caught_up")
    assert seqs(end(tail, played)) == [1, 2]


def test_a_ping_is_answered_with_its_nonce_and_the_cursor(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 3))
    tail.until("event", seq=3)
    pong = played.settle(3)
    assert pong["cursor"] == 3
    played.send({"type": "ping", "cursor": 3})
    pong = played.peer.recv_but("ping")
    assert pong["type"] == "pong"
    assert pong.get("nonce") is None
    end(tail, played)


def test_frames_may_come_in_pieces_of_any_size(listener: Listener) -> None:
    tail = Tail(listener.url)
    played = taken(listener, START)
    whole = played.peer.encoded(played.welcome_frame(), *events(1, 5), caught_up(5))
    for at in range(0, len(whole), 3):
        played.peer.send_bytes(whole[at : at + 3])
    tail.until("caught_up", cursor=5)
    assert seqs(end(tail, played)) == [1, 2, 3, 4, 5]


# Ends


@pytest.mark.parametrize(
    "last",
    [[event(4), event(5)], [skip(4, 6)], [snapshot(5)], [snapshot(9)]],
    ids=["event", "skip", "snapshot", "snapshot past it"],
)
def test_until_ends_once_the_seq_is_accounted_for(listener: Listener, last: list[Frame]) -> None:
    tail, played = followed(listener, *events(1, 3), options=("--until", "5"))
    tail.until("event", seq=3)
    played.settle(3)
    played.send(*last)
    assert played.ended() == 1000
    lines = tail.finished(0)
    assert kinds(lines, "stopped")[0]["code"] == "disconnected"
    assert kinds(lines, "state")[-1]["state"] == "disconnected"


def test_until_does_not_end_by_a_welcome_or_a_ping(listener: Listener) -> None:
    tail, played = followed(listener, cursor=9, options=("--until", "5"))
    played.settle(0)
    tail.until("joined")
    played.send(*events(1, 9, "replay"))
    played.ended()
    assert seqs(tail.finished(0))[:5] == [1, 2, 3, 4, 5]


def test_for_ends_after_its_time_connected_or_not(listener: Listener) -> None:
    tail, played = followed(listener, caught_up(0), options=("--for", "0.3"))
    played.ended()
    assert kinds(tail.finished(0), "stopped")[0]["code"] == "disconnected"
    port = listener.port
    listener.sock.close()
    lines = Tail(f"ws://127.0.0.1:{port}/ws", "--for", "0.3").finished(0)
    assert kinds(lines, "stopped")[0]["code"] == "disconnected"
    assert kinds(lines, "retry")


def test_an_interrupt_ends_it_with_0_in_every_state(listener: Listener) -> None:
    # Waiting for HTTP, for the welcome, for the next attempt.
    tail = Tail(listener.url)
    sock = listener.accept_socket(START)
    tail.until("state", state="connecting")
    tail.interrupt()
    tail.finished(0, 5.0)
    sock.close()
    tail = Tail(listener.url)
    played = taken(listener, START)
    tail.interrupt()
    played.ended()
    tail.finished(0, 5.0)
    tail = Tail(listener.url, backoff=(60.0, 60.0))
    taken(listener, START).peer.cut()
    tail.until("retry")
    tail.interrupt()
    assert kinds(tail.finished(0, 5.0), "stopped")[0]["code"] == "disconnected"


def test_for_people_nothing_raw_reaches_the_terminal(listener: Listener) -> None:
    command = Command("tail", listener.url, "--until", "2")
    played = taken(listener, START)
    evil = {"text": "\x1b[31mred\x07\x9b\u202e"}
    played.welcome(event(1, type="\x1b]0;title\x07", data=evil), event(2))
    played.ended()
    lines = command.ended(0)
    assert lines
    text = "\n".join(lines) + command.errors()
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\r"}


# Snapshots in parts


def in_parts(cursor: int, count: int, **fields: Any) -> list[Frame]:
    """Cut the snapshot of a cursor into so many parts, also within a character's escape."""
    whole = snapshot(cursor, **fields)
    text = json.dumps({"messages": [f"up to {cursor}"], "é": "🛰"})
    del whole["state"]
    cuts = [len(text) * at // count for at in range(count + 1)]
    return [
        {**whole, "part": at + 1, "parts": count, "chunk": text[cuts[at] : cuts[at + 1]]}
        for at in range(count)
    ]


def test_a_snapshot_in_parts_is_one_snapshot(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 2))
    tail.until("event", seq=2)
    *first, last = in_parts(9, 20)
    played.send(*first)
    assert played.settle(2)["cursor"] == 2
    assert kinds(tail.emitted, "snapshot") == []
    played.send(last, event(10))
    tail.until("event", seq=10)
    played.settle(10)
    lines = end(tail, played)
    (line,) = kinds(lines, "snapshot")
    assert given(line) == {
        "emit": "snapshot",
        "cursor": 9,
        "epoch": "e1",
        "reason": "trimmed",
        "state": {"messages": ["up to 9"], "é": "🛰"},
    }
    assert kinds(lines, "gap", "retry") == []


def test_part_1_begins_anew(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 2))
    played.send(*in_parts(9, 5)[:3], *in_parts(12, 4), event(13))
    tail.until("event", seq=13)
    lines = end(tail, played)
    assert [line["cursor"] for line in kinds(lines, "snapshot")] == [12]
    assert kinds(lines, "gap", "retry") == []


def test_half_a_snapshot_is_none(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 2))
    tail.until("event", seq=2)
    played.send(*in_parts(9, 5)[:4])
    played.settle(2)
    played.peer.cut()
    played = taken(listener)
    assert played.position == ("s1", "e1", 2)
    # The rest on another connection is a bad frame, not an end of what was begun before.
    played.welcome(in_parts(9, 5)[4])
    played.ended()
    played = taken(listener)
    assert played.position == ("s1", "e1", 2)
    played.welcome(caught_up(2))
    tail.until("caught_up")
    assert kinds(end(tail, played), "snapshot") == []


# Duplicates and gaps


def test_duplicates_are_dropped_and_move_nothing(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 6))
    played.send(event(6), event(1), event(3, "replay"), skip(2, 4), skip(1, 6), event(7))
    played.settle(7)
    tail.until("event", seq=7)
    assert played.settle(7)["cursor"] == 7
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 5, 6, 7]
    assert kinds(lines, "gap", "skipped") == []


def test_a_skip_around_what_is_expected_moves_to_its_last(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 4), skip(2, 8), event(9))
    tail.until("event", seq=9)
    assert played.settle(9)["cursor"] == 9
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 9]
    assert [line["last"] for line in kinds(lines, "skipped")] == [8]
    assert kinds(lines, "gap") == []


def test_a_snapshot_moves_the_cursor_both_ways(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 6), snapshot(3, "requested"), *events(3, 5))
    tail.until("event", seq=5)
    tail.until("event", seq=5)
    assert played.settle(5)["cursor"] == 5
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 5, 6, 4, 5]
    assert kinds(lines, "gap") == []


BEYOND: dict[str, tuple[Frame, int]] = {
    "event": (event(6), 6),
    "replay": (event(5, "replay"), 5),
    "skip": (skip(5, 9), 5),
    "ping": ({"type": "ping", "cursor": 8}, 8),
    "caught_up": (caught_up(4), 4),
}


@pytest.mark.parametrize(("frame", "received"), BEYOND.values(), ids=BEYOND)
def test_a_gap_is_told_once_and_asked_for(listener: Listener, frame: Frame, received: int) -> None:
    tail, played = followed(listener, *events(1, 3))
    played.send(frame, event(7), event(8))
    resume = played.expect("resume", since=3, epoch="e1")
    assert isinstance(resume["nonce"], str)
    assert resume["nonce"]
    gap = tail.until("gap")
    assert gap == {"emit": "gap", "expected": 4, "received": received}
    played.send(*events(4, 9, "replay"), caught_up(9, nonce=resume["nonce"]), event(10))
    tail.until("event", seq=10)
    played.settle(10)
    lines = end(tail, played)
    assert seqs(lines) == list(range(1, 11))
    assert len(kinds(lines, "gap")) == 1
    assert kinds(lines, "retry", "skipped") == []


def test_each_recovery_has_a_nonce_of_its_own(listener: Listener) -> None:
    tail, played = followed(listener)
    nonces = set()
    for at in range(0, 40, 10):
        played.send(event(at + 5))
        nonce = played.expect("resume", since=at)["nonce"]
        nonces.add(nonce)
        played.send(skip(at + 1, at + 10), caught_up(at + 10, nonce=nonce))
        tail.until("caught_up")
    assert len(nonces) == 4
    end(tail, played)


def test_a_gap_may_be_answered_with_a_snapshot(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 3))
    played.send(event(9))
    nonce = played.expect("resume", since=3)["nonce"]
    played.send(event(10))
    played.send(snapshot(10, nonce=nonce), caught_up(10, nonce=nonce), event(11))
    tail.until("event", seq=11)
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 11]
    assert len(kinds(lines, "gap")) == 1
    assert kinds(lines, "snapshot")[0]["cursor"] == 10


def test_the_caught_up_of_an_earlier_attach_is_no_answer(listener: Listener) -> None:
    options = ("--recovery-timeout", "0.4")
    tail, played = followed(listener, *events(1, 3), options=options, cursor=3)
    played.send(event(5))
    played.expect("resume", since=3)
    played.send(caught_up(3), caught_up(3, nonce="stale"))
    # Not answered: the connection is ended, and the next one begins where this one stood.
    played.ended()
    played = taken(listener)
    assert played.position == ("s1", "e1", 3)
    played.welcome(*events(4, 5, "replay"), caught_up(5), cursor=5)
    tail.until("event", seq=5)
    lines = end(tail, played)
    assert seqs(lines) == [1, 2, 3, 4, 5]
    assert len(kinds(lines, "retry")) == 1


def test_a_recovery_that_brings_only_a_part_is_no_end_of_the_gap(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 3))
    played.send(event(9))
    nonce = played.expect("resume", since=3)["nonce"]
    played.send(event(4, "replay"), caught_up(9, nonce=nonce))
    # The answer itself is short of its own cursor: asked again, from where the client stands.
    again = played.expect("resume", since=4)
    assert again["nonce"] != nonce
    played.send(*events(5, 9, "replay"), caught_up(9, nonce=again["nonce"]))
    tail.until("event", seq=9)
    assert seqs(end(tail, played)) == list(range(1, 10))


def test_a_ping_behind_or_level_is_no_gap(listener: Listener) -> None:
    tail, played = followed(listener, *events(1, 5))
    for cursor in (0, 3, 5):
        played.settle(cursor)
    lines = end(tail, played)
    assert kinds(lines, "gap") == []

"""The checks' own tools, checked: a peer that misreads would pass what it should fail."""

import socket
from typing import Any

import pytest

from tests.blackbox.bbaccount import account, check_frame
from tests.blackbox.bbserve import reached
from tests.blackbox.bbwire import (
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Frame,
    Peer,
    PeerClosedError,
    accept_value,
    apply_mask,
    encode_frame,
    loads,
    parse_frame,
    same,
)


@pytest.fixture
def pair() -> tuple[Peer, Peer]:
    one, two = socket.socketpair()
    return Peer(one, client=True), Peer(two, client=False)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
@pytest.mark.parametrize("masked", [True, False])
def test_a_frame_of_every_length_form_comes_back_whole(size: int, masked: bool) -> None:
    payload = bytes(i % 251 for i in range(size))
    wire = b"xx" + encode_frame(TEXT, payload, masked=masked)
    parsed = parse_frame(wire + b"tail", 2, masked=masked)
    assert parsed is not None
    frame, end = parsed
    assert (frame.opcode, frame.payload, frame.fin) == (TEXT, payload, True)
    assert end == len(wire)
    for cut in (2, 3, len(wire) - 1):
        assert parse_frame(wire[:cut], 2, masked=masked) is None


def test_the_examples_of_the_rfc_are_read() -> None:
    masked = bytes.fromhex("818537fa213d7f9f4d5158")
    plain = bytes.fromhex("810548656c6c6f")
    for wire, how in ((masked, True), (plain, False)):
        parsed = parse_frame(wire, masked=how)
        assert parsed is not None
        assert parsed[0].payload == b"Hello"
    assert accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert apply_mask(apply_mask(b"abcdef", b"1234"), b"1234") == b"abcdef"


@pytest.mark.parametrize(
    "wire",
    [
        encode_frame(TEXT, b"x", masked=True),
        encode_frame(TEXT, b"x", masked=False, rsv=4),
        encode_frame(3, b"x", masked=False),
        encode_frame(PING, b"x" * 126, masked=False),
        encode_frame(PING, b"x", masked=False, fin=False),
        b"\x81\x7e\x00\x05Hello",
    ],
    ids=["masked", "reserved bit", "opcode", "long ping", "fragmented ping", "long length"],
)
def test_what_a_correct_server_never_sends_is_noticed(wire: bytes) -> None:
    with pytest.raises(AssertionError):
        parse_frame(wire, masked=False)


def test_messages_pings_and_closes_pass_between_two_peers(pair: tuple[Peer, Peer]) -> None:
    client, server = pair
    client.send({"type": "a", "n": 1}, {"type": "b"})
    client.send_frame(TEXT, b'{"type"', fin=False)
    client.send_frame(PING, b"p")
    client.send_frame(CONTINUATION, b':"c"}')
    assert [server.recv()["type"] for _ in range(3)] == ["a", "b", "c"]
    server.send({"type": "ping", "cursor": 0}, {"type": "d", "n": 1})
    client.expect("d", n=1)
    assert client.pongs == [b"p"]
    server.send_close(4001, "late")
    with pytest.raises(PeerClosedError) as closed:
        client.recv()
    assert (closed.value.code, closed.value.reason) == (4001, "late")
    assert server.recv_frame().opcode == CLOSE


def test_an_end_without_a_close_frame_counts_as_1006(pair: tuple[Peer, Peer]) -> None:
    client, server = pair
    server.sock.close()
    assert client.expect_closed(1006) == 1006


def test_a_wait_ends_by_its_deadline(pair: tuple[Peer, Peer]) -> None:
    with pytest.raises(AssertionError, match="nothing came"):
        pair[0].recv(0.01)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"type":1}',
        '{"type":"x","a":NaN}',
        '{"type":"x","a":1,"a":2}',
        '{"type":"x","a":9007199254740992}',
    ],
)
def test_a_frame_that_is_none_is_noticed(text: str) -> None:
    with pytest.raises(AssertionError):
        loads(text)


def test_json_values_of_other_types_are_not_the_same() -> None:
    assert same(1, 1)
    assert not same(True, 1)
    assert not same(1.0, 1)
    assert not same("1", 1)
    assert not same(1, True)
    assert same(None, None)


def event(seq: int, kind: str = "event", **fields: Any) -> Frame:
    inner = {"type": "note", "data": {}, "event_id": f"e{seq}", "timestamp": 1.7e9, **fields}
    return {"type": kind, "seq": seq, "event": inner}


def skip(first: int, last: int) -> Frame:
    return {"type": "skip", "first": first, "last": last, "reason": "superseded"}


def snapshot(cursor: int, **fields: Any) -> Frame:
    frame = {"type": "snapshot", "cursor": cursor, "epoch": "e", "reason": "lagged"}
    return {**frame, "state": {}, **fields}


CAUGHT_UP: Frame = {"type": "caught_up", "cursor": 5}


def test_an_account_takes_events_skips_and_snapshots() -> None:
    frames = [
        event(3, "replay"),
        skip(4, 5),
        CAUGHT_UP,
        event(6),
        {"type": "ping", "cursor": 6},
        snapshot(9),
        event(10),
    ]
    result = account(frames, 2, head=5)
    assert result.cursor == 10
    assert (result.replayed, result.live) == ([3], [6, 10])
    assert result.skips == [(4, 5)]
    assert max(map(reached, frames)) == 10


def test_an_account_joins_the_parts_of_a_snapshot() -> None:
    part = {"state": None, "parts": 2}
    frames = [snapshot(7, part=1, chunk='{"a":', **part), snapshot(7, part=2, chunk="1}", **part)]
    result = account(frames, 0, resync=True)
    assert result.snapshots[0]["state"] == {"a": 1}
    assert result.cursor == 7
    with pytest.raises(AssertionError):
        account(frames[:1], 0, resync=True)


@pytest.mark.parametrize(
    "frames",
    [
        [event(2)],
        [event(1), event(1)],
        [event(1), event(3)],
        [skip(2, 3)],
        [event(1), skip(1, 3)],
        [skip(1, 3), event(3)],
        [event(1), event(2), snapshot(1)],
        [event(1), {"type": "ping", "cursor": 2}],
        [event(1), {"type": "caught_up", "cursor": 2}],
        [event(1), {"type": "hello_ok"}],
    ],
)
def test_an_account_finds_what_breaks_the_promise(frames: list[Frame]) -> None:
    with pytest.raises(AssertionError):
        account(frames, 0)


def test_an_account_tells_replay_from_live() -> None:
    with pytest.raises(AssertionError):
        account([event(1)], 0, head=1)
    with pytest.raises(AssertionError):
        account([event(1, "replay")], 0, head=0)
    with pytest.raises(AssertionError):
        account([event(1, "replay"), {"type": "caught_up", "cursor": 1}], 0, head=2)
    with pytest.raises(AssertionError):
        account([event(1, "replay")], 0, resync=True)


@pytest.mark.parametrize(
    "frame",
    [
        event(0),
        {"type": "event", "seq": 1.0, "event": event(1)["event"]},
        event(1, transient=False, run_id="r"),
        event(1, transient=True),
        event(1, final=True),
        event(1, cursor=1),
        {**event(1), "extra": 1},
        {**skip(1, 2), "reason": "trimmed"},
        {**skip(2, 1)},
        {"type": "message_ack", "request_id": "r", "duplicate": 1},
        {"type": "error", "code": "malformed_frame", "message": ""},
        {"type": "ping"},
    ],
)
def test_a_frame_off_its_table_is_noticed(frame: Frame) -> None:
    with pytest.raises(AssertionError):
        check_frame(frame)

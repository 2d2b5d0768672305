"""`gatewayproto tail` against servers that are none, or that send what is no frame."""

import base64
import contextlib
import os
import struct
from typing import Any

import pytest

from tests.blackbox.bbcommand import START, Tail
from tests.blackbox.bbplay import caught_up, end, event, events, kinds, seqs, taken
from tests.blackbox.bbserve import Ends
from tests.blackbox.bbwire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Frame,
    Listener,
    encode_frame,
)


def test_a_server_that_does_not_answer_is_given_up(listener: Listener) -> None:
    tail = Tail(listener.url, "--handshake-timeout", "0.3")
    with contextlib.ExitStack() as stack:
        # No HTTP answer; half of one; no welcome; no welcome but signs of life.
        stack.enter_context(listener.accept_socket(START))
        half = stack.enter_context(listener.accept_socket())
        half.sendall(b"HTTP/1.1 101 Switching")
        third = taken(listener)
        played = taken(listener)
        third.ended()
        with Ends(*range(1000, 5000)):
            while True:
                played.peer.send_frame(PING, b"x")
                with contextlib.suppress(AssertionError):
                    played.peer.recv(0.05)
        played = taken(listener)
        assert [tail.until("retry")["attempt"] for _ in range(4)] == [1, 2, 3, 4]
        played.welcome(caught_up(0))
        end(tail, played)


def text(value: str) -> bytes:
    return encode_frame(TEXT, value.encode(), masked=False)


def plain(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    return encode_frame(opcode, payload, fin=fin, rsv=rsv, masked=False)


GARBAGE = {
    "bytes": b"\x00\x01\x02\x03\xff\xfe\xfd\xfc",
    "http": b"HTTP/1.1 200 OK\r\n\r\n",
    "no utf-8": plain(TEXT, b'{"type":"\xff"}'),
    "binary": plain(BINARY, b'{"type":"ping","cursor":2}'),
    "rsv": plain(TEXT, b'{"type":"ping","cursor":2}', rsv=4),
    "masked": encode_frame(TEXT, b'{"type":"ping","cursor":2}', masked=True),
    "opcode": plain(3),
    "continuation of nothing": plain(CONTINUATION, b"x"),
    "long ping": plain(PING, b"x" * 126),
    "bad close": plain(CLOSE, struct.pack("!H", 1005)),
    "half a close": plain(CLOSE, b"\x03"),
    "no json": text("nonsense"),
    "half json": text('{"type":"event"'),
    "list": text("[]"),
    "number": text("3"),
    "no type": text('{"seq":3}'),
    "type 5": text('{"type":5}'),
    "NaN": text('{"type":"ping","cursor":NaN}'),
    "too deep": text('{"type":"ping","cursor":2,"x":' + "[" * 70 + "]" * 70 + "}"),
    "very deep": text("[" * 50_000),
}

BAD_FRAMES: dict[str, Frame] = {
    "event without seq": {"type": "event", "event": event(3)["event"]},
    "event without event": {"type": "event", "seq": 3},
    "seq as a string": {**event(3), "seq": "3"},
    "seq as a float": {**event(3), "seq": 3.0},
    "seq true": {**event(3), "seq": True},
    "seq 0": {**event(3), "seq": 0},
    "seq negative": {**event(3), "seq": -3},
    "seq too large": {**event(3), "seq": 2**53},
    "event a list": {"type": "event", "seq": 3, "event": []},
    "event without type": {"type": "event", "seq": 3, "event": {"data": {}}},
    "event with a bad type": event(3, type=5),
    "event with bad data": event(3, data=[]),
    "replay without event": {"type": "replay", "seq": 3},
    "skip without last": {"type": "skip", "first": 3, "reason": "superseded"},
    "skip the wrong way": {"type": "skip", "first": 5, "last": 3, "reason": "superseded"},
    "skip of strings": {"type": "skip", "first": "3", "last": "5", "reason": "superseded"},
    "caught_up without cursor": {"type": "caught_up"},
    "caught_up of a string": {"type": "caught_up", "cursor": "2"},
    "caught_up negative": {"type": "caught_up", "cursor": -1},
    "ping of a string": {"type": "ping", "cursor": "2"},
    "snapshot without cursor": {
        "type": "snapshot",
        "epoch": "e1",
        "reason": "lagged",
        "state": {},
    },
    "snapshot without state": {
        "type": "snapshot",
        "cursor": 9,
        "epoch": "e1",
        "reason": "lagged",
    },
    "snapshot of a list": {
        "type": "snapshot",
        "cursor": 9,
        "epoch": "e1",
        "reason": "lagged",
        "state": [],
    },
    "ack without id": {"type": "message_ack", "duplicate": False},
}


def test_bytes_that_are_no_websocket_end_the_connection_and_not_the_client(
    listener: Listener,
) -> None:
    tail = Tail(listener.url)
    played = taken(listener, START)
    played.welcome(*events(1, 2))
    tail.until("event", seq=2)
    # 1002, 1003, 1007 that the client itself says are no codes that it received.
    for data in GARBAGE.values():
        played.peer.send_bytes(data + plain(TEXT, b'{"type":"ping","cursor":99}'))
        played.ended()
        played = taken(listener)
        assert played.position == ("s1", "e1", 2)
        played.welcome(caught_up(2))
        tail.until("caught_up")
    lines = end(tail, played)
    assert seqs(lines) == [1, 2]
    assert kinds(lines, "gap") == []
    assert [line["attempt"] for line in kinds(lines, "retry")] == [1] * len(GARBAGE)


@pytest.mark.on_trio
def test_bad_frames_end_the_connection_and_not_the_client(listener: Listener) -> None:
    tail = Tail(listener.url)
    played = taken(listener, START)
    played.welcome(*events(1, 2))
    tail.until("event", seq=2)
    for name, frame in BAD_FRAMES.items():
        played.send(frame, event(3))
        played.ended()
        played = taken(listener)
        assert played.position == ("s1", "e1", 2), name
        played.welcome(caught_up(2))
        tail.until("caught_up")
    lines = end(tail, played)
    assert seqs(lines) == [1, 2]
    assert kinds(lines, "gap", "snapshot", "skipped") == []


def test_a_bad_welcome_ends_the_connection_and_not_the_client(listener: Listener) -> None:
    tail = Tail(listener.url)
    bad: list[dict[str, Any]] = [
        {"session_id": 5},
        {"session_id": None},
        {"cursor": "0"},
        {"cursor": -1},
        {"protocol_version": "2"},
        {"protocol_version": 3},
        {"protocol_version": 0},
        {"sequence": 1.5},
        {"policy": {"heartbeat_ms": "x"}},
        {"type": "event"},
        {"type": "joined?", "seq": 1},
    ]
    for fields in bad:
        played = taken(listener, START)
        frame = {**played.welcome_frame(), **fields}
        played.send(frame)
        if fields.get("type"):
            # No answer to a handshake: it is told apart or timed out, never believed.
            played.peer.sock.close()
        else:
            played.ended()
        tail.until("retry")
    played = taken(listener)
    assert played.position[0] is None
    played.welcome(caught_up(0))
    lines = end(tail, played)
    assert len(kinds(lines, "joined")) == 1


def test_a_wrong_answer_to_the_upgrade_is_no_server(listener: Listener) -> None:
    tail = Tail(listener.url)
    wrong = base64.b64encode(os.urandom(20)).decode()
    upgrade = "HTTP/1.1 101 Odd\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    answers = [
        "SSH-2.0-OpenSSH_9.0\r\n",
        "\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        f"{upgrade}Sec-WebSocket-Accept: {wrong}\r\n\r\n",
        "HTTP/1.1 abc Odd\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n" + "X: " + "y" * 200_000,
    ]
    for answer in answers:
        sock, _, _ = listener.accept_request(START)
        with sock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(answer.encode())
            sock.shutdown(1)
            while sock.recv(1 << 16):
                pass
        tail.until("retry")
    played = taken(listener)
    played.welcome(caught_up(0))
    end(tail, played)


def test_a_connection_that_was_given_up_changes_nothing(listener: Listener) -> None:
    tail = Tail(listener.url, "--recovery-timeout", "0.3")
    played = taken(listener, START)
    played.welcome(*events(1, 2))
    played.send(event(9))
    played.expect("resume", since=2)
    # It is given up; what still comes on it is nobody's.
    second = taken(listener)
    assert second.position == ("s1", "e1", 2)
    played.send(*events(3, 9, "replay"))
    second.welcome(*events(3, 4, "replay"), caught_up(4), cursor=4)
    tail.until("event", seq=4)
    second.settle(4)
    played.ended()
    assert seqs(end(tail, second)) == [1, 2, 3, 4]

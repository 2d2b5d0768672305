"""Bad frames: what WebSocket forbids, what JSON forbids, and what the specification forbids."""

import json
import struct
from collections.abc import Iterator

import pytest

from tests.blackbox.bbserve import (
    Ends,
    Follower,
    Gateway,
    handshake,
    message,
    new_id,
    rejected,
    v1,
)
from tests.blackbox.bbwire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    encode_frame,
)

LIMIT = 65536


def nested(depth: int) -> str:
    """Make a message that is exactly so many levels deep."""
    inner = "[" * (depth - 1) + "]" * (depth - 1)
    return f'{{"type":"message","content":"deep","request_id":"r","metadata":{{}},"x":{inner}}}'


def nested_metadata(depth: int) -> str:
    inner = '{"a":' * (depth - 2) + "{}" + "}" * (depth - 2)
    return f'{{"type":"message","content":"deep","request_id":"r","metadata":{inner}}}'


MALFORMED = {
    "empty": "",
    "space": "  ",
    "no json": "not json",
    "half": '{"type":"ping"',
    "two": '{"type":"ping"}{"type":"ping"}',
    "trailing": '{"type":"ping"},',
    "comment": '{"type":"ping"/**/}',
    "single quotes": "{'type':'ping'}",
    "bom": '\ufeff{"type":"ping"}',
    "list": '[{"type":"ping"}]',
    "number": "5",
    "string": '"ping"',
    "null": "null",
    "true": "true",
    "no type": "{}",
    "no type but fields": '{"content":"hi"}',
    "type null": '{"type":null}',
    "type number": '{"type":5}',
    "type list": '{"type":["ping"]}',
    "type object": '{"type":{"ping":1}}',
    "type true": '{"type":true}',
    "NaN": '{"type":"message","content":"x","metadata":{"a":NaN}}',
    "Infinity": '{"type":"message","content":"x","metadata":{"a":Infinity}}',
    "-Infinity": '{"type":"message","content":"x","metadata":{"a":-Infinity}}',
    "too large an integer": '{"type":"message","content":"x","metadata":{"a":9007199254740992}}',
    "too small an integer": '{"type":"message","content":"x","metadata":{"a":-9007199254740992}}',
    "huge integer": '{"type":"message","content":"x","metadata":{"a":' + "9" * 5000 + "}}",
    "huge float": '{"type":"message","content":"x","metadata":{"a":1e400}}',
    "leading zero": '{"type":"message","content":"x","metadata":{"a":01}}',
    "plus": '{"type":"message","content":"x","metadata":{"a":+1}}',
    "raw newline": '{"type":"message","content":"a\nb"}',
    "raw control": '{"type":"message","content":"a\x01b"}',
    "bad escape": '{"type":"message","content":"\\x41"}',
    "lone high surrogate": '{"type":"message","content":"\\ud800"}',
    "lone low surrogate": '{"type":"message","content":"a\\udc00b"}',
    "surrogate in a key": '{"type":"message","content":{"\\ud800":1}}',
    "surrogates the wrong way": '{"type":"message","content":"\\udc00\\ud800"}',
    "65 deep": nested_metadata(65),
    "65 deep in a field nobody knows": nested(65),
    "very deep": "[" * 30_000,
    "very deep object": '{"a":' * 10_000,
    "no content": '{"type":"message"}',
    "content null": '{"type":"message","content":null}',
    "content number": '{"type":"message","content":5}',
    "content list": '{"type":"message","content":["x"]}',
    "metadata list": '{"type":"message","content":"x","metadata":[]}',
    "metadata string": '{"type":"message","content":"x","metadata":"x"}',
    "leave reason": '{"type":"leave","reason":5}',
}

UNKNOWN = [
    *("bogus", "", "Ping", "ping ", "hello_ok", "joined", "event", "replay", "snapshot"),
    *("skip", "caught_up", "message_ack", "error", "going_away", "\u0000", "t" * 5000),
]


@pytest.fixture(scope="module")
def limited(adapter: str) -> Iterator[Gateway]:
    running = Gateway("--max-payload", str(LIMIT), adapter=adapter)
    yield running
    running.stop()


@pytest.fixture
def follower(gateway: Gateway) -> Follower:
    follower = gateway.attach()
    follower.until_type("caught_up")
    return follower


def shows_that_others_live(gateway: Gateway) -> None:
    other = gateway.attach()
    other.ask("alive")
    assert other.until_seq(1)["event"]["data"]["text"] == "alive"


# Well-formed WebSocket, not well-formed here


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_frame_is_told_and_the_connection_lives(follower: Follower, text: str) -> None:
    follower.peer.send_text(text)
    error = follower.peer.expect("error", code="malformed_frame")
    assert error["message"]
    assert error["next_step"] == "do_not_retry"
    follower.live()
    follower.ask("still here")
    assert follower.until_seq(1)["event"]["data"]["text"] == "still here"


@pytest.mark.parametrize("text", ["not json", "[]", "{}", nested_metadata(65)])
def test_a_malformed_frame_is_told_to_version_1_too(gateway: Gateway, text: str) -> None:
    follower = gateway.attach(v1())
    follower.peer.send_text(text)
    follower.peer.expect("error", code="malformed_frame")
    follower.live()


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_frame_before_the_welcome_closes_at_once(gateway: Gateway, text: str) -> None:
    peer = gateway.connect()
    peer.send_text(text)
    with Ends(4506):
        # A word about it may come first.
        peer.expect("error", code="malformed_frame")
        peer.recv()
    peer.expect_eof()


def test_64_deep_is_deep_enough(follower: Follower) -> None:
    follower.peer.send_text(nested_metadata(64))
    assert follower.until_type("message_ack")["duplicate"] is False
    follower.peer.send_text(nested(64))
    assert follower.until_type("message_ack")["duplicate"] is True


@pytest.mark.parametrize(
    "value",
    ["9007199254740991", "-9007199254740991", "1e300", "0.1", "-0", "1E5", '"\\ud83d\\ude00"'],
)
def test_what_json_allows_is_taken(follower: Follower, value: str) -> None:
    follower.peer.send_text(
        f' {{"type" : "message",\r\n\t"content":"x","request_id":"r","metadata":{{"a":{value}}}}} '
    )
    assert follower.until_type("message_ack")["duplicate"] is False


def test_a_field_twice_is_answered_one_way_or_the_other(follower: Follower) -> None:
    follower.peer.send_text('{"type":"ping","nonce":"a","type":"ping","nonce":"b"}')
    frame = follower.recv()
    assert frame.get("nonce") in {"a", "b"} or frame.get("code") == "malformed_frame"
    follower.live()


@pytest.mark.parametrize("type_", UNKNOWN)
def test_an_unknown_type_is_answered_and_the_connection_lives(
    follower: Follower, type_: str
) -> None:
    frame = {"type": type_, "token": "x", "seq": 1, "run_id": "r"}
    for _ in range(2):
        follower.peer.send(frame)
        error = follower.peer.expect("error", code="unknown_type")
        assert error["message"]
    follower.live()


@pytest.mark.parametrize("frame", [{"type": "abort"}, {"type": "abort", "run_id": "r"}])
def test_an_abort_is_not_answered(follower: Follower, frame: dict[str, str]) -> None:
    follower.peer.send(frame)
    follower.live()


def test_unknown_types_never_end_a_connection(follower: Follower) -> None:
    for n in range(500):
        follower.peer.send({"type": f"bogus{n}"})
        follower.peer.expect("error", code="unknown_type")
    follower.live()


def test_version_2_frames_from_version_1_are_unknown(gateway: Gateway) -> None:
    follower = gateway.attach(v1())
    for type_ in ("resume", "resync", "auth"):
        follower.peer.send({"type": type_, "epoch": "e", "since": 0, "token": "x"})
        follower.peer.expect("error", code="unknown_type")
    follower.live()


def test_unknown_fields_are_ignored(follower: Follower) -> None:
    follower.peer.send({"type": "ping", "nonce": "n", "future": {"a": [1]}, "seq": "x"})
    assert follower.peer.expect("pong") == {"type": "pong", "nonce": "n"}
    follower.peer.send({"type": "ping"})
    assert "nonce" not in follower.peer.expect("pong")
    follower.peer.send({"type": "pong", "cursor": 0, "nonce": "x", "more": 1})
    follower.peer.send({"type": "pong"})
    follower.live()


@pytest.mark.on_trio
def test_too_many_violations_end_it(follower: Follower) -> None:
    answered = 0
    with Ends(4506):
        while answered < 5000:
            follower.peer.send_text("{}")
            follower.peer.expect("error", code="malformed_frame")
            answered += 1
    assert answered >= 2
    follower.peer.expect_eof()


def test_a_connection_ended_for_violations_leaves_its_session_alone(gateway: Gateway) -> None:
    follower = gateway.attach()
    other = gateway.attach(handshake(**follower.token()))
    follower.until_type("caught_up")
    with Ends(4506):
        for _ in range(5000):
            follower.peer.send_text("[]")
            follower.peer.expect("error", code="malformed_frame")
    other.ask("hello")
    other.until_seq(1)
    again = gateway.attach(handshake(**follower.token(), since=0))
    assert again.welcome["resumed"] is True
    assert again.catch_up().texts() == ["hello"]


# What WebSocket itself answers


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    return encode_frame(opcode, payload, fin=fin, rsv=rsv)


PING_FRAME = b'{"type":"ping"}'

BROKEN = {
    "binary": (masked(BINARY, PING_FRAME), 1003),
    "empty binary": (masked(BINARY), 1003),
    "no utf-8": (masked(TEXT, b'{"type":"\xff"}'), 1007),
    "overlong utf-8": (masked(TEXT, b'{"type":"\xc0\xaf"}'), 1007),
    "surrogate in utf-8": (masked(TEXT, b'{"type":"\xed\xa0\x80"}'), 1007),
    "half a character": (masked(TEXT, b'{"type":"\xe2\x82'), 1007),
    "no utf-8 in a fragment": (
        masked(TEXT, b'{"ty', fin=False) + masked(CONTINUATION, b"\xff"),
        1007,
    ),
    "rsv1": (masked(TEXT, PING_FRAME, rsv=4), 1002),
    "rsv2": (masked(TEXT, PING_FRAME, rsv=2), 1002),
    "rsv3": (masked(TEXT, PING_FRAME, rsv=1), 1002),
    "unmasked": (encode_frame(TEXT, PING_FRAME, masked=False), 1002),
    "unmasked ping": (encode_frame(PING, b"", masked=False), 1002),
    "opcode 3": (masked(3, PING_FRAME), 1002),
    "opcode 11": (masked(11, PING_FRAME), 1002),
    "long ping": (masked(PING, b"x" * 126), 1002),
    "fragmented ping": (masked(PING, b"x", fin=False), 1002),
    "continuation of nothing": (masked(CONTINUATION, PING_FRAME), 1002),
    "text in the middle of a text": (
        masked(TEXT, b'{"type"', fin=False) + masked(TEXT, PING_FRAME),
        1002,
    ),
    "close with half a code": (masked(CLOSE, b"\x03"), 1002),
    "close with a code never sent": (masked(CLOSE, struct.pack("!H", 1005)), 1002),
    "close with a code out of range": (masked(CLOSE, struct.pack("!H", 999)), 1002),
    "close with a reason that is no utf-8": (masked(CLOSE, b"\x03\xe8\xff"), 1007),
}


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("welcomed_first", [True, False])
def test_what_websocket_forbids_closes_with_its_code(
    gateway: Gateway, data: bytes, code: int, welcomed_first: bool
) -> None:
    peer = gateway.connect()
    if welcomed_first:
        gateway.attach(peer=peer).until_type("caught_up")
    peer.send_bytes(data)
    peer.expect_closed(code)
    shows_that_others_live(gateway)


def test_a_message_over_the_limit_is_1009_and_one_at_it_is_taken(limited: Gateway) -> None:
    follower = limited.attach()
    follower.until_type("caught_up")
    assert follower.welcome["policy"]["max_payload"] == LIMIT
    frame = json.dumps(message("", new_id()))
    padding = LIMIT - len(frame)
    at_limit = frame[:-1] + " " * padding + "}"
    assert len(at_limit) == LIMIT
    follower.peer.send_text(at_limit)
    assert follower.until_type("message_ack")["duplicate"] is False
    follower.until_seq(1)
    follower.peer.send_text(frame[:-1] + " " * (padding + 1) + "}")
    follower.peer.expect_closed(1009)


def test_fragments_over_the_limit_are_1009(limited: Gateway) -> None:
    follower = limited.attach()
    follower.until_type("caught_up")
    follower.peer.send_frame(TEXT, b"{" + b" " * 1000, fin=False)
    for _ in range(LIMIT // 1000):
        follower.peer.send_frame(CONTINUATION, b" " * 1000, fin=False)
    follower.peer.expect_closed(1009)


@pytest.mark.parametrize("size", [LIMIT + 1, 2**32, 2**62])
@pytest.mark.parametrize("welcomed_first", [True, False])
def test_a_length_over_the_limit_is_1009_before_it_has_come(
    limited: Gateway, size: int, welcomed_first: bool
) -> None:
    peer = limited.connect()
    if welcomed_first:
        limited.attach(peer=peer).until_type("caught_up")
    peer.send_bytes(b"\x81\xff" + struct.pack("!Q", size) + b"mask" + b"x" * 100)
    peer.expect_closed(1009)


def test_an_event_that_would_not_fit_is_refused_and_the_session_goes_on(limited: Gateway) -> None:
    follower = limited.attach()
    follower.until_type("caught_up")
    follower.ask("tokens 20000 0")
    follower.ask("after it")
    follower.until(lambda f: f.get("event", {}).get("data", {}).get("text") == "after it", 20.0)
    follower.account()


# What WebSocket allows


def test_a_message_in_fragments_with_pings_between_is_one_message(follower: Follower) -> None:
    data = json.dumps(message("zwölf 🛰", "r"), ensure_ascii=False).encode()
    peer = follower.peer
    peer.send_frame(TEXT, data[:1], fin=False)
    for at in range(1, len(data)):
        peer.send_frame(CONTINUATION, data[at : at + 1], fin=False)
        if at % 10 == 0:
            peer.send_frame(PING, str(at).encode())
    peer.send_frame(CONTINUATION)
    assert follower.until_seq(1)["event"]["data"]["text"] == "zwölf 🛰"
    follower.settle()
    # RFC 6455, 5.5.3: one pong may answer several pings, by the latest of them.
    pings = [str(at).encode() for at in range(10, len(data), 10)]
    assert peer.pongs == [ping for ping in pings if ping in peer.pongs]
    assert peer.pongs[-1] == pings[-1]


def test_pongs_that_nobody_asked_for_are_ignored(follower: Follower) -> None:
    follower.peer.send_frame(PONG, b"unasked")
    follower.peer.send_frame(PONG)
    follower.live()


@pytest.mark.on_trio
@pytest.mark.parametrize("code", [1000, 1001, 3000, 4000, 4999])
def test_a_close_is_answered_in_kind(follower: Follower, code: int) -> None:
    follower.peer.send_close(code, "bye")
    frame = follower.peer.recv_frame()
    assert frame.opcode == CLOSE
    assert struct.unpack("!H", frame.payload[:2])[0] == code
    follower.peer.expect_eof()


def test_a_close_without_a_code_is_answered(follower: Follower) -> None:
    follower.peer.send_close(None)
    assert follower.peer.recv_frame().opcode == CLOSE
    follower.peer.expect_eof()


def test_frames_after_a_close_are_not_taken(gateway: Gateway) -> None:
    follower = gateway.attach()
    peer = follower.peer
    closing = encode_frame(CLOSE, struct.pack("!H", 1000))
    peer.send_bytes(peer.encoded(message("in time")) + closing + peer.encoded(message("too late")))
    peer.drain()
    again = gateway.attach(handshake(**follower.token(), since=0))
    again.ask("marker")
    again.until(lambda f: f.get("event", {}).get("data", {}).get("text") == "marker")
    assert again.account().texts() == ["in time", "marker"]


def test_many_connections_that_end_badly_harm_nobody(gateway: Gateway) -> None:
    watcher = gateway.attach()
    peers: list[Peer] = []
    for n in range(60):
        peer = gateway.connect()
        peers.append(peer)
        if n % 3 == 0:
            peer.send(handshake(**watcher.token()))
        if n % 2 == 0:
            peer.send_bytes(b"\x81\xfe\x10\x00half a frame")
        peer.cut()
    watcher.ask("alive")
    assert watcher.until_seq(1)["event"]["data"]["text"] == "alive"


def test_a_bad_handshake_in_valid_json_is_a_rejection_not_a_violation(gateway: Gateway) -> None:
    for spelling in ("hello", "join"):
        peer = gateway.connect()
        peer.send_text(f'{{"type":"{spelling}"}}')
        opening = {"type": spelling}
        code = "configuration_error" if spelling == "hello" else "invalid_protocol_hello"
        rejected(peer, opening, code, 4501)

"""What an open connection makes of each kind of frame, in both roles."""

from __future__ import annotations

import tracemalloc

import pytest
from gatewayproto_wsproto import Closed, ConnectionState, TextReceived

from tests.wsproto.ws_wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    LIMIT,
    MASK,
    PING,
    PONG,
    ROLES,
    TEXT,
    Frame,
    Role,
    close_frame,
)

both_roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def refused(role: Role, data: bytes) -> int:
    """Feed what must end the connection; return the code, having checked all that goes with it."""
    connection = role.open()
    *before, closed = connection.receive(data)
    assert before == []
    assert isinstance(closed, Closed)
    assert (closed.by_peer, closed.clean, closed.received_code) == (False, False, None)
    assert connection.state is ConnectionState.CLOSED
    (sent,) = role.sent(connection)
    assert closed.code is not None
    assert sent == close_frame(closed.code, closed.reason.encode())
    # Nothing that comes after matters.
    assert connection.receive(role.peer(Frame(TEXT, b"late"), close_frame(1000))) == ()
    assert connection.receive_eof() == ()
    assert connection.bytes_to_send() == b""
    return closed.code


@both_roles
def test_text_arrives_whole_and_in_order(role: Role) -> None:
    connection = role.open()
    data = role.peer(Frame(TEXT, b"one"), Frame(TEXT), Frame(TEXT, "\N{SNOWMAN}".encode()))
    assert connection.receive(data) == (
        TextReceived(b"one"),
        TextReceived(b""),
        TextReceived("\N{SNOWMAN}".encode()),
    )
    assert connection.bytes_to_send() == b""


@both_roles
def test_frames_that_no_event_tells_of_are_counted(role: Role) -> None:
    connection = role.open()
    assert connection.take_overhead() == 0
    connection.receive(role.peer(Frame(TEXT, b"whole"), Frame(PING), Frame(PONG, b"p")))
    assert connection.take_overhead() == 2
    fragments = Frame(TEXT, b"", fin=False), *[Frame(CONTINUATION, b"", fin=False)] * 3
    data = role.peer(*fragments, Frame(CONTINUATION, b"end"))
    # A frame counts once it is whole, however it was cut.
    counted = 0
    for at in range(len(data)):
        connection.receive(data[at : at + 1])
        counted += connection.take_overhead()
    assert counted == len(fragments)


@both_roles
@pytest.mark.parametrize("last", [b"c", b""])
def test_fragments_are_one_message_with_control_frames_between(role: Role, last: bytes) -> None:
    connection = role.open()
    data = role.peer(
        Frame(TEXT, b"a\xe2", fin=False),
        Frame(PING, b"now"),
        Frame(CONTINUATION, b"\x98\x83", fin=False),
        Frame(PONG, b"unasked"),
        Frame(CONTINUATION, last),
        Frame(TEXT, b"next"),
    )
    assert connection.receive(data) == (
        TextReceived("a\N{SNOWMAN}".encode() + last),
        TextReceived(b"next"),
    )
    assert role.sent(connection) == [Frame(PONG, b"now")]


FORBIDDEN = {
    "rsv1, as of a compressed frame": Frame(TEXT, b"x", rsv=4),
    "rsv2": Frame(TEXT, b"x", rsv=2),
    "rsv3": Frame(PING, b"x", rsv=1),
    "rsv1 on binary": Frame(BINARY, b"x", rsv=4),
    "continuation of nothing": Frame(CONTINUATION, b"x"),
    "empty continuation of nothing": Frame(CONTINUATION),
    "fragmented ping": Frame(PING, b"x", fin=False),
    "fragmented close": Frame(CLOSE, b"", fin=False),
    "long ping": Frame(PING, b"x" * 126),
    "long close": close_frame(1000, b"x" * 124),
    "close of one byte": Frame(CLOSE, b"\x03"),
}


@both_roles
@pytest.mark.parametrize("frame", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_forbidden_frames_are_1002(role: Role, frame: Frame) -> None:
    assert refused(role, role.peer(frame)) == 1002


@both_roles
@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_unknown_opcodes_are_1002(role: Role, opcode: int) -> None:
    assert refused(role, role.peer(Frame(opcode, b"x"))) == 1002


@both_roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_new_message_inside_another_is_1002(role: Role, opcode: int) -> None:
    assert refused(role, role.peer(Frame(TEXT, b"a", fin=False), Frame(opcode, b"b"))) == 1002


@both_roles
@pytest.mark.parametrize("size", [126, 127])
def test_lengths_in_more_bytes_than_needed_are_1002(role: Role, size: int) -> None:
    flag = 0x80 if role.mask else 0
    length = b"\0\x05" if size == 126 else (5).to_bytes(8)
    assert refused(role, bytes([0x81, flag | size]) + length + (role.mask or b"")) == 1002


@both_roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_masking_of_the_wrong_role_is_1002(role: Role, opcode: int) -> None:
    mask = None if role.mask else MASK
    assert refused(role, Frame(opcode).encode(mask)) == 1002
    assert refused(role, Frame(opcode, b"\x03\xe8" * 9).encode(mask)) == 1002


@both_roles
def test_size_does_not_excuse_the_wrong_masking(role: Role) -> None:
    mask = None if role.mask else MASK
    assert refused(role, Frame(TEXT, b"x" * (LIMIT + 1)).encode(mask)) == 1002


@both_roles
@pytest.mark.parametrize("frame", [Frame(BINARY), Frame(BINARY, b"\0"), Frame(BINARY, fin=False)])
def test_binary_is_1003(role: Role, frame: Frame) -> None:
    assert refused(role, role.peer(frame)) == 1003


NO_UTF8 = {
    "lone continuation": b"\x80",
    "overlong": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond unicode": b"\xf4\x90\x80\x80",
    "cut short": b"ok \xe2\x98",
}


@both_roles
@pytest.mark.parametrize("text", NO_UTF8.values(), ids=NO_UTF8.keys())
def test_text_that_is_no_utf8_is_1007(role: Role, text: bytes) -> None:
    assert refused(role, role.peer(Frame(TEXT, text))) == 1007
    fragments = [Frame(TEXT, fin=False)]
    fragments += [Frame(CONTINUATION, bytes([byte]), fin=False) for byte in text]
    assert refused(role, role.peer(*fragments, Frame(CONTINUATION))) == 1007
    assert refused(role, role.peer(close_frame(1000, text))) == 1007
    assert refused(role, role.peer(close_frame(1014, text))) == 1007


@both_roles
def test_utf8_is_judged_before_the_message_is_whole(role: Role) -> None:
    frame = role.peer(Frame(TEXT, b"\xff" + b"x" * 100))
    assert refused(role, frame[:-100]) == 1007


@both_roles
def test_a_message_of_exactly_the_limit_passes(role: Role) -> None:
    connection = role.open()
    whole = Frame(TEXT, b"x" * LIMIT)
    parts = (
        Frame(TEXT, b"y" * 600, fin=False),
        Frame(PING, b"not counted"),
        Frame(CONTINUATION, b"y" * 400, fin=False),
        Frame(CONTINUATION),
    )
    for _ in range(3):  # what one message took does not count for the next
        assert connection.receive(role.peer(whole)) == (TextReceived(b"x" * LIMIT),)
        assert connection.receive(role.peer(*parts)) == (TextReceived(b"y" * LIMIT),)


@both_roles
def test_the_limit_counts_bytes_and_not_characters(role: Role) -> None:
    assert refused(role, role.peer(Frame(TEXT, "\N{SNOWMAN}".encode() * (LIMIT // 3 + 1)))) == 1009


@both_roles
@pytest.mark.parametrize("size", [LIMIT + 1, 70_000, 2**40, 2**63 - 1])
def test_a_header_that_announces_too_much_is_1009_before_any_payload(role: Role, size: int) -> None:
    flag = 0x80 if role.mask else 0
    length = bytes([flag | 126]) + size.to_bytes(2) if size < 2**16 else b""
    length = length or bytes([flag | 127]) + size.to_bytes(8)
    assert refused(role, b"\x81" + length) == 1009
    assert refused(role, b"\x81" + length + (role.mask or b"")) == 1009
    assert refused(role, b"\x81" + length + (role.mask or b"") + b"\xff" * 50) == 1009


@both_roles
def test_fragments_that_add_up_to_too_much_are_1009_at_the_header_that_does(role: Role) -> None:
    first = role.peer(Frame(TEXT, b"x" * LIMIT, fin=False))
    one_more = role.peer(Frame(CONTINUATION, b"x"))
    assert refused(role, first + one_more[:-1]) == 1009
    empty = role.peer(Frame(CONTINUATION, fin=False))
    connection = role.open()
    assert connection.receive(first + empty) == ()
    assert connection.state is ConnectionState.OPEN


@both_roles
def test_empty_fragments_without_end_take_no_memory(role: Role) -> None:
    connection = role.open()
    connection.receive(role.peer(Frame(TEXT, b"x", fin=False)))
    flood = role.peer(Frame(CONTINUATION, fin=False)) * 2000
    connection.receive(flood)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            assert connection.receive(flood) == ()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4096
    assert connection.receive(role.peer(Frame(CONTINUATION, b"y"))) == (TextReceived(b"xy"),)


@both_roles
def test_a_message_in_tiny_fragments_takes_memory_like_a_message(role: Role) -> None:
    size = 20_000
    connection = role.open(size)
    connection.receive(role.peer(Frame(TEXT, fin=False)))
    # Two bytes of text that no interpreter keeps a shared copy of.
    fragment = role.peer(Frame(CONTINUATION, "\N{GREEK SMALL LETTER PI}".encode(), fin=False))
    tracemalloc.start()
    try:
        for _ in range(size // 2):
            connection.receive(fragment)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * size
    (text,) = connection.receive(role.peer(Frame(CONTINUATION)))
    assert text == TextReceived("\N{GREEK SMALL LETTER PI}".encode() * (size // 2))


@both_roles
def test_a_ping_is_answered_with_its_payload(role: Role) -> None:
    connection = role.open()
    for payload in (b"", b"abc", bytes(125)):
        assert connection.receive(role.peer(Frame(PING, payload))) == ()
        assert role.sent(connection) == [Frame(PONG, payload)]


@both_roles
def test_of_many_pings_between_two_writes_the_newest_is_answered(role: Role) -> None:
    connection = role.open()
    for n in range(1000):
        connection.receive(role.peer(Frame(PING, str(n).encode())))
    assert role.sent(connection) == [Frame(PONG, b"999")]
    assert connection.bytes_to_send() == b""


@both_roles
def test_a_pong_tells_nothing(role: Role) -> None:
    connection = role.open()
    assert connection.receive(role.peer(Frame(PONG), Frame(PONG, b"x"))) == ()
    assert connection.bytes_to_send() == b""


@both_roles
def test_no_bytes_are_no_end(role: Role) -> None:
    connection = role.open()
    assert connection.receive(b"") == ()
    assert connection.state is ConnectionState.OPEN
    assert connection.receive(role.peer(Frame(TEXT, b"x"))) == (TextReceived(b"x"),)


@both_roles
def test_messages_before_a_fault_are_delivered(role: Role) -> None:
    connection = role.open()
    data = role.peer(Frame(TEXT, b"good"), Frame(PING, b"p"), Frame(TEXT, b"\xff"))
    text, closed = connection.receive(data)
    assert text == TextReceived(b"good")
    assert closed == Closed(code=1007, reason="text that is no UTF-8")
    assert [frame.opcode for frame in role.sent(connection)] == [PONG, CLOSE]

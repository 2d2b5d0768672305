"""Attacks with the frames of WebSocket: at every limit, over it, and beside the rules."""

import json
import socket
import struct
import time
from typing import Final

from tests.attacks.attack import attack
from tests.attacks.field import Field, hello, pour, text
from tests.attacks.limits import KIB, MIB
from tests.blackbox.bbwire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WAIT,
    Peer,
    PeerClosedError,
    encode_frame,
)


def _message(size: int) -> bytes:
    """A message whose frame is of so many bytes."""
    empty = json.dumps({"type": "message", "content": ""}).encode()
    return empty.replace(b'""', b'"' + b"m" * (size - len(empty)) + b'"')


def _echo(peer: Peer, size: int) -> None:
    """The server took a message and answered it."""
    frame = peer.expect("event")
    assert len(frame["event"]["data"]["text"]) > size // 2, frame


@attack("frames", answer="taken up to `max_payload`; one byte more is 1009")
def payload_limit(field: Field) -> None:
    """Messages one byte under, at and over `max_payload`, before the welcome and after it."""
    most = field.config.max_payload
    for size in (most - 1, most):
        peer = field.joined()
        peer.send_bytes(text(_message(size)))
        _echo(peer, size)
        early = field.upgraded()
        early.send_bytes(text(json.dumps(hello(token="")).encode().ljust(size)))
        early.expect("hello_ok")
    for peer in (field.joined(), field.upgraded()):
        peer.send_bytes(text(_message(most + 1)))
        peer.expect_closed(1009)


@attack("frames", answer="taken up to `max_payload`; one byte more is 1009")
def fragments_over_the_limit(field: Field) -> None:
    """A message in fragments: up to `max_payload`, and a byte beyond it in the last."""
    most = field.config.max_payload
    for extra in (0, 1):
        peer = field.joined()
        whole = _message(most + extra)
        pieces = [whole[at : at + 1000] for at in range(0, len(whole), 1000)]
        for number, piece in enumerate(pieces):
            peer.send_frame(CONTINUATION if number else TEXT, piece, fin=number == len(pieces) - 1)
        if extra:
            peer.expect_closed(1009)
        else:
            _echo(peer, most)


@attack("frames", answer="1009 once they are more than `max_payload`", deep=True)
def endless_fragments(field: Field) -> None:
    """Fragments of a byte each, and no end."""
    peer = field.joined()
    most = field.config.max_payload
    data = encode_frame(TEXT, b"x", fin=False)
    data += encode_frame(CONTINUATION, b"x", fin=False) * (most + 1000)
    poured = pour(peer, data)
    assert poured.code == 1009, poured


@attack("frames", answer="served, however many: they are no message and hold nothing")
def empty_fragments(field: Field) -> None:
    """Fragments of no bytes, and no end; pings among them."""
    peer = field.joined()
    piece = encode_frame(CONTINUATION, b"", fin=False) * 100 + encode_frame(PING, b"p")
    start = encode_frame(TEXT, b"", fin=False)
    peer.answer_pings = True
    pour(peer, start + piece * field.many(100, 1000), enough=lambda _: True)
    peer.send_frame(CONTINUATION, b'{"type":"ping","nonce":"alive"}')
    peer.expect("pong", nonce="alive")


@attack("frames", answer="1009 by the header alone; 1002 where the length is no length")
def huge_declared_length(field: Field) -> None:
    """Headers that announce more than there will ever be."""
    for size, code in (
        (field.config.max_payload + 1, 1009),
        (1 << 31, 1009),
        (1 << 32, 1009),
        ((1 << 63) - 1, 1009),
        (1 << 63, 1002),
        ((1 << 64) - 1, 1002),
    ):
        for opcode, fin in ((TEXT, True), (TEXT, False)):
            for mask in (b"", b"\0\0\0\0", b"\1\2\3\4some"):
                peer = field.joined()
                head = bytes([opcode | (0x80 if fin else 0), 0x80 | 127]) + struct.pack("!Q", size)
                peer.send_bytes(head + mask)
                peer.expect_closed(code)


@attack(
    "frames", answer="held up to `max_payload` for each; 1002 for what follows", growth=24 * MIB
)
def unfinished_messages(field: Field) -> None:
    """Many connections that each send all but the last byte of a message, and wait."""
    peers = [field.joined() for _ in range(field.many(20, 90))]
    for peer in peers:
        peer.send_bytes(text(_message(field.config.max_payload))[:-1])
    for peer in peers:
        # The byte that was missing, or another, and then a frame that is not masked.
        peer.send_bytes(b"\x00\x81\x00")
    for peer in peers:
        code = peer.drain()
        assert code in (1002, 1007), code


_ILLEGAL: Final[dict[str, tuple[bytes, int]]] = {
    "unmasked text": (encode_frame(TEXT, b'{"type":"ping"}', masked=False), 1002),
    "unmasked ping": (encode_frame(PING, b"x", masked=False), 1002),
    "unmasked close": (encode_frame(CLOSE, b"\x03\xe8", masked=False), 1002),
    "compressed": (encode_frame(TEXT, b"\xaaV*\xa9", rsv=4), 1002),
    "second reserved bit": (encode_frame(TEXT, b"{}", rsv=2), 1002),
    "third reserved bit": (encode_frame(TEXT, b"{}", rsv=1), 1002),
    "compressed ping": (encode_frame(PING, b"x", rsv=4), 1002),
    **{
        f"opcode {opcode}": (encode_frame(opcode, b"x"), 1002)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "binary": (encode_frame(BINARY, b"{}"), 1003),
    "binary in fragments": (encode_frame(BINARY, b"{", fin=False), 1003),
    "a continuation of nothing": (encode_frame(CONTINUATION, b"x"), 1002),
    "text within text": (encode_frame(TEXT, b"a", fin=False) + encode_frame(TEXT, b"b"), 1002),
    "binary within text": (encode_frame(TEXT, b"a", fin=False) + encode_frame(BINARY, b"b"), 1002),
    "large ping": (encode_frame(PING, b"x" * 126), 1002),
    "large pong": (encode_frame(PONG, b"x" * 126), 1002),
    "large close": (encode_frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "huge ping": (encode_frame(PING, b"x" * 70_000), 1002),
    "ping in fragments": (encode_frame(PING, b"x", fin=False), 1002),
    "close in fragments": (encode_frame(CLOSE, b"\x03\xe8", fin=False), 1002),
    "close of one byte": (encode_frame(CLOSE, b"\x03"), 1002),
    "close with no text": (encode_frame(CLOSE, b"\x03\xe8\xff\xfe"), 1007),
    "a short length in two bytes": (bytes([0x81, 0xFE, 0, 5]) + b"\0\0\0\0hello", 1002),
    "a short length in eight bytes": (
        bytes([0x81, 0xFF]) + struct.pack("!Q", 500) + b"\0\0\0\0" + b"x" * 500,
        1002,
    ),
    "no UTF-8": (encode_frame(TEXT, b'{"type":"\xff"}'), 1007),
    "an overlong character": (encode_frame(TEXT, b"\xc0\xaf"), 1007),
    "a surrogate": (encode_frame(TEXT, b"\xed\xa0\x80"), 1007),
    "beyond Unicode": (encode_frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
    "half a character": (encode_frame(TEXT, b"\xe2\x82"), 1007),
    "no UTF-8, cut": (
        encode_frame(TEXT, b"a\xe2", fin=False) + encode_frame(CONTINUATION, b"\x28\xa1"),
        1007,
    ),
    "no UTF-8, cut at every byte": (
        encode_frame(TEXT, b"\xf0", fin=False)
        + encode_frame(CONTINUATION, b"\x9f", fin=False)
        + encode_frame(CONTINUATION, b"", fin=False)
        + encode_frame(CONTINUATION, b"\x98", fin=False)
        + encode_frame(CONTINUATION, b"a"),
        1007,
    ),
    "a character that never ends": (
        encode_frame(TEXT, b"\xf0\x9f", fin=False) + encode_frame(CONTINUATION, b""),
        1007,
    ),
    "no UTF-8 in a fragment": (encode_frame(TEXT, b"\xff", fin=False), 1007),
}


@attack("frames", answer="1002; 1003 for binary; 1007 for text that is no UTF-8")
def illegal_frames(field: Field) -> None:
    """Frames that WebSocket forbids, one at a time, before the welcome and after it."""
    wrong: list[str] = []
    for name, (data, expected) in _ILLEGAL.items():
        for where, peer in (("joined", field.joined()), ("early", field.upgraded())):
            peer.send_bytes(data)
            code = peer.drain()
            if code != expected:
                wrong.append(f"{name}, {where}: {code} for {expected}")
            peer.sock.close()
    assert not wrong, "; ".join(wrong)


@attack("frames", answer="1002 for a code that may not be sent; else the same code back")
def close_codes(field: Field) -> None:
    """Close frames with codes that are forbidden, reserved, foreign, and with none."""
    wrong: list[str] = []
    forbidden = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    for code in (*forbidden, 1000, 1001, 1012, 1014, 3000, 4000, 4506, 4999):
        peer = field.joined()
        peer.send_close(code, "bye")
        answer = peer.drain()
        expected = 1002 if code in forbidden else code
        if answer != expected:
            wrong.append(f"{code}: {answer}")
    peer = field.joined()
    peer.send_close(None)
    if (answer := peer.drain()) not in (1000, 1005):
        wrong.append(f"none: {answer}")
    assert not wrong, "; ".join(wrong)


@attack("frames", answer="what the key makes of it: `malformed_frame` or 1007, never served")
def wrong_mask(field: Field) -> None:
    """Frames masked with another key than the one they name."""
    right = encode_frame(TEXT, json.dumps(hello()).encode())
    for key, expected in ((b"\x01\x01\x01\x01", {4506}), (b"\xff\xff\xff\xff", {1007})):
        peer = field.upgraded()
        wrong = bytes(a ^ b for a, b in zip(right[2:6], key, strict=True))
        peer.send_bytes(right[:2] + wrong + right[6:])
        code = peer.drain()
        assert code in expected, (key, code)


@attack("frames", answer="one pong to all that came at once, none kept")
def control_flood(field: Field) -> None:
    """Pings of WebSocket's own, faster than anybody answers."""
    peer = field.joined()
    count = field.many(5_000, 300_000)
    pour(peer, encode_frame(PING, b"p" * 125) * count, enough=lambda _: True)
    peer.send({"type": "ping", "nonce": "alive"})
    peer.expect("pong", nonce="alive")
    assert 1 <= len(peer.pongs) < count


@attack("frames", answer="the close code, then the end of TCP at `close_timeout` at the latest")
def deaf_to_close(field: Field) -> None:
    """A peer that is closed, does not answer, and goes on sending."""
    peer = field.joined()
    peer.send_bytes(encode_frame(3, b"x"))
    started = time.monotonic()
    closed = 0
    try:
        while True:
            peer.recv()
    except PeerClosedError as error:
        closed = error.code
    assert closed == 1002, closed
    chunk = text(b"x" * 1000) * 10
    (end,) = field.to_the_end(
        [peer.sock],
        timeout=field.profile.close_timeout + WAIT,
        every=0.01,
        act=lambda sock, _: sock.send(chunk),
    )
    assert end.received == b"", end.received[:100]
    assert time.monotonic() - started < field.profile.close_timeout + WAIT


@attack("frames", answer="closed at `close_timeout`", growth=16 * MIB)
def half_closed(field: Field) -> None:
    """Peers that end their side of TCP at every stage and leave the other open."""
    peers: list[socket.socket] = []
    for _ in range(field.many(10, 90)):
        sock = field.dial()
        sock.sendall(field.request()[:50])
        peers += [sock, field.upgraded().sock, field.joined().sock]
    for sock in peers:
        sock.shutdown(socket.SHUT_WR)
    field.to_the_end(peers, timeout=field.profile.close_timeout + WAIT)


@attack("frames", answer="served: bytes cut anywhere mean the same")
def byte_by_byte(field: Field) -> None:
    """Everything a byte at a time, each in a segment of its own."""
    peer = field.upgraded()
    for data in (text(hello()), text({"type": "ping", "nonce": "n"}), text(_message(KIB))):
        for byte in data:
            peer.send_bytes(bytes([byte]))
        answer = peer.recv_but("caught_up", "ping")
        assert answer["type"] in ("hello_ok", "pong", "event"), answer

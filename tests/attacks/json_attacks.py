"""Attacks with what is in a message: JSON that is deep, wide, huge, double or none."""

from typing import Final

from tests.attacks.attack import attack
from tests.attacks.field import Field, hello, pour, text
from tests.attacks.limits import MIB
from tests.blackbox.bbwire import Frame, Peer

_PING: Final = b'{"type":"ping","nonce":"n","x":%s}'


def _nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """A frame that nests so deep."""
    return _PING % (opening * (depth - 1) + b"1" * (opening != b"[") + closing * (depth - 1))


def _wide(size: int) -> bytes:
    return _PING % (b"{" + b",".join(b'"%d":0' % n for n in range(size // 12)) + b"}")


_FINE: Final[dict[str, bytes]] = {
    "64 deep": _nested(64),
    "64 deep in objects": _nested(64, b'{"a":', b"}"),
    "wide": _wide(60_000),
    "a long list": _PING % (b"[" + b"0," * 30_000 + b"0]"),
    "strings": _PING % (b"[" + b'"",' * 15_000 + b'""]'),
    "white space": _PING.replace(b":", b":" + b" " * 20_000) % b"1",
    "the largest integer": _PING % b"9007199254740991",
    "brackets in a string": _PING % (b'"' + b"[{" * 30_000 + b'"'),
    "quotes in a string": _PING % (b'"' + b'\\"' * 30_000 + b'"'),
    "escaped letters": _PING % (b'"' + b"\\u0041" * 9_000 + b'"'),
    "a long fraction": _PING % (b"0." + b"1" * 60_000),
}
_MALFORMED: Final[dict[str, bytes]] = {
    "65 deep": _nested(65),
    "65 deep in objects": _nested(65, b'{"a":', b"}"),
    "60,000 deep": b"[" * 60_000,
    "60,000 objects deep": b'{"a":' * 12_000,
    "closed more than opened": b"{}" + b"]" * 60_000,
    "a huge integer": _PING % (b"9" * 60_000),
    "an integer beyond": _PING % b"9007199254740992",
    "a negative integer beyond": _PING % b"-9007199254740992",
    "a huge exponent": _PING % b"1e999999999",
    "an integer past every double": _PING % (b"9" * 400),
    "a field twice": b'{"type":"ping","type":"hello"}',
    "a field twice, one escaped": b'{"type":"ping","\\u0074ype":"hello"}',
    "a field twice below": _PING % b'{"a":1,"b":{"a":1,"a":2}}',
    "a field twice among many": _wide(50_000).replace(b'"17":0', b'"18":0'),
    "no number": _PING % b"NaN",
    "no number either": _PING % b"-Infinity",
    "a lone surrogate": _PING % b'"\\ud800"',
    "a byte order mark": b"\xef\xbb\xbf" + _PING % b"1",
    "no JSON": b"hello",
    "nothing": b"",
    "a null character": b'{"type":"ping\x00"}',
    "a string without an end": b'{"type":"' + b"\\" * 60_000,
    "two values": b'{"type":"ping"}{"type":"ping"}',
    "a list": b'[{"type":"ping"}]',
    "no type": b'{"nonce":"n"}',
    "a number for a type": b'{"type":1}',
    "a leading zero": _PING % b"01",
    "a comma at the end": _PING % b"[1,]",
    "a comment": b'{"type":"ping"/**/}',
    "single quotes": b"{'type':'ping'}",
    "a long nonce": b'{"type":"ping","nonce":"%s"}' % (b"n" * 129),
    "a number for a nonce": b'{"type":"ping","nonce":1}',
}


def _alive(peer: Peer) -> None:
    peer.send({"type": "ping", "nonce": "alive"})
    peer.expect("pong", nonce="alive")


@attack("json", answer="read: what is unknown is ignored")
def hard_to_read(field: Field) -> None:
    """Frames at the limits of depth, width and length."""
    peer = field.joined()
    for data in _FINE.values():
        peer.send_bytes(text(data))
        peer.expect("pong", nonce="n")


@attack("json", answer="`malformed_frame`, answered and, before the welcome, 4506")
def no_frames(field: Field) -> None:
    """JSON that is too deep, too large, ambiguous or none."""
    wrong: list[str] = []
    cases = tuple(_MALFORMED.items())
    for start in range(0, len(cases), 9):
        peer = field.joined()
        for name, data in cases[start : start + 9]:
            peer.send_bytes(text(data))
            frame = peer.recv_but("ping")
            if (frame["type"], frame.get("code")) != ("error", "malformed_frame"):
                wrong.append(f"{name}: {frame}")
        _alive(peer)
    for name, data in cases:
        peer = field.upgraded()
        peer.send_bytes(text(data))
        if (code := peer.drain()) != 4506 or peer.log[-1]["code"] != "malformed_frame":
            wrong.append(f"{name}, early: {code}")
        peer.sock.close()
    assert not wrong, "; ".join(wrong)


@attack("json", answer="`malformed_frame`; the tenth closes, 4506")
def violations(field: Field) -> None:
    """More bad frames than `max_violations`, all at once."""
    for number in range(field.many(2, 20)):
        peer = field.joined()
        poured = pour(peer, text(b"{" * (number + 1)) * 1000)
        codes = [frame["code"] for frame in poured.frames if frame["type"] == "error"]
        assert codes == ["malformed_frame"] * field.config.max_violations, codes
        assert poured.code == 4506, poured.code


@attack("json", answer="read within a bound of time that grows with their size alone", deep=True)
def slow_to_read(field: Field) -> None:
    """Each of the largest frames, over and over, on many connections."""
    data = b"".join(map(text, _FINE.values()))
    for _ in range(field.many(1, 20)):
        peer = field.joined()
        count = len(_FINE) * 5

        def enough(frames: list[dict[str, object]], count: int = count) -> bool:
            return sum(frame["type"] == "pong" for frame in frames) == count

        assert pour(peer, data * 5, enough=enough).code is None


@attack("json", answer="the code of the field that is off, and its close code")
def bad_handshakes(field: Field) -> None:
    """Handshakes whose fields are off in their type, their range or their size."""
    wrong: list[str] = []
    for fields, code, close in (
        ({"agent_id": ""}, "invalid_protocol_hello", 4501),
        ({"agent_id": "a" * 129}, "invalid_protocol_hello", 4501),
        ({"agent_id": 1}, "invalid_protocol_hello", 4501),
        ({"agent_id": "nobody"}, "agent_not_found", 4505),
        ({"protocol_min": 3, "protocol_max": 9}, "version_unsupported", 4500),
        ({"protocol_min": 2, "protocol_max": 1}, "invalid_protocol_hello", 4501),
        ({"protocol_min": 0}, "invalid_protocol_hello", 4501),
        ({"protocol_min": 2.0}, "invalid_protocol_hello", 4501),
        ({"protocol_max": "2"}, "invalid_protocol_hello", 4501),
        ({"since": -1}, "invalid_cursor", 4502),
        ({"since": 2**53}, "invalid_cursor", 4502),
        ({"since": True}, "invalid_cursor", 4502),
        ({"since": "5"}, "invalid_cursor", 4502),
        ({"epoch": "e" * 65}, "invalid_protocol_hello", 4501),
        ({"start": "now"}, "invalid_protocol_hello", 4501),
        ({"max_payload": 1}, "invalid_protocol_hello", 4501),
        ({"max_payload": -1}, "invalid_protocol_hello", 4501),
        ({"capabilities": [1]}, "invalid_protocol_hello", 4501),
        ({"client": {"name": "n" * 257}}, "invalid_protocol_hello", 4501),
        ({"client": []}, "invalid_protocol_hello", 4501),
        ({"token": "nobody's"}, "auth_unauthorized", 4504),
        ({"token": 1}, "invalid_protocol_hello", 4501),
    ):
        peer = field.upgraded()
        peer.send(hello(**fields))
        closed = peer.drain()
        said = peer.log[-1]
        if (said["type"], said.get("code"), closed) != ("hello_error", code, close):
            wrong.append(f"{fields}: {closed} {said}")
        peer.sock.close()
    assert not wrong, "; ".join(wrong)


@attack("json", answer="all members taken, none kept beyond the handshake", growth=24 * MIB)
def fat_handshakes(field: Field) -> None:
    """Handshakes as large as they may be, in fields that are known and in others."""
    room = field.config.max_payload - 2000
    fat: tuple[Frame, ...] = (
        {"capabilities": ["c"] * (room // 6)},
        {"session_id": "s" * room},
        {"token": None, "unknown": {"x": "y" * room}},
        {"client": {"name": "n" * 256, "version": "v" * 256, "more": "m" * room}},
    )
    for number in range(field.many(20, 200)):
        peer = field.joined(**fat[number % len(fat)])
        peer.sock.close()

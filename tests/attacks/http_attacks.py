"""Attacks before there is a WebSocket: on the upgrade, and with what is no HTTP."""

import contextlib
import time
from typing import Final

from tests.attacks.attack import SECRET, attack
from tests.attacks.field import Field, hello
from tests.attacks.limits import KIB, MIB
from tests.blackbox.bbwire import WAIT, encode_frame, read_answer

_LATE: Final = WAIT
"""Seconds beyond a deadline that a machine with other work may take."""


@attack(
    "http",
    answer="closed without a word at `handshake_timeout`",
    deep=True,
)
def slow_head(field: Field) -> None:
    """A request of which a byte comes at a time, and never the last."""
    head = field.request(headers=[("X-Padding", "x" * 8000)])
    socks = [field.dial() for _ in range(field.many(40, 90))]
    pause = field.config.handshake_timeout / field.many(10, 20)
    ends = field.to_the_end(
        socks,
        timeout=field.config.handshake_timeout + _LATE,
        every=pause,
        act=lambda sock, turn: sock.send(head[turn : turn + 1]),
    )
    for end in ends:
        assert end.received == b"", end.received[:200]


@attack("http", answer="closed without a word at `handshake_timeout`", deep=True)
def half_head(field: Field) -> None:
    """A few lines of a request, or nothing at all, and then silence."""
    socks = [field.dial() for _ in range(field.many(40, 90))]
    for sock in socks[::2]:
        sock.sendall(field.request()[:-4])
    ends = field.to_the_end(socks, timeout=field.config.handshake_timeout + _LATE)
    for end in ends:
        assert end.received == b"", end.received[:200]


@attack("http", answer="`handshake_timeout`, 4005")
def upgrade_without_hello(field: Field) -> None:
    """An upgrade, and no handshake after it; some send half of one, or pings alone."""
    peers = [field.upgraded() for _ in range(field.many(30, 300))]
    for peer in peers[::3]:
        peer.send_bytes(encode_frame(1, b'{"type":"hello"}')[:-3])
    for peer in peers[1::3]:
        peer.send({"type": "ping"})
    for peer in peers:
        peer.expect("error", code="handshake_timeout", next_step="wait_then_retry")
        peer.expect_closed(4005)


@attack(
    "http",
    answer="HTTP 503 with `Retry-After` above `max_upgrades`; above twice that, closed",
    deep=True,
)
def upgrade_flood(field: Field) -> None:
    """More unfinished upgrades at once than `max_upgrades`."""
    most = field.profile.max_upgrades
    started = time.monotonic()
    idle = [field.dial() for _ in range(most + 1)]
    status, headers = field.answer_to(field.request())
    # On a machine with other work, the first may have had their time already.
    full = time.monotonic() - started < field.config.handshake_timeout
    if full:
        assert status == 503, status
        assert int(headers["retry-after"]) >= 1, headers
    idle += [field.dial() for _ in range(most)]
    field.to_the_end(idle, timeout=field.config.handshake_timeout + _LATE)
    status, _ = field.answer_to(field.request())
    assert status == 101, f"{status} although all upgrades had ended"


@attack("http", answer="served; nothing is kept")
def connect_and_reset(field: Field) -> None:
    """Connections that are reset at once, at each stage of their life."""
    for number in range(field.many(200, 5000)):
        match number % 4:
            case 0:
                field.dial().close()
            case 1:
                sock = field.dial()
                sock.sendall(field.request())
                sock.close()
            case 2:
                field.upgraded().cut()
            case _:
                peer = field.upgraded()
                peer.send(hello(agent_id="slow"))
                peer.cut()
    assert field.answer_to(field.request())[0] == 101


_USUAL: Final = (
    b"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
_START: Final = b"GET /ws HTTP/1.1\r\n"


def _with(*lines: bytes) -> bytes:
    return _START + _USUAL + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


_JUNK: Final[dict[str, tuple[bytes, int]]] = {
    "a length and chunks": (_with(b"Content-Length: 4", b"Transfer-Encoding: chunked"), 400),
    "chunks": (_with(b"Transfer-Encoding: chunked"), 400),
    "a coding nobody knows": (_with(b"Transfer-Encoding: xchunked"), 501),
    "two lengths": (_with(b"Content-Length: 0", b"Content-Length: 44"), 400),
    "a length in a list": (_with(b"Content-Length: 0, 44"), 400),
    "a negative length": (_with(b"Content-Length: -1"), 400),
    "a length with a sign": (_with(b"Content-Length: +0"), 400),
    "a body": (_with(b"Content-Length: 4") + b"body", 400),
    "two hosts": (_with(b"Host: y"), 400),
    "no host": (_with().replace(b"Host: x\r\n", b""), 400),
    "an empty host": (_with().replace(b"Host: x", b"Host:"), 400),
    "a space before a colon": (_with(b"X-A : b"), 400),
    "a header without a name": (_with(b": b"), 400),
    "a header without a colon": (_with(b"nonsense"), 400),
    "a control in a name": (_with(b"X\x00A: b"), 400),
    "a null in a value": (_with(b"X-A: a\x00b"), 400),
    "an escape in a value": (_with(b"X-A: \x1b[2Ja"), 400),
    "a lone return in a value": (_with(b"X-A: a\rContent-Length: 9"), 400),
    "a fragment in the target": (_with().replace(b"/ws ", b"/ws#a "), 400),
    "a space in the target": (_with().replace(b"/ws ", b"/ws /x "), 400),
    "a null in the target": (_with().replace(b"/ws ", b"/ws\x00 "), 400),
    "a line of a header in the target": (_with().replace(b"/ws ", b"/ws\rX:y "), 400),
    "an authority for a target": (_with().replace(b"/ws ", b"evil.example:80 "), 400),
    "an asterisk for a target": (_with().replace(b"/ws ", b"* "), 400),
    "another scheme": (_with().replace(b"/ws ", b"file:///etc/passwd "), 400),
    "up and out": (_with().replace(b"/ws ", b"/ws/../../etc/passwd "), 404),
    "another path": (_with().replace(b"/ws ", b"/%77s "), 404),
    "HTTP/1.0": (_with().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405),
    "HTTP/9": (_with().replace(b"HTTP/1.1", b"HTTP/9.9"), 400),
    "HTTP/0.9": (b"GET /ws\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
    "binary": (bytes(range(256)), 400),
    "empty lines": (b"\r\n" * 200, 400),
    "another method": (_with().replace(b"GET", b"POST"), 405),
    "a tunnel": (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", 405),
    "a long method": (b"A" * 100 + b" /ws HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a foreign page": (_with(b"Origin: https://evil.example"), 403),
    "a page without a name": (_with(b"Origin: null"), 403),
    "two origins": (_with(b"Origin: http://x", b"Origin: https://evil.example"), 403),
    "two keys": (_with(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
    "a short key": (_with().replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhl"), 400),
    "another version": (_with().replace(b"Version: 13", b"Version: 8"), 426),
    "two versions": (_with(b"Sec-WebSocket-Version: 8"), 400),
    "another upgrade": (_with().replace(b"websocket", b"h2c"), 426),
    "a long target": (_with().replace(b"/ws ", b"/ws?" + b"a" * 9000 + b" "), 414),
    "an endless target": (b"GET /" + b"a" * 40_000, 414),
    "a long header": (_START + b"X: " + b"y" * 40_000, 431),
    "many headers": (_START + b"a: b\r\n" * 10_000, 431),
}


@attack("http", answer="the HTTP status of each: 400, 403, 404, 405, 414, 426, 431, 501")
def http_junk(field: Field) -> None:
    """Requests that two readers could read in two ways, oversized ones, and no HTTP at all."""
    wrong = [
        f"{name}: {status} for {expected}"
        for name, (request, expected) in _JUNK.items()
        if (status := field.answer_to(request)[0]) != expected
    ]
    assert not wrong, "; ".join(wrong)


@attack("http", answer="read as WebSocket, which it is not: 1002")
def pipelined_request(field: Field) -> None:
    """A second request right behind the one that is upgraded."""
    inner = (
        b"GET /admin HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + SECRET.encode() + b"\r\n\r\n"
    )
    sock = field.dial()
    sock.sendall(field.request() + inner)
    status, _, rest = read_answer(sock)
    assert status == 101, status
    (end,) = field.to_the_end([sock], timeout=WAIT)
    said = rest + end.received
    assert said[:1] == b"\x88", said[:100]
    assert int.from_bytes(said[2:4]) == 1002, said[:100]


@attack("http", answer="101, then 1002: what followed is no frame, and is not kept")
def early_flood(field: Field) -> None:
    """Megabytes in one write with the request, before anything was answered."""
    for size in (15 * KIB, field.many(1, 16) * MIB):
        sock = field.dial()
        sock.setblocking(True)
        data = field.request() + b"\x00" * size
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
        (end,) = field.to_the_end([sock], timeout=WAIT)
        # Where much is left unread, a reset may overtake the answer.
        if end.received or size < MIB:
            assert end.received[:12] == b"HTTP/1.1 101", end.received[:100]
            assert b"\r\n\r\n\x88" in end.received, end.received[-100:]
            assert (1002).to_bytes(2) in end.received, end.received[-100:]


@attack("http", answer="101 without an extension; compressed frames then are 1002")
def offered_compression(field: Field) -> None:
    """An offer to compress, in every spelling, and then compressed frames."""
    for offer in (
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame",
        "permessage-deflate; server_no_context_takeover; " * 50,
        "gatewayproto-frame-guard",
    ):
        sock = field.dial()
        sock.sendall(field.request(headers=[("Sec-WebSocket-Extensions", offer)]))
        status, headers, _ = read_answer(sock)
        assert status == 101, status
        assert "sec-websocket-extensions" not in headers, headers
        sock.sendall(encode_frame(1, b"\xaaV*\xa9,HU\xb2R\xcaH\xcd\xc9\xc9W\xaa\x05\x00", rsv=4))
        (end,) = field.to_the_end([sock], timeout=WAIT)
        assert end.received[:1] == b"\x88", end.received[:100]
        assert int.from_bytes(end.received[2:4]) == 1002, end.received[:100]

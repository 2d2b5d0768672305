"""A WebSocket peer of our own: blocking sockets and RFC 6455 framing written by hand.

The checks must be able to cut, stall, fragment and break what they send, and must not share a
line with the code they judge. So this module knows nothing of the project: it is the RFC, the
standard library and a deadline on every wait.
"""

import base64
import contextlib
import hashlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Self

Frame = dict[str, Any]

WAIT: Final = 15.0
"""Seconds that any one wait may last before the check fails."""
PUSHED: Final = frozenset({"ping", "presence", "health"})
"""What a server may send at any moment after the welcome."""

MAX_INTEGER: Final = 2**53 - 1
GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
CONTROL: Final = 0x8

ABNORMAL: Final = 1006
"""What a connection that ended without a close frame counts as."""
NO_STATUS: Final = 1005


class PeerClosedError(Exception):
    """The other side ended the connection: by a close frame, or without one (1006)."""

    def __init__(self, code: int, reason: str = "") -> None:
        """Remember the close code that was received, or 1006."""
        super().__init__(f"closed with {code} {reason!r}")
        self.code = code
        self.reason = reason


class HttpAnswerError(Exception):
    """The server answered the upgrade with something other than 101."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Keep the whole answer for the check to look at."""
        super().__init__(f"HTTP {status}")
        self.status = status
        self.headers = headers
        self.body = body


@dataclass(frozen=True)
class WireFrame:
    """One WebSocket frame as it was on the wire."""

    opcode: int
    payload: bytes
    fin: bool


def encode_frame(
    opcode: int,
    payload: bytes,
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
) -> bytes:
    """One frame, well-formed unless told otherwise."""
    head = bytearray([(0x80 if fin else 0) | (rsv << 4) | opcode])
    size = len(payload)
    mask_bit = 0x80 if masked else 0
    if size < 126:
        head.append(mask_bit | size)
    elif size < 1 << 16:
        head.append(mask_bit | 126)
        head += struct.pack("!H", size)
    else:
        head.append(mask_bit | 127)
        head += struct.pack("!Q", size)
    if not masked:
        return bytes(head) + payload
    key = os.urandom(4)
    return bytes(head) + key + apply_mask(payload, key)


def apply_mask(payload: bytes, key: bytes) -> bytes:
    """XOR with the repeated key, in one piece rather than byte by byte."""
    size = len(payload)
    if size == 0:
        return b""
    pad = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


def parse_frame(
    buffer: bytes | bytearray, at: int = 0, *, masked: bool
) -> tuple[WireFrame, int] | None:
    """Parse the frame that begins at `at` and say where it ends; `None` while incomplete.

    What a correct endpoint never sends fails the check here.
    """
    if len(buffer) < at + 2:
        return None
    first, second = buffer[at], buffer[at + 1]
    opcode = first & 0x0F
    fin = bool(first & 0x80)
    assert first & 0x70 == 0, f"reserved bits set: {first:#x}"
    assert opcode in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG}, f"opcode {opcode}"
    assert bool(second & 0x80) == masked, "masked the wrong way"
    assert fin or not opcode & CONTROL, "fragmented control frame"
    size = second & 0x7F
    at += 2
    if size >= 126:
        assert not opcode & CONTROL, "control frame longer than 125"
        width = 2 if size == 126 else 8
        if len(buffer) < at + width:
            return None
        size = int.from_bytes(buffer[at : at + width], "big")
        assert size >= (126 if width == 2 else 1 << 16), "length not in its shortest form"
        at += width
    start = at + (4 if masked else 0)
    if len(buffer) < start + size:
        return None
    payload = bytes(buffer[start : start + size])
    if masked:
        payload = apply_mask(payload, bytes(buffer[at:start]))
    return WireFrame(opcode, payload, fin), start + size


def loads(text: str) -> Frame:
    """Read one frame as strictly as the specification states JSON."""
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_integer)
    assert isinstance(value, dict), f"a frame that is no object: {text[:200]}"
    assert isinstance(value.get("type"), str), f"a frame without a type: {text[:200]}"
    return value


def _unique(pairs: list[tuple[str, Any]]) -> Frame:
    value = dict(pairs)
    assert len(value) == len(pairs), f"a field twice: {pairs}"
    return value


def _refuse(name: str) -> NoReturn:
    msg = f"no JSON: {name}"
    raise AssertionError(msg)


def _integer(digits: str) -> int:
    value = int(digits)
    assert abs(value) <= MAX_INTEGER, f"integer out of range: {digits}"
    return value


OPEN: list[contextlib.AbstractContextManager[object]] = []
"""Everything a test opened; the conftest closes it after each test."""


class Peer:
    """One end of one WebSocket connection.

    `client` says which end: a client masks what it sends, a server does not, and each insists
    that the other does it right.
    """

    def __init__(self, sock: socket.socket, *, client: bool, received: bytes = b"") -> None:
        """Take over a socket on which the upgrade is done."""
        self.sock = sock
        self.client = client
        self.buffer = bytearray(received)
        self.at = 0
        self.eof = False
        self.answer_pings = True
        self.close_code: int | None = None
        self.largest = 0
        self.log: list[Frame] = []
        self.pongs: list[bytes] = []
        OPEN.append(self)

    def __enter__(self) -> Self:
        """Nothing to do; it is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket, whatever state it is in."""
        self.sock.close()

    # Sending

    def send_bytes(self, data: bytes) -> None:
        """Bytes as they are. A peer that has gone is found out when reading."""
        self.sock.settimeout(WAIT)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def send_frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        """One frame, masked as this end must."""
        self.send_bytes(encode_frame(opcode, payload, fin=fin, masked=self.client))

    def send_text(self, text: str) -> None:
        """One text message."""
        self.send_frame(TEXT, text.encode())

    def encoded(self, *frames: Frame) -> bytes:
        """Each frame as one text message, as this end puts it on the wire."""
        return b"".join(
            encode_frame(TEXT, json.dumps(frame).encode(), masked=self.client) for frame in frames
        )

    def send(self, *frames: Frame) -> None:
        """Each frame as one text message, all in one write."""
        self.send_bytes(self.encoded(*frames))

    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        """A close frame, and nothing else."""
        payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
        self.send_frame(CLOSE, payload)

    # Receiving

    def fill(self, deadline: float) -> None:
        """Wait for more bytes, or the end of them."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.sock], [], [], left)[0]:
            msg = f"nothing came in time; the last frames were {brief(self.log[-5:])}"
            raise AssertionError(msg)
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if data:
            del self.buffer[: self.at]
            self.at = 0
            self.buffer += data
        else:
            self.eof = True

    def recv_frame(self, timeout: float = WAIT) -> WireFrame:
        """The next WebSocket frame, control frames too."""
        deadline = time.monotonic() + timeout
        while True:
            parsed = parse_frame(self.buffer, self.at, masked=not self.client)
            if parsed is not None:
                frame, self.at = parsed
                return frame
            if self.eof:
                raise PeerClosedError(self.close_code or ABNORMAL)
            self.fill(deadline)

    def recv_text(self, timeout: float = WAIT) -> str:
        """The next text message, put together from its fragments."""
        deadline = time.monotonic() + timeout
        parts: list[bytes] = []
        while True:
            frame = self.recv_frame(max(0.0, deadline - time.monotonic()))
            if frame.opcode == PING:
                if self.answer_pings:
                    self.send_frame(PONG, frame.payload)
            elif frame.opcode == PONG:
                self.pongs.append(frame.payload)
            elif frame.opcode == CLOSE:
                self._closed_by(frame.payload)
            else:
                assert frame.opcode == (CONTINUATION if parts else TEXT), "out of order"
                parts.append(frame.payload)
                if frame.fin:
                    whole = b"".join(parts)
                    self.largest = max(self.largest, len(whole))
                    return whole.decode()

    def _closed_by(self, payload: bytes) -> NoReturn:
        code = struct.unpack("!H", payload[:2])[0] if payload else NO_STATUS
        self.close_code = code
        reason = payload[2:].decode()
        self.send_frame(CLOSE, payload[:2])
        raise PeerClosedError(code, reason)

    def recv(self, timeout: float = WAIT) -> Frame:
        """The next frame of the protocol."""
        frame = loads(self.recv_text(timeout))
        self.log.append(frame)
        return frame

    def recv_but(self, *ignored: str, timeout: float = WAIT) -> Frame:
        """The next frame of the protocol that is of none of these types."""
        deadline = time.monotonic() + timeout
        while True:
            frame = self.recv(max(0.0, deadline - time.monotonic()))
            if frame["type"] not in ignored:
                return frame

    def expect(self, type_: str, timeout: float = WAIT, **fields: Any) -> Frame:
        """The next frame (heartbeats and pushes aside) is of this type and has these fields."""
        frame = self.recv_but(*(PUSHED - {type_}), timeout=timeout)
        assert frame["type"] == type_, f"expected {type_}, got {brief(frame)}"
        for name, value in fields.items():
            assert same(frame.get(name), value), f"expected {name}={value!r}, got {brief(frame)}"
        return frame

    def expect_closed(self, *codes: int, timeout: float = WAIT) -> int:
        """The next thing (heartbeats, pushes aside) is the end, with such a code; then TCP's."""
        frame: Frame | None = None
        code: int | None = None
        try:
            frame = self.recv_but(*PUSHED, timeout=timeout)
        except PeerClosedError as closed:
            code = closed.code
        assert code in codes, f"expected a close with {codes}, got {brief(frame or code)}"
        self.expect_eof(timeout)
        return code

    def expect_eof(self, timeout: float = WAIT) -> None:
        """Nothing more but the end of the byte stream."""
        deadline = time.monotonic() + timeout
        while not self.eof:
            self.fill(deadline)

    def drain(self, timeout: float = WAIT) -> int:
        """Read everything to the end; the close code it came to."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self.recv(max(0.0, deadline - time.monotonic()))
        except PeerClosedError as closed:
            return closed.code

    # Ending

    def cut(self) -> None:
        """End it without a word: a reset, and whatever was on its way is lost."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def brief(value: object) -> str:
    """Show a value in a message, and not the whole of a large one."""
    text = repr(value)
    return text if len(text) <= 2000 else f"{text[:1000]} … {text[-500:]}"


def same(got: object, expected: object) -> bool:
    """Tell equal JSON values: `1`, `1.0` and `true` are three different ones."""
    if isinstance(expected, bool) or isinstance(got, bool) or isinstance(expected, int):
        return type(got) is type(expected) and got == expected
    return got == expected


# The client's side of the upgrade


def open_socket(host: str, port: int, *, rcvbuf: int | None = None) -> socket.socket:
    """A TCP connection; `rcvbuf` bounds what the kernel takes in while nobody reads."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if rcvbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        sock.settimeout(WAIT)
        sock.connect((host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock


def upgrade_request(
    host: str, path: str, key: str, headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """A client's opening request."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def accept_value(key: str) -> str:
    """What a server proves that it understood with."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()  # noqa: S324


def read_head(sock: socket.socket, timeout: float = WAIT) -> tuple[list[str], bytes]:
    """Read the lines of an HTTP head, and what came after it."""
    deadline = time.monotonic() + timeout
    data = b""
    while b"\r\n\r\n" not in data:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        more = sock.recv(1 << 16)
        if not more:
            raise PeerClosedError(ABNORMAL)
        data += more
        assert len(data) < 1 << 17, "an endless HTTP head"
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n"), rest


def header_fields(lines: Iterable[str]) -> dict[str, str]:
    """Headers by their name in lower case."""
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def read_answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read status, headers and what has come after them."""
    lines, rest = read_head(sock)
    version, status, *_ = lines[0].split(" ")
    assert version == "HTTP/1.1", lines[0]
    return int(status), header_fields(lines[1:]), rest


def open_client(
    host: str,
    port: int,
    path: str = "/ws",
    headers: Iterable[tuple[str, str]] = (),
    *,
    rcvbuf: int | None = None,
) -> Peer:
    """Open a WebSocket connection, or raise `HttpAnswerError`."""
    sock = open_socket(host, port, rcvbuf=rcvbuf)
    try:
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(upgrade_request(f"{host}:{port}", path, key, headers))
        status, fields, rest = read_answer(sock)
        if status != 101:
            raise HttpAnswerError(status, fields, rest)
        assert fields["upgrade"].lower() == "websocket"
        assert fields["connection"].lower() == "upgrade"
        assert fields["sec-websocket-accept"] == accept_value(key)
        assert "sec-websocket-extensions" not in fields
        assert "sec-websocket-protocol" not in fields
    except BaseException:
        sock.close()
        raise
    return Peer(sock, client=True, received=rest)


# The server's side of the upgrade


class Listener:
    """A server that does only what the check tells it to, one connection at a time."""

    def __init__(self) -> None:
        """Listen on a free port of the loopback."""
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/ws"
        OPEN.append(self)

    def __enter__(self) -> Self:
        """Nothing to do; it listens."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self.sock.close()

    def accept_socket(self, timeout: float = WAIT) -> socket.socket:
        """Take the next TCP connection."""
        self.sock.settimeout(timeout)
        try:
            sock, _ = self.sock.accept()
        except TimeoutError:
            msg = f"nobody connected within {timeout} s"
            raise AssertionError(msg) from None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def accept_request(self, timeout: float = WAIT) -> tuple[socket.socket, str, dict[str, str]]:
        """Take the next connection, its request target and its headers; not answered yet."""
        sock = self.accept_socket(timeout)
        try:
            lines, rest = read_head(sock, timeout)
            method, target, version = lines[0].split(" ")
            assert (method, version) == ("GET", "HTTP/1.1"), lines[0]
            assert rest == b"", "a client that sends before it is answered"
            fields = header_fields(lines[1:])
            assert fields["host"] == f"127.0.0.1:{self.port}"
            assert fields["upgrade"].lower() == "websocket"
            assert "upgrade" in fields["connection"].lower()
            assert fields["sec-websocket-version"] == "13"
            assert len(base64.b64decode(fields["sec-websocket-key"])) == 16
        except BaseException:
            sock.close()
            raise
        return sock, target, fields

    def accept(self, timeout: float = WAIT) -> Peer:
        """Take the next connection, upgraded."""
        sock, _, fields = self.accept_request(timeout)
        key = fields["sec-websocket-key"]
        answer = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_value(key)}\r\n\r\n"
        )
        sock.sendall(answer.encode())
        return Peer(sock, client=False)

    def answer(self, status: str, *headers: tuple[str, str], timeout: float = WAIT) -> None:
        """Answer the next connection's request over HTTP, and end it."""
        sock, _, _ = self.accept_request(timeout)
        with sock:
            lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
            head = "\r\n".join([*lines, "Content-Length: 0", "Connection: close", "", ""])
            sock.sendall(head.encode())
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                sock.settimeout(WAIT)
                sock.recv(1)

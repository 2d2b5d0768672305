"""WebSocket on the wire, written here a second time: what the tests hold the package against."""

from __future__ import annotations

import base64
import hashlib

from attrs import frozen
from gatewayproto_wsproto import ClientConnection, ServerConnection, Upgraded, UpgradeRequested

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x11\x82\xf3\x04"
LIMIT = 1000
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Connection = ServerConnection | ClientConnection


@frozen
class Frame:
    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0

    def encode(self, mask: bytes | None = None) -> bytes:
        size = len(self.payload)
        head = bytes([(0x80 if self.fin else 0) | self.rsv << 4 | self.opcode])
        flag = 0 if mask is None else 0x80
        if size <= 125:
            head += bytes([flag | size])
        elif size <= 0xFFFF:
            head += bytes([flag | 126]) + size.to_bytes(2)
        else:
            head += bytes([flag | 127]) + size.to_bytes(8)
        return head + (self.payload if mask is None else mask + xor(self.payload, mask))


def xor(data: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


def close_frame(code: int | None, reason: bytes = b"") -> Frame:
    return Frame(CLOSE, b"" if code is None else code.to_bytes(2) + reason)


def decode_frames(data: bytes, *, masked: bool) -> list[Frame]:
    """Read frames that the package wrote, whole, and masked or not as its role demands."""
    frames: list[Frame] = []
    while data:
        assert bool(data[1] & 0x80) is masked
        size, at = data[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[2 : 2 + width]), 2 + width
        mask = b"\0\0\0\0"
        if masked:
            mask, at = data[at : at + 4], at + 4
        assert len(data) >= at + size
        payload = xor(data[at : at + size], mask)
        frames.append(Frame(data[0] & 0x0F, payload, bool(data[0] & 0x80), data[0] >> 4 & 0x7))
        data = data[at + size :]
    return frames


def accept_token(key: str) -> str:
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def request(*lines: str, start: str = "GET /ws HTTP/1.1", drop: tuple[str, ...] = ()) -> bytes:
    """A client's request: the usual lines less those named in `drop`, then `lines`."""
    usual = {
        "Host": "gateway.example",
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    kept = [f"{name}: {value}" for name, value in usual.items() if name not in drop]
    return "\r\n".join([start, *kept, *lines, "", ""]).encode("latin-1")


def response(
    key: str, *lines: str, start: str = "HTTP/1.1 101 Switching", drop: tuple[str, ...] = ()
) -> bytes:
    """A server's agreement, in the same way."""
    usual = {
        "Upgrade": "WebSocket",
        "Connection": "upgrade",
        "Sec-WebSocket-Accept": accept_token(key),
    }
    kept = [f"{name}: {value}" for name, value in usual.items() if name not in drop]
    return "\r\n".join([start, *kept, *lines, "", ""]).encode("latin-1")


@frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def read_answer(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in rest)}
    assert first.startswith("HTTP/1.1 ")
    return Answer(int(first.split(" ")[1]), headers, body)


def key_of(request_bytes: bytes) -> str:
    return read_request(request_bytes)[1]["sec-websocket-key"]


def read_request(data: bytes) -> tuple[str, dict[str, str]]:
    head, _, rest = data.partition(b"\r\n\r\n")
    assert rest == b""
    first, *lines = head.decode("latin-1").split("\r\n")
    return first, {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}


def open_server(max_message: int = LIMIT) -> ServerConnection:
    server = ServerConnection(max_message=max_message)
    (asked,) = server.receive(request())
    assert isinstance(asked, UpgradeRequested)
    assert server.accept() == ()
    server.bytes_to_send()
    return server


def open_client(max_message: int = LIMIT) -> ClientConnection:
    client = ClientConnection("ws://gateway.example/ws", max_message=max_message)
    (upgraded,) = client.receive(response(key_of(client.bytes_to_send())))
    assert isinstance(upgraded, Upgraded)
    return client


@frozen
class Role:
    """One role under test, and how its peer writes."""

    name: str

    def open(self, max_message: int = LIMIT) -> Connection:
        if self.name == "server":
            return open_server(max_message)
        return open_client(max_message)

    def peer(self, *frames: Frame) -> bytes:
        """The bytes of a well-behaved peer: a client masks, a server does not."""
        return b"".join(frame.encode(self.mask) for frame in frames)

    @property
    def mask(self) -> bytes | None:
        return MASK if self.name == "server" else None

    def sent(self, connection: Connection) -> list[Frame]:
        """What the connection has written since, as frames."""
        return decode_frames(connection.bytes_to_send(), masked=self.name == "client")


ROLES = (Role("server"), Role("client"))

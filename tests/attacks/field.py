"""What an attack is given: sockets to the server, and ways to be rude on them."""

import base64
import contextlib
import json
import os
import select
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Final

from attrs import define, frozen

from tests.attacks.limits import Profile
from tests.blackbox.bbwire import (
    ABNORMAL,
    CLOSE,
    NO_STATUS,
    OPEN,
    PING,
    PONG,
    TEXT,
    WAIT,
    Frame,
    Peer,
    PeerClosedError,
    brief,
    encode_frame,
    loads,
    open_client,
    open_socket,
    parse_frame,
    read_answer,
    upgrade_request,
)

HOST: Final = "127.0.0.1"


class Scale(StrEnum):
    """How much of an attack there is."""

    SMALL = "small"
    FULL = "full"


@define
class Ended:
    """What came on a socket until its end, and when that was, in seconds from the start."""

    received: bytes
    after: float


@frozen
class Poured:
    """What came while something was poured in: frames, and the close code where it ended."""

    frames: list[Frame]
    code: int | None


class Field:
    """The server's address, its limits, and how much is wanted."""

    def __init__(
        self,
        port: int,
        profile: Profile,
        scale: Scale,
        *,
        connections: Callable[[], int],
    ) -> None:
        """`connections` tells how many the server has of ours."""
        self.port = port
        self.profile = profile
        self.config = profile.config
        self.scale = scale
        self.connections = connections
        self._sockets: list[socket.socket] = []

    def many(self, small: int, full: int) -> int:
        """So many of something."""
        return small if self.scale is Scale.SMALL else full

    def leave(self) -> None:
        """Close everything."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        while OPEN:
            OPEN.pop().__exit__(None, None, None)

    # -- coming in ----------------------------------------------------------------------------

    def dial(self, *, rcvbuf: int | None = None, source: str = "") -> socket.socket:
        """Connect, and say nothing; from another address of the loopback, if one is given."""
        if source:
            sock = socket.create_connection((HOST, self.port), WAIT, (source, 0))
        else:
            sock = open_socket(HOST, self.port, rcvbuf=rcvbuf)
        self._sockets.append(sock)
        return sock

    def request(self, path: str = "/ws", headers: Iterable[tuple[str, str]] = ()) -> bytes:
        """The request of an upgrade."""
        key = base64.b64encode(os.urandom(16)).decode()
        return upgrade_request(f"{HOST}:{self.port}", path, key, headers)

    def answer_to(self, request: bytes) -> tuple[int, dict[str, str]]:
        """The HTTP status and headers that answer these bytes; 0 where nothing does."""
        sock = self.dial()
        try:
            sock.sendall(request)
            status, headers, _ = read_answer(sock)
        except (PeerClosedError, ConnectionResetError, BrokenPipeError):
            return 0, {}
        finally:
            sock.close()
        return status, headers

    def upgraded(self, *, rcvbuf: int | None = None, path: str = "/ws") -> Peer:
        """An open WebSocket on which nothing was said."""
        return open_client(HOST, self.port, path, rcvbuf=rcvbuf)

    def upgraded_from(self, source: str, headers: Iterable[tuple[str, str]] = ()) -> Peer:
        """The same, from another address of the loopback."""
        sock = self.dial(source=source)
        sock.sendall(self.request(headers=headers))
        status, _, rest = read_answer(sock)
        assert status == 101, status
        return Peer(sock, client=True, received=rest)

    def joined(self, *, rcvbuf: int | None = None, **fields: Any) -> Peer:
        """A welcomed connection; its welcome is the first frame of its log."""
        peer = self.upgraded(rcvbuf=rcvbuf)
        peer.send(hello(**fields))
        peer.expect("hello_ok")
        peer.expect("caught_up")
        return peer

    # -- being rude ---------------------------------------------------------------------------

    def to_the_end(
        self,
        socks: Iterable[socket.socket],
        *,
        timeout: float,
        every: float | None = None,
        act: Callable[[socket.socket, int], object] | None = None,
    ) -> list[Ended]:
        """Read each socket to its end; `act` is called for each that lives, `every` so often."""
        started = time.monotonic()
        deadline, turn = started + timeout, 0
        ends = {sock: Ended(b"", -1.0) for sock in socks}
        with selectors.DefaultSelector() as selector:
            for sock in ends:
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_READ)
            due = started
            while selector.get_map():
                now = time.monotonic()
                assert now < deadline, f"{len(selector.get_map())} connections were not ended"
                if act is not None and every is not None and now >= due:
                    for key in tuple(selector.get_map().values()):
                        _quietly(act, key.fileobj, turn)
                    due, turn = now + every, turn + 1
                wake = deadline if every is None else min(due, deadline)
                for key, _ in selector.select(max(0.0, wake - now)):
                    assert isinstance(key.fileobj, socket.socket)
                    data = _received(key.fileobj)
                    ends[key.fileobj].received += data or b""
                    if data == b"":
                        ends[key.fileobj].after = time.monotonic() - started
                        selector.unregister(key.fileobj)
        return list(ends.values())


def _quietly(act: Callable[[socket.socket, int], object], sock: Any, turn: int) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
        act(sock, turn)


def _received(sock: socket.socket) -> bytes | None:
    """What came; empty at the end, None where there is nothing."""
    try:
        return sock.recv(1 << 16)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def hello(**fields: Any) -> Frame:
    """A handshake, with these fields beside the usual ones."""
    usual = {"type": "hello", "agent_id": "demo", "protocol_min": 2, "protocol_max": 2}
    return {**usual, **fields}


def text(frame: Frame | bytes) -> bytes:
    """One frame as one masked text message."""
    return encode_frame(TEXT, frame if isinstance(frame, bytes) else json.dumps(frame).encode())


def pour(
    peer: Peer,
    data: bytes,
    *,
    enough: Callable[[list[Frame]], bool] = lambda _: False,
    timeout: float = 4 * WAIT,
) -> Poured:
    """Send all of it while reading what comes, until that is enough or the end."""
    deadline = time.monotonic() + timeout
    left, frames, poll = memoryview(data), list[Frame](), select.poll()
    peer.sock.setblocking(False)
    try:
        while True:
            code = _frames_of(peer, frames)
            if code is not None:
                return Poured(frames, code)
            if not left and enough(frames):
                return Poured(frames, None)
            wait = deadline - time.monotonic()
            assert wait > 0, f"after {len(frames)} frames, of late {brief(frames[-3:])}"
            # No `select`: it knows no descriptor beyond the first thousand.
            poll.register(peer.sock, select.POLLIN | (select.POLLOUT if left else 0))
            happened = sum(event for _, event in poll.poll(1000 * wait))
            if happened & select.POLLOUT:
                left = _sent(peer.sock, left)
            if happened & ~select.POLLOUT:
                got = _received(peer.sock)
                peer.buffer += got or b""
                peer.eof = peer.eof or got == b""
    finally:
        peer.sock.setblocking(True)


def _sent(sock: socket.socket, data: memoryview) -> memoryview:
    try:
        return data[sock.send(data[: 1 << 16]) :]
    except (BrokenPipeError, ConnectionResetError):
        return data[len(data) :]  # what was said at the end may still be read


def _frames_of(peer: Peer, frames: list[Frame]) -> int | None:
    """Take what has come out of the buffer; the close code where it ends."""
    while (parsed := parse_frame(peer.buffer, peer.at, masked=False)) is not None:
        frame, peer.at = parsed
        if frame.opcode == CLOSE:
            return int.from_bytes(frame.payload[:2]) if frame.payload else NO_STATUS
        if frame.opcode == PONG:
            peer.pongs.append(frame.payload)
        elif frame.opcode != PING:
            frames.append(loads(frame.payload.decode()))
    del peer.buffer[: peer.at]
    peer.at = 0
    return ABNORMAL if peer.eof else None


def types(frames: Iterable[Frame], *but: str) -> list[str]:
    """The types of frames, heartbeats and the named ones aside."""
    return [frame["type"] for frame in frames if frame["type"] not in ("ping", *but)]

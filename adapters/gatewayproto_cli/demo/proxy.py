"""A TCP proxy between the client and the gateway that cuts and stalls when it is told to."""

import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio.abc import TaskStatus
from attrs import define, field

_CHUNK: Final = 4096
_NARROW: Final = 4096
_SEGMENT: Final = 536
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@define
class _PlannedCut:
    """A cut that is due once `left` more bytes went to the client."""

    left: int
    hard: bool


@define(eq=False)
class _Link:
    client: socket.socket
    server: socket.socket
    ended: anyio.Event = field(factory=anyio.Event)
    hard: bool = False
    passed: int = 0

    def cut(self, *, hard: bool) -> None:
        self.hard = hard
        self.ended.set()


class Proxy:
    """Listens on loopback and passes bytes both ways, while `run` does.

    Towards the gateway its sockets are made to hold little, so that a stall is felt there at once.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.disconnects = 0
        """Links that had passed something to the client when they ended."""
        self._on_change = on_change
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._upstream: tuple[str, int] | None = None
        self._flowing = anyio.Event()
        self._flowing.set()
        self._planned: _PlannedCut | None = None
        self._retired = False
        self._links: set[_Link] = set()
        self._running: anyio.CancelScope | None = None
        self._stopped = anyio.Event()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen until it is told to stop; then everything is cut."""
        try:
            # A task that is cancelled before it begins closes nothing.
            with self._listener, contextlib.ExitStack() as accepted:
                self._listener.setblocking(False)
                async with anyio.create_task_group() as links:
                    self._running = links.cancel_scope
                    task_status.started()
                    while True:
                        await anyio.wait_readable(self._listener)
                        with contextlib.suppress(BlockingIOError, ConnectionError):
                            client = accepted.enter_context(self._listener.accept()[0])
                            links.start_soon(self._serve, client)
        finally:
            self._stopped.set()

    # -- what it may be told ------------------------------------------------------------------

    def open(self, host: str, port: int) -> None:
        """Link who comes from now on to this address."""
        self._upstream = (host, port)

    def shut(self) -> None:
        """Turn everybody away from now on."""
        self._upstream = None

    def cut(self, *, hard: bool) -> None:
        """Cut what is linked: reset the connections if `hard`, else just end them."""
        for link in self._links:
            link.cut(hard=hard)

    def cut_after(self, size: int, *, hard: bool) -> None:
        """Cut once `size` more bytes went to the client, on the present link or the next."""
        self._planned = _PlannedCut(size, hard)

    def retire(self) -> None:
        """Count no more: whatever ends now, ends in order."""
        self._retired = True

    async def stop(self) -> None:
        """End `run`, if it runs, and wait until all sockets are closed."""
        if self._running is not None:
            self._running.cancel()
            await self._stopped.wait()

    def passed(self) -> int:
        """Bytes that the present link has passed to the client."""
        return max((link.passed for link in self._links), default=0)

    def stall(self) -> None:
        """Take nothing more from the gateway."""
        self._flowing = anyio.Event()

    def release(self) -> None:
        """Go on after a stall."""
        self._flowing.set()

    # -- links --------------------------------------------------------------------------------

    async def _serve(self, client: socket.socket) -> None:
        with client, _narrow_socket() as server:
            client.setblocking(False)
            if self._upstream is None:
                return
            try:
                await _connect(server, self._upstream)
            except OSError:
                return
            link = _Link(client, server)
            self._links.add(link)
            try:
                await self._pass_on(link)
            finally:
                self._links.remove(link)
                if link.passed and not self._retired:
                    self.disconnects += 1
                if link.hard:
                    for each in (client, server):
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._on_change()

    async def _pass_on(self, link: _Link) -> None:
        """Pass bytes until either end is gone or the link is cut."""
        async with anyio.create_task_group() as ways:

            async def first_to_end(way: Callable[[_Link], Awaitable[None]]) -> None:
                with contextlib.suppress(OSError):
                    await way(link)
                ways.cancel_scope.cancel()

            ways.start_soon(first_to_end, self._pass_up)
            ways.start_soon(first_to_end, self._pass_down)
            ways.start_soon(first_to_end, self._until_cut)

    async def _until_cut(self, link: _Link) -> None:
        await link.ended.wait()

    async def _pass_up(self, link: _Link) -> None:
        while data := await _receive(link.client):
            await _send(link.server, data)

    async def _pass_down(self, link: _Link) -> None:
        while data := await _receive(link.server):
            await self._flowing.wait()
            planned = self._planned
            if planned is not None:
                data = data[: planned.left]
                planned.left -= len(data)
            await _send(link.client, data)
            link.passed += len(data)
            if planned is not None and planned.left == 0:
                self._planned = None
                link.cut(hard=planned.hard)
                return


# -- sockets that do not block; each raises `OSError` -------------------------------------------


async def _connect(to_server: socket.socket, address: tuple[str, int]) -> None:
    with contextlib.suppress(BlockingIOError):
        to_server.connect(address)
    await anyio.wait_writable(to_server)
    error = to_server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


async def _receive(peer: socket.socket) -> bytes:
    while True:
        await anyio.wait_readable(peer)
        with contextlib.suppress(BlockingIOError):
            return peer.recv(_CHUNK)


async def _send(peer: socket.socket, data: bytes) -> None:
    while data:
        await anyio.wait_writable(peer)
        with contextlib.suppress(BlockingIOError):
            data = data[peer.send(data) :]


def _narrow_socket() -> socket.socket:
    """A socket that takes little at a time, as one at the end of a slow line."""
    narrow = socket.socket()
    narrow.setblocking(False)
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
    if hasattr(socket, "TCP_MAXSEG"):
        with contextlib.suppress(OSError):
            narrow.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    return narrow

"""A TCP proxy between the client and the gateway that cuts and stalls when it is told to."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self

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
    ended: asyncio.Event = field(factory=asyncio.Event)
    hard: bool = False
    passed: int = 0

    def cut(self, *, hard: bool) -> None:
        self.hard = hard
        self.ended.set()


class Proxy:
    """Listens on loopback and passes bytes both ways.

    Towards the gateway its sockets are made to hold little, so that a stall is felt there at once.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.disconnects = 0
        """Links that had passed something to the client when they ended."""
        self._on_change = on_change
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._upstream: tuple[str, int] | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._planned: _PlannedCut | None = None
        self._retired = False
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        """Listen."""
        self._listener.setblocking(False)
        self._start(self._accept())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cut everything."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

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

    def passed(self) -> int:
        """Bytes that the present link has passed to the client."""
        return max((link.passed for link in self._links), default=0)

    def stall(self) -> None:
        """Take nothing more from the gateway."""
        self._flowing.clear()

    def release(self) -> None:
        """Go on after a stall."""
        self._flowing.set()

    # -- links --------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            self._start(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with client, _narrow_socket() as server:
            if self._upstream is None:
                return
            try:
                await loop.sock_connect(server, self._upstream)
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
        work: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._pass_up(link)),
            asyncio.create_task(self._pass_down(link)),
            asyncio.create_task(link.ended.wait()),
        ]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in work:
                each.cancel()
            # They must be done with the sockets before those are closed.
            await asyncio.gather(*work, return_exceptions=True)

    async def _pass_up(self, link: _Link) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(link.client, _CHUNK):
                await loop.sock_sendall(link.server, data)

    async def _pass_down(self, link: _Link) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(link.server, _CHUNK):
                await self._flowing.wait()
                planned = self._planned
                if planned is not None:
                    data = data[: planned.left]
                    planned.left -= len(data)
                await loop.sock_sendall(link.client, data)
                link.passed += len(data)
                if planned is not None and planned.left == 0:
                    self._planned = None
                    link.cut(hard=planned.hard)
                    return


def _narrow_socket() -> socket.socket:
    """A socket that takes little at a time, as one at the end of a slow line."""
    narrow = socket.socket()
    narrow.setblocking(False)
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
    if hasattr(socket, "TCP_MAXSEG"):
        with contextlib.suppress(OSError):
            narrow.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    return narrow

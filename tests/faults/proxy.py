"""A TCP proxy that does to its connections what their plans say.

It holds a bounded number of bytes for each direction, and reads no more before those are sent, so
a receiver that does not read is felt by its sender.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self

from attrs import asdict, define, field

from tests.faults.lane import Gather, Lane, Op, Read, Send, Sever, Wait
from tests.faults.plan import MAX_PIECE, Cut, CutKind, Plan

CHUNK: Final = 2 * MAX_PIECE
"""Bytes held for one direction at the most."""
MAX_LINKS: Final = 20_000
"""Connections at once; one more is reset."""
_NARROW: Final = 4096
_SEGMENT: Final = 536
_LINGER: Final = 5.0
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@define(eq=False)
class Counters:
    """What a proxy has done so far.

    - `connections`: accepted; `open`: not over yet; `calm`: with nothing planned for them.
    - `unreachable`: the server could not be reached; `refused`: there were too many at once.
    - `fin` to `swallow`: cuts that came about. `split` to `stall`: stretches that began.
    - `bytes_up`, `bytes_down`: forwarded. `peak_held`: the most bytes held for one direction.
    - `pieces`: the sends that forwarding took.
    """

    connections: int = 0
    open: int = 0
    calm: int = 0
    unreachable: int = 0
    refused: int = 0
    fin: int = 0
    rst: int = 0
    silent: int = 0
    swallow: int = 0
    split: int = 0
    coalesce: int = 0
    throttle: int = 0
    stall: int = 0
    pieces: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    peak_held: int = 0

    def as_dict(self) -> dict[str, int]:
        """The same as plain data."""
        return asdict(self)

    def add(self, name: str, count: int = 1) -> None:
        """Count something by its name."""
        setattr(self, name, getattr(self, name) + count)


@define(eq=False)
class _Link:
    client: socket.socket
    server: socket.socket
    up: Lane
    down: Lane
    cut: Cut | None
    severed: asyncio.Event = field(factory=asyncio.Event)


class Proxy:
    """Listens on `listen` and forwards to `to`; `plan_of` gives the plan of connection 1, 2, ….

    `narrow` makes the sockets towards the server take little at a time, so that the server feels
    at once what a client does not read.
    """

    def __init__(
        self,
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        to: tuple[str, int],
        plan_of: Callable[[int], Plan],
        narrow: bool = True,
    ) -> None:
        self.counters = Counters()
        self._to = to
        self._plan_of = plan_of
        self._narrow = narrow
        self._healed = False
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        self._listener = socket.create_server(listen, family=family, backlog=1024)
        self._listener.setblocking(False)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    async def __aenter__(self) -> Self:
        """Accept connections."""
        self._start(self._accept())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Reset every connection, and end."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    def heal(self) -> None:
        """Do nothing to anybody any more; what is half-open stays so until its time is over."""
        self._healed = True
        for link in self._links:
            link.up.heal()
            link.down.heal()

    # -- links --------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self._listener)
            except OSError:  # too many open files, or a peer that is gone already
                await asyncio.sleep(0.1)
                continue
            self.counters.connections += 1
            if self.counters.open >= MAX_LINKS:
                self.counters.refused += 1
                _reset(client)
                continue
            self._start(self._serve(client, self.counters.connections))

    async def _serve(self, client: socket.socket, number: int) -> None:
        self.counters.open += 1
        in_order = False
        try:
            with client, self._upstream() as server:
                try:
                    in_order = await self._reach(client, server, number)
                finally:
                    if not in_order:
                        _reset(client)
                        _reset(server)
        finally:
            self.counters.open -= 1

    def _upstream(self) -> socket.socket:
        return socket.socket(socket.AF_INET6 if ":" in self._to[0] else socket.AF_INET)

    async def _reach(self, client: socket.socket, server: socket.socket, number: int) -> bool:
        """Connect, and do what is planned; true where both ends came to an end in order."""
        _prepare(client)
        _prepare(server)
        if self._narrow:
            _make_narrow(server)
        try:
            await asyncio.get_running_loop().sock_connect(server, self._to)
        except OSError:
            self.counters.unreachable += 1
            return False
        plan = Plan() if self._healed else self._plan_of(number)
        self.counters.calm += plan.calm
        link = _Link(client, server, Lane.of(plan, "up"), Lane.of(plan, "down"), plan.cut)
        self._links.add(link)
        try:
            in_order = await self._forward(link)
        finally:
            self._links.discard(link)
            for lane in (link.up, link.down):
                for kind, count in lane.begun.items():
                    self.counters.add(kind, count)
        if link.severed.is_set() and link.cut is not None:
            self.counters.add(link.cut.kind)
            await _end(link.cut, client, server)
        return in_order

    async def _forward(self, link: _Link) -> bool:
        """Forward both ways until both ends are done, one is reset, or the cut is due."""
        ways = [
            asyncio.create_task(self._way(link.client, link.server, link.up, "bytes_up", link)),
            asyncio.create_task(self._way(link.server, link.client, link.down, "bytes_down", link)),
        ]
        severed = asyncio.create_task(link.severed.wait())
        try:
            await asyncio.wait([*ways, severed], return_when=asyncio.FIRST_COMPLETED)
            if not severed.done() and not any(way.done() and not way.result() for way in ways):
                # One end is done; the other gets the time that a closing handshake takes.
                rest = [each for each in (*ways, severed) if not each.done()]
                await asyncio.wait(rest, timeout=_LINGER, return_when=asyncio.FIRST_COMPLETED)
            return all(way.done() and way.result() for way in ways)
        finally:
            for each in (*ways, severed):
                each.cancel()
            # They must be done with the sockets before those are closed.
            await asyncio.gather(*ways, severed, return_exceptions=True)

    async def _way(
        self, source: socket.socket, sink: socket.socket, lane: Lane, counter: str, link: _Link
    ) -> bool:
        """Forward one way; true at its end, false where an end was reset or the cut came."""
        held = bytearray()
        try:
            while await self._carry_out(lane.next(len(held)), held, source, sink, counter):
                self.counters.peak_held = max(self.counters.peak_held, len(held))
            if lane.severed:
                link.severed.set()
                return False
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    async def _carry_out(
        self, op: Op, held: bytearray, source: socket.socket, sink: socket.socket, counter: str
    ) -> bool:
        """Carry out one step; false where nothing is left to do."""
        loop = asyncio.get_running_loop()
        match op:
            case Read():
                data = await loop.sock_recv(source, CHUNK)
                held += data
                return bool(data)
            case Gather(size=size, seconds=seconds):
                # A read that is cancelled may have taken bytes already: what comes waits in the
                # socket until the time is up.
                await asyncio.sleep(seconds)
                with contextlib.suppress(BlockingIOError):
                    held += source.recv(min(size, CHUNK) - len(held))
            case Send(size=size, pause=pause):
                await loop.sock_sendall(sink, held[:size])
                del held[:size]
                self.counters.add(counter, size)
                self.counters.pieces += 1
                if pause > 0:
                    await asyncio.sleep(pause)
            case Wait(seconds=seconds):
                await asyncio.sleep(seconds)
            case Sever():
                return False
        return True


# -- ends -------------------------------------------------------------------------------------


async def _end(cut: Cut, client: socket.socket, server: socket.socket) -> None:
    """End a link as its cut says; whoever calls it resets what is left."""
    match cut.kind:
        case CutKind.FIN:
            for each in (client, server):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_WR)
            # Closing a socket with unread bytes resets it: they are read until the ends close.
            await _swallow(client, server, seconds=_LINGER)
        case CutKind.RST:
            pass
        case CutKind.SILENT:
            await asyncio.sleep(cut.hold)
        case CutKind.SWALLOW:
            await _swallow(client, server, seconds=cut.hold)


async def _swallow(*ends: socket.socket, seconds: float) -> None:
    """Throw away what the ends send until all have closed; each is let go when it does."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(_swallow_one(end) for end in ends))


async def _swallow_one(end: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while await loop.sock_recv(end, CHUNK):
            pass
    end.close()


def _reset(end: socket.socket) -> None:
    """Close at once: the other side sees a reset, unless this was closed before."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    end.close()


def _prepare(end: socket.socket) -> None:
    end.setblocking(False)
    # What is split is to stay split.
    with contextlib.suppress(OSError):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _make_narrow(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
    if hasattr(socket, "TCP_MAXSEG"):
        with contextlib.suppress(OSError):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)

"""What the tests of the trio adapter share: runs in virtual time, bounded waits, a raw peer."""

import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, Self, TypeVar

import trio
import trio.lowlevel
import trio.testing
from gatewayproto_trio import Application, Server, SessionHandle, serve
from gatewayproto_wsproto import (
    ClientConnection,
    Closed,
    ServerConnection,
    TextReceived,
    Upgraded,
    UpgradeRefused,
    WsEvent,
)

from gatewayproto import GatewayConfig
from gatewayproto.actions import GatewayEvent, MessageReceived
from gatewayproto.testing.drivers import End
from gatewayproto.testing.drivers.check import Talker

T = TypeVar("T")

WAIT: Final = 20.0
"""Seconds that any wait may take before the test fails."""
TURN: Final = 0.002
"""Seconds between two looks at what nothing tells of."""

BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


def run(main: Callable[[], Awaitable[T]], *, virtual: bool = True) -> T:
    """Run a test's coroutine; in virtual time, nothing waits that only waits for the time."""
    clock = trio.testing.MockClock(autojump_threshold=0) if virtual else None
    return trio.run(main, clock=clock, strict_exception_groups=True)


@contextmanager
def patience() -> Generator[None]:
    """A bound on a wait."""
    try:
        with trio.fail_after(WAIT):
            yield
    except trio.TooSlowError:
        raise TimeoutError("a wait took too long") from None


async def within(work: Awaitable[T]) -> T:
    """Await something that must not take long."""
    with patience():
        return await work


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until `condition` holds; for what nothing tells of."""
    with patience():
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(TURN)


class StreamPeer:
    """A raw peer: WebSocket on a stream, as either side of it.

    What it writes waits on this side until the stream takes it, which `live` sees to.
    """

    def __init__(
        self, ws: ClientConnection | ServerConnection, stream: trio.abc.HalfCloseableStream
    ) -> None:
        self.events: list[WsEvent] = []
        """Everything that the WebSocket told."""
        self.stream = stream
        self._ws = ws
        self._texts: deque[bytes] = deque()
        self._end: End | None = None
        self._waiting = bytearray()
        self._finished = False
        self._wanted = trio.Event()

    async def live(self) -> None:
        """The task that writes, and closes the stream once it is cancelled."""
        try:
            with suppress(*BROKEN):
                await self._write_out()
            await trio.sleep_forever()
        finally:
            await trio.aclose_forcefully(self.stream)

    async def _write_out(self) -> None:
        while not (self._finished and not self._waiting):
            await self._wanted.wait()
            self._wanted = trio.Event()
            while self._waiting:
                piece = bytes(self._waiting[:4096])
                await self.stream.send_all(piece)
                del self._waiting[: len(piece)]
        await self.stream.send_eof()

    def encode(self, message: bytes) -> bytes:
        self._ws.send_text(message)
        return self._ws.bytes_to_send()

    async def write(self, data: bytes) -> int:
        if data and not self._finished:
            self._waiting += data
            self._wanted.set()
        # Some turns, for the task to write what there is room for.
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        return len(self._waiting)

    async def receive(self) -> bytes | End:
        while not self._texts and self._end is None:
            await self.read()
            await self.write(self._ws.bytes_to_send())
        if self._texts:
            return self._texts.popleft()
        # What is owed to the other side goes out before this one closes.
        with suppress(TimeoutError):
            await until(lambda: not self._waiting)
        await trio.aclose_forcefully(self.stream)
        assert self._end is not None
        return self._end

    async def read_some(self, size: int) -> int:
        """Read once, `size` bytes at most; returns how many came."""
        data = bytes(await within(self.stream.receive_some(size)))
        self._take(data)
        return len(data)

    async def read(self) -> tuple[WsEvent, ...]:
        """What comes in next."""
        try:
            data = bytes(await within(self.stream.receive_some(65536)))
        except TimeoutError:
            raise
        except BROKEN:
            data = b""
        return self._take(data)

    def _take(self, data: bytes) -> tuple[WsEvent, ...]:
        events = self._ws.receive(data) if data else self._ws.receive_eof()
        self.events += events
        for event in events:
            match event:
                case TextReceived(data=text):
                    self._texts.append(text)
                case Closed():
                    self._end = End(event.received_code, event.received_reason)
                case _:
                    pass
        return events

    async def upgrade(self) -> None:
        """Send what asks for the upgrade, and wait for the answer."""
        await self.write(self._ws.bytes_to_send())
        answers = (Upgraded, UpgradeRefused, Closed)
        while not any(isinstance(event, answers) for event in await self.read()):
            pass

    async def close(self, code: int, reason: str = "") -> None:
        self._ws.close(code, reason)
        await self.write(self._ws.bytes_to_send())

    async def finish(self) -> None:
        self._finished = True
        self._wanted.set()
        await trio.lowlevel.checkpoint()

    async def abort(self) -> None:
        if isinstance(self.stream, trio.SocketStream):
            with suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await trio.aclose_forcefully(self.stream)


class Recorder(Application):
    """Accepts everybody, remembers everything, and does with messages what it is told."""

    def __init__(
        self, work: Callable[[SessionHandle, MessageReceived], Awaitable[None]] | None = None
    ) -> None:
        self.events: list[GatewayEvent] = []
        self.messages: list[MessageReceived] = []
        self._work = work

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        self.messages.append(message)
        if self._work is not None:
            await self._work(session, message)

    def on_event(self, event: GatewayEvent) -> None:
        self.events.append(event)

    def of(self, kind: type[T]) -> list[T]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Hall:
    """A server, and peers that come to it by streams in memory, all of them in one nursery."""

    def __init__(self, server: Server, nursery: trio.Nursery) -> None:
        self.server = server
        self.nursery = nursery

    @classmethod
    @asynccontextmanager
    async def of(
        cls, application: Application, config: GatewayConfig | None = None, **options: Any
    ) -> AsyncGenerator[Self]:
        """A server on a free port; its peers are gone at the end."""
        async with trio.open_nursery() as nursery:
            async with serve(application, port=0, config=config, **options) as server:
                yield cls(server, nursery)
            nursery.cancel_scope.cancel()

    def stream(self) -> trio.StapledStream[Any, Any]:
        """The other end of a stream that the server serves. It holds nothing: who reads, takes."""
        mine, theirs = trio.testing.lockstep_stream_pair()
        self.nursery.start_soon(self._serve, theirs)
        return mine

    async def _serve(self, stream: trio.abc.Stream) -> None:
        await self.server.serve_stream(stream, peer="memory:1")

    async def peer(self) -> StreamPeer:
        """A raw client with its answer to the upgrade."""
        peer = StreamPeer(ClientConnection(self.server.url, max_message=2**24), self.stream())
        self.nursery.start_soon(peer.live)
        await peer.upgrade()
        return peer

    async def talker(self, **fields: Any) -> tuple[Talker, dict[str, Any]]:
        """A client that has its welcome, and the welcome."""
        talker = Talker(await self.peer())
        hello = {"agent_id": "a", "protocol_min": 2, "protocol_max": 2, **fields}
        await talker.send("hello", **hello)
        welcome = await talker.frame("hello_ok")
        await talker.frame("caught_up")
        return talker, welcome

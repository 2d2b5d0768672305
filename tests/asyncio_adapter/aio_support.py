"""What the tests of the asyncio adapter share: a raw peer, a proxy with faults, bounded waits."""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self, TypeVar

from gatewayproto_asyncio import Application, Server, SessionHandle, serve
from gatewayproto_wsproto import (
    ClientConnection,
    Closed,
    ServerConnection,
    TextReceived,
    Upgraded,
    UpgradeRefused,
    UpgradeRequested,
    frame_text,
)

from gatewayproto.actions import GatewayEvent, MessageReceived
from gatewayproto.config import GatewayConfig

T = TypeVar("T")
Frame = dict[str, Any]

WAIT: Final = 10.0
"""Seconds that any wait may take before the test fails."""


def run(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    timeout: float = 30.0,
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Run a test's coroutine in asyncio's debug mode; nothing may be left behind."""
    problems: list[dict[str, Any]] = []

    async def watched() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        # Debug mode also reports slow callbacks, which on a busy machine are no fault of ours.
        loop.slow_callback_duration = WAIT
        async with asyncio.timeout(timeout):
            result = await main()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left behind: {left}"
        return result

    with asyncio.Runner(debug=True, loop_factory=new_loop) as runner:
        result = runner.run(watched())
    gc.collect()  # what was not closed says so now
    assert not problems, problems
    return result


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until `condition` holds; for what nothing tells of."""
    async with asyncio.timeout(WAIT):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


async def within(work: Awaitable[T]) -> T:
    """Await something that must not take long."""
    async with asyncio.timeout(WAIT):
        return await work


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


def serving(
    application: Application | None = None, config: GatewayConfig | None = None, **options: Any
) -> Server:
    """A server on a free port."""
    return serve(
        Recorder() if application is None else application, port=0, config=config, **options
    )


class Peer:
    """A raw client: WebSocket without any opinion of the protocol on it."""

    def __init__(self, ws: ClientConnection, reader: Any, writer: Any) -> None:
        self._ws = ws
        self._reader: asyncio.StreamReader = reader
        self._writer: asyncio.StreamWriter = writer
        self.frames: list[Frame] = []
        self.refused: UpgradeRefused | None = None
        self.closed: Closed | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, headers: tuple[tuple[str, str], ...] = (), limit: int = 2**16
    ) -> AsyncGenerator[Self]:
        """Connect, and wait for the answer to the upgrade."""
        ws = ClientConnection(url, headers=headers, max_message=2**24)
        reader, writer = await asyncio.open_connection(ws.url.host, ws.url.port, limit=limit)
        peer = cls(ws, reader, writer)
        try:
            writer.write(ws.bytes_to_send())
            await peer.read_until(lambda: peer.refused or peer.closed or peer._upgraded)
            yield peer
        finally:
            writer.close()
            with suppress(OSError):
                await within(writer.wait_closed())

    _upgraded = False

    async def read_until(self, condition: Callable[[], object]) -> None:
        """Read until `condition` holds or the connection has ended."""
        async with asyncio.timeout(WAIT):
            while not condition() and self.closed is None:
                await self._read()

    async def _read(self) -> None:
        try:
            data = await self._reader.read(65536)
        except ConnectionError:
            data = b""
        for event in self._ws.receive(data) if data else self._ws.receive_eof():
            match event:
                case TextReceived(data=text):
                    self.frames.append(json.loads(text))
                case UpgradeRefused():
                    self.refused = event
                case Upgraded():
                    self._upgraded = True
                case Closed():
                    self.closed = event
                case _:
                    pass
        self.flush()

    def flush(self) -> None:
        """Write what the WebSocket owes."""
        data = self._ws.bytes_to_send()
        if data:
            self._writer.write(data)

    def send(self, frame: Frame) -> None:
        """Send one frame."""
        self.send_text(json.dumps(frame).encode())

    def send_text(self, text: bytes) -> None:
        """Send one text message."""
        self._ws.send_text(text)
        self.flush()

    def write(self, data: bytes) -> None:
        """Write bytes that may be no WebSocket."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the system has taken what was written; raises what went wrong with it."""
        await within(self._writer.drain())

    def write_eof(self) -> None:
        """Write nothing more."""
        self._writer.write_eof()

    def abort(self) -> None:
        """Break the connection without a word."""
        self._writer.transport.abort()

    def close(self, code: int = 1000) -> None:
        """Begin the closing handshake."""
        self._ws.close(code)
        self.flush()

    async def hello(self, **fields: Any) -> Frame:
        """Handshake; gives the welcome, or what came instead."""
        self.send(
            {"type": "hello", "agent_id": "a", "protocol_min": 1, "protocol_max": 2, **fields}
        )
        return await self.next()

    async def next(self, kind: str | None = None) -> Frame:
        """The next frame, of a kind if one is named; an empty one where the connection ended."""
        while True:
            await self.read_until(lambda: self.frames)
            if not self.frames:
                return {}
            frame = self.frames.pop(0)
            if kind is None or frame["type"] == kind:
                return frame

    async def ended(self) -> Closed:
        """Wait for the end."""
        await self.read_until(lambda: False)
        assert self.closed is not None
        return self.closed


class FakeServer:
    """A WebSocket server that knows nothing of the protocol: a script says what it does.

    `script` runs for each connection once it is upgraded; the WebSocket is closed at its end, but
    the Close frame of a client is answered only if `answers_close`.
    """

    def __init__(
        self,
        script: Callable[["FakeConnection"], Awaitable[None]],
        *,
        refusals: tuple[tuple[int, tuple[tuple[str, str], ...]], ...] = (),
        answers_close: bool = True,
    ) -> None:
        self._script = script
        self._refusals = list(refusals)
        self._answers_close = answers_close
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.opened = 0
        """Connections that were upgraded so far."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        while self._tasks:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.wait(self._tasks)

    @property
    def url(self) -> str:
        """Where clients connect to."""
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/ws"

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A plain function, so that the task is ours from its first moment on.
        task = asyncio.create_task(self._work(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connection = FakeConnection(reader, writer, answers_close=self._answers_close)
            if self._refusals:
                await connection.refuse(*self._refusals.pop(0))
                return
            await connection.accept()
            self.opened += 1
            await self._script(connection)
            await connection.close()
        except (asyncio.CancelledError, OSError):
            pass
        finally:
            await _close(writer)


class FakeConnection:
    """One connection of a `FakeServer`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers_close: bool
    ) -> None:
        self._ws = ServerConnection(max_message=2**24)
        self._reader = reader
        self._writer = writer
        self._answers_close = answers_close
        self._asked = False
        self._unwritten = b""
        self._frames: list[Frame] = []
        self.closed: Closed | None = None

    async def accept(self) -> None:
        """Upgrade."""
        await self._read_until(lambda: self._asked)
        self._ws.accept()
        self.write(self._ws.bytes_to_send())

    async def refuse(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        """Answer the upgrade with a status."""
        await self._read_until(lambda: self._asked)
        self._ws.reject(status, headers=headers)
        self.write(self._ws.bytes_to_send())
        self._flush()
        await self._writer.drain()

    async def welcome(self, **fields: Any) -> Frame:
        """Take a handshake and answer it with the welcome of a new session."""
        hello = await self.next()
        self.send(
            {
                "type": "hello_ok",
                "session_id": "s",
                "protocol": 2,
                "protocol_version": 2,
                "resumed": False,
                "epoch": "e",
                "cursor": 0,
                "oldest_cursor": 1,
                "sequence": 0,
                **fields,
            }
        )
        return hello

    def event(self, seq: int, **data: Any) -> None:
        """Send a live event."""
        event = {"type": "note", "data": data, "event_id": f"e{seq}", "timestamp": 0}
        self.send({"type": "event", "seq": seq, "event": event})

    async def next(self) -> Frame:
        """The next frame; an empty one where the connection ended."""
        await self._read_until(lambda: self._frames)
        return self._frames.pop(0) if self._frames else {}

    def send(self, frame: Frame) -> None:
        """Send one frame."""
        self._ws.send_text(json.dumps(frame).encode())
        self.write(self._ws.bytes_to_send())

    def write(self, data: bytes) -> None:
        """Write bytes that may be no WebSocket, in one piece with all that is written at once."""
        if not self._unwritten:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unwritten += data

    def _flush(self) -> None:
        data, self._unwritten = self._unwritten, b""
        if data and not self._writer.is_closing():
            self._writer.write(data)

    async def flood(self, frame: Frame) -> None:
        """Send one frame without end and without reading, as fast as the client takes them."""
        taker: socket.socket = self._writer.get_extra_info("socket")
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # little is on its way unread
        many = frame_text(json.dumps(frame).encode()) * 200
        while not self._writer.is_closing():
            self._writer.write(many)
            await self._writer.drain()

    async def close(self, code: int = 1000) -> None:
        """Close, and wait for the client's answer."""
        self._ws.close(code)
        self.write(self._ws.bytes_to_send())
        await self.ended()

    async def ended(self) -> None:
        """Wait for the end."""
        await self._read_until(lambda: False)

    async def _read_until(self, condition: Callable[[], object]) -> None:
        while not condition() and self.closed is None:
            data = await self._reader.read(65536)
            for event in self._ws.receive(data) if data else self._ws.receive_eof():
                match event:
                    case UpgradeRequested():
                        self._asked = True
                    case TextReceived(data=text):
                        self._frames.append(json.loads(text))
                    case Closed():
                        self.closed = event
                    case _:
                        pass
            if self.closed is not None and not self._answers_close:
                await asyncio.Event().wait()
            self.write(self._ws.bytes_to_send())


class FaultProxy:
    """A TCP proxy that cuts, stalls and counts; one upstream, any number of connections."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._links: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self.resume()
        self._budget: int | None = None
        self.opened = 0
        """Connections so far."""
        self.passed = 0
        """Bytes that went from the server to clients."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.resume()
        self.cut()
        while self._tasks:
            self.cut()
            await asyncio.wait(self._tasks)

    @property
    def url(self) -> str:
        """Where clients connect to."""
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/ws"

    def point_to(self, port: int) -> None:
        """Send new connections to another server."""
        self._upstream = (self._upstream[0], port)

    def cut(self) -> None:
        """Break every connection, both ways, without a word."""
        for link in tuple(self._links):
            for writer in link:
                writer.transport.abort()
        self._budget = None

    def cut_after(self, size: int) -> None:
        """Cut once so many more bytes have gone to clients."""
        self._budget = size

    def stall(self) -> None:
        """Pass nothing on, and read nothing, until `resume`."""
        self._up.clear()
        self._down.clear()

    def stall_down(self) -> None:
        """The same, but only for what goes to clients."""
        self._down.clear()

    def resume(self) -> None:
        """Pass everything on again."""
        self._up.set()
        self._down.set()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A plain function, so that the task is ours from its first moment on.
        task = asyncio.create_task(self._link(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            await _close(writer)
            return
        link = (writer, up_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, up_writer, down=False))
                group.create_task(self._pump(up_reader, writer, down=True))
        finally:
            self._links.discard(link)
            await _close(up_writer)
            await _close(writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, down: bool
    ) -> None:
        flowing = self._down if down else self._up
        try:
            while True:
                await flowing.wait()
                data = await reader.read(4096)
                await flowing.wait()
                if not data:
                    break
                if down:
                    data = self._charge(data)
                writer.write(data)
                if down and self._budget == 0:
                    await writer.drain()
                    self.cut()
                    return
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            self._break(writer)

    def _charge(self, data: bytes) -> bytes:
        if self._budget is not None:
            data = data[: self._budget]
            self._budget -= len(data)
        self.passed += len(data)
        return data

    def _break(self, writer: asyncio.StreamWriter) -> None:
        for link in tuple(self._links):
            if writer in link:
                for each in link:
                    each.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()

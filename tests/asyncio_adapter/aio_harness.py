"""The asyncio adapter, as the checks of a driver start it and talk to it."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlencode

from gatewayproto_asyncio import ClientSession, Item, Server, connect, serve
from gatewayproto_wsproto import (
    ClientConnection,
    Closed,
    ServerConnection,
    TextReceived,
    Upgraded,
    UpgradeRequested,
    WsEvent,
)

from gatewayproto import ClientConfig, Gateway
from gatewayproto.actions import ClientEvent
from gatewayproto.inputs import Publish
from gatewayproto.testing.drivers import Backend, End, HookError, Main
from tests.adapter.check_application import CheckApplication, store_for
from tests.asyncio_adapter.aio_support import run, until, within

CLOSE_TIMEOUT: Final = 1.0
_BUFFER: Final = 64 * 1024
_SMALL: Final = 32 * 1024


class StreamPeer:
    """A raw peer: WebSocket on asyncio's streams, as either side of it."""

    def __init__(
        self,
        ws: ClientConnection | ServerConnection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._ws = ws
        self._reader = reader
        self._writer = writer
        self._texts: deque[bytes] = deque()
        self._end: End | None = None
        self._finished = False

    def encode(self, message: bytes) -> bytes:
        self._ws.send_text(message)
        return self._ws.bytes_to_send()

    async def write(self, data: bytes) -> int:
        if data and not self._finished and not self._writer.transport.is_closing():
            self._writer.write(data)
        await asyncio.sleep(0)
        return self._writer.transport.get_write_buffer_size()

    async def receive(self) -> bytes | End:
        while not self._texts and self._end is None:
            for event in await self.read():
                match event:
                    case TextReceived(data=text):
                        self._texts.append(text)
                    case Closed():
                        self._end = End(event.received_code, event.received_reason)
                    case _:
                        pass
            await self.write(self._ws.bytes_to_send())
        if self._texts:
            return self._texts.popleft()
        self._writer.close()
        assert self._end is not None
        return self._end

    async def read(self) -> tuple[WsEvent, ...]:
        """What comes in next."""
        try:
            data = await within(self._reader.read(65536))
        except ConnectionError:
            data = b""
        return self._ws.receive(data) if data else self._ws.receive_eof()

    async def close(self, code: int, reason: str = "") -> None:
        self._ws.close(code, reason)
        await self.write(self._ws.bytes_to_send())

    async def finish(self) -> None:
        self._finished = True
        self._writer.write_eof()

    async def abort(self) -> None:
        self._writer.transport.abort()


class StreamHarness:
    """What both harnesses have."""

    # What Linux lets the buffers of two sockets grow to, when one of them is kept small.
    capacity: int = 4 * 1024 * 1024
    lateness: float = 2.0

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self._new_loop = new_loop
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, main: Main) -> None:
        async def around() -> None:
            await self.prepare()
            try:
                await main()
            finally:
                await self.close()

        run(around, new_loop=self._new_loop)

    async def prepare(self) -> None:
        """What every check begins with."""

    async def close(self) -> None:
        """End everything."""
        tasks = {*self._tasks}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for writer in self._writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
        self._writers.clear()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], object]) -> None:
        await until(condition)

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of the harness, for what is to go on beside the check."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def left(self) -> int:
        """Tasks that are neither the check's nor the harness's."""
        return len(asyncio.all_tasks() - self._tasks - {asyncio.current_task()})


class AsyncioServerHarness(StreamHarness):
    """Starts `serve`."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        super().__init__(new_loop)
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def _running(self) -> Server:
        assert self._server is not None
        return self._server

    async def start(self, gateway: Gateway, backend: Backend) -> None:
        hooks = CheckApplication(backend)
        self._server = hooks.server = serve(
            hooks,
            port=0,
            config=gateway.config,
            gateway=gateway,
            close_timeout=CLOSE_TIMEOUT,
            store=store_for(gateway.config, backend, asyncio.Event),
        )
        ready = asyncio.Event()
        self._serving = self.start_task(self._serve(self._server, ready))
        await within(ready.wait())

    async def _serve(self, server: Server, ready: asyncio.Event) -> None:
        with suppress(HookError):  # of a store that fails
            async with server:
                ready.set()
                await server.wait_closed()

    async def stop(self) -> None:
        self._stopping = self.start_task(self._stop())

    async def _stop(self) -> None:
        with suppress(HookError):
            await self._running.close()

    async def stopped(self) -> None:
        assert self._stopping is not None
        await within(self._stopping)

    async def cancel(self) -> None:
        assert self._serving is not None
        self._serving.cancel()
        await within(asyncio.wait([self._serving]))

    async def open(
        self, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> StreamPeer:
        url = self._running.url + (f"?{urlencode(query)}" if query else "")
        ws = ClientConnection(url, headers=tuple((headers or {}).items()), max_message=2**24)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (ws.url.host, ws.url.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=_SMALL)
        self._writers.append(writer)
        peer = StreamPeer(ws, reader, writer)
        await peer.write(ws.bytes_to_send())
        while not any(isinstance(event, Upgraded) for event in await peer.read()):
            pass
        return peer

    async def publish(self, *commands: Publish) -> None:
        for command in commands:
            self._running.publish(command.session_id, command.event)

    def transports(self) -> int:
        return self._running.connections

    def left(self) -> int:
        return super().left() + self.transports()


class StreamAttempt:
    """A client's try to open a transport, as the raw server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ws = ServerConnection(max_message=2**24)
        self._writer = writer
        self._peer = StreamPeer(self._ws, reader, writer)

    async def accept(self) -> StreamPeer:
        await self._upgrade()
        self._ws.accept()
        await self._peer.write(self._ws.bytes_to_send())
        return self._peer

    async def refuse(self, status: int, *, retry_after: int | None = None) -> None:
        await self._upgrade()
        after = () if retry_after is None else (("Retry-After", str(retry_after)),)
        self._ws.reject(status, headers=after)
        await self._peer.write(self._ws.bytes_to_send())
        self._writer.close()

    async def drop(self) -> None:
        await self._peer.abort()

    async def _upgrade(self) -> None:
        while not any(isinstance(event, UpgradeRequested) for event in await self._peer.read()):
            pass


class DrivenSession:
    """A `ClientSession` as the checks use it."""

    def __init__(self, harness: StreamHarness, session: ClientSession) -> None:
        self._harness = harness
        self._session = session
        self._running: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Enter it."""
        ready = asyncio.Event()
        self._running = self._harness.start_task(self._run(ready))
        await within(ready.wait())

    async def _run(self, ready: asyncio.Event) -> None:
        with suppress(Exception):  # the check has it from `take`
            async with self._session:
                ready.set()
                await asyncio.Event().wait()

    async def take(self) -> Item:
        return await within(anext(self._session))

    async def send(self, content: str, request_id: str) -> None:
        self._harness.start_task(self._send(content, request_id))
        await asyncio.sleep(0)

    async def _send(self, content: str, request_id: str) -> None:
        with suppress(Exception):
            await self._session.send(content, request_id=request_id)

    async def set_token(self, token: str) -> None:
        await self._session.set_token(token)

    async def disconnect(self) -> None:
        self._closing = self._harness.start_task(self._session.aclose())
        await asyncio.sleep(0)

    async def ended(self) -> None:
        assert self._closing is not None
        await within(self._closing)

    async def cancel(self) -> None:
        assert self._running is not None
        self._running.cancel()
        await within(asyncio.wait([self._running]))


class AsyncioClientHarness(StreamHarness):
    """Starts `connect`, and is its server."""

    buffer: int = _BUFFER + 256 * 1024  # and what asyncio reads in one piece

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        super().__init__(new_loop)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._attempts: deque[StreamAttempt] = deque()

    async def prepare(self) -> None:
        self._port = 0
        await self.listen(on=True)

    async def start(
        self, config: ClientConfig, on_event: Callable[[ClientEvent], None]
    ) -> DrivenSession:
        self._attempts.clear()
        session = connect(
            f"ws://127.0.0.1:{self._port}/ws",
            config=config,
            on_event=on_event,
            get_token=self._get_token,
            buffer_bytes=_BUFFER,
            close_timeout=CLOSE_TIMEOUT,
        )
        driven = DrivenSession(self, session)
        await driven.start()
        return driven

    async def _get_token(self) -> str:
        """Tokens come by `set_token`."""
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    async def attempt(self) -> StreamAttempt:
        await until(lambda: self._attempts)
        return self._attempts.popleft()

    async def listen(self, *, on: bool) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if on:
            self._server = await asyncio.start_server(
                self._arrived, "127.0.0.1", self._port, limit=_SMALL
            )
            self._port = self._server.sockets[0].getsockname()[1]

    def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._attempts.append(StreamAttempt(reader, writer))

    async def close(self) -> None:
        await super().close()
        await self.listen(on=False)

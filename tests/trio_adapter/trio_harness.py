"""The trio adapter, as the checks of a driver start it and talk to it."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlencode

import trio
import trio.lowlevel
import trio.testing
from gatewayproto_trio import ClientSession, Item, Server, connect, serve
from gatewayproto_wsproto import ClientConnection, ServerConnection, UpgradeRequested

from gatewayproto import ClientConfig, Gateway
from gatewayproto.actions import ClientEvent
from gatewayproto.inputs import Publish
from gatewayproto.testing.drivers import Backend, HookError, Main
from tests.adapter.check_application import CheckApplication, store_for
from tests.trio_adapter.trio_support import StreamPeer, run, until, within

CLOSE_TIMEOUT: Final = 1.0
_BUFFER: Final = 64 * 1024
_SMALL: Final = 32 * 1024


class TrioHarness:
    """What both harnesses have. `virtual`: time is; `memory`: so are the transports."""

    def __init__(self, *, virtual: bool, memory: bool) -> None:
        self._virtual = virtual
        self._memory = memory
        self._nursery: trio.Nursery
        self._driven: trio.lowlevel.Task | None = None

    @property
    def capacity(self) -> int:
        # In memory a piece waits to be taken. What Linux lets the buffers of two sockets grow to.
        return 64 * 1024 if self._memory else 4 * 1024 * 1024

    @property
    def lateness(self) -> float:
        return 0.001 if self._virtual else 2.0

    def run(self, main: Main) -> None:
        async def around() -> None:
            async with trio.open_nursery() as self._nursery:
                await self.prepare()
                try:
                    await main()
                finally:
                    self._nursery.cancel_scope.cancel()

        try:
            run(around, virtual=self._virtual)
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise

    async def prepare(self) -> None:
        """What every check begins with."""

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def until(self, condition: Callable[[], object]) -> None:
        await until(condition)

    def left(self) -> int:
        """Tasks that the driver has in its nurseries."""
        return 0 if self._driven is None else _tasks_below(self._driven)


def _tasks_below(task: trio.lowlevel.Task) -> int:
    children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return len(children) + sum(map(_tasks_below, children))


class TrioServerHarness(TrioHarness):
    """Starts `serve`."""

    def __init__(self, *, virtual: bool = True, memory: bool = True) -> None:
        super().__init__(virtual=virtual, memory=memory)
        self._server: Server | None = None
        self._serving = trio.CancelScope()
        self._served = trio.Event()
        self._stopped = trio.Event()

    @property
    def _running(self) -> Server:
        assert self._server is not None
        return self._server

    async def start(self, gateway: Gateway, backend: Backend) -> None:
        application = CheckApplication(backend)
        self._server = application.server = serve(
            application,
            port=0,
            config=gateway.config,
            gateway=gateway,
            close_timeout=CLOSE_TIMEOUT,
            store=store_for(gateway.config, backend, trio.Event),
        )
        self._serving, self._served = trio.CancelScope(), trio.Event()
        ready = trio.Event()
        self._nursery.start_soon(self._serve, self._server, ready)
        await within(ready.wait())

    async def _serve(self, server: Server, ready: trio.Event) -> None:
        self._driven = trio.lowlevel.current_task()
        try:
            with suppress(HookError), self._serving:  # of a store that fails
                async with server:
                    ready.set()
                    await server.wait_closed()
        finally:
            self._driven = None
            self._served.set()

    async def stop(self) -> None:
        self._stopped = trio.Event()
        self._nursery.start_soon(self._stop, self._running, self._stopped)
        await trio.lowlevel.checkpoint()

    async def _stop(self, server: Server, stopped: trio.Event) -> None:
        with suppress(HookError):
            await server.close()
        stopped.set()

    async def stopped(self) -> None:
        await within(self._stopped.wait())
        await within(self._served.wait())

    async def cancel(self) -> None:
        self._serving.cancel()
        await within(self._served.wait())

    async def open(
        self, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> StreamPeer:
        url = self._running.url + (f"?{urlencode(query)}" if query else "")
        ws = ClientConnection(url, headers=tuple((headers or {}).items()), max_message=2**24)
        peer = StreamPeer(ws, await self._stream())
        self._nursery.start_soon(peer.live)
        await peer.upgrade()
        return peer

    async def _stream(self) -> trio.abc.HalfCloseableStream:
        if self._memory:
            mine, theirs = trio.testing.lockstep_stream_pair()
            self._nursery.start_soon(self._serve_stream, theirs)
            return mine
        sock = trio.socket.socket()
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, _SMALL)
        await sock.connect((self._running.host, self._running.port))
        return trio.SocketStream(sock)

    async def _serve_stream(self, stream: trio.abc.Stream) -> None:
        await self._running.serve_stream(stream, peer="memory:1")

    async def publish(self, *commands: Publish) -> None:
        for command in commands:
            self._running.publish(command.session_id, command.event)
        await trio.lowlevel.checkpoint()

    def transports(self) -> int:
        return self._running.connections

    def left(self) -> int:
        return super().left() + self.transports()


class StreamAttempt:
    """A client's try to open a transport, as the raw server sees it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._ws = ServerConnection(max_message=2**24)
        self._stream = stream
        self.peer: Final = StreamPeer(self._ws, stream)

    async def accept(self) -> StreamPeer:
        await self._upgrade()
        self._ws.accept()
        await self.peer.write(self._ws.bytes_to_send())
        return self.peer

    async def refuse(self, status: int, *, retry_after: int | None = None) -> None:
        await self._upgrade()
        after = () if retry_after is None else (("Retry-After", str(retry_after)),)
        self._ws.reject(status, headers=after)
        await self._stream.send_all(self._ws.bytes_to_send())
        await self._stream.aclose()

    async def drop(self) -> None:
        await self.peer.abort()

    async def _upgrade(self) -> None:
        while not any(isinstance(event, UpgradeRequested) for event in await self.peer.read()):
            pass


class DrivenSession:
    """A `ClientSession` as the checks use it."""

    def __init__(self, harness: "TrioClientHarness", session: ClientSession) -> None:
        self._harness = harness
        self._session = session
        self._scope = trio.CancelScope()
        self._over = trio.Event()
        self._closed = trio.Event()

    async def run(self, ready: trio.Event) -> None:
        """The task that has entered it."""
        self._harness.drives(trio.lowlevel.current_task())
        try:
            # What the application's callbacks raise, the check has from `take`.
            with suppress(Exception), self._scope:
                async with self._session:
                    ready.set()
                    await trio.sleep_forever()
        finally:
            self._harness.drives(None)
            self._over.set()

    async def take(self) -> Item:
        return await within(anext(self._session))

    async def send(self, content: str, request_id: str) -> None:
        self._harness.begin(self._send, content, request_id)
        await trio.testing.wait_all_tasks_blocked()

    async def _send(self, content: str, request_id: str) -> None:
        with suppress(Exception):
            await self._session.send(content, request_id=request_id)

    async def set_token(self, token: str) -> None:
        await self._session.set_token(token)

    async def disconnect(self) -> None:
        self._closed = trio.Event()
        self._harness.begin(self._disconnect, self._closed)
        await trio.lowlevel.checkpoint()

    async def _disconnect(self, closed: trio.Event) -> None:
        await self._session.aclose()
        closed.set()

    async def ended(self) -> None:
        await within(self._closed.wait())

    async def cancel(self) -> None:
        self._scope.cancel()
        await within(self._over.wait())


class TrioClientHarness(TrioHarness):
    """Starts `connect`, and is its server."""

    buffer: int = _BUFFER + 256 * 1024  # and what is read in one piece

    def __init__(self, *, virtual: bool = True) -> None:
        super().__init__(virtual=virtual, memory=False)
        self._port = 0
        self._attempts: deque[StreamAttempt] = deque()
        self._listening: trio.CancelScope | None = None

    def begin(self, work: Callable[..., object], *args: object) -> None:
        """A task of the harness, for what is to go on beside the check."""
        self._nursery.start_soon(work, *args)  # type: ignore[arg-type]  # see its callers

    def drives(self, task: trio.lowlevel.Task | None) -> None:
        """The task that is the driver's."""
        self._driven = task

    async def prepare(self) -> None:
        self._port = 0
        self._listening = None
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
        ready = trio.Event()
        self._nursery.start_soon(driven.run, ready)
        await within(ready.wait())
        return driven

    async def _get_token(self) -> str:
        """Tokens come by `set_token`."""
        await trio.sleep_forever()
        raise AssertionError

    async def attempt(self) -> StreamAttempt:
        await until(lambda: self._attempts)
        return self._attempts.popleft()

    async def listen(self, *, on: bool) -> None:
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
            await trio.testing.wait_all_tasks_blocked()
        if on:
            self._listening = trio.CancelScope()
            listeners = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
            self._port = listeners[0].socket.getsockname()[1]
            self._nursery.start_soon(self._accept, self._listening, listeners[0])

    async def _accept(self, scope: trio.CancelScope, listener: trio.SocketListener) -> None:
        with scope:
            async with listener:
                while True:
                    stream = await listener.accept()
                    attempt = StreamAttempt(stream)
                    self._nursery.start_soon(attempt.peer.live)
                    self._attempts.append(attempt)

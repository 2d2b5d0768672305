"""The harnesses of the drivers in memory: how the checks start them and talk to them."""

from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from msgspec import json

from gatewayproto.actions import ClientEvent
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import Disconnect, Publish, Send, SetToken
from gatewayproto.testing.drivers import Backend, End, Item, Main, run_blocking
from gatewayproto.testing.memory.client import BUFFER, MemoryClient
from gatewayproto.testing.memory.link import (
    READ,
    Endpoint,
    Record,
    RecordReader,
    Writer,
    encode,
    encode_fields,
)
from gatewayproto.testing.memory.loop import Clock, Loop, VirtualClock
from gatewayproto.testing.memory.server import MemoryServer

CAPACITY: Final = 64 * 1024
"""Bytes that a transport holds each way."""
PATIENCE: Final = 5.0
"""Seconds that anything is waited for."""


class MemoryPeer:
    """A raw peer: an end of a transport, and records in place of WebSocket."""

    def __init__(self, loop: Loop, endpoint: Endpoint) -> None:
        self._loop = loop
        self._endpoint = endpoint
        self._writer = Writer(endpoint)
        self._reader = RecordReader(2**24)
        self._records: deque[tuple[Record, bytes]] = deque()
        self._end: End | None = None
        self._closed = False
        endpoint.notify = self._progress

    def encode(self, message: bytes) -> bytes:
        """See `Peer`."""
        return encode(Record.TEXT, message)

    async def write(self, data: bytes) -> int:
        """See `Peer`."""
        self._writer.queue(data)
        self._writer.write()
        return self._writer.waiting

    async def receive(self) -> bytes | End:
        """See `Peer`."""
        while self._end is None:
            kind, content = self.next_record()
            if kind is Record.TEXT:
                return content
            if kind is Record.CLOSE:
                await self.close(1000)
                self._end = End(**json.decode(content))
                self._finish()
        return self._end

    def next_record(self) -> tuple[Record, bytes]:
        """Wait for the next record; a close without a code stands for the end."""
        self._loop.run_until(self._read, PATIENCE)
        if self._records:
            return self._records.popleft()
        return Record.CLOSE, json.encode({})

    def _read(self) -> bool:
        # As little as is needed: what is left unread is to stay where it is.
        while not self._records and (data := self._endpoint.read()):
            self._records.extend(self._reader.feed(data))
        return bool(self._records) or self._endpoint.ended

    async def close(self, code: int, reason: str = "") -> None:
        """See `Peer`."""
        if not self._closed:
            self._closed = True
            await self.write(encode_fields(Record.CLOSE, code=code, reason=reason))

    async def finish(self) -> None:
        """See `Peer`."""
        self._endpoint.finish()

    async def abort(self) -> None:
        """See `Peer`."""
        self._endpoint.abort()

    def _progress(self) -> None:
        self._writer.write()
        if self._end is not None:
            self._finish()

    def _finish(self) -> None:
        if not self._writer.waiting:
            self._endpoint.close()


class _MemoryHarness:
    """What both harnesses have. `clock` makes a check's clock."""

    capacity = 2 * CAPACITY  # the transport, and what is read in one piece at its end
    lateness = 0.05

    def __init__(self, clock: Callable[[], Clock] = VirtualClock) -> None:
        self._clock = clock
        self._loop = Loop(clock())

    def run(self, main: Main) -> None:
        """See `Harness`."""
        self._loop = Loop(self._clock())
        try:
            run_blocking(main)
        finally:
            self._abandon()
        self._loop.run_for(0)
        left = self.left()
        if left:
            raise RuntimeError(f"{left} transports or timers are left behind")

    def left(self) -> int:
        """See `Harness`."""
        raise NotImplementedError

    def _abandon(self) -> None:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        """See `Harness`."""
        self._loop.run_for(seconds)

    async def until(self, condition: Callable[[], object]) -> None:
        """See `Harness`."""
        self._loop.run_until(condition, PATIENCE)


class MemoryServerHarness(_MemoryHarness):
    """Checks a `MemoryServer`, or what is given as `driver` in its place."""

    def __init__(
        self, driver: type[MemoryServer] = MemoryServer, clock: Callable[[], Clock] = VirtualClock
    ) -> None:
        super().__init__(clock)
        self._driver = driver
        self._server: MemoryServer | None = None

    @property
    def _running(self) -> MemoryServer:
        if self._server is None:
            raise RuntimeError("no server was started")
        return self._server

    async def start(self, gateway: Gateway, backend: Backend) -> None:
        """See `ServerHarness`."""
        self._server = self._driver(self._loop, gateway, backend)

    async def stop(self) -> None:
        """See `ServerHarness`."""
        self._running.stop()

    async def stopped(self) -> None:
        """See `ServerHarness`."""
        self._loop.run_until(lambda: self._running.stopped, PATIENCE)

    async def cancel(self) -> None:
        """See `ServerHarness`."""
        self._running.cancel()

    def _abandon(self) -> None:
        if self._server is not None:
            self._server.cancel()

    async def open(
        self, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> MemoryPeer:
        """See `ServerHarness`."""
        ours, theirs = Endpoint.pair(self._loop, CAPACITY)
        self._running.accept(theirs)
        peer = MemoryPeer(self._loop, ours)
        await peer.write(
            encode_fields(
                Record.UPGRADE, path="/", query=dict(query or {}), headers=dict(headers or {})
            )
        )
        kind, _ = peer.next_record()
        if kind is not Record.ACCEPTED:
            raise RuntimeError(f"{kind} in answer to an upgrade")
        return peer

    async def publish(self, *commands: Publish) -> None:
        """See `ServerHarness`."""
        for command in commands:
            self._running.give(command)

    def transports(self) -> int:
        """See `ServerHarness`."""
        return self._running.transports

    def left(self) -> int:
        """See `Harness`."""
        return 0 if self._server is None else self._server.left


class MemoryAttempt:
    """A client's try to open a transport."""

    def __init__(self, loop: Loop, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._peer = MemoryPeer(loop, endpoint)

    async def accept(self) -> MemoryPeer:
        """See `Attempt`."""
        self._peer.next_record()
        await self._peer.write(encode(Record.ACCEPTED))
        return self._peer

    async def refuse(self, status: int, *, retry_after: int | None = None) -> None:
        """See `Attempt`."""
        self._peer.next_record()
        await self._peer.write(
            encode_fields(Record.REFUSED, http_status=status, retry_after_seconds=retry_after)
        )

    async def drop(self) -> None:
        """See `Attempt`."""
        self._endpoint.abort()


class MemoryDriven:
    """A `MemoryClient` as its application uses it."""

    def __init__(self, loop: Loop, client: MemoryClient) -> None:
        self._loop = loop
        self._client = client

    async def take(self) -> Item:
        """See `DrivenClient`."""
        client = self._client
        client.finish()
        self._loop.run_until(lambda: client.items or client.failure, PATIENCE)
        return client.take()

    async def send(self, content: str, request_id: str) -> None:
        """See `DrivenClient`."""
        self._client.give(Send(content=content, request_id=request_id))

    async def set_token(self, token: str) -> None:
        """See `DrivenClient`."""
        self._client.give(SetToken(token))

    async def disconnect(self) -> None:
        """See `DrivenClient`."""
        self._client.give(Disconnect())

    async def ended(self) -> None:
        """See `DrivenClient`."""
        self._loop.run_until(lambda: not self._client.left, PATIENCE)

    async def cancel(self) -> None:
        """See `DrivenClient`."""
        self._client.cancel()


class MemoryClientHarness(_MemoryHarness):
    """Checks a `MemoryClient`, or what is given as `driver` in its place."""

    buffer = BUFFER + READ

    def __init__(
        self, driver: type[MemoryClient] = MemoryClient, clock: Callable[[], Clock] = VirtualClock
    ) -> None:
        super().__init__(clock)
        self._driver = driver
        self._client: MemoryClient | None = None
        self._attempts: deque[MemoryAttempt] = deque()
        self._listening = True

    def run(self, main: Main) -> None:
        """See `Harness`."""
        self._attempts.clear()
        self._listening = True
        super().run(main)

    async def start(
        self, config: ClientConfig, on_event: Callable[[ClientEvent], None]
    ) -> MemoryDriven:
        """See `ClientHarness`."""
        self._attempts.clear()
        self._client = self._driver(
            self._loop,
            Client(config, rng=Random(0)),
            self._dial,
            on_event,
            max_payload=config.max_payload,
        )
        self._client.start()
        return MemoryDriven(self._loop, self._client)

    async def attempt(self) -> MemoryAttempt:
        """See `ClientHarness`."""
        self._loop.run_until(lambda: self._attempts, PATIENCE)
        return self._attempts.popleft()

    async def listen(self, *, on: bool) -> None:
        """See `ClientHarness`."""
        self._listening = on

    def left(self) -> int:
        """See `Harness`."""
        return 0 if self._client is None else self._client.left

    def _dial(self) -> Endpoint | None:
        if not self._listening:
            return None
        ours, theirs = Endpoint.pair(self._loop, CAPACITY)
        self._attempts.append(MemoryAttempt(self._loop, ours))
        return theirs

    def _abandon(self) -> None:
        if self._client is not None:
            self._client.cancel()

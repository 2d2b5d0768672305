"""A server that drains sends its clients away, and they come back to its successor."""

import json
from typing import Any

import anyio
import anyio.abc
import pytest
from gatewayproto_wsproto import ClientConnection, Closed, TextReceived, Upgraded, WsEvent

from gatewayproto import ClientConfig, Gateway, GatewayConfig
from gatewayproto.actions import ClientEvent, EventReceived, RetryScheduled
from gatewayproto.backoff import Backoff
from gatewayproto.errors import LocalProtocolError
from gatewayproto.versions import VersionRange
from tests.adapter.frameworks import FRAMEWORKS, Echo, Framework, patience, until

FAST = ClientConfig(agent_id="demo", backoff=Backoff(initial=0.01, maximum=0.02))
pytestmark = pytest.mark.parametrize("framework", FRAMEWORKS, ids=str)


def test_a_client_lives_through_a_restart(framework: Framework) -> None:
    async def main() -> None:
        adapter, codes = framework.adapter, []
        contents: list[str] = []

        def on_event(event: ClientEvent) -> None:
            if isinstance(event, RetryScheduled):
                codes.append(event.code)

        async def send(text: str) -> None:
            await client.send(text)

        async with adapter.serve(Echo(), port=0) as server:
            client = adapter.connect(server.url, config=FAST, on_event=on_event)
            async with client, anyio.create_task_group() as tasks:
                with patience():
                    await client.send("before")
                    await server.drain()
                # What is sent now waits for the successor.
                tasks.start_soon(send, "meanwhile")
                await server.close()
                gateway = Gateway.recover(
                    GatewayConfig(), server.save(), now=adapter.monotonic(), unbroken=True
                )
                async with adapter.serve(Echo(), port=server.port, gateway=gateway):
                    with patience():
                        async for item in client:
                            if isinstance(item, EventReceived):
                                contents.append(item.event.data["content"])
                            if len(contents) == 2:
                                break
                    await client.aclose()
        assert contents == ["before", "meanwhile"]
        assert codes[0] == "going_away"

    framework.run(main)


def test_who_comes_while_it_drains_is_not_listened_to(framework: Framework) -> None:
    async def main() -> None:
        async with framework.adapter.serve(Echo(), port=0) as server:
            peer = await Raw.connect(server)
            await peer.hello()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(drain, server, 30.0)
                assert (await peer.until("going_away"))["after_ms"] == 0
                with pytest.raises(OSError, match=r"."):
                    await anyio.connect_tcp(server.host, server.port)
                assert server.metrics().draining == 1
                # A second call can only make it sooner.
                await server.drain(grace=0.0)
            assert await peer.end() == 4000

    framework.run(main)


async def drain(server: Any, grace: float) -> None:
    with patience():
        await server.drain(grace=grace)


def test_who_does_not_leave_is_closed(framework: Framework) -> None:
    async def main() -> None:
        async with framework.adapter.serve(Echo(), port=0) as server:
            peer = await Raw.connect(server)
            await peer.hello()
            await drain(server, 0.05)
            assert await peer.end() == 4000
            await drain(server, 30.0)  # it is over already

    framework.run(main)


def test_who_speaks_version_1_is_closed_at_once(framework: Framework) -> None:
    async def main() -> None:
        adapter, codes = framework.adapter, []

        def on_event(event: ClientEvent) -> None:
            if isinstance(event, RetryScheduled):
                codes.append(event.code)

        old = ClientConfig(agent_id="demo", versions=VersionRange(1, 1))
        async with (
            adapter.serve(Echo(), port=0) as server,
            adapter.connect(server.url, config=old, on_event=on_event) as client,
        ):
            with patience():
                await anext(client)
            await drain(server, 30.0)
            await until(lambda: codes)
            assert codes == ["close_1012"]

    framework.run(main)


def test_to_close_ends_a_drain(framework: Framework) -> None:
    async def main() -> None:
        async with framework.adapter.serve(Echo(), port=0) as server:
            peer = await Raw.connect(server)
            await peer.hello()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(drain, server, 30.0)
                await peer.until("going_away")
                tasks.start_soon(server.close)
                assert await peer.end() == 1012

    framework.run(main)


def test_a_drain_that_cannot_be_changes_nothing(framework: Framework) -> None:
    async def main() -> None:
        adapter = framework.adapter
        async with adapter.serve(Echo(), port=0) as server:
            for fields in ({"grace": -1.0}, {"after": float("nan")}, {"reason": "x" * 2000}):
                with pytest.raises(LocalProtocolError):
                    await server.drain(**fields)
            async with adapter.connect(server.url, config=FAST) as client:
                with patience():
                    await client.send("hello")

    framework.run(main)


class Raw:
    """A client that says hello, and stays whatever it is told."""

    def __init__(self, ws: ClientConnection, stream: anyio.abc.SocketStream) -> None:
        self._ws = ws
        self._stream = stream

    @classmethod
    async def connect(cls, server: Any) -> "Raw":
        ws = ClientConnection(server.url, max_message=2**20)
        peer = cls(ws, await anyio.connect_tcp(server.host, server.port))
        await peer._flush()
        while not any(isinstance(event, Upgraded) for event in await peer._read()):
            pass
        return peer

    async def hello(self) -> None:
        self._ws.send_text(b'{"type":"hello","agent_id":"demo","protocol_min":2,"protocol_max":2}')
        await self._flush()
        await self.until("caught_up")

    async def until(self, kind: str) -> dict[str, Any]:
        """The next frame of this type; those that come with it are dropped."""
        while True:
            for event in await self._read():
                assert not isinstance(event, Closed)
                if isinstance(event, TextReceived) and json.loads(event.data)["type"] == kind:
                    frame: dict[str, Any] = json.loads(event.data)
                    return frame

    async def end(self) -> int | None:
        """The code that it is closed with."""
        while True:
            for event in await self._read():
                if isinstance(event, Closed):
                    await self._flush()
                    await self._stream.aclose()
                    return event.received_code

    async def _read(self) -> tuple[WsEvent, ...]:
        with patience():
            try:
                return self._ws.receive(await self._stream.receive())
            except anyio.EndOfStream:
                return self._ws.receive_eof()

    async def _flush(self) -> None:
        await self._stream.send(self._ws.bytes_to_send())

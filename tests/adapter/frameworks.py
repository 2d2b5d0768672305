"""Every framework that an adapter runs on, and how a test that is written once runs on each."""

import gc
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import gatewayproto_asyncio
import gatewayproto_trio
from attrs import frozen
from gatewayproto_adapter.application import Application, Grant, SessionHandle

from gatewayproto.actions import GatewayEvent, JoinRequested, MessageReceived

WAIT: Final = 10.0
"""Seconds that any wait may take before the test fails."""


@frozen
class Framework:
    """An I/O framework and the adapter for it. Tests call the adapter as its users do."""

    name: str
    adapter: Any
    backend: str
    options: dict[str, Any]

    def __str__(self) -> str:
        return self.name

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run a test's coroutine."""

        async def bounded() -> None:
            with anyio.fail_after(3 * WAIT):
                await main()

        anyio.run(bounded, backend=self.backend, backend_options=self.options)
        gc.collect()  # what was not closed says so now


FRAMEWORKS: Final = (
    Framework("asyncio", gatewayproto_asyncio, "asyncio", {}),
    Framework("uvloop", gatewayproto_asyncio, "asyncio", {"use_uvloop": True}),
    Framework("trio", gatewayproto_trio, "trio", {}),
)


@contextmanager
def patience() -> Generator[None]:
    """A bound on a wait."""
    with anyio.fail_after(WAIT):
        yield


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until `condition` holds; for what nothing tells of."""
    with patience():
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.001)


class Echo(Application):
    """Accepts everybody, remembers everything, and answers a message with its content."""

    def __init__(self) -> None:
        self.events: list[GatewayEvent] = []
        self.joins: list[JoinRequested] = []

    async def authenticate(self, join: JoinRequested) -> str | Grant | None:
        self.joins.append(join)
        return None

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        session.publish("answer", {"content": message.content}, request_id=message.request_id)

    def on_event(self, event: GatewayEvent) -> None:
        self.events.append(event)

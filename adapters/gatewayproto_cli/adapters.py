"""The adapters, as far as the command needs them: each is a module with the same names."""

import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from typing import Any, Final, Protocol

import click
from gatewayproto_adapter.application import Application

from gatewayproto import Client, ClientConfig, Event, Gateway, GatewayConfig
from gatewayproto.actions import (
    ClientEvent,
    EventReceived,
    Joined,
    MessageAccepted,
    ResumeToken,
    Skipped,
    SnapshotReceived,
)
from gatewayproto.metrics import GatewayMetrics

NAMES: Final = ("asyncio", "trio")
"""The adapters that there are, and by the same names the frameworks that `anyio` runs on."""

Item = Joined | EventReceived | Skipped | SnapshotReceived


class Server(Protocol):
    """A gateway that listens."""

    @property
    def host(self) -> str:
        """The address that it listens on."""
        ...

    @property
    def port(self) -> int:
        """The port that it listens on."""
        ...

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        ...

    def publish(self, session_id: str, event: Event) -> int | None:
        """Publish an event; None where the session is gone."""
        ...

    def save(self) -> dict[str, Any]:
        """The machine as plain JSON data."""
        ...

    def metrics(self) -> GatewayMetrics:
        """What the gateway has counted, and how it stands."""
        ...

    async def drain(
        self, *, reason: str = ..., after: float = ..., spread: float = ..., grace: float = ...
    ) -> None:
        """Send every client away, and wait until none is left."""
        ...

    async def close(self) -> None:
        """Stop, and wait until all connections are gone."""
        ...

    async def wait_closed(self) -> None:
        """Wait until it was closed."""
        ...


class ClientSession(Protocol):
    """A client that follows one session."""

    def __aiter__(self) -> AsyncIterator[Item]:
        """Iterate over what it hands on."""
        ...

    async def send(self, content: str, /) -> MessageAccepted:
        """Send a message; it is the client's before anybody else gets a turn."""
        ...

    async def aclose(self) -> None:
        """Disconnect, and wait until all is gone."""
        ...


class MakeClient(Protocol):
    """Makes a client machine."""

    def __call__(
        self, config: ClientConfig, /, *, rng: random.Random, resume: ResumeToken | None
    ) -> Client:
        """Make one that has not been given anything yet."""
        ...


class Adapter(Protocol):
    """A module of an adapter. Its own documentation says what each parameter does."""

    def serve(
        self,
        application: Application,
        *,
        host: str = ...,
        port: int = ...,
        config: GatewayConfig | None = ...,
        allow_origins: Iterable[str] = ...,
        gateway: Gateway | None = ...,
        ssl: ssl.SSLContext | None = ...,
        close_timeout: float = ...,
        unix_path: str | None = ...,
        trusted_proxies: Iterable[str] = ...,
    ) -> AbstractAsyncContextManager[Server]:
        """Make a server."""
        ...

    def connect(
        self,
        url: str,
        *,
        config: ClientConfig | None = ...,
        resume: ResumeToken | None = ...,
        on_event: Callable[[ClientEvent], object] | None = ...,
        ssl: ssl.SSLContext | None = ...,
        close_timeout: float = ...,
        rng: random.Random | None = ...,
        make_client: MakeClient = ...,
        unix_path: str | None = ...,
    ) -> AbstractAsyncContextManager[ClientSession]:
        """Make a client."""
        ...


def load(name: str) -> Adapter:
    """The adapter of this name; no other one is imported.

    Raises:
        click.ClickException: The framework that it is for is not installed.
    """
    if name == "asyncio":
        import gatewayproto_asyncio  # noqa: PLC0415 - only the one that is wanted

        return gatewayproto_asyncio
    if find_spec(name) is None:
        raise click.ClickException(
            f"the adapter needs {name}: pip install 'gatewayproto[cli,{name}]'"
        )
    import gatewayproto_trio  # noqa: PLC0415 - the same

    return gatewayproto_trio

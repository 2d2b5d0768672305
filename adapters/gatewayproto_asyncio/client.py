"""The client: a client machine on asyncio.

`async with connect(url, agent_id=…) as client:` follows one session, over as many connections as
it takes, and `async for item in client:` takes what it hands on.
"""

import asyncio
import logging
import random
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from gatewayproto_adapter.client import (
    DEFAULT_BUFFER,
    DEFAULT_BUFFER_BYTES,
    DEFAULT_CLOSE_TIMEOUT,
    BaseClientSession,
    ClientOptions,
    MakeClient,
    MessageEnd,
    client_config,
)
from gatewayproto_adapter.client_engine import Item
from gatewayproto_wsproto import WsUrl

from gatewayproto.actions import (
    ClientEvent,
    ClientStateName,
    Gap,
    MessageAccepted,
    ResumeToken,
)
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig
from gatewayproto.inputs import Abort, Connect, Disconnect, Resync, SetToken
from gatewayproto_asyncio._client_engine import Engine

_logger = logging.getLogger("gatewayproto.asyncio")


def connect(
    url: str,
    *,
    agent_id: str | None = None,
    token: str | None = None,
    resume: ResumeToken | None = None,
    config: ClientConfig | None = None,
    on_state: Callable[[ClientStateName], object] | None = None,
    on_gap: Callable[[Gap], object] | None = None,
    on_event: Callable[[ClientEvent], object] | None = None,
    get_token: Callable[[], Awaitable[str]] | None = None,
    buffer: int = DEFAULT_BUFFER,
    buffer_bytes: int = DEFAULT_BUFFER_BYTES,
    headers: Iterable[tuple[str, str]] = (),
    ssl: ssl_module.SSLContext | None = None,
    close_timeout: float = DEFAULT_CLOSE_TIMEOUT,
    rng: random.Random | None = None,
    make_client: MakeClient = Client,
    unix_path: str | None = None,
) -> "ClientSession":
    """Make a client that follows one session of a gateway, to be entered with `async with`.

    Entering returns at once; connecting, and coming back after a fault, go on behind it. Leaving
    disconnects.

    - `url`: `ws://…` or `wss://…`. `ssl`: for `wss`, in place of the default context. `headers`:
      further ones for the upgrade.
    - `agent_id`, `token`: the agent whose session to follow, and the credentials for it. They
      replace those of `config`, which sets everything else; one of both must name the agent.
    - `resume`: where to start from; None begins a new session.
    - `on_event` sees every event of the machine when it happens, which for what is handed on is
      before iterating gives it. `on_state` and `on_gap` are for those alone. They are plain
      functions and must not block. What one raises ends the client: iterating raises it, or else
      leaving the context.
    - `get_token`: asked for fresh credentials when the server wants them; what it raises is
      treated in the same way. Without it the client stops.
    - `buffer`, `buffer_bytes`: how many items, and how many bytes of them, may wait for the
      application before the socket is left unread. What one read brought may wait beside them.
      While a `send` waits for its answer, which lies behind them, it is 100,000 items or 64 MiB.
    - `close_timeout`: seconds that closing a connection may take before it is aborted.
    - `rng`: spreads the delays between attempts.
    - `make_client`: makes the machine; that of a `Recording` makes one whose inputs are recorded.
    - `unix_path`: to connect through this Unix socket; the URL still names host and path.

    Raises:
        ValueError: The URL, a header or a value is out of bounds, or no agent is named.

    Spec: The client's side.
    """
    return ClientSession(
        ClientOptions(
            url=WsUrl.parse(url),
            config=client_config(config, agent_id=agent_id, token=token),
            resume=resume,
            on_state=on_state,
            on_gap=on_gap,
            on_event=on_event,
            get_token=get_token,
            buffer=buffer,
            buffer_bytes=buffer_bytes,
            headers=tuple(headers),
            ssl=ssl,
            unix_path=unix_path,
            close_timeout=close_timeout,
            rng=rng,
            make_client=make_client,
        )
    )


class ClientSession(BaseClientSession):
    """A client that follows one session; `connect` makes it.

    Everything is called in its event loop. One task at a time may iterate; any may send.
    """

    def __init__(self, options: ClientOptions) -> None:
        super().__init__(options)
        self._engine: Engine | None = None
        self._arrival: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to connect."""
        if self._engine is not None:
            raise RuntimeError("a client is entered once")
        self._engine = Engine(self._machine, self._dialing, self._inflow, self)
        self._engine.drive(Connect())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect. Raises what a callback raised, if iterating has not."""
        await self.aclose()
        failure, self._failure = self._failure, None
        if failure is None or failure is exc:
            return
        if exc is None:
            raise failure
        _logger.error("a callback of the client failed", exc_info=failure)

    def __aiter__(self) -> Self:
        """Iterate over what the client hands on."""
        return self

    async def __anext__(self) -> Item:
        """The next item: an event, a skip, a snapshot, or `Joined` of a new session.

        `Joined` comes here only with `resumed` false: the application drops what it built from an
        earlier session, if any. Asking for an item tells that the one before is done with. Ends
        after an ordinary end, once all that was buffered has been given. Safe to cancel: nothing
        is lost.

        Raises:
            ClientStoppedError: The client stopped for an error; after all that was buffered.
            RuntimeError: Another task is iterating.
            Exception: What a callback raised.
        """
        self._begin_to_take()
        self._taking = True
        try:
            while (item := self._next_item()) is None:
                self._arrival = asyncio.get_running_loop().create_future()
                await self._arrival
            return item
        finally:
            self._taking = False
            self._arrival = None

    async def send(
        self,
        content: str | Mapping[str, Any],
        *,
        request_id: str | None = None,
        reply_to: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> MessageAccepted:
        """Send a message, now or when there is a session again; returns once it is taken.

        It is taken once, over however many connections. Without a `request_id` it gets a random
        one. Cancelling gives up the wait, not the message.

        Raises:
            MessageRefusedError: It is not in the session's inbox.
            OutcomeUnknownError: It was sent, and whether it was taken cannot be learned.
            ClientStoppedError: The client has stopped.
            LocalProtocolError: It is no JSON, or repeats the id of a message that has not come to
                its end; nothing has changed.

        Spec: Requests.
        """
        answer: asyncio.Future[MessageEnd] = asyncio.get_running_loop().create_future()

        def deliver(end: MessageEnd) -> None:
            if not answer.done():
                answer.set_result(end)

        request_id = self._send(
            deliver, content, request_id=request_id, reply_to=reply_to, metadata=metadata
        )
        try:
            return self._outcome(await answer)
        finally:
            self._forget(request_id, deliver)

    async def resync(self) -> None:
        """Ask for a snapshot; it comes among what iterating gives. Spec: Client to server."""
        self._entered().drive(Resync())

    async def abort(self, *, run_id: str | None = None, request_id: str | None = None) -> None:
        """Ask to stop that run, or whatever runs; without a session now it comes too late.

        Spec: Client to server.
        """
        self._entered().drive(Abort(run_id=run_id, request_id=request_id))

    async def set_token(self, token: str | None) -> None:
        """Use fresh credentials, now where the version can say so, else with the next handshake."""
        self._token_wanted = None
        self._entered().drive(SetToken(token))

    async def aclose(self) -> None:
        """Disconnect, in whatever state, as often as it is called; never an error.

        Waits until every connection is gone and every task has ended, `close_timeout` at the
        longest. Cancelling it aborts what is left. What is buffered can still be taken.
        """
        engine = self._engine
        if engine is None:
            return
        if not self._closing:
            self._closing = True
            engine.drive(Disconnect())
            engine.tasks.cancel()
        await engine.until_gone()

    # -- see `BaseClientSession` --------------------------------------------------------------

    def _entered(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the client is not entered yet")
        return self._engine

    def _arrived(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _start_renewal(self, get_token: Callable[[], Awaitable[str]]) -> None:
        self._entered().tasks.start(self._fetch_token(get_token), name="gatewayproto token")

    async def _fetch_token(self, get_token: Callable[[], Awaitable[str]]) -> None:
        try:
            token = await get_token()
        except asyncio.CancelledError:
            if not self._closing:
                self.fail(RuntimeError("get_token was cancelled"))
            raise
        except Exception as error:  # noqa: BLE001 - raised again where the caller is
            self.fail(error)
            return
        self._token_wanted = None
        self._entered().drive(SetToken(token))

"""The client: a client machine on asyncio.

`async with connect(url, agent_id=…) as client:` follows one session, over as many connections as
it takes, and `async for item in client:` takes what it hands on.
"""

import asyncio
import logging
import random
import ssl as ssl_module
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

from attrs import evolve
from gatewayproto_wsproto import WsUrl

from gatewayproto.actions import (
    ClientEvent,
    ClientStateName,
    EventReceived,
    Gap,
    Joined,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    ResumeToken,
    Skipped,
    SnapshotReceived,
    StateChanged,
    Stopped,
    TokenNeeded,
)
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig
from gatewayproto.inputs import (
    Abort,
    Connect,
    Disconnect,
    Resync,
    Send,
    SetToken,
    Taken,
)
from gatewayproto_asyncio._client_engine import ClientInflow, Dialing, Engine, Item
from gatewayproto_asyncio._inflow import Inflow
from gatewayproto_asyncio.errors import (
    ClientStoppedError,
    MessageRefusedError,
    OutcomeUnknownError,
)

_logger = logging.getLogger("gatewayproto.asyncio")

DEFAULT_BUFFER: Final = 1024
DEFAULT_BUFFER_BYTES: Final = 8 * 1024 * 1024
DEFAULT_CLOSE_TIMEOUT: Final = 5.0

_End = MessageAccepted | MessageRefused | OutcomeUnknown | Stopped


class MakeClient(Protocol):
    """Makes a client machine, as `Client` itself does."""

    def __call__(
        self, config: ClientConfig, /, *, rng: random.Random, resume: ResumeToken | None
    ) -> Client:
        """Make one that has not been given anything yet."""
        ...


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

    Raises:
        ValueError: The URL, a header or a value is out of bounds, or no agent is named.

    Spec: The client's side.
    """
    if config is None:
        if agent_id is None:
            raise ValueError("agent_id is needed, here or in the configuration")
        config = ClientConfig(agent_id=agent_id, token=token)
    else:
        config = evolve(
            config,
            agent_id=config.agent_id if agent_id is None else agent_id,
            token=config.token if token is None else token,
        )
    return ClientSession(
        url,
        config=config,
        resume=resume,
        on_state=on_state,
        on_gap=on_gap,
        on_event=on_event,
        get_token=get_token,
        buffer=buffer,
        buffer_bytes=buffer_bytes,
        headers=headers,
        ssl=ssl,
        close_timeout=close_timeout,
        # Delays need spreading, not secrecy.
        rng=random.Random() if rng is None else rng,  # noqa: S311
        make_client=make_client,
    )


class ClientSession:
    """A client that follows one session; `connect` makes it.

    Everything is called in its event loop. One task at a time may iterate; any may send.
    """

    def __init__(
        self,
        url: str,
        *,
        config: ClientConfig,
        resume: ResumeToken | None,
        on_state: Callable[[ClientStateName], object] | None,
        on_gap: Callable[[Gap], object] | None,
        on_event: Callable[[ClientEvent], object] | None,
        get_token: Callable[[], Awaitable[str]] | None,
        buffer: int,
        buffer_bytes: int,
        headers: Iterable[tuple[str, str]],
        ssl: ssl_module.SSLContext | None,
        close_timeout: float,
        rng: random.Random,
        make_client: MakeClient,
    ) -> None:
        self._dialing = Dialing(
            url=WsUrl.parse(url),
            headers=tuple(headers),
            ssl=ssl,
            max_message=config.max_payload,
            close_timeout=close_timeout,
        )
        self._dialing.websocket()  # a malformed header is the caller's to hear of now
        self._on_state = on_state
        self._on_gap = on_gap
        self._on_event = on_event
        self._get_token = get_token
        self._machine = make_client(config, rng=rng, resume=resume)
        self._inflow: ClientInflow = Inflow(max_items=buffer, max_bytes=buffer_bytes)
        self._engine: Engine | None = None

        self._state: ClientStateName = "disconnected"
        self._token = resume
        self._unfinished: Item | None = None  # given to the application, which is at work on it
        self._taking = False
        self._arrival: asyncio.Future[None] | None = None
        self._answers: dict[str, asyncio.Future[_End]] = {}

        self._token_wanted: TokenNeeded | None = None
        self._stopped: Stopped | None = None
        self._failure: Exception | None = None
        self._closing = False

    # -- the public side ----------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Begin to connect."""
        if self._engine is not None:
            raise RuntimeError("a client is entered once")
        self._engine = Engine(self._machine, self._dialing, self._inflow, self)
        self._entered().drive(Connect())
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

    @property
    def state(self) -> ClientStateName:
        """The client's state, as people care for it."""
        return self._state

    @property
    def resume_token(self) -> ResumeToken | None:
        """Where the application stands: the token of the newest item that iterating gave.

        Before the first one it is what the client was started with. A program that stores it
        while it works on an item stores the position behind that item.
        """
        return self._token

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
        if self._taking:
            raise RuntimeError("another task is iterating")
        self._taking = True
        try:
            self._finish()
            while self._failure is None and not self._inflow and self._stopped is None:
                self._arrival = asyncio.get_running_loop().create_future()
                await self._arrival
        finally:
            self._taking = False
            self._arrival = None
        if self._failure is not None:
            raise self._failure
        if not self._inflow:
            raise self._end_of_iteration()
        item = self._unfinished = self._inflow.take()
        self._token = item.token
        self._entered().feed()
        return item

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
        if self._stopped is not None:
            raise ClientStoppedError(self._stopped)
        if request_id is None:
            request_id = str(uuid.uuid4())
        answer: asyncio.Future[_End] = asyncio.get_running_loop().create_future()
        self._answers.setdefault(request_id, answer)
        try:
            self._entered().drive(
                Send(content=content, request_id=request_id, reply_to=reply_to, metadata=metadata)
            )
            self._entered().feed()
            end = await answer
        finally:
            if self._answers.get(request_id) is answer:
                del self._answers[request_id]
        match end:
            case MessageAccepted():
                return end
            case MessageRefused():
                refused = MessageRefusedError(end)
                if self._stopped is not None:
                    # It was never sent, and what stopped the client says why.
                    raise ClientStoppedError(self._stopped) from refused
                raise refused
            case OutcomeUnknown():
                raise OutcomeUnknownError(end)
            case Stopped():
                raise ClientStoppedError(end)

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

    # -- what the machine tells; see `Listener` -----------------------------------------------

    def tell(self, event: ClientEvent) -> None:
        """See `Listener`."""
        match event:
            case StateChanged(state=state):
                self._state = state
            case EventReceived() | Skipped() | SnapshotReceived() | Joined(resumed=False):
                self._inflow.hand_on(event)
                self._arrived()
            case MessageAccepted() | MessageRefused() | OutcomeUnknown():
                self._answer(event.request_id, event)
            case TokenNeeded():
                self._renew_token(event)
            case Stopped():
                event = self._stop(event)
            case _:
                pass
        self._call_back(event)

    def _call_back(self, event: ClientEvent) -> None:
        try:
            match event:
                case StateChanged(state=state) if self._on_state is not None:
                    self._on_state(state)
                case Gap() if self._on_gap is not None:
                    self._on_gap(event)
                case _:
                    pass
            if self._on_event is not None:
                self._on_event(event)
        except Exception as error:  # noqa: BLE001 - raised again where the caller is
            self.fail(error)

    def _answer(self, request_id: str, end: _End) -> None:
        answer = self._answers.get(request_id)
        if answer is not None and not answer.done():
            answer.set_result(end)

    def _stop(self, event: Stopped) -> Stopped:
        """Note the end; the code is that of what led to it, also where the adapter chose it."""
        wanted = self._token_wanted
        if wanted is not None and not self._closing:
            event = Stopped(code=wanted.code, message="the server wants other credentials")
        self._stopped = event
        for request_id in tuple(self._answers):
            self._answer(request_id, event)
        self._arrived()
        return event

    def fail(self, error: Exception) -> None:
        """See `Listener`; what a callback raised ends the client as well."""
        if self._failure is None:
            self._failure = error
        self._arrived()
        self._entered().drive(Disconnect())

    def _renew_token(self, needed: TokenNeeded) -> None:
        self._token_wanted = needed
        if self._get_token is None:
            self._entered().drive(Disconnect())
        else:
            self._entered().tasks.start(
                self._fetch_token(self._get_token), name="gatewayproto token"
            )

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

    # -- what iterating takes -----------------------------------------------------------------

    def _finish(self) -> None:
        """Tell the machine that the application is done with the item it was given."""
        item, self._unfinished = self._unfinished, None
        if item is None:
            return
        now = self._machine.resume_token
        # An item of a session or an epoch that is over says nothing of the present one.
        if now is not None and evolve(now, cursor=item.token.cursor) == item.token:
            self._entered().drive(Taken(item.token.cursor))

    def _end_of_iteration(self) -> Exception:
        if self._stopped is None or self._stopped.code == "disconnected":
            return StopAsyncIteration()
        return ClientStoppedError(self._stopped)

    def _arrived(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def awaits_answers(self) -> bool:
        """See `Listener`."""
        return bool(self._answers)

    def _entered(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the client is not entered yet")
        return self._engine

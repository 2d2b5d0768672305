"""Everything of a client but its transports, its tasks, its waits and its clock."""

import random
import ssl as ssl_module
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from attrs import evolve, field, frozen
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
from gatewayproto.inputs import Disconnect, Send, Taken
from gatewayproto.metrics import ClientMetrics
from gatewayproto_adapter.client_engine import BaseEngine, ClientInflow, Dialing, Item
from gatewayproto_adapter.errors import (
    ClientStoppedError,
    MessageRefusedError,
    OutcomeUnknownError,
)
from gatewayproto_adapter.inflow import Inflow

DEFAULT_BUFFER: Final = 1024
DEFAULT_BUFFER_BYTES: Final = 8 * 1024 * 1024
DEFAULT_CLOSE_TIMEOUT: Final = 5.0

MessageEnd = MessageAccepted | MessageRefused | OutcomeUnknown | Stopped
"""How a message ends for the one who sent it."""


class MakeClient(Protocol):
    """Makes a client machine, as `Client` itself does."""

    def __call__(
        self, config: ClientConfig, /, *, rng: random.Random, resume: ResumeToken | None
    ) -> Client:
        """Make one that has not been given anything yet."""
        ...


@frozen(kw_only=True)
class ClientOptions:
    """What `connect` was told; see there."""

    url: WsUrl
    config: ClientConfig
    resume: ResumeToken | None
    on_state: Callable[[ClientStateName], object] | None
    on_gap: Callable[[Gap], object] | None
    on_event: Callable[[ClientEvent], object] | None
    get_token: Callable[[], Awaitable[str]] | None
    buffer: int
    buffer_bytes: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    ssl: ssl_module.SSLContext | None
    unix_path: str | None
    close_timeout: float
    rng: random.Random | None
    make_client: MakeClient


def client_config(
    config: ClientConfig | None, *, agent_id: str | None, token: str | None
) -> ClientConfig:
    """The configuration with what `connect` was given beside it.

    Raises:
        ValueError: Neither names an agent, or a value is out of bounds.
    """
    if config is None:
        if agent_id is None:
            raise ValueError("agent_id is needed, here or in the configuration")
        return ClientConfig(agent_id=agent_id, token=token)
    return evolve(
        config,
        agent_id=config.agent_id if agent_id is None else agent_id,
        token=config.token if token is None else token,
    )


class BaseClientSession(ABC):
    """A client that follows one session; an adapter's `ClientSession` does the waiting.

    Everything is called in one thread. One task at a time may iterate; any may send.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        config = options.config
        self._dialing = Dialing(
            url=options.url,
            headers=options.headers,
            ssl=options.ssl,
            unix_path=options.unix_path,
            max_message=config.max_payload,
            close_timeout=options.close_timeout,
        )
        self._dialing.websocket()  # a malformed header is the caller's to hear of now
        # Delays need spreading, not secrecy.
        rng = random.Random() if options.rng is None else options.rng  # noqa: S311
        self._machine = options.make_client(config, rng=rng, resume=options.resume)
        self._inflow: ClientInflow = Inflow(
            max_items=options.buffer, max_bytes=options.buffer_bytes
        )

        self._state: ClientStateName = "disconnected"
        self._token = options.resume
        self._unfinished: Item | None = None  # given to the application, which is at work on it
        self._taking = False
        self._answers: dict[str, Callable[[MessageEnd], None]] = {}

        self._token_wanted: TokenNeeded | None = None
        self._stopped: Stopped | None = None
        self._failure: Exception | None = None
        self._closing = False

    # -- the public side ----------------------------------------------------------------------

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

    def metrics(self) -> ClientMetrics:
        """What the client has counted since it was made, and how it stands now."""
        return self._machine.metrics()

    # -- for the adapter ----------------------------------------------------------------------

    @abstractmethod
    def _entered(self) -> BaseEngine:
        """What drives the machine. Raises `RuntimeError` before the client is entered."""

    @abstractmethod
    def _arrived(self) -> None:
        """Wake the task that iterates: `_next_item` has something to say."""

    @abstractmethod
    def _start_renewal(self, get_token: Callable[[], Awaitable[str]]) -> None:
        """Begin to ask the application for fresh credentials."""

    def _begin_to_take(self) -> None:
        """An item is asked for: the application is done with the one before."""
        if self._taking:
            raise RuntimeError("another task is iterating")
        item, self._unfinished = self._unfinished, None
        if item is None:
            return
        now = self._machine.resume_token
        # An item of a session or an epoch that is over says nothing of the present one.
        if now is not None and evolve(now, cursor=item.token.cursor) == item.token:
            self._entered().drive(Taken(item.token.cursor))

    def _next_item(self) -> Item | None:
        """The next item, None if there is none yet; raises what ends the iteration."""
        if self._failure is not None:
            raise self._failure
        if self._inflow:
            item = self._unfinished = self._inflow.take()
            self._token = item.token
            self._entered().feed()
            return item
        if self._stopped is None:
            return None
        if self._stopped.code == "disconnected":
            raise StopAsyncIteration
        raise ClientStoppedError(self._stopped)

    def _send(
        self,
        deliver: Callable[[MessageEnd], None],
        content: str | Mapping[str, Any],
        *,
        request_id: str | None,
        reply_to: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> str:
        """Send a message; `deliver` is called with its end, until `_forget`. Returns its id."""
        if self._stopped is not None:
            raise ClientStoppedError(self._stopped)
        if request_id is None:
            request_id = str(uuid.uuid4())
        self._answers.setdefault(request_id, deliver)
        try:
            self._entered().drive(
                Send(content=content, request_id=request_id, reply_to=reply_to, metadata=metadata)
            )
            self._entered().feed()
        except BaseException:
            self._forget(request_id, deliver)
            raise
        return request_id

    def _forget(self, request_id: str, deliver: Callable[[MessageEnd], None]) -> None:
        """Nobody waits for the end of this message any more."""
        if self._answers.get(request_id) is deliver:
            del self._answers[request_id]

    def _outcome(self, end: MessageEnd) -> MessageAccepted:
        """What `send` returns, or raises."""
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

    def fail(self, error: Exception) -> None:
        """See `Listener`; what a callback raised ends the client as well."""
        if self._failure is None:
            self._failure = error
        self._arrived()
        self._entered().drive(Disconnect())

    def awaits_answers(self) -> bool:
        """See `Listener`."""
        return bool(self._answers)

    def _call_back(self, event: ClientEvent) -> None:
        options = self._options
        try:
            match event:
                case StateChanged(state=state) if options.on_state is not None:
                    options.on_state(state)
                case Gap() if options.on_gap is not None:
                    options.on_gap(event)
                case _:
                    pass
            if options.on_event is not None:
                options.on_event(event)
        except Exception as error:  # noqa: BLE001 - raised again where the caller is
            self.fail(error)

    def _answer(self, request_id: str, end: MessageEnd) -> None:
        deliver = self._answers.get(request_id)
        if deliver is not None:
            deliver(end)

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

    def _renew_token(self, needed: TokenNeeded) -> None:
        self._token_wanted = needed
        if self._options.get_token is None:
            self._entered().drive(Disconnect())
        else:
            self._start_renewal(self._options.get_token)

"""What the demonstration runs on: a gateway, a proxy, a client, and the observer of both ends."""

import json
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import anyio
from anyio.abc import TaskGroup, TaskStatus
from anyio.lowlevel import checkpoint
from attrs import frozen
from gatewayproto_adapter.application import Application
from gatewayproto_adapter.clock import monotonic
from gatewayproto_adapter.errors import ClientStoppedError

from gatewayproto import ClientConfig, Event, Gateway, GatewayConfig
from gatewayproto.actions import (
    CaughtUp,
    ClientEvent,
    EventReceived,
    GatewayEvent,
    Joined,
    Published,
    SessionOpened,
    StateChanged,
)
from gatewayproto.backoff import Backoff
from gatewayproto.gateway import SessionInfo
from gatewayproto_cli.adapters import Adapter, ClientSession, Server
from gatewayproto_cli.demo.account import Account
from gatewayproto_cli.demo.proxy import Proxy
from gatewayproto_cli.demo.story import Mark, Story

RETAIN: Final = 48
"""Durable events that the journal keeps: few, so that it can be trimmed past the client."""
CONFIG: Final = GatewayConfig(
    retain=RETAIN,
    retain_transient=256,
    retain_bytes=1024 * 1024,
    send_window=16 * 1024,
    max_lags=1000,
)
PATIENCE: Final = 30.0
"""Seconds within which whatever is waited for must happen."""
_BACKOFF: Final = Backoff(initial=0.005, maximum=0.05)


class DemoFailedError(Exception):
    """The demonstration could not go on; the message says why."""


@frozen
class Copy:
    """A copy of everything on the gateway's side: the machine, the story and its fold."""

    epoch: str
    cursor: int
    gateway: str
    story: Mark
    state: dict[str, Any]


class _Narrator(Application):
    """The gateway's application: tells the stage what the gateway tells."""

    def __init__(self, tell: Callable[[GatewayEvent], None]) -> None:
        self._tell = tell

    def on_event(self, event: GatewayEvent) -> None:
        """See `Application`."""
        self._tell(event)


class Stage:
    """Everything that takes part, entered with `async with`; the faults are played on it."""

    def __init__(self, adapter: Adapter, *, events: int, rng: random.Random) -> None:
        self.rng = rng
        self.story = Story()
        self.account = Account()
        self.remaining = events
        self.restarts = 0
        self.proxy = Proxy(self._changed)
        self.joined: Joined | None = None
        """The client's latest welcome."""
        self.replaying = False
        """Whether the client has been given some of a replay, and not all of it."""
        self.cut_in_replay = 0
        """How often it lost its connection then."""
        self.welcome_size = 0
        """Bytes that the client was sent when it joined, before any event."""
        self._adapter = adapter
        self._gateway = Gateway(CONFIG)
        self._running_server: Server | None = None
        self._client: ClientSession | None = None
        self._ended = ""
        self._session_id = ""
        self._change = anyio.Event()
        self._offered: dict[str, Event] = {}
        self._tasks: TaskGroup = anyio.create_task_group()

    # -- coming and going ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start everything, and wait until the client has joined; all of it, or nothing."""
        await self._tasks.__aenter__()
        try:
            await self._enter()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _enter(self) -> None:
        await self._tasks.start(self._serve)
        await self._tasks.start(self.proxy.run)
        self.reopen()
        await self._tasks.start(self._visit)
        await self.until(lambda: self.at_head, "the client joins")
        self.welcome_size = self.proxy.passed()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End everything."""
        self.proxy.retire()
        self.proxy.release()
        try:
            if self._client is not None:
                await self._client.aclose()
            # Nobody comes any more when the gateway closes.
            await self.proxy.stop()
            if self._running_server is not None:
                await self._running_server.close()
        finally:
            self._tasks.cancel_scope.cancel()
            # What ended the block is passed on as itself, in no group with what failed beside it.
            await self._tasks.__aexit__(None, None, None)

    async def _serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run the gateway until it is closed."""
        server = self._adapter.serve(
            _Narrator(self._watch_gateway), port=0, config=CONFIG, gateway=self._gateway
        )
        async with server as running:
            self._running_server = running
            task_status.started()
            await running.wait_closed()

    async def _visit(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run the client, and its application, which takes what it is given."""
        client = self._adapter.connect(
            f"ws://127.0.0.1:{self.proxy.port}/ws",
            config=ClientConfig(agent_id="demo", backoff=_BACKOFF),
            on_event=self._watch_client,
            rng=self.rng,
        )
        async with client as session:
            self._client = session
            task_status.started()
            self._ended = await self._read(session)
            self._changed()

    async def _read(self, session: ClientSession) -> str:
        """Take what the client is given; why there is no more."""
        try:
            async for item in session:
                self.account.note_given(item)
                self._changed()
        except ClientStoppedError as error:
            return f"the client stopped: {error.code}"
        return "the client has ended"

    @property
    def _server(self) -> Server:
        if self._running_server is None:
            raise DemoFailedError("there is no gateway")
        return self._running_server

    # -- publishing ---------------------------------------------------------------------------

    def publish(self, event: Event) -> None:
        """Publish an event, one of the number that was asked for."""
        if self.remaining < 1:
            raise DemoFailedError("the faults took more events than there are")
        self.remaining -= 1
        self._offered[event.event_id] = event
        if self._server.publish(self._session_id, event) is None:
            raise DemoFailedError("the gateway has lost the session")

    async def tell(self, count: int) -> None:
        """Let the story go on for so many events, no faster than the client takes them."""
        while count > 0:
            for _ in range(min(count, 16)):
                self.publish(self.story.next())
            count -= 16
            await self.until(lambda: self.behind <= 32, "the client keeps up")  # noqa: PLR2004

    async def turn(self) -> None:
        """Let everybody else have a turn."""
        await checkpoint()

    def reopen(self) -> None:
        """Let the client in again."""
        self.proxy.open(self._server.host, self._server.port)

    # -- restarts -----------------------------------------------------------------------------

    def copy(self) -> Copy:
        """Copy the gateway's side as it would be written to disk."""
        return Copy(
            epoch=self.session.epoch,
            cursor=self.session.cursor,
            gateway=json.dumps(self._server.save()),
            story=self.story.mark(),
            state=self.account.gateway_state(),
        )

    async def stop_gateway(self) -> None:
        """End the gateway's process, as far as there is one."""
        self.proxy.shut()
        await self._server.close()

    async def restart_gateway(self, copy: Copy, *, unbroken: bool) -> None:
        """Go on from a copy. `unbroken`: nothing was published since."""
        state = json.loads(copy.gateway)
        self._gateway = Gateway.recover(CONFIG, state, now=monotonic(), unbroken=unbroken)
        if not unbroken:
            epoch = self.session.epoch
            self.account.note_recovered(copy.epoch, epoch, copy.cursor, copy.state)
            self.story.go_back(copy.story)
        await self._tasks.start(self._serve)
        self.restarts += 1
        self.reopen()

    # -- watching -----------------------------------------------------------------------------

    @property
    def session(self) -> SessionInfo:
        """The gateway's view of the session."""
        info = self._gateway.session(self._session_id)
        if info is None:
            raise DemoFailedError("the gateway has lost the session")
        return info

    @property
    def at_head(self) -> bool:
        """Whether the application was given all there is."""
        return bool(self._session_id) and self.behind == 0

    @property
    def behind(self) -> int:
        """How many events the application is still to be given; all, if it is in another epoch."""
        session, position = self.session, self.account.position
        if position is None or position[0] != session.epoch:
            return max(1, session.cursor)
        return session.cursor - position[1]

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition.

        Raises:
            DemoFailedError: It does not come about in time, or the client has ended.
        """
        try:
            with anyio.fail_after(PATIENCE):
                while not condition():
                    if self._ended:
                        raise DemoFailedError(self._ended)
                    self._change = anyio.Event()
                    await self._change.wait()
        except TimeoutError:
            raise DemoFailedError(f"{what}: not within {PATIENCE:.0f} s") from None

    def _changed(self) -> None:
        self._change.set()

    def _watch_gateway(self, event: GatewayEvent) -> None:
        match event:
            case SessionOpened():
                if self._session_id:
                    self.account.problems.append("the client began another session")
                self._session_id = event.session_id
            case Published():
                published = self._offered.pop(event.event_id)
                self.account.note_published(self.session.epoch, event.seq, published)
            case _:
                pass
        self._changed()

    def _watch_client(self, event: ClientEvent) -> None:
        """What the client tells beside what it hands on; it decides about nothing but waiting."""
        match event:
            case Joined():
                self.joined = event
            case EventReceived(replayed=True):
                self.replaying = True
            case CaughtUp():
                self.replaying = False
            case StateChanged():
                self.cut_in_replay += self.replaying
                self.replaying = False
            case _:
                pass
        self._changed()

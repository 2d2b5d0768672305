"""One tab: a client that follows a session through faults, and writes down what it is given.

It is closed and opened again now and then, as a page that is reloaded: a new client begins from
the resume token that the one before it left.
"""

import random
import uuid
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import anyio
from attrs import define, field
from gatewayproto_adapter.errors import (
    ClientStoppedError,
    MessageRefusedError,
    OutcomeUnknownError,
)

from gatewayproto.actions import (
    ClientEvent,
    EventReceived,
    Gap,
    Joined,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    ResumeToken,
    RetryScheduled,
    Skipped,
    SnapshotReceived,
)
from gatewayproto.client import Client
from gatewayproto.frames import Object
from gatewayproto.projection import Projection
from tests.soak.record import Log, event_digest, state_digests
from tests.soak.setting import PROJECTION, client_config
from tests.soak.watched import WatchedClient

Item = Joined | EventReceived | Skipped | SnapshotReceived
_BUFFER = 64
_SLOW = 0.5
"""Seconds that an application may be busy with something else, and how often it is."""
_OFTEN = 0.003


@define(eq=False)
class Surroundings:
    """What all tabs share: the adapter, where to connect, the log, and what is counted."""

    adapter: ModuleType
    url: str
    log: Log
    watched: float
    counts: Counter[str] = field(factory=Counter)
    witnessed: Counter[str] = field(factory=Counter)


@define(eq=False)
class Tab:
    """Follows a session, from its beginning (`token` None) or from a token.

    `on_question` is told of each event that expects a reply.
    """

    number: int
    around: Surroundings
    rng: random.Random
    on_question: Callable[["Tab", str], object]
    token: ResumeToken | None = None
    over: bool = False
    joined: anyio.Event = field(factory=anyio.Event)
    reached: anyio.Event = field(factory=anyio.Event)
    _awaited: str | None = None
    _client: Any = None
    _sitting: anyio.CancelScope | None = None
    _projection: Projection = field(factory=PROJECTION)
    _ended: set[str] = field(factory=set)

    # -- following ----------------------------------------------------------------------------

    async def follow(self) -> None:
        """Follow the session until `leave`."""
        if self.token is not None:
            self._begin(self.token)
        while not self.over:
            async with self._connect() as client:
                self._client = client
                with anyio.CancelScope() as self._sitting:
                    await self._read(client)
                self._client = self._sitting = None
            self.token = client.resume_token or self.token

    def reload(self) -> None:
        """Close the client and begin another where it was."""
        if self._sitting is not None and self.token is not None:
            self.around.counts["reloads"] += 1
            self._sitting.cancel()

    def leave(self) -> None:
        """Be done."""
        self.over = True
        if self._sitting is not None:
            self._sitting.cancel()

    def _connect(self) -> Any:
        make: Any = Client
        if self.rng.random() < self.around.watched:
            make = partial(WatchedClient, report=self._report, witnessed=self.around.witnessed)
        return self.around.adapter.connect(
            self.around.url,
            config=client_config(),
            resume=self.token,
            on_event=self._hear,
            buffer=_BUFFER,
            close_timeout=2.0,
            rng=random.Random(self.rng.random()),
            make_client=make,
        )

    async def _read(self, client: Any) -> None:
        try:
            async for item in client:
                self._take(item)
                if self.rng.random() < _OFTEN:
                    await anyio.sleep(_SLOW)
        except ClientStoppedError as error:
            self._write("stopped", error.code)
            self.over = True

    # -- what it is given ---------------------------------------------------------------------

    def _write(self, kind: str, *rest: object) -> None:
        self.around.log.write(kind, self.number, *rest)

    def _report(self, text: str) -> None:
        self._write("violation", text)

    def _begin(self, token: ResumeToken) -> None:
        self.token = token
        self._write("tab", token.session_id, token.cursor)
        self.joined.set()

    def _take(self, item: Item) -> None:
        match item:
            case Joined(token=token):
                if self.token is None:
                    self._begin(token)
                else:
                    self._write("another", token.session_id)
                    self.leave()
            case EventReceived():
                self._event(item)
            case Skipped(first=first, last=last):
                self._write("skip", first, last)
            case SnapshotReceived():
                self._projection.load(item.state)
                base, runs = state_digests(item.state)
                self._write("snapshot", item.cursor, item.reason, base, runs)
                self._find(each.get("request_id") for each in item.state.get("messages", ()))
        self.token = item.token

    def _event(self, item: EventReceived) -> None:
        event = item.event
        self._projection.apply(item.seq, event)
        digest = event_digest(event)
        if event.transient:
            self._write("event", item.seq, digest)
            return
        base, runs = state_digests(self._projection.state())
        self._write("event", item.seq, digest, base, runs)
        self._find([event.request_id])
        if event.expects_reply:
            self.on_question(self, event.event_id)

    def _find(self, request_ids: Any) -> None:
        if self._awaited is not None and self._awaited in request_ids:
            self._write("done", self._awaited)
            self.reached.set()

    def _hear(self, event: ClientEvent) -> None:
        """What the machine tells, when it tells it."""
        match event:
            case MessageAccepted(request_id=request_id):
                self._end(request_id, "accepted")
            case MessageRefused(request_id=request_id, code=code):
                self._end(request_id, code)
            case OutcomeUnknown(request_id=request_id):
                self._end(request_id, "unknown")
            case Gap(expected=expected, received=received):
                self._write("gap", expected, received)
            case RetryScheduled(code=code):
                self.around.counts[f"retry {code}"] += 1
            case Joined(resync_reason=reason, resumed=resumed):
                how = "resumed" if resumed else "opened"
                self.around.counts[f"{how} {reason or 'without a resync'}"] += 1
            case _:
                pass

    def _end(self, request_id: str, how: str) -> None:
        self._ended.add(request_id)
        self._write("end", request_id, how)

    # -- what it sends ------------------------------------------------------------------------

    async def send(self, content: Object, *, reply_to: str | None = None) -> str | None:
        """Send a message; gives its id if it was accepted."""
        client, request_id = self._client, str(uuid.UUID(int=self.rng.getrandbits(128)))
        if client is None:
            return None
        self._write("sent", request_id)
        try:
            await client.send(content, request_id=request_id, reply_to=reply_to)
        except ClientStoppedError:
            # One that had stopped before takes nothing, and its machine hears nothing of it.
            if request_id not in self._ended:
                self._write("end", request_id, "not taken")
            return None
        except (MessageRefusedError, OutcomeUnknownError):
            return None
        finally:
            self._ended.discard(request_id)
        return request_id

    async def resync(self) -> None:
        """Ask for a snapshot."""
        if self._client is not None:
            await self._client.resync()

    async def until(self, request_id: str) -> None:
        """Wait for the durable event that answers a message, or for a snapshot that holds it."""
        self._awaited = request_id
        self.reached = anyio.Event()
        self._find(each.get("request_id") for each in self._projection.state()["messages"])
        await self.reached.wait()

    def stuck(self, what: str) -> None:
        """Say that something was waited for too long."""
        self._write("stuck", what)

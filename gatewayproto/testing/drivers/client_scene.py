"""One check's client, and the server that it connects to.

Spec: the architecture page, "Machines"; The client's side.
"""

from typing import Any, Final, TypeVar

from gatewayproto.actions import ClientEvent, EventReceived, Stopped
from gatewayproto.backoff import Backoff
from gatewayproto.config import ClientConfig
from gatewayproto.testing.drivers.backend import HookError
from gatewayproto.testing.drivers.check import Frame, Talker, awaiting, demand
from gatewayproto.testing.drivers.harness import Attempt, ClientHarness, DrivenClient, Item

E = TypeVar("E")

_BACKOFF: Final = Backoff(initial=0.02, maximum=0.1)
SESSION: Final = "the-session"
"""The id of the session that clients are welcomed to."""
WELCOME: Final = {
    "session_id": SESSION,
    "protocol": 2,
    "protocol_version": 2,
    "resumed": False,
    "epoch": "e",
    "cursor": 0,
    "oldest_cursor": 1,
    "sequence": 0,
}
"""The fields of an ordinary welcome, to a new session."""


def _at_none(_: ClientEvent, /) -> bool:
    return False


class ClientScene:
    """One check's client, and the server that it connects to."""

    def __init__(self, harness: ClientHarness, **settings: Any) -> None:
        self.harness = harness
        self.config = ClientConfig(agent_id="a", backoff=_BACKOFF, **settings)
        self.events: list[ClientEvent] = []
        self.raises = _at_none
        """The events at which the application's callback raises."""
        self._client: DrivenClient | None = None
        self._seen = 0
        self._talkers: list[Talker] = []

    async def start(self) -> None:
        """Start the driver."""
        self._client = await self.harness.start(self.config, self._note)

    def _note(self, event: ClientEvent) -> None:
        self.events.append(event)
        if self.raises(event):
            raise HookError("what the callback raises")

    @property
    def client(self) -> DrivenClient:
        """The driver under test."""
        assert self._client is not None
        return self._client

    async def attempt(self) -> Attempt:
        """The client's next attempt."""
        with awaiting("an attempt to connect"):
            return await self.harness.attempt()

    async def attach(self, **fields: Any) -> Talker:
        """The next attempt, upgraded and welcomed to an empty session."""
        talker = await self.accept()
        await self.welcome(talker, **fields)
        return talker

    async def accept(self) -> Talker:
        """The next attempt, upgraded."""
        talker = Talker(await (await self.attempt()).accept())
        self._talkers.append(talker)
        return talker

    async def welcome(self, talker: Talker, **fields: Any) -> Frame:
        """Take the handshake and answer it; gives the handshake."""
        hello = await talker.only("hello")
        await talker.send("hello_ok", **{**WELCOME, **fields})
        await talker.send("caught_up", cursor=fields.get("cursor", 0))
        return hello

    async def told(self, kind: type[E]) -> E:
        """The next event of a kind, after the one that was asked for last."""

        def found() -> int | None:
            for at in range(self._seen, len(self.events)):
                if isinstance(self.events[at], kind):
                    return at
            return None

        with awaiting(f"`{kind.__name__}`"):
            await self.harness.until(lambda: found() is not None)
        at = found()
        assert at is not None
        self._seen = at + 1
        event = self.events[at]
        assert isinstance(event, kind)
        return event

    async def take(self, what: str) -> Item:
        """What is handed on next."""
        with awaiting(what):
            return await self.client.take()

    async def take_event(self, seq: int) -> None:
        """What is handed on next, which is to be this event."""
        item = await self.take(f"event {seq}")
        demand(
            isinstance(item, EventReceived) and item.seq == seq, f"{item} in place of event {seq}"
        )

    async def finish(self) -> None:
        """Disconnect, and judge."""
        await self.client.disconnect()
        for talker in self._talkers:  # who reads its close answers it, and nobody has to wait
            await talker.drain()
        with awaiting("the end of the client"):
            await self.client.ended()
        self.judge()

    def judge(self) -> None:
        """What must hold once the driver has ended."""
        left = self.harness.left()
        demand(left == 0, f"{left} tasks, timers or transports are left behind")
        stops = [at for at, event in enumerate(self.events) if isinstance(event, Stopped)]
        last = len(self.events) - 1
        demand(stops == [last], f"`Stopped` was told at {stops} of {last}, not once and last")

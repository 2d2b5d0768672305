"""One check's server, its peers, and what they may demand.

Spec: the architecture page, "Machines".
"""

import json
from typing import Any, Final

from gatewayproto.config import GatewayConfig
from gatewayproto.frames import Event
from gatewayproto.inputs import Publish
from gatewayproto.testing.drivers.backend import Backend
from gatewayproto.testing.drivers.check import Frame, Talker, awaiting, demand, shown
from gatewayproto.testing.drivers.harness import End, ServerHarness
from gatewayproto.testing.drivers.watch import WatchedGateway
from gatewayproto.testing.steps import Violation

HELLO: Final = {"agent_id": "a", "protocol_min": 2, "protocol_max": 2}
"""The fields of an ordinary handshake."""


class ServerScene:
    """One check's server and its peers."""

    def __init__(self, harness: ServerHarness, **settings: Any) -> None:
        self.harness = harness
        # Without pushes: what is checked here is all that a gateway sends.
        self.gateway = WatchedGateway(GatewayConfig(push_interval=None, **settings))
        self.backend = Backend()
        self._published = 0
        self._talkers: list[Talker] = []

    async def start(self) -> None:
        """Start the driver."""
        await self.harness.start(self.gateway, self.backend)

    async def open(self, **upgrade: Any) -> tuple[Talker, int]:
        """A peer, and the number of its connection."""
        before = len(self.gateway.opened)
        with awaiting("the upgrade"):
            peer = await self.harness.open(**upgrade)
        with awaiting("`ConnectionOpened`"):
            await self.harness.until(lambda: len(self.gateway.opened) > before)
        talker = Talker(peer)
        self._talkers.append(talker)
        return talker, self.gateway.opened[-1].connection

    async def join(self, **fields: Any) -> tuple[Talker, int, Frame]:
        """A peer that has its welcome and has caught up, its connection, and the welcome."""
        talker, number = await self.open()
        welcome = await self.hello(talker, **fields)
        await talker.frame("caught_up")
        return talker, number, welcome

    async def hello(self, talker: Talker, **fields: Any) -> Frame:
        """Send a handshake; the welcome."""
        await talker.send("hello", **{**HELLO, **fields})
        return await talker.only("hello_ok")

    def event(self, session_id: str, size: int = 10) -> Publish:
        """A further event to publish, with `size` bytes of text in it."""
        self._published += 1
        return Publish(session_id=session_id, event=_event(f"e{self._published}", "x" * size))

    async def publish(self, session_id: str, *sizes: int) -> None:
        """Publish events of these sizes from outside."""
        await self.harness.publish(*(self.event(session_id, size) for size in sizes))

    async def finish(self) -> None:
        """Stop the driver: nothing may be left, and it must have driven its machine lawfully."""
        await self.harness.stop()
        for talker in self._talkers:  # who reads its close answers it, and nobody has to wait
            await talker.drain()
        with awaiting("the end of an orderly stop"):
            await self.harness.stopped()
        self.judge()

    def judge(self) -> None:
        """What must hold once the driver has ended."""
        left = self.harness.left()
        demand(left == 0, f"{left} tasks, timers or transports are left behind")
        self.gateway.check(lateness=self.harness.lateness)


def _event(event_id: str, text: str = "") -> Event:
    return Event(type="note", data={"text": text}, event_id=event_id, timestamp=0.0)


async def read_events(talker: Talker, first: int, last: int) -> None:
    """Read events that are to come in order, each once."""
    for seq in range(first, last + 1):
        frame = await talker.next(f"event {seq}")
        if isinstance(frame, End):
            raise Violation("driver", f"{shown(frame)} in place of event {seq}")
        demand(frame.get("seq") == seq, f"{frame} in place of event {seq}")


def demand_as_sent(scene: ServerScene, talker: Talker, number: int) -> None:
    """Raise unless the peer has received, byte for byte, what the machine sent it."""
    sent = scene.gateway.sent[number]
    demand(
        talker.received == sent,
        f"{len(talker.received)} frames came, and not what {len(sent)} that were sent say",
    )


def read_frame(data: bytes) -> Frame:
    """A frame's fields."""
    frame: Frame = json.loads(data)
    return frame

"""P17 where a gateway stops: who is sent away is asked once, and is gone when its time is up.

Spec: Draining.
"""

from collections import Counter
from typing import Final

from gatewayproto.actions import CloseConnection, DrainFinished, GatewayEvent
from gatewayproto.inputs import Drain, TimerExpired
from gatewayproto.testing.monitors.base import EPSILON
from gatewayproto.testing.monitors.book import Book, Connection
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.wire import WELCOMES, Frame
from gatewayproto.testing.steps import Restarted, Step

_GOING_AWAY: Final = 4000


class Draining(GatewayMonitor):
    """P17, at a gateway that drains: everybody is asked, nobody is taken, and an end is told."""

    prop = "P17"
    about = "a gateway that drains asks everybody to leave, takes nobody, and comes to its end"

    def __init__(self, witnessed: Counter[str], book: Book) -> None:
        super().__init__(witnessed, book)
        self._asked: set[int] = set()
        self._is_first = False

    def begin(self, step: Step) -> None:
        """A drain begins, or the process does."""
        self._is_first = isinstance(step.input, Drain) and self.book.drained is None
        if isinstance(step.input, Restarted):
            self._asked.clear()

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """The request to leave, once; and no welcome from then on."""
        drained = self.book.drained
        if drained is None:
            if frame["type"] == "going_away":
                self.fail(f"{connection} is sent away, and nothing drains")
            return
        if frame["type"] in WELCOMES:
            self.fail(f"{connection} is welcomed by a gateway that drains")
        if connection.stage != "live" and frame.get("code") == "going_away":
            self.saw("newcomer turned away")
            if frame.get("retry_after_seconds") != drained.command.after:
                self.fail(f"{connection} is told to come back by {frame}")
        if frame["type"] != "going_away":
            return
        if connection.number in self._asked or not self._is_first or connection.version == 1:
            self.fail(f"{connection}, version {connection.version}, is sent away by {step.input}")
        self._asked.add(connection.number)
        asked = drained.command
        expected = {
            "type": "going_away",
            "reason": asked.reason,
            "after_ms": round(asked.after * 1000),
            "spread_ms": round(asked.spread * 1000),
        }
        if frame != expected:
            self.fail(f"{connection} gets {frame}, not {expected}")
        self.saw("sent away")

    def closed(self, step: Step, connection: Connection, close: CloseConnection) -> None:
        """Who is closed for it had its time, unless it could not even be asked."""
        asked = connection.number in self._asked
        self._asked.discard(connection.number)
        if close.code != _GOING_AWAY or connection.stage != "live":
            return
        drained = self.book.drained
        over = drained is not None and step.now >= drained.ends - EPSILON
        if not over and (asked or not self._is_first or not connection.outstanding):
            self.fail(f"{connection} is closed with {close.code} before its time to leave is over")
        self.saw("closed for not leaving" if over else "too much unread to be asked")

    def told(self, step: Step, event: GatewayEvent) -> None:
        """The end, once nobody is left."""
        drained = self.book.drained
        if not isinstance(event, DrainFinished):
            return
        if drained is None or drained.finished or self.book.connections:
            self.fail(f"{event} with {len(self.book.connections)} connections, for {step.input}")
        self.saw("drain finished")

    def end(self, step: Step) -> None:
        """Everybody was asked; nobody stays beyond the end, and the end is told."""
        drained = self.book.drained
        if drained is None or step.raised is not None:
            return
        if not self.book.connections:
            if not drained.finished:
                self.fail("nobody is left, and the end is not told")
            return
        for connection in self.book.connections.values():
            if connection.number not in self._asked:
                self.fail(f"{connection}, {connection.stage}, was not asked to leave")
        if isinstance(step.input, TimerExpired) and step.now > drained.ends + EPSILON:
            self.fail(f"clients are still there at {step.now}; they had time until {drained.ends}")
        if step.deadline is None or step.deadline > drained.ends + EPSILON:
            self.fail(f"the drain ends at {drained.ends}; the deadline is {step.deadline}")

"""P9 of rates: never more than was granted, and nobody who keeps to a rate is refused.

Spec: Errors; The handshake; Recovery in band.
"""

from typing import Final

from gatewayproto.actions import (
    AbortRequested,
    AuthRequested,
    CloseConnection,
    Emit,
    GatewayEvent,
    JoinRequested,
    MessageReceived,
    SessionOpened,
    SnapshotNeeded,
    SubscriberLagged,
)
from gatewayproto.inputs import Accept, ConnectionOpened, FrameReceived, Reject
from gatewayproto.testing.monitors.base import EPSILON
from gatewayproto.testing.monitors.book import Connection
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.wire import Frame
from gatewayproto.testing.steps import Step

_RATE_LIMITED: Final = 4003
_WORK: Final = (
    AbortRequested,
    AuthRequested,
    JoinRequested,
    MessageReceived,
    SnapshotNeeded,
    SubscriberLagged,
)
"""What comes of a frame that is taken."""


class Rates(GatewayMonitor):
    """P9, at the gateway: frames, recoveries and sessions within their rates, and up to them.

    Rejections before the welcome are judged with the handshakes.
    """

    prop = "P9"
    about = "what goes over a rate is refused with the time to wait, what keeps to it never is"

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """A refusal says how long to wait, and is for a reason."""
        if frame.get("code") != "rate_limited" or frame["type"] not in {"error", "hello_error"}:
            return
        if isinstance(step.input, Reject):
            return  # in the application's own words
        waits = [connection.flood, connection.refused, self.book.turned_away]
        wait = next((each for each in waits if each is not None), None)
        said = frame.get("retry_after_seconds")
        if wait is not None and (said is None or abs(said - wait) > EPSILON):
            self.fail(f"{connection} is told to wait {said} s; there is room again in {wait} s")
        if wait is None and connection.stage == "live":
            self.fail(f"{connection} keeps to its rate and is told {frame}")
        if connection.refused is not None:
            self.saw("recovery refused")
            connection.refused = None

    def told(self, step: Step, event: GatewayEvent) -> None:
        """No more sessions than one may open."""
        match event:
            case SessionOpened() if isinstance(step.input, Accept):
                owner = self.book.sessions_of(event.principal, step.input.connection)
                if owner.take(step.now) is not None:
                    self.fail(f"{event}: one session more than its owner may open by now")
            case JoinRequested() if self.book.turned_away is not None:
                self.fail(f"{event}, though its address shakes hands too often")
            case _:
                pass

    def closed(self, step: Step, connection: Connection, close: CloseConnection) -> None:
        """Nobody who is welcomed and keeps to the rate is closed for it."""
        limited = close.code == _RATE_LIMITED and isinstance(step.input, FrameReceived)
        if limited and connection.stage == "live" and connection.flood is None:
            self.fail(f"{connection} keeps to its rate and is closed")

    def end(self, step: Step) -> None:
        """What went over its rate led to nothing but its refusal."""
        if isinstance(step.input, ConnectionOpened) and self.book.turned_away is not None:
            self.saw("too many connections from one address")
            if step.input.connection in self.book.connections:
                self.fail(f"connection {step.input.connection} comes too early, and stays")
        if not isinstance(step.input, FrameReceived) or step.raised is not None:
            return
        number, flood = step.input.connection, self.book.flooded
        connection = self.book.connections.get(number)
        if flood is not None and number == flood:
            self.saw("too many frames")
            if connection is not None:
                self.fail(f"{connection} sends more frames than it may, and stays")
            for action in step.actions:
                if isinstance(action, Emit) and isinstance(action.event, _WORK):
                    self.fail(f"connection {number} sends more than it may, and so {action.event}")
        elif connection is not None and connection.refused is not None:
            self.fail(f"{connection} recovers more often than it may, and is told nothing")

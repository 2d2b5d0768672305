"""A gateway that watches how it is driven: every input with its time, and the laws of a driver.

Spec: the architecture page, "Machines".
"""

from collections import defaultdict
from collections.abc import Iterator

from gatewayproto.actions import (
    CloseConnection,
    Emit,
    GatewayAction,
    GatewayEvent,
    Persist,
    SendFrames,
)
from gatewayproto.config import GatewayConfig
from gatewayproto.errors import LocalProtocolError
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import (
    Activity,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    FrameReceived,
    GatewayInput,
    Persisted,
    TimerExpired,
)
from gatewayproto.testing.steps import GATEWAY, Step, Violation

_IDLE_TURNS = 100
_TURNS_PER_INPUT = 20
"""How often a driver may say that time has passed when it has not: some do so in every turn."""


class WatchedGateway(Gateway):
    """Hand it to a driver in place of a `Gateway`; nothing tells it from one.

    `steps` are the calls of `handle`, in order. `check` judges them.
    """

    def __init__(self, config: GatewayConfig) -> None:
        super().__init__(config)
        self.steps: list[Step] = []
        self.emitted: list[GatewayEvent] = []
        """Every event for the application, in order."""
        self.closes: dict[int, CloseConnection] = {}
        """How the machine closed which connection."""
        self.sent: dict[int, list[bytes]] = defaultdict(list)
        """Every frame for each connection, in order."""
        self.drained: dict[int, int] = defaultdict(int)
        """Payload bytes that the driver gave back for each connection."""
        self.records: list[Persist] = []
        """Every record for the store, in order."""
        self.confirmed: dict[str, int] = {}
        """The number that the driver confirmed last, for each session."""
        self._due: dict[int, int] = defaultdict(int)

    def handle(self, input_: GatewayInput, *, now: float) -> tuple[GatewayAction, ...]:
        """Handle it, and write it down."""
        if isinstance(input_, Persisted):
            self.confirmed[input_.session_id] = input_.number
        try:
            actions = super().handle(input_, now=now)
        except LocalProtocolError as error:
            self._note(Step(now=now, who=GATEWAY, input=input_, raised=error))
            raise
        self._note(
            Step(now=now, who=GATEWAY, input=input_, actions=actions, deadline=self.next_deadline)
        )
        if isinstance(input_, Drained):
            self.drained[input_.connection] += input_.size
            self._due[input_.connection] -= input_.size
        for action in actions:
            match action:
                case SendFrames(connections=connections, frames=frames):
                    for connection in connections:
                        self.sent[connection].extend(frames)
                        self._due[connection] += sum(map(len, frames))
                case CloseConnection():
                    self.closes[action.connection] = action
                case Emit(event=event):
                    self.emitted.append(event)
                case Persist():
                    self.records.append(action)
        return actions

    def _note(self, step: Step) -> None:
        self.steps.append(step)

    @property
    def opened(self) -> list[ConnectionOpened]:
        """The connections that the driver opened, in order."""
        return [step.input for step in self.steps if isinstance(step.input, ConnectionOpened)]

    def owed(self, connection: int) -> int:
        """Payload bytes that a connection was sent and the driver has not given back."""
        return self._due[connection]

    def check(self, *, lateness: float) -> None:
        """Judge how the machine was driven so far.

        - Nothing was a mistake by the machine's word (`Drained` for more than is owed, a
          connection that was never opened, a number used twice).
        - Time never went back, and no deadline passed by more than `lateness` seconds.
        - After a connection was closed, by either side, nothing was given for it.
        - `TimerExpired` was not given again and again for nothing.

        Raises:
            Violation: One of them does not hold.
        """
        for fault in self.faults(lateness=lateness):
            raise Violation("driver", fault)

    def faults(self, *, lateness: float) -> Iterator[str]:
        """What is to be said against the driver."""
        gone: set[int] = set()
        before: Step | None = None
        others = idle = 0
        for step in self.steps:
            if step.raised is not None:
                yield f"{_named(step)} is a mistake: {step.raised}"
            if before is not None and step.now < before.now:
                yield f"{_named(step)} at {step.now}, after {before.now}: time went back"
            deadline = None if before is None else before.deadline
            if deadline is not None and step.now > deadline + lateness:
                yield f"{_named(step)} was the first after a deadline {step.now - deadline} s ago"
            if isinstance(step.input, TimerExpired):
                idle += deadline is None or step.now < deadline
            else:
                others += 1
            yield from _fencing(step, gone)
            before = step
        if idle > _IDLE_TURNS + _TURNS_PER_INPUT * others:
            yield f"TimerExpired was given {idle} times for nothing, other inputs {others} times"


def _fencing(step: Step, gone: set[int]) -> Iterator[str]:
    """What was given for a connection that had ended; takes note of those that end."""
    input_ = step.input
    if isinstance(input_, FrameReceived | Activity | Drained | ConnectionClosed):
        if input_.connection in gone:
            yield f"{_named(step)} for connection {input_.connection}, which was closed before"
        if isinstance(input_, ConnectionClosed):
            gone.add(input_.connection)
    gone |= {each.connection for each in step.actions if isinstance(each, CloseConnection)}


def _named(step: Step) -> str:
    return type(step.input).__name__

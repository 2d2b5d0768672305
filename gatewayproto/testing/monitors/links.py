"""P11 in a world: what arrives on a link is what was sent on it, whole and in order.

Spec: Framing.
"""

from collections import Counter, deque

from attrs import define, field

from gatewayproto.actions import SendFrame, SendFrames
from gatewayproto.inputs import FrameReceived
from gatewayproto.testing.monitors.base import Monitor
from gatewayproto.testing.steps import (
    GATEWAY,
    WORLD,
    FrameGarbled,
    LinkCut,
    LinkOpened,
    Restarted,
    Step,
)


@define(eq=False)
class Wire:
    """What is in flight on one link, either way."""

    up: deque[bytes] = field(factory=deque)
    down: deque[bytes] = field(factory=deque)
    cut: bool = False


class Links(Monitor):
    """P11: frames arrive whole and in order, a prefix of those that were sent."""

    prop = "P11"
    about = "what arrives on a link is, in order and whole, what was sent on it"
    needs = frozenset({"P11 frame up", "P11 frame down"})

    def __init__(self, witnessed: Counter[str]) -> None:
        super().__init__(witnessed)
        self._of_client: dict[tuple[str, int], Wire] = {}
        self._of_gateway: dict[int, Wire] = {}

    def begin(self, step: Step) -> None:
        """An arrival, or what befalls a link."""
        match step.input:
            case FrameReceived(connection=number, data=data):
                self._arrive(step, number, data)
            case LinkOpened():
                wire = Wire()
                self._of_client[step.input.client, step.input.transport] = wire
                self._of_gateway[step.input.connection] = wire
            case LinkCut(client=client, transport=transport):
                wire = self._of_client.get((client, transport), Wire())
                wire.cut = True
                wire.up.clear()
                wire.down.clear()
            case FrameGarbled():
                self._garble(step.input)
            case Restarted():
                # What its transports had not taken is lost; what they had still arrives.
                self._of_gateway.clear()
            case _:
                pass

    def end(self, step: Step) -> None:
        """What was sent is in flight."""
        for action in step.actions:
            match action:
                case SendFrames():
                    for number in action.connections:
                        wire = self._of_gateway.get(number)
                        if wire is not None and not wire.cut:
                            wire.down.extend(action.frames)
                case SendFrame():
                    wire = self._of_client.get((step.who, action.connection))
                    if wire is not None and not wire.cut:
                        wire.up.append(action.frame)
                case _:
                    pass

    def _arrive(self, step: Step, number: int, data: bytes) -> None:
        if step.who == WORLD:
            return
        up = step.who == GATEWAY
        wire = self._of_gateway.get(number) if up else self._of_client.get((step.who, number))
        if wire is None:
            return
        queue = wire.up if up else wire.down
        if not queue or queue[0] != data:
            sent = queue[0] if queue else None
            self.fail(
                f"{step.who} gets {data!r} on connection {number}; next in flight is {sent!r}"
            )
        queue.popleft()
        self.saw("frame up" if up else "frame down")

    def _garble(self, garbled: FrameGarbled) -> None:
        wire = self._of_client.get((garbled.client, garbled.transport))
        queue = None if wire is None else (wire.up if garbled.up else wire.down)
        if not queue:
            return
        first = queue.popleft()
        if garbled.how == "repeated":
            queue.extendleft((first, first))
        elif garbled.how == "swapped":
            queue.insert(1, first)

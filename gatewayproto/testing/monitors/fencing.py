"""P7: what arrives from a connection that was given up, at either end, changes nothing.

That nothing is sent on such a connection is seen by those who walk through the steps.

Spec: The handshake; The client's side.
"""

from gatewayproto.actions import CommandDropped, Emit, MessageRefused
from gatewayproto.inputs import (
    Accept,
    Activity,
    ConnectionClosed,
    Drained,
    FrameReceived,
    Reject,
    Send,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.testing.monitors.client import ClientMonitor
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.steps import WORLD, Step


class GatewayFence(GatewayMonitor):
    """P7, at the gateway: a connection that ended is a race at most."""

    prop = "P7"
    about = "what comes from a connection that was given up changes nothing"
    needs = frozenset({"P7 frame from a closed connection", "P7 bytes taken after the end"})

    def begin(self, step: Step) -> None:
        """What names a closed connection leads to nothing."""
        match step.input:
            case (
                FrameReceived(connection=number)
                | Activity(connection=number)
                | Drained(connection=number)
                | ConnectionClosed(connection=number)
                | Accept(connection=number)
                | Reject(connection=number)
            ):
                pass
            case _:
                return
        if step.who == WORLD or number in self.book.connections or step.raised is not None:
            return
        dropped = isinstance(step.input, Accept | Reject)
        for action in step.actions:
            if not (
                dropped and isinstance(action, Emit) and isinstance(action.event, CommandDropped)
            ):
                self.fail(f"connection {number} is closed; {step.input} leads to {action}")
        if step.deadline != self.book.deadline and not self.book.is_fresh:
            self.fail(
                f"connection {number} is closed; {step.input} moves the deadline from"
                f" {self.book.deadline} to {step.deadline}"
            )
        match step.input:
            case FrameReceived():
                self.saw("frame from a closed connection")
            case Drained():
                self.saw("bytes taken after the end")
            case Accept() | Reject():
                self.saw("decision after the end")
            case _:
                pass


class ClientFence(ClientMonitor):
    """P7, at a client: only the present connection counts, and none after the end."""

    prop = "P7"
    about = "what comes from a connection that was given up changes nothing"
    needs = frozenset({"P7 news of an old transport"})

    def begin(self, step: Step) -> None:
        """What names another than the present connection leads to nothing."""
        if step.raised is not None:
            return
        if self.book.stopped:
            self._check_stopped(step)
            return
        match step.input:
            case (
                FrameReceived(connection=number)
                | Activity(connection=number)
                | TransportOpened(connection=number)
                | TransportClosed(connection=number)
            ):
                pass
            case _:
                return
        link = self.book.link
        if link is not None and link.number == number:
            return
        self.saw("news of an old transport")
        if step.actions or step.deadline != self.book.deadline:
            self.fail(
                f"{self.book.name} gave up connection {number}; {step.input} leads to"
                f" {step.actions} and the deadline {step.deadline}, before {self.book.deadline}"
            )

    def _check_stopped(self, step: Step) -> None:
        refused = isinstance(step.input, Send)
        for action in step.actions:
            if not (
                refused and isinstance(action, Emit) and isinstance(action.event, MessageRefused)
            ):
                self.fail(f"{self.book.name} has stopped; {step.input} leads to {action}")
        if step.deadline is not None:
            self.fail(f"{self.book.name} has stopped and waits until {step.deadline}")

"""P13: any input in any state leads to actions or to nothing, never to an exception.

Spec: Framing; Errors.
"""

from collections import Counter

from gatewayproto.errors import ERRORS, ErrorCode, LocalProtocolError
from gatewayproto.inputs import FrameReceived
from gatewayproto.testing.monitors.base import Monitor
from gatewayproto.testing.monitors.book import Book, Connection
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.wire import REJECTIONS, Frame, read_loosely
from gatewayproto.testing.steps import Step


class Totality(Monitor):
    """P13, for one machine: it raises nothing; a caller's mistake, if allowed, changes nothing."""

    prop = "P13"
    about = "any bytes in any state: actions or a named error, never another exception"

    def __init__(self, witnessed: Counter[str], *, tolerant: bool, deadline: float | None) -> None:
        super().__init__(witnessed)
        self._tolerant = tolerant
        self._deadline = deadline

    def end(self, step: Step) -> None:
        """Nothing came out but actions."""
        error = step.raised
        if isinstance(error, LocalProtocolError) and self._tolerant:
            self.saw("caller's mistake")
            if step.actions or step.deadline != self._deadline:
                self.fail(f"{step.who} refuses {step.input} with {error!r}, and something changed")
            return
        if error is not None:
            self.fail(f"{step.who} raises {error!r} for {step.input}")
        self._deadline = step.deadline


class NamedErrors(GatewayMonitor):
    """P13, at the gateway: what is no frame is told so, by a code of the table."""

    prop = "P13"
    about = "bytes that are no frame are answered by a named error"
    needs = frozenset({"P13 error"})
    alone = frozenset({"P13 unreadable frame"})

    def __init__(self, witnessed: Counter[str], book: Book) -> None:
        super().__init__(witnessed, book)
        self._unread: Connection | None = None

    def begin(self, step: Step) -> None:
        """Whether what came is a frame at all."""
        self._unread = None
        if not isinstance(step.input, FrameReceived) or step.raised is not None:
            return
        data = step.input.data
        if read_loosely(data) is None or len(data) > self.config.max_payload:
            self._unread = self.book.connections.get(step.input.connection)

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """An error has a code that is known, and repeats nothing of what came."""
        if frame["type"] not in REJECTIONS:
            return
        if connection is self._unread:
            self._unread = None
            self.saw("unreadable frame")
        self.saw("error")
        code = frame.get("code")
        if code not in _CODES:
            self.fail(f"{connection} gets an error with the code {code!r}")
        if not isinstance(frame.get("message"), str):
            self.fail(f"{connection} gets an error without words: {frame}")

    def end(self, step: Step) -> None:
        """What is no frame was answered, or ended its connection."""
        connection = self._unread
        if connection is not None and self.book.connections.get(connection.number) is connection:
            self.fail(f"{connection} sent what is no frame and is told nothing")


_CODES = {*(code.value for code in ERRORS), "protocol_unsupported", "configuration_error"}
assert {code.value for code in ErrorCode} <= _CODES

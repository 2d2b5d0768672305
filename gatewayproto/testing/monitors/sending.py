"""P8 at a client: every message comes to one end, and is never written where it may run twice.

Spec: Requests; The client's side (messages).
"""

from collections import Counter, deque
from typing import Final

from attrs import define

from gatewayproto.actions import (
    ClientEvent,
    Joined,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    SnapshotReceived,
    Stopped,
)
from gatewayproto.inputs import FrameReceived, Send, TimerExpired
from gatewayproto.testing._shapes import SERVER
from gatewayproto.testing.monitors.base import EPSILON
from gatewayproto.testing.monitors.client import ClientBook, ClientMonitor, Transport
from gatewayproto.testing.monitors.wire import Frame
from gatewayproto.testing.reference import compact
from gatewayproto.testing.steps import Step

_OWN_REFUSALS: Final = frozenset({"payload_too_large", "inbox_full", "disconnected"})


@define
class Sent:
    """A message that has not come to its end.

    `written` is when it was first written, `size` what its frame then took, in bytes.
    """

    order: int
    written: float | None = None
    size: int = 0


class Sending(ClientMonitor):
    """P8, at a client: one end for each message, order, and nothing written twice too late.

    Message ids that the client makes are known from their first frame or their end.
    """

    prop = "P8"
    about = "every message comes to one end, in order, never again once its outcome is unknown"
    needs = frozenset(
        {
            "P8 MessageAccepted",
            "P8 MessageRefused",
            "P8 OutcomeUnknown",
            "P8 written again",
            "P8 duplicate told",
            "P8 time is up",
            "P8 lost with the session or epoch",
            "P8 unsent survives a new session or epoch",
            "P9 window of requests full",
            "P9 queue full",
        }
    )

    def __init__(self, witnessed: Counter[str], book: ClientBook) -> None:
        super().__init__(witnessed, book)
        self._open: dict[str, Sent] = {}
        self._unnamed: deque[int] = deque()
        self._count = 0
        self._on_link: dict[str, int] = {}
        self._link = 0
        self._lost: list[str] = []
        self._late: list[str] = []
        self._ended: set[str] = set()
        self._held_on = 0

    # -- inputs -------------------------------------------------------------------------------

    def begin(self, step: Step) -> None:
        """A message is given; or the time of some is up."""
        self._lost.clear()
        self._late.clear()
        self._ended.clear()
        self._heed_going_away()
        match step.input:
            case Send(request_id=request_id) if step.raised is None:
                self._count += 1
                if request_id is None:
                    self._unnamed.append(self._count)
                else:
                    self._open[request_id] = Sent(self._count)
            case TimerExpired():
                self._late = [
                    request_id
                    for request_id, sent in self._open.items()
                    if sent.written is not None
                    and step.now >= sent.written + self.book.request_ttl + EPSILON
                ]
            case _:
                pass

    def _heed_going_away(self) -> None:
        """From here on nothing is written on this connection."""
        frame, link = self.book.incoming, self.book.link
        if frame is None or link is None or frame["type"] != "going_away":
            return
        if link.live and link.version != 1 and SERVER["going_away"](frame):
            self._held_on = link.number
            if self._open:
                self.saw("held")

    def _named(self, request_id: str, *, newest: bool = False) -> Sent:
        """The message of this id; one that the client named itself is met here first."""
        sent = self._open.get(request_id)
        if sent is None:
            if not self._unnamed:
                self.fail(f"request {request_id} has ended already, or was never given")
            order = self._unnamed.pop() if newest else self._unnamed.popleft()
            sent = self._open[request_id] = Sent(order)
        return sent

    # -- writing ------------------------------------------------------------------------------

    def wrote(self, step: Step, link: Transport, frame: Frame) -> None:
        """A message is written, for the first time or again."""
        if frame["type"] == "join":
            self._on_link.clear()
        if frame["type"] != "message":
            return
        if not link.live:
            self.fail(f"a message is written on connection {link.number} before the welcome")
        if link.number == self._held_on:
            self.fail(f"a message is written on connection {link.number}, which is to be left")
        if link.number != self._link:
            self._link = link.number
            self._on_link.clear()
        request_id = frame.get("request_id")
        if not isinstance(request_id, str):
            self.fail(f"a message is written without a request_id: {frame}")
        sent = self._named(request_id)
        self._check_order(request_id, sent)
        if sent.written is None:
            sent.written, sent.size = step.now, len(compact(frame))
        else:
            self.saw("written again")
        if step.now >= sent.written + self.book.request_ttl + EPSILON:
            self.fail(f"request {request_id}, first written at {sent.written}, is written again")
        self._on_link[request_id] = sent.order
        self._check_bounds(request_id, sent)

    def _check_order(self, request_id: str, sent: Sent) -> None:
        if request_id in self._on_link:
            self.fail(f"request {request_id} is written twice on one connection")
        if any(order > sent.order for order in self._on_link.values()):
            self.fail(f"request {request_id} is written after a newer one")
        older = [
            other
            for other, each in self._open.items()
            if each.written is not None and each.order < sent.order and other not in self._on_link
        ]
        if older:
            self.fail(f"request {request_id} is written before {older}, which is older")

    def _check_bounds(self, request_id: str, sent: Sent) -> None:
        waiting = [other for other in self._on_link if other in self._open]
        if len(waiting) > self.book.max_pending:
            self.fail(f"{len(waiting)} requests wait for their answers: {waiting}", "P9")
        if len(waiting) == self.book.max_pending:
            self.witnessed["P9 window of requests full"] += 1
        if sent.size > self.book.max_payload:
            self.fail(f"request {request_id} is larger than the server takes", "P9")

    # -- ends ---------------------------------------------------------------------------------

    def told(self, step: Step, event: ClientEvent) -> None:
        """An end, or what makes the outcome of others unknown."""
        match event:
            case MessageAccepted():
                self._answered(event.request_id, {"message_ack", "response"})
                if event.duplicate:
                    self.saw("duplicate told")
            case MessageRefused():
                self._refused(step, event)
            case OutcomeUnknown():
                self._unknown(step, event.request_id)
            case Joined() if not event.resumed or event.resync_reason == "epoch_changed":
                self._lose()
            case SnapshotReceived():
                if self.book.link is not None and self.book.link.epoch != event.epoch:
                    self._lose()
            case Stopped():
                self._stop()
            case _:
                return
        if isinstance(event, MessageAccepted | MessageRefused | OutcomeUnknown):
            self.saw(type(event).__name__)
            self._end(event.request_id)

    def _lose(self) -> None:
        """The server may remember nothing of what was written."""
        self._lost = [name for name, sent in self._open.items() if sent.written is not None]
        if self._lost:
            self.saw("lost with the session or epoch")
        if len(self._lost) < len(self._open):
            self.saw("unsent survives a new session or epoch")

    def _answered(self, request_id: str, kinds: set[str]) -> None:
        frame = self.book.incoming
        if frame is None or frame["type"] not in kinds or frame.get("request_id") != request_id:
            self.fail(f"request {request_id} is answered by {frame}")
        if self._named(request_id).written is None:
            self.fail(f"request {request_id} was never written and is answered")

    def _refused(self, step: Step, event: MessageRefused) -> None:
        sent = self._named(event.request_id, newest=isinstance(step.input, Send))
        if isinstance(step.input, FrameReceived) and sent.written is not None:
            self._answered(event.request_id, {"message_nack", "error"})
            return
        if event.code not in _OWN_REFUSALS or sent.written is not None:
            self.fail(f"{event} by the client itself; first written {sent.written}")
        if event.code == "inbox_full":
            waiting = len(self._open) + len(self._unnamed) - 1
            if waiting < self.config.max_queued:
                self.fail(f"{event}, and {waiting} messages wait", "P9")
            self.witnessed["P9 queue full"] += 1

    def _unknown(self, step: Step, request_id: str) -> None:
        sent = self._named(request_id)
        if sent.written is None:
            self.fail(f"request {request_id} was never written; its outcome is known")
        late = step.now >= sent.written + self.book.request_ttl - EPSILON
        if late:
            self.saw("time is up")
        too_large = sent.size > self.book.max_payload
        if not (late or too_large or request_id in self._lost or self._is_end(step)):
            self.fail(f"the outcome of request {request_id} is given up without a reason")

    def _is_end(self, step: Step) -> bool:
        return any(isinstance(getattr(each, "event", None), Stopped) for each in step.actions)

    def _end(self, request_id: str) -> None:
        del self._open[request_id]
        self._on_link.pop(request_id, None)
        self._ended.add(request_id)

    def _stop(self) -> None:
        if self._open or self._unnamed:
            self.fail(f"the client stops and {sorted(self._open)} have not come to their end")

    def end(self, step: Step) -> None:
        """What had to end has ended."""
        for request_id in self._lost:
            if request_id in self._open:
                self.fail(f"request {request_id} went to a session or epoch that is gone")
        for request_id in self._late:
            if request_id in self._open:
                self.fail(f"the time of request {request_id} is up, and it goes on waiting")
        self._check_heeded()
        if len(self._open) + len(self._unnamed) > self.config.max_queued:
            self.fail(f"{len(self._open)} messages wait", "P9")

    def _check_heeded(self) -> None:
        """An acknowledgement is the end of what was written."""
        frame, link = self.book.incoming, self.book.link
        if frame is None or frame["type"] != "message_ack" or link is None or not link.live:
            return
        if link.version == 1:
            return  # which does not know it
        sent = self._open.get(str(frame.get("request_id")))
        if sent is None or sent.written is None or not isinstance(frame.get("duplicate"), bool):
            return
        self.fail(f"request {frame['request_id']} is acknowledged and goes on waiting")

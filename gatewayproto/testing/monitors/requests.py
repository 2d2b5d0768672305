"""P8 at the gateway: one id enters the inbox at most once, and every copy is answered truly.

Spec: Requests.
"""

import json
from collections import Counter
from typing import Final

from attrs import define, field

from gatewayproto.actions import CloseConnection, GatewayEvent, MessageReceived, SessionExpired
from gatewayproto.inputs import Complete, FrameReceived, Publish
from gatewayproto.testing._shapes import REQUEST_ID
from gatewayproto.testing.monitors.ahead import LateMessage
from gatewayproto.testing.monitors.base import EPSILON
from gatewayproto.testing.monitors.book import Book, Connection
from gatewayproto.testing.monitors.gateway import GatewayMonitor
from gatewayproto.testing.monitors.wire import Frame, has_huge, is_off, read_loosely
from gatewayproto.testing.steps import Restarted, Saved, Step

_QUESTIONS: Final = 1000
_IDS_PER_MESSAGE: Final = 10


@define
class Seen:
    """A request id: what came with it, and when it was last seen."""

    content: str
    at: float


@define(eq=False)
class Inbox:
    """What a session's inbox must remember. `questions` tells of each whether it was answered."""

    seen: dict[str, Seen] = field(factory=dict)
    pending: set[int] = field(factory=set)
    questions: dict[str, bool] = field(factory=dict)

    def copy(self, later: float = 0.0) -> "Inbox":
        """As it is now, on a clock that is so many seconds later."""
        seen = {name: Seen(each.content, each.at + later) for name, each in self.seen.items()}
        return Inbox(seen, set(self.pending), dict(self.questions))

    def forget(self, until: float) -> None:
        """Forget the ids that were last seen until then."""
        self.seen = {name: each for name, each in self.seen.items() if each.at > until}

    def ask(self, event_id: str) -> None:
        """A question was published; of too many, an answered one is forgotten, or the oldest."""
        self.questions.setdefault(event_id, False)
        if len(self.questions) > _QUESTIONS:
            answered = [each for each, done in self.questions.items() if done]
            del self.questions[answered[0] if answered else next(iter(self.questions))]


class Requests(GatewayMonitor):
    """P8, at the gateway: the answer to a message and what enters the inbox, case by case."""

    prop = "P8"
    about = (
        "one request enters the inbox at most once within its window, and every copy is answered"
    )
    needs = frozenset(
        {
            "P8 accepted",
            "P8 duplicate",
            "P8 duplicate after a restart",
            "P8 request_conflict",
            "P8 inbox_full",
            "P8 already_answered",
            "P8 ack to version 1",
        }
    )
    alone = frozenset({"P8 forgotten"})

    def __init__(self, witnessed: Counter[str], book: Book) -> None:
        super().__init__(witnessed, book)
        self._inboxes: dict[str, Inbox] = {}
        self._saved: dict[str, Inbox] = {}
        self._restarted: set[str] = set()
        self._message: Frame | None = None
        self._connection: Connection | None = None
        self._due: frozenset[str] = frozenset()
        self._received: list[MessageReceived] = []
        self._answers: list[str] = []
        self._closed = False

    # -- inputs -------------------------------------------------------------------------------

    def begin(self, step: Step) -> None:
        """What a message must be told."""
        self._message, self._connection, self._due = None, None, frozenset()
        self._received.clear()
        self._answers.clear()
        self._closed = False
        match step.input:
            case FrameReceived(connection=number, data=data):
                connection = self.book.connections.get(number)
                if connection is None or connection.flood is not None:
                    return
                if connection.session is not None:
                    self._read(connection, data, step.now)
            case LateMessage(connection=sender, data=data):
                self._read(sender, data, step.now)
                self._closed = True
            case Complete(session_id=session_id, message_id=message_id) if step.raised is None:
                self._inbox(session_id).pending.discard(message_id)
            case Publish(session_id=session_id, event=event) if step.raised is None:
                if event.expects_reply and session_id in self.book.sessions:
                    self._inbox(session_id).ask(event.event_id)
            case Saved():
                self._saved = {name: inbox.copy() for name, inbox in self._inboxes.items()}
            case Restarted(kind="copy"):
                later = step.now - self.book.saved_at
                self._inboxes = {name: inbox.copy(later) for name, inbox in self._saved.items()}
                self._note_restart()
            case Restarted(kind="nothing"):
                self._inboxes = {}
            case Restarted():
                self._note_restart()
            case _:
                pass

    def _note_restart(self) -> None:
        self._restarted = {name for inbox in self._inboxes.values() for name in inbox.seen}

    def _inbox(self, session_id: str) -> Inbox:
        return self._inboxes.setdefault(session_id, Inbox())

    def _read(self, connection: Connection, data: bytes, now: float) -> None:
        frame = read_loosely(data)
        if frame is None or frame["type"] != "message" or len(data) > self.config.max_payload:
            return
        is_request = REQUEST_ID(frame.get("request_id", "r"))  # looked at before everything else
        if is_request and (is_off(frame) or has_huge(frame)):
            return  # malformed
        assert connection.session is not None
        self._message, self._connection = frame, connection
        if not is_request:
            self._due = frozenset({"invalid_request"})
            return
        inbox = self._inbox(connection.session.session_id)
        is_closed = connection.session.closed_at is not None
        self._due = self._judge(inbox, frame, now, is_closed=is_closed)

    def _judge(self, inbox: Inbox, frame: Frame, now: float, *, is_closed: bool) -> frozenset[str]:
        """What is due: `accepted`, `duplicate`, or the codes of a refusal."""
        request_id, memory = frame.get("request_id"), 2 * self.config.request_ttl
        due: set[str] = set()
        if request_id is not None:
            known = inbox.seen.get(request_id)
            if known is not None and now < known.at + memory + EPSILON:
                same = known.content == _content(frame)
                due.add("duplicate" if same else "request_conflict")
                if now < known.at + memory - EPSILON:
                    return frozenset(due)
            elif known is not None:
                self.saw("forgotten")
        new = {"session_closed"} if is_closed else self._judge_new(inbox, frame, now)
        return frozenset(due | new)

    def _judge_new(self, inbox: Inbox, frame: Frame, now: float) -> set[str]:
        reply_to = frame.get("reply_to")
        if reply_to is not None and reply_to not in inbox.questions:
            return {"invalid_request"}
        if reply_to is not None and inbox.questions[reply_to]:
            return {"already_answered"}
        limit, memory = self.config.max_pending_requests, 2 * self.config.request_ttl
        if len(inbox.pending) >= limit:
            return {"inbox_full"}
        if "request_id" not in frame:
            return {"accepted"}
        inbox.forget(now - memory - EPSILON)
        surely = sum(now < each.at + memory - EPSILON for each in inbox.seen.values())
        perhaps = sum(now < each.at + memory + EPSILON for each in inbox.seen.values())
        full = _IDS_PER_MESSAGE * limit
        if surely >= full:
            return {"inbox_full"}
        return {"accepted", "inbox_full"} if perhaps >= full else {"accepted"}

    # -- actions ------------------------------------------------------------------------------

    def told(self, step: Step, event: GatewayEvent) -> None:
        """A message entered an inbox."""
        match event:
            case MessageReceived():
                self._received.append(event)
            case SessionExpired(session_id=session_id):
                self._inboxes.pop(session_id, None)
            case _:
                pass

    def sent(self, step: Step, connection: Connection, frame: Frame, data: bytes) -> None:
        """An answer to a message."""
        kind, request_id = frame["type"], frame.get("request_id")
        answer: str | None = None
        match kind:
            case "message_ack":
                answer = "duplicate" if frame.get("duplicate") else "accepted"
            case "response":
                answer = frame.get("status")
                self.saw("ack to version 1")
            case "message_nack":
                answer = frame.get("code")
            case "error" if self._message is not None and connection.version == 1:
                answer = frame.get("code")
            case _:
                return
        if self._message is None or connection is not self._connection:
            if kind != "error":
                self.fail(f"{connection} gets {frame} for nothing that it sent")
            return
        wanted = self._message.get("request_id")
        if self._due == {"invalid_request"} and not REQUEST_ID(wanted):
            wanted = None
        if request_id != wanted:
            self.fail(f"{connection} gets {frame} in answer to request {wanted}")
        self._answers.append(str(answer))

    def closed(self, step: Step, connection: Connection, close: CloseConnection) -> None:
        """Who is closed need not be answered."""
        self._closed = self._closed or connection is self._connection

    def end(self, step: Step) -> None:
        """The answer and the inbox are what was due."""
        if step.raised is not None:
            return
        message, connection = self._message, self._connection
        if message is None or connection is None:
            if self._received:
                self.fail(f"{self._received[0]} enters the inbox, and nobody sent it")
            return
        request_id = message.get("request_id")
        outcome = self._outcome(message)
        where = f"request {request_id} on {connection}"
        if outcome not in self._due:
            self.fail(f"{where} is {outcome}; due is {sorted(self._due)}: {message}")
        named = request_id is not None or outcome not in {"accepted", "duplicate"}
        if [outcome] * named != self._answers and not (self._closed and not self._answers):
            self.fail(f"{where} is {outcome} and answered with {self._answers}")
        self._note(step, message, outcome)

    def _outcome(self, message: Frame) -> str:
        """What became of a message, by the inbox first and its answer second."""
        if not self._received:
            if self._answers:
                return self._answers[0]
            return next(iter(self._due)) if self._closed else "not answered"
        if len(self._received) > 1:
            self.fail(f"one message enters the inbox {len(self._received)} times")
        received, connection = self._received[0], self._connection
        assert connection is not None
        said = (received.content, received.request_id, received.reply_to, received.metadata)
        names = ("content", "request_id", "reply_to", "metadata")
        session = connection.session
        wrong = session is None or received.session_id != session.session_id
        if (wrong or said != tuple(map(message.get, names))) and not self._closed:
            self.fail(f"{received} enters the inbox for {message}")
        return "accepted"

    def _note(self, step: Step, message: Frame, outcome: str) -> None:
        self.saw(outcome)
        inbox = self._inbox_of_step()
        request_id = message.get("request_id")
        if inbox is None:
            return
        if self._received:
            received = self._received[0]
            if received.message_id in inbox.pending:
                self.fail(f"message id {received.message_id} is given twice")
            inbox.pending.add(received.message_id)
            if message.get("reply_to") is not None:
                inbox.questions[message["reply_to"]] = True
        if request_id is None or not REQUEST_ID(request_id):
            return
        if outcome == "accepted":
            inbox.seen[request_id] = Seen(_content(message), step.now)
        elif outcome in {"duplicate", "request_conflict"}:
            inbox.seen[request_id].at = step.now
            if request_id in self._restarted:
                self.saw(f"{outcome} after a restart")

    def _inbox_of_step(self) -> Inbox | None:
        if self._received:
            return self._inbox(self._received[0].session_id)
        if self._connection is None or self._connection.session is None:
            return None
        return self._inbox(self._connection.session.session_id)


def _content(frame: Frame) -> str:
    """What two copies of a request have in common."""
    return json.dumps([frame["content"], frame.get("reply_to")], sort_keys=True)

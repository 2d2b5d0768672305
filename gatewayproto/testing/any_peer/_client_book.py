"""What is known of a client from outside, and what its next actions must therefore be.

The book follows a client by its inputs and the rules of the specification alone. For every step it
notes what must be told, sent, opened and closed, and compares that with what was. The acts that
several rules share are here; the rules for frames are in `_client_frames`, those for everything
else in `_client_reference`.

Spec: The client's side.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from gatewayproto.actions import (
    ClientEvent,
    CloseTransport,
    Emit,
    Gap,
    MessageRefused,
    OpenTransport,
    OutcomeUnknown,
    ResumeToken,
    RetryScheduled,
    SendFrame,
    StateChanged,
    Stopped,
    TokenNeeded,
)
from gatewayproto.config import ClientConfig
from gatewayproto.inputs import TransportClosed
from gatewayproto.testing.any_peer._client_known import (
    ANY,
    ATTACHED,
    CLOSE_OF,
    CLOSES,
    EPSILON,
    FINAL_CLOSES,
    LINK_DEADLINES,
    PROPERTY_OF,
    Ending,
    Frame,
    Link,
    Owed,
    floor_of,
)
from gatewayproto.testing.steps import Step, Violation


class Book:
    """The state of a client as its inputs make it, and what the present step must come to."""

    def __init__(self, config: ClientConfig, resume: ResumeToken | None) -> None:
        self.config = config
        self.phase = "idle"
        self.name: str | None = None
        self.position = resume
        self.hole: ResumeToken | None = None
        self.taken = 0 if resume is None else resume.cursor
        self.token = config.token
        self.opened = 0
        self.attempt = 0
        self.wants_snapshot = False
        self.not_before = (0.0, 0.0)
        self.link: Link | None = None
        self.outbox: list[Owed] = []
        self.deadlines: dict[str, tuple[float, int]] = {}
        self.max_payload = config.server_max_payload
        self.heartbeat = config.heartbeat
        self.ttl = config.request_ttl
        self.window = config.max_pending_requests
        self.witnessed: set[str] = set()
        self._age = 0
        self.now = 0.0
        self.next_id = ""
        self.changes_nothing = False
        self.mistake: str | None = None
        self._told: list[ClientEvent] = []
        self._sent: list[Frame] = []
        self._opens: list[OpenTransport] = []
        self._closes: list[CloseTransport] = []
        self._delay = (0.0, 0.0)

    # -- what the step must come to -----------------------------------------------------------

    def begin(self, now: float, next_id: str) -> None:
        """Begin a step; `next_id` is what the machine would draw next."""
        self.now, self.next_id = now, next_id
        self.changes_nothing, self.mistake = False, None
        self._told, self._sent, self._opens, self._closes = [], [], [], []

    def tell(self, event: ClientEvent) -> None:
        """The application must be told."""
        self._told.append(event)

    def send(self, type_: str, **fields: Any) -> None:
        """A frame must be sent."""
        present = {name: value for name, value in fields.items() if value is not None}
        self._sent.append({"type": type_, **present})

    def close(self, code: int) -> None:
        """The transport must be closed."""
        self._closes.append(CloseTransport(connection=self.linked.number, code=code, reason=ANY))

    @property
    def linked(self) -> Link:
        """The connection, where there is one."""
        assert self.link is not None
        return self.link

    @property
    def held(self) -> ResumeToken:
        """The position, where there is one."""
        assert self.position is not None
        return self.position

    @property
    def cursor(self) -> int:
        """Everything up to here is accounted for; 0 without a position."""
        return 0 if self.position is None else self.position.cursor

    @property
    def is_behind(self) -> bool:
        """Whether the application has yet to take something."""
        return self.taken < self.cursor

    def compare(self, step: Step, issued: Sequence[str]) -> None:
        """Hold the step's actions against what they must be. Raises `Violation`.

        `issued` are the ids that the machine drew in it: a nonce must be one of these, so that
        it was never seen before.
        """
        told: list[Any] = [action.event for action in step.actions if isinstance(action, Emit)]
        self._compare_told(told)
        sends = [action for action in step.actions if isinstance(action, SendFrame)]
        self._compare_sent([json.loads(action.frame) for action in sends], issued)
        opens = [action for action in step.actions if isinstance(action, OpenTransport)]
        if opens != self._opens:
            raise Violation("P15", f"opens {opens} where it must open {self._opens}")
        closes = [action for action in step.actions if isinstance(action, CloseTransport)]
        if closes != self._closes:
            raise Violation(
                _closing([*closes, *self._closes]), f"closes {closes}, must close {self._closes}"
            )
        self._compare_order(step)
        due = self.next_deadline
        same = due == step.deadline or (
            due is not None and step.deadline is not None and abs(due - step.deadline) < EPSILON
        )
        if not same:
            waits = ", ".join(f"{name} at {at}" for name, (at, _) in self.deadlines.items())
            raise Violation("P10", f"waits until {step.deadline}, not {due} (of: {waits})")

    def _compare_told(self, told: list[ClientEvent]) -> None:
        left = list(told)
        for event in self._told:
            if event in left:
                left.remove(event)
            else:
                prop = PROPERTY_OF.get(type(event), "P15")
                raise Violation(prop, f"must tell {event}, tells {told or 'nothing'}")
        if left:
            prop = PROPERTY_OF.get(type(left[0]), "P15")
            raise Violation(prop, f"tells {left[0]}; {_expected(self._told)}")
        for event in told:
            if isinstance(event, RetryScheduled):
                self._check_delay(event.delay)
            self.witnessed.add(f"told {type(event).__name__}")

    def _check_delay(self, delay: float) -> None:
        least, most = self._delay
        if not least <= delay <= most:
            raise Violation("P15", f"waits {delay} s for its next try, not {least} to {most}")
        self.arm("retry", self.now + delay)

    def _compare_sent(self, sent: list[Frame], issued: Sequence[str]) -> None:
        for frame in sent:
            self.witnessed.add(f"sent {frame['type']}")
            if frame["type"] in {"resume", "resync", "ping"}:
                if frame.get("nonce") not in issued:
                    raise Violation("P7", f"the nonce of {frame} is not fresh")
                if frame["type"] != "ping" and self.link is not None:
                    self.link.nonce = frame["nonce"]
        messages = [frame for frame in sent if frame["type"] == "message"]
        expected = [frame for frame in self._sent if frame["type"] == "message"]
        if messages != expected:
            raise Violation("P8", f"writes the messages {messages}, must write {expected}")
        left = list(sent)
        for frame in self._sent:
            if frame not in left:
                raise Violation("P6", f"must send {frame}, sends {sent or 'nothing'}")
            left.remove(frame)
        if left:
            raise Violation("P6", f"sends {left[0]}; {_expected(self._sent)}")

    def _compare_order(self, step: Step) -> None:
        """Nothing is sent on a connection that is not open, and nothing is told after the end."""
        closed: set[int] = set()
        for position, action in enumerate(step.actions, start=1):
            match action:
                case SendFrame(connection=number) if number in closed:
                    raise Violation("P7", f"sends on connection {number} after closing it")
                case SendFrame(connection=number) if number != self.opened:
                    raise Violation("P7", f"sends on connection {number}, not {self.opened}")
                case CloseTransport(connection=number):
                    closed.add(number)
                case Emit(event=Stopped()) if position < len(step.actions):
                    raise Violation("P15", "goes on after it told that it stopped")
                case _:
                    pass

    # -- deadlines ----------------------------------------------------------------------------

    @property
    def next_deadline(self) -> float | None:
        """When the next of them is due."""
        return min((at for at, _ in self.deadlines.values()), default=None)

    def arm(self, name: str, at: float) -> None:
        """Set a deadline, never at or before now."""
        at = max(at, math.nextafter(self.now, math.inf))
        if name in self.deadlines and self.deadlines[name][0] == at:
            return
        self._age += 1
        self.deadlines[name] = (at, self._age)

    def disarm(self, *names: str) -> None:
        """Forget deadlines."""
        for name in names:
            self.deadlines.pop(name, None)

    # -- connections --------------------------------------------------------------------------

    def rename(self, name: Any) -> None:
        """The state as people care for it; told when it changes."""
        if self.name != name:
            self.name = name
            self.tell(StateChanged(name))

    def open(self) -> None:
        """Ask for the next transport."""
        self.opened += 1
        self.link = Link(self.opened, self.now)
        self.phase = "connecting"
        self.arm("handshake", self.now + self.config.handshake_timeout)
        self._opens.append(OpenTransport(connection=self.opened, token=self.token))

    def give_up(self, code: str, close_code: int = 1000) -> None:
        """End the connection from this side, and come back."""
        self.close(close_code)
        self.end(Ending("retry", code))

    def end_bad(self, *, too_large: bool = False) -> None:
        """End the connection for a bad frame."""
        if too_large:
            self.give_up("payload_too_large", 1009)
        else:
            self.give_up("malformed_frame", 1002)

    def _is_untried(self, link: Link) -> bool:
        """Whether there is a token that the server cannot have judged when it closed."""
        grace = min(self.heartbeat, self.config.handshake_timeout)
        return link.new_token and (link.presented is None or self.now < link.presented + grace)

    def end(self, ending: Ending) -> None:
        """The connection is over; go on as its ending says."""
        link = self.linked
        self.link = None
        for message in self.outbox:
            message.in_flight = False
        self.disarm(*LINK_DEADLINES)
        low, high = link.leaving or (0.0, 0.0)
        floor = max(ending.floor, link.floor)
        floors = (max(floor, low), max(floor, high))
        if ending.next == "stop":
            self.stop(ending.code or "closed", ending.message)
        elif ending.next == "token" and not self._is_untried(link):
            self.phase = "token needed"
            self.not_before = (self.now + floors[0], self.now + floors[1])
            self.rename("reconnecting")
            self.tell(TokenNeeded(code=ending.code or "auth_expired"))
        else:
            left = None if link.leaving is None else "going_away"
            self.retry(ending.code or left, ending.message, floors)

    def retry(self, code: str | None, message: str, floors: tuple[float, float]) -> None:
        """Come back after a delay, unless there were too many attempts in a row."""
        limit = self.config.max_attempts
        if limit is not None and self.attempt >= limit:
            self.stop(code or "max_attempts", ANY if message == "" else message)
            return
        self.attempt += 1
        backoff = self.config.backoff
        most = min(backoff.maximum, backoff.initial * backoff.multiplier ** (self.attempt - 1))
        least = most * (1 - backoff.jitter)
        self.wait((max(least, floors[0]), max(most, floors[1])), code)

    def wait(self, delay: tuple[float, float], code: str | None) -> None:
        """Wait so many seconds, at least and at most."""
        self.phase = "waiting"
        self._delay = delay
        self.rename("reconnecting")
        self.tell(RetryScheduled(delay=ANY, attempt=self.attempt, code=code))

    def stop(self, code: str, message: str) -> None:
        """The end: of every message, too."""
        self.link = None
        self.deadlines.clear()
        for message_ in self.outbox:
            self.end_message(message_, "disconnected")
        self.outbox = []
        self.phase = "stopped"
        self.rename("disconnected")
        self.tell(Stopped(code=code, message=message))

    def judge_close(self, closed: TransportClosed) -> Ending:
        """What the end of a transport means."""
        floor = floor_of(closed.retry_after_seconds)
        if closed.http_status is not None:
            return _judge_http(closed.http_status, closed.reason, floor)
        code = None if closed.code in {1005, 1006} else closed.code
        name = None if code is None else CLOSES.get(code, f"close_{code}")
        rejection = self.linked.rejection
        if rejection is None:
            return Ending(_next_of(code), name, closed.reason, floor)
        said, message, step = rejection
        if code is not None:
            return Ending(_next_of(code), said or name, message, floor)
        if step == "reauthenticate":
            return Ending("token", said or name, message, floor)
        final = step in {"upgrade_client", "downgrade_client", "do_not_retry"}
        return Ending("stop" if final else "retry", said or name, message, floor)

    # -- position -----------------------------------------------------------------------------

    def move(self, cursor: int) -> ResumeToken:
        """Something was handed on, up to here."""
        held = self.held
        self.position = ResumeToken(session_id=held.session_id, epoch=held.epoch, cursor=cursor)
        self.watch()
        self.progress()
        return self.position

    def progress(self) -> None:
        """A recovery goes on."""
        if "recovery" in self.deadlines:
            self.arm("recovery", self.now + self.config.recovery_timeout)

    def gap(self, received: int) -> None:
        """What is expected is missing."""
        link = self.linked
        if link.asked_from == self.held:
            self.end_bad()
            return
        self.tell(Gap(expected=self.cursor + 1, received=received))
        if link.version == 1:
            self.hole = self.held
            self.give_up("gap")
            return
        link.asked_from = held = self.held
        self.send("resume", epoch=held.epoch, since=held.cursor, nonce=ANY)
        self.recover()

    def recover(self) -> None:
        """An answer is awaited; its nonce is noted when it is seen."""
        self.linked.due = True
        self.linked.parts.reached = 0
        self.phase = "recovering"
        self.arm("recovery", self.now + self.config.recovery_timeout)

    def recovered(self) -> None:
        """It has come."""
        self.phase = "live"
        self.wants_snapshot = False
        self.disarm("recovery")

    # -- silence ------------------------------------------------------------------------------

    def hear(self) -> None:
        """A sign of life."""
        self.linked.heard = self.now
        self.watch()

    def watch(self) -> None:
        """Silence counts while the application is not behind."""
        self.disarm("liveness")
        if self.is_behind:
            self.disarm("silence")
        else:
            self.arm("silence", self.linked.heard + self.heartbeat)

    def ping(self, give_up: float) -> None:
        """Ask for a sign of life."""
        grace = min(self.heartbeat, self.config.handshake_timeout)
        self.linked.give_up = max(give_up, self.now + grace)
        self.send("ping", nonce=ANY)
        self.arm("liveness", self.linked.give_up)

    # -- messages -----------------------------------------------------------------------------

    def flush(self) -> None:
        """Everything that may be written must be."""
        if self.phase in ATTACHED and self.linked.leaving is None:
            self._write_all()
        if not self.outbox or self.outbox[0].written is None:
            self.disarm("request")
        else:
            self.arm("request", self.outbox[0].written + self.ttl)

    def _write_all(self) -> None:
        for message in list(self.outbox):
            if message.in_flight:
                continue
            if sum(each.in_flight for each in self.outbox) >= self.window:
                return
            late = message.written is not None and message.written + self.ttl <= self.now
            if late or message.size > self.max_payload:
                self.outbox.remove(message)
                self.end_message(message, "payload_too_large")
                continue
            self.witnessed.add("written" if message.written is None else "written again")
            if message.written is None:
                message.written = self.now
            message.in_flight = True
            self._sent.append(message.frame)

    def owed(self, request_id: str | None) -> Owed | None:
        """The message of this id that has not come to its end."""
        return next((each for each in self.outbox if each.request_id == request_id), None)

    def end_message(self, message: Owed, code: str) -> None:
        """Its end without an answer."""
        if message.written is None:
            refused = MessageRefused(request_id=message.request_id, code=code, message=ANY)
            self.tell(refused)
        else:
            self.tell(OutcomeUnknown(request_id=message.request_id))

    def forget_written(self) -> None:
        """The session or the epoch that it was written to is gone."""
        for message in list(self.outbox):
            if message.written is not None:
                self.outbox.remove(message)
                self.tell(OutcomeUnknown(request_id=message.request_id))


def _next_of(code: int | None) -> str:
    if code == CLOSE_OF["auth_expired"]:
        return "token"
    return "stop" if code in FINAL_CLOSES else "retry"


def _judge_http(status: int, reason: str, floor: float) -> Ending:
    match status:
        case 401:
            return Ending("token", "auth_required", reason, floor)
        case 403:
            return Ending("token", "auth_unauthorized", reason, floor)
        case 429:
            return Ending("retry", "http_429", reason, floor)
        case _:
            final = 400 <= status < 500  # noqa: PLR2004 -- HTTP's client errors
            return Ending("stop" if final else "retry", f"http_{status}", reason, floor)


def _expected(values: Sequence[object]) -> str:
    return f"it must be {list(values)}" if values else "there is no cause for it"


def _closing(closes: Sequence[CloseTransport]) -> str:
    """The property of a close: of deadlines, or of what came."""
    return "P17" if {each.code for each in closes} & {4001, 4005} else "P13"

"""P12 of a gateway that writes ahead: what it lets out is in the store, which confirms late.

`WriteAhead` judges that alone. `StoredView` makes of the steps of such a gateway those of one that
does not write ahead and is given each input when its record is stored: for all other monitors,
that is what it must be.

Spec: the architecture page, "Write ahead".
"""

import json
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from attrs import define, evolve, field, frozen

from gatewayproto.actions import (
    Emit,
    GatewayAction,
    GatewayEvent,
    MessageReceived,
    Persist,
    Published,
    SendFrames,
    SessionExpired,
    SessionOpened,
    SubscriberJoined,
)
from gatewayproto.inputs import (
    Accept,
    Activity,
    ChangeEpoch,
    FrameReceived,
    Persisted,
    Publish,
    TimerExpired,
)
from gatewayproto.testing.monitors.base import Monitor
from gatewayproto.testing.monitors.book import Book, Connection, Session
from gatewayproto.testing.monitors.wire import EVENTS, WELCOMES, Frame, decode, read
from gatewayproto.testing.steps import GATEWAY, Restarted, Saved, Step, Violation

_ANSWERS: Final = frozenset({"message_ack", "message_nack", "response", "error"})
_NOTHING: Final = Persisted(session_id="", number=0)
"""The input of a step that is none for the other monitors."""


# -- the rule ---------------------------------------------------------------------------------


@define(eq=False)
class Kept:
    """What a session's records hold, up to some number."""

    records: list[dict[str, Any]] = field(factory=list)
    epochs: set[str] = field(factory=set)
    events: list[Frame] = field(factory=list)
    requests: set[str] = field(factory=set)
    messages: set[int] = field(factory=set)
    expired: bool = False

    def add(self, record: dict[str, Any]) -> None:
        """One record more is stored."""
        self.records.append(record)
        if "epoch" in record:
            self.epochs.add(record["epoch"])
        match record["kind"]:
            case "event":
                self.events.append(json.loads(record["event"]))
            case "message":
                self.messages.add(record["message_id"])
                self.requests.add(record["message"].get("request_id"))
            case "expired":
                self.expired = True
            case _:
                pass

    def copy(self) -> "Kept":
        """As it is now, to come back to."""
        return Kept(
            list(self.records),
            set(self.epochs),
            list(self.events),
            set(self.requests),
            set(self.messages),
            self.expired,
        )


class WriteAhead(Monitor):
    """P12, by the records alone: no welcome, event, snapshot or answer says more than they hold."""

    prop = "P12"
    about = "of a gateway that writes ahead, whatever leaves it is stored"
    ahead: ClassVar[frozenset[str]] = frozenset(
        {
            "P12 event waited",
            "P12 message waited",
            "P12 acknowledgement of what is stored",
            "P12 event that is stored",
            "P12 snapshot of what is stored",
            "P12 welcome to what is stored",
            "P12 session given whole",
            "P12 session that ended",
            "P12 new epoch",
            "P12 records lost",
            "P12 records after a crash",
        }
    )
    """The witnesses of a campaign of gateways that write ahead."""

    def __init__(self, witnessed: Counter[str]) -> None:
        super().__init__(witnessed)
        self._stored: dict[str, Kept] = {}
        self._given: dict[str, list[dict[str, Any]]] = {}
        self._saved: dict[str, Kept] = {}
        self._followed: dict[int, str] = {}

    def judge(self, step: Step) -> None:
        """Judge a whole step, before anybody else does."""
        self._take(step)
        if step.who == GATEWAY:
            self._judge_actions(step)

    def _take(self, step: Step) -> None:
        """What a confirmation or a crash makes of the store."""
        match step.input:
            case Persisted(session_id=session_id, number=number) if step.raised is None:
                kept = self._stored.setdefault(session_id, Kept())
                for record in self._given.get(session_id, [])[len(kept.records) : number]:
                    kept.add(record)
            case Saved():
                self._saved = {name: kept.copy() for name, kept in self._stored.items()}
            case Restarted(kind=kind):
                self._crash(kind)
            case _:
                pass

    def _crash(self, kind: str) -> None:
        lost = any(len(self._given[each]) > len(self._records(each)) for each in self._given)
        if lost:
            self.saw("records lost")
        if kind == "copy":
            self._stored = {name: kept.copy() for name, kept in self._saved.items()}
        elif kind == "nothing":
            self._stored = {}
        self._given = {name: list(kept.records) for name, kept in self._stored.items()}
        self._followed.clear()

    def _records(self, session_id: str) -> list[dict[str, Any]]:
        kept = self._stored.get(session_id)
        return [] if kept is None else kept.records

    def _judge_actions(self, step: Step) -> None:
        for action in step.actions:
            match action:
                case Persist():
                    self._give(action)
                case SendFrames():
                    for data in action.frames:
                        for number in action.connections:
                            self._frame(number, decode(data))
                case Emit(event=event):
                    self._tell(event)  # type: ignore[arg-type] # a gateway's
                case _:
                    pass

    def _give(self, action: Persist) -> None:
        given = self._given.setdefault(action.session_id, [])
        if action.number != len(given) + 1:
            self.fail(f"record {action.number} of {action.session_id} after {len(given)}")
        if self._records(action.session_id) and len(given) == len(self._records(action.session_id)):
            self.saw("records after a crash")
        given.append(action.record)
        waited = {"event": "event waited", "message": "message waited", "epoch": "new epoch"}
        kind = str(action.record["kind"])
        if kind in waited:
            self.saw(waited[kind])
        elif kind == "session":
            self.saw("session given whole")

    def _tell(self, event: GatewayEvent) -> None:
        match event:
            case SubscriberJoined(connection=number, session_id=session_id):
                self._followed[number] = session_id
            case SessionOpened(session_id=session_id):
                self._kept(session_id, f"{event}")
            case MessageReceived(session_id=session_id, message_id=message_id):
                if message_id not in self._kept(session_id, f"{event}").messages:
                    self.fail(f"{event} is told before it is stored")
            case SessionExpired(session_id=session_id):
                if not self._kept(session_id, f"{event}").expired:
                    self.fail(f"{event} is told before it is stored")
                self.saw("session that ended")
            case _:
                pass

    def _kept(self, session_id: str, what: str) -> Kept:
        kept = self._stored.get(session_id)
        if kept is None:
            self.fail(f"{what}, of a session that is not stored")
        return kept

    def _frame(self, number: int, frame: Frame) -> None:
        session_id, kind = self._followed.get(number), frame["type"]
        if session_id is None:
            return
        kept = self._kept(session_id, f"`{kind}` on connection {number}")
        head = len(kept.events)
        if kind in WELCOMES:
            epoch = frame.get("epoch") or str(frame["session_id"]).partition(".")[2]
            self._must(epoch in kept.epochs, frame)
            self._must(frame["head" if "head" in frame else "cursor"] <= head, frame)
            self.saw("welcome to what is stored")
        elif kind in EVENTS:
            seq = frame["seq"]
            self._must(seq <= head, frame)
            stored = kept.events[seq - 1]
            self._must(frame["event"]["event_id"] == stored["event_id"], frame)
            self.saw("event that is stored")
        elif kind == "snapshot":
            cursor = frame.get("cursor", frame.get("state", {}).get("event_cursor", 0))
            self._must(cursor <= head and frame.get("epoch", "") in kept.epochs | {""}, frame)
            self.saw("snapshot of what is stored")
        elif kind in {"message_ack", "response"}:
            self._must(frame["request_id"] in kept.requests, frame)
            self.saw("acknowledgement of what is stored")
        else:
            self._must(frame.get("cursor", 0) <= head and frame.get("last", 0) <= head, frame)

    def _must(self, holds: bool, frame: Frame) -> None:
        if not holds:
            self.fail(f"{frame} leaves before it is stored")


# -- the view of the others -------------------------------------------------------------------


@frozen
class LateMessage:
    """A message of a connection that is gone entered the inbox: nobody is there to be answered."""

    connection: Connection
    data: bytes


@frozen
class _Held:
    """A step that waits for the store, and the connection as it was then."""

    step: Step
    connection: Connection | None = None


class StoredView:
    """The steps of a gateway that writes ahead as those of one that is given them when stored.

    It knows which answer belongs to which message because those of one connection keep their
    order. The store must confirm one record at a time.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._records: dict[tuple[str, int], _Held] = {}
        self._accepts: dict[int, Step] = {}
        self._messages: dict[int, deque[_Held]] = {}
        self._ending: dict[str, Session] = {}
        self._newest: dict[str, int] = {}

    def see(self, step: Step) -> Iterator[Step]:
        """What the others are shown in place of a step."""
        for action in step.actions:
            if isinstance(action, Persist):
                self._newest[action.session_id] = action.number
        match step.input:
            case Restarted(kind=kind):
                if kind in {"whole", "store"}:
                    self._book.sessions.update(self._ending)
                for each in (self._records, self._accepts, self._messages, self._ending):
                    each.clear()
                self._newest.clear()
                yield step
            case Persisted() if step.raised is None:
                yield from self._stored(step, step.input)
                self._check_answered(step.input)
            case Publish() | ChangeEpoch() | Accept() | FrameReceived() if self._waits(step):
                yield evolve(step, input=self._neutral(step), actions=())
            case TimerExpired():
                yield self._expired(step)
            case _:
                yield evolve(step, actions=_without_records(step))

    # -- what waits ---------------------------------------------------------------------------

    def _waits(self, step: Step) -> bool:
        """Whether a step waits for the store; nothing may have left then."""
        given = [each for each in step.actions if isinstance(each, Persist)]
        left = [each for each in _without_records(step) if not _is_published(each)]
        if isinstance(step.input, Accept):
            waits = not left and step.raised is None and self._stage(step) == "joining"
            if waits:
                self._accepts[step.input.connection] = step
            return waits
        if isinstance(step.input, FrameReceived):
            return self._message_waits(step, step.input, given, left)
        for each in given:
            if each.record["kind"] in {"event", "epoch"}:
                _none_left(step, left)
                self._records[each.session_id, each.number] = _Held(step)
                return True
        return False

    def _message_waits(
        self, step: Step, received: FrameReceived, given: list[Persist], left: list[Any]
    ) -> bool:
        number = received.connection
        frame = read(received.data)
        if frame is None or frame["type"] != "message" or self._stage(step) != "live":
            return False
        if not given and (left or step.raised is not None):
            return False  # it was answered at once
        _none_left(step, left)
        held = _Held(step, evolve(self._book.connections[number]))
        for each in given:
            if each.record["kind"] == "message":
                self._records[each.session_id, each.number] = held
        if not given or "request_id" in frame:
            waiting = self._messages.setdefault(number, deque())
            while waiting and not self._is_there(waiting[0]):
                waiting.popleft()
            waiting.append(held)
        return True

    def _stage(self, step: Step) -> str | None:
        connection = self._book.connections.get(getattr(step.input, "connection", 0))
        return None if connection is None else connection.stage

    def _is_there(self, held: _Held) -> bool:
        """Whether the connection still follows the session as it did."""
        then = held.connection
        assert then is not None
        now = self._book.connections.get(then.number)
        return now is not None and (now.stage, now.client_id) == ("live", then.client_id)

    def _neutral(self, step: Step) -> Any:
        number = getattr(step.input, "connection", None)
        return _NOTHING if number is None else Activity(number)

    def _expired(self, step: Step) -> Step:
        """A session is over for its clients once its window is, and comes back with a crash."""
        actions: list[Any] = []
        for action in step.actions:
            if isinstance(action, Persist):
                session = self._book.sessions.get(action.session_id)
                if session is not None and action.record["kind"] == "expired":
                    self._ending[action.session_id] = session
                    actions.append(Emit(SessionExpired(session_id=action.session_id)))
            else:
                actions.append(action)
        return evolve(step, actions=tuple(actions))

    # -- what waits no longer -----------------------------------------------------------------

    def _stored(self, step: Step, persisted: Persisted) -> Iterator[Step]:
        """One record is stored: the step that waited for it, then joins and answers, in order."""
        held = self._records.pop((persisted.session_id, persisted.number), None)
        ending = self._ending.get(persisted.session_id)
        if ending is not None and held is not None:
            self._store_unseen(ending, held.step)
            held = None
        current: list[Any] = []
        shown = evolve(step, input=_NOTHING)
        if held is not None:
            shown = evolve(step, input=self._input(held))
            published = [each for each in held.step.actions if _is_published(each)]
            current.extend(published)
        waits_for_answer = held is not None and held.connection is not None
        for action in _one_by_one(step):
            answer = _answered(action)
            if _is_expired(action):
                self._ending.pop(persisted.session_id, None)
                continue
            joined = _joined(action)
            opened = current and isinstance(current[-1], Emit)
            if joined is not None and not (opened and isinstance(current[-1].event, SessionOpened)):
                yield evolve(shown, actions=tuple(current))
                current = []
            if joined is not None:
                accepted = self._accepts.pop(joined, None)
                shown = evolve(step, input=_NOTHING if accepted is None else accepted.input)
            elif answer is not None and self._messages.get(answer):
                asked = self._next(answer)
                if asked is held and waits_for_answer:
                    waits_for_answer = False
                else:
                    yield evolve(shown, actions=tuple(current))
                    current = []
                    shown = evolve(step, input=asked.step.input)
            current.append(action)
        yield evolve(shown, actions=tuple(current))

    def _store_unseen(self, session: Session, step: Step) -> None:
        """Something of a session that is over is stored: only a crash would show it."""
        match step.input:
            case Publish(event=event):
                session.ledger.append(event)
                session.ledger.trim()
            case ChangeEpoch():
                self._book.break_epoch(session)
            case _:
                pass

    def _input(self, held: _Held) -> Any:
        if held.connection is None or self._is_there(held):
            return held.step.input
        assert isinstance(held.step.input, FrameReceived)
        return LateMessage(held.connection, held.step.input.data)

    def _check_answered(self, persisted: Persisted) -> None:
        """Once everything is stored, everybody is answered."""
        if self._newest.get(persisted.session_id, 0) > persisted.number:
            return
        for waiting in self._messages.values():
            for held in waiting:
                session = held.connection and held.connection.session
                if session and session.session_id == persisted.session_id and self._is_there(held):
                    raise Violation(
                        "P8", f"{held.step.input} is not answered, though all is stored"
                    )

    def _next(self, number: int) -> _Held:
        waiting = self._messages[number]
        held = waiting.popleft()
        while waiting and not self._is_there(held):
            held = waiting.popleft()
        return held


def _none_left(step: Step, left: list[Any]) -> None:
    if left:
        raise Violation("P12", f"{step.input} leads to {left} before it is stored")


def _without_records(step: Step) -> tuple[Any, ...]:
    return tuple(each for each in step.actions if not isinstance(each, Persist))


def _is_published(action: Any) -> bool:
    return isinstance(action, Emit) and isinstance(action.event, Published)


def _is_expired(action: Any) -> bool:
    return isinstance(action, Emit) and isinstance(action.event, SessionExpired)


def _joined(action: Any) -> int | None:
    """The connection that joins with an action."""
    if isinstance(action, Emit) and isinstance(action.event, SubscriberJoined):
        return action.event.connection
    return None


def _one_by_one(step: Step) -> Iterator[GatewayAction]:
    """The actions but for records, answers apart from other frames."""
    for action in _without_records(step):
        if isinstance(action, SendFrames):
            for data in action.frames:
                yield SendFrames(action.connections, (data,))
        else:
            yield action


def _answered(action: GatewayAction) -> int | None:
    """The connection to which an action is an answer."""
    if isinstance(action, SendFrames) and decode(action.frames[0])["type"] in _ANSWERS:
        return action.connections[0]
    return None

"""Reducers that fold a session's events into the state that its snapshots carry.

The same reducer serves both ends: the gateway folds every event as it is published, and a client
that loads a snapshot and applies what follows has the state of one that never left. So a reducer
must give the same state for a stream with and without its superseded events.

Spec: Snapshots.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field

from gatewayproto import codec
from gatewayproto.frames import Event, Object


class Projection(Protocol):
    """A fold of events, deterministic and without I/O.

    A session owns one. Its state is plain JSON data, holds what is in flight (the text so far of
    open runs, open questions), and is enough to go on from.
    """

    def apply(self, seq: int, event: Event, /) -> None:
        """Fold in the next event. Must not raise and must not keep what it may not grow by."""

    def state(self) -> Object:
        """The state as of the last event applied, as plain JSON data of its own."""

    def load(self, state: Object, /) -> None:
        """Go on from a state that `state` gave."""


_DURABLE_FIELDS = ("source", "target", "run_id", "request_id", "final", "expects_reply")
_MAX_QUESTIONS = 64


@define
class _Run:
    """The text so far of a run without its final; sizes are those of the encoded JSON."""

    type: str
    limit: int
    parts: deque[str] = field(factory=deque)
    size: int = 0
    data: Object | None = None
    truncated: bool = False

    def add(self, event: Event) -> None:
        self.type = event.type
        text = event.data.get("text")
        if not isinstance(text, str):
            self.data = event.data if _size(event.data) <= self.limit else None
            return
        self.parts.append(text)
        self.size += _size(text)
        while self.size > self.limit:
            self.size -= _size(self.parts.popleft())
            self.truncated = True


class Transcript:
    """The default projection: the conversation so far.

    - `messages`: the durable events, oldest first, each with its seq.
    - `runs`: by `run_id`, the text so far of every run whose final has not come; for transient
      events without `data.text`, the latest `data`.
    - `questions`: the ids of events that expect a reply and have none yet. An event whose
      `data.reply_to` is such an id closes it.
    - `truncated`: true once messages were shed.

    `max_bytes` bounds the encoded messages; beyond it the oldest are shed. Each open run keeps at
    most an eighth of that, its newest part. The two bounds are apart because a run's text must
    not decide which messages are left: a client that skipped the run would shed others.
    """

    def __init__(self, max_bytes: int = 512 * 1024) -> None:
        self._max_bytes = max_bytes
        self._messages: deque[tuple[Object, int]] = deque()
        self._size = 0
        self._runs: dict[str, _Run] = {}
        self._questions: dict[str, None] = {}
        self._truncated = False

    def apply(self, seq: int, event: Event, /) -> None:
        """Fold in one event."""
        if event.transient:
            if event.run_id is not None:
                self._run(event.run_id, event.type).add(event)
            return
        if event.final and event.run_id is not None:
            self._runs.pop(event.run_id, None)
        self._ask(event)
        message = _message(seq, event)
        self._add(message)

    def state(self) -> Object:
        """The conversation as plain JSON data."""
        state: Object = {
            "messages": [message for message, _ in self._messages],
            "runs": {run_id: _run_state(run) for run_id, run in self._runs.items()},
            "questions": list(self._questions),
        }
        if self._truncated:
            state["truncated"] = True
        return state

    def load(self, state: Object, /) -> None:
        """Go on from a state. Fields that are missing or off count as empty."""
        self._messages.clear()
        self._size = 0
        self._truncated = state.get("truncated") is True
        for message in _items(state.get("messages"), list):
            self._add(message)
        self._questions = dict.fromkeys(
            each for each in _items(state.get("questions"), list) if isinstance(each, str)
        )
        self._runs = {}
        runs = state.get("runs")
        for run_id, fields in runs.items() if isinstance(runs, dict) else ():
            run = self._run(run_id, str(fields.get("type", "")))
            text = fields.get("text")
            if isinstance(text, str):
                run.parts.append(text)
                run.size = _size(text)
            run.data = fields.get("data")
            run.truncated = fields.get("truncated") is True

    def _run(self, run_id: str, type_: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = _Run(type_, self._max_bytes // 8)
        return run

    def _ask(self, event: Event) -> None:
        answered = event.data.get("reply_to")
        if isinstance(answered, str):
            self._questions.pop(answered, None)
        if event.expects_reply:
            self._questions[event.event_id] = None
            if len(self._questions) > _MAX_QUESTIONS:
                del self._questions[next(iter(self._questions))]

    def _add(self, message: Object) -> None:
        size = _size(message)
        self._messages.append((message, size))
        self._size += size
        while self._size > self._max_bytes:
            _, size = self._messages.popleft()
            self._size -= size
            self._truncated = True


def shed(state: Object, fits: Callable[[Object], bool]) -> Object | None:
    """Shed a state's oldest `messages` until it fits; None when it does not fit without any.

    For a peer that takes no snapshot in parts. What was shed is said with `"truncated": true`.

    Spec: Framing; Version 1.
    """
    if fits(state):
        return state
    messages: list[Any] = _items(state.get("messages"), list)
    low, high = 1, len(messages)
    while low <= high:  # the fewest to shed, by bisection: a state may hold many thousands
        middle = (low + high) // 2
        if fits(_without(state, messages, middle)):
            high = middle - 1
        else:
            low = middle + 1
    shortened = _without(state, messages, low)
    return shortened if low <= len(messages) and fits(shortened) else None


def _without(state: Object, messages: list[Any], count: int) -> Object:
    return {**state, "messages": messages[count:], "truncated": True}


def _items(value: Any, kind: type[list[Any]]) -> list[Any]:
    return value if isinstance(value, kind) else []


def _message(seq: int, event: Event) -> Object:
    message: Object = {
        "seq": seq,
        "event_id": event.event_id,
        "type": event.type,
        "timestamp": event.timestamp,
        "data": event.data,
    }
    for name in _DURABLE_FIELDS:
        value = getattr(event, name)
        if value is not None:
            message[name] = value
    return message


def _run_state(run: _Run) -> Object:
    text = "".join(run.parts)
    state: Object = {"type": run.type, "text": text}
    if run.data is not None:
        state["data"] = run.data
    if run.truncated:
        state["truncated"] = True
    # Joined once, so that the next snapshot does not join what this one has.
    run.parts = deque([text]) if text else deque()
    return state


def _size(value: Any) -> int:
    return len(codec.canonical(value))

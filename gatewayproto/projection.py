"""Reducers that fold a session's events into the state that its snapshots carry.

The same reducer serves both ends: the gateway folds every event as it is published, and a client
that loads a snapshot and applies what follows has the state of one that never left. So a reducer
must give the same state for a stream with and without its superseded events.

Spec: Snapshots.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from attrs import define, field

from gatewayproto import codec
from gatewayproto.frames import Event, Object


class Projection(Protocol):
    """A fold of events, deterministic and without I/O.

    A session owns one. Its state is plain JSON data, holds what is in flight (the text so far of
    open runs, open questions), and is enough to go on from.
    """

    def apply(self, seq: int, event: Event, /) -> None:
        """Fold in the next event. Must not raise, and must bound what it keeps."""
        ...

    def state(self) -> Object:
        """The state as of the last event applied, as plain JSON data that no later event changes.

        Nobody writes into it.
        """
        ...

    def load(self, state: Object, /) -> None:
        """Go on from a state that `state` gave."""
        ...


_DURABLE_FIELDS = ("source", "target", "run_id", "request_id", "final", "expects_reply")
MAX_QUESTIONS: Final = 1000
"""How many open questions a session keeps; beyond it the oldest gives way."""


@define
class _Run:
    """What is known of a run without its final; sizes are those of the encoded JSON.

    The text is the newest characters that fit `limit`, however it was cut into parts: so it is the
    same for one who loaded a state in between.
    """

    type: str
    limit: int
    parts: deque[str] = field(factory=deque)
    size: int = 0
    data: Object | None = None
    truncated: bool = False

    def add(self, type_: str, data: Object) -> None:
        self.type = type_
        text = data.get("text")
        if isinstance(text, str):
            self.add_text(text)
        else:
            self.set_data(data)

    def set_data(self, data: Any) -> None:
        fits = isinstance(data, dict) and _size(data) <= self.limit
        self.data = data if fits else None

    def add_text(self, text: str) -> None:
        if not text:
            return
        self.parts.append(text)
        self.size += _text_size(text)
        while self.size > self.limit:
            self._shed_from(self.parts.popleft())
            self.truncated = True

    def _shed_from(self, part: str) -> None:
        """Put back what may stay of the oldest part."""
        size, excess = _text_size(part), self.size - self.limit
        self.size -= size
        if size <= excess:
            return
        # No character takes less than a byte, so no more characters than bytes have to go.
        count = bisect_left(
            range(min(excess, len(part)) + 1), excess, key=lambda count: _text_size(part[:count])
        )
        rest = part[count:]
        if rest:
            self.parts.appendleft(rest)
            self.size += _text_size(rest)


class Transcript:
    """The default projection: the conversation so far.

    - `messages`: the durable events, oldest first, each with its seq.
    - `runs`: by `run_id`, the text so far of every run whose final has not come; for transient
      events without `data.text`, the latest `data`.
    - `questions`: the ids of events that expect a reply and have none yet. An event whose
      `data.reply_to` is such an id closes it.
    - `truncated`: true once messages or questions were shed.

    `max_bytes` bounds the encoded messages; beyond it the oldest are shed, all but the newest.
    Each open run keeps at most an eighth of that, its newest part. The two bounds are apart
    because a run's text must not decide which messages are left: a client that skipped the run
    would shed others.
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
                self._run(event.run_id, event.type).add(event.type, event.data)
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
        self._questions = {}
        for question in _items(state.get("questions"), list):
            if isinstance(question, str):
                self._open_question(question)
        self._runs = {}
        runs = state.get("runs")
        for run_id, fields in runs.items() if isinstance(runs, dict) else ():
            if isinstance(fields, dict):
                self._load_run(run_id, fields)

    def _load_run(self, run_id: str, fields: Object) -> None:
        run = self._run(run_id, str(fields.get("type", "")))
        run.truncated = fields.get("truncated") is True
        run.set_data(fields.get("data"))
        text = fields.get("text")
        if isinstance(text, str):
            run.add_text(text)

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
            self._open_question(event.event_id)

    def _open_question(self, event_id: str) -> None:
        self._questions[event_id] = None
        if len(self._questions) > MAX_QUESTIONS:
            del self._questions[next(iter(self._questions))]
            self._truncated = True

    def _add(self, message: Object) -> None:
        size = _size(message)
        self._messages.append((message, size))
        self._size += size
        # The newest stays whatever its size: nobody who starts from here has seen it.
        while self._size > self._max_bytes and len(self._messages) > 1:
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


def _text_size(text: str) -> int:
    """The size of a text without its quotes: that of all its parts, added up."""
    return _size(text) - 2

"""What the specification says, said a second time by brute force: lists of events, plain data.

Nothing here is shared with the machines, so that a mistake of theirs is not repeated: what a final
supersedes, the transcript's state, what a journal keeps, and the decision on a handshake.

Spec: Terms; The decision table; Snapshots; Lagging.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import define, field, frozen

from gatewayproto.config import GatewayConfig
from gatewayproto.frames import Event

Plain = dict[str, Any]
"""A JSON object as plain data."""

EVENT_FIELDS: Final = (
    "type",
    "data",
    "event_id",
    "timestamp",
    "source",
    "target",
    "run_id",
    "request_id",
    "transient",
    "final",
    "expects_reply",
)
TRANSCRIPT_BYTES: Final = 512 * 1024
"""Bytes of encoded messages that the default transcript keeps; of an open run's text an eighth."""
TRANSCRIPT_QUESTIONS: Final = 1000

# -- events on the wire -----------------------------------------------------------------------


def compact(value: object) -> bytes:
    """JSON without spaces, as it goes over the wire."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event_object(event: Event) -> Plain:
    """An event as its clients see it: no field that does not apply."""
    values = ((name, getattr(event, name)) for name in EVENT_FIELDS)
    return {name: value for name, value in values if value is not None}


def event_v1(seq: int, event: Event) -> Plain:
    """The one frame in which version 1 is sent an event.

    Spec: Version 1.
    """
    return {
        "type": "replay",
        "seq": seq,
        "event": {
            "type": event.type,
            "data": {**event.data, "cursor": seq},
            "event_id": event.event_id,
            "timestamp": event.timestamp,
            "source": event.source,
            "target": event.target,
            "sequence": seq,
        },
    }


# -- what a final supersedes ------------------------------------------------------------------


def superseded(log: Sequence[Event]) -> set[int]:
    """The seqs of transient events whose run has its final; the log begins with seq 1.

    By the specification's words: the transient events of a final's `run_id` since the previous
    final of that id.

    Spec: Terms.
    """
    found: set[int] = set()
    for end, final in enumerate(log, start=1):
        if not final.final:
            continue
        for seq in range(end - 1, 0, -1):
            event = log[seq - 1]
            if event.run_id == final.run_id and event.final:
                break
            if event.run_id == final.run_id and event.transient:
                found.add(seq)
    return found


# -- the transcript ---------------------------------------------------------------------------


@define(eq=False)
class Fold:
    """The state of a conversation, event by event: the default projection's.

    `max_bytes` bounds the encoded messages; an open run keeps of its text the newest eighth.

    Spec: Snapshots.
    """

    max_bytes: int = TRANSCRIPT_BYTES
    messages: list[Plain] = field(factory=list)
    sizes: list[int] = field(factory=list)
    runs: dict[str, Plain] = field(factory=dict)
    questions: list[str] = field(factory=list)
    truncated: bool = False
    _size: int = 0

    def apply(self, seq: int, event: Event) -> None:
        """Fold in the next event."""
        if event.transient:
            if event.run_id is not None:
                self._add_to_run(event.run_id, event)
            return
        if event.final and event.run_id is not None:
            self.runs.pop(event.run_id, None)
        if event.data.get("reply_to") in self.questions:
            self.questions.remove(event.data["reply_to"])
        if event.expects_reply:
            self._ask(event.event_id)
        message = {"seq": seq, **event_object(event)}
        self.messages.append(message)
        self.sizes.append(len(compact(message)))
        self._size += self.sizes[-1]
        while self._size > self.max_bytes and len(self.messages) > 1:
            self._size -= self.sizes[0]
            del self.messages[0], self.sizes[0]
            self.truncated = True

    def _add_to_run(self, run_id: str, event: Event) -> None:
        limit = self.max_bytes // 8
        run = self.runs.setdefault(run_id, {"type": event.type, "text": ""})
        run["type"] = event.type
        text = event.data.get("text")
        if not isinstance(text, str):
            run.pop("data", None)
            if len(compact(event.data)) <= limit:
                run["data"] = event.data
            return
        run["text"] += text
        excess = len(compact(run["text"])) - 2 - limit
        if excess > 0:
            run["text"] = _without_first(run["text"], excess)
            run["truncated"] = True

    def _ask(self, event_id: str) -> None:
        if event_id in self.questions:
            return
        self.questions.append(event_id)
        if len(self.questions) > TRANSCRIPT_QUESTIONS:
            del self.questions[0]
            self.truncated = True

    def state(self) -> Plain:
        """The state as of the last event, as plain data of its own."""
        state: Plain = {
            "messages": list(self.messages),
            "runs": {run_id: dict(run) for run_id, run in self.runs.items()},
            "questions": list(self.questions),
        }
        if self.truncated:
            state["truncated"] = True
        return state

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; what is missing or off counts as empty."""
        messages, runs = state.get("messages"), state.get("runs")
        questions = state.get("questions")
        self.messages = list(messages) if isinstance(messages, list) else []
        self.sizes = [len(compact(message)) for message in self.messages]
        self._size = sum(self.sizes)
        self.runs = (
            {run_id: dict(run) for run_id, run in runs.items() if isinstance(run, dict)}
            if isinstance(runs, dict)
            else {}
        )
        self.questions = list(questions) if isinstance(questions, list) else []
        self.truncated = state.get("truncated") is True


def _without_first(text: str, size: int) -> str:
    """The text without as many of its first characters as take `size` bytes in JSON."""
    for index, character in enumerate(text):
        if size <= 0:
            return text[index:]
        size -= len(compact(character)) - 2
    return ""


def fold(log: Sequence[Event]) -> Plain:
    """The state of a conversation; the log begins with seq 1."""
    folded = Fold()
    for seq, event in enumerate(log, start=1):
        folded.apply(seq, event)
    return folded.state()


# -- what a journal keeps ---------------------------------------------------------------------


@define(eq=False)
class Ledger:
    """Every event of a session, and which of them a journal of these budgets retains.

    What exceeds the budgets is let go in this order: superseded events, by the end of their runs;
    then transient ones; then durable ones; each oldest first. `ends` names for each superseded seq
    the final that did it; `objects` are the events as their clients see them.

    Spec: Terms; Lagging.
    """

    retain: int
    retain_transient: int
    retain_bytes: int
    log: list[Event] = field(factory=list)
    objects: list[Plain] = field(factory=list)
    kept: list[int] = field(factory=list)
    ends: dict[int, int] = field(factory=dict)
    _sizes: list[int] = field(factory=list)
    _open: dict[str, list[int]] = field(factory=dict)
    _bytes: int = 0
    _transient: int = 0

    @classmethod
    def of(cls, config: GatewayConfig) -> "Ledger":
        """An empty one with the budgets of this configuration."""
        return cls(config.retain, config.retain_transient, config.retain_bytes)

    def copy(self) -> "Ledger":
        """One that goes on by itself."""
        return Ledger(
            self.retain,
            self.retain_transient,
            self.retain_bytes,
            list(self.log),
            list(self.objects),
            list(self.kept),
            dict(self.ends),
            list(self._sizes),
            {run_id: list(seqs) for run_id, seqs in self._open.items()},
            self._bytes,
            self._transient,
        )

    def size(self, seq: int) -> int:
        """The bytes of an event, encoded."""
        return self._sizes[seq - 1]

    def append(self, event: Event) -> None:
        """Give the event the next seq and keep it, until the next `trim`."""
        encoded = compact(event_object(event))
        self.log.append(event)
        self.objects.append(json.loads(encoded))
        self._sizes.append(len(encoded))
        self.kept.append(len(self.log))
        self._bytes += self._sizes[-1]
        self._transient += bool(event.transient)
        if event.run_id is None:
            return
        if event.transient:
            self._open.setdefault(event.run_id, []).append(len(self.log))
        elif event.final:
            for seq in self._open.pop(event.run_id, []):
                self.ends[seq] = len(self.log)

    def trim(self) -> None:
        """Let go what exceeds the budgets."""
        durable_count = len(self.kept) - self._transient
        fits = self._transient <= self.retain_transient and durable_count <= self.retain
        if fits and self._bytes <= self.retain_bytes:
            return
        ends, kept = self.ends, set(self.kept)
        gone = sorted((seq for seq in self.kept if seq in ends), key=lambda seq: (ends[seq], seq))
        transient = gone + [
            seq for seq in self.kept if self.log[seq - 1].transient and seq not in ends
        ]
        durable = [seq for seq in self.kept if not self.log[seq - 1].transient]
        while len(transient) > self.retain_transient:
            kept.discard(transient.pop(0))
        while len(durable) > self.retain:
            kept.discard(durable.pop(0))
        while sum(self._sizes[seq - 1] for seq in kept) > self.retain_bytes:
            kept.discard(transient.pop(0) if transient else durable.pop(0))
        self.kept = sorted(kept)
        self._bytes = sum(self._sizes[seq - 1] for seq in kept)
        self._transient = sum(bool(self.log[seq - 1].transient) for seq in kept)

    @property
    def cursor(self) -> int:
        """The head: the newest seq, 0 before any."""
        return len(self.log)

    @property
    def open_runs(self) -> frozenset[str]:
        """The runs that have transient events and not yet their final."""
        return frozenset(self._open)

    def oldest(self, version: int) -> int:
        """The lowest seq from which everything can be accounted for to this version."""
        covered = {*self.kept, *(self.ends if version > 1 else ())}
        seq = self.cursor
        while seq > 0 and seq in covered:
            seq -= 1
        return seq + 1


# -- the decision -----------------------------------------------------------------------------


@frozen(kw_only=True)
class Known:
    """A session that was found and is the client's own, as of the moment of decision.

    `oldest_cursor` is the one that counts for the client's version.
    """

    agent_id: str
    epoch: str
    cursor: int
    oldest_cursor: int


@frozen(kw_only=True)
class Asked:
    """What a handshake asks for. `epochs` are all that it names, in its field and in its id."""

    version: int
    agent_id: str
    epochs: tuple[str, ...] = ()
    since: int = 0
    wants_snapshot: bool = False


@frozen(kw_only=True)
class Decided:
    """How a handshake goes on: rejected, or resumed or not, with a resync for `reason` or none."""

    rejected: str | None = None
    resumed: bool = False
    reason: str | None = None
    sequence: int = 0


def decide(asked: Asked, session: Known | None) -> Decided:
    """The decision table, row by row. `session` is None if unknown, expired or another's.

    Spec: The decision table.
    """
    if session is None:
        return Decided(reason="session_unknown" if asked.since > 0 else None)
    if session.agent_id != asked.agent_id:
        return Decided(rejected="auth_unauthorized")
    reason = resync_reason(asked, session)
    if reason is None and asked.wants_snapshot:
        reason = "requested"
    sequence = asked.since if reason is None else session.cursor
    return Decided(resumed=True, reason=reason, sequence=sequence)


def resync_reason(asked: Asked, session: Known) -> str | None:
    """Rows 4 to 6 of the table, which hold for a `resume` as well.

    Spec: The decision table; Recovery in band.
    """
    if any(epoch != session.epoch for epoch in asked.epochs):
        return "epoch_changed"
    if asked.version > 1 and asked.since > 0 and not asked.epochs:
        return "epoch_changed"
    if asked.since > session.cursor:
        return "cursor_ahead"
    if asked.since < session.oldest_cursor - 1:
        return "trimmed"
    return None

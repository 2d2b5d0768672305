"""A session's events: append, account for everything after a cursor, retain, elide.

Every event is encoded once, when it is appended. What a client at some cursor gets is read from
here and only from here: what is retained is sent, what was superseded is named as skipped, and
what is gone without being superseded puts the floor above the cursor, so that a snapshot is due.

Spec: Terms; Snapshots; Lagging; Version 1 (its floor).
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from attrs import define, field, frozen

from gatewayproto import codec
from gatewayproto.frames import Event, Object


@frozen
class Retention:
    """How much a journal keeps: events by kind, and bytes of both kinds together."""

    durable: int
    transient: int
    bytes: int


@define(eq=False)
class Run:
    """The transient events of one `run_id` up to its final; `ended` once that has come.

    `lost` is the highest seq of the run that was let go while it was open.
    """

    run_id: str
    ended: bool = False
    lost: int = 0
    entries: "deque[Entry]" = field(factory=deque, repr=False)


@define(eq=False)
class Entry:
    """One event in the journal. `body` is its JSON, shared by every frame that carries it."""

    seq: int
    body: bytes
    run: Run | None
    gone: bool = False

    @property
    def superseded(self) -> bool:
        """The final of its run has come."""
        return self.run is not None and self.run.ended

    def event(self) -> Event:
        """The event again, decoded from its bytes."""
        return codec.decode_event(self.body)


def _seq(entry: Entry) -> int:
    return entry.seq


class Journal:
    """The events of one session in the order of their seq.

    Appending is O(1) amortized whatever is retained, and finding a cursor is O(log n). A burst of
    transient events never pushes a durable one out, and what is superseded goes first.
    """

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._cursor = 0
        self._order: list[Entry] = []  # by seq; entries that are gone stay until a compaction
        self._retained = 0
        self._bytes = 0
        self._durable: deque[Entry] = deque()
        self._transient: deque[Entry] = deque()  # by seq; may hold entries that are gone
        self._transient_count = 0
        self._open: dict[str, Run] = {}
        self._ended: deque[Run] = deque()  # ended runs that still have entries, oldest end first
        self._lost = 0  # the highest seq that is gone for good: never superseded
        self._floor = 0  # the same, with what open runs have lost so far
        self._gone = 0  # the highest seq that is gone, superseded or not

    @property
    def cursor(self) -> int:
        """The newest seq, 0 before any."""
        return self._cursor

    @property
    def floor(self) -> int:
        """The highest seq that cannot be accounted for; falls again when a run ends."""
        return self._floor

    @property
    def floor_v1(self) -> int:
        """The highest seq that is no longer held: version 1 cannot be told of a skip."""
        return self._gone

    @property
    def open_runs(self) -> AbstractSet[str]:
        """The runs that wait for their final."""
        return self._open.keys()

    def __len__(self) -> int:
        return self._retained

    @property
    def size(self) -> int:
        """Bytes of the events retained."""
        return self._bytes

    def append(self, event: Event, body: bytes) -> Entry:
        """Give the event its seq and keep it. `body` is the event encoded.

        What exceeds the retention is let go by `trim`, so that a subscriber which has room can be
        sent the event first.
        """
        self._cursor += 1
        entry = Entry(self._cursor, body, None)
        if event.transient:
            if event.run_id is not None:
                self._join_run(entry, event.run_id)
            self._transient.append(entry)
            self._transient_count += 1
        else:
            if event.final and event.run_id is not None:
                self._end_run(event.run_id)
            self._durable.append(entry)
        self._order.append(entry)
        self._retained += 1
        self._bytes += len(body)
        return entry

    def after(self, seq: int) -> Iterator[Entry]:
        """The entries retained after `seq`, in order. Valid until the journal changes."""
        order = self._order
        # By index, because an iterator would walk there from the first entry.
        for index in range(bisect_right(order, seq, key=_seq), len(order)):
            entry = order[index]
            if not entry.gone:
                yield entry

    def trim(self) -> None:
        """Let go what exceeds the retention: superseded first, then transient, then durable."""
        keep = self._retention
        while self._transient_count > keep.transient:
            self._evict_transient()
        while len(self._durable) > keep.durable:
            self._evict_durable()
        while self._bytes > keep.bytes:
            if self._transient_count:
                self._evict_transient()
            else:
                self._evict_durable()
        if len(self._order) > 2 * self._retained + 64:
            self._order = [entry for entry in self._order if not entry.gone]
        if len(self._transient) > 2 * self._transient_count + 64:
            self._transient = deque(entry for entry in self._transient if not entry.gone)

    # -- runs ---------------------------------------------------------------------------------

    def _join_run(self, entry: Entry, run_id: str) -> None:
        run = self._open.get(run_id)
        if run is None:
            run = self._open[run_id] = Run(run_id)
        run.entries.append(entry)
        entry.run = run

    def _end_run(self, run_id: str) -> None:
        """Supersede what the run has so far; a later event of the same id begins a new one."""
        run = self._open.pop(run_id, None)
        if run is None:
            return
        run.ended = True
        if run.entries:
            self._ended.append(run)
        if run.lost:
            self._floor = max(self._lost, *(each.lost for each in self._open.values()), 0)

    # -- retention ----------------------------------------------------------------------------

    def _evict_transient(self) -> None:
        if self._ended:
            run = self._ended[0]
            entry = run.entries.popleft()
            if not run.entries:
                self._ended.popleft()
            self._let_go(entry)
        else:
            entry = self._transient.popleft()
            while entry.gone:
                entry = self._transient.popleft()
            self._let_go(entry)
            self._floor = max(self._floor, entry.seq)
            if entry.run is None:
                self._lost = max(self._lost, entry.seq)
            else:
                entry.run.entries.popleft()
                entry.run.lost = entry.seq
        self._transient_count -= 1

    def _evict_durable(self) -> None:
        entry = self._durable.popleft()
        self._let_go(entry)
        self._lost = max(self._lost, entry.seq)
        self._floor = max(self._floor, entry.seq)

    def _let_go(self, entry: Entry) -> None:
        entry.gone = True
        self._retained -= 1
        self._bytes -= len(entry.body)
        entry.body = b""  # the entry stays until a compaction; its bytes must not
        self._gone = max(self._gone, entry.seq)

    # -- plain data ---------------------------------------------------------------------------

    def to_state(self) -> Object:
        """Plain JSON data from which `from_state` goes on exactly as this journal would."""
        return {
            "cursor": self._cursor,
            "lost": self._lost,
            "gone": self._gone,
            "events": [[entry.seq, entry.body.decode()] for entry in self.after(0)],
            "open": {run.run_id: run.lost for run in self._open.values()},
            "ended": [[entry.seq for entry in run.entries] for run in self._ended],
        }

    @classmethod
    def from_state(cls, retention: Retention, state: Object) -> "Journal":
        """Rebuild a journal. Raises what broken data raises: it is trusted to be `to_state`'s."""
        journal = cls(retention)
        journal._open = {run_id: Run(run_id, lost=lost) for run_id, lost in state["open"].items()}
        ended = {
            seq: run for seqs in state["ended"] for run in [Run("", ended=True)] for seq in seqs
        }
        journal._ended.extend(dict.fromkeys(ended.values()))
        for seq, text in state["events"]:
            journal._restore(seq, text.encode(), ended.get(seq))
        journal._cursor = state["cursor"]
        journal._lost = state["lost"]
        journal._gone = state["gone"]
        journal._floor = max(journal._lost, *(run.lost for run in journal._open.values()), 0)
        return journal

    def _restore(self, seq: int, body: bytes, ended: Run | None) -> None:
        entry = Entry(seq, body, ended)
        event = entry.event()
        if event.transient:
            if ended is not None:
                ended.entries.append(entry)
            elif event.run_id is not None:
                self._join_run(entry, event.run_id)
            self._transient.append(entry)
            self._transient_count += 1
        else:
            self._durable.append(entry)
        self._order.append(entry)
        self._retained += 1
        self._bytes += len(body)

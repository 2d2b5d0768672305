"""The account of every event, kept by an observer of both ends. No I/O here.

The observer sees what the gateway published and what the client's application was given. It asks
neither machine what it thinks of that.
"""

from collections import Counter
from enum import Enum
from typing import Final

from attrs import define

from gatewayproto import Event
from gatewayproto.actions import EventReceived, Joined, Skipped, SnapshotReceived
from gatewayproto.frames import Object
from gatewayproto.projection import Transcript

_MAX_PROBLEMS: Final = 20


class Fate(Enum):
    """How an event was accounted for to the client's application."""

    DELIVERED = "delivered"
    SKIPPED = "skipped"
    COVERED = "covered by a snapshot"


@define(eq=False)
class _Record:
    event: Event
    fate: Fate | None = None


class Account:
    """What became of each event, and what was wrong on the way.

    Events are numbered anew in each epoch, so the same seq may stand for two events: those of an
    epoch, and those that an older copy of it had before it went on in another.
    """

    def __init__(self) -> None:
        self.published = 0
        self.duplicates = 0
        self.resyncs: Counter[str] = Counter()
        self.problems: list[str] = []
        self.position: tuple[str | None, int] | None = None
        """The epoch and seq up to which everything was given to the application."""
        self._fates: Counter[Fate] = Counter()
        self._epochs: dict[str | None, list[_Record]] = {}
        self._gateways = Transcript()
        self._clients = Transcript()

    @property
    def delivered(self) -> int:
        """Events that the application was given."""
        return self._fates[Fate.DELIVERED]

    @property
    def skipped(self) -> int:
        """Events that were named as skipped instead."""
        return self._fates[Fate.SKIPPED]

    @property
    def covered(self) -> int:
        """Events that a snapshot stood for instead."""
        return self._fates[Fate.COVERED]

    @property
    def lost(self) -> int:
        """Events that were published and not accounted for, so far."""
        return self.published - self._fates.total()

    def totals(self) -> dict[str, int]:
        """All sums, by their names in the output."""
        return {
            "published": self.published,
            "delivered": self.delivered,
            "skipped": self.skipped,
            "snapshot_covered": self.covered,
            "duplicates": self.duplicates,
            "lost": self.lost,
        }

    def converged(self) -> bool:
        """Whether the client's state is that of the gateway, both folded here from the events."""
        return self._clients.state() == self._gateways.state()

    # -- the gateway's end --------------------------------------------------------------------

    def note_published(self, epoch: str, seq: int, event: Event) -> None:
        """The gateway published an event."""
        records = self._epochs.setdefault(epoch, [])
        if seq != len(records) + 1:
            self._complain(f"an event after {len(records)} was numbered {seq}")
        records.append(_Record(event))
        self.published += 1
        self._gateways.apply(seq, event)

    def gateway_state(self) -> Object:
        """The fold of what was published, to be kept with a copy of the gateway."""
        return self._gateways.state()

    def note_recovered(self, old: str, new: str, cursor: int, state: Object) -> None:
        """The gateway goes on from a copy that it had of an epoch at `cursor`, in a new one."""
        self._epochs[new] = self._epochs[old][:cursor]
        self._gateways = Transcript()
        self._gateways.load(state)

    # -- the client's end ---------------------------------------------------------------------

    def note_given(self, item: Joined | EventReceived | Skipped | SnapshotReceived) -> None:
        """The client's application was given an item."""
        epoch = item.token.epoch
        match item:
            case Joined():
                if self.position is not None:
                    self._complain("the session was lost")
            case EventReceived():
                self._deliver(epoch, item.seq, item.event)
            case Skipped():
                self._skip(epoch, item)
            case SnapshotReceived():
                self._cover(item)
        self.position = (epoch, item.token.cursor)

    def _deliver(self, epoch: str | None, seq: int, event: Event) -> None:
        records = self._epochs.get(epoch, [])
        if not 0 < seq <= len(records) or records[seq - 1].event != event:
            self._complain(f"{seq} is not the event that was published")
            return
        record = records[seq - 1]
        if record.fate is not None:
            self.duplicates += 1
            return
        if self.position != (epoch, seq - 1):
            self._complain(f"{seq} was given out of order")
        self._account(record, Fate.DELIVERED)
        self._clients.apply(seq, event)

    def _skip(self, epoch: str | None, item: Skipped) -> None:
        records = self._epochs.get(epoch, [])
        if self.position is None or not item.first <= self.position[1] + 1 <= item.last:
            self._complain(f"{item.first} to {item.last} were skipped out of order")
        if item.last > len(records):
            self._complain(f"{item.last} was skipped before it was published")
        for record in records[item.first - 1 : item.last]:
            if record.fate is None:
                self._account(record, Fate.SKIPPED)

    def _cover(self, item: SnapshotReceived) -> None:
        records = self._epochs.get(item.epoch, [])
        if item.cursor > len(records):
            self._complain(f"a snapshot of {item.cursor} came before that was published")
        for record in records[: item.cursor]:
            if record.fate is None:
                self._account(record, Fate.COVERED)
        self.resyncs[item.reason] += 1
        self._clients = Transcript()
        self._clients.load(item.state)

    def _account(self, record: _Record, fate: Fate) -> None:
        record.fate = fate
        self._fates[fate] += 1

    def _complain(self, problem: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)

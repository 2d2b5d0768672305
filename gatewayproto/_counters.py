"""What the machines count: plain integers, raised where something happens anyway.

Nothing here is read by what decides, and nothing is saved.

Spec: the how-to "Operate a gateway".
"""

from collections import Counter
from typing import Any, Final, Literal, get_args

from attrs import define, field, fields

from gatewayproto.actions import (
    ClientEvent,
    EventReceived,
    Gap,
    Joined,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    RetryScheduled,
    Skipped,
    SnapshotReceived,
)
from gatewayproto.errors import ErrorCode
from gatewayproto.frames import ResyncReason

Sent = Literal[
    "event",
    "skip",
    "caught_up",
    "snapshot",
    "welcome",
    "rejection",
    "answer",
    "ping",
    "notice",
]
"""The groups by which frames are counted."""


@define(eq=False)
class GatewayCounters:
    """The counters of `GatewayMetrics`, under their names there."""

    handshakes: Counter[str] = field(factory=Counter)
    rejections: Counter[str] = field(factory=Counter)
    closes: Counter[str] = field(factory=Counter)
    sessions_opened: int = 0
    sessions_closed: int = 0
    sessions_expired: int = 0
    events_published: Counter[str] = field(factory=Counter)
    frames_sent: Counter[str] = field(factory=Counter)
    bytes_sent: Counter[str] = field(factory=Counter)
    resyncs: Counter[str] = field(factory=Counter)
    snapshots: int = 0
    lags: int = 0
    messages_taken: int = 0
    messages_duplicate: int = 0
    messages_refused: Counter[str] = field(factory=Counter)
    violations: int = 0

    def reject(self, code: ErrorCode) -> None:
        """A handshake, or a connection before it, was rejected."""
        self.handshakes["rejected"] += 1
        self.rejections[code.value] += 1


@define(eq=False)
class ClientCounters:
    """The counters of `ClientMetrics`, under their names there."""

    attempts: int = 0
    retries: Counter[str] = field(factory=Counter)
    gaps: int = 0
    duplicates_dropped: int = 0
    resyncs: Counter[str] = field(factory=Counter)
    events: int = 0
    skipped_seqs: int = 0
    snapshots: int = 0
    messages_sent: int = 0
    messages_accepted: int = 0
    messages_refused: int = 0
    messages_unknown: int = 0

    def note(self, event: ClientEvent) -> None:
        """Count what the application is told."""
        match event:
            case EventReceived():
                self.events += 1
            case Skipped():
                self.skipped_seqs += event.last - event.first + 1
            case SnapshotReceived():
                self.snapshots += 1
                self._resync(event.reason)
            case Joined(resync_reason=str(reason), resumed=False):
                self._resync(reason)
            case Gap():
                self.gaps += 1
            case MessageAccepted():
                self.messages_accepted += 1
            case MessageRefused():
                self.messages_refused += 1
            case OutcomeUnknown():
                self.messages_unknown += 1
            case RetryScheduled():
                self.retries[_cause(event.code)] += 1
            case _:
                pass

    def _resync(self, reason: str) -> None:
        self.resyncs[reason if reason in _REASONS else "other"] += 1


_REASONS: Final = frozenset({*get_args(ResyncReason), "unspecified"})
_CAUSES: Final = frozenset({*map(str, ErrorCode), "recovery_timeout", "gap"})


def _cause(code: str | None) -> str:
    """A name of which there are few, whatever code a server comes up with."""
    if code is None:
        return "unknown"
    if code in _CAUSES:
        return code
    group = code.partition("_")[0]
    return group if group in {"close", "http"} else "other"


def plain(counters: GatewayCounters | ClientCounters) -> dict[str, Any]:
    """The counters by name, as plain data of its own."""
    values = {each.name: getattr(counters, each.name) for each in fields(type(counters))}
    return {
        name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()
    }

"""The store of a world whose gateway writes ahead: it confirms late, and keeps what it confirmed.

Spec: the verification page, "One world"; the architecture page, "Write ahead".
"""

from collections.abc import Iterator

from attrs import define, field

from gatewayproto.actions import Persist
from gatewayproto.frames import Object
from gatewayproto.inputs import Persisted


@define(eq=False)
class Store:
    """Records of sessions: those confirmed, and those given since, which a crash takes.

    `saved` is an older copy of what was confirmed.
    """

    confirmed: dict[str, list[Persist]] = field(factory=dict)
    waiting: dict[str, list[Persist]] = field(factory=dict)
    saved: dict[str, list[Persist]] = field(factory=dict)

    def take(self, record: Persist) -> None:
        """A record is given to be stored."""
        self.waiting.setdefault(record.session_id, []).append(record)

    def confirm(self, session_id: str) -> Persisted:
        """Store the oldest of a session's records; what they supersede is let go."""
        waiting = self.waiting[session_id]
        record = waiting.pop(0)
        if not waiting:
            del self.waiting[session_id]
        kept = self.confirmed.setdefault(session_id, [])
        kind = record.record["kind"]
        if kind in {"session", "expired"}:
            kept.clear()
        if kind == "expired":
            del self.confirmed[session_id]
        else:
            kept.append(record)
        return Persisted(session_id=session_id, number=record.number)

    def save(self) -> None:
        """Make a copy, to come back to."""
        self.saved = {session_id: list(kept) for session_id, kept in self.confirmed.items()}

    def crash(self, *, to_copy: bool = False, empty: bool = False) -> None:
        """What was not confirmed is lost; or what was since the copy, or everything."""
        self.waiting.clear()
        if to_copy:
            self.confirmed = {session_id: list(kept) for session_id, kept in self.saved.items()}
        elif empty:
            self.confirmed.clear()

    def __iter__(self) -> Iterator[tuple[str, int, Object]]:
        """What was confirmed, as `Gateway.recover_stored` takes it."""
        for session_id, kept in self.confirmed.items():
            for each in kept:
                yield session_id, each.number, each.record

    def copy(self) -> "Store":
        """The same store in another world."""
        return Store(
            {session_id: list(kept) for session_id, kept in self.confirmed.items()},
            {session_id: list(kept) for session_id, kept in self.waiting.items()},
            {session_id: list(kept) for session_id, kept in self.saved.items()},
        )

"""Things that may last so long and no longer. No I/O here."""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class ExpiryQueue(Generic[K]):
    """Keys that each expire `timeout` seconds after they were added.

    One timeout for all keeps them in the order of their deadlines, so every operation takes
    constant time and one timer serves them all.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._deadlines: dict[K, float] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def __iter__(self) -> Iterator[K]:
        return iter(tuple(self._deadlines))

    def add(self, key: K, now: float) -> None:
        """Let `key` expire, unless it is to expire already."""
        self._deadlines.setdefault(key, now + self._timeout)

    def discard(self, key: K) -> None:
        """Let `key` stay."""
        self._deadlines.pop(key, None)

    @property
    def next_deadline(self) -> float | None:
        """When the first key expires."""
        return next(iter(self._deadlines.values()), None)

    def oldest(self) -> K | None:
        """The key that expires first."""
        return next(iter(self._deadlines), None)

    def pop_expired(self, now: float) -> list[K]:
        """Take out the keys whose time is up, the first added first."""
        expired: list[K] = []
        for key, deadline in self._deadlines.items():
            if deadline > now:
                break
            expired.append(key)
        for key in expired:
            del self._deadlines[key]
        return expired

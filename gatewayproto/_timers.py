"""Deadlines by name: which one is next, and which are due."""

import heapq
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """At most one deadline for each key.

    A heap with lazy deletion: setting, cancelling and asking for the next are O(log n) amortized,
    so that a gateway with ten thousand connections can move a deadline with every frame.
    """

    def __init__(self) -> None:
        # The second number is an entry's age: it breaks ties, so that equal deadlines fall due in
        # a fixed order, and tells an entry that is in force from one that was replaced.
        self._deadlines: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0

    def set(self, key: K, deadline: float) -> None:
        """Set or move the deadline of `key`."""
        if self.get(key) == deadline:
            return
        self._count += 1
        self._deadlines[key] = (deadline, self._count)
        heapq.heappush(self._heap, (deadline, self._count, key))
        if len(self._heap) > 2 * len(self._deadlines) + 64:
            self._compact()

    def cancel(self, key: K) -> None:
        """Forget the deadline of `key`, if it has one."""
        self._deadlines.pop(key, None)

    def get(self, key: K) -> float | None:
        """The deadline of `key`."""
        entry = self._deadlines.get(key)
        return None if entry is None else entry[0]

    @property
    def next_deadline(self) -> float | None:
        """The earliest deadline."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def in_order(self) -> list[tuple[K, float]]:
        """Every key and its deadline, in the order in which they fall due.

        Setting them again in this order, in an empty one, gives deadlines that behave the same.
        """
        return [
            (key, deadline)
            for key, (deadline, _) in sorted(self._deadlines.items(), key=lambda item: item[1])
        ]

    def pop_due(self, now: float) -> Iterator[K]:
        """Take out, one after the other, the keys whose deadline is at or before `now`.

        Deadlines that are set meanwhile are due as well if they are not after `now`.
        """
        while True:
            self._drop_stale()
            if not self._heap or self._heap[0][0] > now:
                return
            _, _, key = heapq.heappop(self._heap)
            del self._deadlines[key]
            yield key

    def _drop_stale(self) -> None:
        while self._heap and not self._in_force(self._heap[0]):
            heapq.heappop(self._heap)

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._in_force(entry)]
        heapq.heapify(self._heap)

    def _in_force(self, entry: tuple[float, int, K]) -> bool:
        deadline, age, key = entry
        return self._deadlines.get(key) == (deadline, age)

"""What an exploration keeps of the states it has met: how each was come to, and where it leads.

Per state it is a fingerprint and a few numbers, so that millions fit.

Spec: the verification page, "Explorer".
"""

from array import array

from attrs import define, field


def _numbers() -> "array[int]":
    return array("I")


@define(eq=False)
class Graph:
    """States by number, in the order in which they were met, which is that of their expansion.

    Of the deeds that lead on, only the free ones are kept.
    """

    _known: dict[bytes, int] = field(factory=dict)
    _before: "array[int]" = field(factory=_numbers)
    _deed: "array[int]" = field(factory=_numbers)
    _free: "array[int]" = field(factory=_numbers)  # where free deeds lead, state by state
    _begin: "array[int]" = field(factory=_numbers)  # where each expanded state begins in `_free`

    def __len__(self) -> int:
        return len(self._known)

    @property
    def is_complete(self) -> bool:
        """Whether every state was expanded."""
        return len(self._begin) == len(self._known)

    def expand(self) -> int:
        """Begin with the next state that was not expanded; gives its number."""
        self._begin.append(len(self._free))
        return len(self._begin) - 1

    def meet(self, fingerprint: bytes, before: int | None, deed: int, *, free: bool) -> bool:
        """Come from the state `before` (none, at the beginning) by a deed. Whether it is new."""
        number = self._known.setdefault(fingerprint, len(self._known))
        if free:
            self._free.append(number)
        if number < len(self._before):
            return False
        self._before.append(0 if before is None else before)
        self._deed.append(deed)
        return True

    def way_to(self, number: int) -> tuple[int, ...]:
        """The deeds of a shortest way to a state."""
        way: list[int] = []
        while number:
            way.append(self._deed[number])
            number = self._before[number]
        return tuple(reversed(way))

    def find_round(self) -> int | None:
        """A state from which free deeds lead back to it, if there is one."""
        degrees = array("I", bytes(4 * len(self._known)))
        for number in self._free:
            degrees[number] += 1
        ends = [number for number in range(len(degrees)) if not degrees[number]]
        seen = 0
        while ends:
            seen += 1
            for number in self._leads(ends.pop()):
                degrees[number] -= 1
                if not degrees[number]:
                    ends.append(number)
        if seen == len(degrees):
            return None
        return next(number for number, degree in enumerate(degrees) if degree)

    def _leads(self, number: int) -> "array[int]":
        """Where the free deeds of a state lead."""
        if number >= len(self._begin):
            return _numbers()
        last = number + 1 == len(self._begin)
        end = len(self._free) if last else self._begin[number + 1]
        return self._free[self._begin[number] : end]

"""A client's way in: from what was read to what its application takes, in bounds. No I/O here."""

from collections import deque
from enum import IntEnum
from typing import Final, Generic, TypeVar

I = TypeVar("I")  # noqa: E741 - the machine's inputs
T = TypeVar("T")

# More than lies in the buffers of two sockets between a server's events and its answer.
_AWAITING_ITEMS: Final = 100_000
_AWAITING_BYTES: Final = 64 * 1024 * 1024


class Urgency(IntEnum):
    """Whether something is awaited that is no item, but lies behind items."""

    NONE = 0
    #: An answer, which the application may be waiting for before it takes the next item.
    ANSWER = 1
    #: A handshake or a snapshot, before which nothing is handed on.
    ATTACH = 2


class Inflow(Generic[I, T]):
    """Inputs that the machine has not been given, and items that the application has not taken.

    Items are bounded by their number and by the bytes they came in. Once they reach a bound, the
    machine gets no more inputs, and the network is to be left unread until half is taken. While
    an answer is awaited, 100,000 items or 64 MiB are the bounds, if they are the higher ones.
    """

    def __init__(self, *, max_items: int, max_bytes: int) -> None:
        if max_items < 1 or max_bytes < 1:
            raise ValueError("a buffer has room for one item at least")
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._inputs: deque[tuple[I, int]] = deque()
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._size = 0  # of the input that the machine has been given last

    def __len__(self) -> int:
        return len(self._items)

    def arrived(self, input_: I, size: int) -> None:
        """Keep an input of `size` bytes for the machine; one of none makes no items."""
        self._inputs.append((input_, size))

    def next_input(self, urgency: Urgency) -> I | None:
        """Take out the input that the machine may be given now, if there is one."""
        if not self._inputs:
            return None
        input_, size = self._inputs[0]
        if size > 0 and not self._has_room(urgency):
            return None
        self._inputs.popleft()
        self._size = size
        return input_

    def drop_inputs(self) -> None:
        """Forget the inputs: they came from a connection that was given up."""
        self._inputs.clear()

    def hand_on(self, item: T) -> None:
        """Keep an item, made of the last input, for the application."""
        self._items.append((item, self._size))
        self._bytes += self._size
        self._size = 0

    def take(self) -> T:
        """Take the oldest item out."""
        item, size = self._items.popleft()
        self._bytes -= size
        return item

    def may_read(self, urgency: Urgency, *, reading: bool) -> bool:
        """Whether to read from the network; `reading` tells whether it is read now."""
        if self._inputs or not self._has_room(urgency):
            return False
        half_taken = 2 * len(self._items) <= self._max_items and 2 * self._bytes <= self._max_bytes
        return reading or urgency is not Urgency.NONE or half_taken

    def _has_room(self, urgency: Urgency) -> bool:
        items, size = self._max_items, self._max_bytes
        match urgency:
            case Urgency.NONE:
                pass
            case Urgency.ANSWER:
                items, size = max(items, _AWAITING_ITEMS), max(size, _AWAITING_BYTES)
            case Urgency.ATTACH:
                return True
        return len(self._items) < items and self._bytes < size

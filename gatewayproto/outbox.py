"""The messages of a client that have not come to their end: unacknowledged, and not yet written.

Order is all that matters here: what was written on a connection that is gone is written again, in
its old order, before anything newer.

Spec: Requests.
"""

from collections.abc import Iterator

from attrs import define, frozen


@define
class Pending:
    """One message. `frame` is its encoding; `written` the time it was first written, if ever."""

    request_id: str
    frame: bytes
    written: float | None = None

    def is_late(self, now: float, ttl: float) -> bool:
        """Whether `ttl` seconds have passed since it was first written."""
        return self.written is not None and self.written + ttl <= now


@frozen(kw_only=True)
class SavedMessage:
    """A message as plain data; `age` is the seconds since it was first written."""

    request_id: str
    frame: str
    age: float | None
    in_flight: bool


class Outbox:
    """At most `limit` messages, in the order in which the application gave them.

    `_in_flight` are those written on the present connection, `_waiting` the others, all of them
    newer; what was ever written stands before what never was.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_flight: dict[str, Pending] = {}
        self._waiting: dict[str, Pending] = {}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._in_flight or request_id in self._waiting

    def __iter__(self) -> Iterator[Pending]:
        yield from self._in_flight.values()
        yield from self._waiting.values()

    def __len__(self) -> int:
        return len(self._in_flight) + len(self._waiting)

    @property
    def in_flight(self) -> int:
        """How many were written on the present connection and are not answered."""
        return len(self._in_flight)

    @property
    def is_full(self) -> bool:
        """Whether another message would be one too many."""
        return len(self) >= self._limit

    @property
    def oldest_written(self) -> float | None:
        """When the message that has been waiting longest for its answer was first written."""
        return next(iter(self)).written if self._in_flight or self._waiting else None

    def add(self, message: Pending) -> None:
        """Put a message at the end."""
        self._waiting[message.request_id] = message

    def next_to_write(self, window: int) -> Pending | None:
        """The message to write now, if fewer than `window` of them are unacknowledged."""
        if len(self._in_flight) >= window:
            return None
        return next(iter(self._waiting.values()), None)

    def mark_written(self, message: Pending, now: float) -> None:
        """The message that is next was written on the present connection."""
        if message.written is None:
            message.written = now
        self._in_flight[message.request_id] = self._waiting.pop(message.request_id)

    def detach(self) -> None:
        """The connection is gone: what was written on it is to be written again, and first."""
        self._waiting = {**self._in_flight, **self._waiting}
        self._in_flight = {}

    def answer(self, request_id: str) -> bool:
        """Take out a message that was answered; False if none of this id was ever written."""
        message = self._in_flight.get(request_id) or self._waiting.get(request_id)
        if message is None or message.written is None:
            return False
        self.drop(message)
        return True

    def drop(self, message: Pending) -> None:
        """Take out a message."""
        self._in_flight.pop(message.request_id, None)
        self._waiting.pop(message.request_id, None)

    def drop_written(self) -> list[Pending]:
        """Take out, in order, everything that was ever written."""
        return self._drop_all_of([pending for pending in self if pending.written is not None])

    def drop_late(self, now: float, ttl: float) -> list[Pending]:
        """Take out, in order, what was first written `ttl` seconds ago or earlier."""
        return self._drop_all_of([pending for pending in self if pending.is_late(now, ttl)])

    def drop_all(self) -> list[Pending]:
        """Take out everything, in order."""
        dropped = list(self)
        self._in_flight, self._waiting = {}, {}
        return dropped

    def _drop_all_of(self, messages: list[Pending]) -> list[Pending]:
        for message in messages:
            self.drop(message)
        return messages

    def save(self, now: float) -> tuple[SavedMessage, ...]:
        """The messages as plain data."""
        return tuple(
            SavedMessage(
                request_id=message.request_id,
                frame=message.frame.decode(),
                age=None if message.written is None else now - message.written,
                in_flight=message.request_id in self._in_flight,
            )
            for message in self
        )

    def load(self, saved: tuple[SavedMessage, ...], now: float) -> None:
        """Take the messages of `save`, into an empty outbox."""
        for message in saved:
            written = None if message.age is None else now - message.age
            pending = Pending(message.request_id, message.frame.encode(), written)
            into = self._in_flight if message.in_flight else self._waiting
            into[message.request_id] = pending

"""A transport within one process: bytes both ways, with room for so many, and the least framing.

What WebSocket does is done here by records: one byte for the kind, four for the size, and the
content. A transport begins with an upgrade and its answer; text messages and a close follow.
"""

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final

from attrs import define, field
from msgspec import json

from gatewayproto.testing.memory.loop import Loop

READ: Final = 16 * 1024
"""The most bytes that one read gives."""
_HEAD: Final = 5


class Record(Enum):
    """What a record is."""

    UPGRADE = b"U"
    ACCEPTED = b"A"
    REFUSED = b"R"
    TEXT = b"T"
    CLOSE = b"C"


def encode(kind: Record, content: bytes = b"") -> bytes:
    """A record as bytes."""
    return kind.value + len(content).to_bytes(4, "big") + content


def encode_fields(kind: Record, **fields: Any) -> bytes:
    """A record whose content is a JSON object."""
    return encode(kind, json.encode(fields))


class TooLargeError(Exception):
    """A record is larger than its reader takes, or none at all."""


class RecordReader:
    """Bytes to records, wherever they are cut. Keeps no more than one record of `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Record, bytes]]:
        """The records that are whole now.

        Raises:
            TooLargeError: The rest cannot be read.
        """
        self._data += data
        while len(self._data) >= _HEAD:
            size = int.from_bytes(self._data[1:_HEAD], "big")
            if size > self._limit:
                raise TooLargeError(size)
            end = _HEAD + size
            if len(self._data) < end:
                return
            kind, content = Record(bytes(self._data[:1])), bytes(self._data[_HEAD:end])
            del self._data[:end]
            yield kind, content


@define
class _Pipe:
    """One direction. `finished`: nothing more is written; `closed`: nothing more is read."""

    room: int
    data: bytearray = field(factory=bytearray)
    finished: bool = False
    closed: bool = False

    def cut(self) -> None:
        """What was not read is lost."""
        self.data.clear()
        self.finished = True


class Endpoint:
    """One end of a transport.

    `notify` is called, in a turn of its own, whenever there may be something to read, room to
    write, or an end.
    """

    def __init__(self, loop: Loop, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.notify: Callable[[], None] = _ignore
        self._loop = loop
        self._incoming = incoming
        self._outgoing = outgoing
        self._other = self

    @classmethod
    def pair(cls, loop: Loop, capacity: int) -> tuple["Endpoint", "Endpoint"]:
        """The two ends of a new transport, with room for `capacity` bytes each way."""
        there, back = _Pipe(capacity), _Pipe(capacity)
        one, other = cls(loop, back, there), cls(loop, there, back)
        one._other, other._other = other, one
        return one, other

    @property
    def ended(self) -> bool:
        """Whether nothing more can be read."""
        return self._incoming.finished and not self._incoming.data

    def write(self, data: bytes | bytearray) -> int:
        """Write what there is room for; tells how many bytes that is."""
        pipe = self._outgoing
        if pipe.finished:
            return 0
        if pipe.closed:  # nobody will ever read it
            return len(data)
        taken = min(len(data), pipe.room - len(pipe.data))
        if taken:
            pipe.data += data[:taken]
            self._other.wake()
        return taken

    def read(self, limit: int = READ) -> bytes:
        """Read what there is, at most so many bytes."""
        unread = self._incoming.data
        data = bytes(unread[:limit])
        del unread[:limit]
        if data:
            self._other.wake()
        return data

    def finish(self) -> None:
        """Write nothing more; the other end reads what was written, and then the end."""
        if not self._outgoing.finished:
            self._outgoing.finished = True
            self._other.wake()

    def close(self) -> None:
        """Finish, and read nothing more."""
        self._incoming.closed = True
        self._incoming.data.clear()
        self.finish()

    def abort(self) -> None:
        """Break the transport both ways; what was not read is lost."""
        self._incoming.cut()
        self._outgoing.cut()
        self.wake()
        self._other.wake()

    def wake(self) -> None:
        """Have `notify` called."""
        self._loop.call_soon(self._notify)

    def _notify(self) -> None:
        self.notify()


def _ignore() -> None:
    """Nobody wants to know yet."""


class Writer:
    """Bytes on their way into a transport, and how many payload bytes of them it took."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._out = bytearray()
        self._payloads: list[tuple[int, int]] = []  # (where it ends in the stream, its bytes)
        self._queued = 0
        self._written = 0

    @property
    def waiting(self) -> int:
        """Bytes that the transport did not take yet."""
        return len(self._out)

    def queue(self, data: bytes, *, payload: int = 0) -> None:
        """Have bytes written, `payload` of them to be counted once all are."""
        self._out += data
        self._queued += len(data)
        if payload:
            self._payloads.append((self._queued, payload))

    def write(self) -> int:
        """Write what there is room for; tells how many payload bytes are out by that."""
        taken = self._endpoint.write(self._out)
        del self._out[:taken]
        self._written += taken
        done = [size for end, size in self._payloads if end <= self._written]
        del self._payloads[: len(done)]
        return sum(done)

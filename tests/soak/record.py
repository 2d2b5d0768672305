"""What server and clients write down of a soak: lines of JSON, each a list, its kind first.

The server's lines (`n` numbers its sessions):

| line | what happened |
|---|---|
| `opened`, n, session id | a session began |
| `event`, n, seq, digest, run or null, final, base, runs | an event was published |
| `message`, n, request id, reply to | a message entered the session's inbox |
| `expired`, n, subscribers | it was forgotten, with so many connected |

The clients' lines (`t` numbers their tabs):

| line | what happened |
|---|---|
| `tab`, t, session id, cursor | a tab begins to follow a session behind this cursor |
| `event`, t, seq, digest, base, runs | it was given an event; a transient one has no states |
| `skip`, t, first, last | it was told of a skip |
| `snapshot`, t, cursor, reason, base, runs | it was given a snapshot |
| `sent`, t, request id | it sends a message |
| `end`, t, request id, how | that came to an end |
| `gap`, t, expected, received | it was told of a gap |
| `another`, t, session id | it lost its session and was given another |
| `stopped`, t, code | it stopped for an error |
| `violation`, t, text | a monitor of its machine found something |
| `stuck`, t, what | it waited for something too long |
| `done`, t, request id | it has seen the last event that it waits for, the answer to that request |

`digest` stands for an event's fields; `base` and `runs` for the state that events fold into, its
open runs apart from the rest.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from gatewayproto import codec
from gatewayproto.frames import MAX_DEPTH, Event, Object

_BUFFER = 256 * 1024


def event_digest(event: Event) -> int:
    """A number that stands for all of an event's fields."""
    return _digest(codec.encode_event(event, max_depth=MAX_DEPTH))


def state_digests(state: Object) -> tuple[int, int]:
    """Numbers that stand for a state: one without its open runs, and one for those."""
    base = {name: each for name, each in state.items() if name != "runs"}
    return _digest(codec.canonical(base)), _digest(codec.canonical(state.get("runs")))


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=6).digest())


class Log:
    """A file of lines, written through a buffer: it takes no memory and seldom a system call."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=_BUFFER)
        self._encoder = msgspec.json.Encoder()

    def write(self, *line: object) -> None:
        """Write a line."""
        self._file.write(self._encoder.encode(line) + b"\n")

    def __enter__(self) -> Self:
        """Write until the end of the block."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self._file.close()


def lines(path: Path) -> Iterator[list[Any]]:
    """Read a file of lines."""
    decoder = msgspec.json.Decoder(list[Any])
    with path.open("rb") as file:
        for line in file:
            yield decoder.decode(line)

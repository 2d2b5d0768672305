"""A snapshot that comes in parts, put together again.

Spec: Server to client, `snapshot`.
"""

from typing import Final

from attrs import define, evolve, field

from gatewayproto import codec
from gatewayproto.errors import ErrorCode, FrameError
from gatewayproto.frames import Snapshot

_PIECE: Final = 4096
"""Characters: smaller chunks are joined as they come, so that they cost no more than their text."""


@define
class SnapshotParts:
    """The parts of one snapshot so far: `first` is part 1, `chunks` the text of all of them.

    `reached` is the most bytes that came of any since one was last whole or asked for: only what
    goes beyond it brings the client nearer to a snapshot.
    """

    first: Snapshot | None = None
    taken: int = 0
    size: int = 0
    reached: int = 0
    chunks: list[str] = field(factory=list)

    def add(self, frame: Snapshot, *, max_size: int) -> Snapshot | None:
        """Take a frame; give the snapshot once it is whole.

        Raises `FrameError` for a frame that is neither a whole snapshot nor the next part, for
        parts that differ in their other fields, for more than `max_size` bytes or so many parts,
        and for chunks that are no JSON object together.
        """
        part = frame.part
        if part is None:
            return self._whole(frame)
        if frame.state is not None or frame.chunk is None or frame.parts is None:
            raise _malformed("a snapshot's part has fields that do not go together")
        if part == 1:
            self.forget()
            self.first = evolve(frame, chunk="")
        elif part != self.taken + 1 or evolve(frame, part=1, chunk="") != self.first:
            raise _malformed("a snapshot's part is not the next one")
        self._take(frame.chunk, frame.parts, max_size)
        return self._joined(frame, max_size) if part == frame.parts else None

    def forget(self) -> None:
        """Drop what came so far."""
        self.first, self.taken, self.size, self.chunks = None, 0, 0, []

    def _whole(self, frame: Snapshot) -> Snapshot:
        if frame.state is None or frame.parts is not None or frame.chunk is not None:
            raise _malformed("a snapshot has neither its state nor a part of it")
        self.forget()
        self.reached = 0
        return frame

    def _take(self, chunk: str, parts: int, max_size: int) -> None:
        self.taken += 1
        self.size += len(chunk.encode())
        if self.size > max_size or parts > max_size:
            raise FrameError(ErrorCode.PAYLOAD_TOO_LARGE, "a snapshot's parts are too large")
        self.reached = max(self.reached, self.size)
        if self.chunks and max(len(self.chunks[-1]), len(chunk)) < _PIECE:
            self.chunks[-1] += chunk
        else:
            self.chunks.append(chunk)

    def _joined(self, last: Snapshot, max_size: int) -> Snapshot:
        data = "".join(self.chunks).encode()
        self.forget()
        self.reached = 0
        state = codec.parse_state(data, max_bytes=max_size)
        return evolve(last, state=state, part=None, parts=None, chunk=None)


def _malformed(detail: str) -> FrameError:
    return FrameError(ErrorCode.MALFORMED_FRAME, detail)

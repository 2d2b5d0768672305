"""Bytes between a stream and the end of a WebSocket that speaks on it."""

import logging
from enum import Enum
from typing import Final, Protocol

import trio
from gatewayproto_adapter.sockets import reset_at_close

_logger = logging.getLogger("gatewayproto.trio")

_BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
_READ: Final = 16 * 1024
"""Bytes that are read and taken at once: of the smallest frames some 20 ms."""
_PIECE: Final = 16 * 1024
"""Bytes given to a stream at once: it tells that it took them all, and nothing before."""
_TURNS: Final = 16
"""Turns of the loop in which a writer that is not held up writes some 64 KiB, TLS or not."""


class Speaker(Protocol):
    """One end of a WebSocket, as the pump sees it."""

    async def take(self, data: bytes) -> None:
        """Bytes came in."""
        ...

    def take_eof(self) -> None:
        """No more bytes come in."""
        ...

    def next_bytes(self) -> bytes:
        """All that is to be written now."""
        ...

    def took(self) -> None:
        """The stream took more of what was written."""
        ...

    def may_read(self) -> bool:
        """Whether to read on."""
        ...


class _Ending(Enum):
    #: Write what is left, and close.
    CLOSE = "close"
    #: Write what is left, say that it is all, and drop what comes in until the peer closes.
    DRAIN = "drain"


class Pump:
    """Reads from a stream and writes to it, one task each, until one of its ends is done.

    While the stream has bytes left of an earlier write, it is given nothing more. What is to be
    written is asked for once in a turn of the loop at most. `scope` is where the pump is to run.
    """

    def __init__(self, speaker: Speaker) -> None:
        self.scope = trio.CancelScope()
        self.unsent = 0
        """Bytes that were to be written and that the stream has not taken."""
        self._speaker = speaker
        self._wanted = trio.Event()
        self._gate = trio.lowlevel.ParkingLot()
        self._ending: _Ending | None = None
        self._aborted = False
        self._reading = True

    # -- for the speaker ----------------------------------------------------------------------

    def wake(self) -> None:
        """There is something to write."""
        self._wanted.set()

    def read_or_not(self) -> None:
        """The answer of `may_read` may have changed."""
        self._gate.unpark_all()

    def finish(self, *, read_on: bool) -> None:
        """Write what is left, then close; with `read_on` not before the peer does."""
        self._ending = _Ending.DRAIN if read_on else _Ending.CLOSE
        self.read_or_not()
        self.wake()

    def abort(self) -> None:
        """End at once; what was not sent is lost, in the kernel as well."""
        self._aborted = True
        self.scope.cancel()

    async def give_way(self) -> None:
        """Have written what is to be written, unless the peer holds the stream up."""
        self.wake()
        for _ in range(_TURNS):
            await trio.lowlevel.checkpoint()
            if self.unsent == 0 and not self._wanted.is_set():
                return

    # -- the tasks ----------------------------------------------------------------------------

    async def run(self, stream: trio.abc.Stream) -> None:
        """Move bytes both ways until the stream is done with; it is closed then.

        What is wrong with the stream or the peer ends it without being raised.
        """
        try:
            if isinstance(stream, trio.SSLStream):
                await stream.do_handshake()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream, nursery.cancel_scope)
                await self._read(stream)
            if not isinstance(stream, trio.SocketStream):
                # With TLS, this says that it was all.
                await stream.aclose()
        except _BROKEN as error:
            _logger.debug("a connection failed: %s", ascii(error))
        finally:
            await self._shut(stream)

    async def _shut(self, stream: trio.abc.Stream) -> None:
        inner = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        if isinstance(inner, trio.SocketStream):
            if self._aborted:
                reset_at_close(inner.socket)
            # It takes no waiting, and as many as there are may come to their end at once.
            inner.socket.close()
        else:
            await trio.aclose_forcefully(stream)

    async def _read(self, stream: trio.abc.Stream) -> None:
        try:
            while self._ending is not _Ending.CLOSE:
                while self._ending is None and not self._speaker.may_read():
                    await self._gate.park()
                data = await stream.receive_some(_READ)
                if not data:
                    break
                if self._ending is None:
                    await self._speaker.take(bytes(data))
            else:
                return
        except _BROKEN:
            self.scope.cancel()
            return
        self._reading = False
        if self._ending is None:
            self._speaker.take_eof()
        # The peer has ended: there is nothing left to wait for.
        self.finish(read_on=False)

    async def _write(self, stream: trio.abc.Stream, whole: trio.CancelScope) -> None:
        try:
            while True:
                await self._wanted.wait()
                self._wanted = trio.Event()
                while data := self._speaker.next_bytes():
                    await self._send(stream, data)
                if self._ending is not None:
                    break
            if self._ending is _Ending.CLOSE:
                # A cancellation costs several times what all the rest of the end does.
                if self._reading:
                    whole.cancel()
            elif isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
        except _BROKEN:
            self.scope.cancel()

    async def _send(self, stream: trio.abc.Stream, data: bytes) -> None:
        self.unsent += len(data)
        view = memoryview(data)
        for start in range(0, len(data), _PIECE):
            piece = view[start : start + _PIECE]
            await stream.send_all(piece)
            self.unsent -= len(piece)
            self._speaker.took()

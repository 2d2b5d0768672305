"""One connection of a server: an asyncio protocol between a transport and the gateway machine."""

import asyncio
import logging
import socket
import ssl
from contextlib import suppress
from typing import Final, Protocol, cast

from attrs import frozen
from gatewayproto_adapter.server_link import Hub, ServerLink
from gatewayproto_adapter.sockets import hold_little, reset_at_close

from gatewayproto_asyncio._buffers import keep_informed
from gatewayproto_asyncio._tasks import TaskOwner

_logger = logging.getLogger("gatewayproto.asyncio")

_PIECE: Final = 16 * 1024
"""Bytes that are taken at once: of the smallest frames some 20 ms."""


class FlushingHub(Hub, Protocol):
    """A server that writes for its connections."""

    def touched(self, connection: "Connection") -> None:
        """See to it that `flush` is called once in this turn of the loop."""
        ...


@frozen(kw_only=True)
class Tls:
    """How connections are secured; times in seconds."""

    context: ssl.SSLContext
    handshake_timeout: float
    shutdown_timeout: float


class Connection(ServerLink, asyncio.Protocol):
    """Bytes of one transport to the machine, and the machine's to the transport.

    What was read at once is taken in pieces, one in a turn of the loop, so that a read full of the
    smallest frames holds up nobody else for long. Nothing is read meanwhile.
    """

    def __init__(
        self, hub: FlushingHub, sock: socket.socket, *, max_payload: int, peer: str
    ) -> None:
        super().__init__(hub, max_payload=max_payload)
        self._flushing = hub
        self._socket = sock
        self.peer = peer
        self._opening: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._discarding = False
        self._unread = bytearray()
        self._eof = False
        self._lost = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the transport is gone, or could not be made."""

    def open(self, tasks: TaskOwner, tls: Tls | None) -> None:
        """Begin, unless there are too many; what comes of it comes by `connection_made`."""
        hold_little(self._socket)
        if not self._hub.arrived(self):
            self.abort()
            return
        self._opening = tasks.start(self._open(tls), name="gatewayproto connection")
        self._opening.add_done_callback(self._opened)

    async def _open(self, tls: Tls | None) -> None:
        connect = asyncio.get_running_loop().connect_accepted_socket
        try:
            if tls is None:
                await connect(lambda: self, self._socket)
            else:
                await connect(
                    lambda: self,
                    self._socket,
                    ssl=tls.context,
                    ssl_handshake_timeout=tls.handshake_timeout,
                    ssl_shutdown_timeout=tls.shutdown_timeout,
                )
        except OSError as error:
            _logger.debug("a connection failed: %s", ascii(error))

    def _opened(self, opening: asyncio.Task[None]) -> None:
        self._opening = None
        # Where it was cancelled although there was a transport already, uvloop closes that without
        # `connection_lost`.
        if self._transport is None or opening.cancelled():
            self._socket.close()
            self._end()

    def abort(self) -> None:
        """End at once; what was not sent is lost, in the kernel as well."""
        self._discarding = True
        self._unread.clear()
        if self._transport is not None:
            reset_at_close(self._socket)
            self._transport.abort()
        elif self._opening is not None:
            self._opening.cancel()
            # A TLS handshake that has not begun is not ended by that on every loop.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        else:
            self._socket.close()
            self._end()

    def flush(self) -> None:
        """Write what is to be written, unless the transport has enough."""
        if self._paused or self._transport is None or self._transport.is_closing():
            return
        self._write(self._transport)
        self.report_drained()

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        if self._discarding:
            self._transport.abort()
        else:
            keep_informed(self._transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._discarding:
            return
        if self._unread or len(data) > _PIECE:
            waiting = bool(self._unread)
            self._unread += data
            if not waiting:
                self._take_on()
        else:
            self._take_in(data)

    def eof_received(self) -> None:
        """See asyncio; the transport closes itself afterwards."""
        if self._unread:
            self._eof = True
        else:
            self._receive_eof()

    def pause_writing(self) -> None:
        """See asyncio."""
        self._paused = True

    def resume_writing(self) -> None:
        """See asyncio."""
        self._paused = False
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why is all the same
        """See asyncio."""
        if self._unread:
            self._lost = True
        else:
            self._end()

    # -- what was read ------------------------------------------------------------------------

    def _take_on(self) -> None:
        """Take a piece of what was read, and the rest in later turns of the loop."""
        piece = bytes(self._unread[:_PIECE])
        self._take_in(piece)
        del self._unread[:_PIECE]
        if self._discarding:
            self._unread.clear()
        if self._unread:
            self._read(on=False)
            asyncio.get_running_loop().call_soon(self._take_on)
            return
        if self._eof:
            self._eof = False
            self._receive_eof()
        if self._lost:
            self._end()
        else:
            self._read(on=True)

    def _take_in(self, data: bytes) -> None:
        for _ in self._receive(data):
            self.flush()

    def _read(self, *, on: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if on:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _end(self) -> None:
        self._discarding = True
        if not self.closed.done():
            self.closed.set_result(None)
            self._lose()

    # -- see `ServerLink` ---------------------------------------------------------------------

    def _wake(self) -> None:
        self._flushing.touched(self)

    def _unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _finish(self, *, read_on: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._write(transport)
        if read_on and transport.can_write_eof():
            self._discarding = True
            transport.write_eof()
        else:
            transport.close()

    def _write(self, transport: asyncio.Transport) -> None:
        data = self._next_bytes()
        if data:
            transport.write(data)

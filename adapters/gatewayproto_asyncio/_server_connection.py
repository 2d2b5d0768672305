"""One connection of a server: an asyncio protocol between a transport and the gateway machine."""

import asyncio
from typing import Protocol, cast

from gatewayproto_adapter.server_link import Hub, ServerLink, peer_name

from gatewayproto_asyncio._buffers import keep_informed


class FlushingHub(Hub, Protocol):
    """A server that writes for its connections."""

    def touched(self, connection: "Connection") -> None:
        """See to it that `flush` is called once in this turn of the loop."""
        ...


class Connection(ServerLink, asyncio.Protocol):
    """Bytes of one transport to the machine, and the machine's to the transport."""

    def __init__(self, hub: FlushingHub, *, max_payload: int, unix: bool) -> None:
        super().__init__(hub, max_payload=max_payload)
        self._flushing = hub
        self._unix = unix
        self._transport: asyncio.Transport  # from connection_made on, before anything else
        self._paused = False
        self._discarding = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the transport is gone."""

    def abort(self) -> None:
        """End at once; what was not sent is lost."""
        self._transport.abort()

    def flush(self) -> None:
        """Write what is to be written, unless the transport has enough."""
        if self._paused or self._transport.is_closing():
            return
        self._write()
        self.report_drained()

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        self.peer = peer_name(transport.get_extra_info("peername"), unix=self._unix)
        keep_informed(self._transport)
        if not self._hub.arrived(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if not self._discarding:
            for _ in self._receive(data):
                self.flush()

    def eof_received(self) -> None:
        """See asyncio; the transport closes itself afterwards."""
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
        self._discarding = True
        self._lose()
        if not self.closed.done():
            self.closed.set_result(None)

    # -- see `ServerLink` ---------------------------------------------------------------------

    def _wake(self) -> None:
        self._flushing.touched(self)

    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def _finish(self, *, read_on: bool) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        self._write()
        if read_on and transport.can_write_eof():
            self._discarding = True
            transport.write_eof()
        else:
            transport.close()

    def _write(self) -> None:
        data = self._next_bytes()
        if data:
            self._transport.write(data)

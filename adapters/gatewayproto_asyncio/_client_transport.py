"""One connection of a client: an asyncio protocol between a transport and the client machine."""

import asyncio
from typing import cast

from gatewayproto_adapter.client_link import ClientLink, LinkOwner
from gatewayproto_wsproto import ClientConnection

from gatewayproto_asyncio._buffers import keep_informed


class ClientTransport(ClientLink, asyncio.Protocol):
    """Bytes of one transport to messages, and messages to bytes, written once per loop turn."""

    def __init__(self, owner: LinkOwner, number: int, ws: ClientConnection) -> None:
        super().__init__(owner, number, ws)
        self.opening: asyncio.Task[None] | None = None
        """The task that opens it."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the transport is gone, or could not be opened."""
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._reading = True
        self._discarding = False
        self._flush_wanted = False

    def abort(self) -> None:
        """See `ClientLink`."""
        self._told = True
        if self._transport is not None:
            self._transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def opened(self, opening: asyncio.Task[None]) -> None:
        """The attempt to open it is over, with or without success."""
        self.opening = None
        # Where it was cancelled although there was a transport already, uvloop closes that without
        # `connection_lost`.
        if self._transport is None or opening.cancelled():
            self._set_gone()

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        if self._told:
            self._transport.abort()
        else:
            # Not now: what TLS itself has still to write would pause us, and uvloop never writes it
            # once reading is paused as well.
            asyncio.get_running_loop().call_soon(keep_informed, self._transport)
            self._wake()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if not self._discarding:
            self._receive(data)

    def eof_received(self) -> None:
        """See asyncio; the transport closes itself afterwards."""
        self._receive_eof()

    def pause_writing(self) -> None:
        """See asyncio."""
        self._paused = True
        self._read_or_not()

    def resume_writing(self) -> None:
        """See asyncio."""
        self._paused = False
        self._read_or_not()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why is all the same
        """See asyncio."""
        self._receive_eof()
        self._set_gone()

    # -- see `ClientLink` ---------------------------------------------------------------------

    def _is_stuck(self) -> bool:
        return self._paused

    def _read_or_not(self) -> None:
        on = self._may_read
        transport = self._transport
        if on == self._reading or transport is None or transport.is_closing():
            return
        self._reading = on
        if on:
            transport.resume_reading()
        else:
            transport.pause_reading()

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

    def _set_gone(self) -> None:
        self._discarding = True
        if not self.closed.done():
            self.closed.set_result(None)
            self._lose()

    def _wake(self) -> None:
        if not self._flush_wanted and not self._paused and self._transport is not None:
            self._flush_wanted = True
            asyncio.get_running_loop().call_soon(self._flush, self._transport)

    def _flush(self, transport: asyncio.Transport) -> None:
        self._flush_wanted = False
        if not self._paused and not transport.is_closing():
            self._write(transport)

    def _write(self, transport: asyncio.Transport) -> None:
        data = self._ws.bytes_to_send()
        if data:
            transport.write(data)

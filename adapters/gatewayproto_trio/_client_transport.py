"""One connection of a client: a stream and the client machine."""

import logging
from collections.abc import Awaitable, Callable

import trio
from gatewayproto_adapter.client_link import ClientLink, LinkOwner
from gatewayproto_adapter.reasons import reason
from gatewayproto_wsproto import ClientConnection

from gatewayproto_trio._pump import Pump

_logger = logging.getLogger("gatewayproto.trio")


class ClientTransport(ClientLink):
    """Bytes of one stream to messages, and messages to bytes."""

    def __init__(self, owner: LinkOwner, number: int, ws: ClientConnection) -> None:
        super().__init__(owner, number, ws)
        self._pump = Pump(self)

    async def run(
        self,
        dial: Callable[[], Awaitable[trio.abc.Stream]],
        fail: Callable[[Exception], None],
    ) -> None:
        """Open the stream and speak on it until it is done with.

        What opening raises, and is no fault of the network's, goes to `fail`.
        """
        try:
            with self._pump.scope:
                try:
                    stream = await dial()
                except OSError as error:
                    _logger.info("could not connect: %s", reason(error))
                except Exception as error:  # noqa: BLE001 - raised again where the caller is
                    fail(error)
                else:
                    self._wake()
                    await self._pump.run(stream)
        finally:
            self._lose()

    def abort(self) -> None:
        """See `ClientLink`."""
        self._told = True
        self._pump.abort()

    def _wake(self) -> None:
        self._pump.wake()

    def _is_stuck(self) -> bool:
        return self._pump.unsent > 0

    def _read_or_not(self) -> None:
        self._pump.read_or_not()

    def _finish(self, *, read_on: bool) -> None:
        self._pump.finish(read_on=read_on)

    # -- see `Speaker` ------------------------------------------------------------------------

    async def take(self, data: bytes) -> None:
        """See `Speaker`."""
        self._receive(data)

    def take_eof(self) -> None:
        """See `Speaker`."""
        self._receive_eof()

    def next_bytes(self) -> bytes:
        """See `Speaker`."""
        return self._ws.bytes_to_send()

    def took(self) -> None:
        """See `Speaker`."""
        self._read_or_not()

    def may_read(self) -> bool:
        """See `Speaker`."""
        return self._may_read

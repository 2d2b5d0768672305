"""One connection of a server: a stream and the gateway machine."""

import trio
from gatewayproto_adapter.server_link import Hub, ServerLink

from gatewayproto_trio._pump import Pump


class Connection(ServerLink):
    """Bytes of one stream to the machine, and the machine's to the stream."""

    def __init__(self, hub: Hub, *, max_payload: int, peer: str) -> None:
        super().__init__(hub, max_payload=max_payload)
        self.peer = peer
        self._pump = Pump(self)

    async def run(self, stream: trio.abc.Stream) -> None:
        """Serve the stream until it is done with; it is closed then."""
        try:
            with self._pump.scope:
                if self._hub.arrived(self):
                    await self._pump.run(stream)
                else:
                    await trio.aclose_forcefully(stream)
        finally:
            self._lose()

    def abort(self) -> None:
        """See `ServerLink`."""
        self._pump.abort()

    def _wake(self) -> None:
        self._pump.wake()

    def _unsent(self) -> int:
        return self._pump.unsent

    def _finish(self, *, read_on: bool) -> None:
        self._pump.finish(read_on=read_on)

    # -- see `Speaker` ------------------------------------------------------------------------

    async def take(self, data: bytes) -> None:
        """See `Speaker`."""
        for _ in self._receive(data):
            await self._pump.give_way()

    def take_eof(self) -> None:
        """See `Speaker`."""
        self._receive_eof()

    def next_bytes(self) -> bytes:
        """See `Speaker`."""
        return self._next_bytes()

    def took(self) -> None:
        """See `Speaker`."""
        self.report_drained()

    def may_read(self) -> bool:
        """See `Speaker`."""
        return True

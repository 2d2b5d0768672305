"""How a client's streams are opened, and ended."""

import trio
from gatewayproto_adapter.client_engine import BaseEngine, ClientInflow, Dialing, Listener

from gatewayproto.client import Client
from gatewayproto_trio._client_transport import ClientTransport
from gatewayproto_trio._clock import monotonic
from gatewayproto_trio._jobs import Jobs


class Engine(BaseEngine):
    """Drives a client machine. `jobs` are its tasks; their nursery is open already."""

    def __init__(
        self,
        machine: Client,
        dialing: Dialing,
        inflow: ClientInflow,
        listener: Listener,
        jobs: Jobs,
    ) -> None:
        self._jobs = jobs
        super().__init__(
            machine, dialing, inflow, listener, clock=monotonic, make_alarm=jobs.make_alarm
        )

    async def until_gone(self) -> None:
        """Wait until every transport is gone and every task has ended.

        Cancelling it aborts what is left.
        """
        await self._jobs.until_over(
            self._jobs.any_others, on_cancel=self._jobs.cancel, stop=self._driver.stop
        )

    def _dial(self, number: int) -> ClientTransport:
        transport = ClientTransport(self, number, self._dialing.websocket())
        self._jobs.start(
            transport.run, self._open, self._listener.fail, name=f"gatewayproto connect {number}"
        )
        return transport

    async def _open(self) -> trio.abc.Stream:
        """Connect. Raises `OSError` where that is not possible."""
        dialing = self._dialing
        context = dialing.context()
        stream: trio.SocketStream
        if dialing.unix_path is None:
            stream = await trio.open_tcp_stream(dialing.url.host, dialing.url.port)
        else:
            stream = await trio.open_unix_socket(dialing.unix_path)
        if context is None:
            return stream
        try:
            tls = trio.SSLStream(stream, context, server_hostname=dialing.url.host)
            await tls.do_handshake()
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(stream)
            raise ConnectionError("the TLS handshake failed") from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return tls

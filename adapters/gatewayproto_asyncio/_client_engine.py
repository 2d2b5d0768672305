"""How a client's transports are opened, and ended."""

import asyncio
import logging
from typing import Any

from gatewayproto_adapter.client_engine import BaseEngine, ClientInflow, Dialing, Listener
from gatewayproto_adapter.clock import monotonic
from gatewayproto_adapter.reasons import reason

from gatewayproto.client import Client
from gatewayproto_asyncio._alarm import LoopAlarm
from gatewayproto_asyncio._client_transport import ClientTransport
from gatewayproto_asyncio._tasks import TaskOwner, settle

_logger = logging.getLogger("gatewayproto.asyncio")


class Engine(BaseEngine):
    """Drives a client machine. Must be made in the loop that it is to run in."""

    def __init__(
        self, machine: Client, dialing: Dialing, inflow: ClientInflow, listener: Listener
    ) -> None:
        self.tasks = TaskOwner()
        super().__init__(machine, dialing, inflow, listener, clock=monotonic, make_alarm=LoopAlarm)

    async def until_gone(self) -> None:
        """Wait until every transport is gone and every task has ended.

        Cancelling it aborts what is left.
        """
        try:
            await settle(self._remains, on_cancel=self._abort)
        finally:
            self._driver.stop()

    def _dial(self, number: int) -> ClientTransport:
        transport = ClientTransport(self, number, self._dialing.websocket())
        opening = self.tasks.start(self._connect(transport), name=f"gatewayproto connect {number}")
        # Not at the end of the task's own code: one that is cancelled at once never runs it.
        opening.add_done_callback(transport.opened)
        transport.opening = opening
        return transport

    async def _connect(self, transport: ClientTransport) -> None:
        try:
            await self._open(transport)
        except OSError as error:
            _logger.info("could not connect: %s", reason(error))
        except Exception as error:  # noqa: BLE001 - raised again where the caller is
            self._listener.fail(error)

    async def _open(self, transport: ClientTransport) -> None:
        """Connect. Raises `OSError` where that is not possible."""
        dialing = self._dialing
        loop = asyncio.get_running_loop()
        ssl = dialing.context()
        shutdown_timeout = dialing.close_timeout if ssl is not None else None
        if dialing.unix_path is not None:
            await loop.create_unix_connection(
                lambda: transport,
                dialing.unix_path,
                ssl=ssl,
                server_hostname=dialing.url.host if ssl is not None else None,
                ssl_shutdown_timeout=shutdown_timeout,
            )
        else:
            await loop.create_connection(
                lambda: transport,
                dialing.url.host,
                dialing.url.port,
                ssl=ssl,
                ssl_shutdown_timeout=shutdown_timeout,
            )

    def _remains(self) -> list[asyncio.Future[Any]]:
        links = [link.closed for link in self._links if isinstance(link, ClientTransport)]
        return [*self.tasks.others(), *links]

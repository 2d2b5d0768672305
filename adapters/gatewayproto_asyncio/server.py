"""The server: a gateway machine on asyncio.

`async with serve(application) as server:` listens, and closes every connection at the end.
"""

import asyncio
import ssl as ssl_module
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from gatewayproto_adapter.application import Application
from gatewayproto_adapter.clock import monotonic
from gatewayproto_adapter.server import (
    BACKLOG,
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_MAX_UPGRADES,
    BaseServer,
    ServerOptions,
)
from gatewayproto_adapter.unix import UnixListener
from gatewayproto_wsproto.framing import check_close_code

from gatewayproto.config import GatewayConfig
from gatewayproto.errors import CLOSE_SERVICE_RESTART
from gatewayproto.gateway import Gateway
from gatewayproto_asyncio._alarm import LoopAlarm
from gatewayproto_asyncio._hooks import Hooks
from gatewayproto_asyncio._server_connection import Connection
from gatewayproto_asyncio._tasks import TaskOwner, settle


def serve(
    application: Application,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    path: str = "/ws",
    config: GatewayConfig | None = None,
    allow_origins: Iterable[str] = (),
    gateway: Gateway | None = None,
    ssl: ssl_module.SSLContext | None = None,
    close_timeout: float = DEFAULT_CLOSE_TIMEOUT,
    max_upgrades: int = DEFAULT_MAX_UPGRADES,
    unix_path: str | None = None,
    trusted_proxies: Iterable[str] = (),
) -> "Server":
    """Make a server, to be entered with `async with`: it listens inside, and closes at the end.

    - `host`, `port`: where to listen; port 0 picks a free one, which `Server.port` tells.
    - `path`: the one path that is upgraded; any other is 404.
    - `config`: how the gateway behaves, `GatewayConfig()` if none is given.
    - `allow_origins`: the origins (`https://app.example`) of pages that may connect beside the
      server's own; any other is 403. Programs that are no browsers send none.
    - `gateway`: a machine to go on with, in place of a new one, on the clock `monotonic`; it must
      have been made with the same `config`. It was saved and restored or recovered: connections
      that it still knows are closed, and messages that it had accepted but not completed come to
      `on_message` again. Or it is a `Recording`'s, whose inputs are recorded.
    - `ssl`: to serve `wss`.
    - `close_timeout`: seconds that a connection which is being closed may take to send what is
      owed and to answer, before it is aborted.
    - `max_upgrades`: connections at once that may not have finished their upgrade; one more is
      503. An upgrade takes `config.handshake_timeout` at the longest.
    - `unix_path`: to listen on a Unix socket of this path, and not on `host` and `port`, which
      are then only what `Server.url` says. The file is made when the server is entered and taken
      away at its end; one that nobody listens on any more is replaced. Who may write to it may
      connect.
    - `trusted_proxies`: addresses, networks (`10.0.0.0/8`) and `unix` whose `X-Forwarded-For` is
      believed: the machine's peer is the rightmost address in it that is not trusted itself.

    Entering raises `OSError` where the address cannot be had.

    Raises:
        ValueError: A trusted proxy is no address or network, or `config` has `write_ahead`: a
            server has no store.

    Spec: Errors.
    """
    options = ServerOptions(
        host=host,
        port=port,
        unix_path=unix_path,
        path=path,
        config=GatewayConfig() if config is None else config,
        allow_origins=tuple(allow_origins),
        trusted_proxies=tuple(trusted_proxies),
        ssl=ssl,
        close_timeout=close_timeout,
        max_upgrades=max_upgrades,
    )
    return Server(application, gateway, options)


class Server(BaseServer):
    """A gateway that listens; `serve` makes it. Everything is called in its event loop."""

    def __init__(
        self, application: Application, gateway: Gateway | None, options: ServerOptions
    ) -> None:
        super().__init__(gateway, options, clock=monotonic)
        self._tasks = TaskOwner()
        self._hooks = Hooks(application, self._tasks, self.give, self.session)
        self._listener: asyncio.Server | None = None
        self._unix: UnixListener | None = None
        self._touched: dict[Connection, None] = {}
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._start_driver(LoopAlarm)
        self._listener = await self._listen()
        self._take_up_pending()
        return self

    async def _listen(self) -> asyncio.Server:
        options = self._options
        loop = asyncio.get_running_loop()
        unix = options.unix_path is not None
        max_payload = options.config.max_payload

        def connection() -> Connection:
            return Connection(self, max_payload=max_payload, unix=unix)

        handshake_timeout = options.config.handshake_timeout if options.ssl else None
        shutdown_timeout = options.close_timeout if options.ssl else None
        if options.unix_path is not None:
            self._unix = UnixListener.bind(options.unix_path)
            return await loop.create_unix_server(
                connection,
                sock=self._unix.socket,
                ssl=options.ssl,
                ssl_handshake_timeout=handshake_timeout,
                ssl_shutdown_timeout=shutdown_timeout,
                backlog=BACKLOG,
            )
        listener = await loop.create_server(
            connection,
            options.host,
            options.port,
            ssl=options.ssl,
            ssl_handshake_timeout=handshake_timeout,
            ssl_shutdown_timeout=shutdown_timeout,
            backlog=BACKLOG,
        )
        self._address = listener.sockets[0].getsockname()[:2]
        return listener

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    async def close(self, code: int = CLOSE_SERVICE_RESTART, reason: str = "") -> None:
        """Stop: no more connections, every WebSocket closed with `code`, every task ended.

        Waits until all connections are gone; one that does not answer is aborted after
        `close_timeout` seconds. Cancelling it aborts what is left. Later calls wait for the same
        end. Called from a hook, it does not wait for that hook.

        Raises:
            WsUsageError: `code` may not be sent in a Close frame.
        """
        if self._driver is None:
            return
        if not self._closing:
            check_close_code(code)
            if self._listener is not None:
                self._listener.close()
            if self._unix is not None:
                self._unix.remove()
            self._begin_to_close(code, reason)
        try:
            await settle(self._remains, on_cancel=self._abort)
        finally:
            self._driver.stop()
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until somebody has closed the server and everything has ended."""
        await self._closed.wait()

    # -- what connections ask for -------------------------------------------------------------

    def touched(self, connection: Connection) -> None:
        """See `FlushingHub`."""
        if not self._touched:
            asyncio.get_running_loop().call_soon(self._flush)
        self._touched[connection] = None

    def _flush(self) -> None:
        touched, self._touched = self._touched, {}
        for connection in touched:
            connection.flush()

    def _remains(self) -> list[asyncio.Future[Any]]:
        links = [link.closed for link in self._links if isinstance(link, Connection)]
        return [*self._tasks.others(), *links]

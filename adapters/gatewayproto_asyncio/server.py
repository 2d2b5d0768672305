"""The server: a gateway machine on asyncio.

`async with serve(application) as server:` listens, and closes every connection at the end.
"""

import asyncio
import logging
import socket
import ssl as ssl_module
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from gatewayproto_adapter.application import Application
from gatewayproto_adapter.clock import monotonic
from gatewayproto_adapter.server import (
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_GRACE,
    DEFAULT_MAX_UPGRADES,
    BaseServer,
    ServerOptions,
    config_of,
)
from gatewayproto_adapter.server_link import peer_name
from gatewayproto_adapter.store import Store
from gatewayproto_adapter.unix import UnixListener
from gatewayproto_wsproto.framing import check_close_code

from gatewayproto.config import GatewayConfig
from gatewayproto.errors import CLOSE_SERVICE_RESTART
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import Drain
from gatewayproto_asyncio._alarm import LoopAlarm
from gatewayproto_asyncio._listener import Listener, bind
from gatewayproto_asyncio._runner import TaskRunner
from gatewayproto_asyncio._server_connection import Connection, Tls
from gatewayproto_asyncio._tasks import TaskOwner, settle

_logger = logging.getLogger("gatewayproto.asyncio")


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
    store: Store | None = None,
) -> "Server":
    """Make a server, to be entered with `async with`: it listens inside, and closes at the end.

    - `host`, `port`: where to listen; port 0 picks a free one, which `Server.port` tells.
    - `path`: the one path that is upgraded; any other is 404.
    - `config`: how the gateway behaves; if none is given, that of `gateway`, else
      `GatewayConfig()`.
    - `allow_origins`: the origins (`https://app.example`) of pages that may connect beside the
      server's own; any other is 403. Programs that are no browsers send none.
    - `gateway`: a machine to go on with, in place of a new one, on the clock `monotonic`; it must
      have been made with the same `config`. It was saved and restored or recovered: connections
      that it still knows are closed, and messages that it had accepted but not completed come to
      `on_message` again. Or it is a `Recording`'s, whose inputs are recorded.
    - `ssl`: to serve `wss`.
    - `close_timeout`: seconds that a connection which is being closed may take to send what is
      owed and to answer, before it is reset.
    - `max_upgrades`: connections at once that may not have finished their upgrade; one more is
      503. An upgrade, TLS included, takes `config.handshake_timeout` at the longest.
    - `unix_path`: to listen on a Unix socket of this path, and not on `host` and `port`, which
      are then only what `Server.url` says. The file is made when the server is entered and taken
      away at its end; one that nobody listens on any more is replaced. Who may write to it may
      connect.
    - `trusted_proxies`: addresses, networks (`10.0.0.0/8`) and `unix` whose `X-Forwarded-For` is
      believed: the machine's peer is the rightmost address in it that is not trusted itself, and
      its rates are counted by that one.
    - `store`: where a gateway that is set to `write_ahead` stores what it holds; such a one needs a
      store, and no other has one. Pass `Gateway.recover_stored` of what it has as `gateway`.

    Entering raises `OSError` where the address cannot be had.

    Raises:
        ValueError: A trusted proxy is no address or network; there is a store without
            `write_ahead`, or `write_ahead` without a store; or the gateway has
            `application_snapshots` and the application does not override `build_snapshot`.

    Spec: Errors.
    """
    options = ServerOptions(
        host=host,
        port=port,
        unix_path=unix_path,
        path=path,
        config=config_of(config, gateway),
        allow_origins=tuple(allow_origins),
        trusted_proxies=tuple(trusted_proxies),
        ssl=ssl,
        close_timeout=close_timeout,
        max_upgrades=max_upgrades,
        store=store,
    )
    return Server(application, gateway, options)


class Server(BaseServer):
    """A gateway that listens; `serve` makes it. Everything is called in its event loop."""

    def __init__(
        self, application: Application, gateway: Gateway | None, options: ServerOptions
    ) -> None:
        self._runner = TaskRunner()
        super().__init__(
            application,
            gateway,
            options,
            clock=monotonic,
            runner=self._runner,
            logger=_logger,
        )
        self._tasks = TaskOwner()
        self._tls = _tls_of(options)
        self._listener: Listener | None = None
        self._unix: UnixListener | None = None
        self._touched: dict[Connection, None] = {}
        self._closed = asyncio.Event()
        self._drain_over = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._start_driver(LoopAlarm)
        self._listener = Listener(await self._listen(), self._tasks, self._take)
        self._listener.start()
        self._begin_to_serve()
        return self

    async def _listen(self) -> list[socket.socket]:
        options = self._options
        if options.unix_path is not None:
            self._unix = UnixListener.bind(options.unix_path)
            return [self._unix.socket]
        sockets = await bind(options.host, options.port)
        self._address = sockets[0].getsockname()[:2]
        return sockets

    def _take(self, sock: socket.socket, address: object) -> None:
        """Begin to serve a connection."""
        Connection(
            self,
            sock,
            max_payload=self._options.config.max_payload,
            peer=peer_name(address, unix=self._unix is not None),
        ).open(self._tasks, self._tls)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close. Raises what the store raised, unless something else is raised already."""
        await self._close()
        if exc is None:
            self._raise_failure()

    async def drain(
        self,
        *,
        reason: str = "restart",
        after: float = 0.0,
        spread: float = 0.0,
        grace: float = DEFAULT_GRACE,
    ) -> None:
        """Send every client away before the server is closed, and listen no more.

        Clients are asked to leave, and come back after `after` seconds and a random part of
        `spread` more. Those that have not left in `grace` seconds are closed. Until they leave,
        everything goes on. Waits until no client is left; cancelling it gives up the wait alone.
        A second call can only make `grace` shorter. `reason` is for people.

        Raises:
            LocalProtocolError: A time is none, or the reason is too long; nothing has changed.

        Spec: Draining.
        """
        self._begin_to_drain(Drain(reason=reason, after=after, spread=spread, grace=grace))
        await self._drain_over.wait()

    async def close(self, code: int = CLOSE_SERVICE_RESTART, reason: str = "") -> None:
        """Stop: no more connections, every WebSocket closed with `code`, every task ended.

        Waits until all connections are gone; one that does not answer is aborted after
        `close_timeout` seconds. Waits for the store, too, if there is one. Cancelling it aborts
        what is left. Later calls wait for the same end. Called from a hook, it does not wait for
        that hook.

        Raises:
            WsUsageError: `code` may not be sent in a Close frame.
            Exception: What the store raised.
        """
        await self._close(code, reason)
        self._raise_failure()

    async def _close(self, code: int = CLOSE_SERVICE_RESTART, reason: str = "") -> None:
        if self._driver is None:
            return
        if not self._closing:
            check_close_code(code)
            self._begin_to_close(code, reason)
        try:
            await settle(self._remains, on_cancel=self._abort)
        finally:
            self._driver.stop()
            self._end()
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until somebody has closed the server, or its store failed, and all has ended.

        Raises:
            Exception: What the store raised.
        """
        await self._closed.wait()
        if self._failure is not None:
            await self.close()

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
        return [*self._runner.others(), *self._tasks.others(), *links]

    # -- see `BaseServer` ---------------------------------------------------------------------

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._unix is not None:
            self._unix.remove()

    def _drained(self) -> None:
        self._drain_over.set()

    def _failed(self) -> None:
        self._closed.set()


def _tls_of(options: ServerOptions) -> Tls | None:
    if options.ssl is None:
        return None
    return Tls(
        context=options.ssl,
        handshake_timeout=options.config.handshake_timeout,
        shutdown_timeout=options.close_timeout,
    )

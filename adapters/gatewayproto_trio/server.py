"""The server: a gateway machine on trio.

`async with serve(application) as server:` listens, and closes every connection at the end.
"""

import ssl as ssl_module
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import trio
from gatewayproto_adapter.application import Application
from gatewayproto_adapter.server import (
    BACKLOG,
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_MAX_UPGRADES,
    BaseServer,
    ServerOptions,
)
from gatewayproto_adapter.server_link import ServerLink, peer_name
from gatewayproto_adapter.unix import UnixListener
from gatewayproto_wsproto.framing import check_close_code

from gatewayproto.config import GatewayConfig
from gatewayproto.errors import CLOSE_SERVICE_RESTART
from gatewayproto.gateway import Gateway
from gatewayproto_trio._clock import monotonic
from gatewayproto_trio._hooks import Hooks
from gatewayproto_trio._jobs import Jobs
from gatewayproto_trio._server_connection import Connection


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
    """A gateway that listens; `serve` makes it. Everything is called in trio's thread."""

    def __init__(
        self, application: Application, gateway: Gateway | None, options: ServerOptions
    ) -> None:
        super().__init__(gateway, options, clock=monotonic)
        self._jobs = Jobs()
        self._hooks = Hooks(application, self._jobs, self.give, self.session)
        self._unix: UnixListener | None = None
        self._closed = trio.Event()

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._jobs.enter()
        try:
            self._start_driver(self._jobs.make_alarm)
            listeners = await self._listen()
        except BaseException as error:
            await self._jobs.leave(self.close, error)
            raise
        self._jobs.start(self._accept, listeners, name="gatewayproto listener")
        self._take_up_pending()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self._jobs.leave(self.close, exc)

    async def serve_stream(self, stream: trio.abc.Stream, *, peer: str = "") -> None:
        """Serve a connection that came in some other way, until it is done with.

        The stream may be any of trio's, one in memory as well; it is closed at the end. With TLS it
        is an `SSLStream`, whatever `serve` was told. `peer` is its other end: `host:port`, `unix`,
        or empty where it is not known.
        """
        if self._driver is None:
            raise RuntimeError("the server is not entered yet")
        max_payload = self._options.config.max_payload
        await Connection(self, max_payload=max_payload, peer=peer).run(stream)

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
            if self._unix is not None:
                self._unix.remove()
            # That cancels the listener as well.
            self._begin_to_close(code, reason)
        try:
            await self._jobs.until_over(
                self._remains, on_cancel=self._abort, stop=self._driver.stop
            )
        finally:
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until somebody has closed the server and everything has ended."""
        await self._closed.wait()

    def gone(self, link: ServerLink) -> None:
        """See `Hub`."""
        super().gone(link)
        self._jobs.changed()

    def _remains(self) -> bool:
        return self._jobs.any_others() or bool(self._links)

    # -- listening ----------------------------------------------------------------------------

    async def _listen(self) -> list[trio.SocketListener]:
        options = self._options
        if options.unix_path is not None:
            self._unix = UnixListener.bind(options.unix_path)
            sock = trio.socket.from_stdlib_socket(self._unix.socket)
            sock.listen(BACKLOG)
            return [trio.SocketListener(sock)]
        listeners = await trio.open_tcp_listeners(
            options.port, host=options.host or None, backlog=BACKLOG
        )
        self._address = listeners[0].socket.getsockname()[:2]
        return listeners

    async def _accept(self, listeners: list[trio.SocketListener]) -> None:
        try:
            await trio.serve_listeners(
                self._serve_socket, listeners, handler_nursery=self._jobs.nursery
            )
        finally:
            for listener in listeners:
                listener.socket.close()

    async def _serve_socket(self, stream: trio.SocketStream) -> None:
        try:
            peername: object = stream.socket.getpeername()
        except OSError:  # it is gone already
            peername = None
        peer = peer_name(peername, unix=self._unix is not None)
        if self._options.ssl is None:
            await self.serve_stream(stream, peer=peer)
        else:
            tls = trio.SSLStream(stream, self._options.ssl, server_side=True)
            await self.serve_stream(tls, peer=peer)

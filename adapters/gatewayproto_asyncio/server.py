"""The server: a gateway machine on asyncio.

`async with serve(application) as server:` listens, and closes every connection at the end.
"""

import asyncio
import math
import ssl as ssl_module
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from gatewayproto_wsproto import frame_text
from gatewayproto_wsproto.framing import check_close_code

from gatewayproto.actions import (
    CloseConnection,
    Emit,
    GatewayAction,
    Persist,
    Published,
    SendFrames,
)
from gatewayproto.config import GatewayConfig
from gatewayproto.errors import CLOSE_SERVICE_RESTART
from gatewayproto.frames import Event
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import (
    ConnectionClosed,
    GatewayInput,
    Publish,
    SetHealth,
    TimerExpired,
)
from gatewayproto_asyncio._clock import monotonic
from gatewayproto_asyncio._driver import Driver
from gatewayproto_asyncio._expiry import ExpiryQueue
from gatewayproto_asyncio._hooks import Hooks
from gatewayproto_asyncio._policy import OriginPolicy
from gatewayproto_asyncio._server_connection import Connection, Refusal
from gatewayproto_asyncio._tasks import settle
from gatewayproto_asyncio.application import Application, SessionHandle

DEFAULT_CLOSE_TIMEOUT: Final = 5.0
DEFAULT_MAX_UPGRADES: Final = 1000
_MAX_ENDING: Final = 10_000
_BACKLOG: Final = 1024


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

    Raises `ValueError` for a `config` with `write_ahead`: there is no store. Entering raises
    `OSError` where the address cannot be had.

    Spec: Errors.
    """
    return Server(
        application,
        host=host,
        port=port,
        path=path,
        config=GatewayConfig() if config is None else config,
        allow_origins=allow_origins,
        gateway=gateway,
        ssl=ssl,
        close_timeout=close_timeout,
        max_upgrades=max_upgrades,
    )


class Server:
    """A gateway that listens; `serve` makes it. Everything is called in its event loop."""

    def __init__(
        self,
        application: Application,
        *,
        host: str,
        port: int,
        path: str,
        config: GatewayConfig,
        allow_origins: Iterable[str],
        gateway: Gateway | None,
        ssl: ssl_module.SSLContext | None,
        close_timeout: float,
        max_upgrades: int,
    ) -> None:
        if config.write_ahead:
            raise ValueError("a server has no store, and so cannot write ahead")
        self._hooks = Hooks(application, self.give, self.session)
        self._address = (host, port)
        self._path = path
        self._config = config
        self._origins = OriginPolicy(allow_origins, secure=ssl is not None)
        self._gateway = Gateway(config) if gateway is None else gateway
        self._ssl = ssl
        self._max_upgrades = max_upgrades
        self._close_timeout = close_timeout
        self._listener: asyncio.Server | None = None
        self._driver: Driver[GatewayInput, GatewayAction] | None = None
        self._connections: set[Connection] = set()
        self._open: dict[int, Connection] = {}
        self._last_number = 0
        self._upgrading: ExpiryQueue[Connection] = ExpiryQueue(config.handshake_timeout)
        self._ending: ExpiryQueue[Connection] = ExpiryQueue(close_timeout)
        self._touched: dict[Connection, None] = {}
        self._owing: set[Connection] = set()
        self._closing = False
        self._closed = asyncio.Event()

    # -- the public side ----------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Listen."""
        if self._driver is not None:
            raise RuntimeError("a server is entered once")
        loop = asyncio.get_running_loop()
        self._driver = Driver(
            self._gateway, apply=self._apply, own_deadline=self._own_deadline, on_time=self._on_time
        )
        self._close_former()
        host, port = self._address
        self._listener = await loop.create_server(
            lambda: Connection(self, self._config.max_payload),
            host,
            port,
            ssl=self._ssl,
            ssl_handshake_timeout=self._config.handshake_timeout if self._ssl else None,
            ssl_shutdown_timeout=self._close_timeout if self._ssl else None,
            backlog=_BACKLOG,
        )
        self._address = self._listener.sockets[0].getsockname()[:2]
        self._take_up_pending()
        self._driver.arm()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    @property
    def host(self) -> str:
        """The address that the server listens on; where there are several, the first."""
        return self._address[0]

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._address[1]

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ws' if self._ssl is None else 'wss'}://{host}:{self.port}{self._path}"

    @property
    def connections(self) -> int:
        """How many transports there are, whatever their state."""
        return len(self._connections)

    def session(self, session_id: str) -> SessionHandle:
        """A handle to publish in a session from anywhere."""
        return SessionHandle(session_id, self.publish)

    def publish(self, session_id: str, event: Event) -> int | None:
        """Publish an event; returns its seq, or None where the session is gone.

        Works until the machine is saved, also after `close`: the event is in the journal.

        Raises:
            LocalProtocolError: The event cannot be sent to every client; nothing was published.

        Spec: Terms; Framing.
        """
        for action in self._drive(Publish(session_id=session_id, event=event)):
            match action:
                case Emit(event=Published(seq=seq)):
                    return seq
                case _:
                    pass
        return None

    def set_health(self, health: Mapping[str, Any]) -> None:
        """Set the gateway's health, plain JSON data, for every welcome from now on.

        Raises:
            LocalProtocolError: It cannot be sent.

        Spec: The welcome.
        """
        self._drive(SetHealth(health=health))

    def save(self) -> dict[str, Any]:
        """The machine as plain JSON data, for `Gateway.from_state` or `Gateway.recover`.

        After `close` it holds sessions only, and all that was ever published or taken.
        """
        return self._gateway.to_state(now=monotonic())

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
            self._closing = True
            if self._listener is not None:
                self._listener.close()
            self._hooks.close()
            for connection in tuple(self._connections):
                connection.leave()
                connection.close(code, reason)
            self._driver.arm()
        try:
            await settle(self._remains, on_cancel=self._abort)
        finally:
            self._driver.stop()
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until somebody has closed the server and everything has ended."""
        await self._closed.wait()

    # -- the machine --------------------------------------------------------------------------

    def _close_former(self) -> None:
        """Close what a restored machine takes for living connections: their transports are gone."""
        self._last_number = self._gateway.last_connection
        for number in self._gateway.connections:
            self._drive(ConnectionClosed(number))

    def _take_up_pending(self) -> None:
        """Work on what a restored machine had accepted and nobody completed."""
        for session_id in self._gateway.session_ids:
            for message in self._gateway.pending(session_id):
                self._hooks.take_up(message)

    def _drive(self, input_: GatewayInput) -> tuple[GatewayAction, ...]:
        if self._driver is None:
            raise RuntimeError("the server is not entered yet")
        return self._driver.handle(input_)

    def _apply(self, action: GatewayAction) -> None:
        match action:
            case SendFrames(connections=numbers, frames=frames):
                framed = [frame_text(frame) for frame in frames]
                wire, payload = sum(map(len, framed)), sum(map(len, frames))
                for number in numbers:
                    connection = self._open.get(number)
                    if connection is not None:
                        connection.send(framed, wire=wire, payload=payload)
            case CloseConnection(connection=number, code=code, reason=reason):
                connection = self._open.get(number)
                if connection is not None:
                    connection.close(code, reason)
            case Emit(event=event):
                self._hooks.tell(event)
            case Persist():
                pass  # never given: nothing is written ahead

    # -- time ---------------------------------------------------------------------------------

    def _own_deadline(self) -> float | None:
        deadlines = (self._upgrading.next_deadline, self._ending.next_deadline)
        return min((each for each in deadlines if each is not None), default=None)

    def _on_time(self, now: float) -> None:
        # Before the machine judges who takes nothing, it hears what was taken.
        for connection in tuple(self._owing):
            connection.report_drained()
            self._note_owing(connection)
        self._drive(TimerExpired())
        for queue in (self._upgrading, self._ending):
            for connection in queue.pop_expired(now):
                connection.abort()

    # -- what connections ask for; see `Hub` --------------------------------------------------

    def give(self, input_: GatewayInput) -> None:
        """See `Hub`."""
        self._drive(input_)

    def arrived(self, connection: Connection) -> bool:
        """See `Hub`."""
        self._connections.add(connection)
        # Twice the bound: so many get to hear that there are too many.
        if self._closing or len(self._upgrading) >= 2 * self._max_upgrades:
            return False
        self._upgrading.add(connection, monotonic())
        self._arm()
        return True

    def judge(self, path: str, headers: Mapping[str, str]) -> None:
        """See `Hub`."""
        if path != self._path:
            raise Refusal(404)
        if not self._origins.permits(headers):
            raise Refusal(403)
        if len(self._upgrading) > self._max_upgrades:
            raise Refusal(503, (("Retry-After", str(math.ceil(self._config.retry_after))),))

    def admitted(self, connection: Connection) -> int:
        """See `Hub`."""
        self._upgrading.discard(connection)
        self._last_number += 1
        self._open[self._last_number] = connection
        return self._last_number

    def touched(self, connection: Connection) -> None:
        """See `Hub`."""
        if not self._touched:
            asyncio.get_running_loop().call_soon(self._flush)
        self._touched[connection] = None

    def ending(self, connection: Connection) -> None:
        """See `Hub`."""
        self._forget(connection)
        self._ending.add(connection, monotonic())
        if len(self._ending) > _MAX_ENDING:
            oldest = self._ending.oldest()
            if oldest is not None:
                self._ending.discard(oldest)
                oldest.abort()
        self._arm()

    def gone(self, connection: Connection) -> None:
        """See `Hub`."""
        self._forget(connection)
        self._ending.discard(connection)
        self._connections.discard(connection)

    # -- the connections' ends ----------------------------------------------------------------

    def _forget(self, connection: Connection) -> None:
        self._upgrading.discard(connection)
        self._open.pop(connection.number, None)
        self._touched.pop(connection, None)
        self._owing.discard(connection)
        self._hooks.forget(connection.number)

    def _flush(self) -> None:
        touched, self._touched = self._touched, {}
        for connection in touched:
            connection.flush()
            self._note_owing(connection)

    def _note_owing(self, connection: Connection) -> None:
        if connection.owing:
            self._owing.add(connection)
        else:
            self._owing.discard(connection)

    def _arm(self) -> None:
        if self._driver is not None:
            self._driver.arm()

    def _remains(self) -> list[asyncio.Future[Any]]:
        return [*self._hooks.tasks.others(), *(each.closed for each in self._connections)]

    def _abort(self) -> None:
        for connection in tuple(self._connections):
            connection.abort()

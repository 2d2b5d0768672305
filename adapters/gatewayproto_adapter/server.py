"""Everything of a server but its transports, its tasks and its clock."""

import logging
import math
import ssl as ssl_module
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import frozen
from gatewayproto_wsproto import frame_text
from gatewayproto_wsproto.handshake import HeaderPairs

from gatewayproto.actions import (
    CloseConnection,
    DrainFinished,
    Emit,
    GatewayAction,
    Persist,
    SendFrames,
)
from gatewayproto.config import GatewayConfig
from gatewayproto.errors import ERRORS, ErrorCode, LocalProtocolError
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import ConnectionClosed, Drain, GatewayInput, Reject, TimerExpired
from gatewayproto.metrics import GatewayMetrics
from gatewayproto.rates import Bucket
from gatewayproto_adapter.application import Application
from gatewayproto_adapter.commands import Commands
from gatewayproto_adapter.driver import Alarm, Driver
from gatewayproto_adapter.expiry import ExpiryQueue
from gatewayproto_adapter.hooks import Hooks, Runner, check_hooks
from gatewayproto_adapter.origins import OriginPolicy
from gatewayproto_adapter.proxies import TrustedProxies
from gatewayproto_adapter.server_link import Refusal, ServerLink
from gatewayproto_adapter.store import Store, StoreWriter

DEFAULT_CLOSE_TIMEOUT: Final = 5.0
DEFAULT_GRACE: Final = 10.0
DEFAULT_MAX_UPGRADES: Final = 1000
BACKLOG: Final = 1024
"""Connections that the system may hold until they are accepted."""
_MAX_ENDING: Final = 10_000


@frozen(kw_only=True)
class ServerOptions:
    """What `serve` was told, but for the application and the machine; see there."""

    host: str
    port: int
    unix_path: str | None
    path: str
    config: GatewayConfig
    allow_origins: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    ssl: ssl_module.SSLContext | None
    close_timeout: float
    max_upgrades: int
    store: Store | None


class BaseServer(Commands):
    """A gateway machine with its connections; an adapter's `Server` does the I/O.

    Everything is called in one thread.
    """

    def __init__(
        self,
        application: Application,
        gateway: Gateway | None,
        options: ServerOptions,
        *,
        clock: Callable[[], float],
        runner: Runner,
        logger: logging.Logger,
    ) -> None:
        self._options = options
        self._gateway = Gateway(options.config) if gateway is None else gateway
        config = self._gateway.config
        check_hooks(application, application_snapshots=config.application_snapshots)
        self._store = _writer_of(
            config, options.store, runner=runner, give=self.give, failed=self._store_failed
        )
        self._clock = clock
        self._logger = logger
        self._origins = OriginPolicy(options.allow_origins, secure=options.ssl is not None)
        self._proxies = TrustedProxies(options.trusted_proxies)
        self._address = (options.host, options.port)
        self._hooks = Hooks(
            application,
            runner,
            self.give,
            self.session,
            logger,
            max_abandoned=config.max_sessions,
        )
        self._driver: Driver[GatewayInput, GatewayAction] | None = None
        self._links: set[ServerLink] = set()
        self._open: dict[int, ServerLink] = {}
        self._last_number = 0
        self._upgrading: ExpiryQueue[ServerLink] = ExpiryQueue(options.config.handshake_timeout)
        self._ending: ExpiryQueue[ServerLink] = ExpiryQueue(options.close_timeout)
        self._owing: set[ServerLink] = set()
        self._allowances: dict[ServerLink, Bucket] = {}  # for frames of WebSocket's own
        self._closing = False
        self._failure: Exception | None = None

    # -- the public side ----------------------------------------------------------------------

    @property
    def host(self) -> str:
        """The address that the server listens on; where there are several, the first.

        With a Unix socket, what was given.
        """
        return self._address[0]

    @property
    def port(self) -> int:
        """The port that the server listens on; with a Unix socket, what was given."""
        return self._address[1]

    @property
    def url(self) -> str:
        """The URL that clients connect to; with a Unix socket, through that."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "ws" if self._options.ssl is None else "wss"
        return f"{scheme}://{host}:{self.port}{self._options.path}"

    @property
    def connections(self) -> int:
        """How many transports there are, whatever their state."""
        return len(self._links)

    def metrics(self) -> GatewayMetrics:
        """What the gateway has counted since it was made, and how it stands now.

        It takes time in proportion to the sessions and connections.
        """
        return self._gateway.metrics()

    def save(self) -> dict[str, Any]:
        """The machine as plain JSON data, for `Gateway.from_state` or `Gateway.recover`.

        After `close` it holds sessions only, and all that was ever published or taken.
        """
        return self._gateway.to_state(now=self._clock())

    # -- for the adapter ----------------------------------------------------------------------

    def _start_driver(self, make_alarm: Callable[[Callable[[], None]], Alarm]) -> None:
        """Begin to drive the machine.

        What a restored one takes for living connections is closed: their transports are gone.
        """
        if self._driver is not None:
            raise RuntimeError("a server is entered once")
        self._driver = Driver(
            self._gateway,
            apply=self._apply,
            own_deadline=self._own_deadline,
            on_time=self._on_time,
            clock=self._clock,
            make_alarm=make_alarm,
        )
        self._last_number = self._gateway.last_connection
        for number in self._gateway.connections:
            self._drive(ConnectionClosed(number))

    def _begin_to_serve(self) -> None:
        """Take up what a restored machine had accepted and nobody completed."""
        self._logger.info("listening on %s", self.url, extra={"url": self.url})
        for session_id in self._gateway.session_ids:
            for message in self._gateway.pending(session_id):
                self._hooks.take_up(message)
        self._arm()

    @abstractmethod
    def _stop_listening(self) -> None:
        """Accept no connection any more. It may be called again."""

    @abstractmethod
    def _drained(self) -> None:
        """Wake who waits for the end of a drain."""

    @abstractmethod
    def _failed(self) -> None:
        """Wake who waits for the end of the server: it is closing, for `_failure`."""

    def _raise_failure(self) -> None:
        """Raise what ended the server, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _begin_to_drain(self, drain: Drain) -> None:
        """Send everybody away, and listen no more."""
        self._drive(drain)  # first: it may be refused
        self._stop_listening()
        self._logger.info(
            "draining, with %d connections", len(self._open), extra={"grace": drain.grace}
        )

    def _store_failed(self, error: Exception) -> None:
        self._logger.error("the store failed", exc_info=error)
        self._failure = error
        if not self._closing:
            code = ErrorCode.INTERNAL_ERROR
            self._begin_to_close(ERRORS[code].close_code or 0, code.value)
        self._failed()

    def _begin_to_close(self, code: int, reason: str) -> None:
        """Accept nothing more, cancel the hooks, close every connection.

        What is to be stored still is: the adapter waits for it.
        """
        self._logger.info("closing %d connections", len(self._links), extra={"close_code": code})
        self._closing = True
        self._stop_listening()
        self._hooks.close()
        for link in tuple(self._links):
            link.leave()
            link.close(code, reason)
        self._arm()

    def _end(self) -> None:
        """Everything has ended."""
        if self._store is not None:
            self._store.cancel()
        self._logger.info("closed")

    def _abort(self) -> None:
        """End every connection at once, and do not wait for the store."""
        if self._store is not None:
            self._store.cancel()
        for link in tuple(self._links):
            link.abort()

    def _command(self, input_: GatewayInput) -> tuple[GatewayAction, ...]:
        if self._store is not None and self._store.stopped:
            raise RuntimeError("nothing can be stored any more")
        return self._drive(input_)

    def _drive(self, input_: GatewayInput) -> tuple[GatewayAction, ...]:
        if self._driver is None:
            raise RuntimeError("the server is not entered yet")
        return self._driver.handle(input_)

    def _arm(self) -> None:
        if self._driver is not None:
            self._driver.arm()

    # -- the machine --------------------------------------------------------------------------

    def _apply(self, action: GatewayAction) -> None:
        match action:
            case SendFrames(connections=numbers, frames=frames):
                framed = [frame_text(frame) for frame in frames]
                wire, payload = sum(map(len, framed)), sum(map(len, frames))
                for number in numbers:
                    link = self._open.get(number)
                    if link is not None:
                        link.send(framed, wire=wire, payload=payload)
            case CloseConnection(connection=number, code=code, reason=reason):
                link = self._open.get(number)
                if link is not None:
                    self._logger.debug(
                        "closing connection %d: %d %s",
                        number,
                        code,
                        ascii(reason),
                        extra={"connection": number, "close_code": code},
                    )
                    link.close(code, reason)
            case Persist():
                if self._store is not None:
                    self._store.add(action)
            case Emit(event=event):
                self._hooks.tell(event)
                if isinstance(event, DrainFinished):
                    self._logger.info("drained")
                    self._drained()

    def _own_deadline(self) -> float | None:
        deadlines = (self._upgrading.next_deadline, self._ending.next_deadline)
        return min((each for each in deadlines if each is not None), default=None)

    def _on_time(self, now: float) -> None:
        # Before the machine judges who takes nothing, it hears what was taken.
        for link in tuple(self._owing):
            link.report_drained()
        self._drive(TimerExpired())
        for queue in (self._upgrading, self._ending):
            for link in queue.pop_expired(now):
                link.abort()

    # -- what connections ask for; see `Hub` --------------------------------------------------

    def give(self, input_: GatewayInput) -> None:
        """See `Hub`."""
        self._drive(input_)

    def arrived(self, link: ServerLink) -> bool:
        """See `Hub`."""
        self._links.add(link)
        # Twice the bound: so many get to hear that there are too many.
        if self._closing or len(self._upgrading) >= 2 * self._options.max_upgrades:
            return False
        self._upgrading.add(link, self._clock())
        self._arm()
        return True

    def judge(self, path: str, headers: Mapping[str, str]) -> None:
        """See `Hub`."""
        try:
            self._judge(path, headers)
        except Refusal as refusal:
            self._logger.debug(
                "an upgrade was refused: %d", refusal.status, extra={"status": refusal.status}
            )
            raise

    def _judge(self, path: str, headers: Mapping[str, str]) -> None:
        if path != self._options.path:
            raise Refusal(404)
        if not self._origins.permits(headers):
            raise Refusal(403)
        if len(self._upgrading) > self._options.max_upgrades:
            retry_after = math.ceil(self._options.config.retry_after)
            raise Refusal(503, (("Retry-After", str(retry_after)),))

    def client_of(self, peer: str, headers: HeaderPairs) -> str:
        """See `Hub`."""
        return self._proxies.client(peer, headers)

    def admitted(self, link: ServerLink) -> int:
        """See `Hub`."""
        self._upgrading.discard(link)
        self._last_number += 1
        self._open[self._last_number] = link
        allowance = Bucket.full(self._gateway.config.frame_rate, self._clock())
        if allowance is not None:
            self._allowances[link] = allowance
        self._logger.debug(
            "connection %d from %s",
            self._last_number,
            ascii(link.peer),
            extra={"connection": self._last_number, "peer": ascii(link.peer)},
        )
        return self._last_number

    def burdened(self, link: ServerLink, frames: int) -> None:
        """See `Hub`. They have the rate of the machine's frames, but tokens of their own."""
        bucket, now = self._allowances.get(link), self._clock()
        if bucket is None:
            return
        waits = (bucket.take(now) for _ in range(frames))
        wait = next((each for each in waits if each is not None), None)
        if wait is None:
            return
        code = ErrorCode.RATE_LIMITED
        try:
            self._drive(
                Reject(
                    connection=link.number,
                    code=code,
                    message="too many frames",
                    retry_after_seconds=wait,
                )
            )
        except LocalProtocolError:
            # It sent no handshake yet, so that there is nothing to reject.
            link.leave()
            link.close(ERRORS[code].close_code or 0, code.value)

    def owing(self, link: ServerLink) -> None:
        """See `Hub`."""
        if link.owing:
            self._owing.add(link)
        else:
            self._owing.discard(link)

    def ending(self, link: ServerLink) -> None:
        """See `Hub`."""
        self._forget(link)
        self._ending.add(link, self._clock())
        if len(self._ending) > _MAX_ENDING:
            oldest = self._ending.oldest()
            if oldest is not None:
                self._ending.discard(oldest)
                oldest.abort()
        self._arm()

    def gone(self, link: ServerLink) -> None:
        """See `Hub`."""
        self._forget(link)
        self._ending.discard(link)
        self._links.discard(link)
        if link.number:
            self._logger.debug(
                "connection %d is gone", link.number, extra={"connection": link.number}
            )

    def _forget(self, link: ServerLink) -> None:
        self._upgrading.discard(link)
        self._open.pop(link.number, None)
        self._owing.discard(link)
        self._allowances.pop(link, None)
        self._hooks.forget(link.number)


def config_of(config: GatewayConfig | None, gateway: Gateway | None) -> GatewayConfig:
    """The configuration to serve with, where one is given or none."""
    if config is not None:
        return config
    return GatewayConfig() if gateway is None else gateway.config


def _writer_of(
    config: GatewayConfig,
    store: Store | None,
    *,
    runner: Runner,
    give: Callable[[GatewayInput], None],
    failed: Callable[[Exception], None],
) -> StoreWriter | None:
    if config.write_ahead and store is None:
        raise ValueError("a server that writes ahead needs a store")
    if store is None:
        return None
    if not config.write_ahead:
        raise ValueError("a server has a store only to write ahead")
    return StoreWriter(store, runner, give, failed)

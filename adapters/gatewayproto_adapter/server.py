"""Everything of a server but its transports, its tasks and its clock."""

import math
import ssl as ssl_module
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from attrs import frozen
from gatewayproto_wsproto import frame_text
from gatewayproto_wsproto.handshake import HeaderPairs

from gatewayproto.actions import (
    CloseConnection,
    Emit,
    GatewayAction,
    GatewayEvent,
    MessageReceived,
    Persist,
    Published,
    SendFrames,
)
from gatewayproto.config import GatewayConfig
from gatewayproto.frames import Event
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import (
    ConnectionClosed,
    GatewayInput,
    Publish,
    SetHealth,
    TimerExpired,
)
from gatewayproto_adapter.application import SessionHandle
from gatewayproto_adapter.driver import Alarm, Driver
from gatewayproto_adapter.expiry import ExpiryQueue
from gatewayproto_adapter.origins import OriginPolicy
from gatewayproto_adapter.proxies import TrustedProxies
from gatewayproto_adapter.server_link import Refusal, ServerLink

DEFAULT_CLOSE_TIMEOUT: Final = 5.0
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


class ServerHooks(Protocol):
    """The application's hooks, as a framework runs them."""

    def tell(self, event: GatewayEvent) -> None:
        """The machine emitted an event."""
        ...

    def take_up(self, message: MessageReceived) -> None:
        """Work on a message, after those of its session that came before."""
        ...

    def forget(self, connection: int) -> None:
        """A connection is gone: nobody waits for the decision on it."""
        ...

    def close(self) -> None:
        """Cancel every hook and call none any more, save `on_event`."""
        ...


class BaseServer:
    """A gateway machine with its connections; an adapter's `Server` does the I/O.

    Everything is called in one thread.
    """

    def __init__(
        self, gateway: Gateway | None, options: ServerOptions, *, clock: Callable[[], float]
    ) -> None:
        if options.config.write_ahead:
            raise ValueError("a server has no store, and so cannot write ahead")
        self._options = options
        self._gateway = Gateway(options.config) if gateway is None else gateway
        self._clock = clock
        self._origins = OriginPolicy(options.allow_origins, secure=options.ssl is not None)
        self._proxies = TrustedProxies(options.trusted_proxies)
        self._address = (options.host, options.port)
        self._hooks: ServerHooks
        self._driver: Driver[GatewayInput, GatewayAction] | None = None
        self._links: set[ServerLink] = set()
        self._open: dict[int, ServerLink] = {}
        self._last_number = 0
        self._upgrading: ExpiryQueue[ServerLink] = ExpiryQueue(options.config.handshake_timeout)
        self._ending: ExpiryQueue[ServerLink] = ExpiryQueue(options.close_timeout)
        self._owing: set[ServerLink] = set()
        self._closing = False

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

    def _take_up_pending(self) -> None:
        """Work on what a restored machine had accepted and nobody completed."""
        for session_id in self._gateway.session_ids:
            for message in self._gateway.pending(session_id):
                self._hooks.take_up(message)
        self._arm()

    def _begin_to_close(self, code: int, reason: str) -> None:
        """Accept nothing more, cancel the hooks, close every connection."""
        self._closing = True
        self._hooks.close()
        for link in tuple(self._links):
            link.leave()
            link.close(code, reason)
        self._arm()

    def _abort(self) -> None:
        """End every connection at once."""
        for link in tuple(self._links):
            link.abort()

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
                    link.close(code, reason)
            case Persist():
                pass  # never given: nothing is written ahead
            case Emit(event=event):
                self._hooks.tell(event)

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
        return self._last_number

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

    def _forget(self, link: ServerLink) -> None:
        self._upgrading.discard(link)
        self._open.pop(link.number, None)
        self._owing.discard(link)
        self._hooks.forget(link.number)

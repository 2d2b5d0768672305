"""The moving parts of a client: the machine, its connections, its timer, and the way in."""

import ssl as ssl_module
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol

from attrs import field, frozen
from gatewayproto_wsproto import ClientConnection, WsUrl

from gatewayproto.actions import (
    ClientAction,
    ClientEvent,
    CloseTransport,
    Emit,
    EventReceived,
    Joined,
    OpenTransport,
    SendFrame,
    Skipped,
    SnapshotReceived,
)
from gatewayproto.client import Client
from gatewayproto.inputs import (
    Activity,
    ClientInput,
    FrameReceived,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from gatewayproto_adapter.client_link import ClientLink
from gatewayproto_adapter.driver import Alarm, Driver
from gatewayproto_adapter.expiry import ExpiryQueue
from gatewayproto_adapter.inflow import Inflow, Urgency

Item = Joined | EventReceived | Skipped | SnapshotReceived
"""What iterating a client gives; each has a `token`."""

ClientInflow = Inflow[FrameReceived | TransportClosed, Item]

# States of the machine in which it awaits a handshake, or a snapshot before anything else.
_ATTACHING: Final = frozenset({"connecting", "handshaking", "rejoining", "rejected", "resyncing"})
_RECOVERING: Final = "recovering"


@frozen(kw_only=True)
class Dialing:
    """How to open a transport."""

    url: WsUrl
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    ssl: ssl_module.SSLContext | None
    unix_path: str | None
    max_message: int
    close_timeout: float

    def websocket(self) -> ClientConnection:
        """A new WebSocket. Raises `ValueError` for a malformed header."""
        return ClientConnection(self.url, headers=self.headers, max_message=self.max_message)

    def context(self) -> ssl_module.SSLContext | None:
        """What to speak TLS by, if at all."""
        if not self.url.secure:
            return None
        return ssl_module.create_default_context() if self.ssl is None else self.ssl


class Listener(Protocol):
    """What the engine tells the session that it works for."""

    def tell(self, event: ClientEvent) -> None:
        """The machine emitted something."""
        ...

    def fail(self, error: Exception) -> None:
        """Something went wrong that is no fault of the network's."""
        ...

    def awaits_answers(self) -> bool:
        """Whether the application waits for the answer to a message."""
        ...


class BaseEngine(ABC):
    """Drives a client machine; an adapter's engine opens the transports.

    `inflow` is what the application has not taken; `feed` is to be called whenever it took
    something, or began to wait for an answer.
    """

    def __init__(
        self,
        machine: Client,
        dialing: Dialing,
        inflow: ClientInflow,
        listener: Listener,
        *,
        clock: Callable[[], float],
        make_alarm: Callable[[Callable[[], None]], Alarm],
    ) -> None:
        self._machine = machine
        self._dialing = dialing
        self._inflow = inflow
        self._listener = listener
        self._clock = clock
        self._link: ClientLink | None = None  # the one that the machine goes by
        self._links: set[ClientLink] = set()
        self._ending: ExpiryQueue[ClientLink] = ExpiryQueue(dialing.close_timeout)
        self._feeding = False
        self._driver: Driver[ClientInput, ClientAction] = Driver(
            machine,
            apply=self._apply,
            own_deadline=lambda: self._ending.next_deadline,
            on_time=self._on_time,
            clock=clock,
            make_alarm=make_alarm,
        )

    def drive(self, input_: ClientInput) -> None:
        """Give the machine an input and have its actions applied."""
        self._driver.handle(input_)

    def feed(self) -> None:
        """Give the machine what came in, as far as there is room for what it will hand on."""
        if self._feeding:
            return
        self._feeding = True
        try:
            while (input_ := self._inflow.next_input(self._urgency)) is not None:
                if isinstance(input_, TransportClosed):
                    self._link = None
                self.drive(input_)
        finally:
            self._feeding = False
        if self._link is not None:
            reading = self._link.reading
            self._link.read(on=self._inflow.may_read(self._urgency, reading=reading))

    @abstractmethod
    def _dial(self, number: int) -> ClientLink:
        """Begin to open a transport."""

    @property
    def _urgency(self) -> Urgency:
        state = self._machine.state
        if state in _ATTACHING:
            return Urgency.ATTACH
        if state == _RECOVERING or self._listener.awaits_answers():
            return Urgency.ANSWER
        return Urgency.NONE

    def _apply(self, action: ClientAction) -> None:
        match action:
            case SendFrame(connection=number, frame=frame):
                if self._link is not None and self._link.number == number:
                    self._link.send(frame)
            case OpenTransport(connection=number):
                self._link = self._dial(number)
                self._links.add(self._link)
            case CloseTransport(connection=number, code=code, reason=reason):
                if self._link is not None and self._link.number == number:
                    self._give_up(self._link, code, reason)
            case Emit(event=event):
                self._listener.tell(event)

    def _on_time(self, now: float) -> None:
        self.drive(TimerExpired())
        for link in self._ending.pop_expired(now):
            link.abort()

    def _give_up(self, link: ClientLink, code: int, reason: str) -> None:
        self._link = None
        self._inflow.drop_inputs()
        self._expire(link)
        link.close(code, reason)

    def _expire(self, link: ClientLink) -> None:
        """From now on it is only to go away, in time."""
        self._ending.add(link, self._clock())
        self._driver.arm()

    def _abort(self) -> None:
        """End every connection at once."""
        for link in tuple(self._links):
            link.abort()

    # -- what connections tell; see `LinkOwner` -----------------------------------------------

    def alive(self, link: ClientLink) -> None:
        """See `LinkOwner`."""
        self.drive(Activity(link.number))

    def upgraded(self, link: ClientLink) -> None:
        """See `LinkOwner`."""
        self.drive(TransportOpened(link.number))

    def received(self, link: ClientLink, message: bytes) -> None:
        """See `LinkOwner`."""
        self._inflow.arrived(FrameReceived(link.number, message), len(message))
        self.feed()

    def ended(self, link: ClientLink, why: TransportClosed) -> None:
        """See `LinkOwner`."""
        self._expire(link)
        self._inflow.arrived(why, 0)
        self.feed()

    def gone(self, link: ClientLink) -> None:
        """See `LinkOwner`."""
        self._ending.discard(link)
        self._links.discard(link)

"""The moving parts of a client: the machine, its transports, its timer, and the way in."""

import asyncio
import logging
import ssl as ssl_module
from typing import Any, Final, Protocol

from attrs import frozen
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
from gatewayproto_asyncio._client_transport import ClientTransport
from gatewayproto_asyncio._clock import monotonic
from gatewayproto_asyncio._driver import Driver
from gatewayproto_asyncio._expiry import ExpiryQueue
from gatewayproto_asyncio._inflow import Inflow, Urgency
from gatewayproto_asyncio._tasks import TaskOwner, settle

_logger = logging.getLogger("gatewayproto.asyncio")

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
    headers: tuple[tuple[str, str], ...]
    ssl: ssl_module.SSLContext | None
    max_message: int
    close_timeout: float

    def websocket(self) -> ClientConnection:
        """A new WebSocket. Raises `ValueError` for a malformed header."""
        return ClientConnection(self.url, headers=self.headers, max_message=self.max_message)

    async def open(self, transport: ClientTransport) -> None:
        """Connect. Raises `OSError` where that is not possible."""
        secure = self.url.secure
        await asyncio.get_running_loop().create_connection(
            lambda: transport,
            self.url.host,
            self.url.port,
            ssl=(self.ssl or True) if secure else None,
            ssl_shutdown_timeout=self.close_timeout if secure else None,
        )


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


class Engine:
    """Drives a client machine. Must be made in the loop that it is to run in.

    `inflow` is what the application has not taken; `feed` is to be called whenever it took
    something, or began to wait for an answer.
    """

    def __init__(
        self, machine: Client, dialing: Dialing, inflow: ClientInflow, listener: Listener
    ) -> None:
        self.tasks = TaskOwner()
        self._machine = machine
        self._dialing = dialing
        self._inflow = inflow
        self._listener = listener
        self._transport: ClientTransport | None = None  # the one that the machine goes by
        self._transports: set[ClientTransport] = set()
        self._ending: ExpiryQueue[ClientTransport] = ExpiryQueue(dialing.close_timeout)
        self._feeding = False
        self._driver: Driver[ClientInput, ClientAction] = Driver(
            machine,
            apply=self._apply,
            own_deadline=lambda: self._ending.next_deadline,
            on_time=self._on_time,
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
                    self._transport = None
                self.drive(input_)
        finally:
            self._feeding = False
        if self._transport is not None:
            reading = self._transport.reading
            self._transport.read(on=self._inflow.may_read(self._urgency, reading=reading))

    @property
    def _urgency(self) -> Urgency:
        state = self._machine.state
        if state in _ATTACHING:
            return Urgency.ATTACH
        if state == _RECOVERING or self._listener.awaits_answers():
            return Urgency.ANSWER
        return Urgency.NONE

    async def until_gone(self) -> None:
        """Wait until every transport is gone and every task has ended.

        Cancelling it aborts what is left.
        """
        try:
            await settle(self._remains, on_cancel=self._abort)
        finally:
            self._driver.stop()

    def _apply(self, action: ClientAction) -> None:
        match action:
            case SendFrame(connection=number, frame=frame):
                if self._transport is not None and self._transport.number == number:
                    self._transport.send(frame)
            case OpenTransport(connection=number):
                self._open(number)
            case CloseTransport(connection=number, code=code, reason=reason):
                if self._transport is not None and self._transport.number == number:
                    self._give_up(self._transport, code, reason)
            case Emit(event=event):
                self._listener.tell(event)

    def _on_time(self, now: float) -> None:
        self.drive(TimerExpired())
        for transport in self._ending.pop_expired(now):
            transport.abort()

    # -- transports ---------------------------------------------------------------------------

    def _open(self, number: int) -> None:
        transport = ClientTransport(self, number, self._dialing.websocket())
        self._transport = transport
        self._transports.add(transport)
        opening = self.tasks.start(self._connect(transport), name=f"gatewayproto connect {number}")
        # Not at the end of the task's own code: one that is cancelled at once never runs it.
        opening.add_done_callback(lambda _: transport.opened())
        transport.opening = opening

    async def _connect(self, transport: ClientTransport) -> None:
        try:
            await self._dialing.open(transport)
        except OSError as error:
            _logger.debug("could not connect: %s", ascii(error))
        except Exception as error:  # noqa: BLE001 - raised again where the caller is
            self._listener.fail(error)

    def _give_up(self, transport: ClientTransport, code: int, reason: str) -> None:
        self._transport = None
        self._inflow.drop_inputs()
        self._expire(transport)
        transport.close(code, reason)

    def _expire(self, transport: ClientTransport) -> None:
        """From now on it is only to go away, in time."""
        self._ending.add(transport, monotonic())
        self._driver.arm()

    # -- what transports tell; see `Owner` ----------------------------------------------------

    def alive(self, transport: ClientTransport) -> None:
        """See `Owner`."""
        self.drive(Activity(transport.number))

    def upgraded(self, transport: ClientTransport) -> None:
        """See `Owner`."""
        self.drive(TransportOpened(transport.number))

    def received(self, transport: ClientTransport, message: bytes) -> None:
        """See `Owner`."""
        self._inflow.arrived(FrameReceived(transport.number, message), len(message))
        self.feed()

    def ended(self, transport: ClientTransport, why: TransportClosed) -> None:
        """See `Owner`."""
        self._expire(transport)
        self._inflow.arrived(why, 0)
        self.feed()

    def gone(self, transport: ClientTransport) -> None:
        """See `Owner`."""
        self._ending.discard(transport)
        self._transports.discard(transport)

    def _remains(self) -> list[asyncio.Future[Any]]:
        return [*self.tasks.others(), *(each.closed for each in self._transports)]

    def _abort(self) -> None:
        for transport in tuple(self._transports):
            transport.abort()

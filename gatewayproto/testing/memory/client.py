"""A client's driver in its smallest form: it drives a client over transports in memory.

Spec: the architecture page, "Machines"; The client's side.
"""

from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final

from attrs import evolve
from msgspec import json

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
from gatewayproto.client import Client, ClientState
from gatewayproto.inputs import (
    Activity,
    ClientInput,
    Connect,
    Disconnect,
    FrameReceived,
    Taken,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.testing.memory.driver import Driver
from gatewayproto.testing.memory.link import (
    READ,
    Endpoint,
    Record,
    RecordReader,
    TooLargeError,
    Writer,
    encode,
    encode_fields,
)
from gatewayproto.testing.memory.loop import Loop, Timer

Item = Joined | EventReceived | Skipped | SnapshotReceived
CLOSE_TIMEOUT: Final = 1.0
"""Seconds that a transport which is being closed may take."""
BUFFER: Final = 4 * READ
"""Bytes of items that may wait for the application before the transport is left unread."""
_TOO_BIG: Final = 1009


class ClientTransport:
    """One transport of a client, and what is to be written to it."""

    def __init__(self, client: "MemoryClient", number: int, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._client = client
        self._number = number
        self._told = False  # the machine, of its end; or the machine has given it up
        self._writer = Writer(endpoint)
        self._reader = RecordReader(client.max_payload)
        self._timer: Timer | None = None
        self._closing = False
        self._writer.queue(encode_fields(Record.UPGRADE, path="/"))
        endpoint.notify = self.progress

    def progress(self) -> None:
        """Read what there is, as far as the application keeps up, and write."""
        while self._told or self._client.may_read:
            data = self.endpoint.read()
            if not data:
                break
            self.take(data)
        if self.endpoint.ended:
            self.lose(TransportClosed(connection=self._number))
            self.let_go()
        else:
            self._writer.write()

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        self._writer.queue(encode(Record.TEXT, frame))
        self._writer.write()

    def close(self, code: int, reason: str) -> None:
        """Send what is owed, then a close, and wait for the server's, but not for ever."""
        self._told = True
        if self._closing:
            return
        self._closing = True
        self._writer.queue(encode_fields(Record.CLOSE, code=code, reason=reason))
        self._timer = self._client.loop.call_at(self._client.loop.now() + CLOSE_TIMEOUT, self.abort)
        self.progress()

    def abort(self) -> None:
        """End at once."""
        self._told = True
        self.endpoint.abort()
        self.let_go()

    def lose(self, why: TransportClosed) -> None:
        """Tell the machine, once, that the transport is gone, and why."""
        if not self._told:
            self._told = True
            self._client.give(why)

    def let_go(self) -> None:
        """The transport is done with."""
        self.endpoint.close()
        if self._timer is not None:
            self._timer.cancel()
        self._client.forget(self)

    def take(self, data: bytes) -> None:
        """Bytes came in."""
        if not self._told:
            self._client.give(Activity(self._number))
        try:
            for kind, content in self._reader.feed(data):
                self._take_record(kind, content)
        except TooLargeError:
            self.lose(TransportClosed(connection=self._number))
            self.close(_TOO_BIG, "")

    def _take_record(self, kind: Record, content: bytes) -> None:
        match kind:
            case Record.ACCEPTED if not self._told:
                self._client.give(TransportOpened(self._number))
            case Record.TEXT if not self._told:
                self._client.receive(FrameReceived(self._number, content))
            case Record.REFUSED:
                self.lose(TransportClosed(connection=self._number, **json.decode(content)))
                self.let_go()
            case Record.CLOSE:
                self.closed(json.decode(content))
            case _:
                pass

    def closed(self, close: dict[str, object]) -> None:
        """The server has closed the connection."""
        self.lose(self.why(close))
        self.close(1000, "")
        self.let_go()

    def why(self, close: dict[str, object]) -> TransportClosed:
        """What the machine is told of a close that came in."""
        return TransportClosed(
            connection=self._number, code=int(str(close["code"])), reason=str(close["reason"])
        )


class MemoryClient(Driver[ClientInput, ClientAction]):
    """Drives one client on a `Loop`.

    `dial` opens a transport, or gives None where nobody listens. `on_event` is called for every
    event of the machine; what it raises ends the client and comes out of `take`. `max_payload` is
    the machine's: the largest message that is read, in bytes.
    """

    transport_type: ClassVar[type[ClientTransport]] = ClientTransport

    def __init__(
        self,
        loop: Loop,
        machine: Client,
        dial: Callable[[], Endpoint | None],
        on_event: Callable[[ClientEvent], None],
        *,
        max_payload: int,
    ) -> None:
        super().__init__(loop, machine)
        self.max_payload = max_payload
        self.items: deque[Item] = deque()
        self.failure: Exception | None = None
        self._client = machine
        self._dial = dial
        self._on_event = on_event
        self._transport: ClientTransport | None = None  # the one that the machine goes by
        self._transports: set[ClientTransport] = set()
        self._sizes: deque[int] = deque()  # of the items, in bytes
        self._size = 0  # of the frame that was given last
        self._unfinished: Item | None = None
        self._opening = 0

    @property
    def left(self) -> int:
        """How many transports and timers there are."""
        return len(self._transports) + (self._timer is not None) + bool(self._opening)

    @property
    def may_read(self) -> bool:
        """Whether the application keeps up. Only a living connection is ever left unread."""
        return self._client.state is not ClientState.LIVE or sum(self._sizes) < BUFFER

    # -- the application ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect."""
        self.give(Connect())

    def take(self) -> Item:
        """The next item; the one before is done with. There must be one."""
        self.finish()
        if self.failure is not None:
            raise self.failure
        self._sizes.popleft()
        item = self._unfinished = self.items.popleft()
        if self._transport is not None:
            self.loop.call_soon(self._transport.progress)
        return item

    def finish(self) -> None:
        """Tell the machine that the application is done with what it took."""
        item, self._unfinished = self._unfinished, None
        now = self._client.resume_token
        # An item of a session or an epoch that is over says nothing of the present one.
        if item and now and evolve(now, cursor=item.token.cursor) == item.token:
            self.give(Taken(item.token.cursor))

    def cancel(self) -> None:
        """End at once."""
        self.give(Disconnect())
        for transport in tuple(self._transports):
            transport.abort()

    # -- the machine --------------------------------------------------------------------------

    def receive(self, frame: FrameReceived) -> None:
        """Give the machine a frame."""
        self._size = len(frame.data)
        self.give(frame)

    def apply(self, action: ClientAction) -> None:
        """Carry out one action."""
        match action:
            case SendFrame(frame=frame):
                if self._transport is not None:
                    self._transport.send(frame)
            case OpenTransport(connection=number):
                # What comes of it is an input of its own, after the actions of this one.
                self._opening = number
                self.loop.call_soon(lambda: self.open(number))
            case CloseTransport(code=code, reason=reason):
                self._opening = 0
                transport, self._transport = self._transport, None
                if transport is not None:
                    transport.close(code, reason)
            case Emit(event=event):
                self.tell(event)

    def open(self, number: int) -> None:
        """Open a transport, unless it was given up meanwhile."""
        if number != self._opening:
            return
        self._opening = 0
        endpoint = self._dial()
        if endpoint is None:
            self.give(TransportClosed(connection=number))
            return
        self._transport = self.transport_type(self, number, endpoint)
        self._transports.add(self._transport)
        self._transport.progress()

    def tell(self, event: ClientEvent) -> None:
        """Keep what is handed on for the application, and call back."""
        if isinstance(event, Joined) and event.resumed:
            pass  # says where the client is, and has nothing for its application
        elif isinstance(event, Joined | EventReceived | Skipped | SnapshotReceived):
            self.items.append(event)
            self._sizes.append(self._size)
            self._size = 0
        try:
            self._on_event(event)
        except Exception as error:  # noqa: BLE001 -- an application's, whatever it is
            self.failure = error
            self.give(Disconnect())

    def forget(self, transport: ClientTransport) -> None:
        """A transport is done with."""
        self._transports.discard(transport)
        if self._transport is transport:
            self._transport = None

"""A server's driver in its smallest form: it drives a gateway over transports in memory.

It decides nothing. Inputs are given with the time, actions carried out in order, and one timer
is armed for the machine's next deadline.

Spec: the architecture page, "Machines".
"""

from collections.abc import Callable
from typing import ClassVar, Final, Protocol

from msgspec import json

from gatewayproto.actions import (
    AuthRequested,
    CloseConnection,
    Emit,
    GatewayAction,
    GatewayEvent,
    JoinRequested,
    MessageReceived,
    Persist,
    SendFrames,
)
from gatewayproto.errors import CLOSE_SERVICE_RESTART, ErrorCode
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import (
    Accept,
    Activity,
    Complete,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    FrameReceived,
    GatewayInput,
    Persisted,
    Publish,
    Reject,
)
from gatewayproto.testing.memory.driver import Driver
from gatewayproto.testing.memory.link import (
    Endpoint,
    Record,
    RecordReader,
    TooLargeError,
    Writer,
    encode,
    encode_fields,
)
from gatewayproto.testing.memory.loop import Loop, Timer

CLOSE_TIMEOUT: Final = 1.0
"""Seconds that a connection which is being closed may take."""
_TOO_BIG: Final = 1009


class Hooks(Protocol):
    """The application; `gatewayproto.testing.drivers.Backend` is one."""

    def join(self, join: JoinRequested, /) -> Accept | Reject:
        """Decide on a handshake."""
        ...

    def message(self, message: MessageReceived, /) -> tuple[Publish, ...]:
        """Work on a message; gives what it publishes."""
        ...

    def event(self, event: GatewayEvent, /) -> tuple[Publish, ...]:
        """Take note of an event; gives what it publishes."""
        ...


class ServerConnection:
    """One connection: its transport, what is to be written, and what the machine calls it."""

    def __init__(self, server: "MemoryServer", endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.number = 0
        """Above 0 once it is upgraded."""
        self.known = False
        """To the machine."""
        self._server = server
        self._writer = Writer(endpoint)
        self._reader = RecordReader(server.max_payload)
        self._closing = False
        self._timer: Timer | None = None
        endpoint.notify = self.progress

    def progress(self) -> None:
        """Read what there is, and write what there is room for."""
        while data := self.endpoint.read():
            self.take(data)
        if self.endpoint.ended:
            self.lose()
            self.let_go()
        else:
            self.flush()

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        if not self._closing:
            self._writer.queue(encode(Record.TEXT, frame), payload=len(frame))

    def close(self, code: int, reason: str) -> None:
        """Send what is owed, then a close, and wait for the peer's, but not for ever."""
        self.known = False
        if self._closing:
            return
        self._closing = True
        self._writer.queue(encode_fields(Record.CLOSE, code=code, reason=reason))
        self._timer = self._server.loop.call_at(self._server.loop.now() + CLOSE_TIMEOUT, self.abort)
        self.flush()

    def abort(self) -> None:
        """End at once."""
        self.endpoint.abort()
        self.let_go()

    def lose(self) -> None:
        """Tell the machine, once, that the connection is gone."""
        if self.known:
            self.known = False
            self._server.give(ConnectionClosed(self.number))

    def let_go(self) -> None:
        """The transport is done with."""
        self.endpoint.close()
        if self._timer is not None:
            self._timer.cancel()
        self._server.forget(self)

    def flush(self) -> None:
        """Write, and give back what the transport took."""
        taken = self._writer.write()
        if taken and self.known:
            self._server.give(Drained(self.number, taken))

    def take(self, data: bytes) -> None:
        """Bytes came in."""
        if self.known:
            self._server.give(Activity(self.number))
        try:
            for kind, content in self._reader.feed(data):
                self._take_record(kind, content)
        except TooLargeError:
            self.lose()
            self.close(_TOO_BIG, "")

    def _take_record(self, kind: Record, content: bytes) -> None:
        match kind:
            case Record.UPGRADE:
                self._writer.queue(encode(Record.ACCEPTED))
                self.number, self.known = self._server.admit(self), True
                self._server.give(
                    ConnectionOpened(
                        connection=self.number,
                        peer=f"memory:{self.number}",
                        timestamp=1.0 + self._server.loop.now(),
                        **json.decode(content),
                    )
                )
            case Record.TEXT if self.known:
                self._server.give(FrameReceived(self.number, content))
            case Record.CLOSE:
                self.lose()
                self.close(json.decode(content)["code"], "")
                self.flush()
                self.let_go()
            case _:
                pass


class MemoryServer(Driver[GatewayInput, GatewayAction]):
    """Drives one gateway on a `Loop`. `raised` is what the application's hooks raised."""

    connection_type: ClassVar[type[ServerConnection]] = ServerConnection

    def __init__(self, loop: Loop, gateway: Gateway, hooks: Hooks) -> None:
        super().__init__(loop, gateway)
        self.max_payload = gateway.config.max_payload
        """The largest message that is read, in bytes."""
        self.raised: list[Exception] = []
        self._hooks = hooks
        self._connections: dict[Endpoint, ServerConnection] = {}
        self._by_number: dict[int, ServerConnection] = {}
        self._last_number = gateway.last_connection

    @property
    def transports(self) -> int:
        """How many transports there are, whatever their state."""
        return len(self._connections)

    @property
    def left(self) -> int:
        """How many transports and timers there are."""
        return self.transports + (self._timer is not None)

    def accept(self, endpoint: Endpoint) -> None:
        """Take a new transport."""
        if self._stopping:
            endpoint.abort()
        else:
            self._connections[endpoint] = self.connection_type(self, endpoint)

    def stop(self) -> None:
        """Close every connection, each with what it is owed."""
        self._stopping = True
        for connection in tuple(self._connections.values()):
            connection.lose()
            connection.close(CLOSE_SERVICE_RESTART, "")
        self.arm()

    def cancel(self) -> None:
        """End at once."""
        self._stopping = True
        for connection in tuple(self._connections.values()):
            connection.lose()
            connection.abort()
        self.arm()

    # -- the machine --------------------------------------------------------------------------

    def apply(self, action: GatewayAction) -> None:
        """Carry out one action."""
        match action:
            case SendFrames(connections=numbers, frames=frames):
                for number in numbers:
                    if (connection := self._by_number.get(number)) is not None:
                        for frame in frames:
                            connection.send(frame)
                        self.loop.call_soon(connection.flush)
            case CloseConnection(connection=number, code=code, reason=reason):
                if (connection := self._by_number.get(number)) is not None:
                    connection.close(code, reason)
            case Persist(session_id=session_id, number=number):
                # It keeps no store: nothing of it outlives the loop.
                self.give(Persisted(session_id=session_id, number=number))
            case Emit(event=event):
                self.tell(event)

    # -- the application ----------------------------------------------------------------------

    def tell(self, event: GatewayEvent) -> None:
        """Tell the application, and do what it wants."""
        self.publish(lambda: self._hooks.event(event))
        match event:
            case _ if self._stopping:
                pass
            case JoinRequested():
                self.give(self.decide(event))
            case AuthRequested(join=join):
                self.give(self.decide(join))
            case MessageReceived(session_id=session_id, message_id=message_id):
                self.publish(lambda: self._hooks.message(event))
                self.give(Complete(session_id=session_id, message_id=message_id))
            case _:
                pass

    def decide(self, join: JoinRequested) -> Accept | Reject:
        """Ask the application."""
        try:
            return self._hooks.join(join)
        except Exception as error:  # noqa: BLE001 -- an application's, whatever it is
            self.raised.append(error)
            return Reject(connection=join.connection, code=ErrorCode.INTERNAL_ERROR)

    def publish(self, hook: Callable[[], tuple[Publish, ...]]) -> None:
        """Call a hook and publish what it gives."""
        try:
            commands = hook()
        except Exception as error:  # noqa: BLE001 -- an application's, whatever it is
            self.raised.append(error)
            return
        for command in commands:
            self.give(command)

    # -- connections --------------------------------------------------------------------------

    def admit(self, connection: ServerConnection) -> int:
        """Number a connection that is upgraded."""
        self._last_number += 1
        self._by_number[self._last_number] = connection
        return self._last_number

    def forget(self, connection: ServerConnection) -> None:
        """A transport is done with."""
        self._by_number.pop(connection.number, None)
        self._connections.pop(connection.endpoint, None)

"""A server's driver in its smallest form: it drives a gateway over transports in memory.

It decides nothing. Inputs are given with the time, actions carried out in order, and one timer
is armed for the machine's next deadline.

Spec: the architecture page, "Machines".
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Protocol

from msgspec import json

from gatewayproto.actions import (
    AbortRequested,
    AuthRequested,
    CloseConnection,
    Emit,
    GatewayAction,
    GatewayEvent,
    JoinRequested,
    MessageReceived,
    Persist,
    SendFrames,
    SnapshotNeeded,
)
from gatewayproto.errors import CLOSE_SERVICE_RESTART, ERRORS, ErrorCode
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
    SnapshotReady,
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

    def auth(self, join: JoinRequested, /) -> Accept | Reject:
        """Decide on fresh credentials."""
        ...

    def message(self, message: MessageReceived, /) -> tuple[Publish, ...]:
        """Work on a message; gives what it publishes."""
        ...

    def abort(self, abort: AbortRequested, /) -> tuple[Publish, ...]:
        """Stop a run; gives what it publishes."""
        ...

    def snapshot(self, needed: SnapshotNeeded, /) -> SnapshotReady:
        """Build a snapshot."""
        ...

    def persist(self, batch: Sequence[Persist], done: Callable[[], None], /) -> None:
        """Store records; `done` is called once they are stored."""
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
        self._unstored: list[Persist] = []
        self._storing = False
        self._stores = True

    @property
    def transports(self) -> int:
        """How many transports there are, whatever their state."""
        return len(self._connections)

    @property
    def left(self) -> int:
        """How many transports and timers there are."""
        return self.transports + (self._timer is not None) + self._storing

    @property
    def stopped(self) -> bool:
        """Whether everything has ended."""
        return not self.transports and not self._storing

    def accept(self, endpoint: Endpoint) -> None:
        """Take a new transport."""
        if self._stopping:
            endpoint.abort()
        else:
            self._connections[endpoint] = self.connection_type(self, endpoint)

    def stop(self, code: int = CLOSE_SERVICE_RESTART) -> None:
        """Close every connection, each with what it is owed. What is to be stored still is."""
        self._stopping = True
        for connection in tuple(self._connections.values()):
            connection.lose()
            connection.close(code, "")
        self.arm()

    def cancel(self) -> None:
        """End at once."""
        self._stopping = True
        for connection in tuple(self._connections.values()):
            connection.lose()
            connection.abort()
        self.store_no_more()
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
            case Persist():
                self.keep(action)
            case Emit(event=event):
                self.tell(event)

    # -- the store ----------------------------------------------------------------------------

    def keep(self, record: Persist) -> None:
        """Have a record stored, with what else comes until the store has time for it."""
        if self._stores:
            self._unstored.append(record)
            if not self._storing:
                self._storing = True
                self.loop.call_soon(self.store)

    def store(self) -> None:
        """Give the store a batch."""
        batch, self._unstored = tuple(self._unstored), []
        try:
            self._hooks.persist(batch, lambda: self.confirm(batch))
        except Exception as error:  # noqa: BLE001 -- a store's, whatever it is
            self.raised.append(error)
            self.store_no_more()
            self.stop(ERRORS[ErrorCode.INTERNAL_ERROR].close_code or 0)

    def confirm(self, batch: Sequence[Persist]) -> None:
        """A batch is stored."""
        newest = {each.session_id: each.number for each in batch}
        for session_id, number in newest.items():
            if self._stores:
                self.give(Persisted(session_id=session_id, number=number))
        self._storing = bool(self._unstored)
        if self._storing:
            self.loop.call_soon(self.store)

    def store_no_more(self) -> None:
        """Nothing is stored, and nothing confirmed."""
        self._stores = self._storing = False
        self._unstored.clear()

    # -- the application ----------------------------------------------------------------------

    def tell(self, event: GatewayEvent) -> None:
        """Tell the application, and do what it wants."""
        self.publish(lambda: self._hooks.event(event))
        match event:
            case _ if self._stopping:
                pass
            case JoinRequested():
                self.give(self.decide(event))
            case MessageReceived(session_id=session_id, message_id=message_id):
                self.publish(lambda: self._hooks.message(event))
                self.give(Complete(session_id=session_id, message_id=message_id))
            case AuthRequested(join=join):
                self.give(self.renew(join))
            case AbortRequested():
                self.publish(lambda: self._hooks.abort(event))
            case SnapshotNeeded():
                self.build(event)
            case _:
                pass

    def decide(self, join: JoinRequested) -> Accept | Reject:
        """Ask the application about a handshake."""
        return self._judge(self._hooks.join, join)

    def renew(self, join: JoinRequested) -> Accept | Reject:
        """Ask the application about fresh credentials."""
        return self._judge(self._hooks.auth, join)

    def _judge(
        self, hook: Callable[[JoinRequested], Accept | Reject], join: JoinRequested
    ) -> Accept | Reject:
        try:
            return hook(join)
        except Exception as error:  # noqa: BLE001 -- an application's, whatever it is
            self.raised.append(error)
            return Reject(connection=join.connection, code=ErrorCode.INTERNAL_ERROR)

    def build(self, needed: SnapshotNeeded) -> None:
        """Have the application build a snapshot; where it cannot, the machine waits no longer."""
        try:
            self.give(self._hooks.snapshot(needed))
        except Exception as error:  # noqa: BLE001 -- an application's, whatever it is
            self.raised.append(error)

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

"""What the author of a driver writes, so that the checks can start it and talk to it.

Checks are coroutines that await nothing but methods of these objects, one at a time. So they run
on asyncio, on trio, on any other loop, and on none: a harness whose methods block and never yield
is as good. Nothing here knows sockets or WebSocket; a transport is whatever carries text messages
both ways, tells how it ended, and has room for so much and no more.

Wherever a method waits, it raises `TimeoutError` after some seconds, five of them for instance:
what a check waits for is due much earlier.

Spec: the architecture page, "Machines".
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from attrs import frozen

from gatewayproto.actions import (
    ClientEvent,
    EventReceived,
    Joined,
    Skipped,
    SnapshotReceived,
)
from gatewayproto.config import ClientConfig
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import Publish
from gatewayproto.testing.drivers.backend import Backend

Item = Joined | EventReceived | Skipped | SnapshotReceived
"""What an application takes from a client: everything that has a resume token."""
Main = Callable[[], Coroutine[Any, Any, None]]
"""A check, ready to be run."""


@frozen
class End:
    """How a connection ended: `code` and `reason` of the close that was received.

    `code` is None where none was: the stream ended or broke without a word.
    """

    code: int | None = None
    reason: str = ""


class Peer(Protocol):
    """One end of a transport, the driver being at the other. It speaks no protocol by itself.

    It reads only inside `receive` and whatever is left unread stays in the transport, or close to
    it: see `capacity`. A close that comes in is answered within `receive`, and nowhere else.
    """

    def encode(self, message: bytes) -> bytes:
        """One text message as the transport's bytes; written in this order, each once."""
        ...

    async def write(self, data: bytes) -> int:
        """Write bytes, without waiting for the driver to read them.

        What the transport does not take at once waits on this side and goes as soon as it can.
        Returns how many bytes wait.
        """
        ...

    async def receive(self) -> bytes | End:
        """The next text message; once there is none left, how the connection ended."""
        ...

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close; `receive` goes on to the end."""
        ...

    async def finish(self) -> None:
        """End the stream of bytes without a close (TCP's FIN); what comes in can still be read."""
        ...

    async def abort(self) -> None:
        """Break the transport, at once and both ways (TCP's RST)."""
        ...


class Harness(Protocol):
    """What both harnesses have. One object serves any number of checks, one after the other."""

    @property
    def capacity(self) -> int:
        """Bytes that a transport may hold, from one end to the other, while nobody reads.

        All buffers on the way: the system's at both ends, a peer's own, a driver's that its
        machine knows nothing of. An upper bound will do; checks send more than that.
        """
        ...

    @property
    def lateness(self) -> float:
        """Seconds that the driver's timer may be late, on a busy computer."""
        ...

    def run(self, main: Main) -> None:
        """Run a check in your framework, with everything fresh.

        At its end, whether it returned or raised, whatever was started for it is ended. Fails
        where a task or a transport was left behind, and passes on what the check raises.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass, and the driver work meanwhile; 0 gives it a turn."""
        ...

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the driver work until the condition holds, which nothing tells of."""
        ...

    def left(self) -> int:
        """How many tasks, timers, listeners and transports of the driver there are now."""
        ...


class ServerHarness(Harness, Protocol):
    """Starts a server's driver and opens connections to it. Each check starts one server."""

    async def start(self, gateway: Gateway, backend: Backend) -> None:
        """Have the driver under test drive this machine, with `backend` as its application.

        Where the driver limits how long closing a connection takes, a second is good.
        """
        ...

    async def stop(self) -> None:
        """Begin the driver's orderly stop, and return without waiting for its end."""
        ...

    async def stopped(self) -> None:
        """Wait for the end of an orderly stop."""
        ...

    async def cancel(self) -> None:
        """End the driver at once, as when its task or scope is cancelled; wait until it has."""
        ...

    async def open(
        self, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Peer:
        """Open and upgrade a connection; `query` and `headers` are to be in its upgrade.

        Returns once the upgrade was accepted.
        """
        ...

    async def publish(self, *commands: Publish) -> None:
        """Publish from outside of any hook: all of them, in order, as fast as the driver allows."""
        ...

    def transports(self) -> int:
        """How many connections the driver holds open, whatever their state."""
        ...


class DrivenClient(Protocol):
    """The client's driver under test, as its application uses it."""

    async def take(self) -> Item:
        """The next of what is handed on. Asking for it tells that the one before is done with.

        Raises:
            Exception: What the driver raises where nothing more can come.
        """
        ...

    async def send(self, content: str, request_id: str) -> None:
        """Send a message, without waiting for its end."""
        ...

    async def set_token(self, token: str) -> None:
        """Give fresh credentials, after `TokenNeeded` asked for them."""
        ...

    async def disconnect(self) -> None:
        """Begin to disconnect, and return without waiting for the end. May be called twice."""
        ...

    async def ended(self) -> None:
        """Wait until a client that disconnects, or has stopped, has ended."""
        ...

    async def cancel(self) -> None:
        """End the driver at once, as when its task or scope is cancelled; wait until it has."""
        ...


class Attempt(Protocol):
    """A client's try to open a transport, not yet answered."""

    async def accept(self) -> Peer:
        """Upgrade it."""
        ...

    async def refuse(self, status: int, *, retry_after: int | None = None) -> None:
        """Answer with an HTTP status in place of the upgrade, and with `Retry-After`."""
        ...

    async def drop(self) -> None:
        """Break the transport before the upgrade."""
        ...


class ClientHarness(Harness, Protocol):
    """Starts a client's driver, and is the server that it connects to.

    A check may start several, one after the other.
    """

    @property
    def buffer(self) -> int:
        """Bytes that the driver may hold of what its application has not taken.

        What one read brings at most is among them.
        """
        ...

    async def start(
        self, config: ClientConfig, on_event: Callable[[ClientEvent], None]
    ) -> DrivenClient:
        """Start the driver under test; it begins to connect.

        `on_event` is to be called for every event of the machine, when it is emitted. Where the
        driver limits how long closing a connection takes, a second is good.
        """
        ...

    async def attempt(self) -> Attempt:
        """Wait for the client's next try to open a transport; those of earlier clients are not."""
        ...

    async def listen(self, *, on: bool) -> None:
        """Whether anybody listens where the client connects to; somebody does at first."""
        ...


def run_blocking(main: Main) -> None:
    """Run a check whose harness never yields, since each of its methods returns when it is done.

    Raises:
        RuntimeError: The check awaited something else.
    """
    coroutine = main()
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("something was awaited that is no method of a blocking harness")

"""The application and the store that the checks of a driver bring, as an adapter calls them."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gatewayproto_adapter.application import (
    Application,
    BuiltSnapshot,
    Grant,
    Rejected,
    SessionHandle,
)

from gatewayproto.actions import (
    AbortRequested,
    GatewayEvent,
    JoinRequested,
    MessageReceived,
    Persist,
    SnapshotNeeded,
)
from gatewayproto.config import GatewayConfig
from gatewayproto.frames import Event
from gatewayproto.inputs import Accept, Reject
from gatewayproto.testing.drivers import Backend


class Publishes(Protocol):
    """A server, as far as its application needs it."""

    def publish(self, session_id: str, event: Event) -> int | None: ...


class CheckApplication(Application):
    """Hands everything to the check's application."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.server: Publishes | None = None

    async def authenticate(self, join: JoinRequested) -> Grant:
        return _granted(self._backend.join(join))

    async def reauthenticate(self, join: JoinRequested) -> Grant:
        return _granted(self._backend.auth(join))

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        for command in self._backend.message(message):
            session.publish_event(command.event)

    def on_abort(self, session: SessionHandle, abort: AbortRequested) -> None:
        for command in self._backend.abort(abort):
            session.publish_event(command.event)

    async def build_snapshot(self, session: SessionHandle, needed: SnapshotNeeded) -> BuiltSnapshot:
        assert session.session_id == needed.session_id
        ready = self._backend.snapshot(needed)
        assert ready.epoch == needed.epoch
        return BuiltSnapshot(ready.cursor, dict(ready.state))

    def on_event(self, event: GatewayEvent) -> None:
        for command in self._backend.event(event):
            assert self.server is not None
            self.server.publish(command.session_id, command.event)


def _granted(answer: Accept | Reject) -> Grant:
    if isinstance(answer, Reject):
        raise Rejected(answer.code, answer.message, retry_after_seconds=answer.retry_after_seconds)
    return Grant(answer.principal, answer.expires_in)


class Signal(Protocol):
    """An event of a framework."""

    def set(self) -> None: ...

    async def wait(self) -> Any: ...


class CheckStore:
    """Hands every batch to the check's store; `signal` makes an event of the framework."""

    def __init__(self, backend: Backend, signal: Callable[[], Signal]) -> None:
        self._backend = backend
        self._signal = signal

    async def persist(self, batch: Sequence[Persist]) -> None:
        stored = self._signal()
        self._backend.persist(batch, stored.set)
        await stored.wait()


def store_for(
    config: GatewayConfig, backend: Backend, signal: Callable[[], Signal]
) -> CheckStore | None:
    """The store that a server with this configuration needs."""
    return CheckStore(backend, signal) if config.write_ahead else None

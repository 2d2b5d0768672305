"""The application that the checks of a driver bring, as an adapter calls it."""

from typing import Protocol

from gatewayproto_adapter.application import Application, Rejected, SessionHandle

from gatewayproto.actions import GatewayEvent, JoinRequested, MessageReceived
from gatewayproto.frames import Event
from gatewayproto.inputs import Reject
from gatewayproto.testing.drivers import Backend


class Publishes(Protocol):
    """A server, as far as its application needs it."""

    def publish(self, session_id: str, event: Event) -> int | None: ...


class CheckApplication(Application):
    """Hands everything to the check's application."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.server: Publishes | None = None

    async def authenticate(self, join: JoinRequested) -> str | None:
        answer = self._backend.join(join)
        if isinstance(answer, Reject):
            raise Rejected(
                answer.code, answer.message, retry_after_seconds=answer.retry_after_seconds
            )
        return answer.principal

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        for command in self._backend.message(message):
            session.publish_event(command.event)

    def on_event(self, event: GatewayEvent) -> None:
        for command in self._backend.event(event):
            assert self.server is not None
            self.server.publish(command.session_id, command.event)

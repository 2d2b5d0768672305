"""The application's hooks, each in a task that the server owns."""

import logging
from collections import deque
from collections.abc import Callable

from gatewayproto_adapter.application import Application, Rejected, SessionHandle

from gatewayproto.actions import GatewayEvent, JoinRequested, MessageReceived
from gatewayproto.errors import ErrorCode
from gatewayproto.inputs import Accept, Complete, GatewayInput, Reject
from gatewayproto_trio._jobs import Job, Jobs

_logger = logging.getLogger("gatewayproto.trio")


class Hooks:
    """Calls an application's hooks for what the machine tells, and gives back what they decide.

    A hook that raises is logged: it ends neither the server nor another hook. Bounds are the
    machine's: one decision for each connection, `max_pending_requests` for each session.
    """

    def __init__(
        self,
        application: Application,
        jobs: Jobs,
        give: Callable[[GatewayInput], None],
        session: Callable[[str], SessionHandle],
    ) -> None:
        self._application = application
        self._jobs = jobs
        self._give = give
        self._session = session
        self._joins: dict[int, Job] = {}
        self._inboxes: dict[str, deque[MessageReceived]] = {}
        self._closing = False

    def tell(self, event: GatewayEvent) -> None:
        """See `ServerHooks`."""
        try:
            self._application.on_event(event)
        except Exception:
            _logger.exception("on_event failed")
        if self._closing:
            return
        match event:
            case JoinRequested():
                self._joins[event.connection] = self._jobs.start(
                    self._authenticate, event, name=f"gatewayproto join {event.connection}"
                )
            case MessageReceived():
                self.take_up(event)
            case _:
                pass

    def take_up(self, message: MessageReceived) -> None:
        """See `ServerHooks`."""
        inbox = self._inboxes.get(message.session_id)
        if inbox is None:
            inbox = self._inboxes[message.session_id] = deque()
            self._jobs.start(self._work, message.session_id, name="gatewayproto messages")
        inbox.append(message)

    def forget(self, connection: int) -> None:
        """See `ServerHooks`."""
        join = self._joins.pop(connection, None)
        if join is not None:
            join.cancel()

    def close(self) -> None:
        """See `ServerHooks`."""
        self._closing = True
        self._jobs.cancel()

    async def _authenticate(self, join: JoinRequested) -> None:
        answer: Accept | Reject
        try:
            principal = await self._application.authenticate(join)
            answer = Accept(connection=join.connection, principal=principal)
        except Rejected as rejected:
            answer = Reject(
                connection=join.connection,
                code=rejected.code,
                message=rejected.message,
                retry_after_seconds=rejected.retry_after_seconds,
            )
        except Exception:
            _logger.exception("authenticate failed for connection %d", join.connection)
            answer = Reject(connection=join.connection, code=ErrorCode.INTERNAL_ERROR)
        # Before the machine hears: it may close the connection, which cancels what is in here.
        self._joins.pop(join.connection, None)
        self._give(answer)

    async def _work(self, session_id: str) -> None:
        """Work on the messages of one session until there are none."""
        session = self._session(session_id)
        inbox = self._inboxes[session_id]
        try:
            while inbox and not self._closing:
                message = inbox.popleft()
                try:
                    await self._application.on_message(session, message)
                except Exception:
                    _logger.exception("on_message failed for message %d", message.message_id)
                self._give(Complete(session_id=session_id, message_id=message.message_id))
        finally:
            del self._inboxes[session_id]

"""The application's hooks: called for what the machine tells, their decisions given back to it."""

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

from gatewayproto.actions import (
    AbortRequested,
    AuthRequested,
    GatewayEvent,
    JoinRequested,
    MessageReceived,
    SnapshotNeeded,
)
from gatewayproto.errors import ErrorCode
from gatewayproto.inputs import Accept, Complete, GatewayInput, Reject, SnapshotReady
from gatewayproto_adapter.application import (
    Application,
    BuiltSnapshot,
    Grant,
    Rejected,
    SessionHandle,
)

T = TypeVar("T")

Work = Callable[..., Coroutine[Any, Any, None]]


class Job(Protocol):
    """A task of a framework."""

    def cancel(self) -> object:
        """End it."""
        ...


class Runner(ABC):
    """Runs what is awaited, as tasks that the server owns."""

    @abstractmethod
    def start(self, work: Work, *args: object, name: str, lasting: bool = False) -> Job:
        """Run `work(*args)` as a task. What is `lasting` goes on when the hooks are cancelled."""

    @abstractmethod
    def cancel(self) -> None:
        """Cancel every task that is not lasting, save the one that asks."""

    @abstractmethod
    async def call(self, work: Awaitable[T], ended: Callable[[], bool]) -> T:
        """Await what is the application's.

        A cancellation that came from within, while `ended` says that it was not ours, is raised as
        an `Exception`.
        """


class Hooks:
    """Calls an application's hooks for what the machine tells, and gives back what they decide.

    A hook that raises is logged: it ends neither the server nor another hook. Bounds are the
    machine's: one decision for each connection, `max_pending_requests` for each session, and one
    snapshot for each session.
    """

    def __init__(
        self,
        application: Application,
        runner: Runner,
        give: Callable[[GatewayInput], None],
        session: Callable[[str], SessionHandle],
        logger: logging.Logger,
    ) -> None:
        self._application: Final = application
        self._runner = runner
        self._give = give
        self._session = session
        self._logger = logger
        self._decisions: dict[int, Job] = {}
        self._inboxes: dict[str, deque[MessageReceived]] = {}
        self._wanted: dict[str, SnapshotNeeded | None] = {}  # next, where one is being built
        self._closing = False

    def tell(self, event: GatewayEvent) -> None:
        """The machine emitted an event."""
        try:
            self._application.on_event(event)
        except Exception:
            self._logger.exception("on_event failed", extra={"hook": "on_event"})
        if self._closing:
            return
        match event:
            case JoinRequested():
                self._judge("authenticate", self._application.authenticate, event)
            case AuthRequested(join=join):
                self._judge("reauthenticate", self._application.reauthenticate, join)
            case MessageReceived():
                self.take_up(event)
            case AbortRequested():
                self._abort(event)
            case SnapshotNeeded():
                self._snapshot(event)
            case _:
                pass

    def take_up(self, message: MessageReceived) -> None:
        """Work on a message, after those of its session that came before."""
        inbox = self._inboxes.get(message.session_id)
        if inbox is None:
            inbox = self._inboxes[message.session_id] = deque()
            self._runner.start(self._work, message.session_id, name="gatewayproto messages")
        inbox.append(message)

    def forget(self, connection: int) -> None:
        """A connection is gone: nobody waits for the decision on it."""
        decision = self._decisions.pop(connection, None)
        if decision is not None:
            decision.cancel()

    def close(self) -> None:
        """Cancel every hook and call none any more, save `on_event`."""
        self._closing = True
        self._runner.cancel()

    # -- credentials --------------------------------------------------------------------------

    def _judge(
        self,
        hook: str,
        judge: Callable[[JoinRequested], Awaitable[str | Grant | None]],
        join: JoinRequested,
    ) -> None:
        name = f"gatewayproto {hook} {join.connection}"
        self._decisions[join.connection] = self._runner.start(
            self._decide, hook, judge, join, name=name
        )

    async def _decide(
        self,
        hook: str,
        judge: Callable[[JoinRequested], Awaitable[str | Grant | None]],
        join: JoinRequested,
    ) -> None:
        number = join.connection
        answer: Accept | Reject
        try:
            granted = await self._runner.call(
                judge(join), lambda: self._closing or number not in self._decisions
            )
            answer = _accepted(number, granted)
        except Rejected as rejected:
            answer = Reject(
                connection=number,
                code=rejected.code,
                message=rejected.message,
                retry_after_seconds=rejected.retry_after_seconds,
            )
        except Exception:
            self._logger.exception(
                "%s failed for connection %d",
                hook,
                number,
                extra={"hook": hook, "connection": number},
            )
            answer = Reject(connection=number, code=ErrorCode.INTERNAL_ERROR)
        # Before the machine hears: it may close the connection, which cancels what is in here.
        self._decisions.pop(number, None)
        self._give(answer)

    # -- messages -----------------------------------------------------------------------------

    async def _work(self, session_id: str) -> None:
        """Work on the messages of one session until there are none."""
        session = self._session(session_id)
        inbox = self._inboxes[session_id]
        try:
            while inbox and not self._closing:
                message = inbox.popleft()
                try:
                    await self._runner.call(
                        self._application.on_message(session, message), lambda: self._closing
                    )
                except Exception:
                    self._logger.exception(
                        "on_message failed for message %d",
                        message.message_id,
                        extra={"hook": "on_message", "message_id": message.message_id},
                    )
                self._give(Complete(session_id=session_id, message_id=message.message_id))
        finally:
            del self._inboxes[session_id]

    def _abort(self, abort: AbortRequested) -> None:
        try:
            self._application.on_abort(self._session(abort.session_id), abort)
        except Exception:
            self._logger.exception(
                "on_abort failed for connection %d",
                abort.connection,
                extra={"hook": "on_abort", "connection": abort.connection},
            )

    # -- snapshots ----------------------------------------------------------------------------

    def _snapshot(self, needed: SnapshotNeeded) -> None:
        if needed.session_id in self._wanted:
            self._wanted[needed.session_id] = needed  # the newest says it all
        else:
            self._wanted[needed.session_id] = None
            self._runner.start(self._build, needed, name="gatewayproto snapshot")

    async def _build(self, first: SnapshotNeeded) -> None:
        """Build snapshots of one session until nobody asks for another."""
        session_id = first.session_id
        session = self._session(session_id)
        needed: SnapshotNeeded | None = first
        try:
            while needed is not None and not self._closing:
                self._wanted[session_id] = None
                built = await self._build_one(session, needed)
                following = self._wanted[session_id]
                # Asked for while it was built, because somebody did not wait any longer.
                served = following is not None and built is not None and (
                    following.epoch == needed.epoch and following.cursor <= built.cursor
                )
                needed = None if served else following
        finally:
            del self._wanted[session_id]

    async def _build_one(
        self, session: SessionHandle, needed: SnapshotNeeded
    ) -> BuiltSnapshot | None:
        try:
            built = await self._runner.call(
                self._application.build_snapshot(session, needed), lambda: self._closing
            )
            self._give(
                SnapshotReady(
                    session_id=needed.session_id,
                    epoch=needed.epoch,
                    cursor=built.cursor,
                    state=built.state,
                )
            )
        except Exception:
            self._logger.exception(
                "build_snapshot failed", extra={"hook": "build_snapshot", "attempt": needed.attempt}
            )
            return None
        return built


def _accepted(number: int, granted: str | Grant | None) -> Accept:
    grant = granted if isinstance(granted, Grant) else Grant(granted)
    if not isinstance(grant.principal, str | None):
        raise TypeError(f"a {type(grant.principal).__name__} is no principal")
    return Accept(connection=number, principal=grant.principal, expires_in=grant.expires_in)


def check_hooks(application: Application, *, application_snapshots: bool) -> None:
    """Refuse an application that lacks a hook which the gateway will need.

    Raises:
        ValueError: The gateway's snapshots are the application's, and it builds none.
    """
    builds = type(application).build_snapshot is not Application.build_snapshot
    if application_snapshots and not builds:
        raise ValueError("with application_snapshots an application overrides build_snapshot")

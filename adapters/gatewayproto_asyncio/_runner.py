"""What the application is called by: tasks that the server owns."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gatewayproto_adapter.hooks import Runner, Work

from gatewayproto_asyncio._tasks import TaskOwner

T = TypeVar("T")


class InnerCancellationError(RuntimeError):
    """Something that the application waited for was cancelled, not the application."""


class TaskRunner(Runner):
    """See `Runner`."""

    def __init__(self) -> None:
        self._hooks = TaskOwner()
        self._lasting = TaskOwner()

    def start(
        self, work: Work, *args: object, name: str, lasting: bool = False
    ) -> asyncio.Task[None]:
        """See `Runner`."""
        return (self._lasting if lasting else self._hooks).start(work(*args), name=name)

    def cancel(self) -> None:
        """See `Runner`."""
        self._hooks.cancel()

    def others(self) -> set[asyncio.Task[None]]:
        """Every task that has not ended, but the one that asks."""
        return self._hooks.others() | self._lasting.others()

    async def call(self, work: Awaitable[T], ended: Callable[[], bool]) -> T:
        """See `Runner`."""
        try:
            return await work
        except asyncio.CancelledError as error:
            if ended():
                raise
            raise InnerCancellationError("what it waited for was cancelled") from error

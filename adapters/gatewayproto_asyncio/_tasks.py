"""Tasks that have an owner, and waits that a cancellation cannot cut short."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any


class TaskOwner:
    """Holds tasks until they end, and ends them all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run `work` as a task. It must see to its own exceptions."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Cancel all tasks but the one that asks."""
        for task in self.others():
            task.cancel()

    def others(self) -> set[asyncio.Task[None]]:
        """Every task that has not ended, but the one that asks."""
        return self._tasks - {asyncio.current_task()}


async def settle(
    pending: Callable[[], Iterable[asyncio.Future[Any]]],
    *,
    on_cancel: Callable[[], None] | None = None,
) -> None:
    """Wait until `pending` gives no more futures.

    A cancellation calls `on_cancel`, which may hurry things up, and is passed on at the end: what
    is waited for is over then, however this ends.
    """
    cancelled: asyncio.CancelledError | None = None
    while futures := list(pending()):
        try:
            await asyncio.wait(futures)
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    if cancelled is not None:
        raise cancelled

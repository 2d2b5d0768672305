"""A nursery whose block is somebody else's, and tasks in it that can be ended one by one."""

import logging
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field

from gatewayproto_trio._alarm import ScopeAlarm

_logger = logging.getLogger("gatewayproto.trio")


@define(eq=False)
class Job:
    """One task."""

    lasting: bool = False
    """Whether `Jobs.cancel` leaves it alone."""
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    task: trio.lowlevel.Task | None = None
    """None until it runs."""

    def is_current(self) -> bool:
        """Whether it is the task that asks."""
        return self.task is trio.lowlevel.current_task()

    def cancel(self) -> None:
        """End it, unless it is the task that asks."""
        if not self.is_current():
            self.scope.cancel()


class Jobs:
    """The tasks of a server or a client. Their nursery is open from `enter` to `leave`."""

    def __init__(self) -> None:
        self.nursery: trio.Nursery
        """Open between `enter` and `leave`."""
        self._alarm: ScopeAlarm
        self._entered = False
        self._jobs: set[Job] = set()
        self._changes = trio.lowlevel.ParkingLot()

    async def enter(self) -> None:
        """Open the nursery, in the task that is going to leave.

        Raises:
            RuntimeError: It was open before.
        """
        if self._entered:
            raise RuntimeError("a server or a client is entered once")
        self._entered = True
        self._manager = trio.open_nursery()
        self.nursery = await self._manager.__aenter__()

    async def leave(
        self, close: Callable[[], Awaitable[None]], error: BaseException | None
    ) -> None:
        """Close whose tasks these are, wait for them, and close the nursery.

        `error` is what ended the block, if anything did. It is the caller's to raise again, as it
        is: nobody outside sees that there is a nursery.

        Raises:
            BaseException: What ends the block is not `error` alone.
        """
        ended_by = error
        try:
            await close()
        except trio.Cancelled as cancelled:
            ended_by = error or cancelled
        try:
            await self._manager.__aexit__(
                type(ended_by) if ended_by else None,
                ended_by,
                ended_by.__traceback__ if ended_by else None,
            )
        except BaseExceptionGroup as group:
            _, errors = group.split(trio.Cancelled)
            if errors is None or errors.exceptions != (ended_by,):
                raise
        if ended_by is not None and ended_by is not error:
            raise ended_by

    def make_alarm(self, fire: Callable[[], None]) -> ScopeAlarm:
        """The timer, with its task; that is no job, it ends when the timer is cleared."""
        self._alarm = ScopeAlarm(fire)
        self.nursery.start_soon(self._alarm.run, name="gatewayproto timer")
        return self._alarm

    def start(
        self,
        work: Callable[..., Awaitable[None]],
        *args: object,
        name: str,
        lasting: bool = False,
    ) -> Job:
        """Run `work(*args)` as a task. What it raises is logged."""
        job = Job(lasting=lasting)
        self._jobs.add(job)
        self.nursery.start_soon(self._run, job, work, args, name=name)
        return job

    async def _run(
        self, job: Job, work: Callable[..., Awaitable[None]], args: tuple[object, ...]
    ) -> None:
        job.task = trio.lowlevel.current_task()
        try:
            with job.scope:
                await work(*args)
        except* Exception:
            # A cancellation among them goes on.
            _logger.exception("%s failed", job.task.name)
        finally:
            self._jobs.discard(job)
            self.changed()

    def cancel(self) -> None:
        """End all tasks but the one that asks, and those that are lasting."""
        for job in self._jobs:
            if not job.lasting:
                job.cancel()

    def any_others(self) -> bool:
        """Whether any task has not ended, but the one that asks."""
        return any(not job.is_current() for job in self._jobs)

    def changed(self) -> None:
        """Something that `until_over` waits for may have ended."""
        self._changes.unpark_all()

    async def until_over(
        self,
        remains: Callable[[], bool],
        *,
        on_cancel: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        """Wait until nothing `remains`, then have `stop` clear the alarm, and see it end.

        A cancellation calls `on_cancel`, which hurries things up, and is passed on at the end: what
        is waited for is over then, however this ends.
        """
        try:
            await trio.lowlevel.checkpoint()
            while remains():
                await self._changes.park()
        except trio.Cancelled:
            on_cancel()
            with trio.CancelScope(shield=True):
                while remains():
                    await self._changes.park()
            raise
        finally:
            stop()
            with trio.CancelScope(shield=True):
                await self._alarm.ended.wait()

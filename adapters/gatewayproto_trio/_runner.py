"""What the application is called by: tasks that the server owns."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gatewayproto_adapter.hooks import Runner, Work

from gatewayproto_trio._jobs import Job, Jobs

T = TypeVar("T")


class JobRunner(Runner):
    """See `Runner`."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def start(self, work: Work, *args: object, name: str, lasting: bool = False) -> Job:
        """See `Runner`."""
        return self._jobs.start(work, *args, name=name, lasting=lasting)

    def cancel(self) -> None:
        """See `Runner`."""
        self._jobs.cancel()

    async def call(self, work: Awaitable[T], ended: Callable[[], bool]) -> T:  # noqa: ARG002
        """See `Runner`. In trio a cancellation ends at the scope that it is of."""
        return await work

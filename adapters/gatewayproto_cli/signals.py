"""How a command hears that it is to end."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final

import anyio
from anyio.abc import TaskStatus

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


async def until_told(work: Callable[[anyio.Event], Awaitable[int]]) -> int:
    """Run `work` with an event that SIGINT and SIGTERM set, instead of ending the process.

    Returns what it returns, and raises what it raises. A second signal cancels it: that ends the
    command at once, and is 0 all the same.
    """
    told, hurry = anyio.Event(), anyio.CancelScope()
    come = 0
    status = 0
    failures: list[Exception] = []

    def take() -> None:
        nonlocal come
        come += 1
        if come > 1:
            hurry.cancel()
        told.set()

    async with anyio.create_task_group() as listening:
        await listening.start(_listen, take)
        try:
            with hurry:
                status = await work(told)
        except Exception as error:  # noqa: BLE001 - raised again as itself, not in a group
            failures.append(error)
        listening.cancel_scope.cancel()
    for failure in failures:
        raise failure
    return status


async def _listen(
    take: Callable[[], object], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Call `take` on every signal, also while the command is about to end."""
    signals: AsyncIterator[object]
    with ExitStack() as stack:
        stack.enter_context(_late_ones_dropped())
        try:
            signals = stack.enter_context(anyio.open_signal_receiver(*_ENDING))
        except NotImplementedError:  # where the loop knows no signals
            signals = _by_handler()
        task_status.started()
        async for _ in signals:
            take()


@contextmanager
def _late_ones_dropped() -> Generator[None, None, None]:
    """Drop what comes when nobody listens any more, which trio would deliver once again."""
    formers = {number: signal.signal(number, lambda *_: None) for number in _ENDING}
    try:
        yield
    finally:
        for number, former in formers.items():
            signal.signal(number, former)


def _by_handler() -> AsyncIterator[object]:
    """Every signal, on asyncio."""
    loop, come = asyncio.get_running_loop(), asyncio.Queue[None]()
    for number in _ENDING:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(come.put_nowait, None))

    async def each() -> AsyncIterator[object]:
        while True:
            await come.get()
            yield None

    return each()


@contextmanager
def interruptible() -> Generator[Callable[[], bool], None, None]:
    """Take one SIGINT during the block: what it gives tells whether it has come.

    A second one is what the first would have been without this.
    """
    come = False

    def take(_number: int, _frame: FrameType | None) -> None:
        nonlocal come
        come = True
        signal.signal(signal.SIGINT, former)

    former = signal.signal(signal.SIGINT, take)
    try:
        yield lambda: come
    finally:
        signal.signal(signal.SIGINT, former)

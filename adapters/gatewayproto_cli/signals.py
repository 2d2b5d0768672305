"""How a command hears that it is to end."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final, TypeVar

import anyio
from anyio.abc import TaskStatus

T = TypeVar("T")

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


async def until_told(work: Callable[[anyio.Event], Awaitable[T]]) -> T:
    """Run `work` with an event that SIGINT and SIGTERM set, instead of ending the process.

    Returns what it returns, and raises what it raises.
    """
    told = anyio.Event()
    results: list[T] = []
    failures: list[Exception] = []
    async with anyio.create_task_group() as listening:
        await listening.start(_listen, told.set)
        try:
            results.append(await work(told))
        except Exception as error:  # noqa: BLE001 - raised again as itself, not in a group
            failures.append(error)
        listening.cancel_scope.cancel()
    for failure in failures:
        raise failure
    return results[0]


async def _listen(
    told: Callable[[], object], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Call `told` on every signal, also while the command is about to end."""
    signals: AsyncIterator[object]
    with ExitStack() as stack:
        stack.enter_context(_late_ones_dropped())
        try:
            signals = stack.enter_context(anyio.open_signal_receiver(*_ENDING))
        except NotImplementedError:  # where the loop knows no signals
            signals = _by_handler()
        task_status.started()
        async for _ in signals:
            told()


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
    """The first signal, on asyncio; any later one is as good as none."""
    loop, come = asyncio.get_running_loop(), anyio.Event()
    for number in _ENDING:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(come.set))

    async def first() -> AsyncIterator[object]:
        await come.wait()
        yield None

    return first()


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

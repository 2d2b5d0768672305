"""How a command hears that it is to end, in this process."""

import signal
from functools import partial
from typing import NoReturn

import anyio
import pytest
from gatewayproto_cli.signals import interruptible, until_told

from tests.adapter.both import CHOSEN

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


async def told_by(number: signal.Signals, told: anyio.Event) -> int:
    """End in order once it is told."""
    signal.raise_signal(number)
    with anyio.fail_after(20):
        await told.wait()
    return 7


async def lingering(number: signal.Signals, left: list[str], told: anyio.Event) -> int:
    """Take for ever to end, and be told so again; tidy up whatever happens."""
    signal.raise_signal(number)
    try:
        with anyio.fail_after(20):
            await told.wait()
            signal.raise_signal(signal.SIGTERM)
            await anyio.sleep_forever()
    finally:
        left.append("tidy")
    return 7


@pytest.mark.on_trio
@pytest.mark.usefixtures("adapter")
@SIGNALS
def test_a_signal_is_told_and_the_work_ends_as_it_likes(number: signal.Signals) -> None:
    former = signal.getsignal(number)
    assert anyio.run(until_told, partial(told_by, number), backend=CHOSEN.name) == 7
    assert signal.getsignal(number) is former


@pytest.mark.on_trio
@pytest.mark.usefixtures("adapter")
@SIGNALS
def test_a_second_signal_ends_the_work_at_once_with_0(number: signal.Signals) -> None:
    left: list[str] = []
    assert anyio.run(until_told, partial(lingering, number, left), backend=CHOSEN.name) == 0
    assert left == ["tidy"]


@SIGNALS
def test_where_the_loop_knows_no_signals_they_are_told_as_well(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def receiver(*_: signal.Signals) -> NoReturn:
        raise NotImplementedError

    former = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(anyio, "open_signal_receiver", receiver)
    try:
        assert anyio.run(until_told, partial(told_by, number)) == 7
        assert anyio.run(until_told, partial(lingering, number, [])) == 0
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


@pytest.mark.on_trio
@pytest.mark.usefixtures("adapter")
def test_what_the_work_raises_is_raised_as_itself() -> None:
    async def work(_told: anyio.Event) -> NoReturn:
        raise OSError("as it is")

    with pytest.raises(OSError, match=r"^as it is$"):
        anyio.run(until_told, work, backend=CHOSEN.name)


def test_one_interrupt_is_taken_and_the_second_is_one() -> None:
    with interruptible() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)

"""What is common to the broken drivers: how they are entered, and a reader that cannot wait."""

# pyright: reportPrivateUsage=false

from collections.abc import Callable, Iterator
from typing import Any

from attrs import frozen

from gatewayproto.testing.memory.driver import Driver
from gatewayproto.testing.memory.link import Record, RecordReader
from gatewayproto.testing.memory.loop import Timer


@frozen
class Broken:
    """A broken driver, and a check that must fail for it."""

    driver: Any
    caught_by: str

    def __str__(self) -> str:
        return f"{self.driver.__name__}-{self.caught_by}"


def entering(table: list[Broken]) -> Callable[..., Callable[[type], type]]:
    """What enters drivers into a table, each under the checks that must fail for it."""

    def caught_by(*checks: str) -> Callable[[type], type]:
        def enter(driver: type) -> type:
            table.extend(Broken(driver, check) for check in checks)
            return driver

        return enter

    return caught_by


class Changing(Driver[Any, Any]):
    """Changes or leaves out inputs."""

    def give(self, input_: Any) -> None:
        for each in self.change(input_):
            super().give(each)

    def change(self, input_: Any) -> tuple[Any, ...]:
        return (input_,)


class NeverArming(Driver[Any, Any]):
    def arm(self) -> None:
        pass


class ArmingForInputs(Driver[Any, Any]):
    """A timer that found nothing to do is the last one."""

    def arm(self) -> None:
        if self._timer is None or self._machine.next_deadline is None or self._stopping:
            super().arm()

    def expire(self) -> None:
        used, self._timer = self._timer, None
        super().expire()
        _cancel(self._timer)
        self._timer = used


def _cancel(timer: Timer | None) -> None:
    if timer is not None:
        timer.cancel()


class PiecewiseReader(RecordReader):
    """Takes what one read brought for whole records."""

    def feed(self, data: bytes) -> Iterator[tuple[Record, bytes]]:
        yield from super().feed(data)
        self._data.clear()

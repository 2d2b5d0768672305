"""A machine that was replaced by what its saved state restores: it goes on, and must do the same.

Both run on clocks of their own, so that nothing in a state may depend on one.

Spec: the verification page, "Each machine against any peer".
"""

import math
from typing import Any, Final, Generic, Protocol, TypeVar

from attrs import frozen

from gatewayproto.testing.any_peer.runs import coarse
from gatewayproto.testing.steps import Violation

I_contra = TypeVar("I_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)
I = TypeVar("I")  # noqa: E741 -- the inputs of a machine
A = TypeVar("A")

_EPSILON: Final = 1e-6


class Machine(Protocol[I_contra, A_co]):
    """What both machines are to a driver."""

    @property
    def next_deadline(self) -> float | None:
        """When its timer is due."""
        ...

    def handle(self, input_: I_contra, *, now: float) -> tuple[A_co, ...]:
        """Take one input."""
        ...

    def to_state(self, *, now: float) -> dict[str, Any]:
        """The whole machine as plain data."""
        ...


@frozen
class Twin(Generic[I, A]):
    """The machine that was swapped (P12); `ahead` is how far its clock is ahead of the run's."""

    machine: Machine[I, A]
    ahead: float

    def compare(
        self, input_: I, now: float, actions: tuple[A, ...], deadline: float | None
    ) -> None:
        """Give it the same input. Raises `Violation`."""
        same, _ = call(self.machine, input_, now + self.ahead)
        if same != actions:
            raise Violation("P12", f"restored it gives {actions}; the original {same}")
        due = deadline_of(self.machine, self.ahead, now)
        if (due is None) != (deadline is None) or abs((due or 0.0) - (deadline or 0.0)) > _EPSILON:
            raise Violation("P12", f"restored it waits for {deadline}; the original for {due}")

    def compare_state(self, state: dict[str, Any], now: float) -> None:
        """Hold the other's whole state against its own. Raises `Violation`."""
        same = self.machine.to_state(now=now + self.ahead)
        if coarse(same) != coarse(state):
            raise Violation("P12", f"restored it is {state}; the original {same}")


def call(machine: Machine[I, A], input_: I, now: float) -> tuple[tuple[A, ...], Exception | None]:
    """What a machine gives, and what it raises in place of that."""
    try:
        return machine.handle(input_, now=now), None
    except Exception as error:  # noqa: BLE001 -- whatever comes out is judged
        return (), error


def deadline_of(machine: Machine[Any, Any], ahead: float, now: float) -> float | None:
    """Its deadline on the clock of the run; later than now where it is that on its own."""
    due = machine.next_deadline
    if due is None:
        return None
    least = math.nextafter(now, math.inf) if due > now + ahead else -math.inf
    return max(due - ahead, least)

"""A driver's duty: apply a machine's actions in order, and wake it at its deadline."""

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

I_contra = TypeVar("I_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)
I = TypeVar("I")  # noqa: E741 - the machine's inputs
A = TypeVar("A")


class Machine(Protocol[I_contra, A_co]):
    """What `Gateway` and `Client` have in common."""

    def handle(self, input_: I_contra, /, *, now: float) -> tuple[A_co, ...]:
        """Take one input; give what is to be done, in order."""
        ...

    @property
    def next_deadline(self) -> float | None:
        """When the machine wants to hear of the time."""
        ...


class Alarm(Protocol):
    """One timer of an I/O framework."""

    def set(self, delay: float) -> None:
        """Fire once, in `delay` seconds, and not when it was to fire before."""
        ...

    def clear(self) -> None:
        """Fire no more."""
        ...


class Driver(Generic[I, A]):
    """Drives one machine.

    `apply` carries out one action. It may give the machine further inputs: their actions wait
    until those before them are applied. `on_time` is called when a deadline may have passed, the
    machine's or the one that `own_deadline` tells, and must handle both. `clock` gives the
    machine's time in seconds, and `make_alarm` the framework's timer, given what it is to call.
    """

    def __init__(
        self,
        machine: Machine[I, A],
        *,
        apply: Callable[[A], None],
        own_deadline: Callable[[], float | None],
        on_time: Callable[[float], None],
        clock: Callable[[], float],
        make_alarm: Callable[[Callable[[], None]], Alarm],
    ) -> None:
        self._machine = machine
        self._apply = apply
        self._own_deadline = own_deadline
        self._on_time = on_time
        self._clock = clock
        self._actions: deque[A] = deque()
        self._applying = False
        self._alarm = make_alarm(self._fire)
        self._alarm_deadline: float | None = None
        self._stopped = False

    def handle(self, input_: I) -> tuple[A, ...]:
        """Give the machine an input; returns its actions, which are or will be applied."""
        actions = self._machine.handle(input_, now=self._clock())
        self._actions.extend(actions)
        if not self._applying:
            self._applying = True
            try:
                while self._actions:
                    self._apply(self._actions.popleft())
            finally:
                self._applying = False
            self.arm()
        return actions

    def arm(self) -> None:
        """See to it that the alarm fires no later than the next deadline.

        One that fires earlier is left alone: too early is no mistake, and deadlines mostly move
        away from the present.
        """
        deadlines = (self._machine.next_deadline, self._own_deadline())
        deadline = min((each for each in deadlines if each is not None), default=None)
        if deadline is None or self._stopped:
            return
        if self._alarm_deadline is not None and self._alarm_deadline <= deadline:
            return
        self._alarm_deadline = deadline
        self._alarm.set(max(0.0, deadline - self._clock()))

    def stop(self) -> None:
        """Wake the machine no more."""
        self._stopped = True
        self._alarm.clear()

    def _fire(self) -> None:
        self._alarm_deadline = None
        try:
            self._on_time(self._clock())
        finally:
            self.arm()

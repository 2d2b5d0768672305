"""What both drivers do: give a machine its inputs, carry out its actions in order, keep its time.

Spec: the architecture page, "Machines".
"""

from collections import deque
from typing import Generic, Protocol, TypeVar

from gatewayproto.inputs import TimerExpired
from gatewayproto.testing.memory.loop import Loop, Timer

I_contra = TypeVar("I_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)
I = TypeVar("I")  # noqa: E741 -- the machine's inputs
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


class Driver(Generic[I, A]):
    """Drives one machine on a `Loop`. What carries out an action is in `apply`."""

    def __init__(self, loop: Loop, machine: Machine[I | TimerExpired, A]) -> None:
        self.loop = loop
        self._machine = machine
        self._actions: deque[A] = deque()
        self._applying = False
        self._stopping = False
        self._timer: Timer | None = None

    def give(self, input_: I | TimerExpired) -> None:
        """Give the machine an input. Its actions wait for those that came before them."""
        self._actions.extend(self._machine.handle(input_, now=self.loop.now()))
        if self._applying:
            return
        self._applying = True
        while self._actions:
            self.apply(self._actions.popleft())
        self._applying = False
        self.arm()

    def apply(self, action: A) -> None:
        """Carry out one action."""
        raise NotImplementedError

    def arm(self) -> None:
        """One timer, for the machine's next deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._machine.next_deadline
        if deadline is not None and not self._stopping:
            self._timer = self.loop.call_at(deadline, self.expire)

    def expire(self) -> None:
        """Tell the machine that the time has come."""
        self.give(TimerExpired())

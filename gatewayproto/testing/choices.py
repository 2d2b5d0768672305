"""Where every choice of a run comes from: one method, `choose(n)`, and what may stand behind it.

A seeded generator draws, an odometer tries everything, a recorded trace repeats; Hypothesis is in
`gatewayproto.testing.strategies`. A run that takes all its choices from here is its list of them.

Spec: the verification page, "One source of choices".
"""

import random
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Choices(Protocol):
    """A source of choices."""

    def choose(self, n: int) -> int:
        """One of 0 to n - 1; `n` is at least 1."""
        ...


def pick(choices: Choices, options: Sequence[T]) -> T:
    """One of the options, of which there is at least one."""
    return options[choices.choose(len(options))]


class Seeded:
    """Drawn from a seeded generator: the same seed gives the same run on every machine."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def choose(self, n: int) -> int:
        """One of 0 to n - 1, each as likely."""
        # Not `randrange`: what it draws for one seed is not promised between releases of Python;
        # `random()` is.
        return int(self._random.random() * n)


class Recorded:
    """Repeats a trace. After its end every choice is 0, so that a trace can be cut short.

    A choice beyond `n` (the world has changed since the trace was made) is taken modulo `n`.
    """

    def __init__(self, trace: Sequence[int]) -> None:
        self._trace = iter(tuple(trace))

    def choose(self, n: int) -> int:
        """The next of the trace."""
        return next(self._trace, 0) % n


class Recorder:
    """Writes down what another source gives."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self.trace: list[int] = []

    def choose(self, n: int) -> int:
        """Whatever the other source gives."""
        chosen = self._choices.choose(n)
        self.trace.append(chosen)
        return chosen


class Odometer:
    """Tries every sequence of choices, one run after the other, the last choice turning fastest.

    Run the same thing once for each of `runs`: choices must depend on nothing but earlier choices,
    and each run must come to an end.
    """

    def __init__(self) -> None:
        self._wheels: list[tuple[int, int]] = []  # what was chosen, of how many
        self._at = 0

    def choose(self, n: int) -> int:
        """What this run chooses at its next choice."""
        if self._at == len(self._wheels):
            self._wheels.append((0, n))
        chosen, of = self._wheels[self._at]
        if of != n:
            raise ValueError(f"a run that was repeated asks for one of {n}, formerly of {of}")
        self._at += 1
        return chosen

    def runs(self) -> Iterator[int]:
        """Count the runs, from 0, until everything was tried."""
        number = 0
        while number == 0 or self._turn():
            self._at = 0
            yield number
            number += 1

    def _turn(self) -> bool:
        """Set the wheels for the next run; False when there is none."""
        del self._wheels[self._at :]
        while self._wheels:
            chosen, of = self._wheels.pop()
            if chosen + 1 < of:
                self._wheels.append((chosen + 1, of))
                return True
        return False

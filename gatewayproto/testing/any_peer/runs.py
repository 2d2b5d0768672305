"""What a machine alone against any peer gives: a run, a broken one, or a survey of many.

Spec: the verification page, "Each machine against any peer".
"""

import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar

from attrs import field, frozen

from gatewayproto.testing import transcript
from gatewayproto.testing.choices import Choices, Recorder, Seeded
from gatewayproto.testing.machines import Numbered
from gatewayproto.testing.steps import Step, Violation

_LONGEST_RUN: Final = 3.0
"""Seconds of processor time; a run takes some hundredths of one."""


@frozen(kw_only=True)
class Run:
    """One run: its steps, the choices that made it, and what it showed.

    `witnessed` are the situations that came about and were judged.
    """

    steps: tuple[Step, ...] = field(repr=False)
    trace: tuple[int, ...]
    witnessed: frozenset[str] = field(repr=False)

    def transcript(self, *, last: int | None = None) -> str:
        """The run as text, or only its last so many steps."""
        return transcript.render(self.steps, last=last)


class Broken(Violation):
    """A run broke a property; `run` ends with the step that did it."""

    def __init__(self, violation: Violation, run: Run) -> None:
        super().__init__(violation.prop, violation.text)
        self.run = run

    def __str__(self) -> str:
        choices = ", ".join(map(str, self.run.trace))
        text = self.run.transcript(last=40)
        return f"{self.prop}: {self.text}\n{text}\nthe same again: Recorded([{choices}])"


@frozen(kw_only=True)
class Survey:
    """What many runs showed: how many they were, their steps, and in how many each witness."""

    runs: int
    steps: int
    witnessed: Counter[str] = field(repr=False)


def survey(machine: Callable[[Choices], Run], seeds: Iterable[int]) -> Survey:
    """Run once for each seed; `machine` is `run_client` or `run_gateway`, with options or not.

    Raises `Broken` for the first run that breaks a property.
    """
    witnessed: Counter[str] = Counter()
    runs = steps = 0
    for seed in seeds:
        run = machine(Seeded(seed))
        runs, steps = runs + 1, steps + len(run.steps)
        witnessed.update(run.witnessed)
    return Survey(runs=runs, steps=steps, witnessed=witnessed)


class Issuing(Numbered):
    """Ids that count, and are noted as they are drawn."""

    def __init__(self, prefix: str, first: int = 0) -> None:
        super().__init__(prefix, first)
        self.issued: list[str] = []

    def __call__(self) -> str:
        """The next id."""
        issued = super().__call__()
        self.issued.append(issued)
        return issued

    def copy(self) -> "Issuing":
        """Another that gives the same ids from here on."""
        return Issuing(self.prefix, self.next)


def coarse(value: Any) -> Any:
    """Plain data with its numbers rounded: times on two clocks differ in their last digits."""
    match value:
        case dict():
            return {name: coarse(item) for name, item in value.items()}
        case list():
            return [coarse(item) for item in value]
        case float():
            return round(value, 6)
        case _:
            return value


class Spinning(Exception):  # noqa: N818 -- what was found, not a mistake
    """A machine does not come to an end with one input."""


@contextmanager
def bounded() -> Generator[None, None, None]:
    """Raise `Spinning` where the run inside takes seconds: a machine then never comes back (P10).

    Without signals, or in another thread than the main one, it goes unnoticed.
    """
    can = hasattr(signal, "SIGVTALRM") and threading.current_thread() is threading.main_thread()
    if not can:
        yield
        return

    def stop(*_: object) -> None:
        raise Spinning(f"one input takes more than {_LONGEST_RUN} seconds")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _LONGEST_RUN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


def ended(steps: Sequence[Step], choices: Recorder, witnessed: Iterable[str]) -> Run:
    """A run as it stands."""
    return Run(steps=tuple(steps), trace=tuple(choices.trace), witnessed=frozenset(witnessed))


class Play(Protocol):
    """A run under way."""

    def run(self) -> Run:
        """What it came to so far."""
        ...


P = TypeVar("P", bound=Play)


def judged(play: P, script: Callable[[P], None]) -> Run:
    """Let a script play to its end. Raises `Broken` where a property is broken on the way."""
    try:
        with bounded():
            script(play)
    except Violation as violation:
        raise Broken(violation, play.run()) from None
    except Exception as error:  # what a broken machine gives may be beyond what is judged
        raise Broken(Violation("P13", f"cannot be judged: {error!r}"), play.run()) from error
    return play.run()

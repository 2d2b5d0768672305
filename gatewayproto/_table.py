"""Transition tables: which state answers which input, and how, with no cell left out.

Spec: the architecture page, "Said in tables".
"""

from collections.abc import Callable, Mapping
from enum import Enum, StrEnum
from typing import Final, Generic, TypeVar

from attrs import frozen

S = TypeVar("S", bound=Enum)
I = TypeVar("I", bound=Enum)  # noqa: E741 -- S and I are the states and the inputs

Handler = Callable[..., None]
"""What a cell calls; its machine says with which arguments."""


class Verdict(StrEnum):
    """What an input in a state is, where the table says it without a handler's help."""

    HANDLED = "handled"
    PEER_FAULT = "the peer's fault"
    CALLER_MISTAKE = "the caller's mistake"
    RACE = "a harmless race"
    IGNORED = "ignored"


@frozen
class Cell(Generic[S]):
    """One state meeting one input: its handler, and the states that it may end in."""

    verdict: Verdict
    handler: Handler | None
    ends: frozenset[S]


class Table(Generic[S, I]):
    """A total table of state and input. A missing or a superfluous cell is a `ValueError`."""

    def __init__(
        self,
        name: str,
        states: type[S],
        inputs: type[I],
        rows: Mapping[S, Mapping[I, Cell[S]]],
    ) -> None:
        self.name: Final = name
        self.states: Final = states
        self.inputs: Final = inputs
        for state in states:
            missing = set(inputs) ^ set(rows.get(state, {}))
            if missing:
                raise ValueError(f"{name}: {state} lacks or repeats {sorted(map(str, missing))}")
        self._cells: Final = {
            (state, input_): rows[state][input_] for state in states for input_ in inputs
        }

    def __getitem__(self, key: tuple[S, I]) -> Cell[S]:
        return self._cells[key]


def handled(handler: Handler, *ends: S) -> Cell[S]:
    """A cell with a handler; `ends` are all the states that it may leave the machine in."""
    return Cell(Verdict.HANDLED, handler, frozenset(ends))


def fault(handler: Handler, *ends: S) -> Cell[S]:
    """A cell in which the input is the peer's fault; the handler answers it."""
    return Cell(Verdict.PEER_FAULT, handler, frozenset(ends))


def race(handler: Handler, *ends: S) -> Cell[S]:
    """A cell whose input is lawful but came too late; the handler says so with a value."""
    return Cell(Verdict.RACE, handler, frozenset(ends))


def late(state: S) -> Cell[S]:
    """A cell whose input is lawful but came too late, so that nothing is left to say."""
    return Cell(Verdict.RACE, None, frozenset({state}))


def ignored(state: S) -> Cell[S]:
    """A cell whose input means nothing in this state and changes nothing."""
    return Cell(Verdict.IGNORED, None, frozenset({state}))


def mistake(state: S) -> Cell[S]:
    """A cell whose input the caller must not give: it raises `LocalProtocolError`."""
    return Cell(Verdict.CALLER_MISTAKE, None, frozenset({state}))

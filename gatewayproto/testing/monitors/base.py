"""What every monitor is: a property, what it must have seen, and how it says what is wrong.

Spec: the verification page, "Monitors".
"""

from collections import Counter
from typing import ClassVar, Final, Literal, NoReturn

from gatewayproto.testing.steps import Step, Violation

Layer = Literal["gateway", "client", "world"]
"""Whose steps a monitor sees: those of a gateway alone, of one client alone, or of all."""

EPSILON: Final = 1e-6
"""Seconds within which two times count as the same: sums of times are not exact."""


class Monitor:
    """Judges a run by one property (or some that one account shows), step by step.

    `needs` are the witnesses without which a campaign of runs says nothing of the property;
    `alone` those that only a peer brings about that may send anything. A monitor overrides of the
    methods below what it listens to.
    """

    prop: ClassVar[str]
    about: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    alone: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, witnessed: Counter[str]) -> None:
        self.witnessed = witnessed

    def begin(self, step: Step) -> None:
        """An input or a happening, before anything of it is in the book."""

    def end(self, step: Step) -> None:
        """The step, once its actions were judged and are in the book."""

    def finish(self) -> None:
        """The end of a run."""

    def saw(self, what: str) -> None:
        """Count a witness of this monitor's property."""
        self.witnessed[f"{self.prop} {what}"] += 1

    def fail(self, text: str, prop: str | None = None) -> NoReturn:
        """Raise the `Violation` that `text` describes."""
        raise Violation(prop or self.prop, text)

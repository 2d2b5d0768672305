"""The last steps of every machine in a test, shown with the test's failure.

Whatever a failed test says of its own, the report ends with a transcript: who was given what, and
what came of it.
"""

from collections import deque
from collections.abc import Callable, Generator
from functools import wraps
from typing import Any

import pytest

from gatewayproto import Client, Gateway
from gatewayproto.testing.steps import Step
from gatewayproto.testing.transcript import render

_KEPT = 40


class LastSteps:
    """A pytest plugin; it watches both machines from the outside, by their one entry."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque(maxlen=_KEPT)
        self._on = True
        self._names: dict[int, str] = {}
        self._machines: list[object] = []  # kept, so that no other gets the same id
        for machine in (Gateway, Client):
            self._watch(machine)

    def _watch(self, machine: type[Any]) -> None:
        handle: Callable[..., Any] = machine.handle

        @wraps(handle)
        def watched(this: Any, input_: Any, *, now: float) -> Any:
            actions: Any = ()
            raised: Exception | None = None
            try:
                actions = handle(this, input_, now=now)
            except Exception as error:
                raised = error
                raise
            finally:
                if self._on:
                    self._keep(this, input_, actions, now, raised)
            return actions

        machine.handle = watched

    def _keep(
        self, machine: object, input_: Any, actions: Any, now: float, raised: Exception | None
    ) -> None:
        name = self._names.get(id(machine)) or self._name(machine)
        self._steps.append(Step(now=now, who=name, input=input_, actions=actions, raised=raised))

    def _name(self, machine: object) -> str:
        kind = type(machine).__name__.lower()
        name = f"{kind}{sum(isinstance(each, type(machine)) for each in self._machines) or ''}"
        self._machines.append(machine)
        self._names[id(machine)] = name
        return name

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Begin anew with every test; one that weighs memory is left alone."""
        self._on = item.get_closest_marker("weighs") is None
        self._steps.clear()
        self._names.clear()
        self._machines.clear()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self,
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the transcript to the report of a failure."""
        report = yield
        if report.failed and self._steps:
            report.sections.append((f"the last {_KEPT} steps", render(list(self._steps))))
        return report

"""Run the tests against every mutant of the core: `python -m tests.mutation.run [MODULE ...]`.

The tests are collected once, and run once to see which of them reach which line. Then each mutant
gets a process of its own, forked from that one, in which the function's code is exchanged and the
tests that reach the changed lines run until the first fails: what killed a mutant of the same
function goes first, then what is fast. What survives and is not in `survivors.toml` is printed,
and makes the exit code 1.
"""

import argparse
import gc
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from attrs import define, field
from coverage import Coverage
from hypothesis import Phase, settings

from tests.mutation.apply import (
    MADE_AT_IMPORT,
    Functions,
    exchange,
    functions_of_the_core,
    make_again,
)
from tests.mutation.mutants import Mutant, core_modules, mutants_of
from tests.mutation.results import Result, report, survivors_in
from tests.mutation.survivors import CORE, Key, explained

ROOT: Final = CORE.parent
TESTS: Final = (
    "tests/gateway",
    "tests/client",
    *(
        str(path.relative_to(ROOT))
        for pattern in ("test_*.py", "testing/test_any_*.py")
        for path in sorted((ROOT / "tests").glob(pattern))
        if path.stem not in {"test_architecture", "test_docs", "test_generated"}
    ),
)
_AT_IMPORT: Final = (
    "tests/client/test_client_table.py",
    "tests/gateway/test_gw_table.py",
    "tests/test_config.py",
    "tests/test_core_guards.py",
)
"""Tests of what is made at import; tried first where that is what was changed."""
_SLOWER: Final = 6.0
"""How many times longer than unmutated, and 2 seconds, a test may take before it counts as hung."""
_MEMORY: Final = 4 * 2**30
_SETTINGS: Final = "_hypothesis_internal_use_settings"
"""Where Hypothesis keeps a property's settings; applying others to it again is refused."""


@define
class Baseline:
    """What the tests do unmutated: how long each takes, and what reaches each line.

    `at_import` has the lines that run before any test does.
    """

    seconds: list[float] = field(factory=list)
    reach: dict[str, dict[int, set[int]]] = field(factory=dict)
    at_import: dict[str, set[int]] = field(factory=dict)

    def tests_for(self, mutant: Mutant) -> set[int]:
        """The tests that run any of the lines that a mutant changed."""
        lines = self.reach.get(mutant.module, {})
        wanted = range(mutant.first_line, mutant.last_line + 1)
        found: set[int] = set().union(*(lines.get(line, set()) for line in wanted))
        return found or set().union(
            *(tests for line, tests in lines.items() if line in mutant.function_lines)
        )

    def runs_at_import(self, mutant: Mutant) -> bool:
        """Whether the function, or some of it, runs when the package is imported."""
        return not self.at_import.get(mutant.module, set()).isdisjoint(mutant.function_lines)


class Mutation:
    """A pytest plugin that takes the place of the run."""

    def __init__(
        self, modules: list[str], examples: int, log: Path | None, only: set[Key] | None
    ) -> None:
        self.modules = modules
        self.examples = examples
        self.log = log
        self.only = only
        self.results: list[Result] = []
        self.failed: list[str] = []
        self.begun = time.perf_counter()
        self.status = 1
        self._tracer = Coverage(data_file=None, include=[str(CORE / "*")], config_file=False)
        self._tracer.start()
        self._killers: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            self._lighten(item)
        baseline = self._measure(session.items)
        if self.failed:
            return True
        functions = functions_of_the_core()
        gc.collect()
        gc.freeze()
        for module in self.modules:
            for mutant in mutants_of(module):
                if self.only is None or mutant.key in self.only:
                    self._note(self._judge(mutant, session.items, baseline, functions))
        return True

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """No test of this process has run: that is no failure here."""
        session.exitstatus = pytest.ExitCode.TESTS_FAILED if self.failed else pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.failed:
            lines = ["Tests that fail, or do not pass twice, before anything is mutated:"]
            lines += self.failed
        else:
            lines, self.status = report(self.results, time.perf_counter() - self.begun)
        for line in lines:
            terminalreporter.write_line(line)

    def _lighten(self, item: pytest.Item) -> None:
        """Let a property try few examples, and not make a failing one small."""
        test = getattr(item, "obj", None)
        given = getattr(test, _SETTINGS, None)
        if isinstance(given, settings) and test is not None:
            light = settings(
                given,
                max_examples=min(self.examples, given.max_examples),
                phases=(Phase.explicit, Phase.generate),
                report_multiple_bugs=False,
            )
            setattr(getattr(test, "__func__", test), _SETTINGS, light)

    def _measure(self, items: list[pytest.Item]) -> Baseline:
        baseline, tracer = Baseline(), self._tracer
        followed = list(zip(items, [*items[1:], None], strict=True))
        for number, (item, following) in enumerate(followed):
            tracer.switch_context(str(number))
            _passes(item, following)
        tracer.stop()
        # Every mutant's process runs a test once more, so each has to pass a second time: one that
        # spoils its own parameters would seem to kill whatever it is tried on.
        for item, following in followed:
            begun = time.perf_counter()
            if not _passes(item, following):
                self.failed.append(item.nodeid)
            baseline.seconds.append(time.perf_counter() - begun)
        data = tracer.get_data()
        for name in data.measured_files():
            path = Path(name)
            if path.parent == CORE:
                lines = data.contexts_by_lineno(name)
                baseline.reach[path.stem] = {
                    line: {int(number) for number in contexts if number}
                    for line, contexts in lines.items()
                }
                baseline.at_import[path.stem] = {
                    line for line, contexts in lines.items() if "" in contexts
                }
        return baseline

    def _judge(
        self, mutant: Mutant, items: list[pytest.Item], baseline: Baseline, functions: Functions
    ) -> Result:
        begun = time.perf_counter()
        tests = baseline.tests_for(mutant)
        exchanged = partial(exchange, mutant, functions)
        outcome, killer = self._run(mutant, exchanged, tests, items, baseline)
        if outcome == "survived" and (not tests or baseline.runs_at_import(mutant)):
            if mutant.module in MADE_AT_IMPORT:
                every = set(range(len(items)))
                made = partial(_exchange_and_make_again, mutant, functions)
                outcome, killer = self._run(mutant, made, every, items, baseline)
            else:
                outcome, killer = _run_from_import(mutant)
        return Result(mutant, outcome, killer, time.perf_counter() - begun)

    def _run(
        self,
        mutant: Mutant,
        apply: Callable[[], None],
        tests: set[int],
        items: list[pytest.Item],
        baseline: Baseline,
    ) -> tuple[str, str]:
        """What became of a mutant in a process that is forked from this one, and what killed it."""
        killers = self._killers[mutant.module, mutant.function]
        order = sorted(tests, key=lambda test: baseline.seconds[test] / (1 + 10 * killers[test]))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            planned = [(items[number], number, baseline.seconds[number]) for number in order]
            _run_mutated(apply, planned, writer)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        killer = os.read(reader, 32)
        os.close(reader)
        if os.WIFSIGNALED(status):
            return "timeout", ""
        if not killer:
            return "survived", ""
        if int(killer) < 0:
            return "killed", "at import"
        killers[int(killer)] += 1
        return "killed", items[int(killer)].nodeid

    def _note(self, result: Result) -> None:
        self.results.append(result)
        if self.log is not None:
            with self.log.open("a") as log:
                log.write(result.as_json() + "\n")


def _run_from_import(mutant: Mutant) -> tuple[str, str]:
    """The same for a function that does its work at import: in a new process, from a copy."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / CORE.name
        shutil.copytree(CORE, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / f"{mutant.module}.py").write_text(mutant.source)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
        command += ["-o", f"pythonpath={folder} . adapters"]
        for tests in (_AT_IMPORT, TESTS):
            status = subprocess.run([*command, *tests], cwd=ROOT, capture_output=True, check=False)
            if status.returncode != pytest.ExitCode.OK:
                return "killed", "at import, or soon after"
    return "survived", ""


class _Failures:
    """A pytest plugin that counts what fails."""

    def __init__(self) -> None:
        self.count = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.count += report.failed


def _passes(item: pytest.Item, following: pytest.Item | None) -> bool:
    failures = _Failures()
    item.config.pluginmanager.register(failures)
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    item.config.pluginmanager.unregister(failures)
    return failures.count == 0


def _exchange_and_make_again(mutant: Mutant, functions: Functions) -> None:
    exchange(mutant, functions)
    make_again(mutant)


def _run_mutated(
    apply: Callable[[], None], tests: Iterable[tuple[pytest.Item, int, float]], writer: int
) -> None:
    """In a process of its own: put the mutant in place, name the first test that fails."""
    number = -1
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        apply()
        for item, number, seconds in tests:
            signal.setitimer(signal.ITIMER_VIRTUAL, 2.0 + _SLOWER * seconds)
            if not _passes(item, None):
                os.write(writer, b"%d" % number)
                break
    except BaseException:  # noqa: BLE001 -- whatever it is, the mutant showed itself
        os.write(writer, b"%d" % number)
    finally:
        os._exit(0)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.run", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="default: the whole core")
    parser.add_argument("--examples", type=int, default=15, help="for each property")
    parser.add_argument("--log", type=Path, help="append every result to this file, as JSON lines")
    parser.add_argument(
        "--again", type=Path, help="only what survived by this log, and has no reason"
    )
    options = parser.parse_args()
    only = None if options.again is None else survivors_in(options.again) - set(explained())
    plugin = Mutation(options.modules or core_modules(), options.examples, options.log, only)
    arguments = ["-q", "-s", "--tb=short", "-p", "no:cacheprovider", "-o", "timeout=0"]
    # Hypothesis is imported here before pytest can rewrite its assertions, which it need not.
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning", *TESTS]
    status = pytest.main(arguments, plugins=[plugin])
    return int(status) or plugin.status


if __name__ == "__main__":
    sys.exit(main())

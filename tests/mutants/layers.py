"""The layers that look for a known bug: each tests the machines as they are in this process."""

import contextlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

import pytest
from attrs import field, frozen

from gatewayproto.testing import simulator
from gatewayproto.testing.any_peer.client import ABOUT as CLIENT_ABOUT
from gatewayproto.testing.any_peer.client import run_client
from gatewayproto.testing.any_peer.gateway import ABOUT as GATEWAY_ABOUT
from gatewayproto.testing.any_peer.gateway import run_gateway
from gatewayproto.testing.choices import Seeded
from gatewayproto.testing.explorer.bounds import BOUNDS, SUITE
from gatewayproto.testing.explorer.search import explore, walk
from gatewayproto.testing.steps import Violation

ROOT: Final = Path(__file__).parents[2]

Side = Literal["gateway", "client"]
BOTH: Final[frozenset[Side]] = frozenset({"gateway", "client"})


@frozen
class Catch:
    """What fell: a property or a file of tests; and what repeats it: a seed or a test's id."""

    by: str
    how: str


class Layer(Protocol):
    """One way to look for a bug."""

    @property
    def name(self) -> str:
        """What the matrix calls it."""
        ...

    @property
    def sides(self) -> frozenset[Side]:
        """The machines that it runs: a bug of another cannot show."""
        ...

    @property
    def is_quick(self) -> bool:
        """Whether `repeat` takes no process of its own, and little time."""
        ...

    def search(self, side: Side) -> Catch | None:
        """Look for a bug of this side's machine, always in the same way."""
        ...

    def repeat(self, how: str) -> Catch | None:
        """Look only where a bug was caught."""
        ...


# -- layers of tests --------------------------------------------------------------------------


class _Watch:
    """A pytest plugin that notes the first test that fails."""

    catch: Catch | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        """One falling example is enough: nobody reads the smallest one."""
        from hypothesis import Phase, settings  # noqa: PLC0415 -- pytest is to import it first

        settings.register_profile("first", settings(phases=(Phase.explicit, Phase.generate)))
        settings.load_profile("first")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.catch is None:
            stem = Path(report.nodeid.partition("::")[0]).stem
            self.catch = Catch(stem.removeprefix("test_"), report.nodeid)


@frozen
class Tests:
    """Tests in files, run until the first fails; those of the bug's side first."""

    name: str
    paths: tuple[str, ...]
    own: dict[Side, str] = field(factory=dict)
    sides: frozenset[Side] = BOTH
    is_quick: bool = False

    def search(self, side: Side) -> Catch | None:
        first = self.own.get(side)
        return _run(sorted(self.paths, key=lambda path: path != first))

    def repeat(self, how: str) -> Catch | None:
        return _run([how])


def _run(paths: Iterable[str]) -> Catch | None:
    """Run tests in this process. Raises `RuntimeError` where none could be run."""
    watch = _Watch()
    options = ("-x", "-q", f"--rootdir={ROOT}", "-p", "no:cacheprovider")
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main([*options, *(str(ROOT / path) for path in paths)], plugins=[watch])
    if watch.catch is None and code != pytest.ExitCode.OK:
        raise RuntimeError(f"the tests could not be run: {code!r}")
    return watch.catch


# -- layers of the toolkit --------------------------------------------------------------------


@frozen
class Seeds:
    """Worlds by profile and seed, until one breaks a property: `runs` says how many of each."""

    name: str
    sides: frozenset[Side]
    runs: Mapping[str, int]
    is_quick: bool = True

    def search(self, side: Side) -> Catch | None:  # noqa: ARG002 -- a seed knows no sides
        hows = (
            str(seed) if name == "swarm" else f"{name} {seed}"
            for name, count in self.runs.items()
            for seed in range(count)
        )
        return next(filter(None, map(self.repeat, hows)), None)

    def repeat(self, how: str) -> Catch | None:
        """A seed alone is of the profile `swarm`."""
        name, _, seed = how.rpartition(" ")
        try:
            simulator.simulate(name or "swarm", int(seed))
        except simulator.Failure as failure:
            return Catch(failure.violation.prop, how)
        except Violation as violation:
            return Catch(violation.prop, how)
        return None


def _any_peer(side: Side, seed: int, about: str) -> object:
    """The machine with the bug, alone against any peer."""
    return (run_client if side == "client" else run_gateway)(Seeded(seed), about=about)


@frozen
class Alone:
    """Each machine alone, by kind of run and seed; the bug's side says which machine."""

    name: str
    runs: Mapping[str, int]
    sides: frozenset[Side] = BOTH
    is_quick: bool = True

    def search(self, side: Side) -> Catch | None:
        hows = (
            " ".join(filter(None, (side, kind, str(seed))))
            for kind, count in self.runs.items()
            if kind in (CLIENT_ABOUT if side == "client" else GATEWAY_ABOUT)
            for seed in range(count)
        )
        return next(filter(None, map(self.repeat, hows)), None)

    def repeat(self, how: str) -> Catch | None:
        side, *kind, seed = how.split(" ")
        assert side in {"client", "gateway"}
        at: Side = "client" if side == "client" else "gateway"
        try:
            _any_peer(at, int(seed), "".join(kind))
        except Violation as violation:
            return Catch(violation.prop, how)
        return None


@frozen
class Explorer:
    """Every bound of the suite, until one breaks a property."""

    name: str
    sides: frozenset[Side] = BOTH
    is_quick: bool = True

    def search(self, side: Side) -> Catch | None:  # noqa: ARG002 -- a bound has both
        return next(filter(None, map(self._explore, SUITE)), None)

    def _explore(self, name: str) -> Catch | None:
        failure = explore(BOUNDS[name]).failure
        if failure is None:
            return None
        if failure.walk.violation is None:
            # What only machines show that go through their saved state has to be explored again.
            return Catch(failure.violation.prop, name)
        how = json.dumps([name, failure.walk.trace])
        return Catch(failure.walk.violation.prop, how)

    def repeat(self, how: str) -> Catch | None:
        if how in BOUNDS:
            return self._explore(how)
        name, trace = json.loads(how)
        violation = walk(BOUNDS[name], trace).violation
        return None if violation is None else Catch(violation.prop, how)


LAYERS: Final[dict[str, Layer]] = {
    layer.name: layer
    for layer in (
        Tests(
            "scenarios",
            (
                "tests/gateway",
                "tests/client",
                "tests/test_backoff.py",
                "tests/test_codec.py",
                "tests/test_projection.py",
                "tests/test_versions.py",
            ),
            own={"gateway": "tests/gateway", "client": "tests/client"},
        ),
        Tests("state machine", ("tests/testing/test_state_machine.py",)),
        Seeds(
            "simulator",
            BOTH,
            {
                "swarm": 1_000,
                "pushes": 300,
                "endings": 500,
                "stored": 200,
                "building": 500,
                "rates": 100,
            },
        ),
        Explorer("explorer"),
        Alone(
            "any peer",
            {
                "": 1_000,
                "pushes": 300,
                "endings": 500,
                "deployed": 300,
                "building": 200,
                "rates": 100,
            },
        ),
    )
}

"""The explorer: every bound in full, every reduction cross-checked, bugs by shortest ways."""

import random
from itertools import product
from typing import Any, Final

import pytest
from attrs import evolve

from gatewayproto.journal import Journal
from gatewayproto.testing.deeds import Kind
from gatewayproto.testing.explorer.bounds import BOUNDS, SUITE, Bound
from gatewayproto.testing.explorer.course import Course, Place
from gatewayproto.testing.explorer.fingerprint import Fingerprints
from gatewayproto.testing.explorer.folded import FoldedMachines
from gatewayproto.testing.explorer.graph import Graph
from gatewayproto.testing.explorer.healing import Deadlock, NoRest
from gatewayproto.testing.explorer.judge import Rules
from gatewayproto.testing.explorer.search import REDUCTIONS, Exploration, explore, walk
from gatewayproto.testing.monitors import Monitors
from gatewayproto.testing.steps import Setup
from gatewayproto.testing.transcript import render
from tests.mutants.catalog import MUTANTS
from tests.mutants.patching import applied

pytestmark = pytest.mark.weighs
"""Thousands of machines are made here, and what fails shows its own transcript."""

LEAST: Final = {
    "delivery": 12_000,
    "runs": 3_000,
    "replays": 5_000,
    "long-replays": 1_000,
    "lagging": 12_000,
    "snapshots": 13_000,
    "recovery": 30_000,
    "restart": 30_000,
    "requests": 5_000,
    "tabs": 8_000,
    "neighbors": 8_000,
    "reborn": 4_000,
    "version-1": 6_000,
    "opening": 13_000,
    "attempts": 2_000,
    "clock": 10_000,
    "strangers": 8_000,
    "closing": 8_000,
    "draining": 10_000,
    "versions": 300,
}
"""Distinct states of each bound, at the least."""

LARGEST: Final = ("recovery", "restart", "snapshots", "opening")
"""Bounds that take nearly as long as all the others together: the deep run explores them."""


def smaller(name: str, *kinds: Kind, **changes: Any) -> Bound:
    """A bound without these kinds of deeds."""
    bound = BOUNDS[name]
    counted = {each: left for each, left in bound.counted.items() if not set(each) & set(kinds)}
    return evolve(bound, counted=counted, **changes)


# -- all that can happen ----------------------------------------------------------------------


def test_the_suite_explores_over_a_hundred_thousand_states() -> None:
    assert set(LEAST) == set(SUITE)
    assert sum(LEAST[name] for name in SUITE if name not in LARGEST) >= 100_000


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=pytest.mark.deep if each in LARGEST else ()) for each in SUITE],
)
def test_nothing_in_a_bound_breaks_a_property_and_everything_comes_to_rest(name: str) -> None:
    result = explore(BOUNDS[name])
    if result.failure is not None:
        violation = result.failure.violation
        pytest.fail(f"{render(result.failure.walk.steps)}\n{violation}")
    assert result.complete
    assert result.missing == ()
    assert result.states >= LEAST[name]
    assert result.transitions > result.states
    assert result.settled > 0
    assert 0 <= result.rest_within < 120
    assert result.live == result.states // BOUNDS[name].live
    assert (result.passed, result.deadlocks, result.non_converging) == (True, 0, 0)


@pytest.mark.parametrize("name", [*SUITE, "large"])
def test_the_monitors_of_the_simulator_find_nothing_on_ways_through_a_bound(name: str) -> None:
    bound, draw = BOUNDS[name], random.Random(name)
    for _ in range(4):
        trace = random_way(bound, draw)
        walked = walk(bound, trace)
        assert walked.violation is None
        monitors = Monitors(Setup(gateway=bound.gateway))
        for step in walked.steps:
            monitors.observe(step)
        monitors.finish()


def random_way(bound: Bound, draw: random.Random) -> list[int]:
    """Deeds by chance until nothing is left but to wait, or there are forty."""
    course, trace = Course(bound), list[int]()
    place = course.begin(FoldedMachines(), Rules.of(bound.gateway))
    while len(trace) < 40 and (ways := list(course.deeds(place))):
        trace.append(draw.randrange(len(ways)))
        course.do(place, ways[trace[-1]])
    return trace


# -- reductions -------------------------------------------------------------------------------


def test_symmetry_leaves_out_nothing_but_other_names_for_the_same() -> None:
    bound = smaller("neighbors", Kind.CUT)
    prints, all_states, reduced = Fingerprints.of_bound(bound), set[bytes](), set[bytes]()

    def digest(place: Place) -> bytes:
        return prints.of(place.world, place.judge, bytes(place.left))

    full = explore(
        bound,
        reductions=REDUCTIONS - {"symmetry"},
        visit=lambda place: all_states.add(digest(place)),
    )
    less = explore(bound, visit=lambda place: reduced.add(digest(place)))
    assert all_states == reduced
    assert full.states > 1.8 * less.states
    assert outcome(full) == outcome(less)


def test_symmetry_is_not_used_where_clients_differ() -> None:
    assert BOUNDS["neighbors"].alike
    assert not BOUNDS["strangers"].alike


def test_history_leaves_out_nothing_that_matters() -> None:
    bound = smaller("recovery", Kind.TICK, Kind.TOKENS)
    prints, all_states, reduced = Fingerprints.of_bound(bound), set[bytes](), set[bytes]()

    def digest(place: Place) -> bytes:
        judge = place.judge.copy()
        for account in judge.accounts.values():
            account.told = ()
        return prints.of(place.world, judge, bytes(place.left))

    full = explore(
        bound,
        reductions=REDUCTIONS - {"history"},
        visit=lambda place: all_states.add(digest(place)),
    )
    less = explore(bound, visit=lambda place: reduced.add(digest(place)))
    assert all_states == reduced
    assert full.states > less.states
    assert outcome(full) == outcome(less)


@pytest.mark.parametrize("name", ["long-replays", "attempts"])
def test_what_machines_look_up_is_what_they_would_do(name: str) -> None:
    """The same graph, state by state and deed by deed."""
    seen: dict[bool, list[bytes]] = {True: [], False: []}
    results = dict[bool, Exploration]()
    for remembers, states in seen.items():
        prints = Fingerprints.of_bound(BOUNDS[name])
        results[remembers] = explore(
            BOUNDS[name],
            remembers=remembers,
            visit=lambda place, states=states, prints=prints: states.append(  # type: ignore[misc]
                prints.of(place.world, place.judge, bytes(place.left))
            ),
        )
    assert seen[True] == seen[False]
    assert results[False].run == results[False].asked
    assert results[True].run < results[True].asked / 2
    assert evolve(results[True], run=0) == evolve(results[False], run=0)


def outcome(result: Exploration) -> tuple[object, ...]:
    """What must not depend on how it was found: the verdict, and what there is to see."""
    return result.failure, result.complete, set(result.witnessed), result.missing


def test_the_same_bound_gives_the_same_result() -> None:
    assert explore(BOUNDS["long-replays"]) == explore(BOUNDS["long-replays"])


# -- that it bites ----------------------------------------------------------------------------

BITES: Final = [
    ("M01", "delivery", "P4"),
    ("M04", "strangers", "P4"),
    ("M05", "restart", "P4"),
    ("M06", "restart", "P12"),
    ("M07a", "strangers", "P4"),
    ("M12", "replays", "P2"),
    ("M15b", "lagging", "P4"),
    ("M18a", "tabs", "P7"),
    ("M19", "snapshots", "P5"),
    ("M28", "recovery", "P2"),
    ("M31", "versions", "P15"),
    ("M33", "opening", "P15"),
    ("M34b", "attempts", "P15"),
    ("M37b", "requests", "P8"),
    ("M39", "restart", "P8"),
    ("M40", "runs", "P12"),
    ("M41", "lagging", "P5"),
]
"""Known bugs, each with a bound that is aimed at it, and the property that falls."""


@pytest.mark.parametrize(("mutant", "name", "prop"), BITES)
def test_a_known_bug_is_found_and_shown(mutant: str, name: str, prop: str) -> None:
    with applied(MUTANTS[mutant]):
        failure = explore(BOUNDS[name]).failure
        assert failure is not None
        assert failure.violation.prop == prop
        again = walk(BOUNDS[name], failure.walk.trace)
    assert again.steps == failure.walk.steps
    if prop != "P12" or again.violation is not None:
        assert again.violation is not None
        assert again.violation.prop == prop
    assert "  > " in render(failure.walk.steps)


@pytest.mark.parametrize(("mutant", "name"), [("M05", "restart"), ("M01", "delivery")])
def test_what_is_found_first_is_a_shortest_way(mutant: str, name: str) -> None:
    with applied(MUTANTS[mutant]):
        failure = explore(BOUNDS[name]).failure
        assert failure is not None
        for length in range(len(failure.walk.trace)):
            for trace in product(range(8), repeat=length):
                try:
                    violation = walk(BOUNDS[name], trace).violation
                except ValueError:
                    continue  # there are fewer deeds than eight
                # Where nothing is left but to wait, a walk goes on until all are at rest.
                assert violation is None or length == len(failure.walk.trace) - 1


def test_a_deadlock_is_told_from_what_never_rests() -> None:
    with applied(MUTANTS["M33"]):
        result = explore(BOUNDS["opening"])
    assert result.failure is not None
    assert isinstance(result.failure.violation, Deadlock)
    assert (result.deadlocks, result.non_converging, result.passed) == (1, 0, False)
    with applied(MUTANTS["M31"]):
        result = explore(BOUNDS["versions"])
    assert result.failure is not None
    assert isinstance(result.failure.violation, NoRest)
    assert (result.deadlocks, result.non_converging, result.passed) == (0, 1, False)


def test_a_state_that_holds_too_much_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "trim", lambda _: None)
    failure = explore(BOUNDS["delivery"]).failure
    assert failure is not None
    assert failure.violation.prop == "P9"


def test_a_state_that_is_not_saved_in_full_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    to_state = Journal.to_state

    def forgetful(journal: Journal) -> dict[str, Any]:
        return {**to_state(journal), "lost": 0, "gone": 0}

    monkeypatch.setattr(Journal, "to_state", forgetful)
    failure = explore(BOUNDS["tabs"]).failure
    assert failure is not None
    assert failure.walk.violation is None  # live machines need no state


# -- what a bound must have -------------------------------------------------------------------


def test_a_bound_that_does_not_see_what_it_is_about_fails() -> None:
    bound = evolve(BOUNDS["versions"], needs=frozenset({"stopped", "never", "nor this"}))
    result = explore(bound)
    assert result.failure is None
    assert result.missing == ("never", "nor this")
    assert not result.passed


def test_a_limit_leaves_states_out_and_demands_nothing() -> None:
    result = explore(evolve(BOUNDS["delivery"], needs=frozenset({"never"})), states=500)
    assert 500 <= result.states < 600
    assert (result.complete, result.missing, result.passed) == (False, ("never",), True)


def test_progress_is_told_depth_by_depth() -> None:
    told: list[tuple[int, int]] = []
    result = explore(BOUNDS["versions"], progress=lambda depth, count: told.append((depth, count)))
    assert [depth for depth, _ in told] == list(range(result.depth + 1))
    assert told[0] == (0, 1)
    assert told[-1] == (result.depth, result.states)


def test_a_way_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="none of number 50"):
        walk(BOUNDS["versions"], [0, 50])


# -- the graph --------------------------------------------------------------------------------


def graph(edges: dict[int, list[int]], *, free: bool = True) -> Graph:
    """States by number, and where their deeds lead."""
    made = Graph()
    made.meet(b"0", None, 0, free=False)
    for number in range(len(edges)):
        assert made.expand() == number
        for deed, to in enumerate(edges[number]):
            made.meet(b"%d" % to, number, deed, free=free)
    return made


def test_free_deeds_that_go_round_are_found() -> None:
    assert graph({0: [1, 2], 1: [2], 2: [3], 3: []}).find_round() is None
    assert graph({0: [1], 1: [2, 3], 2: [1], 3: []}).find_round() in {1, 2, 3}
    assert graph({0: [1], 1: [1]}).find_round() == 1
    assert graph({0: [1], 1: [0]}, free=False).find_round() is None


def test_a_graph_knows_a_shortest_way_to_each_state() -> None:
    made = graph({0: [1, 2], 1: [3], 2: [3, 4], 3: [], 4: []})
    assert [made.way_to(number) for number in range(5)] == [(), (0,), (1,), (0, 0), (1, 1)]
    assert (len(made), made.is_complete) == (5, True)
    assert not graph({0: [1]}).is_complete

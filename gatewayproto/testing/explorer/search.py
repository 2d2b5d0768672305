"""Every interleaving of a bounded world of the real machines, breadth first.

A world's future depends on nothing but its state, and a state is told from others by its
fingerprint: so every state is looked at once, however many ways lead there. The first violation
found is at the end of a shortest way, which is then walked again by live machines.

Once every state is known, so is what becomes of each when faults stop. Only free deeds happen then,
until none is left; that there is such an end is seen from the graph, in which free deeds never go
round. From every state where nothing is left but to wait, waiting leads to rest at the head (P15).

Spec: the verification page, "Explorer".
"""

import gc
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from attrs import define, evolve, field, frozen

from gatewayproto.testing.explorer.bounds import Bound
from gatewayproto.testing.explorer.course import Course, Place
from gatewayproto.testing.explorer.fingerprint import Fingerprints
from gatewayproto.testing.explorer.folded import FoldedMachines
from gatewayproto.testing.explorer.graph import Graph
from gatewayproto.testing.explorer.healing import Deadlock, Healing, NoRest
from gatewayproto.testing.explorer.judge import Rules
from gatewayproto.testing.explorer.rebased import RebasedMachines
from gatewayproto.testing.steps import Step, Violation

Trace = tuple[int, ...]
"""The deeds of a run: each by its place among those that were possible."""

Reduction = Literal["symmetry", "history"]
REDUCTIONS: Final[frozenset[Reduction]] = frozenset({"symmetry", "history"})
"""`symmetry`: clients that are alike may change places. `history`: what a client's application was
given counts only as far as it may matter."""


@frozen(kw_only=True)
class Walk:
    """A way, walked by live machines, and the property that they broke on it, if any."""

    trace: Trace
    steps: Sequence[Step]
    violation: Violation | None


@frozen(kw_only=True)
class Failure:
    """What broke a property, and a shortest way there.

    Where live machines break nothing on it, those that go through their saved state at every step
    do something else than they (P12).
    """

    violation: Violation
    walk: Walk


@frozen(kw_only=True)
class Exploration:
    """What became of one bound.

    - `states`: distinct ones; `transitions`: deeds done from them; `depth`: deeds to the last.
    - `complete`: whether no state was left out.
    - `settled`: states in which nothing was left but to wait; `healed`: further ones on the way
      from there to rest.
    - `rest_within`: the most seconds from any state, once faults stop, until all are at rest.
    - `live`: states to which live machines walked as well, and did the same.
    - `machine_states`, `asked`, `run`: distinct states of machines; how often a machine was given
      an input, and how often one had to be run for that.
    - `witnessed`: what was seen, over all transitions; `missing`: what the bound needs and was not.
    """

    bound: str
    states: int
    transitions: int
    depth: int
    complete: bool
    settled: int
    healed: int
    rest_within: float
    live: int
    machine_states: int
    asked: int
    run: int
    witnessed: Counter[str]
    missing: tuple[str, ...]
    failure: Failure | None

    @property
    def passed(self) -> bool:
        """Whether nothing was broken and, where no state was left out, nothing is missing."""
        return self.failure is None and not (self.complete and self.missing)

    @property
    def deadlocks(self) -> int:
        """Whether a deadlock was found: it ends the exploration."""
        return int(self.failure is not None and isinstance(self.failure.violation, Deadlock))

    @property
    def non_converging(self) -> int:
        """Whether a state was found from which nobody comes to rest: it ends the exploration."""
        return int(self.failure is not None and isinstance(self.failure.violation, NoRest))


def explore(
    bound: Bound,
    *,
    states: int | None = None,
    reductions: frozenset[Reduction] = REDUCTIONS,
    remembers: bool = True,
    progress: Callable[[int, int], None] | None = None,
    visit: Callable[[Place], None] | None = None,
) -> Exploration:
    """Explore a bound.

    - `states`: stop once there are so many.
    - `reductions`: those to use. `remembers`: whether machines look up what they did before.
    - `progress`: told the depth and the states so far, before each further depth.
    - `visit`: given every distinct place once, when it is new.
    """
    with _without_collector():
        return _Explorer(bound, states, reductions, remembers, progress, visit).run()


@contextmanager
def _without_collector() -> Generator[None]:
    """Nothing here refers to itself, and to look for that in millions of objects takes long."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@define(eq=False)
class _Explorer:
    bound: Bound
    limit: int | None
    reductions: frozenset[Reduction]
    remembers: bool
    progress: Callable[[int, int], None] | None
    visit: Callable[[Place], None] | None
    course: Course = field(init=False)
    machines: FoldedMachines = field(init=False)
    rules: Rules = field(init=False)
    live_rules: Rules = field(init=False)
    prints: Fingerprints = field(init=False)
    healing: Healing = field(init=False)
    graph: Graph = field(factory=Graph)
    transitions: int = 0
    depth: int = 0
    settled: int = 0
    walked: int = 0

    def __attrs_post_init__(self) -> None:
        self.course = Course(self.bound)
        self.machines = FoldedMachines(remembers=self.remembers)
        folds = "history" in self.reductions
        self.rules = Rules.of(self.bound.gateway, folds=folds)
        self.live_rules = Rules.of(self.bound.gateway, folds=folds)
        self.prints = Fingerprints.of_bound(self.bound, symmetry="symmetry" in self.reductions)
        self.healing = Healing(self.course, self.prints)

    def run(self) -> Exploration:
        failure: Failure | None = None
        try:
            self._search()
            self._check_rounds()
        except _Found as found:
            failure = Failure(violation=found.violation, walk=walk(self.bound, found.trace))
        return Exploration(
            bound=self.bound.name,
            states=len(self.graph),
            transitions=self.transitions,
            depth=self.depth,
            complete=self.graph.is_complete,
            settled=self.settled,
            healed=self.healing.states,
            rest_within=self.healing.longest,
            live=self.walked,
            machine_states=self.machines.states,
            asked=self.machines.effort.asked,
            run=self.machines.effort.run,
            witnessed=self.rules.witnessed,
            missing=tuple(sorted(self.bound.needs - self.rules.witnessed.keys())),
            failure=failure,
        )

    def _search(self) -> None:
        try:
            first = self.course.begin(self.machines, self.rules)
        except Violation as violation:
            raise _Found(violation, ()) from None
        self._meet(first, None, 0)
        frontier = [first]
        while frontier and not self._is_full():
            if self.progress is not None:
                self.progress(self.depth, len(self.graph))
            frontier = self._next(frontier)
            self.depth += bool(frontier)

    def _is_full(self) -> bool:
        return self.limit is not None and len(self.graph) >= self.limit

    def _next(self, frontier: list[Place]) -> list[Place]:
        """The places that are new, one deed beyond these, which are forgotten on the way."""
        further: list[Place] = []
        frontier.reverse()
        while frontier and not self._is_full():
            self._expand(frontier.pop(), further)
        return further

    def _expand(self, place: Place, further: list[Place]) -> None:
        index = self.graph.expand()
        if index % self.bound.live == self.bound.live - 1:
            self._walk_there(place, index)
        ways = list(self.course.deeds(place))
        free = sum(group is None for _, _, group in ways)
        if not free:
            self._heal(place, index)
        for number, way in enumerate(ways):
            self.transitions += 1
            after = place.copy() if number + 1 < len(ways) else place
            try:
                self.course.do(after, way)
            except Violation as violation:
                raise self._found(violation, index, number) from None
            if self._meet(after, index, number, free=number < free):
                further.append(after)

    def _meet(self, place: Place, before: int | None, number: int, *, free: bool = False) -> bool:
        """Whether this place is new."""
        is_new = self.graph.meet(self._print(place), before, number, free=free)
        if is_new and self.visit is not None:
            self.visit(place)
        return is_new

    def _heal(self, place: Place, index: int) -> None:
        self.settled += 1
        try:
            place.judge.check_settled(place.world)
            self.healing.heal(place.copy())
        except Violation as violation:
            raise self._found(violation, index, None) from None

    def _walk_there(self, place: Place, index: int) -> None:
        """Live machines that go the same way do the same."""
        trace = self.graph.way_to(index)
        try:
            there = follow(Course(self.bound), trace, self.live_rules)
        except Violation as violation:
            raise _Found(violation, trace) from None
        self.walked += 1
        if self._print(there) != self._print(place):
            raise _Found(Violation("P12", "live machines come to another state"), trace)

    def _print(self, place: Place) -> bytes:
        return self.prints.of(place.world, place.judge, bytes(place.left))

    def _check_rounds(self) -> None:
        """Free deeds never go round; if they did, the machines might never fall silent."""
        index = self.graph.find_round()
        if index is not None:
            violation = NoRest("P15", "without time passing, what can happen goes round")
            raise self._found(violation, index, None)

    def _found(self, violation: Violation, index: int, number: int | None) -> "_Found":
        trace = self.graph.way_to(index)
        return _Found(violation, trace if number is None else (*trace, number))


@define(eq=False)
class _Found(Exception):  # noqa: N818 -- it is what is looked for
    violation: Violation
    trace: Trace


def follow(
    course: Course,
    trace: Sequence[int],
    rules: Rules,
    observe: Callable[[Step], None] | None = None,
) -> Place:
    """Where a way leads live machines. Raises `ValueError` for a way that there is not."""
    place = course.begin(RebasedMachines(), rules, observe)
    for number in trace:
        ways = list(course.deeds(place))
        if not 0 <= number < len(ways):
            raise ValueError(f"there are {len(ways)} deeds, and none of number {number}")
        course.do(place, ways[number])
    return place


def walk(bound: Bound, trace: Sequence[int]) -> Walk:
    """Walk a way by live machines; at its end, where nothing is left but to wait, they heal.

    Raises `ValueError` for a way that there is not.
    """
    course, steps = Course(bound), list[Step]()

    def observe(step: Step) -> None:
        passed = course.passed
        due = None if step.deadline is None else step.deadline + passed
        steps.append(evolve(step, now=step.now + passed, deadline=due))

    violation: Violation | None = None
    try:
        place = follow(course, trace, Rules.of(bound.gateway), observe)
        if all(group is not None for _, _, group in course.deeds(place)):
            place.judge.check_settled(place.world)
            Healing(course, None).heal(place)
    except Violation as found:
        violation = found
    return Walk(trace=tuple(trace), steps=steps, violation=violation)

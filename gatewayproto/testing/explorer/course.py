"""How the explorer goes from one world to the next within a bound.

Spec: the verification page, "Explorer".
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from attrs import define, field

from gatewayproto.testing.deeds import Kind, options
from gatewayproto.testing.explorer.bounds import Bound
from gatewayproto.testing.explorer.judge import Judge, Rules
from gatewayproto.testing.explorer.rebased import rebase
from gatewayproto.testing.machines import Machines
from gatewayproto.testing.steps import Step, Violation
from gatewayproto.testing.world import World

_SPINS: Final = 1_000
"""So many deeds without time passing, and the machines never fall silent."""

Way = tuple[Kind, int, int | None]
"""A deed: its kind, its number among those of its kind, and what it is counted as."""


@define(eq=False)
class Place:
    """A world between two deeds, with its judge and how often what is counted may still happen."""

    world: World
    judge: Judge
    left: tuple[int, ...]

    def copy(self) -> "Place":
        """The same once more."""
        judge = self.judge.copy()
        return Place(self.world.copy(judge.observe), judge, self.left)


@define(eq=False)
class Course:
    """How one goes from place to place within a bound.

    `passed` is the time that has passed in all, in seconds: a world's clock is set back.
    """

    bound: Bound
    passed: float = 0.0
    _kinds: list[tuple[Kind, int | None]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._kinds = [(kind, None) for kind in self.bound.free]
        self._kinds += [
            (kind, group) for group, kinds in enumerate(self.bound.counted) for kind in kinds
        ]

    def begin(
        self, machines: Machines, rules: Rules, observe: Callable[[Step], None] | None = None
    ) -> Place:
        """The first place. `observe` is given what the judge is, and before it."""
        judge = Judge(rules)

        def both(step: Step) -> None:
            if observe is not None:
                observe(step)
            judge.observe(step)

        seen = judge.observe if observe is None else both
        world = World(self.bound.gateway, observe=seen, machines=machines)
        for config in self.bound.clients:
            world.add_client(config)
        place = Place(world, judge, tuple(self.bound.counted.values()))
        self._at_once(world)
        if self.bound.prelude is not None:
            self.settle(world)
        for kind in self.bound.prelude or ():
            options(world, kind, self.bound.limits)[0]()
            self.settle(world)
        self.rebase(place)
        return place

    def deeds(self, place: Place) -> Iterator[Way]:
        """Every deed that is possible; those that are free come first."""
        for kind, group in self._kinds:
            if group is None or place.left[group]:
                for number in range(len(options(place.world, kind, self.bound.limits))):
                    yield kind, number, group

    def do(self, place: Place, way: Way) -> None:
        """Do it, and everything that happens at once."""
        kind, number, group = way
        options(place.world, kind, self.bound.limits)[number]()
        if group is not None:
            left = place.left
            place.left = (*left[:group], left[group] - 1, *left[group + 1 :])
        self._at_once(place.world)
        self.rebase(place)

    def rebase(self, place: Place) -> None:
        """Set the clock back."""
        seconds = rebase(place.world)
        if seconds:
            place.judge.shift(seconds)
            self.passed += seconds

    def _at_once(self, world: World) -> None:
        for _ in range(_SPINS):
            if not self._first(world, self.bound.at_once):
                return
        raise Violation("P15", f"what happens at once has no end within {_SPINS} deeds")

    def settle(self, world: World) -> None:
        """Let everything happen that needs no time and no fault, in one order of many."""
        for _ in range(_SPINS):
            if not self._first(world, self.bound.free):
                return
            self._at_once(world)
        raise Violation("P15", f"nothing settles within {_SPINS} deeds")

    def _first(self, world: World, kinds: Iterable[Kind]) -> bool:
        """Do the first deed of these kinds, if there is one."""
        for peer in world.living:
            if peer.needs_token:
                world.give_token(peer)
                return True
        for kind in kinds:
            deeds = options(world, kind, self.bound.limits)
            if deeds:
                deeds[0]()
                return True
        return False

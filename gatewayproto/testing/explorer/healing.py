"""That waiting heals: from where nothing is left but to wait, time alone leads to rest (P15).

Spec: the verification page, "Explorer".
"""

from typing import Final

from attrs import define, field

from gatewayproto.testing.explorer.course import Course, Place
from gatewayproto.testing.explorer.fingerprint import Fingerprints
from gatewayproto.testing.steps import Healed, Rested, Violation
from gatewayproto.testing.world import World

ROUNDS: Final = 40
"""Deadlines that pass at most until everybody is at rest: some eight attempts of a client's."""


class Deadlock(Violation):
    """Somebody is not at rest, and nobody waits for anything (P15)."""


class NoRest(Violation):
    """However long everybody waits, somebody does not come to rest (P15)."""


@define(eq=False)
class Healing:
    """Heals places; what is known to come to rest is not healed again.

    `prints` tells what is known; without, every place is healed to the end. `longest` is the most
    seconds that it took until all were at rest.
    """

    course: Course
    prints: Fingerprints | None
    longest: float = 0.0
    _rests: dict[bytes, float] = field(factory=dict)  # seconds until all are at rest

    @property
    def states(self) -> int:
        """How many states, told apart without what is counted, are known to come to rest."""
        return len(self._rests)

    def heal(self, place: Place) -> None:
        """Wait until everybody is at rest.

        Raises `NoRest` where that does not come, `Deadlock` where nobody waits for anything.
        """
        world, began = place.world, self.course.passed
        met: dict[bytes, float] = {}
        if world.draining:  # its successor takes its place
            world.restart("whole")
        for link in world.links:
            if link.stalled:
                world.stall(link, stalled=False)
        world.happen(Healed())
        for _ in range(ROUNDS):
            self._settle(place)
            waited = self.course.passed - began
            if _is_at_rest(place):
                world.happen(Rested())
                self._remember(met, waited)
                return
            if self.prints is not None:
                digest = self.prints.of(world, place.judge, b"")
                if digest in self._rests:
                    self._remember(met, waited + self._rests[digest])
                    return
                met[digest] = waited
            self._wait(world)
        names = ", ".join(peer.name for peer in world.living)
        waited = self.course.passed - began
        raise NoRest("P15", f"{names}: not at rest after {ROUNDS} deadlines, {waited} seconds")

    def _remember(self, met: dict[bytes, float], total: float) -> None:
        """Every state that was met comes to rest, `total` seconds after the first."""
        self.longest = max(self.longest, total)
        for digest, waited in met.items():
            self._rests[digest] = total - waited

    def _settle(self, place: Place) -> None:
        self.course.settle(place.world)
        self.course.rebase(place)
        place.judge.check_settled(place.world)

    def _wait(self, world: World) -> None:
        deadline = world.next_deadline
        if deadline is None:
            raise Deadlock("P15", "nobody waits for anything, and not all are at rest")
        world.advance(deadline - world.now)


def _is_at_rest(place: Place) -> bool:
    """Whether every client is connected, at the head, and waits for no answer."""
    return all(
        peer.state == "connected"
        and peer.caught_up
        and not peer.open_requests
        and place.judge.is_at_head(peer.name)
        for peer in place.world.living
    )

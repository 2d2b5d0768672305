"""That waiting heals: from where nothing is left but to wait, time alone leads to rest (P15).

Spec: the verification page, "Explorer".
"""

from typing import Final

from attrs import define, field

from gatewayproto.testing.course import Course, Place
from gatewayproto.testing.fingerprint import Fingerprints
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

    `prints` tells what is known; without, every place is healed to the end.
    """

    course: Course
    prints: Fingerprints | None
    _heals: set[bytes] = field(factory=set)

    @property
    def states(self) -> int:
        """How many states, told apart without what is counted, are known to come to rest."""
        return len(self._heals)

    def heal(self, place: Place) -> float:
        """Wait until everybody is at rest; gives the seconds until then.

        Raises `NoRest` where that does not come, `Deadlock` where nobody waits for anything.
        """
        world, met, waited = place.world, set[bytes](), 0.0
        for link in world.links:
            if link.stalled:
                world.stall(link, stalled=False)
        world.happen(Healed())
        for _ in range(ROUNDS):
            waited += self._settle(place)
            if _is_at_rest(place):
                self._heals |= met
                world.happen(Rested())
                return waited
            if self.prints is not None:
                digest = self.prints.of(world, place.judge, b"")
                if digest in self._heals:
                    self._heals |= met
                    return waited
                met.add(digest)
            self._wait(world)
        names = ", ".join(peer.name for peer in world.living)
        raise NoRest("P15", f"{names}: not at rest after {ROUNDS} deadlines, {waited} seconds")

    def _settle(self, place: Place) -> float:
        self.course.settle(place.world)
        seconds = self.course.rebase(place)
        place.judge.check_settled(place.world)
        return seconds

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

"""One direction of one connection: what to do next with the bytes that are held. No I/O here."""

from collections import Counter
from collections.abc import Iterable

from attrs import frozen

from tests.faults.plan import Coalesce, Cut, Direction, Pass, Plan, Split, Stall, Stretch, Throttle


@frozen
class Read:
    """Nothing is held: read something."""


@frozen
class Gather:
    """Wait for so many seconds, then read what has come, until `size` bytes are held."""

    size: int
    seconds: float


@frozen
class Send:
    """Send the oldest `size` of the bytes held; then do nothing for so many seconds."""

    size: int
    pause: float = 0.0


@frozen
class Wait:
    """Do nothing for so many seconds."""

    seconds: float


@frozen
class Sever:
    """The point of the cut is reached."""


Op = Read | Gather | Send | Wait | Sever


class Lane:
    """Walks through the stretches as bytes come.

    `next` is told how many bytes are held, and its answer is to be carried out before it is asked
    again. What it says of a byte depends on its place in the stream, not on how bytes came, save
    that bytes which have not come cannot be sent.
    """

    def __init__(self, stretches: Iterable[Stretch] = (), cut_at: int | None = None) -> None:
        self.begun: Counter[str] = Counter()
        """How many stretches of each kind have begun."""
        self.passed = 0
        """Bytes that `Send` has named."""
        self._stretches = list(reversed(tuple(stretches)))
        self._cut_at = cut_at
        self._present: Stretch | None = None
        self._left = 0
        self._piece = 0
        self._piece_left = 0
        self._gathered = False

    @classmethod
    def of(cls, plan: Plan, direction: Direction) -> "Lane":
        """The lane of a plan."""
        cut: Cut | None = plan.cut
        at = cut.at if cut is not None and cut.direction == direction else None
        return cls(plan.up if direction == "up" else plan.down, at)

    @property
    def severed(self) -> bool:
        """Whether the point of the cut is reached."""
        return self.passed == self._cut_at

    def heal(self) -> None:
        """From now on everything passes."""
        self._stretches.clear()
        self._present, self._left, self._cut_at = None, 0, None

    def next(self, held: int) -> Op:
        """What to do next with so many bytes held."""
        if self.severed:
            return Sever()
        if held == 0:
            return Read()
        if self._left == 0 and self._stretches:
            self._begin(self._stretches.pop())
        return self._treat(held)

    def _treat(self, held: int) -> Op:
        match self._present:
            case Stall(seconds=seconds):
                self._present = None
                return Wait(seconds)
            case Split(sizes=sizes):
                return self._split(held, sizes)
            case Coalesce(size=size, linger=linger):
                return self._coalesce(held, size, linger)
            case Throttle(rate=rate, size=size):
                sent = self._take(min(held, size))
                return Send(sent, sent / rate)
            case _:
                return Send(self._take(held))

    def _begin(self, stretch: Stretch) -> None:
        self._present, self._gathered = stretch, False
        self._piece = self._piece_left = 0
        self._left = 0 if isinstance(stretch, Stall) else stretch.length
        if not isinstance(stretch, Pass):
            self.begun[type(stretch).__name__.lower()] += 1

    def _take(self, size: int) -> int:
        """How many of so many bytes may go now, within the stretch and up to the cut."""
        if self._left > 0:
            size = min(size, self._left)
        if self._cut_at is not None:
            size = min(size, self._cut_at - self.passed)
        self.passed += size
        if self._left > 0:
            self._left -= size
            if self._left == 0:
                self._present = None
        return size

    def _split(self, held: int, sizes: tuple[int, ...]) -> Op:
        if self._piece_left == 0:
            self._piece_left = sizes[self._piece % len(sizes)]
            self._piece += 1
        sent = self._take(min(held, self._piece_left))
        self._piece_left -= sent
        return Send(sent)

    def _coalesce(self, held: int, size: int, linger: float) -> Op:
        wanted = min(size, self._left)
        if held < wanted and not self._gathered:
            self._gathered = True
            return Gather(wanted, linger)
        self._gathered = False
        return Send(self._take(min(held, wanted)))

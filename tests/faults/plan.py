"""What a fault proxy does to its connections, as data: a pure function of a seed and a number.

A plan has a lane for each direction, and may have a cut. A lane is a row of stretches of the bytes
that pass, each treated in its own way; behind the last of them everything passes as it comes.
"""

import random
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Literal

from attrs import field, frozen, validators

Direction = Literal["up", "down"]
"""Towards the server, and towards the client."""


class CutKind(StrEnum):
    """How a connection ends before its time.

    - `fin`: both ends are told that no more comes. `rst`: both are reset.
    - `silent`: nothing is read and nothing sent any more, and nobody is told, until `Cut.hold`
      seconds have passed: a half-open connection whose buffers fill.
    - `swallow`: the same, but what the ends send is taken and thrown away, and an end that closes
      is let go: a half-open connection behind something that acknowledges.
    """

    FIN = "fin"
    RST = "rst"
    SILENT = "silent"
    SWALLOW = "swallow"


# -- stretches --------------------------------------------------------------------------------

_positive: Callable[..., None] = validators.gt(0)
_sizes: Callable[..., None] = validators.and_(
    validators.min_len(1), validators.deep_iterable(_positive)
)


@frozen
class Pass:
    """So many bytes pass as they come."""

    length: int = field(validator=_positive)


@frozen
class Split:
    """So many bytes are sent in pieces of these sizes, over and over."""

    length: int = field(validator=_positive)
    sizes: tuple[int, ...] = field(validator=_sizes)


@frozen
class Coalesce:
    """So many bytes are gathered for `linger` seconds at a time, `size` of them at the most."""

    length: int = field(validator=_positive)
    size: int = field(validator=_positive)
    linger: float


@frozen
class Throttle:
    """So many bytes pass at `rate` bytes a second, in pieces of at most `size`."""

    length: int = field(validator=_positive)
    rate: float = field(validator=_positive)
    size: int = field(validator=_positive)


@frozen
class Stall:
    """Nothing is read or sent for so many seconds."""

    seconds: float


Stretch = Pass | Split | Coalesce | Throttle | Stall


@frozen
class Cut:
    """The connection ends once `at` bytes went in `direction`; see `CutKind`."""

    kind: CutKind
    direction: Direction
    at: int
    hold: float = 0.0


@frozen
class Plan:
    """What is done to one connection."""

    up: tuple[Stretch, ...] = ()
    down: tuple[Stretch, ...] = ()
    cut: Cut | None = None

    @property
    def calm(self) -> bool:
        """Whether nothing is done to it."""
        return not (self.up or self.down or self.cut)


# -- choosing ---------------------------------------------------------------------------------

_share: Callable[..., None] = validators.and_(validators.ge(0), validators.le(1))


@frozen(kw_only=True)
class Profile:
    """How hard the faults are.

    - `calm`: the share of connections that nothing is done to; `cut`: the share of the others that
      are cut, `fins` to `swallows` the weights of the kinds.
    - `cut_within`: bytes within which a cut comes. Half of the cuts come within a tenth of them,
      where a handshake or a replay is.
    - `stretches`: how many a lane has at the most; `stretch`: how many bytes one has at the most.
    - `stall`: the longest stall, and `linger`: the longest gathering, in seconds.
    - `hold`: the longest that a half-open connection is kept, in seconds; half of it the shortest.
    """

    calm: float = field(default=0.2, validator=_share)
    cut: float = field(default=0.8, validator=_share)
    fins: float = field(default=3.0, validator=validators.ge(0))
    rsts: float = field(default=3.0, validator=validators.ge(0))
    silents: float = field(default=1.0, validator=validators.ge(0))
    swallows: float = field(default=1.0, validator=validators.ge(0))
    cut_within: int = field(default=60_000, validator=validators.ge(1))
    stretches: int = field(default=5, validator=validators.ge(0))
    stretch: int = field(default=8_000, validator=validators.ge(16))
    stall: float = field(default=1.5, validator=validators.ge(0))
    linger: float = field(default=0.05, validator=validators.ge(0))
    hold: float = field(default=10.0, validator=validators.gt(0))

    def __attrs_post_init__(self) -> None:
        if self.cut and not any(self.weights):
            raise ValueError("some kind of cut must have a weight")

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights of the kinds of cuts, in their order."""
        return (self.fins, self.rsts, self.silents, self.swallows)


MAX_PIECE: Final = 4096
"""The most bytes that a split, a throttle or a gathering sends at once."""
_SLOWEST: Final = 4_000.0
_FASTEST: Final = 64_000.0
_MAX_SPLIT: Final = 512


def plan(seed: int, number: int, profile: Profile | None = None) -> Plan:
    """The plan of connection `number`, whatever other connections there are."""
    profile = Profile() if profile is None else profile
    rng = random.Random(f"{seed}/{number}")
    if rng.random() < profile.calm:
        return Plan()
    return Plan(up=_lane(rng, profile), down=_lane(rng, profile), cut=_cut(rng, profile))


def _lane(rng: random.Random, profile: Profile) -> tuple[Stretch, ...]:
    return tuple(rng.choice(_KINDS)(rng, profile) for _ in range(rng.randint(0, profile.stretches)))


def _length(rng: random.Random, profile: Profile) -> int:
    # As often short as long: handshakes are short.
    return rng.randint(1, rng.choice((16, 256, profile.stretch)))


def _pass(rng: random.Random, profile: Profile) -> Stretch:
    return Pass(_length(rng, profile))


def _split(rng: random.Random, profile: Profile) -> Stretch:
    largest = rng.choice((1, 3, 30, 300))
    sizes = tuple(rng.randint(1, largest) for _ in range(rng.randint(1, 8)))
    # Each piece is a write of its own: very small ones go on for a short while only.
    return Split(min(_length(rng, profile), _MAX_SPLIT * max(sizes)), sizes)


def _coalesce(rng: random.Random, profile: Profile) -> Stretch:
    linger = rng.uniform(0, profile.linger)
    return Coalesce(_length(rng, profile), rng.randint(2, MAX_PIECE), linger)


def _throttle(rng: random.Random, profile: Profile) -> Stretch:
    rate = rng.uniform(_SLOWEST, _FASTEST)
    return Throttle(_length(rng, profile), rate, max(16, int(rate / 50)))


def _stall(rng: random.Random, profile: Profile) -> Stretch:
    return Stall(rng.uniform(0, profile.stall))


_KINDS: Final[tuple[Callable[[random.Random, Profile], Stretch], ...]] = (
    _pass,
    _pass,
    _split,
    _coalesce,
    _throttle,
    _stall,
)


def _cut(rng: random.Random, profile: Profile) -> Cut | None:
    if rng.random() >= profile.cut:
        return None
    within = max(1, profile.cut_within // 10) if rng.random() < 0.5 else profile.cut_within
    direction: Direction = "up" if rng.random() < 0.25 else "down"
    return Cut(
        kind=rng.choices(tuple(CutKind), profile.weights)[0],
        direction=direction,
        # What a client says is little beside what it hears.
        at=rng.randint(1, within if direction == "down" else max(1, within // 20)),
        hold=rng.uniform(profile.hold / 2, profile.hold),
    )

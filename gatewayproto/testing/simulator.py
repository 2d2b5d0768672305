"""Worlds with faults by chance: each seed a run, each run judged by every monitor, then healed.

A run has two phases. First a profile's deeds are done in an order that is chosen; then faults stop,
everything that can arrive does, and every client must come to rest at the head (P15).

Spec: the verification page, "Simulator".
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
from attrs import define, evolve, field, frozen

from gatewayproto.testing.choices import Choices, Recorded, Recorder, Seeded
from gatewayproto.testing.deeds import Kind, options
from gatewayproto.testing.monitors import Monitors
from gatewayproto.testing.profiles import Profile, Weights, draw
from gatewayproto.testing.steps import Healed, Rested, Setup, Step, Violation
from gatewayproto.testing.transcript import render
from gatewayproto.testing.world import World

_SETTLED: Final = 20_000
"""So many steps without time passing, and the machines never fall silent."""
_HEALING: Final = 1_200.0
"""Seconds of healing after which the world is at rest, whoever is not."""
_SHOWN: Final = 60
"""Steps of a transcript that are shown of a failed run."""


@frozen
class Result:
    """What one run came to: how much happened, and a digest of every input and action."""

    digest: str
    steps: int
    witnessed: Mapping[str, int]
    happened: Mapping[str, int]


@define(eq=False)
class Failure(Exception):  # noqa: N818 -- it is the result of a run
    """A run that broke a property: what, the steps up to there, and the choices that lead there.

    `trace` holds the choices deed by deed, the first of them those of the profile; joined, they
    repeat the run.
    """

    violation: Violation
    profile: str
    steps: Sequence[Step]
    trace: Sequence[Sequence[int]]

    def __str__(self) -> str:
        return f"{render(self.steps, last=_SHOWN)}\n\n{self.violation}"


@define(eq=False)
class _Run:
    """One run: what was seen, and the trace of what was chosen, deed by deed."""

    choices: Recorder
    steps: list[Step] = field(factory=list)
    happened: Counter[str] = field(factory=Counter)
    trace: list[Sequence[int]] = field(factory=list)
    monitors: Monitors | None = None

    def observe(self, step: Step) -> None:
        self.steps.append(step)
        assert self.monitors is not None
        self.monitors.observe(step)

    def cut_trace(self) -> None:
        """The choices so far belong to what was done so far."""
        self.trace.append(tuple(self.choices.trace))
        self.choices.trace.clear()


def run(name: str, choices: Choices, *, deeds: int | None = None) -> Result:
    """Simulate one world of the profile of this name; `deeds` in place of its number of deeds.

    Raises `Failure`, and `KeyError` for a profile that there is not.
    """
    recorder = Recorder(choices)
    this = _Run(recorder)
    try:
        profile = draw(name, recorder)
        this.cut_trace()
        this.monitors = Monitors(Setup(gateway=profile.gateway))
        world = World(profile.gateway, observe=this.observe, addresses=profile.addresses)
        for config in profile.clients:
            world.add_client(config)
        scramble(world, profile, recorder, deeds=deeds, each=this.cut_trace, count=this.happened)
        heal(world)
        this.monitors.finish()
    except Violation as violation:
        this.cut_trace()
        raise Failure(violation, name, this.steps, this.trace) from None
    return Result(digest(this.steps), len(this.steps), this.monitors.witnessed, this.happened)


def simulate(name: str, seed: int) -> Result:
    """Simulate the world of this seed. Raises `Failure`."""
    return run(name, Seeded(seed))


def replay(failure: Failure) -> Failure | None:
    """Run a failure's trace again; gives the failure that comes of it."""
    try:
        run(failure.profile, Recorded([each for deed in failure.trace for each in deed]))
    except Failure as again:
        return again
    return None


# -- faults -----------------------------------------------------------------------------------


def scramble(
    world: World,
    profile: Profile,
    choices: Choices,
    *,
    deeds: int | None = None,
    each: Callable[[], None] = lambda: None,
    count: Counter[str] | None = None,
) -> None:
    """Do things to a world in an order that is chosen: so many, or as many as the profile says.

    `each` is called after each; `count` counts them by kind.
    """
    kinds = _by_weight(profile.weights)
    for _ in range(profile.deeds if deeds is None else deeds):
        kind = kinds[choices.choose(len(kinds))]
        possible = options(world, kind, profile.limits)
        if possible:
            possible[choices.choose(len(possible))]()
            if count is not None:
                count[kind] += 1
        each()


def _by_weight(weights: Weights) -> list[Kind]:
    return [kind for kind, weight in weights.items() for _ in range(weight)]


# -- healing ----------------------------------------------------------------------------------


def heal(world: World) -> None:
    """Faults stop; what is in flight arrives, and time passes until everybody is at rest.

    Nobody is at rest before three heartbeats have passed: what was missed at the end of a stream
    is noticed by a ping.
    """
    if world.draining:  # its successor takes its place
        world.restart("whole")
    world.happen(Healed())
    for link in world.links:
        if link.stalled:
            world.stall(link, stalled=False)
    began = world.now
    soonest = began + 3 * world.config.heartbeat
    settle(world)
    while world.now < began + _HEALING and not (world.now >= soonest and at_rest(world)):
        deadline = world.next_deadline
        wait = 1.0 if deadline is None else min(max(deadline - world.now, 0.0), 1.0)
        world.advance(wait)
        settle(world)
    world.happen(Rested())


def settle(world: World) -> None:
    """Let everything happen that needs no time."""
    for _ in range(_SETTLED):
        if not (_application_acts(world) or _network_acts(world)):
            return
    raise Violation("P15", f"the machines do not fall silent within {_SETTLED} steps")


def _application_acts(world: World) -> bool:
    jobs = world.application.jobs()
    if jobs:
        world.work(jobs[0])
        return True
    if world.store.waiting:
        world.persist_all()
        return True
    if world.builder is not None and world.builder.needs:
        world.serve(world.builder.answer(next(iter(world.builder.needs.values()))))
        return True
    for peer in world.living:
        if peer.needs_token:
            world.give_token(peer)
            return True
        if peer.untaken is not None:
            world.take(peer)
            return True
    return False


def _network_acts(world: World) -> bool:
    for link in world.links:
        if link.pending:
            world.open(link)
        elif link.can_go_up:
            world.go_up(link)
        elif link.can_go_down:
            world.go_down(link)
        else:
            continue
        return True
    return False


def at_rest(world: World) -> bool:
    """Whether every client is connected, has caught up and waits for no answer."""
    return all(
        peer.state == "connected" and peer.caught_up and not peer.open_requests
        for peer in world.living
    )


# -- digests and shrinking --------------------------------------------------------------------


def digest(steps: Iterable[Step]) -> str:
    """A digest of every input and action, in order: equal for equal runs only."""
    hashed = blake2b(digest_size=16)
    for step in steps:
        for value in (step.input, *step.actions):
            hashed.update(f"{step.now} {step.who} {type(value).__name__} ".encode())
            hashed.update(msgspec.json.encode(value, enc_hook=_plain, order="deterministic"))
    return hashed.hexdigest()


def _plain(value: Any) -> Any:
    return value.__name__ if isinstance(value, type) else repr(value)


def shrink(failure: Failure, *, tries: int = 400) -> Failure:
    """Leave out deeds as long as the same property is still broken; gives the shortest found.

    Blocks of deeds are left out, halves first; at most so many runs are tried.
    """
    best, size = failure, max(1, len(failure.trace) // 2)
    while tries > 0:
        at, shorter = len(best.trace) - size, False
        while at >= 1 and tries > 0:  # the first are the profile's choices
            tries -= 1
            trace = [*best.trace[:at], *best.trace[at + size :]]
            again = replay(evolve(best, trace=trace))
            if again is not None and again.violation.prop == failure.violation.prop:
                best, shorter = evolve(again, trace=trace), True
            at -= size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    return best

"""The course of the demonstration: which faults, in which order, and the story in between."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from attrs import frozen

from gatewayproto_cli.adapters import Adapter
from gatewayproto_cli.demo.faults import (
    MID_REPLAY,
    MID_STREAM,
    OLDER_COPY,
    REQUIRED,
    STALL,
    TRIM,
    UNBROKEN,
    Fault,
)
from gatewayproto_cli.demo.stage import DemoFailedError, Stage

FULL: Final = 1000
"""Events from which on every kind of fault is required to have happened."""
_MIN_DISCONNECTS: Final = 20
_EVENTS_PER_FAULT: Final = 200
_MAX_FURTHER: Final = 300
_WEIGHTS: Final = {MID_STREAM: 50, MID_REPLAY: 25, STALL: 8, TRIM: 9, UNBROKEN: 4, OLDER_COPY: 4}


@frozen(kw_only=True)
class Outcome:
    """What the demonstration came to."""

    totals: Mapping[str, int]
    resyncs: Mapping[str, int]
    faults: Mapping[str, int]
    failures: tuple[str, ...]


def plan(events: int, rng: random.Random) -> list[Fault]:
    """Choose the faults for so many events, in order.

    From `FULL` events on, all of `REQUIRED` are among them; with fewer, as many as there is room
    for.
    """
    required = list(REQUIRED.elements())
    rng.shuffle(required)
    further = min(max(0, events - FULL) // _EVENTS_PER_FAULT, _MAX_FURTHER)
    chosen = required + rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=further)
    # The end of the story takes two events: the end of its last run, and one more for an odd one.
    room = events - 2
    faults: list[Fault] = []
    for fault in chosen:
        if fault.cost <= room:
            room -= fault.cost
            faults.append(fault)
    rng.shuffle(faults)
    return faults


async def play(
    adapter: Adapter,
    events: int,
    seed: int,
    *,
    watch: Callable[[Stage], None],
    note: Callable[[str], None],
) -> Outcome:
    """Play it all. `watch` is told of the stage, `note` of each fault that happened."""
    rng = random.Random(seed)  # noqa: S311 - the same course for the same seed, no secret
    faults = plan(events, rng)
    played: Counter[str] = Counter()
    failures: list[str] = []
    stage = Stage(adapter, events=events, rng=rng)
    try:
        async with stage:
            watch(stage)
            await _perform(stage, faults, played, note)
    except DemoFailedError as error:
        failures.append(str(error))
    totals = {
        **stage.account.totals(),
        "disconnects": stage.proxy.disconnects,
        "restarts": stage.restarts,
        "resyncs": stage.account.resyncs.total(),
    }
    failures += _failures(stage, totals)
    if events >= FULL:
        failures += _missing(stage, totals, played)
    return Outcome(
        totals=totals, resyncs=stage.account.resyncs, faults=played, failures=tuple(failures)
    )


async def _perform(
    stage: Stage, faults: list[Fault], played: Counter[str], note: Callable[[str], None]
) -> None:
    owed = sum(fault.cost for fault in faults)
    for number, fault in enumerate(faults):
        spare = stage.remaining - owed - 2
        await stage.tell(spare // (len(faults) - number + 1))
        await fault.play(stage)
        owed -= fault.cost
        played[fault.name] += 1
        note(fault.name)
    await stage.tell(stage.remaining - 1)
    stage.publish(stage.story.final() if stage.story.in_run else stage.story.note())
    await stage.until(lambda: stage.at_head, "the client is given all there is")


def _failures(stage: Stage, totals: Mapping[str, int]) -> list[str]:
    account = stage.account
    failures = list(account.problems)
    failures += [f"{totals[name]} {name}" for name in ("lost", "duplicates") if totals[name]]
    if not account.converged():
        failures.append("the client's state is not the gateway's")
    return failures


def _missing(stage: Stage, totals: Mapping[str, int], played: Counter[str]) -> list[str]:
    """Name what did not happen: a demonstration without its faults proves nothing."""
    happened = {
        f"{_MIN_DISCONNECTS} disconnects": totals["disconnects"] >= _MIN_DISCONNECTS,
        "a skip": totals["skipped"] > 0,
        "a cut in mid-replay": stage.cut_in_replay > 0,
        "a snapshot for a trimmed journal": stage.account.resyncs["trimmed"] > 0,
        "a snapshot for a new epoch": stage.account.resyncs["epoch_changed"] > 0,
        "two restarts": totals["restarts"] > 1,
        **{fault.name: played[fault.name] > 0 for fault in REQUIRED},
    }
    return [f"this did not happen: {name}" for name, seen in happened.items() if not seen]

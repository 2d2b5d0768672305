"""The laws that a projection keeps, so that clients converge: to be used on one of your own.

A gateway folds every event. A client may load a snapshot and fold what follows, and it may have
been spared events that were superseded. All of them must come to the same state, byte for byte.

Spec: Snapshots; Terms (run).
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from typing import Any, Final

from gatewayproto import codec
from gatewayproto.frames import MAX_DEPTH, Event, Object
from gatewayproto.projection import Projection
from gatewayproto.testing.steps import Violation

Factory = Callable[[], Projection]
"""Makes an empty projection, as `GatewayConfig.projection` does."""

STATE_DEPTH: Final = MAX_DEPTH - 1
"""How deep a state may nest: a snapshot's frame is around it."""


def superseded(log: Sequence[Event]) -> frozenset[int]:
    """The seqs of a log that a final in it supersedes; the first event is seq 1.

    A final supersedes the transient events of its run since that id's previous final.

    Spec: Terms (run).
    """
    open_runs: dict[str, list[int]] = defaultdict(list)
    found: set[int] = set()
    for seq, event in enumerate(log, start=1):
        if event.run_id is None:
            continue
        if event.transient:
            open_runs[event.run_id].append(seq)
        elif event.final:
            found.update(open_runs.pop(event.run_id, ()))
    return frozenset(found)


def fold(factory: Factory, log: Sequence[Event], *, but: Collection[int] = ()) -> Projection:
    """A projection with a log folded in, without the seqs `but`; the first event is seq 1."""
    projection = factory()
    for seq, event in enumerate(log, start=1):
        if seq not in but:
            projection.apply(seq, event)
    return projection


def check_projection(
    factory: Factory, log: Sequence[Event], *, max_state: int | None = None
) -> None:
    """Check every law of a projection on one log, whose first event is seq 1.

    - A state is plain JSON data of its own, and nests no deeper than a snapshot can.
    - It depends on the events alone; reading it changes nothing.
    - Whoever loads it, at any point, goes on as one who never left, whatever he had before.
    - Superseded events make no difference once their final was applied.
    - Nothing that was handed in or out is changed afterwards.
    - It takes no more than `max_state` bytes, encoded, where that is given.

    It folds the log once for each of its events: a hundred events are a fraction of a second.
    What it raises names the law and the seq. What the projection raises comes out as it is: a
    projection that raises breaks the first of its laws.

    Raises:
        Violation: A law is broken.
    """
    states = _check_states(factory, log, max_state)
    _check_loading(factory, log, states)
    _check_superseded(factory, log, states)


def demand_same(one: Object, other: Object, what: str) -> None:
    """Raise a `Violation` of P5 where two states differ."""
    if codec.canonical(one) != codec.canonical(other):
        raise Violation("P5", f"{what}: {_shown(one)} is not {_shown(other)}")


def plain_copy(state: Object, *, max_state: int | None = None) -> Object:
    """A state as it is after a journey: encoded and decoded.

    Raises:
        Violation: It is no plain JSON data, nests too deep, or takes more than `max_state` bytes.
    """
    try:
        codec.check_plain(state, max_depth=STATE_DEPTH)
        encoded = json.dumps(state, allow_nan=False)
    except (TypeError, ValueError, RecursionError, AttributeError) as error:
        raise Violation("P5", f"the state is no plain JSON data: {error}") from error
    copy: Object = json.loads(encoded)
    if copy != state:  # a tuple, for instance, comes back as a list
        raise Violation("P5", f"{_shown(state)} is {_shown(copy)} after a journey")
    size = len(codec.canonical(state))
    if max_state is not None and size > max_state:
        raise Violation("P9", f"a state of {size} bytes, over {max_state}")
    return copy


def _check_states(factory: Factory, log: Sequence[Event], max_state: int | None) -> list[Object]:
    """The state after each event, the first one before any."""
    projection, twin = factory(), factory()
    handed_out = [projection.state()]
    states = [plain_copy(handed_out[0], max_state=max_state)]
    for seq, event in enumerate(log, start=1):
        before = deepcopy(event)
        projection.apply(seq, event)
        twin.apply(seq, event)
        state = projection.state()
        handed_out.append(state)
        try:
            states.append(plain_copy(state, max_state=max_state))
        except Violation as violation:
            raise Violation(violation.prop, f"after {seq}: {violation.text}") from violation
        if event != before:
            raise Violation("P5", f"event {seq} was changed when it was applied")
        demand_same(projection.state(), states[-1], f"reading the state twice after {seq}")
    demand_same(twin.state(), states[-1], "the same events, unread until the end")
    for seq, (given, kept) in enumerate(zip(handed_out, states, strict=True)):
        demand_same(given, kept, f"the state that was handed out after {seq}, at the end")
    return states


def _check_loading(factory: Factory, log: Sequence[Event], states: list[Object]) -> None:
    """Whoever loads the state after `cut` events, and goes on, is where everybody is."""
    stepwise, used = factory(), fold(factory, log)
    for cut, state in enumerate(states):
        given: Object = json.loads(json.dumps(state))
        used.load(given)
        demand_same(used.state(), state, f"one who loaded the state after {cut}")
        for seq, event in enumerate(log[cut:], start=cut + 1):
            used.apply(seq, event)
        demand_same(used.state(), states[-1], f"one who loaded the state after {cut} and went on")
        demand_same(given, state, f"the state after {cut} that was loaded, at the end")
        if cut < len(log):
            stepwise.load(json.loads(json.dumps(state)))
            stepwise.apply(cut + 1, log[cut])
            demand_same(stepwise.state(), states[cut + 1], f"one who loads anew before {cut + 1}")


def _check_superseded(factory: Factory, log: Sequence[Event], states: list[Object]) -> None:
    gone = superseded(log)
    for seq, event in enumerate(log, start=1):
        if event.final:
            so_far = superseded(log[:seq])
            spared = fold(factory, log[:seq], but=so_far).state()
            demand_same(spared, states[seq], f"one who was spared {sorted(so_far)}, at {seq}")
    for but in (gone, *(frozenset({seq}) for seq in gone)):
        spared = fold(factory, log, but=but).state()
        demand_same(spared, states[-1], f"one who was spared {sorted(but)}, at the end")


def _shown(state: Any) -> str:
    text = repr(state)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


_LONGEST_TEXT: Final = 400

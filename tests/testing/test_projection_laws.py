"""The laws of a projection: the default one keeps them, a broken one breaks the one meant."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from gatewayproto import Event
from gatewayproto.frames import Object
from gatewayproto.projection import Projection, Transcript
from gatewayproto.testing.projections import (
    STATE_DEPTH,
    check_projection,
    fold,
    plain_copy,
    superseded,
)
from gatewayproto.testing.steps import Violation
from gatewayproto.testing.strategies import logs, projection_machine

BOUNDS = st.sampled_from([0, 8, 100, 300, 512 * 1024])


@given(logs(), BOUNDS)
@settings(max_examples=60)
def test_the_transcript_keeps_every_law(log: tuple[Event, ...], max_bytes: int) -> None:
    check_projection(lambda: Transcript(max_bytes), log)


TestTranscript = projection_machine(Transcript).TestCase
TestTranscript.settings = settings(max_examples=25, stateful_step_count=30)


class Last:
    """A correct projection to break: the latest durable event, and the text of open runs."""

    def __init__(self) -> None:
        self.last: Any = None
        self.runs: dict[str, str] = {}

    def apply(self, seq: int, event: Event, /) -> None:
        if not event.transient:
            self.last = {"seq": seq, "data": event.data}
        if event.run_id is not None:
            if event.final:
                self.runs.pop(event.run_id, None)
            elif event.transient:
                text = str(event.data.get("text", ""))
                self.runs[event.run_id] = (self.runs.get(event.run_id, "") + text)[-100:]

    def state(self) -> Object:
        return {"last": self.last, "runs": dict(self.runs)}

    def load(self, state: Object, /) -> None:
        self.last, self.runs = state["last"], dict(state["runs"])


class CountsEverything(Last):
    count = 0

    def apply(self, seq: int, event: Event, /) -> None:
        super().apply(seq, event)
        self.count += 1

    def state(self) -> Object:
        return {**super().state(), "count": self.count}

    def load(self, state: Object, /) -> None:
        super().load(state)
        self.count = state["count"]


class KeepsRunsBeyondTheirFinal(Last):
    def apply(self, seq: int, event: Event, /) -> None:
        runs = dict(self.runs)
        super().apply(seq, event)
        self.runs = {**runs, **self.runs}


class RemembersTheFirstToken(Last):
    """Of each run, also after its final: only one who was spared it does not know it."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, int] = {}

    def apply(self, seq: int, event: Event, /) -> None:
        super().apply(seq, event)
        if event.transient and event.run_id is not None:
            self.first.setdefault(event.run_id, seq)

    def state(self) -> Object:
        return {**super().state(), "first": dict(self.first)}

    def load(self, state: Object, /) -> None:
        super().load(state)
        self.first = dict(state["first"])


class HandsOutItsOwn(Last):
    def state(self) -> Object:
        return {"last": self.last, "runs": self.runs}


class TakesOverWhatItLoads(Last):
    def load(self, state: Object, /) -> None:
        self.last, self.runs = state["last"], state["runs"]


class ForgetsWhatIsInFlight(Last):
    def load(self, state: Object, /) -> None:
        self.last, self.runs = state["last"], {}


class AddsWhatItLoads(Last):
    def load(self, state: Object, /) -> None:
        self.last = state["last"]
        self.runs.update(state["runs"])


class HidesWhatItNeeds(Last):
    """What goes on depends on something that no state tells."""

    parity = 0

    def apply(self, seq: int, event: Event, /) -> None:
        super().apply(seq, event)
        self.parity ^= not event.transient
        if self.parity and self.last is not None:
            self.last["odd"] = True


class HoldsTuples(Last):
    def state(self) -> Object:
        return {**super().state(), "pair": (1, 2)}


class HoldsNumbersAsNames(Last):
    def state(self) -> Object:
        return {**super().state(), "seqs": {1: 2}}


class HoldsNoNumber(Last):
    def state(self) -> Object:
        return {**super().state(), "rate": float("nan")}


class HoldsASet(Last):
    def state(self) -> Object:
        return {**super().state(), "open": set(self.runs)}


class NestsEverDeeper(Last):
    def apply(self, seq: int, event: Event, /) -> None:
        self.last = [self.last, seq, event.type]


class DependsOnWhoAsks(Last):
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.number = next(self.numbers)

    def state(self) -> Object:
        return {**super().state(), "number": self.number}


class CountsItsReaders(Last):
    count = 0

    def state(self) -> Object:
        self.count += 1
        return {**super().state(), "count": self.count}


class ChangesEvents(Last):
    def apply(self, seq: int, event: Event, /) -> None:
        super().apply(seq, event)
        event.data["seq"] = seq


class RaisesAtTheUnknown(Last):
    def apply(self, seq: int, event: Event, /) -> None:
        super().apply(seq, event)
        if event.type == "question":
            raise KeyError(event.type)


def note(text: str = "", **fields: Any) -> Event:
    fields.setdefault("type", "note")
    fields.setdefault("data", {"text": text})
    return Event(event_id="e", timestamp=0.0, **fields)


def token(run_id: str, text: str) -> Event:
    return note(text, transient=True, run_id=run_id)


LOG = (
    note("one"),
    token("r", "a"),
    token("s", "b"),
    note("two", final=True, run_id="r"),
    token("r", "c"),
    note("three"),
    note("four", type="question", expects_reply=True),
    note("five", final=True, run_id="s"),
    *(note(str(n)) for n in range(STATE_DEPTH)),
)
BROKEN: list[tuple[Callable[[], Projection], str]] = [
    (CountsEverything, "spared"),
    (KeepsRunsBeyondTheirFinal, "spared"),
    (RemembersTheFirstToken, "spared"),
    (HandsOutItsOwn, "handed out"),
    (TakesOverWhatItLoads, "that was loaded"),
    (ForgetsWhatIsInFlight, "who loaded"),
    (AddsWhatItLoads, "who loaded"),
    (HidesWhatItNeeds, "went on"),
    (HoldsTuples, "after a journey"),
    (HoldsNumbersAsNames, "no plain JSON"),
    (HoldsNoNumber, "no plain JSON"),
    (HoldsASet, "no plain JSON"),
    (NestsEverDeeper, "no plain JSON"),
    (DependsOnWhoAsks, "the same events"),
    (CountsItsReaders, "reading the state twice"),
    (ChangesEvents, "was changed"),
]


def test_the_projection_that_they_are_made_of_keeps_every_law() -> None:
    check_projection(Last, LOG)


@pytest.mark.parametrize(("factory", "law"), BROKEN)
def test_a_broken_law_is_named(factory: Callable[[], Projection], law: str) -> None:
    with pytest.raises(Violation, match=law) as caught:
        check_projection(factory, LOG)
    assert caught.value.prop == "P5"


def test_what_a_projection_raises_comes_out() -> None:
    with pytest.raises(KeyError, match="question"):
        check_projection(RaisesAtTheUnknown, LOG)


def test_a_state_over_its_bound_is_named() -> None:
    check_projection(Last, LOG, max_state=200)
    with pytest.raises(Violation, match="bytes, over 50") as caught:
        check_projection(Last, LOG, max_state=50)
    assert caught.value.prop == "P9"


@pytest.mark.parametrize(
    "factory",
    [CountsEverything, ForgetsWhatIsInFlight, HidesWhatItNeeds],
)
def test_hypothesis_finds_what_a_fixed_log_would_miss(factory: Callable[[], Projection]) -> None:
    unshrunk = settings(max_examples=500, phases=[Phase.generate])
    with pytest.raises(Violation):
        run_state_machine_as_test(projection_machine(factory), settings=unshrunk)

    @unshrunk
    @given(logs(max_size=12))
    def laws(log: tuple[Event, ...]) -> None:
        check_projection(factory, log)

    with pytest.raises(Violation):
        laws()


@given(logs())
def test_what_is_superseded_is_transient_and_of_an_ended_run(log: tuple[Event, ...]) -> None:
    gone = superseded(log)
    assert all(log[seq - 1].transient for seq in gone)
    for seq, event in enumerate(log, start=1):
        later = [each for each in log[seq:] if each.final and each.run_id == event.run_id]
        assert (seq in gone) is (event.transient is True and event.run_id is not None
                                 and bool(later))  # fmt: skip


def test_a_state_comes_back_from_its_journey_as_a_copy() -> None:
    state = fold(Last, LOG).state()
    copy = plain_copy(state)
    assert copy == state
    assert copy is not state

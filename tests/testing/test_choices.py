"""Where choices come from: seeded, recorded, and everything there is, one after the other."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto.testing.choices import Choices, Odometer, Recorded, Recorder, Seeded, pick

SIZES = st.lists(st.integers(1, 50), max_size=40)


@given(st.integers(), SIZES)
def test_the_same_seed_chooses_the_same_within_bounds(seed: int, sizes: list[int]) -> None:
    one, other = Seeded(seed), Seeded(seed)
    chosen = [one.choose(n) for n in sizes]
    assert chosen == [other.choose(n) for n in sizes]
    assert all(0 <= each < n for each, n in zip(chosen, sizes, strict=True))


def test_a_seeded_source_chooses_everything_in_the_end() -> None:
    choices = Seeded(7)
    assert {choices.choose(5) for _ in range(200)} == set(range(5))


@given(st.integers(), SIZES)
def test_a_recorded_trace_repeats_a_run_and_chooses_the_first_after_its_end(
    seed: int, sizes: list[int]
) -> None:
    recorder = Recorder(Seeded(seed))
    chosen = [recorder.choose(n) for n in sizes]
    recorded = Recorded(recorder.trace)
    assert [recorded.choose(n) for n in sizes] == chosen
    assert recorded.choose(9) == 0


@given(st.lists(st.integers(0, 10**9), min_size=1), st.integers(1, 9))
def test_any_trace_stays_within_bounds(trace: list[int], n: int) -> None:
    recorded = Recorded(trace)
    assert all(0 <= recorded.choose(n) < n for _ in trace)


@given(st.lists(st.integers(1, 4), max_size=5))
def test_an_odometer_tries_every_sequence_once_the_last_wheel_fastest(sizes: list[int]) -> None:
    odometer = Odometer()
    runs = [tuple(odometer.choose(n) for n in sizes) for _ in odometer.runs()]
    assert runs == list(product(*map(range, sizes)))


def test_an_odometer_follows_runs_whose_later_choices_depend_on_earlier_ones() -> None:
    def walk(choices: Choices) -> str:
        word = ""
        while len(word) < 3:
            word += pick(choices, "ab." if word else "ab")
            if word.endswith("."):
                break
        return word

    odometer = Odometer()
    words = [walk(odometer) for _ in odometer.runs()]
    assert len(words) == len(set(words)) == 14
    assert {"a.", "b.", "aa.", "bbb"} < set(words)


def test_a_run_that_is_not_the_same_when_repeated_is_found_out() -> None:
    odometer = Odometer()
    runs = odometer.runs()
    next(runs)
    odometer.choose(2)
    odometer.choose(2)
    next(runs)
    odometer.choose(2)
    with pytest.raises(ValueError, match="asks for one of 3, formerly of 2"):
        odometer.choose(3)

"""Delays between attempts: a pure function, within its bounds whatever it is given."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto.backoff import Backoff

CHANCE = st.floats(0, 1, exclude_max=True)
BACKOFFS = st.tuples(
    st.floats(1e-6, 1e9), st.floats(1e-6, 1e9), st.floats(1, 1e9), st.floats(0, 1)
).map(
    lambda drawn: Backoff(
        initial=min(drawn[:2]), maximum=max(drawn[:2]), multiplier=drawn[2], jitter=drawn[3]
    )
)


def test_delays_grow_from_the_initial_one_to_the_maximum() -> None:
    backoff = Backoff(initial=1.0, maximum=10.0, multiplier=2.0, jitter=0.0)
    assert [backoff.delay(attempt, 0.9) for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_jitter_is_the_part_left_to_chance_and_only_shortens() -> None:
    backoff = Backoff(initial=8.0, maximum=8.0, jitter=0.25)
    assert backoff.delay(1, 0.0) == 8.0
    assert backoff.delay(1, 0.5) == 7.0


@given(backoff=BACKOFFS, attempt=st.integers(1, 10**9), random=CHANCE)
def test_a_delay_is_never_above_the_maximum_nor_below_its_share(
    backoff: Backoff, attempt: int, random: float
) -> None:
    delay = backoff.delay(attempt, random)
    assert 0 <= delay <= backoff.maximum
    assert delay >= backoff.initial * (1 - backoff.jitter) * (1 - 1e-9)


@given(
    backoff=BACKOFFS,
    attempt=st.integers(1, 10**9),
    random=CHANCE,
    floor=st.floats(0, 1e12),
)
def test_the_floor_wins_over_the_maximum_and_changes_nothing_else(
    backoff: Backoff, attempt: int, random: float, floor: float
) -> None:
    assert backoff.delay(attempt, random, floor=floor) == max(backoff.delay(attempt, random), floor)


@given(backoff=BACKOFFS, attempt=st.integers(1, 5000), random=CHANCE)
def test_a_later_attempt_never_waits_less(backoff: Backoff, attempt: int, random: float) -> None:
    assert backoff.delay(attempt + 1, random) >= backoff.delay(attempt, random)


@pytest.mark.parametrize(
    "fields",
    [
        {"initial": 0.0},
        {"initial": -1.0},
        {"initial": float("nan")},
        {"initial": float("inf")},
        {"maximum": float("inf")},
        {"maximum": 0.5},
        {"multiplier": 0.9},
        {"multiplier": float("inf")},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": float("nan")},
    ],
)
def test_values_out_of_bounds_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Backoff(**fields)

"""The plans of a fault proxy: what a seed says is all there is to them, and what they come to."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.lane import Gather, Lane, Op, Read, Send, Sever, Wait
from tests.faults.plan import (
    MAX_PIECE,
    Coalesce,
    CutKind,
    Pass,
    Plan,
    Profile,
    Split,
    Stall,
    Stretch,
    Throttle,
    plan,
)

lengths = st.integers(1, 60)
seconds = st.floats(0, 5)
stretches: st.SearchStrategy[Stretch] = st.one_of(
    st.builds(Pass, lengths),
    st.builds(Split, lengths, st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)),
    st.builds(Coalesce, lengths, st.integers(1, 40), seconds),
    st.builds(Throttle, lengths, st.floats(1, 100), st.integers(1, 30)),
    st.builds(Stall, seconds),
)
lanes = st.lists(stretches, max_size=6).map(tuple)
arrivals = st.lists(st.integers(1, 50), max_size=20)


def played(lane: Lane, arrivals: list[int]) -> list[Op]:
    """All that a lane says while bytes come in so many portions; each is read when it asks."""
    ops: list[Op] = []
    coming, held = list(reversed(arrivals)), 0
    while True:
        ops.append(op := lane.next(held))
        match op:
            case Read():
                assert held == 0
                if not coming:
                    return ops
                held += coming.pop()
            case Gather(size=size):
                while coming and held < size:
                    held += coming.pop()
            case Send(size=size):
                assert 0 < size <= held
                held -= size
            case Wait():
                pass
            case Sever():
                return ops


def sent(ops: list[Op]) -> list[int]:
    return [op.size for op in ops if isinstance(op, Send)]


def paused(ops: list[Op]) -> float:
    waits = sum(op.seconds for op in ops if isinstance(op, Wait))
    return waits + sum(op.pause for op in ops if isinstance(op, Send))


# -- lanes ------------------------------------------------------------------------------------


@given(lanes, arrivals)
def test_every_byte_goes_once_and_in_order(lane: tuple[Stretch, ...], portions: list[int]) -> None:
    assert sum(sent(played(Lane(lane), portions))) == sum(portions)


@given(lanes, arrivals, st.integers(0, 200))
def test_a_cut_comes_at_its_byte(
    lane: tuple[Stretch, ...], portions: list[int], cut_at: int
) -> None:
    ops = played(Lane(lane, cut_at), portions)

    assert sum(sent(ops)) == min(sum(portions), cut_at)
    assert isinstance(ops[-1], Sever) == (sum(portions) >= cut_at)


@given(lanes, arrivals)
def test_how_bytes_come_decides_neither_what_is_split_nor_how_long_it_takes(
    lane: tuple[Stretch, ...], portions: list[int]
) -> None:
    at_once = played(Lane(lane), [sum(portions)] if portions else [])
    ops = played(Lane(lane), portions)

    def ends(ops: list[Op]) -> set[int]:
        sizes = sent(ops)
        return {sum(sizes[: number + 1]) for number in range(len(sizes))}

    # These two send what is there, up to a size; the others have their pieces planned.
    if not any(isinstance(each, Coalesce | Throttle) for each in lane):
        assert ends(at_once) <= ends(ops)
    assert paused(ops) == pytest.approx(paused(at_once))


@given(
    st.integers(1, 300), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 400)
)
def test_pieces_have_the_planned_sizes(length: int, sizes: list[int], size: int) -> None:
    pieces = sent(played(Lane((Split(length, tuple(sizes)),)), [size]))

    within = min(length, size)
    for number, piece in enumerate(pieces):
        assert piece == min(sizes[number % len(sizes)], within) or within == 0
        within -= min(piece, within)
        if within == 0:
            break


@given(st.integers(1, 300), st.floats(1, 100), st.integers(1, 30))
def test_a_throttled_stretch_takes_its_time(length: int, rate: float, size: int) -> None:
    ops = played(Lane((Throttle(length, rate, size),)), [length + 5])

    assert paused(ops) == pytest.approx(length / rate)
    assert all(each <= size for each in sent(ops)[:-1])


@given(st.integers(1, 30), st.integers(1, 30))
def test_bytes_are_gathered_until_there_are_enough(portion: int, size: int) -> None:
    portions = [portion] * 10
    first = sent(played(Lane((Coalesce(10_000, size, 1.0),)), portions))[0]

    assert first == min(size, 10 * portion)


@given(lanes, arrivals, arrivals, st.integers(0, 200))
def test_a_healed_lane_lets_everything_pass(
    lane: tuple[Stretch, ...], before: list[int], after: list[int], cut_at: int
) -> None:
    healed = Lane(lane, cut_at)
    ops = played(healed, before)
    held = sum(before) - sum(sent(ops))
    healed.heal()
    portions = [held, *after] if held else after

    ops = played(healed, portions)
    assert sum(sent(ops)) == sum(portions)
    assert not any(isinstance(op, Wait | Gather | Sever) for op in ops)


# -- plans ------------------------------------------------------------------------------------

seeds = st.integers(0, 2**63)
numbers = st.integers(1, 10**9)


@given(seeds, numbers, st.lists(numbers, max_size=5))
def test_a_plan_is_that_of_its_seed_and_number_whatever_else_is_asked(
    seed: int, number: int, others: list[int]
) -> None:
    first = plan(seed, number)
    for other in others:
        plan(seed, other)
    random.seed(number)

    assert plan(seed, number) == first


def test_seeds_and_numbers_make_a_difference() -> None:
    profile = Profile(calm=0.0, cut=1.0)
    plans = {repr(plan(seed, number, profile)) for seed in range(10) for number in range(1, 30)}

    assert len(plans) == 290


@given(seeds, numbers)
def test_a_plan_is_within_its_profile(seed: int, number: int) -> None:
    profile = Profile(calm=0.0, stall=0.5, linger=0.01, cut_within=5000, hold=3.0, stretches=4)
    planned = plan(seed, number, profile)

    for lane in (planned.up, planned.down):
        assert len(lane) <= profile.stretches
        for stretch in lane:
            match stretch:
                case Stall(seconds=pause):
                    assert 0 <= pause <= profile.stall
                case Coalesce(size=size, linger=linger):
                    assert size <= MAX_PIECE
                    assert linger <= profile.linger
                case Pass(length=length) | Split(length=length) | Throttle(length=length):
                    assert 1 <= length <= profile.stretch
    if planned.cut is not None:
        assert 1 <= planned.cut.at <= profile.cut_within
        assert profile.hold / 2 <= planned.cut.hold <= profile.hold


def test_every_fault_is_planned_before_long() -> None:
    plans = [plan(1, number) for number in range(1, 201)]
    kinds = Counter(type(each).__name__ for each in sum((p.up + p.down for p in plans), ()))
    cuts = Counter(each.cut.kind for each in plans if each.cut is not None)

    assert set(kinds) == {"Pass", "Split", "Coalesce", "Throttle", "Stall"}
    assert set(cuts) == set(CutKind)
    assert {each.cut.direction for each in plans if each.cut} == {"up", "down"}
    assert any(each.calm for each in plans)


def test_shares_are_shares() -> None:
    assert all(plan(1, number, Profile(calm=1.0)) == Plan() for number in range(1, 50))
    assert all(plan(1, number, Profile(cut=0.0)).cut is None for number in range(1, 50))
    only = Profile(calm=0.0, cut=1.0, fins=0.0, rsts=0.0, silents=1.0, swallows=0.0)
    cuts = [plan(1, number, only).cut for number in range(1, 50)]
    assert all(cut is not None and cut.kind is CutKind.SILENT for cut in cuts)


@pytest.mark.parametrize(
    "wrong",
    [
        {"calm": 1.1},
        {"cut": -0.1},
        {"cut_within": 0},
        {"hold": 0.0},
        {"stall": -1.0},
        {"fins": 0.0, "rsts": 0.0, "silents": 0.0, "swallows": 0.0},
    ],
)
def test_a_profile_out_of_bounds_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must"):
        Profile(**wrong)  # type: ignore[arg-type] # by name

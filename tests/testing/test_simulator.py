"""The simulator: no seed breaks a property, everything is witnessed, and what breaks is shown."""

import pytest
from hypothesis import given, settings

from gatewayproto.testing.campaign import campaign
from gatewayproto.testing.choices import Choices
from gatewayproto.testing.monitors import missing_witnesses
from gatewayproto.testing.profiles import BUILDING, FAULTS, NAMES, PUSHES, RATES
from gatewayproto.testing.simulator import Failure, replay, run, shrink, simulate
from gatewayproto.testing.strategies import choices
from tests.testing.broken import resume_below_the_floor

_SEEDS = 1_000


def test_a_thousand_worlds_keep_every_property_and_witness_each() -> None:
    result = campaign("swarm", range(_SEEDS))
    assert result.broken == ()
    assert missing_witnesses(result.witnessed) == []


@pytest.mark.parametrize("profile", NAMES)
def test_every_profile_keeps_every_property(profile: str) -> None:
    assert campaign(profile, range(5_000, 5_020)).broken == ()


def test_worlds_with_pushes_witness_them() -> None:
    result = campaign("pushes", range(40))
    assert result.broken == ()
    forms = {f"P14 {form} pushed" for form in ("change", "list", "count", "health")}
    forms.add("P14 knows the list at rest")
    assert forms | {"P17 credentials expired", "P15 tries a newer token"} <= result.witnessed.keys()
    assert {kind.value for kind in PUSHES} <= result.happened.keys()


def test_worlds_whose_application_builds_the_snapshots_witness_every_way_it_may_go() -> None:
    result = campaign("building", range(30, 80))
    assert result.broken == ()
    assert {
        "P4 welcome waits",
        "P4 welcome waits longer",
        "P4 welcome waited",
        "P4 sequence behind the head",
        "P5 subscriber waits",
        "P5 snapshot behind the head",
        "P5 state refused, behind the floor",
        "P5 state refused, behind what was sent",
        "P5 state refused, of a former epoch",
        "P9 asked",
        "P9 asked again",
        "P9 several wait for one state",
        "P9 closed, no answer came",
        "P9 closed, no answer helped",
        "P10 session outlives its window, somebody waits",
    } <= result.witnessed.keys()
    assert {kind.value for kind in BUILDING} <= result.happened.keys()


def test_worlds_with_tight_rates_witness_each() -> None:
    result = campaign("rates", range(30))
    assert result.broken == ()
    assert {
        "P9 too many frames",
        "P9 recovery refused",
        "P9 too many connections from one address",
        "P9 too many handshakes from one address",
        "P9 too many sessions of one owner",
    } <= result.witnessed.keys()
    assert {kind.value for kind in RATES} <= result.happened.keys()


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("profile", ["swarm", "everything"])
def test_many_more_worlds_keep_every_property(profile: str) -> None:
    assert campaign(profile, range(10_000, 30_000)).broken == ()


@given(choices())
@settings(max_examples=50)
def test_whatever_hypothesis_chooses_every_property_is_kept(source: Choices) -> None:
    run("everything", source, deeds=40)


def test_the_same_seed_gives_the_same_digest_and_another_another() -> None:
    assert simulate("swarm", 11) == simulate("swarm", 11)
    assert simulate("swarm", 11).digest != simulate("swarm", 12).digest


@pytest.mark.parametrize("fault", FAULTS)
def test_a_profile_does_what_it_is_named_for(fault: str) -> None:
    happened = campaign(fault, range(12)).happened
    assert {kind.value for kind in FAULTS[fault]} <= happened.keys()


def first_failure(profile: str = "swarm") -> Failure:
    for seed in range(200):
        try:
            simulate(profile, seed)
        except Failure as failure:
            return failure
    raise AssertionError("no seed found it")


def test_a_failure_is_repeated_by_its_trace_and_made_shorter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resume_below_the_floor(monkeypatch)
    failure = first_failure()
    again = replay(failure)
    assert again is not None
    assert str(again) == str(failure)
    shorter = shrink(failure)
    assert shorter.violation.prop == failure.violation.prop
    assert len(shorter.trace) < len(failure.trace)
    assert len(shorter.steps) <= len(failure.steps)
    repeated = replay(shorter)
    assert repeated is not None
    assert str(repeated) == str(shorter)


def test_a_failure_reads_as_a_transcript(monkeypatch: pytest.MonkeyPatch) -> None:
    resume_below_the_floor(monkeypatch)
    text = str(first_failure())
    assert " gateway  < " in text
    assert text.splitlines()[-1].startswith("P")


def test_a_trace_of_a_run_that_breaks_nothing_gives_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        resume_below_the_floor(patch)
        failure = first_failure()
    assert replay(failure) is None


def test_a_profile_that_there_is_not_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        simulate("wild", 1)

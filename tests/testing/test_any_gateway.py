"""A gateway alone is right against any peers, and the layer that shows it sees what is wrong."""

from collections import Counter
from functools import partial

import pytest
from hypothesis import given, settings

from gatewayproto.testing.any_peer.gateway import STATES, exhaust_gateway, run_gateway
from gatewayproto.testing.any_peer.runs import Broken, Run, survey
from gatewayproto.testing.choices import Choices, Recorded, Seeded
from gatewayproto.testing.monitors import missing_witnesses
from gatewayproto.testing.strategies import choices
from tests.mutants.catalog import ABOUT, MUTANTS
from tests.mutants.patching import applied
from tests.mutants.store_bugs import WRITE_AHEAD_BUGS

SEEDS = 350
DEEP = ("in a snapshot's parts", "live")
REASONS = ("trimmed", "epoch_changed", "cursor_ahead", "requested")
WITNESSES = {
    # Handshakes, in both spellings and in the words of both versions.
    *("welcome: new", "welcome: None", *(f"welcome: {reason}" for reason in REASONS)),
    *(
        f"rejected {code}, {spelling}"
        for code in ("invalid_protocol_hello", "invalid_cursor", "version_unsupported")
        for spelling in ("hello 1", "hello 2", "join 1", "join 2")
    ),
    *("rejected auth_unauthorized, hello 2", "rejected handshake_timeout, error 2"),
    *("another principal's session", "too many sessions", "too many connections"),
    *("too many early frames", "a second attach", "welcome without presence"),
    # Delivery.
    *("sent event", "sent replay", "sent skip", "sent caught_up", "sent snapshot", "a part"),
    *(f"snapshot: {reason}" for reason in (*REASONS, "lagged")),
    *("event waits for room", "skip waits for room", "caught_up waits for room"),
    *("a snapshot waits for room", "a part waits for room", "a snapshot is shed"),
    *("an event too large for its client", "published to one who lags", "epoch changed"),
    *("resume merged", "resync merged", *(f"resume: {reason}" for reason in REASONS[:3])),
    # Requests.
    *("acknowledged", "acknowledged again", "refused request_conflict", "refused inbox_full"),
    *("refused invalid_request", "refused already_answered", "a request forgotten"),
    # Ends, and time.
    *(f"closed {code}" for code in (1000, 1012, 4001, 4002, 4003, 4005, 4506, 4507)),
    *("stalled", "sent ping", "answers unread", "told SessionExpired", "told CommandDropped"),
    *("swapped", "restarted whole", "restarted store", "restarted copy", "restarted nothing"),
    *("joining: malformed_frame", "opening: malformed_frame", "live: malformed_frame"),
}


def test_whatever_the_peers_do_the_gateway_does_what_is_specified() -> None:
    seen = survey(run_gateway, range(SEEDS))
    assert WITNESSES - set(seen.witnessed) == set()
    assert missing_witnesses(seen.witnessed, "gateway") == []


BUILDING_SEEDS = 100
BUILDING_WITNESSES = {
    *("a welcome waits for its state", "a snapshot waits for its state"),
    *("a welcome waited in vain", "a snapshot waited in vain", "asked often enough"),
    *("a state of a former epoch", "mistake: a state of a cursor that is not reached"),
    *("mistake: a state that is too large", "P4 welcome waited", "P4 welcome waits longer"),
    *("P9 asked again", "swapped"),
}
RATE_SEEDS = 80
RATE_WITNESSES = {
    *("opening: too many frames", "joining: too many frames", "live: too many frames"),
    *("connections too often", "handshakes too often", "sessions too often"),
    *("recovers too often", "swapped"),
}
PUSH_SEEDS = 200
PUSH_WITNESSES = {
    *("P14 change pushed", "P14 list pushed", "P14 count pushed", "P14 health pushed"),
    *("P17 credentials expired", "a change and back is not pushed", "a push waits for room"),
    *("a push to one who lags waits", "a push that waited", "a health too large for its client"),
    *("renewed", "renewed unasked", "a token waits", "another principal's credentials"),
    *("ended by the application", "told AuthRequested", "told AbortRequested", "closed 4006"),
    *("mistake: credentials that are good for no time", "swapped"),
}


def test_presence_health_and_credentials_are_told_as_specified() -> None:
    seen = survey(partial(run_gateway, about="pushes"), range(PUSH_SEEDS))
    assert PUSH_WITNESSES - set(seen.witnessed) == set()


def test_who_goes_over_a_rate_is_told_to_wait_as_specified() -> None:
    seen = survey(partial(run_gateway, about="rates"), range(RATE_SEEDS))
    assert RATE_WITNESSES - set(seen.witnessed) == set()


def test_states_that_the_application_builds_are_used_as_specified() -> None:
    seen = survey(partial(run_gateway, about="building"), range(BUILDING_SEEDS))
    assert BUILDING_WITNESSES - set(seen.witnessed) == set()


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_many_more_built_states() -> None:
    runs = range(BUILDING_SEEDS, BUILDING_SEEDS + 5_000)
    survey(partial(run_gateway, about="building"), runs)


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_many_more_rates() -> None:
    survey(partial(run_gateway, about="rates"), range(RATE_SEEDS, RATE_SEEDS + 5_000))


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_many_more_pushes() -> None:
    survey(partial(run_gateway, about="pushes"), range(PUSH_SEEDS, PUSH_SEEDS + 10_000))


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", range(0, 40_000, 10_000))
def test_many_more_peers(first: int) -> None:
    survey(run_gateway, range(SEEDS + first, SEEDS + first + 10_000))


@pytest.mark.parametrize("state", STATES)
def test_every_letter_in_every_situation(state: str) -> None:
    depth = 2 if state in DEEP else 1
    witnessed = Counter(each for run in exhaust_gateway(state, depth) for each in run.witnessed)
    assert len(witnessed) > 10


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("state", STATES)
def test_every_two_letters_in_every_situation(state: str) -> None:
    assert sum(1 for _ in exhaust_gateway(state, 2)) > 0


@given(choices())
@settings(max_examples=40)
def test_peers_that_hypothesis_makes_up(drawn: Choices) -> None:
    run_gateway(drawn, steps=30)


def test_a_run_is_its_choices() -> None:
    run = run_gateway(Seeded(3))
    assert run_gateway(Seeded(3)).steps == run.steps
    assert run_gateway(Recorded(run.trace)).steps == run.steps


STORELESS = [
    mutant.id
    for mutant in MUTANTS.values()
    if mutant.at == "gateway" and mutant not in WRITE_AHEAD_BUGS
]
"""The bugs of gateways that have no store: any peer's gateway has none."""


@pytest.mark.deep  # every run of the tests repeats the seed that shows each
@pytest.mark.parametrize("mutant", STORELESS)
def test_known_bugs_of_gateways_are_seen_without_a_client(mutant: str) -> None:
    about = ABOUT.get(mutant, "")
    with applied(MUTANTS[mutant]), pytest.raises(Broken) as found:
        survey(partial(run_gateway, about=about), range(300))
    assert found.value.text in str(found.value)
    assert isinstance(found.value.run, Run)

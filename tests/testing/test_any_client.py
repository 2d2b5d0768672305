"""A client alone is right against any server, and the layer that shows it sees what is wrong."""

from collections import Counter
from functools import partial

import pytest
from hypothesis import given, settings

from gatewayproto.testing.any_peer.client import STATES, exhaust_client, run_client
from gatewayproto.testing.any_peer.runs import Broken, Run, survey
from gatewayproto.testing.choices import Choices, Recorded, Seeded
from gatewayproto.testing.monitors import missing_witnesses
from gatewayproto.testing.strategies import choices
from tests.mutants.catalog import ABOUT, MUTANTS
from tests.mutants.patching import applied

SEEDS = 300
DEEP = ("idle", "live", "recovering")
"""Where the suite tries every pair of letters; the deep run does so in every state."""
ATTACHED = ("live", "recovering", "resyncing")
WITNESSES = {
    # Told, and sent.
    *("told Joined", "told EventReceived", "told Skipped", "told SnapshotReceived", "told Gap"),
    *("told CaughtUp", "told MessageAccepted", "told MessageRefused", "told OutcomeUnknown"),
    *("told PresenceReceived", "told HealthReceived", "told RetryScheduled", "told TokenNeeded"),
    *("sent hello", "sent join", "sent resume", "sent resync", "sent message", "sent abort"),
    *("sent auth", "sent ping", "sent pong", "sent leave", "written", "written again"),
    # Situations with a rule of their own.
    *(f"{phase}: bad frame" for phase in (*ATTACHED, "handshaking", "rejoining", "rejected")),
    *(f"{phase}: closed" for phase in (*ATTACHED, "connecting", "handshaking", "rejected")),
    *(f"{phase}: {what}" for phase in ("live", "recovering") for what in ("event", "snapshot")),
    *("live: event ahead", "live: event again", "recovering: event ahead", "skip again"),
    *("recovering: caught_up of another request", "snapshot back", "snapshot ahead"),
    *("an answer to nothing", "pinged again after a jump", "from the past: FrameReceived"),
    *("from the past: TransportClosed", "from the past: TransportOpened", "swapped", "restarted"),
    *("refused inbox_full", "refused payload_too_large", "refused disconnected"),
    *("welcome: new", "welcome: None", "welcome: trimmed", "welcome: epoch_changed"),
    # Deadlines.
    *(f"due: {name}" for name in ("handshake", "recovery", "silence", "liveness", "leave")),
    *("due: request", "due: retry"),
}


def test_whatever_the_server_does_the_client_does_what_is_specified() -> None:
    seen = survey(run_client, range(SEEDS))
    assert WITNESSES - set(seen.witnessed) == set()
    assert missing_witnesses(seen.witnessed, "client") == []


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", range(0, 40_000, 10_000))
def test_many_more_servers(first: int) -> None:
    survey(run_client, range(SEEDS + first, SEEDS + first + 10_000))


@pytest.mark.parametrize("state", STATES)
def test_every_letter_in_every_state(state: str) -> None:
    depth = 2 if state in DEEP else 1
    witnessed = Counter(each for run in exhaust_client(state, depth) for each in run.witnessed)
    assert len(witnessed) > 5


PUSH_WITNESSES = {
    *("a presence of no form", "an old presence", "a change of an unknown list"),
    *("P15 asks for a token", "P15 tries a newer token", "sent auth", "sent abort"),
    "mistake: an abort that the server would not take",
}


def test_presence_health_and_credentials_are_taken_as_specified() -> None:
    seen = survey(partial(run_client, about="pushes"), range(150))
    assert PUSH_WITNESSES - set(seen.witnessed) == set()


def test_holes_of_a_server_that_names_no_floor_are_asked_for_once_more() -> None:
    seen = survey(partial(run_client, about="deployed"), range(100))
    assert {"known hole", "known hole at the tail"} <= set(seen.witnessed)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("depth", [2, 3])
def test_all_short_sequences_of_letters_in_every_state(state: str, depth: int) -> None:
    assert sum(1 for _ in exhaust_client(state, depth)) > 0


@given(choices())
@settings(max_examples=40)
def test_servers_that_hypothesis_makes_up(drawn: Choices) -> None:
    run_client(drawn, steps=30)


def test_a_run_is_its_choices() -> None:
    run = run_client(Seeded(3))
    assert run_client(Seeded(3)).steps == run.steps
    assert run_client(Recorded(run.trace)).steps == run.steps


def broken(mutant: str) -> Broken:
    """The first run that shows a known bug."""
    with applied(MUTANTS[mutant]), pytest.raises(Broken) as found:
        survey(partial(run_client, about=ABOUT.get(mutant, "")), range(300))
    return found.value


@pytest.mark.deep  # every run of the tests repeats the seed that shows each
@pytest.mark.parametrize("mutant", [each for each in MUTANTS if MUTANTS[each].at == "client"])
def test_known_bugs_of_clients_are_seen_without_a_gateway(mutant: str) -> None:
    error = broken(mutant)
    assert isinstance(error.run, Run)
    assert error.text in str(error)


def test_a_broken_run_can_be_read_and_repeated() -> None:
    error = broken("M28")
    text = str(error)
    assert text.startswith(f"{error.prop}: ")
    assert "FrameReceived" in text
    with applied(MUTANTS["M28"]), pytest.raises(Broken) as again:
        run_client(Recorded(error.run.trace))
    assert again.value.text == error.text
    assert f"Recorded([{', '.join(map(str, error.run.trace))}])" in text
    run_client(Recorded(error.run.trace))  # and without the bug it is fine

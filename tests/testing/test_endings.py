"""The toolkit where something ends: what closes a session, what sends clients away, who notices."""

from collections import Counter
from collections.abc import Callable

import pytest

from gatewayproto.actions import (
    CloseConnection,
    DrainFinished,
    MessageReceived,
    Published,
    SessionExpired,
)
from gatewayproto.testing.any_peer.gateway import (
    ENDING_STATES,
    SMALL_ENDINGS,
    exhaust_gateway,
    run_gateway,
)
from gatewayproto.testing.any_peer.runs import Run, survey
from gatewayproto.testing.campaign import campaign
from gatewayproto.testing.choices import Choices
from gatewayproto.testing.profiles import ENDINGS as DEEDS
from tests.testing import endingscripts as scripts
from tests.testing.gatewayscripts import left, send
from tests.testing.handmade import (
    Change,
    Script,
    also,
    at,
    both,
    event_frame,
    frame,
    instead,
    sent,
    silent,
    unsent,
    untold,
    waits,
)

# -- a gateway alone --------------------------------------------------------------------------

ALONE = {
    *("closed before one who lags", "finished in a closed session", "closed again"),
    *("refused session_closed", "read on after the window"),
    *("expired after its last reader", "closed 4508"),
    *("sent away live 1", "sent away live 2", "sent away opening 0", "sent away joining 0"),
    *("a newcomer while it drains", "drained again"),
    *("closed for not leaving", "closed 4000", "closed 1012", "told DrainFinished"),
    *("mistake: a drain whose times are none", "mistake: a drain with too much of a reason"),
}


def ending(choices: Choices) -> Run:
    return run_gateway(choices, about="endings")


def test_however_sessions_and_gateways_end_what_is_specified_is_done() -> None:
    seen = survey(ending, range(150))
    assert ALONE - set(seen.witnessed) == set()


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_many_more_ends() -> None:
    survey(ending, range(150, 20_000))


@pytest.mark.parametrize("state", ENDING_STATES)
def test_every_letter_in_every_situation_in_which_something_ends(state: str) -> None:
    runs = exhaust_gateway(state, 1, letters=SMALL_ENDINGS)
    witnessed = Counter(each for run in runs for each in run.witnessed)
    assert len(witnessed) > 10
    assert ("sent away between parts" in witnessed) == ("parts" in state)


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("state", ENDING_STATES)
def test_every_two_letters_where_something_ends(state: str) -> None:
    assert sum(1 for _ in exhaust_gateway(state, 2, letters=SMALL_ENDINGS)) > 0


# -- worlds -----------------------------------------------------------------------------------

WORLDS = {
    *("P3 closed before one who lags", "P3 closed with everything"),
    *("P3 everything of a closed session", "P8 session_closed", "P8 held"),
    *("P17 sent away", "P17 newcomer turned away", "P17 closed for not leaving"),
    "P17 drain finished",
}


def test_worlds_in_which_sessions_and_gateways_end_keep_every_property() -> None:
    result = campaign("endings", range(130))
    assert result.broken == ()
    assert WORLDS - set(result.witnessed) == set()
    assert {kind.value for kind in DEEDS} <= result.happened.keys()


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_many_more_worlds_come_to_their_ends() -> None:
    assert campaign("endings", range(10_000, 30_000)).broken == ()


# -- monitors ---------------------------------------------------------------------------------

RUNS: dict[str, Callable[..., Script]] = {
    run.__name__: run for run in (scripts.closing, scripts.reading_on, scripts.draining)
}
AWAY = send(1, scripts.SENT_AWAY)

WRONG: list[tuple[str, str, str, Change]] = [
    # P3: the last close is the last, and comes with everything.
    ("P3", "closing", "seal", also(scripts.OVER)),
    ("P3", "closing", "rest", unsent("event")),
    ("P3", "closing", "rest", both(instead(), also(send(1, frame("pong"))))),
    ("P6", "closing", "fetched", unsent("replay")),
    ("P3", "closing", "fetched", unsent("caught_up")),
    ("P3", "closing", "rest", instead(send(1, event_frame("event", 1, scripts.BIG)))),
    # P1, P8: nothing is taken any more.
    ("P1", "closing", "published", instead(Published(session_id="s", seq=2, event_id="e2"))),
    ("P8", "closing", "refused", sent("message_nack", code="inbox_full")),
    ("P8", "closing", "refused", silent),
    ("P8", "closing", "refused", instead(
        MessageReceived(
            session_id="s", message_id=1, content="x", request_id="r", reply_to=None, metadata=None
        ),
        send(1, frame("message_ack", request_id="r", duplicate=False)),
    )),
    # P10: the window.
    ("P10", "closing", "expired", at(-2.0)),
    ("P10", "closing", "expired", both(untold(SessionExpired), at(1.0))),
    ("P10", "reading_on", "over", also(SessionExpired(session_id="s"))),
    # P17: who is sent away.
    ("P17", "draining", "drain", unsent("going_away")),
    ("P17", "draining", "drain", also(AWAY)),
    ("P17", "draining", "drain", sent("going_away", after_ms=0)),
    ("P17", "draining", "drain", sent("going_away", reason="no")),
    ("P17", "draining", "drain", sent("hello_error", retry_after_seconds=3.0)),
    ("P17", "draining", "drain", also(CloseConnection(2, 4000), left(2))),
    ("P17", "draining", "drain", waits(9.0)),
    ("P17", "draining", "still", also(AWAY)),
    ("P17", "draining", "again", also(send(2, scripts.SENT_AWAY))),
    ("P17", "draining", "left", also(DrainFinished())),
    ("P17", "draining", "over", untold(DrainFinished)),
    ("P17", "draining", "over", both(instead(), at(1.0))),
    ("P4", "draining", "newcomer", sent("error", code="rate_limited")),
    ("P17", "draining", "newcomer", instead()),
]  # fmt: skip


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_what_is_right_passes(run: Callable[..., Script]) -> None:
    run().play()


@pytest.mark.parametrize(
    ("prop", "run", "label", "change"),
    WRONG,
    ids=[f"{prop}-{run}-{label}-{number}" for number, (prop, run, label, _) in enumerate(WRONG)],
)
def test_what_is_wrong_is_noticed(prop: str, run: str, label: str, change: Change) -> None:
    assert RUNS[run]().finding(label, change) == prop

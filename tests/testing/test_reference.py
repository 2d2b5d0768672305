"""What is said a second time says the same: the reference against the machines' own parts.

The journal and the decision are held against each other in the gateway's tests, by the model there.
"""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gatewayproto import Event
from gatewayproto.projection import Transcript
from gatewayproto.testing.reference import (
    Asked,
    Decided,
    Fold,
    Known,
    Ledger,
    decide,
    fold,
    superseded,
)

RUNS = st.sampled_from(["a", "b", None])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DATA = st.one_of(
    st.builds(lambda text: {"text": text}, TEXTS),
    st.builds(lambda reply: {"reply_to": f"e{reply}"}, st.integers(1, 12)),
    st.builds(lambda size: {"big": "x" * size}, st.integers(0, 60)),
)


@st.composite
def logs(draw: st.DrawFn) -> Sequence[Event]:
    """Events with runs, questions and answers."""
    events: list[Event] = []
    for number in range(1, draw(st.integers(0, 14)) + 1):
        run_id, kind = draw(RUNS), draw(st.sampled_from(["transient", "final", "question", ""]))
        events.append(
            Event(
                type="note",
                data=draw(DATA),
                event_id=f"e{number}",
                timestamp=float(number),
                run_id=run_id,
                transient=True if kind == "transient" else None,
                final=True if kind == "final" and run_id is not None else None,
                expects_reply=True if kind == "question" else None,
            )
        )
    return events


@given(logs(), st.sampled_from([300, 1000, 10_000]), st.data())
def test_the_fold_is_the_transcript_within_its_bounds(
    log: Sequence[Event], max_bytes: int, data: st.DataObject
) -> None:
    one, other = Fold(max_bytes), Transcript(max_bytes)
    reload_at = data.draw(st.integers(0, len(log)))
    for seq, event in enumerate(log, start=1):
        one.apply(seq, event)
        other.apply(seq, event)
        assert one.state() == other.state()
        if seq == reload_at:
            state = one.state()
            one, other = Fold(max_bytes), Transcript(max_bytes)
            one.load(state)
            other.load(state)


@given(logs())
def test_what_is_superseded_step_by_step_is_what_the_words_say(log: Sequence[Event]) -> None:
    ledger = Ledger(3, 3, 10_000)
    for event in log:
        ledger.append(event)
        ledger.trim()
    assert set(ledger.ends) == superseded(log)
    assert ledger.cursor == len(log)
    assert ledger.oldest(2) <= ledger.oldest(1)


@given(logs())
def test_superseded_events_make_no_difference_to_the_fold(log: Sequence[Event]) -> None:
    gone, without = superseded(log), Fold()
    for seq, event in enumerate(log, start=1):
        if seq not in gone:
            without.apply(seq, event)
    assert without.state() == fold(log)


@given(logs(), st.integers(0, 14))
def test_a_copy_goes_on_by_itself(log: Sequence[Event], at: int) -> None:
    ledger = Ledger(2, 2, 500)
    for event in log[:at]:
        ledger.append(event)
        ledger.trim()
    copy, before = ledger.copy(), (ledger.cursor, ledger.kept, ledger.oldest(1))
    for event in log[at:]:
        copy.append(event)
        copy.trim()
    assert (ledger.cursor, ledger.kept, ledger.oldest(1)) == before
    for event in log[at:]:
        ledger.append(event)
        ledger.trim()
    assert (ledger.kept, ledger.ends) == (copy.kept, copy.ends)


def test_the_rows_of_the_table_in_their_order() -> None:
    known = Known(agent_id="agent", epoch="E", cursor=9, oldest_cursor=4)

    def asked(since: int, *epochs: str, version: int = 2, snapshot: bool = False) -> Decided:
        question = Asked(
            version=version,
            agent_id="agent",
            epochs=epochs,
            since=since,
            wants_snapshot=snapshot,
        )
        return decide(question, known)

    assert decide(Asked(version=2, agent_id="agent"), None) == Decided()
    lost = decide(Asked(version=2, agent_id="agent", since=1), None)
    assert (lost.resumed, lost.reason, lost.sequence) == (False, "session_unknown", 0)
    assert decide(Asked(version=2, agent_id="x"), known).rejected == "auth_unauthorized"
    assert asked(3, "E") == Decided(resumed=True, sequence=3)
    assert asked(9, "E") == Decided(resumed=True, sequence=9)
    assert asked(2, "E").reason == "trimmed"
    assert asked(10, "E").reason == "cursor_ahead"
    assert asked(10, "F").reason == asked(5, "E", "F").reason == "epoch_changed"
    assert asked(5).reason == "epoch_changed"
    assert asked(5, version=1) == Decided(resumed=True, sequence=5)
    assert asked(0).reason == "trimmed"
    assert asked(3, "E", snapshot=True) == Decided(resumed=True, reason="requested", sequence=9)
    assert asked(2, "E", snapshot=True).reason == "trimmed"

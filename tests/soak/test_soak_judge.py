"""The judge of a soak: a right account is found right, and whatever may be wrong is found."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto.frames import Event
from gatewayproto.projection import Transcript
from tests.soak.judge import Judge, Line, Verdict
from tests.soak.memory import LEAST, MIB, growth
from tests.soak.record import event_digest, state_digests

# -- plays ------------------------------------------------------------------------------------


def published(kinds: str) -> tuple[list[Line], list[Event]]:
    """What a server writes down of a session: t for a token of an open run, f for its final, d."""
    lines: list[Line] = [["opened", 1, "s"]]
    events: list[Event] = []
    transcript, runs = Transcript(), 0
    for seq, kind in enumerate(kinds, 1):
        run = f"run-{runs}" if kind in "tf" else None
        runs += kind == "f"
        event = Event(
            type="event",
            data={"text": f"{seq} "},
            event_id=f"e{seq}",
            timestamp=float(seq),
            run_id=run,
            transient=True if kind == "t" else None,
            final=True if kind == "f" else None,
        )
        events.append(event)
        transcript.apply(seq, event)
        state = state_digests(transcript.state())
        lines.append(["event", 1, seq, event_digest(event), run, kind == "f", *state])
    return lines, events


def fold(events: list[Event]) -> Transcript:
    transcript = Transcript()
    for seq, event in enumerate(events, 1):
        transcript.apply(seq, event)
    return transcript


def given_to_tab(kinds: str, choose: Callable[[str], str], start: int = 0) -> list[Line]:
    """What a tab that is served rightly writes down; `choose` picks one of some letters."""
    _, events = published(kinds)
    lines: list[Line] = [["tab", 7, "s", start]]
    own, cursor = fold(events[:start]), start
    while cursor < len(events):
        event, following = events[cursor], kinds[cursor + 1 :]
        gone = event.transient and "f" in following
        match choose("dsk" if gone else "ds"):
            case "s":
                cursor = min(len(events), cursor + 1 + len(choose("ds")))
                own = fold(events[:cursor])
                lines.append(["snapshot", 7, cursor, "lagged", *state_digests(own.state())])
            case "k":
                cursor += 1
                lines.append(["skip", 7, cursor, cursor])
            case _:
                cursor += 1
                own.apply(cursor, event)
                state = () if event.transient else state_digests(own.state())
                lines.append(["event", 7, cursor, event_digest(event), *state])
    return [*lines, ["done", 7, "r"]]


def judged(server: list[Line], clients: list[Line]) -> Verdict:
    judge = Judge()
    judge.published(server)
    judge.given(clients)
    return judge.finish()


@given(st.text("ttfd", max_size=30), st.data())
def test_a_right_account_is_found_right(kinds: str, data: st.DataObject) -> None:
    server, _ = published(kinds)
    start = data.draw(st.integers(0, len(kinds)))
    lines = given_to_tab(kinds, lambda letters: data.draw(st.sampled_from(letters)), start)
    verdict = judged(server, lines)

    assert verdict.problems == []
    figures = verdict.figures
    assert figures["delivered"] + figures["skipped"] + figures["covered"] == len(kinds) - start


@given(st.text("ttfd", min_size=1, max_size=20), st.data())
def test_an_account_with_a_hole_is_found_wrong(kinds: str, data: st.DataObject) -> None:
    server, _ = published(kinds)
    lines = given_to_tab(kinds, lambda _: "d")
    missing = data.draw(st.integers(1, len(kinds) - 1 or 1))
    del lines[missing]

    verdict = judged(server, lines)
    # The newest cannot be missed by what follows it; that is what `done` is for.
    assert verdict.figures["lost"] == (missing < len(kinds))


@given(st.text("ttfd", min_size=1, max_size=20), st.data())
def test_an_account_with_something_twice_is_found_wrong(kinds: str, data: st.DataObject) -> None:
    server, _ = published(kinds)
    lines = given_to_tab(kinds, lambda _: "d")
    repeated = data.draw(st.integers(1, len(kinds)))
    again = data.draw(st.integers(repeated, len(kinds)))
    lines.insert(again + 1, lines[repeated])

    assert judged(server, lines).figures["duplicates"] == 1


# -- one thing wrong --------------------------------------------------------------------------

KINDS = "dttdtfdtt"
ASKED: list[Line] = [["sent", 7, "r"], ["end", 7, "r", "accepted"]]
TAKEN: Line = ["message", 1, "r", None]


def right() -> tuple[list[Line], list[Line]]:
    server, _ = published(KINDS)
    clients = given_to_tab(KINDS, lambda _: "d")
    return [*server, TAKEN], [clients[0], *ASKED, *clients[1:]]


def altered(kind: str, where: Callable[[Line], bool], *new: Line) -> tuple[str, Any]:
    def apply(server: list[Line], clients: list[Line]) -> None:
        for lines in (server, clients):
            for number, line in enumerate(lines):
                if where(line):
                    lines[number : number + 1] = [list(each) for each in new]
                    return
        raise AssertionError("nothing was altered")

    return kind, apply


def is_given(seq: int) -> Callable[[Line], bool]:
    return lambda line: bool(line[:3] == ["event", 7, seq])


def is_end(line: Line) -> bool:
    return bool(line[0] == "end")


def is_done(line: Line) -> bool:
    return bool(line[0] == "done")


def is_taken(line: Line) -> bool:
    return line == TAKEN


DONE = ["done", 7, "r"]
END = ["end", 7, "r", "accepted"]
WRONG = {
    "another event": altered("changed", is_given(2), ["event", 7, 2, 12345]),
    "an event that is not there": altered("invented", is_done, ["event", 7, 99, 1], DONE),
    "another state": altered("diverged", is_given(9), ["snapshot", 7, 9, "lagged", 1, 2]),
    "a skip of what counts": altered("lost", is_given(1), ["skip", 7, 1, 1]),
    "a skip of an open run": altered("lost", is_given(8), ["skip", 7, 8, 8]),
    "a skip again": altered("duplicates", is_done, ["skip", 7, 2, 3], DONE),
    "a skip of what is not there": altered("invented", is_done, ["skip", 7, 10, 99], DONE),
    "a hole before a skip": altered("lost", is_given(2), ["skip", 7, 3, 3]),
    "an old snapshot": altered("duplicates", is_done, ["snapshot", 7, 1, "x", 1, 2], DONE),
    "a snapshot of the future": altered("invented", is_done, ["snapshot", 7, 99, "x", 1, 2], DONE),
    "a state of nothing": altered(
        "diverged", lambda line: line[0] == "tab", ["tab", 7, "s", 0], ["snapshot", 7, 0, "x", 1, 2]
    ),
    "a gap": altered("gaps", is_done, ["gap", 7, 10, 11], DONE),
    "a violation": altered("violation", is_done, ["violation", 7, "P2: no"], DONE),
    "no end in time": altered("stuck", is_done, ["stuck", 7, "the last"]),
    "an error": altered("stopped", is_done, ["stopped", 7, "internal_error"]),
    "no end at all": altered("unfinished", is_done),
    "a session that is gone": altered("lost sessions", is_done, ["another", 7, "s2"]),
    "a request without an end": altered("requests", is_end),
    "a request with two ends": altered("requests", is_end, END, ["end", 7, "r", "unknown"]),
    "an end of another's": altered("misdirected", is_end, ["end", 8, "r", "accepted"]),
    "refused and taken": altered("requests", is_end, ["end", 7, "r", "inbox_full"]),
    "accepted and not taken": altered("requests", is_taken),
    "taken twice": altered("requests", is_taken, TAKEN, TAKEN),
    "taken and never sent": altered("invented", is_taken, TAKEN, ["message", 1, "q", None]),
    "two replies": altered(
        "answered twice", is_taken, ["message", 1, "r", "e1"], ["message", 1, None, "e1"]
    ),
    "expired under a subscriber": altered("expired", is_taken, TAKEN, ["expired", 1, 1]),
    "a seq left out": altered("misnumbered", lambda line: line[:3] == ["event", 1, 9]),
}


def test_the_right_account_of_these_is_found_right() -> None:
    verdict = judged(*right())

    assert verdict.problems == []
    assert verdict.requests == {"accepted": 1}
    assert verdict.figures["states compared"] == 4


@pytest.mark.parametrize("name", [name for name in WRONG if name != "a seq left out"])
def test_each_thing_that_is_wrong_is_found(name: str) -> None:
    kind, alter = WRONG[name]
    server, clients = right()
    alter(server, clients)
    verdict = judged(server, clients)

    assert not verdict.clean
    assert verdict.figures[kind] >= 1, verdict.problems


def test_a_seq_that_was_left_out_is_found() -> None:
    server, clients = right()
    del server[5]

    assert judged(server, clients).figures["misnumbered"]


def test_a_snapshot_before_any_event_is_that_of_an_empty_state() -> None:
    server, clients = right()
    empty = ["snapshot", 7, 0, "requested", *state_digests(Transcript().state())]
    clients.insert(1, empty)

    assert judged(server, clients).clean


def test_an_expired_session_may_be_lost() -> None:
    server, clients = right()
    clients[-1] = ["another", 7, "s2"]

    assert judged([*server, ["expired", 1, 0]], clients).clean


@pytest.mark.parametrize(
    ("how", "taken"), [("unknown", 0), ("unknown", 1), ("inbox_full", 0), ("not taken", 0)]
)
def test_a_request_may_end_so(how: str, taken: int) -> None:
    server, clients = right()
    clients[2] = ["end", 7, "r", how]
    server.remove(TAKEN)

    assert judged(server + [TAKEN] * taken, clients).clean


@pytest.mark.parametrize("line", [["event"], ["opened", 1], ["nothing", 1]])
def test_a_line_that_is_none_is_refused(line: Line) -> None:
    with pytest.raises(ValueError, match="no line"):
        judged([line], [])


# -- digests ----------------------------------------------------------------------------------


def test_every_field_of_an_event_counts() -> None:
    fields: dict[str, Any] = {"type": "a", "data": {"n": 1}, "event_id": "e", "timestamp": 1.0}
    others: list[dict[str, Any]] = [
        {"type": "b"},
        {"data": {"n": 2}},
        {"event_id": "f"},
        {"timestamp": 2.0},
        {"run_id": "r"},
        {"request_id": "r"},
        {"transient": True},
        {"final": True},
        {"expects_reply": True},
    ]
    digests = {event_digest(Event(**{**fields, **other})) for other in [{}, *others]}

    assert len(digests) == len(others) + 1


def test_a_state_counts_in_two_parts() -> None:
    first = state_digests({"messages": [1], "runs": {}})
    other_runs = state_digests({"messages": [1], "runs": {"r": 1}})
    other_messages = state_digests({"messages": [2], "runs": {}})

    assert first[0] == other_runs[0] != other_messages[0]
    assert first[1] == other_messages[1] != other_runs[1]


# -- memory -----------------------------------------------------------------------------------


@given(
    st.integers(30 * MIB, 300 * MIB), st.lists(st.integers(0, LEAST // 4), min_size=10, max_size=30)
)
def test_memory_that_goes_up_and_down_a_little_is_flat(base: int, noise: list[int]) -> None:
    samples = [(20.0 * at, base + each) for at, each in enumerate(noise)]
    found = growth(samples, warm_up=0.0)

    assert found is not None
    assert found.judged
    assert found.flat


@given(st.integers(30 * MIB, 80 * MIB), st.integers(130, 600))
def test_memory_that_grows_beyond_the_limit_is_not_flat(base: int, seconds: int) -> None:
    samples = [(float(at), base + 2 * LEAST * at // seconds) for at in range(seconds)]
    found = growth(samples, warm_up=0.0)

    assert found is not None
    assert not found.flat
    assert found.grown == pytest.approx(2 * LEAST, rel=0.05)
    assert found.slope == pytest.approx(2 * LEAST * 60 / seconds, rel=0.05)


def test_the_warm_up_does_not_count() -> None:
    samples = [(float(at), min(at, 100) * MIB) for at in range(300)]
    warm = growth(samples, warm_up=100.0)

    assert warm is not None
    assert warm.flat
    assert warm.slope == 0.0


def test_what_was_short_is_not_judged() -> None:
    short = growth([(float(at), at * MIB) for at in range(100)], warm_up=0.0)

    assert short is not None
    assert not short.judged
    assert short.flat
    assert growth([(1.0, 1)], warm_up=0.0) is None

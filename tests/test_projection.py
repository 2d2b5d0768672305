"""The default projection: a fold that is the same for everybody, and bounded (P5, P9)."""

import json
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto import Event
from gatewayproto.projection import Transcript, shed

State = dict[str, Any]


def event(number: int, **fields: Any) -> Event:
    fields.setdefault("type", "note")
    fields.setdefault("data", {"n": number})
    return Event(event_id=f"e{number}", timestamp=float(number), **fields)


TEXTS = st.sampled_from(["", "a", "bc", "é", '"\\', "\u0000\u001f", "\U0001f600", "x" * 30])
DATA = st.fixed_dictionaries({"text": TEXTS}) | st.fixed_dictionaries({"n": st.integers(0, 9)})
FIELDS = st.one_of(
    st.fixed_dictionaries({"transient": st.just(True), "run_id": st.sampled_from(["r", "s", None]),
                           "type": st.sampled_from(["t", "u"]), "data": DATA}),
    st.fixed_dictionaries({"final": st.just(True), "run_id": st.sampled_from(["r", "s"])}),
    st.fixed_dictionaries({"data": DATA, "expects_reply": st.sampled_from([True, None]),
                           "source": st.sampled_from(["a", None])}),
    st.fixed_dictionaries({"data": st.fixed_dictionaries(
        {"reply_to": st.sampled_from(["e1", "e2", "e3", 5])})}),
)  # fmt: skip
LOGS = st.lists(FIELDS, max_size=40).map(
    lambda fields: [event(number, **each) for number, each in enumerate(fields, start=1)]
)
BOUNDS = st.sampled_from([0, 8, 100, 300, 1000, 512 * 1024])


def folded(log: list[Event], max_bytes: int, *, but: Collection[int] = ()) -> State:
    projection = Transcript(max_bytes)
    for seq, each in enumerate(log, start=1):
        if seq not in but:
            projection.apply(seq, each)
    return projection.state()


def superseded(log: list[Event]) -> set[int]:
    found: set[int] = set()
    for end, final in enumerate(log, start=1):
        if final.final:
            for seq in range(end - 1, 0, -1):
                if log[seq - 1].run_id == final.run_id:
                    if log[seq - 1].final:
                        break
                    found.add(seq)
    return {seq for seq in found if log[seq - 1].transient}


@given(LOGS, BOUNDS)
def test_state_is_the_same_without_superseded_events(log: list[Event], max_bytes: int) -> None:
    assert folded(log, max_bytes) == folded(log, max_bytes, but=superseded(log))


@given(LOGS, BOUNDS, st.sets(st.integers(0, 40)))
def test_one_who_loads_a_state_goes_on_as_one_who_never_left(
    log: list[Event], max_bytes: int, at: set[int]
) -> None:
    projection = Transcript(max_bytes)
    for seq, each in enumerate(log, start=1):
        projection.apply(seq, each)
        if seq in at:
            state = json.loads(json.dumps(projection.state()))
            projection = Transcript(max_bytes)
            projection.apply(99, event(99, expects_reply=True))  # is forgotten
            projection.load(state)
            assert projection.state() == state
    assert projection.state() == folded(log, max_bytes)


@given(LOGS, BOUNDS, st.sets(st.integers(0, 40)))
def test_reading_the_state_changes_nothing(log: list[Event], max_bytes: int, at: set[int]) -> None:
    projection = Transcript(max_bytes)
    for seq, each in enumerate(log, start=1):
        projection.apply(seq, each)
        if seq in at:
            assert projection.state() == projection.state()
    assert projection.state() == folded(log, max_bytes)


def size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


@given(LOGS, BOUNDS)
def test_everything_that_grows_is_bounded(log: list[Event], max_bytes: int) -> None:
    state = folded(log, max_bytes)
    # The newest stays whatever its size: nobody who starts from here has seen it.
    assert sum(map(size, state["messages"])) <= max_bytes or len(state["messages"]) == 1
    for run in state["runs"].values():
        assert size(run["text"]) - 2 <= max_bytes // 8
        assert size(run.get("data", {})) <= max(2, max_bytes // 8)
    durable = [each for each in log if not each.transient]
    assert state.get("truncated", False) is (len(state["messages"]) < len(durable))
    kept = [message["event_id"] for message in state["messages"]]
    assert kept == [each.event_id for each in durable][len(durable) - len(kept) :]


@given(st.lists(TEXTS, max_size=20), st.integers(0, 60))
def test_text_of_a_run_is_the_newest_that_fits(texts: list[str], limit: int) -> None:
    log = [
        event(n, transient=True, run_id="r", data={"text": text}) for n, text in enumerate(texts)
    ]
    runs = folded(log, limit * 8)["runs"]
    if not texts:
        assert runs == {}
        return
    whole = "".join(texts)
    text = runs["r"]["text"]
    assert whole.endswith(text)
    assert size(text) - 2 <= limit
    longer = whole[len(whole) - len(text) - 1 :]
    assert runs["r"].get("truncated", False) is (text != whole)
    assert text == whole or size(longer) - 2 > limit


def test_state_holds_what_is_in_flight() -> None:
    log = [
        event(1, source="user", request_id="q"),
        event(2, type="token", transient=True, run_id="r", data={"text": "so "}),
        event(3, type="progress", transient=True, run_id="p", data={"percent": 5}),
        event(4, type="progress", transient=True, run_id="p", data={"percent": 9}),
        event(5, expects_reply=True, target="user"),
        event(6, type="token", transient=True, run_id="r", data={"text": "far"}),
        event(7, type="tick", transient=True),
    ]
    state = folded(log, 10_000)
    assert state == {
        "messages": [
            {"seq": 1, "event_id": "e1", "type": "note", "timestamp": 1.0, "data": {"n": 1},
             "source": "user", "request_id": "q"},
            {"seq": 5, "event_id": "e5", "type": "note", "timestamp": 5.0, "data": {"n": 5},
             "target": "user", "expects_reply": True},
        ],
        "runs": {
            "r": {"type": "token", "text": "so far"},
            "p": {"type": "progress", "text": "", "data": {"percent": 9}},
        },
        "questions": ["e5"],
    }  # fmt: skip
    log += [
        event(8, final=True, run_id="r", data={"text": "so far so good"}),
        event(9, data={"reply_to": "e5"}),
    ]
    state = folded(log, 10_000)
    assert set(state["runs"]) == {"p"}
    assert state["questions"] == []
    assert [message["seq"] for message in state["messages"]] == [1, 5, 8, 9]
    assert state["messages"][2]["final"] is True


def test_open_questions_are_bounded_and_the_oldest_go() -> None:
    log = [event(n, expects_reply=True) for n in range(1100)]
    state = folded(log[:1000], 10**6)
    assert (len(state["questions"]), "truncated" in state) == (1000, False)
    state = folded(log, 10**6)
    assert state["questions"] == [f"e{n}" for n in range(100, 1100)]
    assert state["truncated"] is True
    projection = Transcript()
    projection.load({"questions": [f"e{n}" for n in range(1100)]})
    assert projection.state()["questions"] == state["questions"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["messages", "runs", "questions", "truncated", "text", "data", "type"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["messages", "runs", "questions", "truncated"]), JSON), LOGS)
def test_fields_that_are_missing_or_off_count_as_empty(state: State, log: list[Event]) -> None:
    projection = Transcript(500)
    projection.load(state)
    for seq, each in enumerate(log, start=1):
        projection.apply(seq, each)
    again = Transcript(500)
    again.load(projection.state())
    assert again.state() == projection.state()
    if not isinstance(state.get("runs"), dict) and not log:
        assert projection.state()["runs"] == {}


def test_state_of_a_larger_projection_is_cut_to_the_own_bounds() -> None:
    log = [event(n, data={"text": "x" * 90}) for n in range(20)]
    log.append(event(20, transient=True, run_id="r", data={"text": "y" * 900}))
    log.append(event(21, transient=True, run_id="s", data={"pad": "z" * 900}))
    small = Transcript(800)
    small.load(folded(log, 100_000))
    assert small.state() == folded(log, 800)


# -- shedding ---------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(0, 1200))
def test_fewest_messages_are_shed(sizes: list[int], room: int) -> None:
    state: State = {"messages": ["x" * n for n in sizes], "runs": {"r": 1}}
    result = shed(state, lambda candidate: size(candidate) <= room)
    if size(state) <= room:
        assert result is state
        return
    fitting = [
        count
        for count in range(1, len(sizes) + 1)
        if size({**state, "messages": state["messages"][count:], "truncated": True}) <= room
    ]
    if not fitting:
        assert result is None
    else:
        assert result == {
            "messages": state["messages"][min(fitting) :], "runs": {"r": 1}, "truncated": True,
        }  # fmt: skip


@pytest.mark.parametrize("state", [{}, {"messages": "x" * 50}, {"messages": None, "other": [1]}])
def test_state_without_messages_has_nothing_to_shed(state: State) -> None:
    assert shed(state, lambda _: True) is state
    assert shed(state, lambda _: False) is None

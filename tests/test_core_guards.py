"""Bounds that hold to the byte, and values that are off, in what belongs to no machine."""

import copy
import json
import random
import tracemalloc
from enum import Enum, StrEnum
from typing import Any, TypeVar

import pytest

from gatewayproto import Event, Gateway, codec, render
from gatewayproto._table import Table, fault, handled, ignored, late, mistake, race
from gatewayproto._timers import Timers
from gatewayproto.client import CLIENT_TABLE, Client
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.connection import CONNECTION_TABLE
from gatewayproto.errors import ErrorCode, FrameError, LocalProtocolError
from gatewayproto.inputs import Connect, ConnectionOpened, TimerExpired
from gatewayproto.projection import Transcript, shed

State = dict[str, Any]
S = TypeVar("S", bound=Enum)
I = TypeVar("I", bound=Enum)  # noqa: E741 -- the states and the inputs of a table


def event(number: int, **fields: Any) -> Event:
    fields.setdefault("type", "note")
    fields.setdefault("data", {"n": number})
    return Event(event_id=f"e{number}", timestamp=float(number), **fields)


def encoded(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def folded(events: list[Event], max_bytes: int) -> Transcript:
    projection = Transcript(max_bytes)
    for seq, each in enumerate(events, start=1):
        projection.apply(seq, each)
    return projection


def loaded(state: State, max_bytes: int = 512 * 1024) -> Transcript:
    projection = Transcript(max_bytes)
    projection.load(json.loads(json.dumps(state)))
    return projection


# -- frames ------------------------------------------------------------------------------------


def parsed(text: str) -> codec.Parsed:
    return codec.parse(text.encode(), max_bytes=10**6)


@pytest.mark.parametrize("number", ["9007199254740992", "1e999", "-1e999", "1" * 500])
def test_number_out_of_range_is_told_by_the_field_that_has_a_better_word_for_it(
    number: str,
) -> None:
    for fields, code in (
        (f'"since": {number}', "invalid_cursor"),
        (f'"since": 1, "unknown": [{{"deep": {number}}}]', "malformed_frame"),
    ):
        frame = parsed(f'{{"type": "resume", "epoch": "e", {fields}}}')
        assert frame.out_of_range is True
        with pytest.raises(FrameError) as caught:
            codec.client_frame(frame)
        assert caught.value.code == code


def nested(depth: int, siblings: int) -> str:
    """An array of this depth, with empty ones beside every level of it."""
    text = "[]"
    for _ in range(depth - 1):
        text = "[" + "[]," * siblings + text + "]"
    return text


@pytest.mark.parametrize("siblings", [0, 1, 3])
def test_depth_counts_whatever_stands_beside_it(siblings: int) -> None:
    assert parsed(f'{{"type": "x", "y": {nested(63, siblings)}}}').type == "x"
    with pytest.raises(FrameError) as caught:
        parsed(f'{{"type": "x", "y": {nested(64, siblings)}}}')
    assert caught.value.code == "malformed_frame"


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ('{"type": "ping", "type": "ping"}', "repeated"),
        ('{"type": "ping", "nonce": 5}', "$.nonce"),
        ('{"type": "ping", "nonce": 5}', "Expected `str"),
        ('{"type": "resume", "epoch": "e", "since": -1}', "$.since"),
        ('{"type": 5}', "type"),
    ],
)
def test_answer_to_a_frame_that_is_off_says_what_is_off(frame: str, named: str) -> None:
    with pytest.raises(FrameError) as caught:
        codec.client_frame(parsed(frame))
    assert named in caught.value.detail


@pytest.mark.parametrize("frame", ["resume", "hello", "ping", "message"])
def test_only_a_message_is_named_by_its_request_id(frame: str) -> None:
    off = {"message": '"reply_to": 5', "resume": '"since": 1, "nonce": 5'}.get(frame, '"nonce": 5')
    off = '"agent_id": 5' if frame == "hello" else off
    with pytest.raises(FrameError) as caught:
        codec.client_frame(parsed(f'{{"type": "{frame}", "request_id": "r", {off}}}'))
    assert caught.value.request_id == ("r" if frame == "message" else None)


def test_error_of_a_frame_says_both_what_and_why_also_when_copied() -> None:
    error = FrameError(ErrorCode.RATE_LIMITED, "too many")
    same = copy.copy(error)
    assert (same.code, same.detail) == (error.code, error.detail)
    assert "rate_limited" in str(same)
    assert "too many" in str(same)


# -- configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize("edge", [chr(0xD800), chr(0xDFFF)])
def test_text_with_either_end_of_the_surrogates_is_none(edge: str) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        ClientConfig(agent_id="demo", token=f"a{edge}")


@pytest.mark.parametrize("beside", [chr(0xD7FF), chr(0xE000)])
def test_text_with_what_stands_beside_the_surrogates_is_text(beside: str) -> None:
    assert ClientConfig(agent_id="demo", token=beside).token == beside


@pytest.mark.parametrize("off", [["a"], b"a", 5])
def test_token_that_is_no_text_is_refused_as_that(off: Any) -> None:
    with pytest.raises(TypeError, match="token must be text"):
        ClientConfig(agent_id="demo", token=off)


# -- deadlines ----------------------------------------------------------------------------------


def test_deadlines_are_in_order_of_their_time_and_then_of_their_age() -> None:
    timers: Timers[str] = Timers()
    for key, deadline in (("c", 2.0), ("a", 3.0), ("b", 2.0), ("d", 1.0)):
        timers.set(key, deadline)
    assert timers.in_order() == [("d", 1.0), ("c", 2.0), ("b", 2.0), ("a", 3.0)]
    assert list(timers.pop_due(3.0)) == ["d", "c", "b", "a"]


def test_deadline_that_is_set_to_what_it_is_keeps_its_age() -> None:
    timers: Timers[str] = Timers()
    for key in ("a", "b", "a"):
        timers.set(key, 1.0)
    assert list(timers.pop_due(1.0)) == ["a", "b"]


def test_next_deadline_is_the_earliest_however_often_another_was_moved() -> None:
    timers: Timers[str] = Timers()
    for key, deadline in (("moved", 1.0), ("late", 10.0), ("early", 2.0)):
        timers.set(key, deadline)
    for number in range(200):
        timers.set("moved", 1000.0 + number)
    assert timers.next_deadline == 2.0
    assert list(timers.pop_due(1199.0)) == ["early", "late", "moved"]


# -- tables -------------------------------------------------------------------------------------


class Door(StrEnum):
    OPEN = "open"
    SHUT = "shut|to"
    GONE = "gone"


class Push(StrEnum):
    KNOCK = "knock"
    SLAM = "slam"
    FORCE = "force"


def answer() -> None:
    """Say who is there.

    Nobody else does.
    """


def splinter() -> None: ...


DOORS: Table[Door, Push] = Table(
    "door",
    Door,
    Push,
    {
        Door.OPEN: {
            Push.KNOCK: ignored(Door.OPEN),
            Push.SLAM: handled(answer, Door.SHUT),
            Push.FORCE: mistake(Door.OPEN),
        },
        Door.SHUT: {
            Push.KNOCK: handled(answer, Door.OPEN, Door.SHUT),
            Push.SLAM: race(answer, Door.SHUT),
            Push.FORCE: fault(splinter, Door.GONE, Door.OPEN),
        },
        Door.GONE: dict.fromkeys(Push, late(Door.GONE)),
    },
)


def test_table_is_drawn_as_it_is() -> None:
    answers, splinters = (f"`test_core_guards.{name}`" for name in ("answer", "splinter"))
    assert render.markdown(DOORS).splitlines() == [
        "| input | open | shut\\|to | gone |",
        "| --- | --- | --- | --- |",
        f"| knock | ignored | {answers} → shut\\|to or open | too late |",
        f"| slam | {answers} → shut\\|to | race: {answers} | too late |",
        f"| force | mistake | fault: {splinters} → open or gone | too late |",
    ]
    assert render.handlers(DOORS).splitlines() == [
        f"- {answers}: Say who is there.",
        f"- {splinters}: ",
    ]
    assert render.mermaid(DOORS).splitlines() == [
        "stateDiagram-v2",
        '    state "open" as open',
        '    state "shut|to" as shut',
        '    state "gone" as gone',
        "    [*] --> open",
        "    open --> shut: slam",
        "    shut --> open: knock / force",
        "    shut --> gone: force",
        "    gone --> [*]",
    ]
    for text in (render.markdown(DOORS), render.handlers(DOORS), render.mermaid(DOORS)):
        assert text.endswith("\n")


def ends_of_idle_cells(table: Table[S, I]) -> list[bool]:
    cells = [(state, table[state, input_]) for state in table.states for input_ in table.inputs]
    return [cell.ends == {state} for state, cell in cells if cell.handler is None]


def test_cell_without_a_handler_leaves_its_machine_where_it_is() -> None:
    for found in (ends_of_idle_cells(CLIENT_TABLE), ends_of_idle_cells(CONNECTION_TABLE)):
        assert len(found) > 10
        assert all(found)


@pytest.mark.parametrize("rows", [{}, {Door.OPEN: {}}])
def test_table_with_a_cell_left_out_is_none(rows: dict[Door, Any]) -> None:
    with pytest.raises(ValueError, match="door: open lacks"):
        Table("door", Door, Push, rows)
    assert (DOORS.name, DOORS.states, DOORS.inputs) == ("door", Door, Push)


# -- the projection ---------------------------------------------------------------------------


def test_messages_fill_their_bound_to_the_byte_also_when_loaded() -> None:
    events = [event(number) for number in range(1, 5)]
    whole = folded(events[:3], 10**6).state()
    room = sum(encoded(message) for message in whole["messages"])
    for projection in (folded(events[:3], room), loaded(whole, room)):
        assert projection.state() == whole
        projection.apply(4, events[3])
        state = projection.state()
        assert [message["seq"] for message in state["messages"]] == [2, 3, 4]
        assert state["truncated"] is True


def test_newest_message_stays_whatever_its_size() -> None:
    state = folded([event(1), event(2, data={"text": "x" * 100})], 0).state()
    assert [message["seq"] for message in state["messages"]] == [2]


def test_latest_data_of_a_run_is_kept_up_to_its_bound() -> None:
    data = {"progress": "x" * 100}
    exact = 8 * encoded(data)
    for max_bytes, kept in ((exact, {"data": data}), (exact - 8, {})):
        events = [event(n, transient=True, run_id="r", data=d) for n, d in ((1, {}), (2, data))]
        state = folded(events, max_bytes).state()
        assert state["runs"] == {"r": {"type": "note", "text": "", **kept}}
        saved = {"runs": {"r": {"type": "note", "data": data}}}
        assert loaded(saved, max_bytes).state()["runs"] == state["runs"]


def test_text_of_a_run_is_cut_between_its_characters() -> None:
    texts = ["\u00e9\u00e9\u00e9", "\U0001f600", "ab"]
    for limit, kept in ((12, "ééé\U0001f600ab"), (11, "éé\U0001f600ab"), (10, "éé\U0001f600ab")):
        events = [event(1, transient=True, run_id="r", data={"text": text}) for text in texts]
        run = folded(events, 8 * limit).state()["runs"]["r"]
        assert run["text"] == kept
        assert run.get("truncated", False) is (limit < 12)
        assert loaded({"runs": {"r": run}}).state()["runs"]["r"] == run


def test_durable_event_of_a_run_leaves_its_text() -> None:
    text = event(1, transient=True, run_id="r", data={"text": "so far"})
    final = event(3, run_id="r", final=True)
    assert folded([text, event(2, run_id="r")], 10**6).state()["runs"]["r"]["text"] == "so far"
    assert folded([text, event(2), final], 10**6).state()["runs"] == {}


def test_texts_without_a_character_cost_nothing() -> None:
    projection = Transcript()
    empty = event(1, transient=True, run_id="r", data={"text": ""})
    projection.apply(1, empty)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10_000):
            projection.apply(1, empty)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000


@pytest.mark.parametrize("answered", [{"a": 1}, ["e1"], 5, None, True])
def test_answer_that_names_no_event_closes_no_question(answered: Any) -> None:
    events = [event(1, expects_reply=True), event(2, data={"reply_to": answered})]
    assert folded(events, 10**6).state()["questions"] == ["e1"]


def test_run_of_a_state_that_was_saved_by_another_program_is_read_as_far_as_it_goes() -> None:
    runs = {
        "missing": {},
        "off": {"type": "t", "text": 5, "data": "x", "truncated": 1},
        "whole": {"type": "t", "text": "", "truncated": False},
        "cut": {"type": "t", "text": "x", "truncated": True},
    }
    assert loaded({"runs": runs}).state()["runs"] == {
        "missing": {"type": "", "text": ""},
        "off": {"type": "t", "text": ""},
        "whole": {"type": "t", "text": ""},
        "cut": {"type": "t", "text": "x", "truncated": True},
    }


def test_all_messages_are_shed_where_that_is_what_it_takes() -> None:
    state = folded([event(1), event(2)], 10**6).state()
    bare = {**state, "messages": [], "truncated": True}
    assert shed(state, lambda candidate: encoded(candidate) <= encoded(bare)) == bare
    assert shed(state, lambda candidate: encoded(candidate) < encoded(bare)) is None


@pytest.mark.parametrize("now", [float("inf"), float("-inf"), float("nan")])
def test_a_time_that_is_not_finite_is_the_callers_mistake(now: float) -> None:
    gateway = Gateway(GatewayConfig())
    client = Client(ClientConfig(agent_id="a"), rng=random.Random(1))
    client.handle(Connect(), now=0.0)
    gateway.handle(ConnectionOpened(connection=1), now=0.0)
    for machine in (gateway, client):
        before = machine.next_deadline
        with pytest.raises(LocalProtocolError, match="is no time"):
            machine.handle(TimerExpired(), now=now)
        assert machine.next_deadline == before

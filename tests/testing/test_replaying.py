"""Replays: the first difference is found and named, and no file is too odd for an answer."""

import io
import json
from collections.abc import Callable
from functools import cache
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.frames import Event
from gatewayproto.inputs import (
    Accept,
    ClientInput,
    Connect,
    ConnectionOpened,
    FrameReceived,
    GatewayInput,
    Publish,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.projection import Transcript
from gatewayproto.testing import replaying
from gatewayproto.testing.monitors import Monitors
from gatewayproto.testing.replaying import CLIENT, Replay, UnreadableError, replay
from gatewayproto.testing.steps import GATEWAY, WORLD, ClientAdded, Step, Violation
from tests.testing.recordlab import RecordedMachines, record_client, record_gateway, replayed

SECRET = "a-Secret-of-16-or-more"


def frame(**fields: Any) -> FrameReceived:
    return FrameReceived(1, json.dumps(fields).encode())


@cache
def gateway_log(projection: Callable[[], Transcript] = Transcript) -> bytes:
    """A client comes, what is published goes beyond the journal, it wants a snapshot in parts."""
    config = GatewayConfig(retain=2, projection=projection)
    slot = RecordedMachines([SECRET]).gateway(config)
    hello = {"type": "hello", "agent_id": "a", "protocol_min": 2, "protocol_max": 2}
    opening: list[tuple[float, GatewayInput]] = [
        (1.0, ConnectionOpened(connection=1)),
        (2.0, frame(**hello, max_payload=1024)),
        (3.0, Accept(connection=1)),
    ]
    for now, input_ in opening:
        slot.handle(input_, now)
    session_id = slot.machine.session_ids[0]  # type: ignore[union-attr] # it is a gateway
    for number in range(12):
        data = {"text": f"{'.' * (50 * number)}{SECRET} of {session_id}"}
        event = Event(type="note", data=data, event_id=f"e{number}", timestamp=float(number))
        slot.handle(Publish(session_id=session_id, event=event), 4.0)
    slot.handle(frame(type="resync", nonce="n"), 5.0)
    return slot.log


@cache
def client_log() -> bytes:
    """Two attempts, the second of which is welcomed."""
    welcome = {
        "type": "hello_ok",
        "session_id": SECRET,
        "protocol_version": 2,
        "resumed": False,
        "epoch": "e",
        "cursor": 0,
        "sequence": 0,
    }
    steps: list[tuple[float, ClientInput]] = [
        (0.0, Connect()),
        (0.5, TransportClosed(connection=1, code=1001)),
        (1.0, TransportOpened(1)),
    ]
    return record_client(ClientConfig(agent_id="a"), [*steps, (1.5, frame(**welcome))])


LOGS = pytest.mark.parametrize("log", [gateway_log(), client_log()], ids=["gateway", "client"])


def lines_of(log: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines()]


def log_of(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


# -- the same ---------------------------------------------------------------------------------


@LOGS
def test_what_was_recorded_is_replayed(log: bytes) -> None:
    lines = lines_of(log)
    result = replayed(log)
    assert (result.machine, result.inputs) == (lines[0]["machine"], len(lines) - 1)
    assert result.same
    assert (result.left_out, result.cut_off) == (0, False)
    assert result.seconds == lines[-1]["now"] - lines[1]["now"]
    # Whitespace and the order of members are nobody's.
    spaced = b"".join(
        json.dumps(line, sort_keys=True, indent=None).encode() + b"\n" for line in lines
    )
    assert replayed(spaced).same


def test_a_gateways_replay_has_witnesses() -> None:
    witnessed = replayed(gateway_log()).witnessed
    assert any(name.startswith("P4 ") for name in witnessed)
    assert all(number > 0 for number in witnessed.values())


def test_the_monitors_see_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Step] = []
    monkeypatch.setattr(Monitors, "observe", lambda _, step: seen.append(step))
    replayed(gateway_log())
    assert [step.who for step in seen] == [GATEWAY] * (len(lines_of(gateway_log())) - 1)
    assert all(step.raised is None for step in seen)
    del seen[:]
    replayed(client_log())
    assert isinstance(seen[0].input, ClientAdded)
    assert [step.who for step in seen] == [WORLD, CLIENT, CLIENT, CLIENT, CLIENT]
    assert isinstance(seen[1].input, Connect)
    assert seen[1].deadline is not None


@given(at=st.integers(1, 15))
def test_what_a_monitor_finds_is_told_with_its_line_and_the_replay_goes_on(at: int) -> None:
    count = 0

    class Watching(Monitors):
        def observe(self, step: Step) -> None:
            nonlocal count
            count += 1
            if count == at:
                raise Violation("P9", f"too much of {type(step.input).__name__}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replaying, "Monitors", Watching)
        result = replayed(gateway_log())
    assert result.same
    assert result.inputs == len(lines_of(gateway_log())) - 1
    assert result.breach is not None
    assert (result.breach.line, result.breach.violation.prop) == (at + 1, "P9")
    assert len(result.breach.steps) == min(at, 20)
    assert count == at


def test_what_a_monitor_finds_at_the_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(_: Monitors) -> None:
        raise Violation("P3", "something is missing")

    monkeypatch.setattr(Monitors, "finish", finish)
    result = replayed(gateway_log())
    assert result.breach is not None
    assert (result.breach.line, result.same) == (None, True)


# -- another ----------------------------------------------------------------------------------


def change(value: Any, draw: Callable[[int], int]) -> Any:  # noqa: PLR0911 -- one for each
    """Plain data that differs in one place from what it was."""
    match value:
        case dict() if value:
            name = list(value)[draw(len(value))]
            return {**value, name: change(value[name], draw)}
        case list() if value:
            at = draw(len(value) + 1)
            if at == len(value):
                return value[:-1]
            return [*value[:at], change(value[at], draw), *value[at + 1 :]]
        case str() if "█" in value or "\\u2588" in value:
            return f"{value}x"  # one character more
        case str() if value:
            at = draw(len(value))
            return f"{value[:at]}{'x' if value[at] != 'x' else 'y'}{value[at + 1 :]}"
        case bool():
            return not value
        case int() | float():
            return value + 1
        case _:
            return "something"


@LOGS
@settings(max_examples=60)
@given(data=st.data())
def test_a_change_of_what_came_is_found_and_named(log: bytes, data: st.DataObject) -> None:
    lines: Any = lines_of(log)
    at = data.draw(st.integers(1, len(lines) - 1))
    aspect = data.draw(st.sampled_from(["actions", "deadline"]))
    before = lines[at][aspect]
    after: Any = change(before, lambda n: data.draw(st.integers(0, n - 1)))
    if aspect == "deadline" and isinstance(after, str):
        after = 1.0
    if aspect == "actions" and not before:
        after = [{"CloseConnection": {"connection": 1, "code": 1000, "reason": ""}}]
    lines[at][aspect] = after
    result = replayed(log_of(lines))
    assert result.difference is not None
    assert (result.difference.line, result.difference.aspect) == (at + 1, aspect)
    assert result.difference.input == next(iter(lines[at]["input"]))
    assert result.difference.expected == after
    if aspect == "deadline":
        assert result.difference.got == before
    else:
        same = takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))
        assert result.difference.at == len(list(same))
    # It goes no further, and what led there is shown.
    assert result.inputs == at
    steps = [step for step in result.difference.steps if step.who != WORLD]
    assert len(steps) == min(at, 20)
    assert type(steps[-1].input).__name__ == result.difference.input


@pytest.mark.parametrize(
    ("log", "line", "aspect", "drawn"),
    [
        (gateway_log(), 3, "ids", ["x"]),
        (gateway_log(), 3, "ids", ["a", "b", "c", "d"]),
        (gateway_log(), 1, "ids", ["never"]),
        (client_log(), 2, "random", []),
        (client_log(), 2, "random", [0.5, 0.5]),
    ],
)
def test_other_draws_are_a_difference(log: bytes, line: int, aspect: str, drawn: list[Any]) -> None:
    lines = lines_of(log)
    lines[line][aspect] = drawn
    result = replayed(log_of(lines))
    assert result.difference is not None
    assert result.difference.line == line + 1


def test_too_many_draws_are_told_as_such() -> None:
    lines = lines_of(gateway_log())
    lines[1]["ids"] = ["never"]
    difference = replayed(log_of(lines)).difference
    assert difference is not None
    assert (difference.aspect, difference.expected, difference.got) == ("ids", 1, 0)
    lines = lines_of(client_log())
    lines[-1]["random"] = [0.5]
    difference = replayed(log_of(lines)).difference
    assert difference is not None
    assert (difference.aspect, difference.expected, difference.got) == ("random", 1, 0)


def test_what_was_raised_is_compared() -> None:
    lines = lines_of(gateway_log())
    lines[4]["raised"] = "LocalProtocolError"
    difference = replayed(log_of(lines)).difference
    assert difference is not None
    assert (difference.aspect, difference.got) == ("raised", None)


def test_only_what_was_blanked_may_differ() -> None:
    lines = lines_of(gateway_log())
    frames = [
        json.loads(each)
        for action in lines[-1]["actions"]
        for each in action.get("SendFrames", {"frames": []})["frames"]
    ]
    chunks = "".join(each.get("chunk", "") for each in frames)
    assert chunks.count("█") > 200
    assert SECRET not in chunks
    blanked = json.dumps(lines[-1])
    for one, other in (("seq", "seg"), ("note", "mote"), (" of ", " on ")):
        changed = blanked.replace(one, other, 1)
        assert changed != blanked
        lines[-1] = json.loads(changed)
        assert replayed(log_of(lines)).difference is not None


# -- files that are odd -----------------------------------------------------------------------


@LOGS
@settings(max_examples=50)
@given(data=st.data())
def test_a_recording_that_is_cut_off_is_replayed_as_far_as_it_goes(
    log: bytes, data: st.DataObject
) -> None:
    size = data.draw(st.integers(log.index(b"\n") + 1, len(log)))
    result = replayed(log[:size])
    assert result.same
    assert result.inputs == log[:size].count(b"\n") - 1
    assert result.cut_off == (not log[:size].endswith(b"\n"))


@settings(max_examples=300)
@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_told_to_be_no_recording(data: bytes) -> None:
    with pytest.raises(UnreadableError) as caught:
        replayed(data)
    assert caught.value.line == 1
    assert str(caught.value) == f"line 1: {caught.value.reason}"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@LOGS
@settings(max_examples=200)
@given(data=st.data())
def test_whatever_is_changed_the_answer_is_a_result_or_a_line_and_a_reason(
    log: bytes, data: st.DataObject
) -> None:
    lines = log.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    if data.draw(st.booleans()):  # some bytes
        line, start = lines[at], data.draw(st.integers(0, len(lines[at])))
        lines[at] = line[:start] + data.draw(st.binary(max_size=5)) + line[start + 3 :]
    else:  # some value
        place = value = json.loads(lines[at])
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            inner = place[key]
            if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
                place = inner
                continue
            place[key] = data.draw(PLAIN)
            break
        lines[at] = json.dumps(value).encode() + b"\n"
    answer = answer_to(b"".join(lines))
    match answer:
        case UnreadableError():
            # The change may show in the next line first: its time is too early, or it is joined.
            assert answer.line > at
            assert answer.reason
        case Replay(difference=difference):
            assert difference is None or difference.line > at


def answer_to(log: bytes) -> Replay | UnreadableError:
    try:
        return replayed(log)
    except UnreadableError as error:
        return error


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"now":1}', "input"),
        ('{"now":1,"input":{}}', "not one"),
        ('{"now":1,"input":{"Activity":{"connection":1},"Drained":{}}}', "not one"),
        ('{"now":1,"input":{"Connect":{}}}', "no input of that name"),
        ('{"now":1,"input":{"Activity":{}}}', "connection"),
        ('{"now":1,"input":{"Activity":[]}}', "fields"),
        ('{"now":1,"input":{"Activity":{"connection":"1"}}}', "int"),
        ('{"now":1,"input":{"Activity":{"connection":1,"x":1}}}', "not known"),
        ('{"now":1,"input":{"TimerExpired":{}},"more":1}', "not known"),
        ('{"now":true,"input":{"TimerExpired":{}}}', "now"),
        ('{"now":NaN,"input":{"TimerExpired":{}}}', "time"),
        ('{"now":1e999,"input":{"TimerExpired":{}}}', "time"),
        ('{"now":0.5,"input":{"TimerExpired":{}}}', "before"),
        ('{"now":1,"input":{"FrameReceived":{"connection":1,"data":"\\ud800"}}}', "bytes"),
        ('{"now":1,"input":{"TimerExpired":{}},"actions":[1]}', "actions"),
        ('{"now":1,"input":{"TimerExpired":{}},"ids":[1]}', "ids"),
        (f'{{"now":1,"input":{"[" * 500}', "JSON"),
        (f'{{"now":1,"input":{{"x":{"[" * 500}{"]" * 500}}}}}', "nested"),
        (f'{{"now":1,"input":{"[" * 99999}', "JSON"),
        ("[]", "object"),
        ("", "JSON"),
    ],
)
def test_a_line_that_is_none_is_named_with_the_reason(line: str, says: str) -> None:
    log = b"".join(gateway_log().splitlines(keepends=True)[:2]) + line.encode() + b"\n"
    with pytest.raises(UnreadableError) as caught:
        replayed(log)
    assert caught.value.line == 3
    assert says in caught.value.reason


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "other"}, "no recording"),
        ({"version": 2}, "version"),
        ({"machine": "proxy"}, "machine"),
        ({"machine": "client"}, "not known"),
        ({"config": {"retain": -1}}, "retain"),
        ({"config": {"retain": "many"}}, "retain"),
        ({"config": {"projection": "os:system"}}, "projection"),
        ({"config": None}, "config"),
        ({"more": 1}, "not known"),
    ],
)
def test_a_header_that_is_none_is_named_with_the_reason(change: Any, says: str) -> None:
    lines = lines_of(gateway_log())
    with pytest.raises(UnreadableError) as caught:
        replayed(log_of([{**lines[0], **change}, *lines[1:]]))
    assert caught.value.line == 1
    assert says in caught.value.reason


@pytest.mark.parametrize(
    "resume",
    [
        {"session_id": "", "epoch": None, "cursor": 0},
        {"session_id": "s", "epoch": None, "cursor": -1},
        {"session_id": "s", "epoch": "e" * 65, "cursor": 1},
        {"session_id": "s"},
        {"session_id": "\ud800", "epoch": None, "cursor": 1},
    ],
)
def test_a_position_that_no_client_has_is_named(resume: Any) -> None:
    lines = lines_of(client_log())
    with pytest.raises(UnreadableError) as caught:
        replayed(log_of([{**lines[0], "resume": resume}, *lines[1:]]))
    assert caught.value.line == 1


def test_a_line_without_an_end_takes_no_more_than_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replaying, "MAX_LINE", 5000)
    file = io.BytesIO(gateway_log().splitlines(keepends=True)[0] + b"x" * 50_000)
    with pytest.raises(UnreadableError, match="line 2: more than 5000 bytes"):
        replay(file)
    assert file.tell() < 10_000


class Counting(Transcript):
    """Another projection."""

    def state(self) -> dict[str, Any]:
        return {**super().state(), "counted": True}


def test_another_projection_is_to_be_given() -> None:
    log = gateway_log(Counting)
    with pytest.raises(UnreadableError, match="Counting"):
        replayed(log)
    assert replayed(log, projection=Counting).same
    assert not replayed(log, projection=Transcript).same


def test_a_recording_without_inputs_is_one() -> None:
    result = replayed(record_gateway(GatewayConfig(), []))
    assert (result.inputs, result.same, result.seconds) == (0, True, 0.0)

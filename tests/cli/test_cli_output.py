"""What is written for each thing that a client emits, and that nothing of it can do harm."""

import json
import logging
from typing import Any, get_args

import pytest
from gatewayproto_cli.logs import EscapingFormatter
from gatewayproto_cli.output import JsonWriter, PeopleWriter, json_fields
from gatewayproto_cli.text import escape
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto import Event
from gatewayproto.actions import (
    CaughtUp,
    ClientEvent,
    EventReceived,
    Gap,
    HealthReceived,
    Joined,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    PresenceReceived,
    ResumeToken,
    RetryScheduled,
    Skipped,
    SnapshotReceived,
    StateChanged,
    Stopped,
    TokenNeeded,
)
from gatewayproto.frames import ClientInfo, PresenceEntry
from tests.cli.cli_support import capture

TOKEN = ResumeToken(session_id="s", epoch="e", cursor=7)
ENTRY = PresenceEntry(
    client_id="c", agent_id="a", connected_at=1.5, client=ClientInfo(name="n", version=None)
)


def joined(text: str = "s") -> Joined:
    return Joined(
        token=TOKEN,
        session_id=text,
        epoch=None,
        protocol_version=2,
        resumed=True,
        cursor=9,
        oldest_cursor=None,
        sequence=7,
        resync_required=True,
        resync_reason=text,
        presence=(ENTRY,),
        health={},
    )


def event(text: str, data: dict[str, Any]) -> EventReceived:
    inner = Event(type=text, data=data, event_id=text, timestamp=1.5, source=text, run_id=text)
    return EventReceived(seq=7, replayed=True, event=inner, token=TOKEN)


def emitted(text: str, data: dict[str, Any]) -> list[ClientEvent]:
    """One of each event, with this text and data of the server's wherever it has a say."""
    entry = PresenceEntry(client_id=text, agent_id=text, connected_at=1.5)
    return [
        StateChanged("reconnecting"),
        joined(text),
        event(text, data),
        Skipped(first=3, last=7, reason=text, token=TOKEN),
        SnapshotReceived(cursor=7, epoch=text, reason=text, state=data, token=TOKEN),
        CaughtUp(cursor=7),
        Gap(expected=3, received=7),
        MessageAccepted(request_id=text, duplicate=True),
        MessageRefused(request_id=text, code=text, message=text),
        OutcomeUnknown(request_id=text),
        PresenceReceived(version=2, from_version=1, joined=(entry,), left=(text,), entries=None),
        HealthReceived(version=3, health=data),
        RetryScheduled(delay=0.25, attempt=2, code=text),
        TokenNeeded(code=text),
        Stopped(code=text, message=text),
    ]


def test_every_event_is_among_them() -> None:
    assert {type(each) for each in emitted("", {})} == set(get_args(ClientEvent))


EXPECTED: list[tuple[ClientEvent, dict[str, Any]]] = [
    (
        joined(),
        {
            "emit": "joined",
            "session_id": "s",
            "epoch": None,
            "protocol_version": 2,
            "resumed": True,
            "cursor": 9,
            "oldest_cursor": None,
            "sequence": 7,
            "resync_required": True,
            "resync_reason": "s",
        },
    ),
    (
        event("t", {"a": None, "b": [None]}),
        {
            "emit": "event",
            "seq": 7,
            "replayed": True,
            "event": {
                "type": "t",
                "data": {"a": None, "b": [None]},
                "event_id": "t",
                "timestamp": 1.5,
                "source": "t",
                "run_id": "t",
            },
        },
    ),
    (
        PresenceReceived(version=2, from_version=1, joined=(ENTRY,), left=("x",), entries=None),
        {
            "emit": "presence",
            "version": 2,
            "from_version": 1,
            "joined": [
                {"client_id": "c", "agent_id": "a", "connected_at": 1.5, "client": {"name": "n"}}
            ],
            "left": ["x"],
        },
    ),
    (
        PresenceReceived(version=2, from_version=None, joined=None, left=None, entries=()),
        {"emit": "presence", "version": 2, "entries": []},
    ),
    (
        HealthReceived(version=3, health={"ok": None}),
        {"emit": "health", "version": 3, "health": {"ok": None}},
    ),
    (Gap(expected=3, received=7), {"emit": "gap", "expected": 3, "received": 7}),
    (
        MessageRefused(request_id="r", code="inbox_full", message="no"),
        {"emit": "refused", "request_id": "r", "code": "inbox_full"},
    ),
    (OutcomeUnknown(request_id="r"), {"emit": "outcome_unknown", "request_id": "r"}),
    (
        RetryScheduled(delay=0.25, attempt=2, code=None),
        {"emit": "retry", "delay": 0.25, "attempt": 2, "code": None},
    ),
]


@pytest.mark.parametrize(("emits", "fields"), EXPECTED)
def test_the_json_object_of_an_event(emits: ClientEvent, fields: dict[str, Any]) -> None:
    made = json_fields(emits)
    assert made == fields
    assert made is not None
    assert next(iter(made)) == "emit"


texts = st.text(max_size=20) | st.sampled_from(
    ["\x1b[2J", "\x9b31m", "\r\n", "\u202e", "\u2028", "[red]x[/red]", "\ud800", "\x7f", ":bomb:"]
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts | st.just("text"), plain, max_size=3)


@given(texts)
def test_what_is_escaped_is_one_printable_line(text: str) -> None:
    assert escape(text).isprintable()
    assert (escape(text) == text) is text.isprintable()


@given(texts, objects)
def test_json_lines_are_ascii_and_read_back(text: str, data: dict[str, Any]) -> None:
    for each in emitted(text, data):
        with capture() as written:
            JsonWriter().write(each)
        if isinstance(each, TokenNeeded):
            assert written() == ""
            continue
        assert written().isascii()
        assert len(written().splitlines()) == 1
        assert json.loads(written()) == json_fields(each)


@given(texts, objects)
def test_words_for_people_are_one_harmless_line_each(text: str, data: dict[str, Any]) -> None:
    for each in emitted(text, data):
        with capture() as written:
            PeopleWriter().write(each)
        assert written().endswith("\n")
        assert written()[:-1].isprintable()


@given(texts)
def test_a_record_of_the_log_is_one_printable_line(text: str) -> None:
    record = logging.LogRecord("name", logging.WARNING, "", 0, "from %s", (text,), None)
    line = EscapingFormatter("%(levelname)s %(message)s").format(record)
    assert line == f"WARNING from {escape(text)}"


def test_a_traceback_in_the_log_keeps_its_lines_and_nothing_else() -> None:
    try:
        raise ValueError("\x1b[2J\x07")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("name", logging.ERROR, "", 0, "it\nfailed", (), info)
    first, *rest = EscapingFormatter("%(message)s").format(record).split("\n")
    assert first == r"it\nfailed"
    assert len(rest) > 1
    assert all(line.isprintable() for line in rest)

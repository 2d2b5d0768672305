"""Every frame of the specification, field by field: what is read, and what answers what is off."""

import json
from collections.abc import Mapping
from typing import Any, get_args

import attrs
import pytest

from gatewayproto import codec, frames
from gatewayproto.errors import ErrorCode, FrameError
from tests.wire_vocabulary import (
    CLIENT_TO_SERVER,
    EVENT,
    PRESENCE_CHANGE,
    PRESENCE_COUNT,
    SERVER_TO_CLIENT,
    SNAPSHOT_PART,
    Mark,
    Record,
)

READERS = {"client": codec.client_frame, "server": codec.server_frame}
RECORDS: list[tuple[str, str, Record]] = [
    *(("client", kind, record) for kind, record in CLIENT_TO_SERVER.items()),
    *(("server", kind, record) for kind, record in SERVER_TO_CLIENT.items()),
    ("server", "snapshot", SNAPSHOT_PART),
    ("server", "presence", PRESENCE_CHANGE),
    ("server", "presence", PRESENCE_COUNT),
]
EVERY_FRAME = pytest.mark.parametrize(
    ("side", "kind", "record"), RECORDS, ids=[f"{side}-{kind}" for side, kind, _ in RECORDS]
)


def read(side: str, fields: Mapping[str, Any]) -> Any:
    data = json.dumps(fields).encode()
    return READERS[side](codec.parse(data, max_bytes=len(data)))


def code_for(side: str, kind: str, name: str) -> ErrorCode:
    """The code that the specification gives a field that is off."""
    if side == "client" and kind in {"hello", "join"}:
        return ErrorCode.INVALID_CURSOR if name == "since" else ErrorCode.INVALID_PROTOCOL_HELLO
    if (side, kind, name) == ("client", "resume", "since"):
        return ErrorCode.INVALID_CURSOR
    if (side, kind, name) == ("client", "message", "request_id"):
        return ErrorCode.INVALID_REQUEST
    return ErrorCode.MALFORMED_FRAME


@EVERY_FRAME
def test_every_good_frame_is_read_as_it_was_written(side: str, kind: str, record: Record) -> None:
    for _, fields in record.good():
        frame = read(side, {"type": kind, **fields})
        assert not isinstance(frame, frames.UnknownFrame)
        assert frame.type == kind
        written = codec.to_object(frame)
        assert written == {"type": kind, **_without_nulls(fields)}


@EVERY_FRAME
def test_every_field_that_is_off_is_answered_with_its_code(
    side: str, kind: str, record: Record
) -> None:
    for name, fields in record.bad():
        with pytest.raises(FrameError) as caught:
            read(side, {"type": kind, **fields})
        assert caught.value.code is code_for(side, kind, name), (name, fields.get(name))


@EVERY_FRAME
def test_absent_and_null_are_the_same(side: str, kind: str, record: Record) -> None:
    for name in record.marked(Mark.OPTIONAL, Mark.WRITTEN):
        fields = {"type": kind, **record.full()}
        null = {**fields, name: None}
        del fields[name]
        assert read(side, null) == read(side, fields)


@EVERY_FRAME
def test_unknown_fields_are_ignored(side: str, kind: str, record: Record) -> None:
    fields = {"type": kind, **record.full()}
    assert read(side, {"unknown": {"x": [1]}, **fields}) == read(side, fields)


@pytest.mark.parametrize("kind", ["hello", "join"])
def test_an_integer_out_of_range_in_a_handshake_gets_its_fields_code(kind: str) -> None:
    fields = {"type": kind, "agent_id": "a"}
    for name in ("since", "max_payload"):
        with pytest.raises(FrameError) as caught:
            read("client", {**fields, name: 2**53})
        assert caught.value.code is code_for("client", kind, name)
    with pytest.raises(FrameError) as caught:
        read("client", {**fields, "unknown": 2**53})
    assert caught.value.code is ErrorCode.MALFORMED_FRAME


def test_since_is_judged_before_the_rest_of_a_handshake() -> None:
    with pytest.raises(FrameError) as caught:
        read("client", {"type": "hello", "agent_id": 5, "since": -1})
    assert caught.value.code is ErrorCode.INVALID_CURSOR


@pytest.mark.parametrize(
    ("fields", "request_id"),
    [
        ({"content": 5, "request_id": "r1"}, "r1"),
        ({"content": "x", "request_id": "r1", "metadata": {"n": 2**53}}, "r1"),
        ({"content": 5}, None),
        ({"content": 5, "request_id": None}, None),
        ({"content": "x", "request_id": ""}, None),
        ({"content": "x", "request_id": ["r1"]}, None),
    ],
)
def test_a_bad_message_is_named_by_its_request_id_where_that_is_one(
    fields: dict[str, Any], request_id: str | None
) -> None:
    with pytest.raises(FrameError) as caught:
        read("client", {"type": "message", **fields})
    assert caught.value.request_id == request_id


@pytest.mark.parametrize("side", ["client", "server"])
def test_an_unknown_type_is_a_frame_of_its_own(side: str) -> None:
    others = SERVER_TO_CLIENT if side == "client" else CLIENT_TO_SERVER
    known = CLIENT_TO_SERVER if side == "client" else SERVER_TO_CLIENT
    for kind in [*(set(others) - set(known)), "", "Ping", "ping ", "\u0000", "constructor"]:
        fields = {"type": kind, "agent_id": 5, "seq": [], "x": {"y": 1}}
        assert read(side, fields) == frames.UnknownFrame(type=kind, fields=fields)


def test_an_unknown_type_with_an_integer_out_of_range_is_malformed() -> None:
    with pytest.raises(FrameError) as caught:
        read("client", {"type": "x", "y": [{"z": -(2**53)}]})
    assert caught.value.code is ErrorCode.MALFORMED_FRAME


@pytest.mark.parametrize("kind", [None, 5, True, [], {}, ["ping"]])
def test_a_type_that_is_no_string_is_malformed(kind: object) -> None:
    with pytest.raises(FrameError) as caught:
        read("client", {"type": kind})
    assert caught.value.code is ErrorCode.MALFORMED_FRAME


def test_the_classes_have_the_specified_fields_and_no_others() -> None:
    """`head` is version 1's; `cursor` is the client's in `pong` and the server's in `ping`."""
    more = {"hello_ok": {"head"}, "joined": {"head", "protocol"}, "ping": {"cursor"}}
    for side, kind, record in RECORDS:
        cls = type(read(side, {"type": kind, **record.full()}))
        expected = {"type", *record.fields, *more.get(kind, set[str]())}
        if kind in {"snapshot", "presence"}:
            expected = {"type"}.union(*(r.fields for _, k, r in RECORDS if k == kind))
        if (side, kind) == ("server", "pong"):
            expected.add("cursor")
        assert {field.name for field in attrs.fields(cls)} == expected
    assert {field.name for field in attrs.fields(frames.Event)} == set(EVENT.fields)


CLASSES = (
    *dict.fromkeys((*get_args(frames.ClientFrame), *get_args(frames.ServerFrame))),
    frames.Event,
    frames.ClientInfo,
    frames.PresenceEntry,
    frames.Features,
    frames.Policy,
    frames.UnknownFrame,
)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_is_frozen_and_made_by_keyword(cls: type) -> None:
    arguments: dict[str, Any] = dict.fromkeys(attrs.fields_dict(cls), "x")
    value = cls(**arguments)
    assert value == cls(**arguments)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.type = "y"
    with pytest.raises(TypeError):
        cls(*arguments.values())


def _without_nulls(value: Any) -> Any:
    """As written: without the optional members that are null, also those of nested records."""
    opaque = {"data", "content", "metadata", "health", "state"}
    match value:
        case dict():
            return {
                name: item if name in opaque else _without_nulls(item)
                for name, item in value.items()
                if item is not None
            }
        case list():
            return [_without_nulls(item) for item in value]
        case _:
            return value


def test_no_frame_shows_a_token() -> None:
    secret = "swordfish"
    shown = [frames.Hello(agent_id="a", token=secret), frames.Join(agent_id="a", token=secret)]
    assert secret not in repr([*shown, frames.Auth(token=secret)])

"""Bytes to frames and back: round trips, strictness, and nothing but `FrameError` for the rest."""

import enum
import itertools
import json
import math
import time
import traceback
from collections import OrderedDict
from typing import Any, NoReturn, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto import codec, frames
from gatewayproto.errors import ErrorCode, FrameError
from gatewayproto.testing.strategies import client_frames, objects, plain, server_frames
from gatewayproto.testing.strategies import frames as frames_of
from tests.wire_vocabulary import MAX_INT

MALFORMED = ErrorCode.MALFORMED_FRAME
CLIENT_FRAMES = client_frames()
SERVER_FRAMES = server_frames()
# So large a frame would take minutes if reading it took more than one pass.
LARGE = 400_000
SECONDS_FOR_LARGE = 10.0


def parse(data: bytes) -> codec.Parsed:
    return codec.parse(data, max_bytes=1 << 22)


def read(data: bytes) -> Any:
    return codec.client_frame(parse(data))


def code_of(data: bytes) -> ErrorCode:
    with pytest.raises(FrameError) as caught:
        read(data)
    return caught.value.code


def ping_with(value: bytes) -> bytes:
    """A ping with a field that nobody knows."""
    return b'{"type":"ping","x":' + value + b"}"


def nested(depth: int, levels: str) -> bytes:
    """A frame that nests `depth` deep, its own object being the first level."""
    value = b"0"
    for kind in itertools.islice(itertools.cycle(levels), depth - 1):
        value = b"[%b]" % value if kind == "[" else b'{"a":%b}' % value
    return ping_with(value)


# -- round trips ------------------------------------------------------------------------------


@given(CLIENT_FRAMES)
def test_what_a_client_writes_a_server_reads(frame: frames.ClientFrame) -> None:
    data = codec.encode(frame)
    assert codec.client_frame(codec.parse(data, max_bytes=len(data))) == frame


@given(SERVER_FRAMES)
def test_what_a_server_writes_a_client_reads(frame: frames.ServerFrame) -> None:
    data = codec.encode(frame)
    assert codec.server_frame(codec.parse(data, max_bytes=len(data))) == frame


@given(CLIENT_FRAMES | SERVER_FRAMES)
def test_a_frame_is_written_as_plain_json_with_its_type_first_and_no_nulls(
    frame: frames.ClientFrame | frames.ServerFrame,
) -> None:
    fields = json.loads(codec.encode(frame))
    assert fields == json.loads(json.dumps(codec.to_object(frame)))
    assert next(iter(fields)) == "type"
    assert None not in fields.values()


# -- strictness -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b'{"type":"ping"',
        b'{"type":"ping',
        b'{"type":"ping"}}',
        b'{"type":"ping"} {"type":"ping"}',
        b'{"type":"ping",}',
        b"{'type':'ping'}",
        b"{type:1}",
        b'{"type":"ping"}\x00',
        b'\x0c{"type":"ping"}',
        '\u00a0{"type":"ping"}'.encode(),
        '\ufeff{"type":"ping"}'.encode(),
        '{"type":"ping"}'.encode("utf-16"),
        '{"type":"ping"}'.encode("utf-32-be"),
        b'// a comment\n{"type":"ping"}',
        b'["type","ping"]',
        b"[]",
        b'"ping"',
        b"5",
        b"null",
        b"true",
        b"{}",
        b"ping",
        b"\xff\xfe",
    ],
)
def test_what_is_no_json_object_with_a_type_is_malformed(data: bytes) -> None:
    assert code_of(data) is MALFORMED


@pytest.mark.parametrize(
    "value",
    [
        b"NaN",
        b"-NaN",
        b"Infinity",
        b"-Infinity",
        b"nan",
        b"inf",
        b"1e400",
        b"-1e400",
        b"[1e400, NaN]",
        b"9" * 400 + b".5",
        b"01",
        b"-",
        b"+1",
        b".5",
        b"1.",
        b"1e",
        b"0x10",
        b"1_000",
        b"True",
        b"None",
        b"undefined",
        b"[1,]",
        b"[,1]",
        b'{"a"}',
        b'{"a":}',
        b'{5:"a"}',
        b'"\x01"',
        b'"\n"',
        b'{"\t":1}',
        rb'"\x41"',
        rb'"\u12"',
        rb'"\u+123"',
        rb'"\u 123"',
        rb'"\U00000041"',
        b'"\\',
    ],
)
def test_what_rfc_8259_does_not_allow_is_malformed(value: bytes) -> None:
    assert code_of(ping_with(value)) is MALFORMED


@pytest.mark.parametrize(
    "value", [b"-0", b"-0.0", b"1E+2", b"1e-999", rb'"\/\b\f\n\r\t\u0000\ud83d\ude00"', b"1e300"]
)
def test_what_rfc_8259_allows_is_read(value: bytes) -> None:
    assert read(b" \t\r\n" + ping_with(value) + b" \t\r\n") == frames.Ping()


@pytest.mark.parametrize(
    "text",
    [rb"\ud800", rb"\udc00", rb"\udfff\ud800", rb"\ud83d\ud83d", rb"a\uD83Db", rb"\ud83d\u0041"],
)
def test_lone_surrogates_are_malformed_in_values_and_in_names(text: bytes) -> None:
    assert code_of(ping_with(b'"' + text + b'"')) is MALFORMED
    assert code_of(ping_with(b'{"' + text + b'":1}')) is MALFORMED
    assert code_of(b'{"type":"ping","' + text + b'":1}') is MALFORMED


@pytest.mark.parametrize(
    "text", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"a\x80"]
)
def test_invalid_utf_8_is_malformed_in_values_and_in_names(text: bytes) -> None:
    assert code_of(ping_with(b'"' + text + b'"')) is MALFORMED
    assert code_of(ping_with(b'{"' + text + b'":1}')) is MALFORMED


@pytest.mark.parametrize(
    ("data", "repeats"),
    [
        (b'{"type":"ping","type":"ping"}', True),
        (b'{"type":"ping","nonce":"a","nonce":"a"}', True),
        (b'{"type":"ping","nonce":null,"nonce":"a"}', True),
        (rb'{"type":"ping","a":1,"\u0061":1}', True),
        (rb'{"type":"ping","\u0074ype":"leave"}', True),
        (ping_with(b'{"a":1,"b":2,"a":3}'), True),
        (ping_with(b'[[{"y":{"":1,"":2}}]]'), True),
        (ping_with(rb'{"\ud83d\ude00":1,"' + "\U0001f600".encode() + b'":1}'), True),
        (ping_with(b"[" * 60 + b'{"a":1,"a":1}' + b"]" * 60), True),
        (ping_with(b'{"a":{"a":{"a":[{"a":1},{"a":1}]}}}'), False),
        (ping_with(b'{"a":1,"A":1,"a ":1,"":1}'), False),
        # The same to a reader that normalizes, and not to RFC 8259.
        (ping_with('{"\u00e9":1,"e\u0301":1}'.encode()), False),
    ],
)
def test_a_repeated_name_is_malformed_at_any_depth(data: bytes, repeats: bool) -> None:
    if repeats:
        assert code_of(data) is MALFORMED
    else:
        assert read(data) == frames.Ping()


# -- nesting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", ["[", "{", "[{", "[[{"])
def test_nesting_64_deep_is_read_and_65_deep_is_malformed(levels: str) -> None:
    assert read(nested(64, levels)) == frames.Ping()
    assert code_of(nested(65, levels)) is MALFORMED
    assert code_of(nested(66, levels)) is MALFORMED


def depth_of(data: bytes) -> int:
    def depth(value: Any) -> int:
        match value:
            case dict():
                return 1 + max(map(depth, value.values()), default=0)
            case list():
                return 1 + max(map(depth, value), default=0)
            case _:
                return 0

    return depth(json.loads(data))


def test_brackets_in_strings_are_no_nesting() -> None:
    for text in (b"[" * 100, b"{" * 100, rb"\"" + b"[" * 100, rb"\\\"[" * 100, rb"\\"):
        assert read(ping_with(b'"' + text + b'"')) == frames.Ping()
        assert read(ping_with(b'{"' + text + b'":' + b"[" * 62 + b"]" * 62 + b"}")) == frames.Ping()
        assert code_of(ping_with(b'["' + text + b'",' + b"[" * 63 + b"]" * 64)) is MALFORMED


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert read(ping_with(b"[" + b",".join([b"[{}]"] * 1000) + b"]")) == frames.Ping()


@pytest.mark.parametrize(
    "data",
    [
        b"[" * LARGE,
        b"[" * LARGE + b"]" * LARGE,
        b'{"a":' * (LARGE // 5),
        b'{"type":"ping","x":' + b"[" * LARGE,
        b"]" * LARGE + b"[" * LARGE,
        b"[" * 65 + b'"' + b'\\"' * LARGE,
        b"[" * 65 + b'"' * LARGE,
        b"[" * 65 + b'"a' * LARGE,
        b"[" * 65 + b"\\" * LARGE,
        b'"' + b'\\"' * LARGE + b"[" * 65,
        b'{"type":"ping","x":' + b"1" * LARGE + b"}",
        b'{"type":"ping","x":-' + b"1" * LARGE + b"e1}",
        b'{"type":"ping","x":"' + b"\\ud800" * (LARGE // 6) + b'"}',
    ],
    ids=range(13),
)
def test_large_malformed_input_is_answered_in_one_pass(data: bytes) -> None:
    begun = time.process_time()
    assert code_of(data) is MALFORMED
    assert time.process_time() - begun < SECONDS_FOR_LARGE


# -- integers ---------------------------------------------------------------------------------

BIG = [
    str(2**53).encode(),
    str(-(2**53)).encode(),
    str(2**63).encode(),
    str(2**64).encode(),
    b"1" + b"0" * 400,
    b"1" * 5000,
    b"-" + b"1" * 5000,
]


@pytest.mark.parametrize("digits", BIG, ids=lambda digits: f"{digits[:4].decode()}-{len(digits)}")
@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"ping","x":%b}',
        b'{"type":"ping","cursor":%b}',
        b'{"type":"ping","x":[{"y":[0,%b]}]}',
        b'{"type":"nobody knows","x":%b}',
        b'{"type":"message","content":{"n":%b}}',
        b'{"type":"message","content":"x","metadata":{"n":[%b]}}',
        b'{"type":"hello","agent_id":"a","x":{"y":%b}}',
    ],
)
def test_an_integer_out_of_range_is_malformed_anywhere(data: bytes, digits: bytes) -> None:
    assert code_of(data % digits) is MALFORMED


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"event","seq":1,"event":{"type":"a","data":{"n":%b},"event_id":"e","timestamp":1}}',
        b'{"type":"event","seq":1,"event":{"type":"a","data":{},"event_id":"e","timestamp":%b}}',
        b'{"type":"event","seq":%b,"event":{"type":"a","data":{},"event_id":"e","timestamp":1}}',
        b'{"type":"error","code":"x","retry_after_seconds":%b}',
        b'{"type":"health","version":1,"health":{"n":%b}}',
    ],
)
def test_an_integer_out_of_range_is_malformed_to_a_client_too(data: bytes) -> None:
    for digits in BIG:
        with pytest.raises(FrameError) as caught:
            codec.server_frame(parse(data % digits))
        assert caught.value.code is MALFORMED


@pytest.mark.parametrize("kind", ["hello", "join"])
def test_a_handshakes_own_fields_answer_for_their_range(kind: str) -> None:
    low = {"hello": "protocol_min", "join": "min_version"}[kind]
    for digits in (2**53, 2**64, -(2**63), 10**400):
        start = f'{{"type":"{kind}","agent_id":"a"'
        assert code_of(f'{start},"since":{digits}}}'.encode()) is ErrorCode.INVALID_CURSOR
        assert code_of(f'{start},"{low}":{digits}}}'.encode()) is ErrorCode.INVALID_PROTOCOL_HELLO


@pytest.mark.parametrize("number", [MAX_INT, -MAX_INT, 0, -1])
def test_the_largest_integers_are_read(number: int) -> None:
    frame = read(b'{"type":"message","content":{"n":[%d]}}' % number)
    assert frame.content == {"n": [number]}


def test_a_number_with_fraction_or_exponent_is_no_integer_and_has_no_such_bound() -> None:
    frame = read(
        b'{"type":"message","content":{"n":[9007199254740993.0,1e300,12345678901234567e0]}}'
    )
    assert all(isinstance(number, float) for number in frame.content["n"])


def test_long_digits_in_strings_and_true_are_no_integers() -> None:
    data = b'{"type":"message","content":{"%b":"%b","t":[true,false,null]}}' % (
        b"9" * 40,
        b"9" * 40,
    )
    assert read(data).content == {"9" * 40: "9" * 40, "t": [True, False, None]}


# -- size -------------------------------------------------------------------------------------


def test_a_frame_over_the_limit_is_too_large_and_one_at_it_is_not() -> None:
    data = b'{"type":"ping"}'
    assert codec.parse(data, max_bytes=len(data)).type == "ping"
    for too_large in (data, b"x" * len(data), b"\xff" * len(data)):
        with pytest.raises(FrameError) as caught:
            codec.parse(too_large, max_bytes=len(data) - 1)
        assert caught.value.code is ErrorCode.PAYLOAD_TOO_LARGE


# -- totality ---------------------------------------------------------------------------------

TOKENS = st.sampled_from(
    [
        *(bytes([byte]) for byte in b'{}[]:,"\\ \n-+.eE0'),
        *(b'"a"', rb'"\u0061"', b'"type"', b'"ping"', b'"since"', b'"hello"', b"1", b"-0", b"1.5"),
        *(
            b"1e400",
            b"9007199254740992",
            b"true",
            b"null",
            b"NaN",
            rb"\ud800",
            b"\xff",
            b"\xc3\xa9",
        ),
        *(b'{"type":"ping","x":', b'{"type":"message","content":', b"[" * 32, b"]" * 32),
    ]
)
TYPES = [*get_args(frames.ClientFrame), *get_args(frames.ServerFrame)]
NAMES = sorted({name for cls in TYPES for name in cls.__annotations__})
KINDS = ["hello", "join", "message", "resume", "pong", "hello_ok", "event", "snapshot", "presence"]
ODD_OBJECTS = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(KINDS),
    st.dictionaries(
        st.sampled_from(NAMES).filter(lambda name: name != "type"),
        plain | st.integers() | st.just({"type": "a", "data": {}, "event_id": "e", "timestamp": 1}),
        max_size=6,
    ),
)


def outcomes(data: bytes) -> set[ErrorCode | None]:
    """The codes that answer `data`, None for a frame; every other exception passes."""
    found: set[ErrorCode | None] = set()
    for make in (codec.client_frame, codec.server_frame):
        try:
            make(parse(data))
            found.add(None)
        except FrameError as error:
            found.add(error.code)
    return found


@given(st.binary(max_size=200))
def test_any_bytes_give_a_frame_or_a_frame_error(data: bytes) -> None:
    assert outcomes(data) <= {None, MALFORMED}


@given(ODD_OBJECTS)
def test_any_object_gives_a_frame_or_a_frame_error(value: dict[str, Any]) -> None:
    assert outcomes(json.dumps(value).encode()) <= {
        None,
        MALFORMED,
        ErrorCode.INVALID_CURSOR,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_PROTOCOL_HELLO,
    }


class RefusedError(Exception):
    pass


def refuse(_: str) -> NoReturn:
    raise RefusedError


def finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else refuse(text)


def in_range(text: str) -> int:
    value = int(text)
    return value if abs(value) <= MAX_INT else refuse(text)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else refuse("")


def reference(data: bytes) -> bool:
    """Whether bytes are a frame by the specification, "Framing"; slow, and plain to see."""
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=unique,
            parse_float=finite,
            parse_int=in_range,
            parse_constant=refuse,
        )
        json.dumps(value, ensure_ascii=False).encode()  # no lone surrogate
    except (RefusedError, ValueError):
        return False
    return isinstance(value, dict) and isinstance(value.get("type"), str) and depth_of(data) <= 64


def mutated(data: bytes, position: int, deleted: int, inserted: bytes) -> bytes:
    at = position % (len(data) + 1)
    return data[:at] + inserted + data[at + deleted :]


MUTATED = st.builds(
    mutated,
    objects.map(lambda value: json.dumps({"type": "x", "x": value}).encode()),
    st.integers(0, 500),
    st.integers(0, 3),
    TOKENS | st.just(b""),
)


@given(st.lists(TOKENS, max_size=20).map(b"".join) | MUTATED)
def test_what_is_a_frame_agrees_with_a_plain_reference(data: bytes) -> None:
    assert is_frame(data) == reference(data)


def is_frame(data: bytes) -> bool:
    try:
        parsed = parse(data)
        codec.client_frame(codec.Parsed("x", parsed.fields, parsed.out_of_range))
    except FrameError:
        return False
    return True


SECRET = "swordfish"


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"hello","agent_id":"a","start":"SECRET"}',
        '{"type":"hello","agent_id":"a","start":"SECRET - at `$.SECRET`"}',
        '{"type":"hello","agent_id":{"SECRET":"SECRET"}}',
        '{"type":"hello","agent_id":"a","since":"SECRET"}',
        '{"type":"hello","agent_id":"a","client":{"name":["SECRET"]}}',
        '{"type":"hello","agent_id":"a","capabilities":["a",{"SECRET":1}]}',
        '{"type":"hello","agent_id":"a","epoch":"' + "SECRET" * 20 + '"}',
        '{"type":"message","content":["SECRET"]}',
        '{"type":"message","content":"x","request_id":["SECRET"]}',
        '{"type":"message","content":{"SECRET":9007199254740992}}',
        '{"type":"SECRET","x":9007199254740992}',
        '{"type":["SECRET"]}',
        '{"type":"ping","SECRET":1,"SECRET":1}',
        '{"type":"ping","nonce":"SECRET',
        '{"type":"ping","nonce":"\\SECRET"}',
        '{"type":"ping","SECRET":"\\ud800"}',
        '{"type":"ping","SECRET":SECRET}',
        '"SECRET"',
        "SECRET",
    ],
)
def test_what_is_said_of_a_bad_frame_repeats_nothing_of_it(data: str) -> None:
    data = data.replace("SECRET", SECRET)
    with pytest.raises(FrameError) as caught:
        read(data.encode())
    assert caught.value.detail
    assert SECRET not in caught.value.detail
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_what_is_said_of_bytes_that_are_no_text_repeats_nothing_of_them() -> None:
    with pytest.raises(FrameError) as caught:
        read(ping_with(b'"\xff' + SECRET.encode() + b'"'))
    assert caught.value.detail == "not UTF-8"


# -- a state that came in parts ---------------------------------------------------------------


@given(objects)
def test_a_state_is_read_as_it_was_written(state: dict[str, Any]) -> None:
    data = codec.encode_object(state)
    assert codec.parse_state(data, max_bytes=len(data)) == state


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'"x"', b'{"a":1,"a":1}', b'{"a":NaN}', b'{"a":9007199254740992}', b'{"a":' * 65],
)
def test_a_state_is_read_as_strictly_as_a_frame(data: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        codec.parse_state(data, max_bytes=1000)
    assert caught.value.code is MALFORMED


def test_a_state_over_the_limit_is_too_large() -> None:
    with pytest.raises(FrameError) as caught:
        codec.parse_state(b'{"a":1}', max_bytes=6)
    assert caught.value.code is ErrorCode.PAYLOAD_TOO_LARGE


# -- events -----------------------------------------------------------------------------------


@given(frames_of(frames.Event))
def test_an_event_comes_back_from_its_bytes(event: frames.Event) -> None:
    assert codec.decode_event(codec.encode_event(event, max_depth=64)) == event


@given(frames_of(frames.Event), st.sampled_from(["event", "replay"]), st.integers(1, MAX_INT))
def test_an_events_bytes_are_its_frame(event: frames.Event, kind: Any, seq: int) -> None:
    body = codec.encode_event(event, max_depth=64)
    frame = codec.event_frame(kind, seq, body)
    assert frame == codec.encode(frames.EventFrame(type=kind, seq=seq, event=event))
    assert body in frame


def event(**fields: Any) -> frames.Event:
    defaults: dict[str, Any] = {"type": "a", "data": {}, "event_id": "e", "timestamp": 1.0}
    return frames.Event(**{**defaults, **fields})


def test_events_data_may_nest_as_deep_as_it_is_told() -> None:
    data: dict[str, Any] = {"a": {"b": [1]}}
    assert codec.encode_event(event(data=data), max_depth=4)
    with pytest.raises(ValueError, match="deeper than 3"):
        codec.encode_event(event(data=data), max_depth=3)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": ""},
        {"type": 5},
        {"type": None},
        {"data": ["x"]},
        {"data": None},
        {"event_id": ""},
        {"timestamp": "now"},
        {"timestamp": True},
        {"run_id": frames.ClientInfo()},
        {"run_id": ""},
        {"final": 1},
        {"source": ("x",)},
    ],
)
def test_an_event_that_is_none_by_its_types_is_found_when_it_is_read_back(
    fields: dict[str, Any],
) -> None:
    body = codec.encode_event(event(**fields), max_depth=64)
    with pytest.raises(FrameError) as caught:
        codec.decode_event(body)
    assert caught.value.code is MALFORMED


class Odder(frames.Event):
    pass


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"type": "a", "data": {}, "event_id": "e", "timestamp": 1.0},
        frames.Ping(),
        Odder(type="a", data={}, event_id="e", timestamp=1.0),
    ],
)
def test_what_is_no_event_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="no Event"):
        codec.encode_event(value, max_depth=64)


# -- plain data -------------------------------------------------------------------------------


class Text(str):
    __slots__ = ()


class Number(float):
    __slots__ = ()


class Integer(int):
    __slots__ = ()


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1
    HUGE = 2**53


class Odd(enum.Enum):
    PAIR = (1, 2)


@given(objects)
def test_plain_data_may_be_sent_and_arrives(value: dict[str, Any]) -> None:
    codec.check_plain(value, max_depth=64)
    data = codec.encode_object({"type": "x", "value": value})
    assert parse(data).fields["value"] == value


@pytest.mark.parametrize(
    "value",
    [Color.RED, Level.LOW, (1, 2), OrderedDict(a=1), MAX_INT, -MAX_INT, 1e308, "\U0001f600"],
)
def test_what_is_plain_is_encoded(value: object) -> None:
    fields = {"type": "x", "value": [value]}
    codec.check_plain(fields, max_depth=64)
    assert parse(codec.encode_object(fields)).fields == json.loads(json.dumps(fields))


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        2**53,
        -(2**53),
        10**5000,
        "\ud800",
        {"\udfff": 1},
        {5: 1},
        {None: 1},
        {b"a": 1},
        {("a",): 1},
        b"bytes",
        {1, 2},
        1j,
        object(),
        object,
        Text("x"),
        {Text("x"): 1},
        Number(1.5),
        Integer(5),
        Level.HUGE,
        Odd.PAIR,
        frames.ClientInfo(),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("max_depth", [64, 1])
def test_what_is_not_plain_is_a_value_error(value: object, max_depth: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.check_plain({"x": value}, max_depth=max_depth)
    with pytest.raises(ValueError, match=r"."):
        codec.check_plain({"x": [[{"y": (value,)}]]}, max_depth=max_depth)


@given(objects)
def test_the_depth_that_is_allowed_is_exact(value: dict[str, Any]) -> None:
    depth = depth_of(json.dumps(value).encode())
    codec.check_plain(value, max_depth=depth)
    if depth > 1:
        with pytest.raises(ValueError, match=f"deeper than {depth - 1}"):
            codec.check_plain(value, max_depth=depth - 1)


def test_data_that_holds_itself_is_too_deep() -> None:
    value: dict[str, Any] = {}
    value["x"] = [value]
    with pytest.raises(ValueError, match="deeper than 64"):
        codec.check_plain(value, max_depth=64)


def reordered(value: Any) -> Any:
    match value:
        case dict():
            return {name: reordered(item) for name, item in reversed(value.items())}
        case list():
            return [reordered(item) for item in value]
        case _:
            return value


@given(objects, objects)
def test_canonical_bytes_are_equal_just_when_the_data_is(
    value: dict[str, Any], other: dict[str, Any]
) -> None:
    assert codec.canonical(value) == codec.canonical(reordered(value))
    assert json.loads(codec.canonical(value)) == value
    if value != other:
        assert codec.canonical(value) != codec.canonical(other)


# -- snapshots --------------------------------------------------------------------------------

TEXT = st.text() | st.sampled_from(
    ["\U0001f600", "\u4e16", "\u00e9", '"', "\\", "\x00", "\n", "\x7f", "\u2028", '\\"\\', "/"]
)


@given(
    texts=st.lists(TEXT, min_size=1, max_size=5),
    repeats=st.integers(0, 6000),
    max_bytes=st.integers(frames.MIN_MAX_PAYLOAD, 3 * frames.MIN_MAX_PAYLOAD),
    nonce=st.none() | st.text(max_size=128) | st.just("\x00" * 128),
    epoch=st.text("aZ0-_", min_size=1, max_size=32),
)
def test_a_snapshot_fits_and_its_parts_are_its_state(
    texts: list[str], repeats: int, max_bytes: int, nonce: str | None, epoch: str
) -> None:
    state = {"messages": [text * (repeats // len(text or "x") // 5) for text in texts], "x": texts}
    body = codec.encode_object(state)
    snapshot = frames.Snapshot(cursor=MAX_INT, epoch=epoch, reason="epoch_changed", nonce=nonce)
    fields = codec.to_object(snapshot)
    encoded = codec.snapshot_frames(fields, body, max_bytes=max_bytes)
    assert all(len(frame) <= max_bytes for frame in encoded)
    received = [codec.server_frame(parse(frame)) for frame in encoded]
    snapshots = [frame for frame in received if isinstance(frame, frames.Snapshot)]
    assert len(snapshots) == len(encoded) >= 1
    for frame in snapshots:
        assert (frame.cursor, frame.epoch, frame.nonce) == (MAX_INT, epoch, nonce)
    if len(encoded) == 1:
        assert snapshots[0].state == state
        assert snapshots[0].part is None
        return
    assert len(body) + len(codec.encode_object(fields)) > max_bytes - len(b',"state":')
    assert [frame.part for frame in snapshots] == list(range(1, len(encoded) + 1))
    assert {frame.parts for frame in snapshots} == {len(encoded)}
    assert all(frame.state is None and frame.chunk for frame in snapshots)
    assert "".join(frame.chunk or "" for frame in snapshots).encode() == body


def test_a_snapshot_goes_whole_just_as_long_as_it_fits() -> None:
    fields = codec.to_object(frames.Snapshot(cursor=1, epoch="e", reason="requested"))
    body = codec.encode_object({"text": "x" * 5000})
    (whole,) = codec.snapshot_frames(fields, body, max_bytes=10_000)
    assert codec.snapshot_frames(fields, body, max_bytes=len(whole)) == [whole]
    assert len(codec.snapshot_frames(fields, body, max_bytes=len(whole) - 1)) > 1

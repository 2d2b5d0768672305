"""Bytes to frames and back: the only place that reads or writes JSON.

Reading is strict, and has two steps because the answer to bad input depends on the frame's type.
`parse` makes an object of the bytes or fails with `malformed_frame` or `payload_too_large`;
`client_frame` and `server_frame` make a frame of the object or fail with the code that the
specification names for the field that is off. Nothing but `FrameError` ever comes out of either.

msgspec checks syntax, UTF-8, surrogates and types. What JSON parsers let pass and this protocol
does not is checked here: nesting, repeated member names, integers beyond 2**53 - 1.

Spec: Framing.
"""

import json
import re
from enum import Enum
from typing import Any, Final, NoReturn, TypeVar, get_args

import attrs
import msgspec
from attrs import frozen

from gatewayproto import frames as f
from gatewayproto.errors import ErrorCode, FrameError

_T = TypeVar("_T")
_PART_ROOM: Final = 96
"""Bytes that the members of one part take beside its chunk."""

# The closing quote is optional, so that a string without one takes a single pass too.
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BUT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_LONG_NUMBER: Final = re.compile(rb"[0-9]{16}")
_MANY_DIGITS: Final = 400
"""More than any integer has that is a double, and fewer than Python refuses to convert."""
_OUT_OF_RANGE: Final = "a number that is out of range"
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


@frozen
class Parsed:
    """A JSON object with a `type`, not yet a frame.

    `out_of_range` tells that a number beyond what the protocol knows is somewhere in it, an
    integer past 2**53 - 1 or a number past every double: an error in itself, but a field whose
    constraint names a better one is asked first.
    """

    type: str
    fields: dict[str, Any]
    out_of_range: bool


def parse(data: bytes, *, max_bytes: int) -> Parsed:
    """Read one frame's bytes as a JSON object with a string `type`.

    `max_bytes` bounds the frame, in bytes. Raises `FrameError`: `payload_too_large` for more than
    that, `malformed_frame` for everything that is no JSON object by RFC 8259, nests deeper than
    64, repeats a member's name, or has no string `type`.

    Spec: Framing.
    """
    fields, out_of_range = _read_object(data, max_bytes)
    kind = fields.get("type")
    if not isinstance(kind, str):
        raise _malformed("no string `type`")
    return Parsed(kind, fields, out_of_range)


def parse_state(data: bytes, *, max_bytes: int) -> f.Object:
    """Read a snapshot's state that came in parts, as strictly as a frame.

    Raises `FrameError`: `payload_too_large` for more than `max_bytes`, else `malformed_frame`.

    Spec: Server to client, `snapshot`.
    """
    fields, out_of_range = _read_object(data, max_bytes)
    if out_of_range:
        raise _malformed(_OUT_OF_RANGE)
    return fields


def client_frame(parsed: Parsed) -> f.ClientFrame | f.UnknownFrame:
    """Make the frame that a server received.

    Raises `FrameError` with the code that the specification names for the field: `invalid_cursor`
    for a `since`, `invalid_request` for a message's `request_id`, `invalid_protocol_hello` for the
    rest of a handshake, `malformed_frame` for everything else.

    Spec: Client to server; Errors.
    """
    cls = _CLIENT_TYPES.get(parsed.type)
    if cls is None:
        return _unknown(parsed)
    fields = parsed.fields
    for name, code in _FIELD_ERRORS.get(cls, ()):
        _check_field(cls, name, fields.get(name), code)
    code = ErrorCode.INVALID_PROTOCOL_HELLO if cls in _HANDSHAKES else ErrorCode.MALFORMED_FRAME
    try:
        frame: f.ClientFrame = _convert(parsed, cls, code)
    except FrameError as error:
        if cls is f.Message:  # its id is a good one: it was looked at first
            error.request_id = fields.get("request_id")
        raise
    return frame


def server_frame(parsed: Parsed) -> f.ServerFrame | f.UnknownFrame:
    """Make the frame that a client received. Raises `FrameError` `malformed_frame`.

    Spec: Server to client.
    """
    cls = _SERVER_TYPES.get(parsed.type)
    if cls is None:
        return _unknown(parsed)
    frame: f.ServerFrame = _convert(parsed, cls, ErrorCode.MALFORMED_FRAME)
    return frame


def encode(frame: f.ClientFrame | f.ServerFrame) -> bytes:
    """Write a frame as UTF-8 JSON, its `type` first, without the fields that are None."""
    return encode_object(to_object(frame))


def encode_object(value: dict[str, Any]) -> bytes:
    """Write plain JSON data. Raises what msgspec raises for data that is not plain."""
    return msgspec.json.encode(value)


def encode_event(event: f.Event, *, max_depth: int) -> bytes:
    """Write an event once; `event_frame` puts the same bytes into every frame that carries it.

    Raises `ValueError` for anything else than an `Event`, and for data that `check_plain` refuses
    with this `max_depth`. Whether the fields are what their types say, `decode_event` tells.
    """
    if type(event) is not f.Event:
        raise ValueError(f"{type(event).__name__} is no Event")
    fields = _present(event)
    check_plain(fields, max_depth=max_depth)
    return msgspec.json.encode(fields)


def decode_event(body: bytes) -> f.Event:
    """Read an event that `encode_event` wrote.

    Raises `FrameError` `malformed_frame` where a field is not what its type says.
    """
    return _typed(msgspec.json.decode(body), f.Event, ErrorCode.MALFORMED_FRAME)


def event_frame(kind: str, seq: int, event: bytes) -> bytes:
    """Write an `event` or `replay` frame around an event's bytes, without encoding it again."""
    return b'{"type":"%b","seq":%d,"event":%b}' % (kind.encode(), seq, event)


def snapshot_frames(fields: dict[str, Any], state: bytes, *, max_bytes: int) -> list[bytes]:
    """Write a snapshot around a state's bytes: whole where that fits, else in parts.

    `fields` are those of the frame but `state`, its `type` first. `max_bytes` bounds each frame;
    it is at least `MIN_MAX_PAYLOAD`, where fields within their bounds, and an epoch of at most 32
    ASCII characters, leave room for a chunk.

    Spec: Server to client.
    """
    head = encode_object(fields)[:-1]
    whole = b'%b,"state":%b}' % (head, state)
    if len(whole) <= max_bytes:
        return [whole]
    text = state.decode()
    # JSON text has no control characters: an escaped character takes two bytes, others up to four.
    step = (max_bytes - len(head) - _PART_ROOM) // (2 if text.isascii() else 4)
    chunks = [text[start : start + step] for start in range(0, len(text), step)]
    return [
        encode_object({**fields, "part": part, "parts": len(chunks), "chunk": chunk})
        for part, chunk in enumerate(chunks, start=1)
    ]


def canonical(value: Any) -> bytes:
    """Write plain JSON data so that equal data gives equal bytes, whatever its members' order."""
    return msgspec.json.encode(value, order="deterministic")


def to_object(frame: f.ClientFrame | f.ServerFrame) -> dict[str, Any]:
    """Make plain JSON data of a frame, its `type` first, without the fields that are None."""
    fields = _present(frame)
    return {"type": fields.pop("type"), **fields}


def check_plain(value: dict[str, Any], *, max_depth: int) -> None:
    """Check that the application's data can be sent: JSON by RFC 8259 within the protocol's limits.

    Raises `ValueError` for NaN, infinities, integers beyond 2**53 - 1, lone surrogates, member
    names that are no strings, other types, and nesting deeper than `max_depth`. Of the subclasses
    of strings and numbers, only enumerations are plain.

    Spec: Framing.
    """
    level: list[Any] = [value]
    for _ in range(max_depth):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                if not all(isinstance(name, str) for name in item):
                    raise ValueError("a member's name is no string")
                below.extend(item.keys())
                below.extend(item.values())
            elif isinstance(item, list | tuple):
                below.extend(item)
            else:
                _check_scalar(item)
        if not below:
            return
        level = below
    if any(isinstance(item, dict | list | tuple) for item in level):
        raise ValueError(f"nested deeper than {max_depth}")
    for item in level:
        _check_scalar(item)


# -- reading ----------------------------------------------------------------------------------


def _read_object(data: bytes, max_bytes: int) -> tuple[f.Object, bool]:
    """The object, and whether it holds a number that is out of range."""
    if len(data) > max_bytes:
        raise FrameError(ErrorCode.PAYLOAD_TOO_LARGE, f"more than {max_bytes} bytes")
    if data.count(b"{") + data.count(b"[") > f.MAX_DEPTH and _depth(data) > f.MAX_DEPTH:
        raise _malformed(f"nested deeper than {f.MAX_DEPTH}")
    try:
        text = data.decode()
        _UNIQUE_NAMES.decode(text)
        fields, huge = _decode(data, text)
    except (ValueError, msgspec.MsgspecError) as error:
        # The exception's text may quote the peer's bytes; what is said of it here does not.
        raise _malformed(_why(error)) from None
    if not isinstance(fields, dict):
        raise _malformed("not an object")
    return fields, huge or (_LONG_NUMBER.search(data) is not None and _has_big_integer(fields))


def _decode(data: bytes, text: str) -> tuple[Any, bool]:
    """The value, and whether it holds a number that is too large for the strict decoder."""
    try:
        return msgspec.json.decode(data), False
    except msgspec.MsgspecError as error:
        if "out of range" not in str(error):
            raise
    # Read once more, only so that a field with an error of its own can give it.
    return _HUGE_NUMBERS.decode(text), True


def _not_json(constant: str) -> NoReturn:
    raise ValueError(constant)


_HUGE_NUMBERS: Final = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) < _MANY_DIGITS else float(digits),
    parse_constant=_not_json,
)
"""Reads a number past every double as infinity, which no field takes."""


def _check_scalar(item: object) -> None:
    if isinstance(item, Enum):
        item = item.value
    if type(item) not in _SCALARS:
        raise ValueError(f"{type(item).__name__} is no JSON")
    match item:
        case str():
            item.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
        case int() if not -f.MAX_INT <= item <= f.MAX_INT:
            raise ValueError("an integer beyond 2**53 - 1")
        case float() if item - item != 0.0:
            raise ValueError("a number that is not finite")
        case _:
            return


def _malformed(detail: str) -> FrameError:
    return FrameError(ErrorCode.MALFORMED_FRAME, detail)


def _why(error: Exception) -> str:
    match error:
        case _RepeatedNameError():
            return "a member's name is repeated"
        case UnicodeDecodeError():
            return "not UTF-8"
        case _:
            return "not JSON"


def _depth(data: bytes) -> int:
    """Nesting of what may be JSON; stops counting where it is too deep anyway."""
    depth = deepest = 0
    for byte in _STRING.sub(b"", data).translate(None, _BUT_BRACKETS):
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > f.MAX_DEPTH:
                break
        else:
            depth -= 1
    return deepest


class _RepeatedNameError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({name for name, _ in pairs}) != len(pairs):
        raise _RepeatedNameError


_UNIQUE_NAMES: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=str, parse_int=str)


def _has_big_integer(value: Any) -> bool:
    match value:
        case dict():
            return any(_has_big_integer(item) for item in value.values())
        case list():
            return any(_has_big_integer(item) for item in value)
        case bool():
            return False
        case int():
            return not -f.MAX_INT <= value <= f.MAX_INT
        case _:
            return False


def _unknown(parsed: Parsed) -> f.UnknownFrame:
    _refuse_out_of_range(parsed)
    return f.UnknownFrame(type=parsed.type, fields=parsed.fields)


def _refuse_out_of_range(parsed: Parsed) -> None:
    if parsed.out_of_range:
        raise _malformed(_OUT_OF_RANGE)


def _convert(parsed: Parsed, cls: type[_T], code: ErrorCode) -> _T:
    # `null` is absent also where a field's default is not None.
    present = {name: value for name, value in parsed.fields.items() if value is not None}
    frame = _typed(present, cls, code)
    _refuse_out_of_range(parsed)
    return frame


def _typed(value: Any, cls: type[_T], code: ErrorCode) -> _T:
    try:
        return msgspec.convert(value, cls)
    except msgspec.ValidationError as error:
        raise FrameError(code, _detail(error)) from None


def _check_field(cls: type, name: str, value: Any, code: ErrorCode) -> None:
    try:
        msgspec.convert(value, _FIELD_TYPES[cls][name])
    except msgspec.ValidationError as error:
        raise FrameError(code, f"{error} - at `$.{name}`") from None


def _detail(error: msgspec.ValidationError) -> str:
    """What is off, and where: types and declared fields, nothing that the peer chose."""
    what, _, where = str(error).rpartition(" - at ")
    if what.startswith("Invalid enum value"):  # msgspec quotes it
        return f"Unknown value - at {where}"
    return str(error)


def _by_type(union: Any) -> dict[str, Any]:
    return {
        kind: cls
        for cls in get_args(union)
        for kind in get_args(attrs.fields_dict(cls)["type"].type)
    }


_CLIENT_TYPES: Final = _by_type(f.ClientFrame)
_SERVER_TYPES: Final = _by_type(f.ServerFrame)
_HANDSHAKES: Final = (f.Hello, f.Join)
_FIELD_ERRORS: Final[dict[type, tuple[tuple[str, ErrorCode], ...]]] = {
    f.Hello: (("since", ErrorCode.INVALID_CURSOR),),
    f.Join: (("since", ErrorCode.INVALID_CURSOR),),
    f.Resume: (("since", ErrorCode.INVALID_CURSOR),),
    f.Message: (("request_id", ErrorCode.INVALID_REQUEST),),
}
_FIELD_TYPES: Final[dict[type, dict[str, Any]]] = {
    cls: {field.name: field.type for field in attrs.fields(cls)} for cls in _FIELD_ERRORS
}


# -- writing ----------------------------------------------------------------------------------


def _present(value: Any) -> dict[str, Any]:
    """The fields of an attrs object that are not None, in order, nested ones likewise."""
    present: dict[str, Any] = {}
    for name in _NAMES[type(value)]:
        item = getattr(value, name)
        if item is None:
            continue
        if attrs.has(type(item)):
            item = _present(item)
        elif isinstance(item, tuple):
            item = [_present(each) if attrs.has(type(each)) else each for each in item]
        present[name] = item
    return present


_NAMES: Final = {
    cls: tuple(field.name for field in attrs.fields(cls))
    for cls in vars(f).values()
    if isinstance(cls, type) and attrs.has(cls)
}

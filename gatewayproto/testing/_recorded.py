"""Inputs, actions and configurations as plain JSON data, and inputs and configurations back.

A recording is lines of JSON. The first says of what it is; each other one is an input with what
came of it. Bytes are text: those that are no UTF-8 are lone surrogates, which go back to the same
bytes.

Spec: the verification page, "Recorded inputs".
"""

import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Literal, get_args

import attrs
import msgspec
from attrs import field, frozen

from gatewayproto.actions import (
    CommandDropped,
    Emit,
    JoinRequested,
    OpenTransport,
    Persist,
    ResumeToken,
    SendFrame,
    SendFrames,
    SessionOpened,
    SnapshotReceived,
)
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.inputs import (
    Accept,
    ClientInput,
    ConnectionOpened,
    FrameReceived,
    GatewayInput,
    SetToken,
)
from gatewayproto.testing._redaction import Verbatim, Way

FORMAT: Final = "gatewayproto.recording"
VERSION: Final = 1
_MAX_DEPTH: Final = 128
"""More than what a machine takes or gives nests."""

Plain = dict[str, Any]
Kind = Literal["gateway", "client"]


def line_of(value: Plain) -> bytes:
    """One line. Raises `ValueError` or `RecursionError` for what JSON cannot hold."""
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


# -- to plain data ----------------------------------------------------------------------------


class Writer:
    """Makes plain data of what a machine takes and gives, with its texts as `edits` leaves them.

    Raises `TypeError` for what is no JSON: the caller's mistakes, which machines refuse.
    """

    def __init__(self, kind: Kind, edits: Verbatim) -> None:
        self._in: Way = "to_server" if kind == "gateway" else "to_client"
        self._out: Way = "to_client" if kind == "gateway" else "to_server"
        self._edits = edits

    def input(self, input_: GatewayInput | ClientInput) -> Plain:
        """An input: its name, and its fields."""
        if isinstance(input_, FrameReceived):
            text, number = text_of(input_.data), input_.connection
            fields = {"connection": number, "data": self._edits.received(text, self._in, number)}
            return {"FrameReceived": fields}
        return self._named(input_)

    def action(self, action: Any) -> Plain:
        """An action; that of an event holds the event in the same way."""
        if isinstance(action, Emit):
            return {"Emit": self._named(action.event)}
        return self._named(action)

    def fields(self, value: GatewayConfig | ClientConfig | ResumeToken) -> Plain:
        """A configuration, but for the projection, which is code; or where a client started."""
        return self._fields(value)

    def _named(self, value: Any) -> Plain:
        return {type(value).__name__: self._fields(value)}

    def _fields(self, value: Any) -> Plain:
        """The fields of a value; those that are None unless said otherwise are left out."""
        fields: Plain = {}
        kind = type(value)
        for attribute in attrs.fields(kind):
            name, item = attribute.name, getattr(value, attribute.name)
            is_left_out = item is None and attribute.default is None
            if not is_left_out and (kind, name) not in _CODE:
                fields[name] = self._field(kind, name, item)
        return fields

    def _field(self, kind: type, name: str, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(kind, name, value)
        edits = self._edits
        match kind, name:
            case (_, "frame") if kind is SendFrame:
                return edits.sent(text_of(value), self._out)
            case (_, "frames") if kind is SendFrames:
                return [edits.sent(text_of(each), self._out) for each in value]
            case (_, "query" | "headers") if kind is ConnectionOpened:
                return {edits.text(key): self._upgrade(key, item) for key, item in value.items()}
            case (_, "state") if kind is SnapshotReceived:
                return self._state(value)
            case (_, "record") if kind is Persist:
                # The rest is what was given and sent, which other lines say, secrets and all.
                value = {"kind": value["kind"]}
            case _:
                pass
        return self._plain(value)

    def _text(self, kind: type, name: str, value: str) -> str:
        if (kind, name) in _SECRETS:
            return self._edits.pseudonym(value)
        if name == "session_id" or (kind, name) in _SESSION_IDS:
            return self._edits.session_id(value)
        return self._edits.text(value)

    def _upgrade(self, name: str, value: str) -> str:
        """A value of a query or a header: a cookie is a secret as well."""
        says_scheme = name == "authorization"
        return (self._edits.credentials if says_scheme else self._edits.pseudonym)(value)

    def _state(self, state: Mapping[str, Any]) -> Plain:
        """The state of a snapshot that a client was given, in whichever form."""
        if self._edits.joined is not None:
            return self._edits.joined
        plain: Plain = self._plain(state)
        session_id = state.get("session_id")
        if isinstance(session_id, str):
            plain["session_id"] = self._edits.session_id(session_id)
        return plain

    def _plain(self, value: Any) -> Any:
        match value:
            case Enum():
                return self._plain(value.value)
            case str():
                return self._edits.text(value)
            case None | bool() | int() | float():
                return value
            case Mapping():
                return {self._name(name): self._plain(item) for name, item in value.items()}
            case list() | tuple():
                return [self._plain(item) for item in value]
            case _ if attrs.has(type(value)):
                return self._fields(value)
            case _:
                raise TypeError(f"{type(value).__name__} is no JSON")

    def _name(self, name: object) -> str:
        if not isinstance(name, str):
            raise TypeError("a member's name is no string")
        return self._edits.text(name)


_SECRETS: Final[frozenset[tuple[type, str]]] = frozenset(
    {
        (Accept, "principal"),  # applications take the token for it
        (SessionOpened, "principal"),
        (JoinRequested, "token"),
        (OpenTransport, "token"),
        (SetToken, "token"),
        (ClientConfig, "token"),
    }
)
_SESSION_IDS: Final[frozenset[tuple[type, str]]] = frozenset({(CommandDropped, "target")})
_CODE: Final[frozenset[tuple[type, str]]] = frozenset({(GatewayConfig, "projection")})


def text_of(data: bytes) -> str:
    """Bytes as text, whatever they are."""
    return data.decode("utf-8", "surrogateescape")


# -- from plain data --------------------------------------------------------------------------


class FormatError(Exception):
    """Data that is none of what is expected; the message says why, and is for people."""


@frozen(kw_only=True)
class Header:
    """What the first line says: which machine, how it was made, and by which release.

    `projection` is where the one is that is not the default's, for people; `resume` and the
    configuration hold pseudonyms in the place of secrets.
    """

    machine: Kind
    config: GatewayConfig | ClientConfig
    release: str = ""
    projection: str | None = None
    resume: ResumeToken | None = None


@frozen(kw_only=True)
class Line:
    """What every other line says: an input at a time, and what came of it.

    - `input`: None where it cannot be given again: the caller's mistake, which changed nothing.
    - `ids`, `random`: what the machine drew, in order.
    - `actions`, `deadline`: what it gave, and when it wants to hear of the time, as plain data.
    - `raised`: the name of what it raised in place of actions.
    """

    now: float
    name: str
    input: GatewayInput | ClientInput | None
    ids: tuple[str, ...] = ()
    random: tuple[float, ...] = ()
    actions: tuple[Plain, ...] = ()
    deadline: float | None = None
    raised: str | None = None


@frozen(kw_only=True)
class _PlainHeader:
    format: Literal["gatewayproto.recording"]
    version: int
    machine: Kind
    config: Plain
    release: str = ""
    projection: str | None = None
    resume: ResumeToken | None = None


@frozen(kw_only=True)
class _PlainLine:
    now: float
    input: Plain
    ids: tuple[str, ...] = ()
    random: tuple[float, ...] = ()
    actions: tuple[Plain, ...] = field(factory=tuple)
    deadline: float | None = None
    raised: str | None = None


_CONFIGS: Final[Mapping[str, type[GatewayConfig] | type[ClientConfig]]] = {
    "gateway": GatewayConfig,
    "client": ClientConfig,
}
_INPUTS: Final[Mapping[str, Mapping[str, type]]] = {
    "gateway": {cls.__name__: cls for cls in get_args(GatewayInput)},
    "client": {cls.__name__: cls for cls in get_args(ClientInput)},
}


def read_header(data: bytes) -> Header:
    """Read the first line. Raises `FormatError`."""
    plain = _read_object(data)
    if plain.get("format") != FORMAT:
        raise FormatError("this is no recording")
    if plain.get("version") != VERSION:
        raise FormatError(f"the recording's version is not {VERSION}")
    header = _convert(plain, _PlainHeader)
    if "projection" in header.config:
        raise FormatError("a configuration with a projection in it")
    return Header(
        machine=header.machine,
        config=_convert(header.config, _CONFIGS[header.machine]),
        release=header.release,
        projection=header.projection,
        resume=header.resume,
    )


def read_line(data: bytes, kind: Kind) -> Line:
    """Read another line. Raises `FormatError`."""
    line = _convert(_read_object(data), _PlainLine)
    if not math.isfinite(line.now):
        raise FormatError("its time is none")
    if len(line.input) != 1:
        raise FormatError("its input is not one")
    ((name, fields),) = line.input.items()
    cls = _INPUTS[kind].get(name)
    if cls is None:
        raise FormatError(f"{kind} has no input of that name")
    input_: GatewayInput | ClientInput | None
    try:
        input_ = _input(cls, fields)
    except FormatError:
        # What a machine refused as the caller's mistake need not be what its types say.
        if line.raised is None:
            raise
        input_ = None
    return Line(
        now=line.now,
        name=name,
        input=input_,
        ids=line.ids,
        random=line.random,
        actions=line.actions,
        deadline=line.deadline,
        raised=line.raised,
    )


def _input(cls: type, fields: Any) -> Any:
    if not isinstance(fields, dict):
        raise FormatError("its input's fields are none")
    if cls is FrameReceived and isinstance(fields.get("data"), str):
        try:
            fields = {**fields, "data": fields["data"].encode("utf-8", "surrogateescape")}
        except UnicodeEncodeError:
            raise FormatError("a frame that is no bytes") from None
    return _convert(fields, cls)


def _read_object(data: bytes) -> Plain:
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError):
        raise FormatError("it is no JSON") from None
    if not isinstance(plain, dict):
        raise FormatError("it is no object")
    if data.count(b"{") + data.count(b"[") > _MAX_DEPTH and _is_deep(plain):
        raise FormatError(f"nested deeper than {_MAX_DEPTH}")
    return plain


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = below
    return any(isinstance(item, dict | list) for item in level)


def _convert(plain: Plain, cls: type[Any]) -> Any:
    unknown = set(plain) - {attribute.name for attribute in attrs.fields(cls)}
    if unknown:
        raise FormatError(f"{len(unknown)} fields that are not known")
    try:
        return msgspec.convert(plain, cls, builtin_types=(bytes,))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # What msgspec says names types and declared fields; what validators say, numbers and
        # names of settings.
        raise FormatError(str(error)) from None

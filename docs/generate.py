"""Write what the documentation takes from the code: JSON Schemas, tables of states, of errors.

`make generate` runs it, and a test holds that its files are current. The same code gives the same
bytes.
"""

import inspect
import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec
from attrs import field, fields_dict, frozen

from gatewayproto import frames as f
from gatewayproto import render
from gatewayproto._table import Table
from gatewayproto.client import CLIENT_TABLE
from gatewayproto.connection import CONNECTION_TABLE
from gatewayproto.errors import ERRORS, ErrorCode, close_may_be_retried
from gatewayproto.metrics import ClientMetrics, GatewayMetrics, describe
from gatewayproto.versions import rejection_code_v1

DOCS: Final = Path(__file__).parent
Schema = dict[str, Any]


def generated() -> dict[str, str]:
    """The text of every generated file, by its path below `docs`."""
    pages = {
        "tables/connection.md": _table_page(
            "A connection of the gateway",
            "What every input means to one connection of the gateway, in every state.",
            CONNECTION_TABLE,
        ),
        "tables/client.md": _table_page(
            "The client",
            "What every input means to the client, in every state.",
            CLIENT_TABLE,
        ),
        "tables/errors.md": _errors_page(),
        "tables/metrics.md": _metrics_page(),
    }
    for direction in (CLIENT_TO_SERVER, SERVER_TO_CLIENT, SERVER_TO_CLIENT_V1):
        schema = json.dumps(direction.schema(), indent=2, ensure_ascii=False)
        pages[f"schema/{direction.file}"] = schema + "\n"
    return pages


def main() -> None:
    """Write the files, and remove what is no longer generated."""
    pages = generated()
    for folder in {Path(name).parent for name in pages}:
        (DOCS / folder).mkdir(exist_ok=True)
        for old in (DOCS / folder).iterdir():
            if old.relative_to(DOCS).as_posix() not in pages:
                old.unlink()
    for name, text in pages.items():
        (DOCS / name).write_text(text, encoding="utf-8", newline="\n")


# -- what version 1 writes in forms of its own ------------------------------------------------


@frozen(kw_only=True)
class DataV1:
    """The event's data, and its seq again: one of the two places where version 1 looks for it."""

    cursor: f.Seq


@frozen(kw_only=True)
class EventV1:
    """An event as version 1 knows it. Spec: Version 1."""

    type: f.Name
    data: DataV1
    event_id: f.Name
    timestamp: float
    sequence: f.Seq
    source: str | None
    target: str | None


@frozen(kw_only=True)
class ReplayV1:
    """An event, whether it is from before this attach or published since. Spec: Version 1."""

    seq: f.Seq
    event: EventV1
    type: Literal["replay"] = "replay"


@frozen(kw_only=True)
class StateV1:
    """The state, and what it is the state of."""

    event_cursor: f.Cursor
    session_id: f.Name
    agent_id: f.Name
    truncated: bool | None = None


@frozen(kw_only=True)
class SnapshotV1:
    """Authoritative state; shed of its oldest messages until it fits. Spec: Version 1."""

    state: StateV1
    type: Literal["snapshot"] = "snapshot"


@frozen(kw_only=True)
class ResponseV1:
    """The message is in the session's inbox, once, however often it came. Spec: Version 1."""

    status: Literal["accepted", "duplicate"]
    request_id: f.RequestId
    type: Literal["response"] = "response"


# -- schemas ----------------------------------------------------------------------------------

_POSITION: Final = "The last seq that is accounted for."
FIELDS: Final[Mapping[str, str]] = {
    "after_ms": "Milliseconds to wait before coming back.",
    "agent_id": "The agent that the session is with.",
    "capabilities": "What the client can do, for the application.",
    "chunk": "This part of the state's JSON text; the chunks of all parts, joined, are the state.",
    "client": "What the client says of itself.",
    "client_id": "The server's own name for a connection; not the session's id.",
    "code": "What went wrong, for programs; a receiver goes on with codes that it does not know.",
    "connected_at": "Seconds since 1970.",
    "content": "What the user says.",
    "cursor": _POSITION,
    "data": "What the event says.",
    "duplicate": "The message was in the inbox already.",
    "entries": "Everybody who is connected.",
    "epoch": "Names one life of the session's numbering.",
    "event": "The event.",
    "event_cursor": "The seq that the state is as of.",
    "event_id": "The event's own id.",
    "events": "The frame types that the server sends.",
    "expects_reply": "The event is an open question; a message's `reply_to` answers it.",
    "features": "What the server takes and sends.",
    "final": "The last event of its run, with the whole outcome in it.",
    "first": "The first seq that is skipped.",
    "from_version": "The version of the list that this changes.",
    "head": "The newest seq of the session.",
    "health": "The gateway's health, as the application set it.",
    "health_version": "The version of `health`.",
    "heartbeat_ms": "Milliseconds between the server's pings on an idle connection.",
    "joined": "Who has connected.",
    "last": "The last seq that is skipped.",
    "left": "The `client_id` of each who has gone.",
    "max_payload": "The largest frame that the writer of this field takes, in bytes.",
    "max_pending_requests": "Messages that may be under way.",
    "max_version": "The highest version that the client speaks.",
    "message": "For people.",
    "metadata": "Whatever goes with the message; not compared when it is repeated.",
    "methods": "The frame types that the server takes.",
    "min_version": "The lowest version that the client speaks.",
    "name": "The client's name.",
    "next_step": "What to do about it; a receiver goes on with steps that it does not know.",
    "nonce": "Comes back in the answer.",
    "oldest_cursor": "The lowest seq from which the session can account for everything.",
    "part": "Which part this is, 1 to `parts`, in order.",
    "parts": "How many parts there are.",
    "policy": "The limits that the server asks the client to keep.",
    "presence": "Who is connected; absent where there are too many.",
    "presence_count": "How many are connected.",
    "presence_version": "The version of the list of who is connected.",
    "protocol": "The version agreed, as in `protocol_version`.",
    "protocol_max": "The highest version that the client speaks.",
    "protocol_min": "The lowest version that the client speaks.",
    "protocol_version": "The version agreed.",
    "reason": "Why; a receiver goes on with reasons that it does not know.",
    "reply_to": "The `event_id` of the event that this answers.",
    "request_id": "The message's id, by which it is taken once.",
    "request_ttl_ms": "Milliseconds within which a client may write a message again.",
    "resumed": "The client's session was found and is its own.",
    "resume_window_ms": "Milliseconds that a session outlives its last connection.",
    "resync_reason": "Why a resync is required; absent where it is not.",
    "resync_required": "Delivery cannot go on after the client's `since`.",
    "retry_after_seconds": "The least to wait before trying again.",
    "run_id": "The run that the event belongs to, or that is to stop.",
    "seq": "The event's number in its session.",
    "sequence": "Delivery goes on at the next seq.",
    "server_max_version": "The highest version that the server speaks.",
    "server_min_version": "The lowest version that the server speaks.",
    "session_id": "The session; a secret where it alone proves ownership.",
    "since": "The last seq accounted for to the client; absent is 0.",
    "source": "Who the event comes from.",
    "spread_ms": "A random part of so many milliseconds is waited in addition.",
    "start": "How to begin: with the events after `since`, or with a snapshot.",
    "state": "The state, as the application's projection makes it.",
    "status": "Whether the message came for the first time.",
    "target": "Who the event is for.",
    "timestamp": "Seconds since 1970, by the application's clock.",
    "token": "The client's credentials.",
    "transient": "The event may be superseded by its run's final event.",
    "truncated": "The oldest messages were shed.",
    "type": "The event's type.",
    "version": "The version of what this tells.",
}
"""What a field is for; its name means the same wherever it stands, save below."""
_FIELDS_OF: Final[Mapping[str, Mapping[str, str]]] = {
    "ClientInfo": {"version": "The client's version."},
    "EventV1": {"sequence": "The event's seq again."},
    "DataV1": {"cursor": "The event's seq again."},
    "resume": {"epoch": "The epoch of `since`; needed where that is above 0."},
    "abort": {"request_id": "The message whose work is to stop."},
    "error": {"request_id": "The message that this answers."},
    "hello_ok": {"cursor": "The newest seq of the session, as of this attach."},
    "joined": {"cursor": "The newest seq of the session, as of this attach."},
    "Event": {"request_id": "The message that the event answers."},
    "snapshot": {"cursor": "The seq that the state is as of."},
}
_FORMS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "snapshot": (("state",), ("part", "parts", "chunk")),
    "presence": (("entries",), ("from_version", "joined", "left"), ("presence_count",)),
}
"""Frames that come in one of several forms: the fields of each."""
_NULL: Final[Schema] = {"type": "null"}
_DOTTED: Final = "^[^.]+\\.[^.]+$"
_NO_LIMITS: Final = (
    "What JSON Schema cannot say holds too: integers are written without fraction or exponent, no "
    "member is repeated, nothing nests deeper than 64, and no integer is beyond 2^53 - 1. Fields "
    "that are not named here are ignored; absent and null mean the same for an optional field."
)


@frozen(kw_only=True)
class Direction:
    """The frames that one side writes.

    `classes` are those of its frames. `written` are the fields, by frame type, that a sender
    always writes although a reader does without; `absent` are those that a class has and this
    direction has not; `more` is what the types do not say of a field.
    """

    file: str
    title: str
    description: str
    classes: tuple[type, ...]
    written: Mapping[str, tuple[str, ...]] = field(factory=dict)
    absent: Mapping[str, tuple[str, ...]] = field(factory=dict)
    more: Mapping[str, Mapping[str, Schema]] = field(factory=dict)

    def schema(self) -> Schema:
        """The JSON Schema, 2020-12, of any one frame."""
        _, components = msgspec.json.schema_components(self.classes, ref_template="#/$defs/{name}")
        types = {kind: cls for cls in self.classes for kind in _types(cls)}
        records = {
            name: self._definition(name, component)
            for name, component in components.items()
            if name not in {cls.__name__ for cls in self.classes}
        }
        definitions = {
            kind: self._definition(kind, components[cls.__name__]) for kind, cls in types.items()
        }
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": self.file,
            "title": self.title,
            "description": f"{self.description} {_NO_LIMITS}",
            "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in definitions],
            "$defs": {**definitions, **records},
        }

    def _definition(self, name: str, component: Schema) -> Schema:
        """A component as msgspec gives it, with what this direction knows besides.

        `name` is a frame's wire type, or a record's class.
        """
        written = self.written.get(name, ())
        more = self.more.get(name, {})
        properties = {
            each: {
                "description": _FIELDS_OF.get(name, {}).get(each, FIELDS[each]),
                **_property(schema, optional=each not in {*component["required"], *written}),
                **more.get(each, {}),
            }
            for each, schema in component["properties"].items()
            if each not in self.absent.get(name, ()) and not _is_kind(schema)
        }
        required = [*component["required"], *written]
        description = _paragraphs(component["description"])
        if name != component["title"]:  # a frame, named by its type
            properties = {"type": {"const": name}, **properties}
            required = ["type", *(each for each in required if each != "type")]
            description = description[:1]  # the rest is about the class
        definition = {
            "title": name,
            "description": "\n\n".join(description),
            "type": "object",
            "properties": properties,
            "required": required,
        }
        if name in _FORMS and set(_FORMS[name][0]) <= set(properties) - set(required):
            definition["oneOf"] = [_form(form, _FORMS[name]) for form in _FORMS[name]]
        return definition


def _types(cls: type) -> tuple[str, ...]:
    """The wire types of a frame's class."""
    return get_args(fields_dict(cls)["type"].type)


def _is_kind(schema: Schema) -> bool:
    """Whether a property is the `type` of a frame."""
    kinds = schema.get("enum", [])
    return any(kind in _KINDS for kind in kinds)


def _property(schema: Schema, *, optional: bool) -> Schema:
    """A property's schema: null is for what is optional, and is no default worth a word."""
    bare = {name: value for name, value in schema.items() if name != "default"}
    choices = bare.pop("anyOf", [bare])
    if "default" in schema:
        choices = [choice for choice in choices if choice != _NULL]
        choices += [_NULL] if optional else []
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _form(own: Iterable[str], forms: Iterable[Iterable[str]]) -> Schema:
    """The condition that the fields of one form are there, and those of the others are not."""
    others = {name for form in forms for name in form} - set(own)
    return {
        "required": list(own),
        "properties": {
            **{name: {"not": _NULL} for name in own},
            **dict.fromkeys(sorted(others), _NULL),
        },
    }


def _paragraphs(text: str) -> list[str]:
    return [" ".join(each.split()) for each in inspect.cleandoc(text).split("\n\n")]


_WELCOME: Final = (
    "agent_id",
    "protocol_version",
    "server_min_version",
    "server_max_version",
    "resumed",
    "cursor",
    "oldest_cursor",
    "resync_required",
    "sequence",
    "presence_version",
    "health_version",
    "features",
    "policy",
)
_WRITTEN: Final = {
    "hello_ok": ("protocol", *_WELCOME),
    "joined": _WELCOME,
    "hello_error": ("message",),
    "error": ("message",),
    "message_nack": ("message",),
    "Features": ("methods", "events"),
}
CLIENT_TO_SERVER: Final = Direction(
    file="client-to-server.schema.json",
    title="A frame from a client",
    description=(
        "Every frame that a client of either version writes. `resume`, `resync` and `auth`, and "
        "the `cursor` of `pong`, are version 2's."
    ),
    classes=get_args(f.ClientFrame),
    absent={"ping": ("cursor",)},
)
SERVER_TO_CLIENT: Final = Direction(
    file="server-to-client.schema.json",
    title="A frame from a server, version 2",
    description=(
        "Every frame that a server writes to a client of version 2. A client ignores frames of "
        "types that are not here."
    ),
    classes=get_args(f.ServerFrame),
    written={
        **_WRITTEN,
        "hello_ok": (*_WRITTEN["hello_ok"], "epoch"),
        "joined": (*_WRITTEN["joined"], "epoch"),
        "ping": ("cursor",),
    },
    absent={"hello_ok": ("head",), "joined": ("head", "protocol"), "pong": ("cursor",)},
)
_WELCOME_V1: Final[Mapping[str, Schema]] = {
    "session_id": {
        "pattern": _DOTTED,
        "description": "The session and its epoch, `<id>.<epoch>`; a secret.",
    },
    "cursor": {"description": "What a deployed client adopts before anything has come."},
}
SERVER_TO_CLIENT_V1: Final = Direction(
    file="server-to-client-v1.schema.json",
    title="A frame from a server, version 1",
    description="Every frame that a server of this project writes to a client of version 1.",
    classes=(f.Welcome, f.Error, ReplayV1, SnapshotV1, ResponseV1, f.Ping, f.Pong),
    written={
        **_WRITTEN,
        "hello_ok": (*_WRITTEN["hello_ok"], "head"),
        "joined": (*_WRITTEN["joined"], "head"),
    },
    absent={
        "hello_ok": ("epoch",),
        "joined": ("epoch", "protocol"),
        "ping": ("cursor",),
        "pong": ("cursor",),
    },
    more={
        "hello_ok": _WELCOME_V1,
        "joined": _WELCOME_V1,
        "hello_error": {"code": {"enum": sorted({rejection_code_v1(code) for code in ErrorCode})}},
        "StateV1": {"session_id": {"pattern": _DOTTED}},
    },
)
_KINDS: Final = frozenset(
    kind
    for direction in (CLIENT_TO_SERVER, SERVER_TO_CLIENT, SERVER_TO_CLIENT_V1)
    for cls in direction.classes
    for kind in _types(cls)
)


# -- tables -----------------------------------------------------------------------------------

_NOTICE: Final = "<!-- Written by `make generate`: change the code, not this file. -->"
_LEGEND: Final = """\
A cell names the handler that takes the input, and after the arrow the states that it may leave the
machine in; without an arrow the state stays. *fault*: it is the peer's fault, and the handler
answers it. *race*, *too late*: it is lawful and came too late. *ignored*: it means nothing there.
*mistake*: the caller must not give it, and gets a `LocalProtocolError`.
"""


def _table_page(title: str, summary: str, table: Table[Any, Any]) -> str:
    return "\n".join(
        [
            f"# {title}\n",
            f"{_NOTICE}\n",
            f"{summary} The machine runs this table; there is no other branch.\n",
            _LEGEND,
            render.markdown(table),
            "## Handlers\n",
            render.handlers(table),
            "## Moves\n",
            "From one state to another, as the source of a Mermaid diagram:\n",
            f"```text\n{render.mermaid(table)}```\n",
        ]
    )


def _errors_page() -> str:
    codes = [
        (
            f"`{code}`",
            "none" if spec.close_code is None else str(spec.close_code),
            "none" if spec.next_step is None else f"`{spec.next_step}`",
            "" if spec.close_code is None else _yes_or_no(spec.close_code),
        )
        for code, spec in ERRORS.items()
    ]
    closes = [
        (f"{first} to {last}" if first != last else str(first), may)
        for first, last, may in _closes()
    ]
    return "\n".join(
        [
            "# Errors and closes\n",
            f"{_NOTICE}\n",
            "Every code, the close code that goes with it, and what its receiver does next. A code",
            "without a close code answers a frame, and the connection lives on.\n",
            _rows(("code", "close", "next step", "may be retried"), codes),
            "## Close codes\n",
            "Whether a client may come back after a close that it received, known or not. Where no",
            "close was received it may.\n",
            _rows(("close", "may be retried"), closes),
        ]
    )


def _metrics_page() -> str:
    lines = [
        "# Metrics\n",
        f"{_NOTICE}\n",
        "What `Gateway.metrics()` and `Client.metrics()` give, as plain data. A *counter* only",
        "rises, from 0 when the machine is made; a *gauge* is how things stand. Where a metric has",
        "a label, it is a number for each value of it.",
        "[Operate a gateway](../how-to/operate.md) says what to watch.\n",
    ]
    for title, metrics in (("A gateway", GatewayMetrics), ("A client", ClientMetrics)):
        rows = [
            (f"`{each.name}`", each.kind, f"`{each.label}`" if each.label else "", each.help)
            for each in describe(metrics)
        ]
        lines += [f"## {title}\n", _rows(("metric", "kind", "label", "what it is"), rows)]
    return "\n".join(lines)


def _closes() -> Iterable[tuple[int, int, str]]:
    """Ranges of close codes that a peer may send, each with the one answer for all of it."""
    sendable = [*range(1000, 1004), *range(1005, 1015), *range(3000, 5000)]
    # Consecutive codes have the same distance from their place; ranges of a thousand stay apart.
    for _, run in groupby(
        enumerate(sendable),
        key=lambda each: (each[1] - each[0], each[1] // 1000, _yes_or_no(each[1])),
    ):
        codes = [code for _, code in run]
        yield codes[0], codes[-1], _yes_or_no(codes[0])


def _yes_or_no(close_code: int) -> str:
    return "yes" if close_may_be_retried(close_code) else "no"


def _rows(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()

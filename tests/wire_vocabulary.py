"""The specified frames restated as data, apart from the code.

A field's mark says who may leave it out. `name` is required. `name?` is optional, and null is the
same as absent. `name!` is always written, and a reader does without it.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from attrs import frozen

MAX_INT = 2**53 - 1


class Mark(StrEnum):
    REQUIRED = ""
    OPTIONAL = "?"
    WRITTEN = "!"


@frozen
class Kind:
    """What a field may hold: some values of it, and some that it must not hold."""

    good: tuple[Any, ...]
    bad: tuple[Any, ...]


@frozen
class Record:
    """An object's fields by name, each with its kind and its mark."""

    fields: Mapping[str, tuple[Kind, Mark]]

    def marked(self, *marks: Mark) -> list[str]:
        return [name for name, (_, mark) in self.fields.items() if mark in marks]

    def minimal(self) -> dict[str, Any]:
        """What a sender writes at least."""
        return {
            name: kind.good[0]
            for name, (kind, mark) in self.fields.items()
            if mark is not Mark.OPTIONAL
        }

    def full(self) -> dict[str, Any]:
        return {name: kind.good[-1] for name, (kind, _) in self.fields.items()}

    def good(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Objects that are such a record, each with the name of the field that it is about."""
        yield "", self.minimal()
        for name, (kind, mark) in self.fields.items():
            for value in kind.good:
                yield name, {**self.full(), name: value}
            if mark is Mark.OPTIONAL:
                yield name, {**self.full(), name: None}
                yield name, {key: value for key, value in self.full().items() if key != name}

    def bad(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Objects that are none, with the name of the field that is off."""
        for name, (kind, mark) in self.fields.items():
            for value in kind.bad:
                yield name, {**self.minimal(), name: value}
            if mark is Mark.REQUIRED:
                yield name, {key: value for key, value in self.minimal().items() if key != name}
                yield name, {**self.minimal(), name: None}


def record(fields: Mapping[str, Kind]) -> Record:
    marked: dict[str, tuple[Kind, Mark]] = {}
    for name, kind in fields.items():
        bare = name.rstrip("?!")
        marked[bare] = (kind, Mark(name[len(bare) :]))
    return Record(marked)


def one_of(*values: str) -> Kind:
    return Kind(values, (values[0].upper(), "", 5, True, [], {}))


def nested(inner: Record) -> Kind:
    return Kind(
        tuple(value for _, value in inner.good()),
        (*(value for _, value in inner.bad()), "{}", 5, True, []),
    )


def list_of(kind: Kind) -> Kind:
    bad = tuple([value] for value in kind.bad)
    return Kind(([], list(kind.good)), (*bad, [None], "[]", 5, True, {}))


def integer(minimum: int) -> Kind:
    off: tuple[Any, ...] = (
        minimum - 1,
        -MAX_INT,
        MAX_INT + 1,
        10**400,
        str(minimum),
        5.0,
        5.5,
        True,
        False,
        [],
        {},
    )
    return Kind((minimum, minimum + 1, MAX_INT), off)


_NO_STRING: tuple[Any, ...] = (5, 5.5, True, [], {}, ["text"])
STRING = Kind(("", "text", "\u00e9\u4e16\U0001f600\x00\x7f\u2028", "x" * 1000), _NO_STRING)
NAME = Kind(("a", "some name"), ("", *_NO_STRING))
AGENT_ID = Kind(("a", "\U0001f600" * 128), ("", "a" * 129, *_NO_STRING))
EPOCH = Kind(("e", "\U0001f600" * 64), ("", "e" * 65, *_NO_STRING))
REQUEST_ID = Kind(("r", "\U0001f600" * 128), ("", "r" * 129, *_NO_STRING))
BOOLEAN = Kind((True, False), ("true", 1, 0, 1.0, [], {}))
OBJECT = Kind(({}, {"a": [1, {"b": None}], "": -MAX_INT}), ("{}", 5, True, [], [{}]))
CONTENT = Kind(("", "text", {}, {"text": "x"}), (5, 5.5, True, []))
NUMBER = Kind((0, 1.5, 1_700_000_000, -1.5, 1e300), ("1", True, [], {}))
SECONDS = Kind((0, 1.5, 60), (-1, -0.5, "1", True, [], {}))
CURSOR = integer(0)
SEQ = integer(1)
VERSION = integer(1)
COUNT = integer(0)

SHORT = Kind(("", "é" * 256), ("n" * 257, *_NO_STRING))
CLIENT = record({"name?": SHORT, "version?": SHORT})
_HANDSHAKE: dict[str, Kind] = {
    "agent_id": AGENT_ID,
    "capabilities?": list_of(STRING),
    "session_id?": STRING,
    "epoch?": EPOCH,
    "since?": CURSOR,
    "start?": one_of("replay", "snapshot"),
    "token?": STRING,
    "max_payload?": integer(1024),
    "client?": nested(CLIENT),
}
_NONCE = {"nonce?": Kind(("", "\x00" * 128), ("n" * 129, *_NO_STRING))}

CLIENT_TO_SERVER: dict[str, Record] = {
    "hello": record({**_HANDSHAKE, "protocol_min?": VERSION, "protocol_max?": VERSION}),
    "join": record({**_HANDSHAKE, "min_version?": VERSION, "max_version?": VERSION}),
    "message": record(
        {"content": CONTENT, "request_id?": REQUEST_ID, "reply_to?": STRING, "metadata?": OBJECT}
    ),
    "abort": record({"run_id?": STRING, "request_id?": STRING}),
    "resume": record({"since": CURSOR, "epoch?": EPOCH, **_NONCE}),
    "resync": record(_NONCE),
    "auth": record({"token": STRING}),
    "ping": record(_NONCE),
    "pong": record({**_NONCE, "cursor?": CURSOR}),
    "leave": record({"reason?": STRING}),
}

EVENT = record(
    {
        "type": NAME,
        "data": OBJECT,
        "event_id": NAME,
        "timestamp": NUMBER,
        "source?": STRING,
        "target?": STRING,
        "run_id?": NAME,
        "request_id?": STRING,
        "transient?": BOOLEAN,
        "final?": BOOLEAN,
        "expects_reply?": BOOLEAN,
    }
)
ENTRY = record(
    {"client_id": STRING, "agent_id": STRING, "connected_at": NUMBER, "client?": nested(CLIENT)}
)
POLICY = record(
    {
        "max_payload": integer(1),
        "heartbeat_ms": COUNT,
        "resume_window_ms": COUNT,
        "request_ttl_ms": COUNT,
        "max_pending_requests": COUNT,
    }
)
FEATURES = record({"methods!": list_of(STRING), "events!": list_of(STRING)})
_WELCOME: dict[str, Kind] = {
    "session_id": NAME,
    "agent_id!": STRING,
    "protocol_version!": VERSION,
    "server_min_version!": VERSION,
    "server_max_version!": VERSION,
    "resumed!": BOOLEAN,
    "epoch!": EPOCH,
    "cursor!": CURSOR,
    "oldest_cursor!": CURSOR,
    "resync_required!": BOOLEAN,
    "resync_reason?": STRING,
    "sequence!": CURSOR,
    "presence?": list_of(nested(ENTRY)),
    "presence_count?": COUNT,
    "presence_version!": COUNT,
    "health?": OBJECT,
    "health_version!": COUNT,
    "features!": nested(FEATURES),
    "policy!": nested(POLICY),
}
_ERROR: dict[str, Kind] = {
    "code": STRING,
    "message!": STRING,
    "next_step?": STRING,
    "retry_after_seconds?": SECONDS,
    "request_id?": STRING,
    "server_min_version?": VERSION,
    "server_max_version?": VERSION,
}
_EVENT_FRAME = {"seq": SEQ, "event": nested(EVENT)}
_SNAPSHOT: dict[str, Kind] = {"cursor": CURSOR, "epoch": EPOCH, "reason": STRING, **_NONCE}

SERVER_TO_CLIENT: dict[str, Record] = {
    "hello_ok": record({**_WELCOME, "protocol!": VERSION}),
    "joined": record(_WELCOME),
    "hello_error": record(_ERROR),
    "error": record(_ERROR),
    "replay": record(_EVENT_FRAME),
    "event": record(_EVENT_FRAME),
    "skip": record({"first": SEQ, "last": SEQ, "reason": STRING}),
    "caught_up": record({"cursor": CURSOR, **_NONCE}),
    "snapshot": record({**_SNAPSHOT, "state!": OBJECT}),
    "message_ack": record({"request_id": REQUEST_ID, "duplicate": BOOLEAN}),
    "message_nack": record({"code": STRING, "message!": STRING, "request_id?": STRING}),
    "ping": record({**_NONCE, "cursor!": CURSOR}),
    "pong": record(_NONCE),
    "presence": record({"version": COUNT, "entries!": list_of(nested(ENTRY))}),
    "health": record({"version": COUNT, "health": OBJECT}),
    "going_away": record({"reason": STRING, "after_ms": COUNT, "spread_ms": COUNT}),
}
# The other forms of two frames: a snapshot in parts, a change of presence and its count alone.
SNAPSHOT_PART = record({**_SNAPSHOT, "part!": SEQ, "parts!": SEQ, "chunk!": STRING})
PRESENCE_CHANGE = record(
    {
        "version": COUNT,
        "from_version!": COUNT,
        "joined!": list_of(nested(ENTRY)),
        "left!": list_of(STRING),
    }
)
PRESENCE_COUNT = record({"version": COUNT, "presence_count!": COUNT})

ERROR_CODES: dict[str, tuple[int | None, str | None]] = {
    "going_away": (4000, "wait_then_retry"),
    "liveness_timeout": (4001, "wait_then_retry"),
    "slow_consumer": (4002, "wait_then_retry"),
    "rate_limited": (4003, "wait_then_retry"),
    "internal_error": (4004, "wait_then_retry"),
    "handshake_timeout": (4005, "wait_then_retry"),
    "auth_expired": (4006, "reauthenticate"),
    "version_unsupported": (4500, "upgrade_client"),
    "invalid_protocol_hello": (4501, "do_not_retry"),
    "invalid_cursor": (4502, "do_not_retry"),
    "auth_required": (4503, "reauthenticate"),
    "auth_unauthorized": (4504, "reauthenticate"),
    "agent_not_found": (4505, "do_not_retry"),
    "malformed_frame": (4506, "do_not_retry"),
    "payload_too_large": (4507, "do_not_retry"),
    "session_closed": (4508, "do_not_retry"),
    "unknown_type": (None, None),
    "not_joined": (None, None),
    "request_conflict": (None, None),
    "inbox_full": (None, None),
    "already_answered": (None, None),
    "invalid_request": (None, None),
}
"""Every error code: the close code that it has, and what its receiver does next."""

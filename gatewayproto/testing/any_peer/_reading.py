"""Frames read as plain JSON data: what is none, what counts as an event, whose session it names.

Spec: Framing; Version 1.
"""

import json
from typing import Any, Final

from gatewayproto.actions import ResumeToken
from gatewayproto.frames import ClientInfo, Event, PresenceEntry
from gatewayproto.testing import _shapes
from gatewayproto.testing.any_peer._client_known import Frame
from gatewayproto.testing.reference import EVENT_FIELDS

NO_FRAMES: Final[tuple[bytes, ...]] = (
    b"",
    b"{",
    b"[]",
    b"\xff",
    b'{"type":5}',
    b'{"seq":6}',
    b'{"type":"x","type":"x"}',
    b'{"type":"x","n":NaN}',
    b'{"type":"x","n":9007199254740992}',
    b'{"type":"x","deep":' + b"[" * 64 + b"]" * 64 + b"}",
)
"""Bytes that are no frame, whatever the state."""

_WELCOMES: Final = ("hello_ok", "joined")
_NEVER_NUMBERED: Final = frozenset({*_WELCOMES, "snapshot", "ping", "pong", "hello_error"})


def has_huge(value: Any) -> bool:
    """Whether an integer beyond the protocol's is anywhere in it."""
    match value:
        case dict():
            return any(map(has_huge, value.values()))
        case list():
            return any(map(has_huge, value))
        case int():
            return abs(value) > _shapes.MAX_INT
        case _:
            return False


def is_numbered(frame: Frame) -> bool:
    return type(frame.get("seq")) is int and frame["type"] not in _NEVER_NUMBERED


def is_snapshot_v1(frame: Frame) -> bool:
    state = frame.get("state")
    return isinstance(state, dict) and _shapes.CURSOR(state.get("event_cursor"))


def lenient(shape: _shapes.Shape, value: Any) -> Any:
    """The value where it is of the shape; deployed servers put all sorts there."""
    return value if shape(value) else None


def object_of(joined: str) -> Frame | str:
    try:
        state = json.loads(joined)
    except ValueError:
        return "bad"
    return state if isinstance(state, dict) else "bad"


def event_of(fields: Frame) -> Event:
    named: Frame = {name: fields.get(name) for name in EVENT_FIELDS}
    return Event(**named)


def entries_of(value: Any) -> tuple[PresenceEntry, ...] | None:
    if value is None:
        return None
    return tuple(
        PresenceEntry(
            client_id=entry["client_id"],
            agent_id=entry["agent_id"],
            connected_at=entry["connected_at"],
            client=None if entry.get("client") is None else ClientInfo(**entry["client"]),
        )
        for entry in value
    )


def bare(session_id: str) -> str:
    return session_id.partition(".")[0]


def epoch_in(session_id: str) -> str | None:
    _, dot, epoch = session_id.partition(".")
    return epoch if dot else None


def same_session(held: ResumeToken, session_id: str) -> bool:
    ours, theirs = epoch_in(held.session_id) or held.epoch, epoch_in(session_id)
    same_epoch = ours is None or theirs is None or ours == theirs
    return bare(held.session_id) == bare(session_id) and same_epoch

"""How a client reads a version 1 server: deployed as it is, and guarding nothing.

Everything is read leniently, because such servers agree on little but the names of their frames;
what positions depend on is read strictly, because a wrong cursor loses events.

Spec: Version 1.
"""

from typing import Any, Final

import msgspec
from attrs import frozen

from gatewayproto._client_states import Trigger
from gatewayproto.codec import Parsed
from gatewayproto.errors import ErrorCode, FrameError
from gatewayproto.frames import (
    Cursor,
    Error,
    Event,
    EventFrame,
    MessageAck,
    Name,
    Nonce,
    Object,
    Ping,
    Policy,
    PresenceEntry,
    RequestId,
)

_NEVER_EVENTS: Final = frozenset({"hello_ok", "joined", "snapshot", "ping", "pong", "hello_error"})
_LENIENT: Final[dict[str, Any]] = {
    "resync_reason": str,
    "presence": tuple[PresenceEntry, ...],
    "health": Object,
    "policy": Policy,
}
_ACKNOWLEDGED: Final = frozenset({None, "accepted", "duplicate"})


@frozen(kw_only=True)
class WelcomeV1:
    """What is believed of a version 1 welcome."""

    session_id: Name
    cursor: Cursor | None = None
    head: Cursor | None = None
    oldest_cursor: Cursor | None = None
    sequence: Cursor | None = None
    resync_required: bool | None = None
    resync_reason: str | None = None
    presence: tuple[PresenceEntry, ...] | None = None
    health: Object | None = None
    policy: Policy | None = None


@frozen(kw_only=True)
class SnapshotV1:
    """A version 1 snapshot: its cursor and its session are in its state."""

    cursor: int
    session_id: str | None
    state: Object


def read(parsed: Parsed) -> list[tuple[Trigger, Any]]:
    """Sort a welcomed version 1 server's frame into what can happen to a client.

    A numbered `response` is two things, in this order: the acknowledgement and the event.
    Raises `FrameError` for a snapshot without its cursor and for integers beyond 2**53 - 1.
    """
    if parsed.out_of_range:
        raise _malformed("an integer beyond 2**53 - 1")
    fields = parsed.fields
    found: list[tuple[Trigger, Any]] = []
    if parsed.type == "response":
        found += _acknowledgement(fields)
    if is_numbered(parsed):
        return [*found, (Trigger.EVENT, _event_frame(parsed.type, fields))]
    match parsed.type:
        case "hello_ok" | "joined":
            found.append((Trigger.WELCOME, parsed))
        case "snapshot":
            found.append((Trigger.SNAPSHOT, _snapshot(fields)))
        case "ping":
            found.append((Trigger.PING, read_ping(fields)))
        case "pong":
            found.append((Trigger.PONG, None))
        case "error" | "hello_error":
            found.append((Trigger.ERROR, read_error(fields)))
        case _ if not found:
            found.append((Trigger.UNKNOWN, None))
        case _:
            pass
    return found


def is_numbered(parsed: Parsed) -> bool:
    """Whether a frame of a version 1 server is an event, whatever its type."""
    seq = parsed.fields.get("seq")
    is_integer = isinstance(seq, int) and not isinstance(seq, bool)
    return is_integer and parsed.type not in _NEVER_EVENTS


def read_welcome(parsed: Parsed) -> WelcomeV1:
    """Read a version 1 welcome. Raises `FrameError` where a position cannot be read."""
    fields = {
        name: _or_none(value, _LENIENT[name]) if name in _LENIENT else value
        for name, value in parsed.fields.items()
    }
    try:
        return msgspec.convert(fields, WelcomeV1)
    except msgspec.ValidationError as error:
        raise _malformed(str(error)) from None


def read_error(fields: Object) -> Error:
    """Read an error or a rejection, whatever of it is there."""
    retry_after = _or_none(fields.get("retry_after_seconds"), float)
    return Error(
        code=_or_none(fields.get("code"), str) or "",
        message=_or_none(fields.get("message"), str) or "",
        next_step=_or_none(fields.get("next_step"), str),
        retry_after_seconds=None if retry_after is None else max(0.0, retry_after),
        request_id=_or_none(fields.get("request_id"), str),
    )


def read_ping(fields: Object) -> Ping:
    """Read a ping, whatever of it is there."""
    return Ping(
        nonce=_or_none(fields.get("nonce"), Nonce), cursor=_or_none(fields.get("cursor"), Cursor)
    )


def _acknowledgement(fields: Object) -> list[tuple[Trigger, Any]]:
    request_id = _or_none(fields.get("request_id"), RequestId)
    status = _or_none(fields.get("status"), str)
    numbered = isinstance(fields.get("seq"), int)
    if request_id is None or not (numbered or status in _ACKNOWLEDGED):
        return []
    ack = MessageAck(request_id=request_id, duplicate=status == "duplicate")
    return [(Trigger.ACK, ack)]


def _event_frame(kind: str, fields: Object) -> EventFrame:
    """An event from whatever form it has: nested in `event`, or the frame itself."""
    nested = fields.get("event")
    source: Object = nested if isinstance(nested, dict) else fields
    data = source.get("data")
    seq = fields["seq"]
    event = Event(
        type=_or_none(source.get("type"), Name) or kind,
        data=data if isinstance(data, dict) else source,
        event_id=_or_none(source.get("event_id"), Name) or str(seq),
        timestamp=_or_none(source.get("timestamp"), float) or 0.0,
        source=_or_none(source.get("source"), str),
        target=_or_none(source.get("target"), str),
        run_id=_or_none(source.get("run_id"), Name),
        request_id=_or_none(source.get("request_id"), str),
        transient=_or_none(source.get("transient"), bool),
        final=_or_none(source.get("final"), bool),
        expects_reply=_or_none(source.get("expects_reply"), bool),
    )
    return EventFrame(seq=seq, event=event, type="replay" if kind == "replay" else "event")


def _snapshot(fields: Object) -> SnapshotV1:
    state = fields.get("state")
    cursor = state.get("event_cursor") if isinstance(state, dict) else None
    cursor = _or_none(cursor, Cursor)
    if not isinstance(state, dict) or cursor is None:
        raise _malformed("a snapshot without its cursor")
    session_id = _or_none(state.get("session_id"), str)
    return SnapshotV1(cursor=cursor, session_id=session_id, state=state)


def _or_none(value: Any, type_: Any) -> Any:
    """The value if it is of the type, else None: deployed servers put all sorts there."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError:
        return None


def _malformed(detail: str) -> FrameError:
    return FrameError(ErrorCode.MALFORMED_FRAME, detail)

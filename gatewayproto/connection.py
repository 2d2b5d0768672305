"""One connection of the gateway: what every input means in every state.

The table at the end is the whole of it. Its handlers are in `_connection_opening` (before the
welcome) and `_connection_live` (after it); what they act on is in `_connection_link`.

Spec: Client to server; Errors; the architecture page, "Said in tables".
"""

from enum import StrEnum
from typing import Any, Final

from gatewayproto import _connection_live as live
from gatewayproto import _connection_opening as opening
from gatewayproto import codec
from gatewayproto._connection_link import Link, State
from gatewayproto._table import (
    Cell,
    Table,
    Verdict,
    fault,
    handled,
    ignored,
    late,
    mistake,
    race,
)
from gatewayproto.codec import Parsed
from gatewayproto.errors import ErrorCode, FrameError, LocalProtocolError
from gatewayproto.frames import Abort, Auth, Leave, Message, Ping, Pong, Resume, Resync


class Input(StrEnum):
    """What can happen to a connection."""

    HANDSHAKE = "hello or join"
    MESSAGE = "message"
    ABORT = "abort"
    RESUME = "resume"
    RESYNC = "resync"
    AUTH = "auth"
    PING = "ping"
    PONG = "pong"
    LEAVE = "leave"
    UNKNOWN = "a frame of another type"
    INVALID = "a frame with a field that is off"
    MALFORMED = "no frame"
    FLOOD = "one frame too many"
    ACTIVITY = "bytes came in"
    DRAINED = "the transport took bytes"
    GONE = "the transport is gone"
    ACCEPT = "the application accepts"
    REJECT = "the application rejects"
    SNAPSHOT = "a state may have come"
    NO_SNAPSHOT = "no state can be had"
    TIMER = "a deadline has passed"
    DRAIN = "the gateway drains"
    STORED = "the store has what it waits for"


_INPUT_OF: Final[dict[type, Input]] = {
    Message: Input.MESSAGE,
    Abort: Input.ABORT,
    Resume: Input.RESUME,
    Resync: Input.RESYNC,
    Auth: Input.AUTH,
    Ping: Input.PING,
    Pong: Input.PONG,
    Leave: Input.LEAVE,
}
"""The frames that this server knows."""


_SINCE_VERSION_2: Final = frozenset({"resume", "resync", "auth"})
"""To version 1 these are types that nobody knows, whatever their fields."""


def classify(parsed: Parsed, state: State) -> tuple[Input, Any]:
    """Sort a client's JSON object into the table's inputs. Raises `FrameError` for no frame."""
    if parsed.type in {"hello", "join"}:
        return Input.HANDSHAKE, parsed  # its versions are read before its fields are checked
    if state is State.LIVE_V1 and parsed.type in _SINCE_VERSION_2:
        return Input.UNKNOWN, parsed
    frame = codec.client_frame(parsed)
    return _INPUT_OF.get(type(frame), Input.UNKNOWN), frame


def receive(link: Link, data: bytes, now: float) -> None:
    """Take one frame's bytes, whatever they are."""
    wait = link.frames.take(now) if link.frames else None
    if wait is not None:
        handle(link, Input.FLOOD, wait, now)
        return
    try:
        parsed = codec.parse(data, max_bytes=link.context.config.max_payload)
        input_, argument = classify(parsed, link.state)
    except FrameError as error:
        bad = error.code in {ErrorCode.MALFORMED_FRAME, ErrorCode.PAYLOAD_TOO_LARGE}
        input_, argument = (Input.MALFORMED if bad else Input.INVALID), error
    handle(link, input_, argument, now)


def handle(link: Link, input_: Input, argument: Any, now: float) -> None:
    """Run the table. Raises `LocalProtocolError` for the caller's mistake."""
    cell = CONNECTION_TABLE[link.state, input_]
    if cell.verdict is Verdict.CALLER_MISTAKE:
        raise LocalProtocolError(f"connection {link.number} is {link.state}: {input_}")
    if cell.handler is not None:
        cell.handler(link, argument, now)
    assert link.state in cell.ends, f"{input_} left connection {link.number} {link.state}"


# -- the table --------------------------------------------------------------------------------

_Row = dict[Input, Cell[State]]


def _row_before_welcome(state: State) -> _Row:
    held = fault(opening.hold_not_joined, state, State.CLOSED)
    return {
        Input.HANDSHAKE: held,
        Input.MESSAGE: held,
        Input.ABORT: held,
        Input.RESUME: held,
        Input.RESYNC: held,
        Input.AUTH: held,
        Input.PING: handled(opening.hold_pong, state, State.CLOSED),
        Input.PONG: held,
        Input.LEAVE: handled(live.leave, State.CLOSED),
        Input.UNKNOWN: held,
        Input.INVALID: held,
        Input.MALFORMED: fault(opening.reject_malformed, State.CLOSED),
        Input.FLOOD: fault(opening.reject_flood, State.CLOSED),
        Input.ACTIVITY: handled(live.note_activity, state),
        Input.DRAINED: handled(live.count_taken, state),
        Input.GONE: handled(live.lose, State.CLOSED),
        Input.ACCEPT: mistake(state),
        Input.REJECT: mistake(state),
        Input.SNAPSHOT: ignored(state),
        Input.NO_SNAPSHOT: ignored(state),
        Input.TIMER: ignored(state),
        Input.DRAIN: handled(opening.turn_away, State.CLOSED),
        Input.STORED: ignored(state),
    }


def _row_live(state: State) -> _Row:
    unknown = fault(live.answer_unknown, state, State.CLOSED)
    return {
        Input.HANDSHAKE: fault(live.refuse_handshake, state, State.CLOSED),
        Input.MESSAGE: handled(live.take_message, state, State.CLOSED),
        Input.ABORT: handled(live.pass_on_abort, state),
        Input.RESUME: unknown,
        Input.RESYNC: unknown,
        Input.AUTH: unknown,
        Input.PING: handled(live.answer_ping, state, State.CLOSED),
        Input.PONG: ignored(state),
        Input.LEAVE: handled(live.leave, State.CLOSED),
        Input.UNKNOWN: unknown,
        Input.INVALID: fault(live.answer_invalid, state, State.CLOSED),
        Input.MALFORMED: fault(live.answer_malformed, state, State.CLOSED),
        Input.FLOOD: fault(live.refuse_flood, State.CLOSED),
        Input.ACTIVITY: handled(live.note_activity, state),
        Input.DRAINED: handled(live.give_back, state, State.CLOSED),
        Input.GONE: handled(live.lose, State.CLOSED),
        Input.SNAPSHOT: ignored(state),
        Input.NO_SNAPSHOT: ignored(state),
        Input.ACCEPT: handled(live.renew, state, State.CLOSED),
        Input.REJECT: handled(live.end_by_application, State.CLOSED),
        Input.TIMER: handled(live.watch_over, state, State.CLOSED),
        Input.STORED: handled(live.give_answers, state, State.CLOSED),
    }


_ACCEPTED: Final = (State.PREPARING, State.LIVE_V1, State.LIVE_V2, State.CLOSED)

CONNECTION_TABLE: Final[Table[State, Input]] = Table(
    "gateway connection",
    State,
    Input,
    {
        State.OPENING: {
            **_row_before_welcome(State.OPENING),
            Input.HANDSHAKE: handled(opening.read_handshake, State.JOINING, State.CLOSED),
            Input.TIMER: fault(opening.reject_late, State.CLOSED),
        },
        State.JOINING: {
            **_row_before_welcome(State.JOINING),
            Input.ACCEPT: handled(opening.accept, State.STORING, *_ACCEPTED),
            Input.REJECT: handled(opening.reject_by_application, State.CLOSED),
        },
        State.PREPARING: {
            **_row_before_welcome(State.PREPARING),
            Input.TIMER: handled(opening.reject_expired, State.PREPARING, State.CLOSED),
            Input.REJECT: handled(opening.reject_by_application, State.CLOSED),
            Input.SNAPSHOT: handled(opening.attach_awaited, *_ACCEPTED),
            Input.NO_SNAPSHOT: handled(opening.reject_unprepared, State.CLOSED),
        },
        State.STORING: {
            **_row_before_welcome(State.STORING),
            Input.TIMER: handled(opening.reject_expired, State.STORING, State.CLOSED),
            Input.REJECT: handled(opening.reject_by_application, State.CLOSED),
            Input.STORED: handled(opening.attach_awaited, *_ACCEPTED),
        },
        State.LIVE_V1: {
            **_row_live(State.LIVE_V1),
            Input.HANDSHAKE: handled(live.read_handshake_again, State.JOINING, State.CLOSED),
            Input.DRAIN: handled(live.end_for_restart, State.CLOSED),
        },
        State.LIVE_V2: {
            **_row_live(State.LIVE_V2),
            Input.RESUME: handled(live.resume, State.LIVE_V2, State.CLOSED),
            Input.RESYNC: handled(live.resync, State.LIVE_V2, State.CLOSED),
            Input.SNAPSHOT: handled(live.go_on, State.LIVE_V2, State.CLOSED),
            Input.NO_SNAPSHOT: handled(live.give_up_snapshot, State.LIVE_V2, State.CLOSED),
            Input.DRAIN: handled(live.send_away, State.LIVE_V2, State.CLOSED),
            Input.AUTH: handled(live.review, State.LIVE_V2),
        },
        State.CLOSED: {
            **dict.fromkeys(Input, late(State.CLOSED)),
            Input.ACCEPT: race(opening.drop_command, State.CLOSED),
            Input.REJECT: race(opening.drop_command, State.CLOSED),
        },
    },
)

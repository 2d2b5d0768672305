"""What `gatewayproto tail` writes for each thing that the client machine emits."""

import io
import json
import sys
from typing import Any, Final, Protocol, assert_never

import attrs
import click
from rich.console import Console
from rich.text import Text

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
    RetryScheduled,
    Skipped,
    SnapshotReceived,
    StateChanged,
    Stopped,
    TokenNeeded,
)
from gatewayproto.frames import Event, Object
from gatewayproto_cli.text import escape

_JOINED: Final = (
    "session_id",
    "epoch",
    "protocol_version",
    "resumed",
    "cursor",
    "oldest_cursor",
    "sequence",
    "resync_required",
    "resync_reason",
)


class Writer(Protocol):
    """Writes one line for each event of a client."""

    def write(self, event: ClientEvent) -> None:
        """Write what there is to say of this event, at once. Raises `OSError`."""
        ...


class JsonWriter:
    """One JSON object a line, in ASCII, flushed."""

    def write(self, event: ClientEvent) -> None:
        """See `Writer`."""
        fields = json_fields(event)
        if fields is not None:
            click.echo(json.dumps(fields, separators=(",", ":"), allow_nan=False))


class PeopleWriter:
    """A line of plain words, in color on a terminal; what the server sent is only ever text."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Not every terminal can show every character.
            sys.stdout.reconfigure(errors="backslashreplace")
        self._console = Console(soft_wrap=True, highlight=False, emoji=False, markup=False)

    def write(self, event: ClientEvent) -> None:
        """See `Writer`."""
        style, words, detail = plain_words(event)
        line = Text(f"{words:<12}", style=style)
        line.append(f" {detail}" if detail else "", style="default")
        line.rstrip()
        self._console.print(line)


# -- for programs -----------------------------------------------------------------------------


def json_fields(event: ClientEvent) -> Object | None:  # noqa: C901, PLR0911, PLR0912 - one arm for each event
    """The JSON object for an event, `emit` first; None for what `stopped` will tell."""
    match event:
        case StateChanged():
            return {"emit": "state", "state": event.state}
        case Joined():
            return {"emit": "joined", **{name: getattr(event, name) for name in _JOINED}}
        case EventReceived():
            return {
                "emit": "event",
                **_fields(event, "seq", "replayed"),
                "event": _wire(event.event),
            }
        case Skipped():
            return {"emit": "skipped", **_fields(event, "first", "last", "reason")}
        case SnapshotReceived():
            return {"emit": "snapshot", **_fields(event, "cursor", "epoch", "reason", "state")}
        case CaughtUp():
            return {"emit": "caught_up", "cursor": event.cursor}
        case Gap():
            return {"emit": "gap", **_fields(event, "expected", "received")}
        case MessageAccepted():
            return {"emit": "accepted", **_fields(event, "request_id", "duplicate")}
        case MessageRefused():
            return {"emit": "refused", **_fields(event, "request_id", "code")}
        case OutcomeUnknown():
            return {"emit": "outcome_unknown", "request_id": event.request_id}
        case PresenceReceived():
            return {"emit": "presence", **_wire(event)}
        case HealthReceived():
            return {"emit": "health", **_wire(event)}
        case RetryScheduled():
            return {"emit": "retry", **_fields(event, "delay", "attempt", "code")}
        case TokenNeeded():
            return None
        case Stopped():
            return {"emit": "stopped", **_fields(event, "code", "message")}
        case _:
            assert_never(event)


def _fields(event: ClientEvent, *names: str) -> Object:
    return {name: getattr(event, name) for name in names}


def _wire(value: "attrs.AttrsInstance") -> Object:
    """An object as it stands on the wire: what is absent there has no field.

    Data of the application keeps its nulls.
    """
    fields = attrs.asdict(value, recurse=False)
    return {name: _plain(item) for name, item in fields.items() if item is not None}


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return _wire(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


# -- for people -------------------------------------------------------------------------------


def plain_words(event: ClientEvent) -> tuple[str, str, str]:  # noqa: C901, PLR0911, PLR0912 - one arm for each event
    """The style, the word and the rest of an event's line; both are escaped."""
    match event:
        case StateChanged():
            return "bold", event.state, ""
        case Joined():
            return "green", "joined", _joined(event)
        case EventReceived():
            return "default", f"#{event.seq}", _event(event.event, replayed=event.replayed)
        case Skipped():
            numbers = f"#{event.first} to #{event.last}"
            return "yellow", "skipped", _line(numbers, event.reason)
        case SnapshotReceived():
            return "yellow", "snapshot", _line(f"up to #{event.cursor}", event.reason, event.state)
        case CaughtUp():
            return "green", "caught up", f"at #{event.cursor}"
        case Gap():
            return "yellow", "gap", f"expected #{event.expected}, received #{event.received}"
        case MessageAccepted():
            return "cyan", "accepted", _line(event.request_id, event.duplicate and "(again)")
        case MessageRefused():
            return "red", "refused", _line(event.request_id, event.code, event.message)
        case OutcomeUnknown():
            return "red", "unknown", _line("what became of", event.request_id)
        case PresenceReceived():
            return "blue", "presence", _line(_wire(event))
        case HealthReceived():
            return "blue", "health", _line(event.health)
        case RetryScheduled():
            wait = f"in {event.delay:.2f} s, attempt {event.attempt}"
            return "yellow", "retry", _line(wait, event.code and f"({event.code})")
        case TokenNeeded():
            return "red", "token", _line("other credentials are needed", f"({event.code})")
        case Stopped():
            return "bold", "stopped", _line(event.code, event.message)
        case _:
            assert_never(event)


def _joined(event: Joined) -> str:
    how = "resumed" if event.resumed else "new"
    if event.resumed and event.resync_required:
        how = f"resumed, with a snapshot ({event.resync_reason})"
    elif event.resync_required:
        how = "new: the session asked for is not known there, so what was seen of it is void"
    return _line(
        f"session {event.session_id}",
        event.epoch and f"epoch {event.epoch}",
        f"version {event.protocol_version}, {how}, from #{event.sequence}, head #{event.cursor}",
    )


def _event(event: Event, *, replayed: bool) -> str:
    marks = (
        replayed and "replayed",
        event.transient and "transient",
        event.final and "final",
        event.expects_reply and f"expects a reply to {event.event_id}",
    )
    told = ", ".join(str(mark) for mark in marks if mark)
    text = event.data.get("text")
    content = text if len(event.data) == 1 and isinstance(text, str) else event.data
    return _line(event.type, told and f"({told})", content)


def _line(*parts: object) -> str:
    """The parts that there are, objects as JSON, escaped and in one line."""
    words = [
        part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)
        for part in parts
        if part or isinstance(part, dict)
    ]
    return escape("  ".join(words))

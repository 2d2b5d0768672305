"""Version negotiation, and what version 1 writes differently.

Spec: Versions; Version 1.
"""

from typing import Any, Final, Literal

import msgspec
from attrs import field, frozen

from gatewayproto import codec
from gatewayproto.errors import ErrorCode
from gatewayproto.frames import Event, Object, Version
from gatewayproto.projection import shed

# -- negotiation ------------------------------------------------------------------------------


@frozen
class VersionRange:
    """The versions `minimum` to `maximum`, both spoken. Raises `ValueError` for an empty range."""

    minimum: int = field()
    maximum: int = field()

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum:
            raise ValueError(f"{self.minimum} to {self.maximum} is no range of versions")

    def common(self, other: "VersionRange") -> int | None:
        """The highest version in both ranges, None if there is none."""
        highest = min(self.maximum, other.maximum)
        return highest if highest >= max(self.minimum, other.minimum) else None


@frozen
class Offer:
    """What a handshake says of its versions.

    `range` is None where its fields cannot be read; `stated` tells whether it had any.
    """

    range: VersionRange | None
    stated: bool

    @property
    def counts_as(self) -> Literal[1, 2]:
        """The version whose vocabulary a rejection of this client uses."""
        return 1 if self.range is not None and self.range.maximum == 1 else 2


VERSION_1_ONLY: Final = VersionRange(1, 1)
_RANGE_FIELDS: Final = {
    "hello": ("protocol_min", "protocol_max"),
    "join": ("min_version", "max_version"),
}


def read_offer(fields: Object, kind: str) -> Offer:
    """Read the version fields of a handshake of type `kind` (`hello` or `join`), as they came.

    One field alone leaves the minimum at 1, or the maximum at the given minimum. Fields are
    checked before they are compared, so whatever they hold nothing is raised.

    Spec: Versions; Version 1.
    """
    low, high = (fields.get(name) for name in _RANGE_FIELDS[kind])
    if low is None and high is None:
        return Offer(VERSION_1_ONLY, stated=False)
    try:
        minimum = msgspec.convert(1 if low is None else low, Version)
        maximum = msgspec.convert(low if high is None else high, Version)
        return Offer(VersionRange(minimum, maximum), stated=True)
    except ValueError:  # msgspec.ValidationError is one
        return Offer(None, stated=True)


# -- session ids that carry their epoch -------------------------------------------------------


def join_session_id(session_id: str, epoch: str) -> str:
    """The id that version 1 gives a client, so that an old one names its old epoch."""
    return f"{session_id}.{epoch}"


def split_session_id(session_id: str) -> tuple[str, str | None]:
    """Both parts of an id in either form; a bare id names no epoch."""
    bare, dot, epoch = session_id.partition(".")
    return bare, epoch if dot else None


# -- what a version 1 client is sent ----------------------------------------------------------

_V1_EVENT_FIELDS: Final = ("type", "data", "event_id", "timestamp", "source", "target")
_V1_HELLO_CODES: Final = {
    ErrorCode.VERSION_UNSUPPORTED: "protocol_unsupported",
    ErrorCode.AGENT_NOT_FOUND: "agent_not_found",
    ErrorCode.AUTH_REQUIRED: "auth_required",
    ErrorCode.AUTH_UNAUTHORIZED: "auth_unauthorized",
    ErrorCode.RATE_LIMITED: "rate_limited",
}


def rejection_code_v1(code: ErrorCode) -> str:
    """The code of a rejected `hello` in the words that deployed clients know."""
    return _V1_HELLO_CODES.get(code, "configuration_error")


def replay_frame_v1(seq: int, event: Event) -> bytes:
    """The one form of event from which deployed clients track their cursor, live ones too."""
    fields: dict[str, Any] = {name: getattr(event, name) for name in _V1_EVENT_FIELDS}
    fields["data"] = {**event.data, "cursor": seq}
    fields["sequence"] = seq
    return codec.encode_object({"type": "replay", "seq": seq, "event": fields})


def snapshot_frame_v1(
    state: Object, *, cursor: int, session_id: str, agent_id: str, max_bytes: int
) -> bytes | None:
    """A snapshot as version 1 knows it, shed until it fits; None if it does not fit empty.

    `session_id` is in version 1's form. The cursor stands inside the state.
    """

    def frame(shortened: Object) -> bytes:
        placed = {"event_cursor": cursor, "session_id": session_id, "agent_id": agent_id}
        return codec.encode_object({"type": "snapshot", "state": {**shortened, **placed}})

    shortened = shed(state, lambda candidate: len(frame(candidate)) <= max_bytes)
    return None if shortened is None else frame(shortened)

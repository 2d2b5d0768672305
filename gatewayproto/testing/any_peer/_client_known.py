"""What can be known of a client's connection, messages and codes: plain values.

Spec: The client's side; Errors.
"""

import math
from typing import Any, Final

from attrs import define, field

from gatewayproto.actions import (
    CaughtUp,
    EventReceived,
    Gap,
    Joined,
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    ResumeToken,
    Skipped,
    SnapshotReceived,
)

Frame = dict[str, Any]

ATTACHED: Final = frozenset({"live", "recovering", "resyncing"})
DAY: Final = 86_400.0
EPSILON: Final = 1e-6
"""Seconds within which two times count as the same: on another clock their last digits differ."""
LEAVE_GRACE: Final = 1.0
LINK_DEADLINES: Final = ("handshake", "recovery", "silence", "liveness", "leave")

CLOSES: Final[dict[int, str]] = {
    4000: "going_away",
    4001: "liveness_timeout",
    4002: "slow_consumer",
    4003: "rate_limited",
    4004: "internal_error",
    4005: "handshake_timeout",
    4006: "auth_expired",
    4500: "version_unsupported",
    4501: "invalid_protocol_hello",
    4502: "invalid_cursor",
    4503: "auth_required",
    4504: "auth_unauthorized",
    4505: "agent_not_found",
    4506: "malformed_frame",
    4507: "payload_too_large",
    4508: "session_closed",
}
CLOSE_OF: Final = {**{name: code for code, name in CLOSES.items()}, "protocol_unsupported": 4500}
FINAL_CLOSES: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010, *range(4500, 5000)})
PROPERTY_OF: Final[dict[type, str]] = {
    Joined: "P6",
    EventReceived: "P2",
    Skipped: "P3",
    Gap: "P3",
    SnapshotReceived: "P5",
    CaughtUp: "P15",
    MessageAccepted: "P8",
    MessageRefused: "P8",
    OutcomeUnknown: "P8",
}
"""The property that is broken where one of these is told or missing by mistake."""


class _Anything:
    """Equal to everything: for what the specification leaves open."""

    def __eq__(self, _: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "…"


ANY: Final[Any] = _Anything()


@define
class Owed:
    """A message that has not come to its end; `written` is when it was first written."""

    request_id: str
    frame: Frame
    size: int
    written: float | None = None
    in_flight: bool = False


@define
class Parts:
    """What came of a snapshot in parts; `reached` is the most bytes since a whole one."""

    first: Frame | None = None
    taken: int = 0
    text: str = ""
    reached: int = 0


@define
class Link:
    """The present connection. `floor` is the least and the most that it says to stay away."""

    number: int
    heard: float
    version: int | None = None
    session_id: str = ""
    epoch: str | None = None
    head: int | None = None
    has_floor: bool = True
    reason: str | None = None
    nonce: str | None = None
    due: bool = False
    asked_from: ResumeToken | None = None
    asked_snapshot: bool = False
    dropped: bool = False
    new_token: bool = False
    presented: float | None = None
    presence_version: int | None = None
    presence_listed: bool = False
    health_version: int | None = None
    rejection: tuple[str, str, str | None] | None = None
    floor: float = 0.0
    leaving: tuple[float, float] | None = None
    give_up: float = 0.0
    parts: Parts = field(factory=Parts)


@define
class Ending:
    """How a connection ended: `next` is `retry`, `token` or `stop`."""

    next: str
    code: str | None
    message: str = ANY
    floor: float = 0.0


def floor_of(seconds: float | None) -> float:
    """What a server asks for, within a day; what is no time is none."""
    if seconds is None or not 0 <= seconds < math.inf:
        return 0.0
    return min(float(seconds), DAY)

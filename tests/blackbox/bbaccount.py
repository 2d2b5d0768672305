"""What the specification says about frames: their fields, and the account of a session's seqs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.blackbox.bbwire import MAX_INTEGER, Frame, brief

SNAPSHOT_REASONS: Final = {
    "session_unknown",
    "epoch_changed",
    "cursor_ahead",
    "trimmed",
    "requested",
    "lagged",
}

# Required and optional fields of what a version 2 client is sent.
FIELDS: Final[dict[str, tuple[set[str], set[str]]]] = {
    "replay": ({"seq", "event"}, set()),
    "event": ({"seq", "event"}, set()),
    "skip": ({"first", "last", "reason"}, set()),
    "caught_up": ({"cursor"}, {"nonce"}),
    "snapshot": (
        {"cursor", "epoch", "reason"},
        {"state", "nonce", "part", "parts", "chunk"},
    ),
    "message_ack": ({"request_id", "duplicate"}, set()),
    "message_nack": ({"code", "message"}, {"request_id"}),
    "presence": (
        {"version"},
        {"from_version", "joined", "left", "entries", "presence_count"},
    ),
    "health": ({"version", "health"}, set()),
    "ping": ({"cursor"}, {"nonce"}),
    "pong": (set(), {"nonce"}),
    "error": (
        {"code", "message"},
        {"next_step", "retry_after_seconds", "request_id"},
    ),
}

EVENT_REQUIRED: Final = {"type", "data", "event_id", "timestamp"}
EVENT_OPTIONAL: Final = {
    "source",
    "target",
    "run_id",
    "request_id",
    "transient",
    "final",
    "expects_reply",
}

POLICY: Final = {
    "max_payload",
    "heartbeat_ms",
    "resume_window_ms",
    "request_ttl_ms",
    "max_pending_requests",
}


def given(frame: Frame) -> Frame:
    """The frame without its nulls: absent and null mean the same."""
    return {name: value for name, value in frame.items() if value is not None}


def is_integer(value: object, least: int = 0) -> bool:
    """Tell whether this is an integer of the specification: no bool, no float."""
    return type(value) is int and least <= value <= MAX_INTEGER


def check_event(event: Any) -> None:
    """Hold one event object to its table."""
    assert isinstance(event, dict), brief(event)
    event = given(event)
    names = set(event)
    assert names >= EVENT_REQUIRED, brief(event)
    assert names <= EVENT_REQUIRED | EVENT_OPTIONAL, brief(event)
    assert isinstance(event["type"], str)
    assert event["type"]
    assert isinstance(event["data"], dict), brief(event)
    assert isinstance(event["event_id"], str)
    assert event["event_id"]
    assert type(event["timestamp"]) in {int, float}, brief(event)
    assert 1_500_000_000 < event["timestamp"] < 10_000_000_000, brief(event)
    for flag in ("transient", "final", "expects_reply"):
        assert event.get(flag, True) is True, brief(event)
    for name in ("run_id", "request_id"):
        assert isinstance(event.get(name, ""), str), brief(event)
    if "transient" in event:
        assert "final" not in event, brief(event)
        assert isinstance(event.get("run_id"), str), brief(event)
    if "final" in event:
        assert isinstance(event.get("run_id"), str), brief(event)


def check_frame(frame: Frame) -> None:
    """Hold one frame after the welcome, as a version 2 client gets it, to its table."""
    assert frame["type"] in FIELDS, f"not for a version 2 client here: {brief(frame)}"
    required, optional = FIELDS[frame["type"]]
    names = set(given(frame)) - {"type"}
    assert names >= required, f"fields missing: {brief(frame)}"
    assert names <= required | optional, f"fields that are not in the specification: {brief(frame)}"
    for name in ("seq", "first", "last"):
        if name in names:
            assert is_integer(frame[name], 1), brief(frame)
    if "cursor" in names:
        assert is_integer(frame["cursor"]), brief(frame)
    match frame["type"]:
        case "replay" | "event":
            check_event(frame["event"])
        case "skip":
            assert frame["reason"] == "superseded", brief(frame)
            assert frame["first"] <= frame["last"], brief(frame)
        case "snapshot":
            assert frame["reason"] in SNAPSHOT_REASONS, brief(frame)
            assert isinstance(frame["epoch"], str), brief(frame)
            assert ("state" in names) != ({"part", "parts", "chunk"} <= names), brief(frame)
        case "message_ack":
            assert type(frame["duplicate"]) is bool, brief(frame)
        case "error" | "message_nack":
            assert isinstance(frame["code"], str), brief(frame)
            assert isinstance(frame["message"], str), brief(frame)
            assert frame["message"], brief(frame)
        case _:
            pass


@dataclass
class Account:
    """How each seq after `start` was accounted for, and where that leads."""

    start: int
    cursor: int
    events: dict[int, Frame] = field(default_factory=dict)
    replayed: list[int] = field(default_factory=list)
    live: list[int] = field(default_factory=list)
    skips: list[tuple[int, int]] = field(default_factory=list)
    snapshots: list[Frame] = field(default_factory=list)
    caught_up: list[Frame] = field(default_factory=list)
    others: list[Frame] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def texts(self) -> list[str]:
        """The texts of the events, in order."""
        return [event["data"].get("text") for _, event in sorted(self.events.items())]


def account(
    frames: Iterable[Frame],
    since: int,
    *,
    head: int | None = None,
    resync: bool = False,
) -> Account:
    """Check the promise over what one version 2 connection got after its welcome.

    Every seq after `since` comes exactly once and in order: as an event, in a `skip`, or under
    the cursor of a `snapshot`. `head` is the cursor of the welcome or of the `resume`: what is
    not above it is a `replay`, what is above it an `event`, and no `caught_up` comes before it
    is reached. With `resync` a snapshot must come before anything else that moves the cursor.
    """
    result = Account(since, since)
    for frame in frames:
        check_frame(frame)
        _enter(result, frame, head, must_snapshot=resync and not result.snapshots)
    assert not result.parts, "a snapshot that was never finished"
    return result


def _enter(result: Account, frame: Frame, head: int | None, *, must_snapshot: bool) -> None:
    match frame["type"]:
        case "replay" | "event":
            assert not must_snapshot, f"before the snapshot: {brief(frame)}"
            assert not result.parts, f"between the parts of a snapshot: {brief(frame)}"
            seq = frame["seq"]
            assert seq == result.cursor + 1, f"expected {result.cursor + 1}, got {brief(frame)}"
            result.events[seq] = frame["event"]
            result.cursor = seq
            replayed = frame["type"] == "replay"
            (result.replayed if replayed else result.live).append(seq)
            assert head is None or replayed == (seq <= head), f"head was {head}: {brief(frame)}"
        case "skip":
            assert not must_snapshot, f"before the snapshot: {brief(frame)}"
            assert not result.parts, f"between the parts of a snapshot: {brief(frame)}"
            assert frame["first"] == result.cursor + 1, f"at {result.cursor}: {brief(frame)}"
            result.skips.append((frame["first"], frame["last"]))
            result.cursor = frame["last"]
        case "snapshot":
            state = _assemble(result, frame)
            if state is not None:
                assert must_snapshot or frame["cursor"] >= result.cursor, (
                    f"a snapshot behind {result.cursor}: {brief(frame)}"
                )
                result.snapshots.append({**frame, "state": state})
                result.cursor = frame["cursor"]
        case "caught_up":
            assert frame["cursor"] <= result.cursor, f"at {result.cursor}: {brief(frame)}"
            assert head is None or frame["cursor"] >= head, f"head was {head}: {brief(frame)}"
            result.caught_up.append(frame)
        case "ping":
            assert must_snapshot or frame["cursor"] == result.cursor, (
                f"at {result.cursor}: {brief(frame)}"
            )
        case _:
            result.others.append(frame)


def _assemble(result: Account, frame: Frame) -> Frame | None:
    """Put a snapshot's parts together; `None` until the last one."""
    if "part" not in given(frame):
        assert not result.parts, f"between the parts of another: {brief(frame)}"
        state = frame["state"]
    else:
        if frame["part"] == 1:
            result.parts.clear()
        assert frame["part"] == len(result.parts) + 1, brief(frame)
        result.parts.append(frame["chunk"])
        if frame["part"] < frame["parts"]:
            return None
        state = json.loads("".join(result.parts))
        result.parts.clear()
    assert isinstance(state, dict), brief(frame)
    return state


def check_policy(policy: Any) -> None:
    """Hold a welcome's `policy` to its list."""
    assert isinstance(policy, dict), policy
    assert set(policy) == POLICY, policy
    for name, value in policy.items():
        assert is_integer(value, 1), (name, value)

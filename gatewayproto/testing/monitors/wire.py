"""Frames read as plain JSON, by the words of the specification and nobody's codec.

Spec: Framing; Client to server.
"""

import json
from functools import lru_cache
from typing import Any, Final

from gatewayproto.testing._shapes import CLIENT, MAX_INT

Frame = dict[str, Any]

MAX_DEPTH: Final = 64
HANDSHAKES: Final = frozenset({"hello", "join"})
WELCOMES: Final = frozenset({"hello_ok", "joined"})
REJECTIONS: Final = frozenset({"hello_error", "error"})
EVENTS: Final = frozenset({"event", "replay"})
PUSHES: Final = frozenset({"presence", "health"})
"""What goes behind everything else, to whoever has room."""
DELIVERIES: Final = frozenset({"event", "replay", "skip", "caught_up", "snapshot"})
_CACHE: Final = 4096


@lru_cache(maxsize=_CACHE)
def decode(data: bytes) -> Frame:
    """A frame that one of our machines wrote. What comes back is shared: it must not be changed.

    Raises `ValueError` for what is no frame.
    """
    frame = json.loads(data)
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise ValueError("no frame")  # noqa: TRY004 -- of bytes, not of an argument's type
    return frame


class _OffError(ValueError):
    """What JSON lets pass and the protocol does not."""


def _pairs(pairs: list[tuple[str, Any]]) -> Frame:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _OffError
    return dict(pairs)


def _constant(_: str) -> Any:
    raise _OffError


@lru_cache(maxsize=_CACHE)
def read(data: bytes) -> Frame | None:
    """What a peer sent, if it is a frame by every rule; None if it is not.

    Members that are null are left out: they mean the same as absent ones. What comes back is
    shared: it must not be changed.

    Spec: Framing.
    """
    frame = read_loosely(data)
    return None if frame is None or has_huge(frame) else frame


@lru_cache(maxsize=_CACHE)
def read_loosely(data: bytes) -> Frame | None:
    """The same, with integers out of range, for which a field may have an error of its own."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_pairs, parse_constant=_constant)
        _check(value, 1)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return None
    return {name: member for name, member in value.items() if member is not None}


def _check(value: object, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise _OffError
        for name in value if isinstance(value, dict) else ():
            name.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth + 1)
    elif isinstance(value, str):
        value.encode()
    elif isinstance(value, float) and value - value != 0.0:
        raise _OffError


def has_huge(value: object) -> bool:
    """Whether an integer out of range is anywhere in it."""
    if isinstance(value, dict | list):
        return any(map(has_huge, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int) and not -MAX_INT <= value <= MAX_INT


# -- the fields of a client's frames ----------------------------------------------------------


def is_off(frame: Frame, *but: str) -> bool:
    """Whether a field of a client's frame is off, those named aside; unknown types have none."""
    shape = CLIENT.get(frame["type"])
    if shape is None:
        return False
    return not shape({**frame, **{name: _GOOD[name] for name in but}} if but else frame)


_GOOD: Final[Frame] = {"since": 0, "request_id": None}
"""Values of the fields that have error codes of their own with which nothing is off."""

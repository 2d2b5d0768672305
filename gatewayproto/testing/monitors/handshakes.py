"""What a handshake asks for, and for what it must be rejected, by the words of the specification.

Spec: Versions; Client to server; Framing; Version 1.
"""

from typing import Final

from attrs import frozen

from gatewayproto.config import GatewayConfig
from gatewayproto.frames import DEFAULT_MAX_PAYLOAD
from gatewayproto.testing._shapes import CURSOR, VERSION
from gatewayproto.testing.monitors.wire import HANDSHAKES, Frame, has_huge, is_off, read_loosely
from gatewayproto.testing.reference import Asked, compact

_WELCOME_ROOM: Final = 768
_RANGES: Final = {
    "hello": ("protocol_min", "protocol_max"),
    "join": ("min_version", "max_version"),
}
_V1_CODES: Final = {
    "version_unsupported": "protocol_unsupported",
    "agent_not_found": "agent_not_found",
    "auth_required": "auth_required",
    "auth_unauthorized": "auth_unauthorized",
    "rate_limited": "rate_limited",
}
UNREADABLE: Final = frozenset(
    {
        "malformed_frame",
        "payload_too_large",
        "invalid_cursor",
        "invalid_protocol_hello",
        "version_unsupported",
    }
)
"""What bytes that are no frame may be told; some of their fields can be read all the same."""


@frozen(kw_only=True)
class Handshake:
    """A handshake that was read. `code` is what it must be rejected with, if it must be.

    `counts_as` is the version whose words a rejection uses.
    """

    kind: str
    counts_as: int
    code: str | None = None
    asked: Asked | None = None
    session_id: str | None = None

    def spelled(self, code: str) -> str:
        """The code of a rejection in the words that this client knows."""
        if self.kind == "hello" and self.counts_as == 1:
            return _V1_CODES.get(code, "configuration_error")
        return code


def read_handshake(data: bytes, config: GatewayConfig) -> Handshake | None:
    """Read a frame; None if it is no handshake, or no frame at all."""
    frame = read_loosely(data)
    if frame is None or frame["type"] not in HANDSHAKES or len(data) > config.max_payload:
        return None
    kind = frame["type"]
    offered = _range(frame, kind)
    counts_as = 1 if offered is not None and offered[1] == 1 else 2
    code, version = _judge(frame, kind, offered, config)
    if code is not None:
        return Handshake(kind=kind, counts_as=counts_as, code=code)
    bare, dot, in_id = (frame.get("session_id") or "").partition(".")
    epochs = [frame["epoch"]] if "epoch" in frame else []
    asked = Asked(
        version=version,
        agent_id=frame["agent_id"],
        epochs=(*epochs, in_id) if dot else tuple(epochs),
        since=frame.get("since", 0),
        wants_snapshot=frame.get("start") == "snapshot",
    )
    return Handshake(kind=kind, counts_as=counts_as, asked=asked, session_id=bare or None)


def _range(frame: Frame, kind: str) -> tuple[int, int] | None:
    low, high = (frame.get(name) for name in _RANGES[kind])
    if low is None and high is None:
        return 1, 1
    if not all(each is None or VERSION(each) for each in (low, high)):
        return None
    least: int = 1 if low is None else low
    most: int = least if high is None else high
    return (least, most) if least <= most else None


def _judge(
    frame: Frame, kind: str, offered: tuple[int, int] | None, config: GatewayConfig
) -> tuple[str | None, int]:
    """The code of the rejection that is due, if any, and the version agreed."""
    if offered is None:
        return "invalid_protocol_hello", 0
    stated = any(name in frame for name in _RANGES[kind])
    version = min(offered[1], config.versions.maximum)
    room = frame.get("max_payload", DEFAULT_MAX_PAYLOAD)
    code: str | None = None
    if (config.protocol_strict and not stated) or version < max(
        offered[0], config.versions.minimum
    ):
        code = "version_unsupported"
    elif not CURSOR(frame.get("since", 0)):
        code = "invalid_cursor"
    elif is_off(frame):
        code = "invalid_protocol_hello"
    elif has_huge(frame):
        code = "malformed_frame"
    elif len(compact(frame["agent_id"])) + _WELCOME_ROOM > room:
        code = "invalid_protocol_hello"
    return code, version

"""Error codes, close codes, which of them may be retried, and the caller's own mistakes.

Spec: Errors.
"""

from enum import StrEnum
from typing import Final, Literal

from attrs import frozen

NextStep = Literal[
    "wait_then_retry", "reauthenticate", "upgrade_client", "downgrade_client", "do_not_retry"
]


class ErrorCode(StrEnum):
    """Every code that an `error`, a `hello_error` or a `message_nack` of this protocol names.

    Spec: Errors.
    """

    GOING_AWAY = "going_away"
    LIVENESS_TIMEOUT = "liveness_timeout"
    SLOW_CONSUMER = "slow_consumer"
    RATE_LIMITED = "rate_limited"
    INTERNAL_ERROR = "internal_error"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    AUTH_EXPIRED = "auth_expired"
    VERSION_UNSUPPORTED = "version_unsupported"
    INVALID_PROTOCOL_HELLO = "invalid_protocol_hello"
    INVALID_CURSOR = "invalid_cursor"
    AUTH_REQUIRED = "auth_required"
    AUTH_UNAUTHORIZED = "auth_unauthorized"
    AGENT_NOT_FOUND = "agent_not_found"
    MALFORMED_FRAME = "malformed_frame"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    SESSION_CLOSED = "session_closed"
    UNKNOWN_TYPE = "unknown_type"
    NOT_JOINED = "not_joined"
    REQUEST_CONFLICT = "request_conflict"
    INBOX_FULL = "inbox_full"
    ALREADY_ANSWERED = "already_answered"
    INVALID_REQUEST = "invalid_request"


@frozen
class ErrorSpec:
    """What a code means on the wire: how it closes a connection and what its receiver does next.

    `close_code` is None for a code that answers a frame and leaves the connection alive.
    """

    close_code: int | None
    next_step: NextStep | None


ERRORS: Final[dict[ErrorCode, ErrorSpec]] = {
    ErrorCode.GOING_AWAY: ErrorSpec(4000, "wait_then_retry"),
    ErrorCode.LIVENESS_TIMEOUT: ErrorSpec(4001, "wait_then_retry"),
    ErrorCode.SLOW_CONSUMER: ErrorSpec(4002, "wait_then_retry"),
    ErrorCode.RATE_LIMITED: ErrorSpec(4003, "wait_then_retry"),
    ErrorCode.INTERNAL_ERROR: ErrorSpec(4004, "wait_then_retry"),
    ErrorCode.HANDSHAKE_TIMEOUT: ErrorSpec(4005, "wait_then_retry"),
    ErrorCode.AUTH_EXPIRED: ErrorSpec(4006, "reauthenticate"),
    ErrorCode.VERSION_UNSUPPORTED: ErrorSpec(4500, "upgrade_client"),
    ErrorCode.INVALID_PROTOCOL_HELLO: ErrorSpec(4501, "do_not_retry"),
    ErrorCode.INVALID_CURSOR: ErrorSpec(4502, "do_not_retry"),
    ErrorCode.AUTH_REQUIRED: ErrorSpec(4503, "reauthenticate"),
    ErrorCode.AUTH_UNAUTHORIZED: ErrorSpec(4504, "reauthenticate"),
    ErrorCode.AGENT_NOT_FOUND: ErrorSpec(4505, "do_not_retry"),
    ErrorCode.MALFORMED_FRAME: ErrorSpec(4506, "do_not_retry"),
    ErrorCode.PAYLOAD_TOO_LARGE: ErrorSpec(4507, "do_not_retry"),
    ErrorCode.SESSION_CLOSED: ErrorSpec(4508, "do_not_retry"),
    ErrorCode.UNKNOWN_TYPE: ErrorSpec(None, None),
    ErrorCode.NOT_JOINED: ErrorSpec(None, None),
    ErrorCode.REQUEST_CONFLICT: ErrorSpec(None, None),
    ErrorCode.INBOX_FULL: ErrorSpec(None, None),
    ErrorCode.ALREADY_ANSWERED: ErrorSpec(None, None),
    ErrorCode.INVALID_REQUEST: ErrorSpec(None, None),
}

CODE_OF_CLOSE: Final[dict[int, ErrorCode]] = {
    spec.close_code: code for code, spec in ERRORS.items() if spec.close_code is not None
}
"""The error code that a close code stands for, for a peer that saw nothing but the close."""

CLOSE_NORMAL: Final = 1000
CLOSE_SERVICE_RESTART: Final = 1012

_FINAL_CODES: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010, *range(4500, 5000)})


def close_may_be_retried(code: int | None) -> bool:
    """Tell whether a client may come back after a close with this code.

    `code` is the close code that was *received*; None where none was, which may be retried: a
    connection that just broke says nothing about the next one. Codes that no table names are
    retried, save 4500 to 4999, whose range alone forbids it.

    Spec: Errors.
    """
    if code is None:
        return True
    return code not in _FINAL_CODES


class LocalProtocolError(Exception):
    """The caller of a machine did what the machine's contract forbids; nothing has changed.

    Raised for a mistake of the embedding program only (an event too large to publish, a connection
    opened twice), never for anything that a peer sent and never for a command that merely lost a
    race with a close.
    """


class FrameError(Exception):
    """Bytes from the peer are no frame, or a frame with a field that is off.

    The codec raises it, the machines catch it and answer with its `code`; it never leaves a
    machine. `detail` is for people and repeats nothing of what the peer sent.
    `request_id` is set where the frame was a message whose id could be read.

    Spec: Errors.
    """

    def __init__(self, code: ErrorCode, detail: str, *, request_id: str | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.request_id = request_id

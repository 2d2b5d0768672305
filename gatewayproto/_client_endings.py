"""What the end of a connection means for a client: to come back, to ask for a token, or to stop.

Spec: Errors; The client's side.
"""

import math
from enum import StrEnum
from typing import Final

from attrs import frozen

from gatewayproto._client_states import Rejection
from gatewayproto.errors import CODE_OF_CLOSE, ERRORS, ErrorCode, close_may_be_retried
from gatewayproto.frames import Error
from gatewayproto.inputs import TransportClosed


class Next(StrEnum):
    """What a client does after the end of a connection."""

    RETRY = "retry"
    NEW_TOKEN = "new token"  # noqa: S105 -- a decision, not a secret
    STOP = "stop"


@frozen(kw_only=True)
class Ending:
    """The end of a connection. `floor` is the least number of seconds to stay away."""

    next: Next
    code: str | None
    message: str = ""
    floor: float = 0.0


LONGEST_FLOOR: Final = 86_400.0
"""Seconds: the longest that a server keeps a client away, whatever it asks for."""
_ALIASES: Final = {"protocol_unsupported": ErrorCode.VERSION_UNSUPPORTED}
_NO_CODE: Final = frozenset({None, 1005, 1006})
"""Close codes that no peer ever sent: there was no close frame, or none with a code."""

_NEXT_OF_STEP: Final = {
    "reauthenticate": Next.NEW_TOKEN,
    "upgrade_client": Next.STOP,
    "downgrade_client": Next.STOP,
    "do_not_retry": Next.STOP,
}
_NEXT_OF_STATUS: Final = {
    401: (Next.NEW_TOKEN, ErrorCode.AUTH_REQUIRED.value),
    403: (Next.NEW_TOKEN, ErrorCode.AUTH_UNAUTHORIZED.value),
    429: (Next.RETRY, "http_429"),
}


def floor_of(seconds: float | None) -> float:
    """The time to stay away that a server asked for; none where it is no time at all."""
    if seconds is None or not 0.0 <= seconds < math.inf:
        return 0.0
    return min(seconds, LONGEST_FLOOR)


def of_rejection(error: Error) -> Ending | None:
    """Judge a rejection by its code, which stays as it came; None for one that says nothing."""
    try:
        code = _ALIASES.get(error.code) or ErrorCode(error.code)
    except ValueError:
        return None
    close_code = ERRORS[code].close_code
    if close_code is None:
        return None
    return Ending(
        next=_of_close_code(close_code),
        code=error.code,
        message=error.message,
    )


def of_close(closed: TransportClosed, rejection: Rejection | None) -> Ending:
    """Judge the end of a transport, after a rejection with an unknown code if there was one."""
    floor = floor_of(closed.retry_after_seconds)
    if closed.http_status is not None:
        return _of_http(closed.http_status, closed.reason, floor)
    received = None if closed.code in _NO_CODE else closed.code
    name = None if received is None else _name(received)
    if rejection is None:
        return Ending(next=_of_close_code(received), code=name, message=closed.reason, floor=floor)
    if received is None:
        step = _NEXT_OF_STEP.get(rejection.next_step or "", Next.RETRY)
    else:
        step = _of_close_code(received)
    return Ending(next=step, code=rejection.code or name, message=rejection.message, floor=floor)


def _of_http(status: int, reason: str, floor: float) -> Ending:
    step, code = _NEXT_OF_STATUS.get(status, (None, f"http_{status}"))
    if step is None:
        is_final = 400 <= status < 500  # noqa: PLR2004 -- the range of HTTP's client errors
        step = Next.STOP if is_final else Next.RETRY
    return Ending(next=step, code=code, message=reason, floor=floor)


def _of_close_code(code: int | None) -> Next:
    if code == ERRORS[ErrorCode.AUTH_EXPIRED].close_code:
        return Next.NEW_TOKEN
    return Next.RETRY if close_may_be_retried(code) else Next.STOP


def _name(close_code: int) -> str:
    known = CODE_OF_CLOSE.get(close_code)
    return f"close_{close_code}" if known is None else known.value

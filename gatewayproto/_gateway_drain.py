"""How a gateway sends its clients away before it stops.

Spec: Draining.
"""

from collections.abc import Mapping
from typing import Final

from gatewayproto import codec, connection
from gatewayproto._connection_link import Link
from gatewayproto._gateway_context import Context, Draining, TimerKey
from gatewayproto.actions import DrainFinished
from gatewayproto.connection import Input
from gatewayproto.errors import LocalProtocolError
from gatewayproto.frames import MIN_MAX_PAYLOAD, GoingAway
from gatewayproto.inputs import Drain

_TIMER: Final[TimerKey] = ("drain", "")
_LONGEST: Final = 1e9


def drain(context: Context, links: Mapping[int, Link], command: Drain, now: float) -> None:
    """Send everybody away; once they were asked, a command can only make their time shorter.

    Raises `LocalProtocolError` for a time that is none and for a reason that is too long.
    """
    frame = _going_away(command)
    deadline = now + command.grace
    if context.draining is None:
        context.draining = Draining(command.after)
        context.timers.set(_TIMER, deadline)
        for link in links.values():
            connection.handle(link, Input.DRAIN, frame, now)
    left = context.timers.get(_TIMER)
    if left is not None and deadline < left:
        context.timers.set(_TIMER, deadline)
    if command.grace == 0:
        end(context, links, now)


def end(context: Context, links: Mapping[int, Link], now: float) -> None:
    """The time to leave is over: close those that have not left."""
    context.timers.cancel(_TIMER)
    for link in links.values():
        connection.handle(link, Input.DRAIN, None, now)


def finish(context: Context) -> None:
    """Nobody is left: say so, once, if this gateway drains."""
    draining = context.draining
    if draining is not None and not draining.finished:
        draining.finished = True
        context.timers.cancel(_TIMER)
        context.effects.emit(DrainFinished())


def _going_away(command: Drain) -> bytes:
    plain = {name: getattr(command, name) for name in ("reason", "after", "spread", "grace")}
    reason = plain.pop("reason")
    for name, seconds in plain.items():
        if not (isinstance(seconds, int | float) and 0 <= seconds <= _LONGEST):
            raise LocalProtocolError(f"{name} is no time from 0 to {_LONGEST} seconds")
    frame = GoingAway(
        reason=command.reason,
        after_ms=round(command.after * 1000),
        spread_ms=round(command.spread * 1000),
    )
    try:
        codec.check_plain({"reason": reason}, max_depth=1)
    except ValueError as error:
        raise LocalProtocolError(f"the reason cannot be sent: {error}") from error
    encoded = codec.encode(frame)
    if not isinstance(reason, str) or len(encoded) > MIN_MAX_PAYLOAD:
        raise LocalProtocolError(f"the reason is no text that fits {MIN_MAX_PAYLOAD} bytes")
    return encoded

"""A whole client as plain JSON data, and back.

Times are saved as the seconds that remain or have passed, so that a machine restored on another
clock goes on exactly as the original would.

Spec: the architecture page, "Saved and restored".
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from attrs import asdict, evolve, field, frozen

from gatewayproto import codec
from gatewayproto._client_core import ClientCore
from gatewayproto._client_states import ClientState, Limits, Link, Trigger
from gatewayproto.actions import ClientStateName, ResumeToken
from gatewayproto.frames import MAX_DEPTH, Cursor, Epoch, Name
from gatewayproto.outbox import SavedMessage

SCHEMA: Final = "gatewayproto.client/1"


@frozen(kw_only=True)
class _Position:
    """A resume token, with the bounds of its fields."""

    session_id: Name = field(repr=False)
    epoch: Epoch | None
    cursor: Cursor


@frozen(kw_only=True)
class _Saved:
    """Everything a client holds but its configuration, its token and its sources of chance."""

    schema: Literal["gatewayproto.client/1"] = SCHEMA
    state: ClientState
    name: ClientStateName | None
    position: _Position | None
    hole: _Position | None
    taken: Cursor
    opened: int
    attempt: int
    want_snapshot: bool
    not_before: float
    limits: Limits
    link: Link | None
    messages: tuple[SavedMessage, ...]
    deadlines: tuple[tuple[Trigger, float], ...]


def save(core: ClientCore, now: float) -> dict[str, Any]:
    """Everything a client holds, as plain JSON data."""
    saved = _Saved(
        state=core.state,
        name=core.name,
        position=None if core.position is None else _position(core.position),
        hole=None if core.hole is None else _position(core.hole),
        taken=core.taken,
        opened=core.opened,
        attempt=core.attempt,
        want_snapshot=core.want_snapshot,
        not_before=core.not_before - now,
        limits=core.limits,
        link=None if core.link is None else _shift(core.link, -now),
        messages=core.outbox.save(now),
        deadlines=tuple((trigger, deadline - now) for trigger, deadline in core.timers.in_order()),
    )
    # Through JSON, so that what comes out is what a store would give back.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(saved))
    return plain


def load(core: ClientCore, state: Mapping[str, Any], now: float) -> None:
    """Fill a new client. Raises `ValueError` for data that `save` did not make."""
    codec.check_plain(dict(state), max_depth=MAX_DEPTH)
    saved = msgspec.convert(state, _Saved)
    core.state, core.name = saved.state, saved.name
    core.position = None if saved.position is None else _token(saved.position)
    core.hole = None if saved.hole is None else _token(saved.hole)
    core.taken, core.opened, core.attempt = saved.taken, saved.opened, saved.attempt
    core.want_snapshot, core.not_before = saved.want_snapshot, saved.not_before + now
    core.limits = saved.limits
    core.link = None if saved.link is None else _shift(saved.link, now)
    core.outbox.load(saved.messages, now)
    for trigger, remaining in saved.deadlines:
        core.timers.set(trigger, now + remaining)


def check_position(token: ResumeToken) -> None:
    """Raise `ValueError` for a resume token that no client ever gave."""
    _position(token)


def _position(token: ResumeToken) -> _Position:
    fields = asdict(token)
    codec.check_plain(fields, max_depth=1)
    return msgspec.convert(fields, _Position)


def _token(position: _Position) -> ResumeToken:
    return ResumeToken(session_id=position.session_id, epoch=position.epoch, cursor=position.cursor)


def _shift(link: Link, seconds: float) -> Link:
    presented = None if link.presented is None else link.presented + seconds
    return evolve(
        link, heard=link.heard + seconds, give_up=link.give_up + seconds, presented=presented
    )

"""Snapshots that the application builds while the world moves on.

Who needs one is in `gatewayproto.delivery` and, before the welcome, in `_connection_opening`;
what the application is asked, once for all of them, in `_gateway_context`.

Spec: Snapshots.
"""

from collections.abc import Mapping

from gatewayproto import codec, connection
from gatewayproto._connection_link import Link
from gatewayproto._gateway_context import Context
from gatewayproto.actions import CommandDropped
from gatewayproto.connection import Input
from gatewayproto.errors import LocalProtocolError
from gatewayproto.frames import MAX_DEPTH
from gatewayproto.inputs import SnapshotReady
from gatewayproto.session import Session, State


def take(
    context: Context, connections: Mapping[int, Link], command: SnapshotReady, now: float
) -> None:
    """Take a state that the application built, for everybody who waits and can use it.

    Raises `LocalProtocolError` where the gateway has a projection, for a cursor that the session
    has not reached, and for a state that cannot be sent.
    """
    if not context.config.application_snapshots:
        raise LocalProtocolError("the snapshots of this gateway come from its projection")
    session = context.sessions.get(command.session_id)
    if session is None:
        context.effects.emit(CommandDropped(command="snapshot_ready", target=command.session_id))
        return
    body = _encoded(command, context.config.max_snapshot)
    if command.epoch != session.epoch:
        return  # the epoch has changed since; whoever waits was asked for again then
    if not 0 <= command.cursor <= session.cursor:
        raise LocalProtocolError(f"the session is at {session.cursor}")
    session.take_built(State(command.cursor, body))
    if session.has_early_state:
        # It was in time; the store's is not the application's.
        context.timers.cancel(("snapshot", session.session_id))
    else:
        answered(context, connections, session, now)


def answered(
    context: Context, connections: Mapping[int, Link], session: Session, now: float
) -> None:
    """The application has given a state, and what is in it is stored."""
    context.timers.cancel(("snapshot", session.session_id))
    if session.wanted is not None:
        session.wanted.asked = False
    wake(context, connections, session, now)


def wake(context: Context, connections: Mapping[int, Link], session: Session, now: float) -> None:
    """Let everybody who waits look at what there is; who cannot use it asks again."""
    _tell(context, connections, session, Input.SNAPSHOT, now)
    if session.wanted is None or session.wanted.asked:
        return
    if session.wanted.exhausted:
        give_up(context, connections, session, now)
    session.wanted = None


def give_up(
    context: Context, connections: Mapping[int, Link], session: Session, now: float
) -> None:
    """The application does not answer, or not with anything that helps."""
    session.wanted = None
    _tell(context, connections, session, Input.NO_SNAPSHOT, now)


def _tell(
    context: Context, connections: Mapping[int, Link], session: Session, input_: Input, now: float
) -> None:
    subscribers = context.subscribers.get(session.session_id)
    if subscribers is None:  # it was closed, and its last reader has gone in this turn
        return
    due = [number for number, each in subscribers.deliveries.items() if each.due is not None]
    for number in (*subscribers.awaiting, *due):
        connection.handle(connections[number], input_, None, now)


def _encoded(command: SnapshotReady, max_bytes: int) -> bytes:
    state = dict(command.state)
    try:
        codec.check_plain(state, max_depth=MAX_DEPTH - 1)
    except ValueError as error:
        raise LocalProtocolError(f"the state cannot be sent: {error}") from error
    body = codec.encode_object(state)
    if len(body) > max_bytes:
        raise LocalProtocolError(f"the state takes {len(body)} bytes, over {max_bytes}")
    return body

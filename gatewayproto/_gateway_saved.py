"""A whole gateway as plain JSON data, and back.

Times are saved as the seconds that remain or have passed, so that a machine restored on another
clock goes on exactly as the original would.

Spec: the architecture page, "Saved and restored".
"""

from collections.abc import Iterator, Mapping
from typing import Final

import attrs
import msgspec

from gatewayproto._connection_link import Link, State
from gatewayproto._gateway_context import Context
from gatewayproto.credit import Credit
from gatewayproto.delivery import Delivery
from gatewayproto.frames import Object, PresenceEntry
from gatewayproto.handshake import Request
from gatewayproto.session import Session
from gatewayproto.subscribers import Subscribers

SCHEMA: Final = "gatewayproto.gateway/1"


def save(
    context: Context, connections: Mapping[int, Link], last_connection: int, now: float
) -> Object:
    """Everything a gateway holds, as plain JSON data."""
    return {
        "schema": SCHEMA,
        "last_connection": last_connection,
        "health": context.health,
        "health_version": context.health_version,
        "sessions": [
            {**session.to_state(now), **_save_subscribers(context.subscribers[session_id])}
            for session_id, session in context.sessions.items()
        ],
        "ending": dict(context.ending),
        "connections": [_save_connection(each, now) for each in connections.values()],
        "deadlines": [
            [kind, key, deadline - now] for (kind, key), deadline in context.timers.in_order()
        ],
    }


def load_sessions(context: Context, state: Object, now: float) -> int:
    """Fill a context with the sessions of a state; gives the last connection's number."""
    if state.get("schema") != SCHEMA:
        raise ValueError(f"the state's schema is not {SCHEMA}")
    context.health = state["health"]
    context.health_version = state["health_version"]
    for fields in state["sessions"]:
        session = Session.from_state(context.config, fields, now)
        context.add_session(session)
        context.subscribers[session.session_id].presence_version = fields["presence_version"]
    last_connection: int = state["last_connection"]
    return last_connection


def load_connections(context: Context, state: Object, now: float) -> Iterator[tuple[int, Link]]:
    """The connections of a state, and the deadlines of all.

    Raises `ValueError` where the state was saved by a gateway that wrote ahead, or one that did
    not, and the configuration says otherwise.
    """
    ahead = context.config.write_ahead
    if any((session.ledger is not None) != ahead for session in context.sessions.values()):
        raise ValueError("the sessions were saved with another write_ahead")
    context.ending.update(state.get("ending") or {})
    followers: dict[int, Delivery] = {}
    for fields in state["connections"]:
        connection = _load_connection(context, fields, now)
        if connection.delivery is not None:
            followers[connection.number] = connection.delivery
        yield connection.number, connection
    for fields in state["sessions"]:
        subscribers = context.subscribers[fields["session_id"]]
        for number, presence in fields["followers"]:
            subscribers.add(followers[number], msgspec.convert(presence, PresenceEntry))
        subscribers.ready.update((number, followers[number]) for number in fields["ready"])
        subscribers.presence_version = fields["presence_version"]
    for kind, key, remains in state["deadlines"]:
        context.timers.set((kind, key), now + remains)


def _save_subscribers(subscribers: Subscribers) -> Object:
    """Who follows a session, in the order in which they came."""
    return {
        "followers": [
            [number, attrs.asdict(entry)] for number, entry in subscribers.presence.items()
        ],
        "presence_version": subscribers.presence_version,
        "ready": list(subscribers.ready),
    }


def _save_connection(connection: Link, now: float) -> Object:
    session, delivery = connection.session, connection.delivery
    return {
        "number": connection.number,
        "state": connection.state.value,
        "path": connection.path,
        "peer": connection.peer,
        "timestamp": connection.timestamp,
        "token": connection.token,
        "request": connection.request and attrs.asdict(connection.request),
        "session_id": session and session.session_id,
        "delivery": delivery and delivery.to_state(now),
        "client_id": connection.client_id,
        "held": [frame.decode() for frame in connection.held],
        "violations": connection.violations,
        "last_sign": now - connection.last_sign,
        "last_ping": now - connection.last_ping,
        "outstanding": connection.credit.outstanding,
        "pings": connection.credit.pings,
        "owed_for": now - connection.credit.owed_since,
        "own": connection.credit.own,
        "storing": connection.storing and connection.storing.session_id,
        "principal": connection.principal,
        "waiting": [[number, frame.decode()] for number, frame in connection.waiting],
    }


def _load_connection(context: Context, fields: Object, now: float) -> Link:
    credit = Credit(
        context.config.send_window,
        context.config.answer_window,
        fields["outstanding"],
        fields["pings"],
        now - fields["owed_for"],
        fields["own"],
    )
    connection = Link(
        fields["number"],
        context,
        credit,
        fields["path"],
        fields["peer"],
        fields["timestamp"],
        fields["token"],
        State(fields["state"]),
        request=fields["request"] and msgspec.convert(fields["request"], Request),
        client_id=fields["client_id"],
        held=[frame.encode() for frame in fields["held"]],
        held_size=sum(len(frame.encode()) for frame in fields["held"]),
        violations=fields["violations"],
        last_sign=now - fields["last_sign"],
        last_ping=now - fields["last_ping"],
    )
    for number, frame in fields.get("waiting") or ():
        connection.waiting.append((number, frame.encode()))
        connection.waiting_size += len(frame.encode())
    if fields.get("storing") is not None:
        connection.storing = context.sessions[fields["storing"]]
        connection.principal = fields["principal"]
    if fields["session_id"] is not None:
        connection.session = context.sessions[fields["session_id"]]
        connection.delivery = Delivery.from_state(fields["delivery"], credit, now)
    return connection

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
from gatewayproto._gateway_context import Context, Draining
from gatewayproto.credit import Credit
from gatewayproto.delivery import Delivery
from gatewayproto.frames import Object, PresenceEntry
from gatewayproto.handshake import Request
from gatewayproto.inputs import Accept
from gatewayproto.presence import PresenceChanges, Told
from gatewayproto.rates import Bucket
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
        "rates": {
            "connections": context.rates.connections.to_state(now),
            "handshakes": context.rates.handshakes.to_state(now),
            "sessions": context.rates.sessions.to_state(now),
        },
        "draining": context.draining and [context.draining.after, context.draining.finished],
        "health_pushed": context.health_pushed,
        "health_push_in": _wait(context.health_not_before, now),
        "sessions": [
            {**session.to_state(now), **_save_subscribers(context.subscribers[session_id], now)}
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
    context.health_version = context.health_pushed = state["health_version"]
    for fields in state["sessions"]:
        session = Session.from_state(context.config, fields, now)
        context.add_session(session)
        subscribers = context.subscribers[session.session_id]
        subscribers.presence_version = fields["presence_version"]
        subscribers.changes.begin_anew(subscribers.presence_version)
    last_connection: int = state["last_connection"]
    return last_connection


def load_connections(context: Context, state: Object, now: float) -> Iterator[tuple[int, Link]]:
    """The connections of a state, the deadlines of all, and whether they are being sent away.

    Raises `ValueError` where the state was saved by a gateway that wrote ahead, or one that did
    not, and the configuration says otherwise.
    """
    context.rates.connections.load(state["rates"]["connections"], now)
    context.rates.handshakes.load(state["rates"]["handshakes"], now)
    context.rates.sessions.load(state["rates"]["sessions"], now)
    context.draining = state["draining"] and Draining(*state["draining"])
    context.health_pushed = state["health_pushed"]
    context.health_not_before = now + state["health_push_in"]
    ahead = context.config.write_ahead
    if any((session.ledger is not None) != ahead for session in context.sessions.values()):
        raise ValueError("the sessions were saved with another write_ahead")
    context.ending.update(state["ending"])
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
        subscribers.awaiting.update(dict.fromkeys(fields["awaiting"]))
        subscribers.presence_version = fields["presence_version"]
        subscribers.told.update((number, Told(*told)) for number, *told in fields["told"])
        subscribers.changes = _load_changes(fields["changes"], now)
    for kind, key, remains in state["deadlines"]:
        context.timers.set((kind, key), now + remains)


def _wait(not_before: float, now: float) -> float:
    """Seconds until then; 0 where it has passed, however long ago."""
    return max(0.0, not_before - now)


def _load_changes(fields: Object, now: float) -> PresenceChanges:
    joined = (msgspec.convert(each, PresenceEntry) for each in fields["joined"])
    return PresenceChanges(
        since=fields["since"],
        joined={entry.client_id: entry for entry in joined},
        left=list(fields["left"]),
        not_before=now + fields["push_in"],
    )


def _save_subscribers(subscribers: Subscribers, now: float) -> Object:
    """Who follows a session, in the order in which they came."""
    changes = subscribers.changes
    return {
        "followers": [
            [number, attrs.asdict(entry)] for number, entry in subscribers.presence.items()
        ],
        "presence_version": subscribers.presence_version,
        "ready": list(subscribers.ready),
        "awaiting": list(subscribers.awaiting),
        "told": [[number, *attrs.astuple(told)] for number, told in subscribers.told.items()],
        "changes": {
            "since": changes.since,
            "joined": [attrs.asdict(entry) for entry in changes.joined.values()],
            "left": list(changes.left),
            "push_in": _wait(changes.not_before, now),
        },
    }


def _save_connection(connection: Link, now: float) -> Object:
    session, delivery = connection.session, connection.delivery
    return {
        "number": connection.number,
        "state": connection.state.value,
        "path": connection.path,
        "peer": connection.peer,
        "address": connection.address,
        "timestamp": connection.timestamp,
        "token": connection.token,
        "request": connection.request and attrs.asdict(connection.request),
        "accepted": connection.accepted and attrs.asdict(connection.accepted),
        "awaited": connection.awaited and connection.awaited.session_id,
        "session_id": session and session.session_id,
        "delivery": delivery and delivery.to_state(now),
        "client_id": connection.client_id,
        "capabilities": list(connection.capabilities),
        "expires_in": None if connection.expires is None else connection.expires - now,
        "reviewing": connection.reviewing,
        "next_token": connection.next_token,
        "held": [frame.decode() for frame in connection.held],
        "violations": connection.violations,
        "last_sign": now - connection.last_sign,
        "last_ping": now - connection.last_ping,
        "outstanding": connection.credit.outstanding,
        "pings": connection.credit.pings,
        "owed_for": now - connection.credit.owed_since,
        "own": connection.credit.own,
        "frames": connection.frames and connection.frames.to_state(now),
        "recoveries": connection.recoveries and connection.recoveries.to_state(now),
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
        fields["address"],
        fields["timestamp"],
        fields["token"],
        State(fields["state"]),
        request=fields["request"] and msgspec.convert(fields["request"], Request),
        accepted=fields["accepted"] and msgspec.convert(fields["accepted"], Accept),
        awaited=fields["awaited"] and context.sessions[fields["awaited"]],
        client_id=fields["client_id"],
        capabilities=tuple(fields["capabilities"]),
        expires=None if fields["expires_in"] is None else now + fields["expires_in"],
        reviewing=fields["reviewing"],
        next_token=fields["next_token"],
        held=[frame.encode() for frame in fields["held"]],
        held_size=sum(len(frame.encode()) for frame in fields["held"]),
        violations=fields["violations"],
        last_sign=now - fields["last_sign"],
        last_ping=now - fields["last_ping"],
        frames=Bucket.from_state(context.config.frame_rate, fields["frames"], now),
        recoveries=Bucket.from_state(context.config.recovery_rate, fields["recoveries"], now),
    )
    for number, frame in fields["waiting"]:
        connection.waiting.append((number, frame.encode()))
        connection.waiting_size += len(frame.encode())
    if fields["session_id"] is not None:
        connection.session = context.sessions[fields["session_id"]]
        connection.delivery = Delivery.from_state(fields["delivery"], credit, now)
    return connection

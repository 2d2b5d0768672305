"""The gauges of a gateway, taken when they are asked for.

Spec: the how-to "Operate a gateway".
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from gatewayproto._connection_link import Link, State
from gatewayproto._counters import plain
from gatewayproto._gateway_context import Context
from gatewayproto.metrics import GatewayMetrics

_STATES: Final = {
    State.OPENING: "opening",
    State.JOINING: "joining",
    State.STORING: "storing",
    State.PREPARING: "preparing",
    State.LIVE_V1: "live_v1",
    State.LIVE_V2: "live_v2",
}


def measure(context: Context, links: Mapping[int, Link]) -> GatewayMetrics:
    """What was counted, and how the gateway stands: a walk over its sessions and connections."""
    sessions = context.sessions.values()
    states = Counter(link.state for link in links.values())
    lags = [
        session.journal.cursor - delivery.position
        for session in sessions
        for delivery in context.subscribers[session.session_id].deliveries.values()
    ]
    return GatewayMetrics(
        **plain(context.counters),
        skips=context.counters.frames_sent["skip"],
        sessions=len(sessions),
        sessions_sealed=sum(session.sealed for session in sessions),
        connections={name: states[state] for state, name in _STATES.items()},
        subscribers=len(lags),
        lag_max=max(lags, default=0),
        lag_total=sum(lags),
        journal_events=sum(len(session.journal) for session in sessions),
        journal_bytes=sum(session.journal.size for session in sessions),
        messages_pending=sum(len(session.inbox.pending) for session in sessions),
        requests_remembered=sum(session.inbox.remembered for session in sessions),
        bytes_outstanding=sum(link.credit.outstanding for link in links.values()),
        draining=int(context.draining is not None),
    )

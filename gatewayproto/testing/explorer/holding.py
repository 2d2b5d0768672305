"""Whether what a machine holds is within its configured bounds, as its saved state tells (P9).

Spec: the verification page, "Explorer"; Lagging; Requests.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.testing.steps import Violation

_IDS_PER_PENDING: Final = 10
_PING_ROOM: Final = 128
"""Bytes of a ping: one more may go to a peer that has taken nothing."""

Check = Callable[[dict[str, Any]], None]
"""Raises `Violation` for a saved state that holds more than it may."""


def check_gateway(config: GatewayConfig) -> Check:
    """A check of a gateway's saved states."""

    def check(state: dict[str, Any]) -> None:
        _bound("sessions", len(state["sessions"]), config.max_sessions)
        _bound("connections", len(state["connections"]), config.max_connections)
        for session in state["sessions"]:
            _check_session(session, config)
        for connection in state["connections"]:
            _check_credit(connection, config)

    return check


def _check_session(session: dict[str, Any], config: GatewayConfig) -> None:
    journal, inbox = session["journal"], session["inbox"]
    bodies = [body for _, body in journal["events"]]
    transient = sum(json.loads(body).get("transient") is True for body in bodies)
    _bound("durable events", len(bodies) - transient, config.retain)
    _bound("transient events", transient, config.retain_transient)
    _bound("bytes of a journal", sum(len(body.encode()) for body in bodies), config.retain_bytes)
    _bound("open runs", len(journal["open"]), config.max_open_runs)
    _bound("messages not done", len(inbox["pending"]), config.max_pending_requests)
    ids = _IDS_PER_PENDING * config.max_pending_requests
    _bound("remembered ids", len(inbox["remembered"]), ids)


def _check_credit(connection: dict[str, Any], config: GatewayConfig) -> None:
    """What a transport was given: the window, or one frame that is larger, and then answers."""
    delivered = max(config.send_window, connection["own"])
    limit = delivered + config.answer_window + _PING_ROOM
    _bound("bytes outstanding", connection["outstanding"], limit)
    delivery = connection["delivery"]
    if delivery is not None:
        _bound("lags", len(delivery["lags"]), config.max_lags)


def check_client(config: ClientConfig) -> Check:
    """A check of a client's saved states."""

    def check(state: dict[str, Any]) -> None:
        _bound("messages queued", len(state["messages"]), config.max_queued)
        written = sum(message["in_flight"] for message in state["messages"])
        _bound("messages in flight", written, state["limits"]["max_pending"])

    return check


def _bound(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise Violation("P9", f"{count} {what}, over {limit}")

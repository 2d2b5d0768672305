"""The welcome, in the words of either version.

Spec: The welcome; Version 1.
"""

from typing import Final

from attrs import evolve

from gatewayproto import codec, versions
from gatewayproto._gateway_context import Context
from gatewayproto.frames import Features, Object, Policy, Welcome
from gatewayproto.handshake import Decision, Request
from gatewayproto.session import Session

_COMMON_METHODS: Final = ("hello", "join", "message", "abort", "ping", "pong", "leave")
_FEATURES: Final = {
    1: Features(
        methods=_COMMON_METHODS,
        events=("hello_ok", "joined", "replay", "snapshot", "response", "error", "ping", "pong"),
    ),
    2: Features(
        methods=(*_COMMON_METHODS, "resume", "resync", "auth"),
        events=(
            "hello_ok",
            "joined",
            "hello_error",
            "error",
            "replay",
            "event",
            "skip",
            "caught_up",
            "snapshot",
            "message_ack",
            "message_nack",
            "ping",
            "pong",
            "going_away",
        ),
    ),
}
_PUSHES: Final = ("presence", "health")


def encode_welcome(
    context: Context, request: Request, decision: Decision, session: Session, sequence: int
) -> tuple[bytes, bool]:
    """Write the welcome, and tell whether it lists who is connected, the subscriber among them.

    `sequence` is the seq after which delivery goes on.

    A list of more than `presence_max` clients, or one that the peer's `max_payload` has no room
    for, is left out: `presence_count` is always there. So are the health and the
    features where they do not fit.
    """
    fields = codec.to_object(_welcome(context, request, decision, session, sequence))
    if request.version == 1:
        fields["session_id"] = versions.join_session_id(session.session_id, session.epoch)
        del fields["epoch"]
        fields["head"] = session.journal.cursor
        fields["cursor"] = _cursor_v1(request, decision)
    frame = _fit(fields, request.max_payload)
    return frame, "presence" in fields


def _welcome(
    context: Context, request: Request, decision: Decision, session: Session, sequence: int
) -> Welcome:
    hello = request.kind == "hello"
    subscribers = context.subscribers[session.session_id]
    server = context.config.versions
    resumed = decision.session is not None
    head = session.journal.cursor
    return Welcome(
        type="hello_ok" if hello else "joined",
        session_id=session.session_id,
        agent_id=session.agent_id,
        protocol=request.version if hello else None,
        protocol_version=request.version,
        server_min_version=server.minimum,
        server_max_version=server.maximum,
        resumed=resumed,
        epoch=session.epoch,
        cursor=head,
        oldest_cursor=session.floor(request.version) + 1,
        resync_required=decision.reason is not None,
        resync_reason=decision.reason,
        sequence=sequence,
        presence=subscribers.listed(context.config.presence_max),
        presence_count=len(subscribers.presence),
        presence_version=subscribers.presence_version,
        health=context.health,
        health_version=context.health_version,
        features=_features(context, request.version),
        policy=_policy(context),
    )


def _features(context: Context, version: int) -> Features:
    features = _FEATURES[version]
    if version == 1 or context.config.push_interval is None:
        return features
    return evolve(features, events=(*(features.events or ()), *_PUSHES))


def _policy(context: Context) -> Policy:
    config = context.config
    return Policy(
        max_payload=config.max_payload,
        heartbeat_ms=round(config.heartbeat * 1000),
        resume_window_ms=round(config.resume_window * 1000),
        request_ttl_ms=round(config.request_ttl * 1000),
        max_pending_requests=config.max_pending_requests,
    )


def _cursor_v1(request: Request, decision: Decision) -> int:
    """What deployed clients adopt as their cursor before anything has arrived."""
    if decision.reason is None:
        return decision.since
    return request.since if decision.reason == "trimmed" else 0


def _fit(fields: Object, max_bytes: int) -> bytes:
    frame = codec.encode_object(fields)
    for name in ("presence", "health", "features"):
        if len(frame) <= max_bytes:
            break
        fields.pop(name, None)
        frame = codec.encode_object(fields)
    return frame

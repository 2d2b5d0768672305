"""What a connection does before its welcome: the handshake, and what comes too early.

Spec: Client to server; The welcome; Versions; Version 1.
"""

from typing import Literal

from attrs import evolve

from gatewayproto import codec, handshake
from gatewayproto._connection_link import Link, State
from gatewayproto._gateway_welcome import encode_welcome
from gatewayproto.actions import CommandDropped, JoinRequested, SubscriberJoined
from gatewayproto.codec import Parsed
from gatewayproto.delivery import Delivery, SnapshotDue
from gatewayproto.errors import ErrorCode, FrameError
from gatewayproto.frames import MIN_MAX_PAYLOAD, Ping, Pong, PresenceEntry
from gatewayproto.handshake import Decision, Refusal, Request, error_fields
from gatewayproto.inputs import Accept, Reject
from gatewayproto.presence import Told
from gatewayproto.session import Session


def read_handshake(link: Link, parsed: Parsed, now: float) -> None:
    """Read the handshake and ask the application."""
    wait = link.context.rates.handshakes.take(link.address, now)
    request = handshake.read(parsed, link.context.config)
    if isinstance(request, Refusal):
        _refuse(link, request, now)
        return
    link.request = request
    if wait is not None:
        _reject(link, ErrorCode.RATE_LIMITED, "too many handshakes", now, retry_after=wait)
        return
    link.state = State.JOINING
    link.context.timers.cancel(("connection", link.number))
    link.context.effects.emit(
        JoinRequested(
            connection=link.number,
            agent_id=request.agent_id,
            protocol_version=request.version,
            token=request.token or link.token,
            path=link.path,
            peer=link.peer,
            client=request.client,
            capabilities=request.capabilities,
        )
    )


def hold_pong(link: Link, ping: Ping, now: float) -> None:
    """Answer an early ping after the welcome."""
    _hold(link, codec.encode(Pong(nonce=ping.nonce)), now)


def hold_not_joined(link: Link, frame: object, now: float) -> None:
    """Say `not_joined` after the welcome."""
    request_id = getattr(frame, "request_id", None)
    fields = error_fields(
        "error", ErrorCode.NOT_JOINED, "there was no welcome yet", request_id=request_id
    )
    _hold(link, codec.encode_object(fields), now)


def _hold(link: Link, frame: bytes, now: float) -> None:
    link.held.append(frame)
    link.held_size += len(frame)
    if link.held_size > link.context.config.answer_window:
        _reject(link, ErrorCode.RATE_LIMITED, "too many frames before the welcome", now)


def reject_malformed(link: Link, error: FrameError, now: float) -> None:
    """Say what was wrong and close at once: nothing was agreed yet."""
    _reject(link, error.code, error.detail, now)


def accept(link: Link, accepted: Accept, now: float) -> None:
    """Decide by the session as it stands now, and attach."""
    link.expires = None if accepted.expires_in is None else now + accepted.expires_in
    _decide(link, accepted, now)


def _decide(link: Link, accepted: Accept, now: float) -> None:
    request, principal = link.request, accepted.principal
    assert request is not None
    session = link.context.session_of(request.session_id)
    decision = handshake.decide(request, session, principal)
    if isinstance(decision, ErrorCode):
        _reject(link, decision, "the session is another agent's", now)
        return
    if decision.session is None:
        wait = _session_limit(link, principal, now)
        if wait is not None:
            _reject(link, ErrorCode.RATE_LIMITED, "too many sessions", now, retry_after=wait)
            return
    session = decision.session or link.context.open_session(request.agent_id, principal, now)
    link.context.begin(session, now)
    if session.ledger is None or session.ledger.based:
        _enter(link, accepted, decision, session, now)
        return
    _await(link, State.STORING, accepted, session)
    link.context.await_store(session, link.number)


def _await(link: Link, state: State, accepted: Accept, session: Session) -> None:
    """Hold the welcome, no longer than the credentials are good."""
    link.accepted, link.awaited = accepted, session
    link.state = state
    if link.expires is not None:
        link.arm(link.expires)


def attach_awaited(link: Link, _: object, now: float) -> None:
    """What the welcome waited for may have come: decide again, by what the session is now."""
    request, accepted, session = link.request, link.accepted, link.awaited
    assert request is not None
    assert accepted is not None
    assert session is not None
    named = session if session.session_id == request.session_id else None
    decision = handshake.decide(request, named, accepted.principal)
    assert isinstance(decision, Decision)  # it was none else when it was accepted
    link.stop_awaiting(now)
    link.context.timers.cancel(("connection", link.number))
    if link.expires is not None and now >= link.expires:
        _reject(link, ErrorCode.AUTH_EXPIRED, "the credentials have expired", now)
    else:
        _enter(link, accepted, decision, session, now)


def reject_expired(link: Link, _: object, now: float) -> None:
    """The credentials expired before the welcome; no other deadline is set there."""
    _reject(link, ErrorCode.AUTH_EXPIRED, "the credentials have expired", now)


def _enter(link: Link, accepted: Accept, decision: Decision, session: Session, now: float) -> None:
    """Attach, or wait for the snapshot that the welcome announces."""
    assert link.request is not None
    if decision.snapshot and decision.state(link.request.version) is None:
        _prepare(link, accepted, session, now)
    else:
        _attach(link, link.request, decision, session, now)


def _session_limit(link: Link, principal: str | None, now: float) -> float | None:
    """None where this client may open a session, else the seconds that it has to wait."""
    if link.context.is_full:
        return link.context.config.retry_after
    # Principals and addresses are apart, whatever they are called.
    key = f"address {link.address}" if principal is None and link.address else ""
    if principal is not None:
        key = f"principal {principal}"
    return link.context.rates.sessions.take(key, now)


def _prepare(link: Link, accepted: Accept, session: Session, now: float) -> None:
    """Hold the welcome until the application has built the snapshot that leaves with it."""
    _await(link, State.PREPARING, accepted, session)
    link.context.await_snapshot(session, link.number)
    link.context.want_snapshot(session, now)


def reject_unprepared(link: Link, _: object, now: float) -> None:
    """The application has built no snapshot that is any good."""
    _reject(link, ErrorCode.INTERNAL_ERROR, "no snapshot could be had", now)


def _attach(link: Link, request: Request, decision: Decision, session: Session, now: float) -> None:
    delivery = _delivery(link, request, decision, session)
    state = decision.state(request.version)
    sequence = decision.since if state is None else state.cursor
    link.client_id, link.capabilities = link.context.ids(), request.capabilities
    link.session, link.delivery = session, delivery
    link.state = State.LIVE_V1 if request.version == 1 else State.LIVE_V2
    entry = PresenceEntry(
        client_id=link.client_id,
        agent_id=session.agent_id,
        connected_at=link.timestamp,
        client=request.client,
    )
    _count(link, decision)
    link.context.follow(session, delivery, entry, now)
    link.context.effects.emit(
        SubscriberJoined(
            connection=link.number,
            session_id=session.session_id,
            client_id=link.client_id,
            resumed=decision.session is not None,
            sequence=sequence,
            resync_reason=decision.reason,
        )
    )
    link.last_sign = link.last_ping = now
    link.watch(now)
    _welcome(link, _written(link, request, decision, session, sequence), now)
    held, link.held, link.held_size, link.request = link.held, [], 0, None
    for frame in held:
        link.answer(frame, now)
    link.pump(now)


def _count(link: Link, decision: Decision) -> None:
    counters = link.context.counters
    if decision.session is None:
        counters.handshakes["opened"] += 1
        if decision.reason is not None:  # there is no snapshot that would count it
            counters.resyncs[decision.reason] += 1
    else:
        counters.handshakes["resynced" if decision.reason else "resumed"] += 1


def _written(
    link: Link, request: Request, decision: Decision, session: Session, sequence: int
) -> bytes:
    """The welcome; what it tells is where the pushes begin."""
    context = link.context
    welcome, listed = encode_welcome(context, request, decision, session, sequence)
    if link.state is State.LIVE_V2 and context.config.push_interval is not None:
        subscribers = context.subscribers[session.session_id]
        version = subscribers.presence_version
        subscribers.told[link.number] = Told(version, listed, context.health_version)
    return welcome


def _welcome(link: Link, welcome: bytes, now: float) -> None:
    """Send the welcome, and with it the snapshot that it announces."""
    delivery, session = link.live()
    # After a second version 1 handshake, what was sent before it may still be on its way: the
    # snapshot then waits for its room, as of the cursor that the welcome names.
    at_once = link.credit.outstanding == 0
    link.answer(welcome, now, kind="welcome")
    if link.state is not State.CLOSED:
        link.carry_out(delivery.attach(session, now, at_once=at_once), now)


def _delivery(link: Link, request: Request, decision: Decision, session: Session) -> Delivery:
    head = session.journal.cursor
    return Delivery(
        connection=link.number,
        version=request.version,
        max_payload=request.max_payload,
        position=decision.since,
        replay_until=head,
        attach_target=None if request.version == 1 else head,
        credit=link.credit,
        sent=0 if decision.keeps_position else None,
        due=SnapshotDue(decision.snapshot) if decision.snapshot else None,
    )


def reject_by_application(link: Link, command: Reject, now: float) -> None:
    """Reject with the application's reason."""
    _reject(link, command.code, command.message, now, retry_after=command.retry_after_seconds)


def reject_flood(link: Link, wait: float, now: float) -> None:
    """The client sends more frames than one may."""
    _reject(link, ErrorCode.RATE_LIMITED, "too many frames", now, retry_after=wait)


def reject_late(link: Link, _: object, now: float) -> None:
    """No handshake came in time."""
    _reject(link, ErrorCode.HANDSHAKE_TIMEOUT, "no handshake came in time", now)


def turn_away(link: Link, _: object, now: float) -> None:
    """Reject: this gateway takes nobody any more."""
    draining = link.context.draining
    assert draining is not None
    code, after = ErrorCode.GOING_AWAY, draining.after
    _reject(link, code, "the gateway takes no new clients", now, retry_after=after)


def drop_command(link: Link, command: object, _: float) -> None:
    """The application decided after the client had gone."""
    name: Literal["reject", "accept"] = "reject" if isinstance(command, Reject) else "accept"
    link.context.effects.emit(CommandDropped(command=name, target=link.number))


def _reject(
    link: Link, code: ErrorCode, detail: str, now: float, *, retry_after: float | None = None
) -> None:
    kind, counts_as = ("error", 2)
    if link.request is not None:
        kind, counts_as = link.request.kind, link.request.counts_as
    _refuse(link, Refusal(kind, counts_as, code, detail, retry_after), now)


def _refuse(link: Link, refusal: Refusal, now: float) -> None:
    frame = codec.encode_object(refusal.fields(link.context.config))
    room = link.request.max_payload if link.request is not None else MIN_MAX_PAYLOAD
    if len(frame) > room:  # what is for people gives way to what the peer can take
        frame = codec.encode_object(evolve(refusal, detail="").fields(link.context.config))
    link.context.counters.reject(refusal.code)
    link.context.effects.send((link.number,), [frame], "rejection")
    link.close(refusal.code, now)

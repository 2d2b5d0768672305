"""What a connection does before its welcome: the handshake, and what comes too early.

Spec: Client to server; The welcome; Versions; Version 1.
"""

from typing import Literal

from gatewayproto import codec, handshake
from gatewayproto._connection_link import Link, State
from gatewayproto._gateway_welcome import encode_welcome
from gatewayproto.actions import CommandDropped, JoinRequested, SubscriberJoined
from gatewayproto.codec import Parsed
from gatewayproto.delivery import Delivery, SnapshotDue
from gatewayproto.errors import ErrorCode, FrameError
from gatewayproto.frames import Ping, Pong, PresenceEntry
from gatewayproto.handshake import Decision, Refusal, Request, error_fields
from gatewayproto.inputs import Accept, Reject
from gatewayproto.session import Session


def read_handshake(link: Link, parsed: Parsed, now: float) -> None:
    """Read the handshake and ask the application."""
    request = handshake.read(parsed, link.context.config)
    if isinstance(request, Refusal):
        _refuse(link, request, now)
        return
    link.request = request
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
    request, principal = link.request, accepted.principal
    assert request is not None
    session = link.context.sessions.get(request.session_id or "")
    decision = handshake.decide(request, session, principal)
    if isinstance(decision, ErrorCode):
        _reject(link, decision, "the session is another agent's", now)
        return
    session = decision.session or link.context.open_session(request.agent_id, principal, now)
    if session is None:
        after = link.context.config.retry_after
        _reject(link, ErrorCode.RATE_LIMITED, "too many sessions", now, retry_after=after)
        return
    link.context.begin(session, now)
    if session.ledger is None or session.ledger.based:
        _attach(link, request, decision, session, now)
        return
    link.storing, link.principal = session, principal
    link.state = State.STORING
    link.context.join_later(session, link.number)


def attach_stored(link: Link, _: int, now: float) -> None:
    """The session is stored: decide again, by what it is now, and attach."""
    request, session = link.request, link.storing
    assert request is not None
    assert session is not None
    assert session.ledger is not None
    del session.ledger.joining[link.number]
    named = session if session.session_id == request.session_id else None
    decision = handshake.decide(request, named, link.principal)
    assert isinstance(decision, Decision)  # it was none else when it was accepted
    link.storing = link.principal = None
    _attach(link, request, decision, session, now)


def _attach(link: Link, request: Request, decision: Decision, session: Session, now: float) -> None:
    delivery = _delivery(link, request, decision, session)
    link.client_id = link.context.ids()
    link.session, link.delivery = session, delivery
    link.state = State.LIVE_V1 if request.version == 1 else State.LIVE_V2
    entry = PresenceEntry(
        client_id=link.client_id,
        agent_id=session.agent_id,
        connected_at=link.timestamp,
        client=request.client,
    )
    link.context.follow(session, delivery, entry)
    link.context.effects.emit(
        SubscriberJoined(
            connection=link.number,
            session_id=session.session_id,
            client_id=link.client_id,
            resumed=decision.session is not None,
            sequence=session.journal.cursor if delivery.due else delivery.position,
            resync_reason=decision.reason,
        )
    )
    link.last_sign = link.last_ping = now
    link.watch(now)
    _welcome(link, encode_welcome(link.context, request, decision, session), now)
    held, link.held, link.held_size, link.request = link.held, [], 0, None
    for frame in held:
        link.answer(frame, now)
    link.pump(now)


def _welcome(link: Link, welcome: bytes, now: float) -> None:
    """Send the welcome, and with it the snapshot that it announces."""
    delivery, session = link.live()
    # After a second version 1 handshake, what was sent before it may still be on its way: the
    # snapshot then waits for its room, as of the cursor that the welcome names.
    at_once = link.credit.outstanding == 0
    link.answer(welcome, now)
    if link.state is not State.CLOSED:
        link.carry_out(delivery.attach(session, now, at_once=at_once), now)


def _delivery(link: Link, request: Request, decision: Decision, session: Session) -> Delivery:
    head = session.journal.cursor
    snapshot = decision.session is not None and decision.reason is not None
    return Delivery(
        connection=link.number,
        version=request.version,
        max_payload=request.max_payload,
        position=decision.since,
        replay_until=head,
        attach_target=None if request.version == 1 else head,
        credit=link.credit,
        due=SnapshotDue(decision.reason) if snapshot and decision.reason else None,
    )


def reject_by_application(link: Link, command: Reject, now: float) -> None:
    """Reject with the application's reason."""
    _reject(link, command.code, command.message, now, retry_after=command.retry_after_seconds)


def reject_late(link: Link, _: object, now: float) -> None:
    """No handshake came in time."""
    _reject(link, ErrorCode.HANDSHAKE_TIMEOUT, "no handshake came in time", now)


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
    link.context.effects.send((link.number,), [frame])
    link.close(refusal.code, now)

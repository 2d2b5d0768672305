"""What a welcomed connection does: messages, recovery, answers, liveness.

Spec: Client to server; Requests; Credentials; Recovery in band; Errors.
"""

from typing import Final

from gatewayproto import _connection_opening as opening
from gatewayproto import codec, records
from gatewayproto._connection_link import Link, State
from gatewayproto._gateway_context import Context
from gatewayproto.actions import AbortRequested, AuthRequested, JoinRequested, MessageReceived
from gatewayproto.codec import Parsed
from gatewayproto.errors import (
    CLOSE_NORMAL,
    CLOSE_SERVICE_RESTART,
    ErrorCode,
    FrameError,
)
from gatewayproto.frames import (
    Abort,
    Auth,
    Leave,
    Message,
    MessageAck,
    MessageNack,
    Ping,
    Pong,
    Resume,
    Resync,
)
from gatewayproto.handshake import error_fields
from gatewayproto.inputs import Accept, Reject
from gatewayproto.ledger import MessageGiven
from gatewayproto.requests import Refused
from gatewayproto.session import Session


def read_handshake_again(link: Link, parsed: Parsed, now: float) -> None:
    """Version 1: a new attach on the same connection."""
    link.detach(now)
    opening.read_handshake(link, parsed, now)


def refuse_handshake(link: Link, _: Parsed, now: float) -> None:
    """Version 2: a second handshake is malformed."""
    answer_malformed(
        link,
        FrameError(ErrorCode.MALFORMED_FRAME, "a second handshake on a living connection"),
        now,
    )


def take_message(link: Link, message: Message, now: float) -> None:
    """Put a message into the inbox, once, and say so."""
    assert link.session is not None
    session = link.session
    full = session.ledger is not None and session.ledger.full()
    outcome = session.inbox.admit(message, now, full=full, sealed=session.is_closed)
    if isinstance(outcome, Refused):
        _refuse(link, outcome, message, now)
        return
    counters = link.context.counters
    counters.messages_duplicate += outcome.duplicate
    number = None
    if outcome.message_id is not None:
        counters.messages_taken += 1
        number = _hand_over(link.context, session, outcome.message_id, message, now)
    if message.request_id is not None:
        ack = _ack(link, message.request_id, duplicate=outcome.duplicate)
        link.answer_stored(ack, now, number)


def _hand_over(
    context: Context, session: Session, message_id: int, message: Message, now: float
) -> int | None:
    """Tell the application of a message: now, or once its record is stored; gives its number."""
    if session.ledger is None:
        context.effects.emit(received(session.session_id, message_id, message))
        return None
    record = records.message(session, message_id, message)
    return context.write(session, record, now, MessageGiven(message_id))


def received(session_id: str, message_id: int, message: Message) -> MessageReceived:
    """What the application is told of a message in a session's inbox."""
    return MessageReceived(
        session_id=session_id,
        message_id=message_id,
        content=message.content,
        request_id=message.request_id,
        reply_to=message.reply_to,
        metadata=message.metadata,
    )


def _ack(link: Link, request_id: str, *, duplicate: bool) -> bytes:
    if link.state is State.LIVE_V1:
        status = "duplicate" if duplicate else "accepted"
        return codec.encode_object({"type": "response", "status": status, "request_id": request_id})
    return codec.encode(MessageAck(request_id=request_id, duplicate=duplicate))


_SPEAK_OF_ANOTHER: Final = frozenset({ErrorCode.REQUEST_CONFLICT, ErrorCode.ALREADY_ANSWERED})
"""Refusals that tell of another message, which has to be stored before."""


def _refuse(link: Link, refused: Refused, message: Message, now: float) -> None:
    """Say why a message was not taken: where another was, once that is stored."""
    frame = _nack(link, refused.code, refused.detail, message.request_id)
    if refused.code in _SPEAK_OF_ANOTHER:
        link.answer_stored(frame, now)
    else:
        link.answer(frame, now)


def _nack(link: Link, code: ErrorCode, detail: str, request_id: str | None) -> bytes:
    link.context.counters.messages_refused[code.value] += 1
    if link.state is State.LIVE_V1:
        return codec.encode_object(error_fields("error", code, detail, request_id=request_id))
    return codec.encode(MessageNack(code=code.value, message=detail, request_id=request_id))


def give_answers(link: Link, number: int, now: float) -> None:
    """Records up to `number` are stored: send what waited for them."""
    while link.waiting and link.waiting[0][0] <= number:
        _, frame = link.waiting.popleft()
        link.waiting_size -= len(frame)
        link.answer(frame, now)
    if not link.waiting and link.session is not None:
        link.session.stop_answering(link.number)


def pass_on_abort(link: Link, frame: Abort, _: float) -> None:
    """Tell the application; what comes of it are events."""
    session = link.live()[1]
    link.context.effects.emit(
        AbortRequested(
            connection=link.number,
            session_id=session.session_id,
            run_id=frame.run_id,
            request_id=frame.request_id,
        )
    )


# -- credentials ------------------------------------------------------------------------------


def review(link: Link, frame: Auth, _: float) -> None:
    """Ask the application about fresh credentials, one after the other."""
    if link.reviewing:
        link.next_token = frame.token
    else:
        _ask_about(link, frame.token)


def _ask_about(link: Link, token: str) -> None:
    """Ask as if the handshake came now, with this token alone."""
    _, session = link.live()
    link.reviewing, link.next_token = True, None
    entry = link.context.subscribers[session.session_id].presence[link.number]
    join = JoinRequested(
        connection=link.number,
        agent_id=session.agent_id,
        protocol_version=2,
        token=token,
        path=link.path,
        peer=link.peer,
        client=entry.client,
        capabilities=link.capabilities,
    )
    link.context.effects.emit(
        AuthRequested(
            connection=link.number,
            session_id=session.session_id,
            client_id=link.client_id,
            join=join,
        )
    )


def renew(link: Link, accepted: Accept, now: float) -> None:
    """The credentials are good for so long from now; another principal's are not."""
    _, session = link.live()
    if accepted.principal != session.principal:
        link.close(ErrorCode.AUTH_UNAUTHORIZED, now)
        return
    link.expires = None if accepted.expires_in is None else now + accepted.expires_in
    link.reviewing = False
    if link.next_token is not None:
        _ask_about(link, link.next_token)
    link.watch(now)


def end_by_application(link: Link, command: Reject, now: float) -> None:
    """Say why, and close."""
    delivery, _ = link.live()
    fields = error_fields(
        "error", command.code, command.message, retry_after_seconds=command.retry_after_seconds
    )
    frame = codec.encode_object(fields)
    if len(frame) <= delivery.max_payload:
        link.context.effects.send((link.number,), [frame])
    link.close(command.code, now)


# -- recovery ---------------------------------------------------------------------------------


def resume(link: Link, frame: Resume, now: float) -> None:
    """Go back to where the client saw a gap."""
    if not _may_recover(link, now):
        return
    delivery, session = link.live()
    delivery.resume(session, frame.epoch, frame.since, frame.nonce)
    link.pump(now)


def resync(link: Link, frame: Resync, now: float) -> None:
    """Send a snapshot."""
    if not _may_recover(link, now):
        return
    delivery, session = link.live()
    delivery.resync(session, frame.nonce)
    link.pump(now)


def _may_recover(link: Link, now: float) -> bool:
    """Whether a recovery may begin; one that is merged into another costs nothing."""
    delivery, _ = link.live()
    if delivery.is_recovering:
        return True
    wait = link.recoveries.take(now) if link.recoveries else None
    if wait is not None:
        link.answer_error(ErrorCode.RATE_LIMITED, "too many recoveries", now, retry_after=wait)
    return wait is None


def refuse_flood(link: Link, wait: float, now: float) -> None:
    """The client sends more frames than one may."""
    link.answer_error(ErrorCode.RATE_LIMITED, "too many frames", now, retry_after=wait)
    if link.state is not State.CLOSED:
        link.close(ErrorCode.RATE_LIMITED, now)


def answer_ping(link: Link, ping: Ping, now: float) -> None:
    """Answer with the same nonce."""
    link.answer(codec.encode(Pong(nonce=ping.nonce)), now)


def leave(link: Link, _: Leave, now: float) -> None:
    """The client ends its part."""
    link.end(CLOSE_NORMAL, "leave", now)


def answer_unknown(link: Link, _: object, now: float) -> None:
    """Say that the type is unknown and go on."""
    link.answer_error(ErrorCode.UNKNOWN_TYPE, "this frame type is not known here", now)


def answer_invalid(link: Link, error: FrameError, now: float) -> None:
    """Say which field is off and go on."""
    if error.code is ErrorCode.INVALID_REQUEST:
        link.answer(_nack(link, error.code, error.detail, None), now)
    else:
        link.answer_error(error.code, error.detail, now)


def answer_malformed(link: Link, error: FrameError, now: float) -> None:
    """Say what was wrong; too many of them, or one too large, end the connection."""
    link.violations += 1
    link.context.counters.violations += 1
    link.answer_error(error.code, error.detail, now, request_id=error.request_id)
    too_many = link.violations >= link.context.config.max_violations
    if link.state is not State.CLOSED and (too_many or error.code is ErrorCode.PAYLOAD_TOO_LARGE):
        link.close(error.code, now)


def note_activity(link: Link, _: object, now: float) -> None:
    """The peer lives."""
    link.last_sign = now


def count_taken(link: Link, size: int, now: float) -> None:
    """Room again, for when there is something to send."""
    if link.credit.give_back(size, now):
        link.last_sign = now


def give_back(link: Link, size: int, now: float) -> None:
    """Room again: go on with what is owed."""
    count_taken(link, size, now)
    link.pump(now)


def go_on(link: Link, _: object, now: float) -> None:
    """The application has built a state, which may be what is owed."""
    link.pump(now)


def give_up_snapshot(link: Link, _: object, now: float) -> None:
    """No state can be had: who waits for nothing else is closed, to come again later."""
    delivery, session = link.live()
    if delivery.waits(session):
        link.close(ErrorCode.INTERNAL_ERROR, now)


def watch_over(link: Link, _: object, now: float) -> None:
    """Ping, or give up a peer that is silent, takes nothing, or whose credentials have expired."""
    config, credit = link.context.config, link.credit
    if link.expires is not None and now >= link.expires:
        link.close(ErrorCode.AUTH_EXPIRED, now)
        return
    if credit.outstanding > 0 and now >= credit.owed_since + config.stall_timeout:
        link.close(ErrorCode.SLOW_CONSUMER, now)
        return
    if now >= link.last_sign + 2 * config.heartbeat:
        link.close(ErrorCode.LIVENESS_TIMEOUT, now)
        return
    if now >= link.last_ping + config.heartbeat:
        link.last_ping = now
        if credit.outstanding == 0:
            # Behind what is still owed a ping would say nothing that `Drained` does not.
            _ping(link, now)
    link.watch(now)


def _ping(link: Link, now: float) -> None:
    delivery, _ = link.live()
    cursor = None if link.state is State.LIVE_V1 else delivery.position
    frame = codec.encode(Ping(nonce=link.context.ids(), cursor=cursor))
    link.credit.charge_ping(len(frame), now)
    link.context.effects.send((link.number,), [frame], "ping")


def lose(link: Link, _: object, now: float) -> None:
    """The transport is gone; the session stays."""
    link.forget(now)


def change_epoch(link: Link, now: float) -> None:
    """The session's numbering has begun anew: version 2 is told, version 1 joins again."""
    if link.state is State.LIVE_V1:
        link.end(CLOSE_SERVICE_RESTART, "epoch_changed", now)
        return
    delivery, _ = link.live()
    delivery.change_epoch()
    link.pump(now)


def end_for_restart(link: Link, _: object, now: float) -> None:
    """Close a version 1 client, which knows no frame that asks it to leave."""
    link.end(CLOSE_SERVICE_RESTART, ErrorCode.GOING_AWAY.value, now)


def send_away(link: Link, going_away: bytes | None, now: float) -> None:
    """Ask a version 2 client to leave, without waiting for room; None: its time to do so is up."""
    if going_away is None:
        link.close(ErrorCode.GOING_AWAY, now)
    else:
        link.answer(going_away, now, kind="notice", else_close=ErrorCode.GOING_AWAY)

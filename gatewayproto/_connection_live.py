"""What a welcomed connection does: messages, recovery, answers, liveness.

Spec: Client to server; Requests; Recovery in band; Errors.
"""

from gatewayproto import _connection_opening as opening
from gatewayproto import codec, records
from gatewayproto._connection_link import Link, State
from gatewayproto._gateway_context import Context
from gatewayproto.actions import MessageReceived
from gatewayproto.codec import Parsed
from gatewayproto.errors import (
    CLOSE_NORMAL,
    CLOSE_SERVICE_RESTART,
    ErrorCode,
    FrameError,
)
from gatewayproto.frames import (
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
    outcome = session.inbox.admit(message, now, full=full)
    if isinstance(outcome, Refused):
        _refuse(link, outcome, message, now)
        return
    number = None
    if outcome.message_id is not None:
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


def _refuse(link: Link, refused: Refused, message: Message, now: float) -> None:
    """Say why a message was not taken: where another was, once that is stored."""
    frame = _nack(link, refused.code, refused.detail, message.request_id)
    if refused.code in {ErrorCode.REQUEST_CONFLICT, ErrorCode.ALREADY_ANSWERED}:
        link.answer_stored(frame, now)
    else:
        link.answer(frame, now)


def _nack(link: Link, code: ErrorCode, detail: str, request_id: str | None) -> bytes:
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


def resume(link: Link, frame: Resume, now: float) -> None:
    """Go back to where the client saw a gap."""
    delivery, session = link.live()
    delivery.resume(session, frame.epoch, frame.since, frame.nonce)
    link.pump(now)


def resync(link: Link, frame: Resync, now: float) -> None:
    """Send a snapshot."""
    delivery, session = link.live()
    delivery.resync(session, frame.nonce)
    link.pump(now)


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


def watch_over(link: Link, _: object, now: float) -> None:
    """Ping, or give up a peer that is silent or takes nothing."""
    config, credit = link.context.config, link.credit
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
    link.context.effects.send((link.number,), [frame])


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

"""What a welcomed client does with what comes.

Each function but the private ones is a handler of the table in `gatewayproto.client`.

Spec: Server to client; The client's side; Requests.
"""

from typing import Final

from gatewayproto import frames as f
from gatewayproto._client_core import LEAVE_GRACE, ClientCore, malformed
from gatewayproto._client_endings import Ending, Next, floor_of
from gatewayproto._client_states import ClientState, Trigger
from gatewayproto._client_welcome import is_same_session
from gatewayproto._server_v1 import SnapshotV1
from gatewayproto.actions import (
    CaughtUp,
    EventReceived,
    HealthReceived,
    MessageAccepted,
    OutcomeUnknown,
    PresenceReceived,
    ResumeToken,
    SnapshotReceived,
)
from gatewayproto.codec import Parsed
from gatewayproto.errors import CLOSE_NORMAL, ErrorCode, FrameError

_REFUSALS: Final = frozenset(
    {
        ErrorCode.REQUEST_CONFLICT,
        ErrorCode.INBOX_FULL,
        ErrorCode.ALREADY_ANSWERED,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.SESSION_CLOSED,
        ErrorCode.NOT_JOINED,
        ErrorCode.MALFORMED_FRAME,
        ErrorCode.PAYLOAD_TOO_LARGE,
        ErrorCode.RATE_LIMITED,
        ErrorCode.UNKNOWN_TYPE,
    }
)
"""Codes of an `error` that say of the message it names that it is not in the inbox."""

# -- what accounts for seqs -------------------------------------------------------------------


def take_event(core: ClientCore, frame: f.EventFrame, now: float) -> None:
    """Hand on the next event; drop an older one; a later one means a gap."""
    expected = core.held().cursor + 1
    if frame.seq > expected and core.is_known_hole():
        core.skip_to(frame.seq - 1, "trimmed", now)
        expected = frame.seq
    if frame.seq > expected:
        _miss(core, frame.seq, now)
    elif frame.seq == expected:
        link = core.linked()
        replayed = frame.type == "replay"
        if link.version == 1:  # it may send everything as `replay`
            replayed = frame.seq <= (link.head or 0)
        token = core.move(frame.seq, now)
        core.emit(EventReceived(seq=frame.seq, replayed=replayed, event=frame.event, token=token))
    core.counters.duplicates_dropped += frame.seq < expected
    core.note_caught_up_v1(by_frame=True)


def take_early_event(core: ClientCore, _: f.EventFrame | f.Skip, now: float) -> None:
    """Nothing counts before the snapshot: version 1 does not know that, version 2 must."""
    if core.linked().version != 1:
        core.end_bad(malformed("an event before the snapshot"), now)


def take_skip(core: ClientCore, frame: f.Skip, now: float) -> None:
    """Account for what it names, if the next seq is in it; one that begins later means a gap."""
    expected = core.held().cursor + 1
    if frame.first > frame.last:
        core.end_bad(malformed("a skip that ends before it begins"), now)
    elif frame.first > expected:
        _miss(core, frame.first, now)
    elif frame.last >= expected:
        core.skip_to(frame.last, frame.reason, now)
    else:
        core.counters.duplicates_dropped += 1


def take_caught_up(core: ClientCore, frame: f.CaughtUp, now: float) -> None:
    """The attach is complete, unless its tail is missing."""
    if frame.cursor > core.held().cursor:
        core.gap(frame.cursor, now)
    elif _is_awaited(core, frame):
        _tell_caught_up(core, frame)


def take_recovery_end(core: ClientCore, frame: f.CaughtUp, now: float) -> None:
    """The recovery is complete, unless the answer is an earlier attach's or its tail is missing."""
    if not _is_awaited(core, frame):
        return
    if frame.cursor > core.held().cursor:
        core.gap(frame.cursor, now)
    else:
        core.recovered()
        _tell_caught_up(core, frame)


def _is_awaited(core: ClientCore, frame: f.CaughtUp) -> bool:
    link = core.linked()
    return link.caught_up_due and frame.nonce == link.nonce


def _tell_caught_up(core: ClientCore, frame: f.CaughtUp) -> None:
    core.linked().caught_up_due = False
    core.attempt = 0
    core.emit(CaughtUp(cursor=frame.cursor))


def _miss(core: ClientCore, received: int, now: float) -> None:
    # While a recovery is under way, this only follows what is being recovered.
    if core.state is ClientState.LIVE:
        core.gap(received, now)


# -- snapshots --------------------------------------------------------------------------------


def take_snapshot(core: ClientCore, frame: f.Snapshot | SnapshotV1, now: float) -> None:
    """Start over from its state, once it is whole; its cursor is the server's word."""
    reached = core.linked().parts.reached
    try:
        found = _read_v1(core, frame) if isinstance(frame, SnapshotV1) else _read(core, frame)
    except FrameError as error:
        core.end_bad(error, now)
        return
    if found is None:
        if core.linked().parts.reached > reached:
            core.note_progress(now)
        return
    link, held = core.linked(), core.held()
    epoch_changed, link.epoch = found.epoch != link.epoch, found.epoch
    # What was taken of it is the application's to say; of another epoch it is nothing.
    core.taken = min(core.taken, max(0, found.cursor - 1)) if held.epoch == found.epoch else 0
    core.position = found.token
    core.recovered()
    core.watch(now)
    core.emit(found)
    if epoch_changed:
        core.forget_written()
        core.flush(now)
    core.note_caught_up_v1(by_frame=True)


def _read(core: ClientCore, frame: f.Snapshot) -> SnapshotReceived | None:
    """The snapshot once it is whole. Raises `FrameError` for another epoch's."""
    link = core.linked()
    if frame.epoch != link.epoch and frame.reason != "epoch_changed":
        raise malformed("a snapshot of another epoch")
    whole = link.parts.add(frame, max_size=core.config.max_snapshot)
    if whole is None or whole.state is None:
        return None
    return SnapshotReceived(
        cursor=whole.cursor,
        epoch=whole.epoch,
        reason=whole.reason,
        state=whole.state,
        token=ResumeToken(session_id=link.session_id, epoch=whole.epoch, cursor=whole.cursor),
    )


def _read_v1(core: ClientCore, frame: SnapshotV1) -> SnapshotReceived:
    """The snapshot. Raises `FrameError` for another session's."""
    link = core.linked()
    token = ResumeToken(session_id=link.session_id, epoch=None, cursor=frame.cursor)
    if frame.session_id is not None and not is_same_session(token, frame.session_id):
        raise malformed("a snapshot of another session")
    reason = link.resync_reason or "unspecified"
    return SnapshotReceived(
        cursor=frame.cursor, epoch=None, reason=reason, state=frame.state, token=token
    )


# -- messages ---------------------------------------------------------------------------------


def take_ack(core: ClientCore, ack: f.MessageAck, now: float) -> None:
    """The message has come to its end, if it is one of ours."""
    if core.outbox.answer(ack.request_id):
        core.emit(MessageAccepted(request_id=ack.request_id, duplicate=ack.duplicate))
        core.flush(now)


def take_nack(core: ClientCore, nack: f.MessageNack, now: float) -> None:
    """The message has come to its end, if it is one of ours."""
    if nack.request_id is not None and core.outbox.answer(nack.request_id):
        core.refuse(nack.request_id, nack.code, nack.message)
        core.flush(now)


def take_error(core: ClientCore, error: f.Error, now: float) -> None:
    """It decides nothing but the fate of a message it names; how long to stay away carries over."""
    link = core.linked()
    link.floor = max(link.floor, floor_of(error.retry_after_seconds))
    if error.code in _REFUSALS:
        nack = f.MessageNack(code=error.code, message=error.message, request_id=error.request_id)
        take_nack(core, nack, now)


def expire_requests(core: ClientCore, _: None, now: float) -> None:
    """The outcome of a message whose time is up is unknown; it is never written again."""
    for pending in core.outbox.drop_late(now, core.limits.request_ttl):
        core.emit(OutcomeUnknown(request_id=pending.request_id))
    core.flush(now)


# -- liveness ---------------------------------------------------------------------------------


def note_activity(core: ClientCore, _: object, now: float) -> None:
    """The server lives."""
    core.hear(now)


def answer_ping(core: ClientCore, ping: f.Ping, now: float) -> None:
    """Answer; a cursor ahead of this client's means that the tail is missing."""
    core.pong(ping)
    if ping.cursor is not None and ping.cursor > core.held().cursor:
        _miss(core, ping.cursor, now)
    core.note_caught_up_v1(by_frame=True)


def note_pong(core: ClientCore, _: f.Pong, now: float) -> None:
    """The server lives, as every frame says; version 1 says no other way that it goes on.

    It is asked only after a silence: what the server owed before should have come. Whether it
    ever will, nobody can tell from a `pong`: it is asked for on a new connection, and named as
    missing once.
    """
    link, head = core.linked(), core.linked().head or 0
    silent = link.version == 1 and not link.has_floor and core.state is ClientState.LIVE
    if silent and head > core.held().cursor:
        if core.is_known_hole():
            core.give_up("gap", now)
            return
        core.gap(head, now)
    core.note_caught_up_v1(by_frame=True)


def ask_for_life(core: ClientCore, _: None, now: float) -> None:
    """Ping."""
    core.ping(core.linked().heard + 2 * core.limits.heartbeat, now)


def give_up_silent(core: ClientCore, _: None, now: float) -> None:
    """Come back; but ping once more if this comes so late that the machine must have slept."""
    if now > core.linked().give_up + core.grace:
        core.ping(now, now)
    else:
        core.give_up_for(ErrorCode.LIVENESS_TIMEOUT, now)


def give_up_recovery(core: ClientCore, _: None, now: float) -> None:
    """The recovery is not answered: come back."""
    core.give_up("recovery_timeout", now)


# -- the rest ---------------------------------------------------------------------------------


def refuse_welcome(core: ClientCore, _: Parsed, now: float) -> None:
    """Nobody asked for another: the connection cannot be trusted."""
    core.end_bad(malformed("a second welcome"), now)


def tell_presence(core: ClientCore, frame: f.Presence, now: float) -> None:
    """Tell the application what is newer than it knows; a change only of what it knows."""
    link = core.linked()
    wrong = _wrong_form(frame)
    if wrong is not None:
        core.end_bad(malformed(wrong), now)
        return
    if frame.version <= (-1 if link.presence_version is None else link.presence_version):
        return
    if frame.from_version is not None and not (
        link.presence_listed and frame.from_version == link.presence_version
    ):
        core.end_bad(malformed("a change of a presence list that was never told"), now)
        return
    link.presence_version, link.presence_listed = frame.version, frame.presence_count is None
    core.emit(
        PresenceReceived(
            version=frame.version,
            from_version=frame.from_version,
            joined=frame.joined,
            left=frame.left,
            entries=frame.entries,
            presence_count=frame.presence_count,
        )
    )


def _wrong_form(frame: f.Presence) -> str | None:
    """What is wrong with the form of a frame that has three."""
    change = (frame.from_version, frame.joined, frame.left)
    forms = [any(field is not None for field in change)]
    forms += [frame.entries is not None, frame.presence_count is not None]
    if sum(forms) != 1 or (forms[0] and None in change):
        return "a presence that is no change, no list and no count"
    return None


def tell_health(core: ClientCore, frame: f.Health, _: float) -> None:
    """Tell the application what is newer than it knows."""
    link = core.linked()
    if frame.version > (-1 if link.health_version is None else link.health_version):
        link.health_version = frame.version
        core.emit(HealthReceived(version=frame.version, health=frame.health))


def prepare_to_leave(core: ClientCore, frame: f.GoingAway, now: float) -> None:
    """Write nothing more; leave when what is on its way has had time to come."""
    link = core.linked()
    after, spread = floor_of(frame.after_ms / 1000), floor_of(frame.spread_ms / 1000)
    link.leaving = after + core.rng.random() * spread
    if core.timers.get(Trigger.LEAVE_DUE) is None:
        core.arm(Trigger.LEAVE_DUE, now + LEAVE_GRACE, now)


def leave(core: ClientCore, _: None, now: float) -> None:
    """Leave, and come back when the server said."""
    code = ErrorCode.GOING_AWAY.value
    core.send(f.Leave(reason=code))
    core.close(CLOSE_NORMAL, code)
    core.end(Ending(next=Next.RETRY, code=code), now)

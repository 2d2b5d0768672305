"""What the client machine's handlers act on: its state, and the acts that they share.

Nothing here decides what an input means: that is the table in `gatewayproto.client`.

Spec: The client's side.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gatewayproto import _client_welcome, codec
from gatewayproto._client_endings import Ending, Next
from gatewayproto._client_states import LINK_DEADLINES, ClientState, Limits, Link, Trigger
from gatewayproto._client_welcome import Attach
from gatewayproto._counters import ClientCounters, plain
from gatewayproto._timers import Timers
from gatewayproto.actions import (
    CaughtUp,
    ClientAction,
    ClientEvent,
    ClientStateName,
    CloseTransport,
    Emit,
    Gap,
    Joined,
    MessageRefused,
    OpenTransport,
    OutcomeUnknown,
    ResumeToken,
    RetryScheduled,
    SendFrame,
    Skipped,
    StateChanged,
    Stopped,
    TokenNeeded,
)
from gatewayproto.config import ClientConfig
from gatewayproto.errors import CLOSE_NORMAL, ERRORS, ErrorCode, FrameError
from gatewayproto.frames import Auth, ClientFrame, Ping, Pong, Resume, Resync
from gatewayproto.metrics import ClientMetrics
from gatewayproto.outbox import Outbox, Pending

if TYPE_CHECKING:
    import random

ATTACHED: Final = frozenset({ClientState.LIVE, ClientState.RECOVERING, ClientState.RESYNCING})
"""The states in which a welcome is believed and messages are written."""
LEAVE_GRACE: Final = 1.0
"""Seconds in which a client that was told to leave still takes what is on its way."""


class ClientCore:
    """The state of a client machine, and the acts that its handlers share."""

    def __init__(
        self,
        config: ClientConfig,
        *,
        rng: "random.Random",
        resume: ResumeToken | None,
        ids: Callable[[], str],
    ) -> None:
        self.config = config
        self.rng = rng
        self.ids = ids
        self.token = config.token
        self.state = ClientState.IDLE
        self.name: ClientStateName | None = None
        self.position = resume
        self.hole: ResumeToken | None = None  # version 1: where a gap was told last
        self.taken = 0 if resume is None else resume.cursor
        self.opened = 0
        self.attempt = 0
        self.want_snapshot = False
        self.not_before = 0.0
        self.limits = Limits.of(config)
        self.link: Link | None = None
        self.outbox = Outbox(config.max_queued)
        self.timers: Timers[Trigger] = Timers()
        self.counters = ClientCounters()
        self.actions: list[ClientAction] = []

    # -- small acts ---------------------------------------------------------------------------

    def take_actions(self) -> tuple[ClientAction, ...]:
        """What was to be done since the last time."""
        actions, self.actions = tuple(self.actions), []
        return actions

    def emit(self, event: ClientEvent) -> None:
        self.counters.note(event)
        self.actions.append(Emit(event))

    def send(self, frame: ClientFrame) -> None:
        self.send_encoded(codec.encode(frame))

    def send_encoded(self, frame: bytes) -> None:
        self.actions.append(SendFrame(self.linked().connection, frame))

    def arm(self, trigger: Trigger, deadline: float, now: float) -> None:
        """Set a deadline, always after `now`: what is due at once could be due for ever."""
        self.timers.set(trigger, max(deadline, math.nextafter(now, math.inf)))

    def rename(self, name: ClientStateName) -> None:
        if self.name != name:
            self.name = name
            self.emit(StateChanged(name))

    def linked(self) -> Link:
        assert self.link is not None, "a handler of a state without a connection"
        return self.link

    def held(self) -> ResumeToken:
        assert self.position is not None, "a handler of a state without a session"
        return self.position

    def metrics(self) -> ClientMetrics:
        """What was counted, and how the client stands."""
        cursor = 0 if self.position is None else self.position.cursor
        return ClientMetrics(
            **plain(self.counters),
            connected=int(self.state in ATTACHED),
            messages_waiting=len(self.outbox),
            messages_in_flight=self.outbox.in_flight,
            seqs_untaken=max(0, cursor - self.taken),
        )

    # -- connections --------------------------------------------------------------------------

    def open(self, now: float) -> None:
        self.opened += 1
        self.counters.attempts += 1
        self.link = Link(connection=self.opened, heard=now, give_up=now)
        self.state = ClientState.CONNECTING
        self.arm(Trigger.HANDSHAKE_LATE, now + self.config.handshake_timeout, now)
        self.actions.append(OpenTransport(connection=self.opened, token=self.token))

    def close(self, code: int, reason: str) -> None:
        connection = self.linked().connection
        self.actions.append(CloseTransport(connection=connection, code=code, reason=reason))

    def give_up(self, code: str, now: float, *, close_code: int = CLOSE_NORMAL) -> None:
        """End the connection from this side, and come back."""
        self.close(close_code, code)
        self.end(Ending(next=Next.RETRY, code=code), now)

    def give_up_for(self, code: ErrorCode, now: float) -> None:
        """The same, with the close code that the protocol has for it."""
        self.give_up(code.value, now, close_code=ERRORS[code].close_code or CLOSE_NORMAL)

    def end_bad(self, error: FrameError, now: float) -> None:
        """End the connection for a bad frame and make it anew; the cursor is kept."""
        is_large = error.code is ErrorCode.PAYLOAD_TOO_LARGE
        self.give_up(error.code.value, now, close_code=_TOO_BIG if is_large else _PROTOCOL_ERROR)

    def end(self, ending: Ending, now: float) -> None:
        """Forget the connection, and go on as its ending says."""
        link = self.linked()
        self.forget_link()
        floor = max(ending.floor, link.floor, link.leaving or 0.0)
        if ending.next is Next.STOP:
            self.stop(ending.code or "closed", ending.message)
        elif ending.next is Next.NEW_TOKEN and not self._has_untried_token(link, now):
            self.state = ClientState.TOKEN_NEEDED
            self.not_before = now + floor
            self.rename("reconnecting")
            self.emit(TokenNeeded(code=ending.code or ErrorCode.AUTH_EXPIRED.value))
        else:
            left = None if link.leaving is None else ErrorCode.GOING_AWAY.value
            self.retry(ending.code or left, ending.message, floor, now)

    def _has_untried_token(self, link: Link, now: float) -> bool:
        """Whether there is a token that the server had not judged when it ended the connection.

        No handshake has carried it yet, and an `auth` so lately only that the end may have crossed
        with it.
        """
        crossed = link.presented is None or now < link.presented + self.grace
        return link.new_token and crossed

    def forget_link(self) -> None:
        self.link = None
        self.outbox.detach()
        for trigger in LINK_DEADLINES:
            self.timers.cancel(trigger)

    def retry(self, code: str | None, message: str, floor: float, now: float) -> None:
        limit = self.config.max_attempts
        if limit is not None and self.attempt >= limit:
            self.stop(code or "max_attempts", message or f"gave up after {limit} attempts")
            return
        self.attempt += 1
        delay = self.config.backoff.delay(self.attempt, self.rng.random(), floor=floor)
        self.wait(delay, code, now)

    def wait(self, delay: float, code: str | None, now: float) -> None:
        self.state = ClientState.WAITING
        self.arm(Trigger.RETRY_DUE, now + delay, now)
        self.rename("reconnecting")
        self.emit(RetryScheduled(delay=delay, attempt=self.attempt, code=code))

    def stop(self, code: str, message: str) -> None:
        """The end: every message comes to its own, and no deadline is left."""
        self.link = None
        for trigger in Trigger:
            self.timers.cancel(trigger)
        for pending in self.outbox.drop_all():
            self.end_message(pending, "disconnected", "the client has stopped")
        self.state = ClientState.STOPPED
        self.rename("disconnected")
        self.emit(Stopped(code=code, message=message))

    # -- attaching ----------------------------------------------------------------------------

    def join_again(self, now: float, *, since: int) -> None:
        """Version 1: the handshake again, on this connection."""
        link = self.linked()
        link.version, link.asked_snapshot = None, self.want_snapshot
        self.outbox.detach()
        for trigger in LINK_DEADLINES:
            if trigger is not Trigger.HANDSHAKE_LATE:
                self.timers.cancel(trigger)
        if self.timers.get(Trigger.HANDSHAKE_LATE) is None:
            self.arm(Trigger.HANDSHAKE_LATE, now + self.config.handshake_timeout, now)
        self.state = ClientState.REJOINING
        self.send(
            _client_welcome.join(
                self.config, self.held(), self.token, since=since, snapshot=link.asked_snapshot
            )
        )

    def attach(self, attach: Attach, now: float) -> None:
        """Go by a welcome that is believed."""
        link = self.linked()
        link.version, link.session_id = attach.version, attach.session_id
        link.epoch, link.head = attach.epoch, attach.head
        link.has_floor = attach.oldest_cursor is not None
        link.resync_reason, link.caught_up_due, link.nonce = attach.resync_reason, True, None
        link.presence_version, link.health_version = attach.presence_version, attach.health_version
        link.presence_listed = attach.presence is not None
        self.limits = Limits.of(self.config, attach.policy)
        self.timers.cancel(Trigger.HANDSHAKE_LATE)
        self.state = ClientState.LIVE
        if not attach.resumed:
            self.position = _position(attach, 0)
            self.taken = 0
        elif not attach.resync_required:
            self.position = _position(attach, self.held().cursor)
        else:
            # Where it stands is of the old epoch until the snapshot has come: all three change
            # together.
            self.state = ClientState.RESYNCING
            self.arm(Trigger.RECOVERY_LATE, now + self.config.recovery_timeout, now)
        self.rename("connected")
        self.emit(self.joined(attach))
        if not attach.resumed or attach.resync_reason == "epoch_changed":
            self.forget_written()
        self.hear(now)

    def joined(self, attach: Attach) -> Joined:
        held = self.held()
        return Joined(
            token=held,
            session_id=attach.session_id,
            epoch=attach.epoch,
            protocol_version=attach.version,
            resumed=attach.resumed,
            cursor=held.cursor if attach.head is None else attach.head,
            oldest_cursor=attach.oldest_cursor,
            sequence=attach.sequence,
            resync_required=attach.resync_required,
            resync_reason=attach.resync_reason,
            presence=attach.presence,
            health=attach.health,
            presence_count=attach.presence_count,
            presence_version=attach.presence_version,
            health_version=attach.health_version,
        )

    def present_token(self, now: float) -> None:
        """Present fresh credentials on this connection, where the version has a frame for it.

        One that the server would not take waits for the next handshake.
        """
        link = self.linked()
        if self.token is None or (link.version or 1) == 1:
            return
        frame = codec.encode(Auth(token=self.token))
        if len(frame) <= self.limits.max_payload:
            link.presented = now
            self.send_encoded(frame)

    # -- the cursor ---------------------------------------------------------------------------

    def move(self, cursor: int, now: float) -> ResumeToken:
        """Account for everything up to `cursor`; what is handed on carries what this returns."""
        held = self.held()
        self.position = ResumeToken(session_id=held.session_id, epoch=held.epoch, cursor=cursor)
        self.watch(now)
        self.note_progress(now)
        return self.position

    def note_progress(self, now: float) -> None:
        """A recovery that is being answered, however long the answer, is not late."""
        if self.timers.get(Trigger.RECOVERY_LATE) is not None:
            self.arm(Trigger.RECOVERY_LATE, now + self.config.recovery_timeout, now)

    def skip_to(self, last: int, reason: str, now: float) -> None:
        first = self.held().cursor + 1
        token = self.move(last, now)
        self.emit(Skipped(first=first, last=last, reason=reason, token=token))

    def gap(self, received: int, now: float) -> None:
        """What is expected is missing: tell it once, and recover it before anything else.

        What is missing where it was asked for before, on this connection, this server cannot give.
        """
        held, link = self.held(), self.linked()
        if link.asked_from == held:
            self.end_bad(malformed("a recovery that recovers nothing"), now)
            return
        self.emit(Gap(expected=held.cursor + 1, received=received))
        if link.version == 1:
            self.hole = held
            self.give_up("gap", now)
        else:
            self.resume(now)

    def is_known_hole(self) -> bool:
        """Version 1: a server that names no floor was asked for this before, and has it not."""
        link = self.linked()
        return link.version == 1 and not link.has_floor and self.hole == self.held()

    def resume(self, now: float) -> None:
        held = self.linked().asked_from = self.held()
        self.send(Resume(epoch=held.epoch, since=held.cursor, nonce=self.recover(now)))

    def ask_snapshot(self, now: float) -> None:
        if self.linked().version == 1:
            self.join_again(now, since=self.held().cursor)
        else:
            self.send(Resync(nonce=self.recover(now)))

    def recover(self, now: float) -> str:
        """Await the answer to a request; gives its nonce, that no other answer carries."""
        link = self.linked()
        link.nonce, link.caught_up_due = self.ids(), True
        link.parts.reached = 0
        self.state = ClientState.RECOVERING
        self.arm(Trigger.RECOVERY_LATE, now + self.config.recovery_timeout, now)
        return link.nonce

    def recovered(self) -> None:
        self.state = ClientState.LIVE
        self.want_snapshot = False
        self.timers.cancel(Trigger.RECOVERY_LATE)

    def note_caught_up_v1(self, *, by_frame: bool) -> None:
        """Version 1 has no `caught_up`: the welcome's head says when.

        The count of attempts starts again only with a frame after the welcome, so that a server
        that welcomes and closes is not tried faster and faster.
        """
        link, cursor = self.link, self.held().cursor
        if link is None or link.version != 1:
            return
        if self.state is not ClientState.LIVE or cursor < (link.head or 0):
            return
        if link.caught_up_due:
            link.caught_up_due = False
            self.emit(CaughtUp(cursor=cursor))
        if by_frame:
            self.attempt = 0

    # -- liveness -----------------------------------------------------------------------------

    def hear(self, now: float) -> None:
        """The server gave a sign of life."""
        self.linked().heard = now
        self.watch(now)

    def watch(self, now: float) -> None:
        """Count the silence, but only while the application has taken everything.

        A driver whose application is slow stops reading, and then silence says nothing.
        """
        self.timers.cancel(Trigger.LIVENESS_LATE)
        if self.taken < self.held().cursor:
            self.timers.cancel(Trigger.SILENCE)
        else:
            self.arm(Trigger.SILENCE, self.linked().heard + self.limits.heartbeat, now)

    def ping(self, give_up: float, now: float) -> None:
        """Ask for a sign of life, and give up at `give_up`, or later to leave time for one."""
        link = self.linked()
        link.give_up = max(give_up, now + self.grace)
        self.send(Ping(nonce=self.ids()))
        self.arm(Trigger.LIVENESS_LATE, link.give_up, now)

    def pong(self, ping: Ping) -> None:
        """Answer a ping; in version 2 with what the application has taken."""
        cursor = self.taken if (self.linked().version or 1) > 1 else None
        self.send(Pong(nonce=ping.nonce, cursor=cursor))

    @property
    def grace(self) -> float:
        """Seconds that a server has for its answer to a ping, at the least."""
        return min(self.limits.heartbeat, self.config.handshake_timeout)

    # -- messages -----------------------------------------------------------------------------

    def flush(self, now: float) -> None:
        """Write what may be written, in order."""
        if self.state in ATTACHED and self.linked().leaving is None:
            while (message := self.outbox.next_to_write(self.limits.max_pending)) is not None:
                self.write(message, now)
        oldest = self.outbox.oldest_written
        if oldest is None:
            self.timers.cancel(Trigger.REQUEST_LATE)
        else:
            self.arm(Trigger.REQUEST_LATE, oldest + self.limits.request_ttl, now)

    def write(self, message: Pending, now: float) -> None:
        is_late = message.is_late(now, self.limits.request_ttl)
        if is_late or len(message.frame) > self.limits.max_payload:
            self.outbox.drop(message)
            self.end_message(message, ErrorCode.PAYLOAD_TOO_LARGE.value, _TOO_LARGE)
            return
        self.outbox.mark_written(message, now)
        self.counters.messages_sent += 1
        self.send_encoded(message.frame)

    def refuse(self, request_id: str, code: str, message: str) -> None:
        self.emit(MessageRefused(request_id=request_id, code=code, message=message))

    def end_message(self, pending: Pending, code: str, message: str) -> None:
        """End a message that has no answer: refused if it was never written, else unknown."""
        if pending.written is None:
            self.refuse(pending.request_id, code, message)
        else:
            self.emit(OutcomeUnknown(request_id=pending.request_id))

    def forget_written(self) -> None:
        """What was written went to a session or an epoch that is gone: never write it again."""
        for pending in self.outbox.drop_written():
            self.emit(OutcomeUnknown(request_id=pending.request_id))


def malformed(detail: str) -> FrameError:
    """The server's frame is none, or makes no sense where it came."""
    return FrameError(ErrorCode.MALFORMED_FRAME, detail)


_PROTOCOL_ERROR: Final = 1002
_TOO_BIG: Final = 1009
_TOO_LARGE: Final = "the message is larger than the server takes"


def _position(attach: Attach, cursor: int) -> ResumeToken:
    return ResumeToken(session_id=attach.session_id, epoch=attach.epoch, cursor=cursor)

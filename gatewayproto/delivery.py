"""One subscriber's cursor into its session's journal, and the one act that moves it.

Replay, live delivery, catching up after a stall and recovery are the same: send what lies between
the position and the head, as long as there is credit. A subscriber holds no events of its own.

Spec: Server to client; Snapshots; Lagging; Recovery in band; Version 1.
"""

from collections import deque
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from attrs import define, evolve, field, frozen

from gatewayproto import codec, versions
from gatewayproto._counters import Sent
from gatewayproto.credit import Credit
from gatewayproto.errors import ErrorCode
from gatewayproto.frames import CaughtUp, Object, ResyncReason, Skip
from gatewayproto.handshake import resync_reason
from gatewayproto.journal import Entry
from gatewayproto.session import Session, State


@frozen
class SnapshotDue:
    """A snapshot is owed before anything else, as of seq `least` or later."""

    reason: ResyncReason
    nonce: str | None = None
    least: int = 0


@frozen
class Recovery:
    """A `resume` or `resync` is owed its `caught_up` once delivery is at `target`."""

    target: int
    nonce: str | None


@define
class Pumped:
    """What one turn of delivery gave: frames, whether it lagged, and why it must close.

    `begun` are the reasons of the snapshots that it began, `completed` how many it sent the end of.
    `waits` is set where it cannot go on before the application has built a state.
    """

    frames: list[tuple[Sent, bytes]] = field(factory=list)
    begun: list[ResyncReason] = field(factory=list)
    completed: int = 0
    lagged_at: int | None = None
    close: ErrorCode | None = None
    waits: bool = False


class _Turn(Enum):
    HEAD = auto()
    NO_ROOM = auto()
    AGAIN = auto()
    TOO_LARGE = auto()


@define(eq=False)
class Delivery:
    """Where one subscriber stands: everything up to `position` is accounted for to it.

    Events up to `replay_until` go as `replay`, later ones as `event`. `attach_target` is the head
    as of the attach while its `caught_up` is owed; `parts` is what is left of a snapshot that is
    on its way. `sent` is up to where this epoch was sent before the position went back, None while
    nothing of it was: a snapshot that the application builds may not be behind that.
    `before_parts` is where it stood before the snapshot whose `parts` are under way.
    """

    connection: int
    version: int
    max_payload: int
    position: int
    replay_until: int
    attach_target: int | None
    credit: Credit
    due: SnapshotDue | None = None
    recovery: Recovery | None = None
    parts: deque[bytes] = field(factory=deque)
    lags: list[float] = field(factory=list)
    sent: int | None = 0
    before_parts: int = 0

    # -- live ---------------------------------------------------------------------------------

    def at_head(self, session: Session) -> bool:
        """Tell whether the next event is all that this subscriber will need."""
        return (
            self.position == session.journal.cursor
            and self.due is None
            and not self.parts
            and self.attach_target is None
            and self.recovery is None
        )

    def take_live(self, seq: int, size: int, now: float) -> bool:
        """Account for the next event, if its frame of `size` bytes may go right away."""
        if size > self.max_payload or not self.credit.room_for(size):
            return False
        self.credit.charge(size, now)
        self.position = seq
        return True

    # -- recovery in band ---------------------------------------------------------------------

    @property
    def is_recovering(self) -> bool:
        """Whether a request to recover is merged into what is under way already."""
        return self.due is not None or self.recovery is not None or bool(self.parts)

    def resume(self, session: Session, epoch: str | None, since: int, nonce: str | None) -> None:
        """Go back to `since`, never forward; merged into whatever is under way."""
        head = session.journal.cursor
        epochs = () if epoch is None else (epoch,)
        reason = resync_reason(session, self.version, epochs, since)
        self.recovery = Recovery(head, nonce)
        self.replay_until = head
        if self.due is not None:
            self.due = evolve(self.due, nonce=nonce)
        elif reason is not None and not self.parts:
            self.due = SnapshotDue(reason, nonce)
        elif reason is None and not self.parts:
            if session.projection is None:
                self.sent = max(self.sent or 0, self.position)
            self.position = min(self.position, since)

    def resync(self, session: Session, nonce: str | None) -> None:
        """Send a snapshot; merged into one that is under way."""
        self.recovery = Recovery(session.journal.cursor, nonce)
        if self.due is not None:
            self.due = evolve(self.due, nonce=nonce)
        elif not self.parts:
            self.due = SnapshotDue("requested", nonce)

    def change_epoch(self) -> None:
        """Begin anew with a snapshot of the session's new epoch."""
        if self.parts:  # the peer never got the whole
            self.position = self.before_parts
        self.parts.clear()
        self.sent = None
        self.due = SnapshotDue("epoch_changed", self.recovery.nonce if self.recovery else None)

    # -- the act ------------------------------------------------------------------------------

    def attach(self, session: Session, now: float, *, at_once: bool) -> Pumped:
        """Take the snapshot that the welcome announces, and send it `at_once` whatever it takes."""
        pumped = Pumped()
        if self.due is not None and (state := self._state(session)) is not None:
            self._begin_snapshot(session, state, self.due, pumped)
            if self.parts and at_once:
                self._send_part(pumped, now)
        return pumped

    def pump(self, session: Session, now: float, *, max_lags: int, lag_period: float) -> Pumped:
        """Send what lies between the position and the head, as far as there is credit."""
        pumped = Pumped()
        turn = _Turn.AGAIN
        while turn is _Turn.AGAIN and pumped.close is None:
            if self.due is None and not self.parts and self.position < session.floor(self.version):
                self._lag(pumped, now, max_lags, lag_period)
                continue
            turn = self._step(session, pumped, now)
            if turn is _Turn.TOO_LARGE:
                # Only a snapshot, in parts, can account for an event beyond what this peer takes.
                turn = _Turn.AGAIN
                if self.version == 1:
                    pumped.close = ErrorCode.PAYLOAD_TOO_LARGE
                else:
                    self._lag(pumped, now, max_lags, lag_period)
        return pumped

    def _step(self, session: Session, pumped: Pumped, now: float) -> _Turn:
        if self.parts:
            if not self.credit.room_for(len(self.parts[0])):
                return _Turn.NO_ROOM
            self._send_part(pumped, now)
            return _Turn.AGAIN  # the journal may have moved on while they waited
        if self.due is not None:
            return self._try_snapshot(session, self.due, pumped)
        return self._send_entries(session, pumped, now)

    def _try_snapshot(self, session: Session, due: SnapshotDue, pumped: Pumped) -> _Turn:
        # Not before there is room for it, so that it is as fresh as it can be.
        if not self._room_for_snapshot(session):
            return _Turn.NO_ROOM
        state = self._state(session)
        if state is None:
            pumped.waits = True
            return _Turn.NO_ROOM
        before = self.position, self.sent
        self._begin_snapshot(session, state, due, pumped)
        if self.parts and not self.credit.room_for(len(self.parts[0])):
            # What stands around the state takes more than the rest: it has not begun.
            self.parts.clear()
            pumped.begun.pop()
            self.due = due
            self.position, self.sent = before
            return _Turn.NO_ROOM
        return _Turn.AGAIN

    def waits(self, session: Session) -> bool:
        """Tell whether all that it lacks is a state that the application has to build."""
        return (
            self.due is not None
            and self._room_for_snapshot(session)
            and self._state(session) is None
        )

    def _room_for_snapshot(self, session: Session) -> bool:
        return self.credit.room_for(min(session.expected_size(), self.max_payload))

    def _state(self, session: Session) -> State | None:
        """A state that this subscriber can go on from, and that takes it nowhere back."""
        least = max(session.floor(self.version), 0 if self.due is None else self.due.least)
        if self.sent is not None:
            least = max(least, self.sent, self.position)
        return session.state(least)

    def _lag(self, pumped: Pumped, now: float, max_lags: int, lag_period: float) -> None:
        pumped.lagged_at = self.position
        self.lags = [at for at in self.lags if at + lag_period > now]
        if self.version == 1 or len(self.lags) >= max_lags:
            pumped.close = ErrorCode.SLOW_CONSUMER
            return
        self.lags.append(now)
        nonce = self.recovery.nonce if self.recovery else None
        # Past what is in the way, be it gone or too large.
        self.due = SnapshotDue("lagged", nonce, least=self.position + 1)

    def _send_entries(self, session: Session, pumped: Pumped, now: float) -> _Turn:
        for kind, frame in self._owed(session):
            if len(frame) > self.max_payload:
                return _Turn.TOO_LARGE
            if not self.credit.room_for(len(frame)):
                return _Turn.NO_ROOM
            self._send(kind, frame, pumped, now)
        return _Turn.HEAD

    def _owed(self, session: Session) -> Iterator[tuple[Sent, bytes]]:
        """The frames owed, in order. To ask for the next is to say that the last was sent."""
        yield from self._owed_caught_up()
        for entry in session.journal.after(self.position):
            if entry.superseded and self.version > 1:
                continue
            if entry.seq > self.position + 1:
                skip = Skip(first=self.position + 1, last=entry.seq - 1, reason="superseded")
                yield "skip", codec.encode(skip)
                self.position = skip.last
                yield from self._owed_caught_up()
            yield "event", self._frame(entry)
            self.position = entry.seq
            yield from self._owed_caught_up()

    def _owed_caught_up(self) -> Iterator[tuple[Sent, bytes]]:
        """A `caught_up` for each target that is reached."""
        if self.attach_target is not None and self.position >= self.attach_target:
            yield "caught_up", codec.encode(CaughtUp(cursor=self.position))
            self.attach_target = None
        if self.recovery is not None and self.position >= self.recovery.target:
            frame = CaughtUp(cursor=self.position, nonce=self.recovery.nonce)
            yield "caught_up", codec.encode(frame)
            self.recovery = None

    def _frame(self, entry: Entry) -> bytes:
        if self.version == 1:
            return versions.replay_frame_v1(entry.seq, entry.event())
        kind = "replay" if entry.seq <= self.replay_until else "event"
        return codec.event_frame(kind, entry.seq, entry.body)

    def _begin_snapshot(
        self, session: Session, state: State, due: SnapshotDue, pumped: Pumped
    ) -> None:
        """Take the state as of one cursor; from here on that is the position."""
        self.due = None
        self.sent = 0
        self.before_parts = self.position
        if self.version == 1:
            frame = versions.snapshot_frame_v1(
                state.plain(),
                cursor=state.cursor,
                session_id=versions.join_session_id(session.session_id, session.epoch),
                agent_id=session.agent_id,
                max_bytes=self.max_payload,
            )
            if frame is None:
                pumped.close = ErrorCode.PAYLOAD_TOO_LARGE
                return
            self.parts.append(frame)
        else:
            fields: Object = {
                "type": "snapshot",
                "cursor": state.cursor,
                "epoch": session.epoch,
                "reason": due.reason,
            }
            if due.nonce is not None:
                fields["nonce"] = due.nonce
            self.parts.extend(codec.snapshot_frames(fields, state.body, max_bytes=self.max_payload))
        pumped.begun.append(due.reason)
        self.position = state.cursor

    def _send_part(self, pumped: Pumped, now: float) -> None:
        self._send("snapshot", self.parts.popleft(), pumped, now)
        if not self.parts:
            pumped.completed += 1

    def _send(self, kind: Sent, frame: bytes, pumped: Pumped, now: float) -> None:
        self.credit.charge(len(frame), now)
        pumped.frames.append((kind, frame))

    # -- plain data ---------------------------------------------------------------------------

    def to_state(self, now: float) -> Object:
        """Plain JSON data; times as seconds before `now`."""
        return {
            "connection": self.connection,
            "version": self.version,
            "max_payload": self.max_payload,
            "position": self.position,
            "replay_until": self.replay_until,
            "attach_target": self.attach_target,
            "due": self.due and [self.due.reason, self.due.nonce, self.due.least],
            "recovery": self.recovery and [self.recovery.target, self.recovery.nonce],
            "parts": [part.decode() for part in self.parts],
            "lags": [now - at for at in self.lags],
            "sent": self.sent,
            "before_parts": self.before_parts if self.parts else 0,
        }

    @classmethod
    def from_state(cls, state: Any, credit: Credit, now: float) -> "Delivery":
        """Go on from what `to_state` gave."""
        return cls(
            connection=state["connection"],
            version=state["version"],
            max_payload=state["max_payload"],
            position=state["position"],
            replay_until=state["replay_until"],
            attach_target=state["attach_target"],
            credit=credit,
            due=state["due"] and SnapshotDue(*state["due"]),
            recovery=state["recovery"] and Recovery(*state["recovery"]),
            parts=deque(part.encode() for part in state["parts"]),
            lags=[now - ago for ago in state["lags"]],
            sent=state["sent"],
            before_parts=state["before_parts"],
        )

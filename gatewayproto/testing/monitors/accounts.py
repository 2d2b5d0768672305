"""One follower of a session, frame by frame: that every seq is accounted for to it, exactly once.

Spec: The promise; Delivery; Snapshots; Lagging; Recovery in band; Version 1.
"""

import json
from typing import NoReturn

from attrs import define, field

from gatewayproto.testing.monitors.book import Connection, Session
from gatewayproto.testing.monitors.wire import DELIVERIES, EVENTS, Frame
from gatewayproto.testing.reference import (
    Asked,
    Known,
    Ledger,
    Plain,
    compact,
    event_v1,
    resync_reason,
)
from gatewayproto.testing.steps import Violation


@define(eq=False)
class Account:
    """Where one welcomed connection stands, by what it was sent.

    - `position`: the last seq accounted for. `replay_until`: up to there events are replays.
    - `due`: the reason of the snapshot that must come before anything else.
    - `target`: the head that the attach's `caught_up` waits for. `recovery`: the head and the
      nonce of the latest `resume` or `resync`, while that is unanswered.
    - `chunks`: the parts so far of a snapshot under way; `head` its other fields.
    - `lagged_at`: where the gateway said in this step that this follower lost its place.
    - `announced`: the cursor of the snapshot that the welcome announced, until that is complete.
    - `sent`: up to where it was sent this epoch before it was taken back; None for nothing of it.
    """

    connection: Connection
    session: Session
    version: int
    position: int
    replay_until: int
    target: int | None
    due: str | None
    due_since: int = 0
    recovery: tuple[int, str | None] | None = None
    chunks: list[str] = field(factory=list)
    head: Frame = field(factory=dict)
    lagged_at: int | None = None
    announced: int | None = None
    sent: int | None = 0
    seen: list[str] = field(factory=list)

    @classmethod
    def of(cls, connection: Connection, session: Session, welcome: Frame) -> "Account":
        """What a welcome begins."""
        version, head = connection.version, session.ledger.cursor
        announced = welcome["resumed"] and welcome["resync_required"]
        account = cls(
            connection,
            session,
            version,
            position=welcome["sequence"],
            replay_until=head,
            target=None if version == 1 else head,
            due=welcome["resync_reason"] if announced else None,
            due_since=welcome["sequence"] if announced else 0,
        )
        if announced:
            account.announced = account.position if account.is_built else head
        return account

    @property
    def is_built(self) -> bool:
        """Whether the snapshots are the application's work, and may be behind the head."""
        return self.session.folded.config.application_snapshots

    @property
    def least(self) -> int:
        """How new a state must be that the application built: it takes nobody back."""
        least = self.ledger.oldest(self.version) - 1
        if self.sent is not None:
            least = max(least, self.sent, self.position)
        return max(least, self.due_since + 1) if self.due == "lagged" else least

    @property
    def ledger(self) -> Ledger:
        """What the session has published."""
        return self.session.ledger

    def fail(self, prop: str, text: str) -> NoReturn:
        """Say what is wrong, and where this follower stands."""
        where = f"at {self.position} of {self.ledger.cursor} in {self.session.epoch}"
        raise Violation(prop, f"{self.connection}, {where}: {text}")

    def take(self, frame: Frame) -> Plain | None:
        """Account for a frame that was sent; gives the state of a snapshot that is whole now."""
        kind = frame["type"]
        if kind == "ping" and self.version > 1 and frame.get("cursor") != self.position:
            self.fail("P6", f"a ping says {frame.get('cursor')}")
        if kind not in DELIVERIES:
            return None
        if self.chunks and kind != "snapshot":
            self.fail("P3", f"`{kind}` within a snapshot in parts")
        if kind in EVENTS:
            self._event(frame)
        elif kind == "skip":
            self._skip(frame)
        elif kind == "caught_up":
            self._caught_up(frame)
        else:
            return self._snapshot_v1(frame) if self.version == 1 else self._snapshot(frame)
        return None

    # -- events -------------------------------------------------------------------------------

    def _nothing_else_first(self, what: str) -> None:
        """Nothing goes before a snapshot that is due, or a `caught_up` whose head is reached."""
        if self.due is not None:
            self.fail("P3", f"{what} before the snapshot that is due, {self.due}")
        if self.lagged_at is not None and self.position >= self.lagged_at:
            self.fail("P3", f"{what} after it lagged, before the snapshot")
        for head in self._heads():
            if self.position >= head:
                self.fail("P3", f"{what} before the `caught_up` of {head}")

    def _event(self, frame: Frame) -> None:
        seq: int = frame.get("seq", 0)
        self._nothing_else_first(f"event {seq}")
        if seq != self.position + 1:
            self.fail("P2", f"event {seq}; {self.position + 1} is next")
        if seq > self.ledger.cursor:
            self.fail("P1", f"event {seq} was never published")
        self._check_content(frame, seq)
        if self.version > 1 and seq in self.ledger.ends:
            self.fail("P3", f"event {seq} is superseded by {self.ledger.ends[seq]}; a skip is due")
        self.position = seq
        self.seen.append(frame["type"])

    def _check_content(self, frame: Frame, seq: int) -> None:
        expected = self._event_frame(seq)
        if frame != expected:
            self.fail("P1", f"event {seq} is sent as {frame}, not {expected}")

    def _skip(self, frame: Frame) -> None:
        first, last = frame.get("first", 0), frame.get("last", 0)
        what = f"skip {first} to {last}"
        self._nothing_else_first(what)
        gone = self.ledger.ends
        if self.version == 1 or frame.get("reason") != "superseded":
            self.fail("P3", f"{what}, reason {frame.get('reason')}")
        if not self.position + 1 == first <= last:
            self.fail("P2", f"{what}; {self.position + 1} is next")
        lost = [seq for seq in range(first, last + 1) if seq not in gone]
        if lost:
            self.fail("P3", f"{what}, but {lost} are not superseded")
        if last + 1 in gone or last >= self.ledger.cursor:
            self.fail("P3", f"{what}, but more is superseded, or nothing follows")
        self.position = last
        self.seen.append("skip")

    def _caught_up(self, frame: Frame) -> None:
        cursor, nonce = frame.get("cursor"), frame.get("nonce")
        if self.due is not None:
            self.fail("P3", f"caught up before the snapshot that is due, {self.due}")
        if self.version == 1 or cursor != self.position:
            self.fail("P6", f"caught up at {cursor}")
        if self.target is not None and nonce is None:
            if self.position < self.target:
                self.fail("P3", f"caught up short of {self.target}")
            self.target = None
        elif self.recovery is not None and nonce == self.recovery[1]:
            if self.position < self.recovery[0]:
                self.fail("P3", f"caught up short of {self.recovery[0]}, nonce {nonce}")
            self.recovery = None
        else:
            self.fail("P3", f"caught up, nonce {nonce}, which nobody waits for")
        self.seen.append("caught_up" if nonce is None else "caught_up after a recovery")

    # -- snapshots ----------------------------------------------------------------------------

    def _snapshot_v1(self, frame: Frame) -> Plain:
        if self.due is None:
            self.fail("P16", "a snapshot that nothing called for")
        state: Plain = frame["state"]
        cursor, self.seen = state.get("event_cursor", -1), [*self.seen, f"snapshot {self.due}"]
        self._cover(cursor)
        return state

    def _snapshot(self, frame: Frame) -> Plain | None:
        part = frame.get("part")
        if part in {None, 1}:
            self._begin_snapshot(frame)
        elif {**frame, "part": 1, "chunk": ""} != self.head or part != len(self.chunks) + 1:
            self.fail("P3", f"part {part} of a snapshot after {len(self.chunks)} others")
        if part is None:
            self._cover(frame["cursor"])
            state: Plain = frame["state"]
            return state
        self.chunks.append(frame["chunk"])
        if part < frame["parts"]:
            return None
        text, self.chunks = "".join(self.chunks), []
        self._cover(frame["cursor"])
        self.seen.append("snapshot in parts")
        whole: Plain = json.loads(text)
        return whole

    def _begin_snapshot(self, frame: Frame) -> None:
        reason, epoch = frame["reason"], frame["epoch"]
        if self.chunks:
            self.fail("P3", "a snapshot begins again")
        if self.due is None:
            self._check_lagged(reason)
            self.due, self.due_since, self.lagged_at = "lagged", self.position, None
        if reason != self.due:
            self.fail("P4", f"a snapshot for {reason}; due is {self.due}")
        if epoch != (self.session.epoch or epoch) or epoch in self.session.past:
            self.fail("P4", f"a snapshot of epoch {epoch}")
        # One that its welcome announced answers no recovery: it has begun by then, sent or not.
        answers = self.recovery is not None and self.announced is None
        nonce = self.recovery[1] if answers and self.recovery is not None else None
        if self.is_built and self.announced is None and frame["cursor"] < self.least:
            self.fail("P5", f"a snapshot as of {frame['cursor']}, before {self.least}")
        if frame.get("nonce") != nonce:
            self.fail("P3", f"a snapshot with the nonce {frame.get('nonce')}, not {nonce}")
        self.head = {**frame, "part": 1, "chunk": ""}
        self.seen.append(f"snapshot {reason}")

    def _check_lagged(self, reason: str) -> None:
        """A snapshot that nobody asked for is due only to one who lost its place."""
        if reason != "lagged" or self.lagged_at is None:
            self.fail("P16", f"a snapshot {reason} that nothing called for")
        if self.lagged_at != self.position:
            self.fail("P6", f"it is said to have lagged at {self.lagged_at}")
        if not (self.is_overrun or self.is_barred):
            self.fail("P16", "a snapshot `lagged`, though nothing is lost")

    @property
    def is_overrun(self) -> bool:
        """Whether something that it still needs is gone."""
        return self.position < self.ledger.oldest(self.version) - 1

    @property
    def is_barred(self) -> bool:
        """Whether the next frame is an event that is too large for this peer."""
        seq = self.position + 1
        if self.due is not None or seq > self.ledger.cursor or not self._is_sent(seq):
            return False
        if any(self.position >= head for head in self._heads()):
            return False
        return self._event_size(seq) > self.connection.limit

    def _event_size(self, seq: int) -> int:
        return len(compact(self._event_frame(seq)))

    def _event_frame(self, seq: int) -> Frame:
        if self.version == 1:
            return event_v1(seq, self.ledger.log[seq - 1])
        kind = "event" if seq > self.replay_until else "replay"
        return {"type": kind, "seq": seq, "event": self.ledger.objects[seq - 1]}

    @property
    def next_size(self) -> int | None:
        """The bytes of the frame that is owed next, where that is an event and may be sent."""
        seq = self.position + 1
        ready = self.due is None and not self.chunks and seq <= self.ledger.cursor
        if not ready or not self._is_sent(seq) or self.is_barred or self.is_overrun:
            return None
        return (
            None if any(self.position >= each for each in self._heads()) else self._event_size(seq)
        )

    def _is_sent(self, seq: int) -> bool:
        return self.version == 1 or seq not in self.ledger.ends

    def _heads(self) -> list[int]:
        attach = [] if self.target is None else [self.target]
        return attach if self.recovery is None else [*attach, self.recovery[0]]

    def _cover(self, cursor: int) -> None:
        # How old one of the application's may be was looked at when it began.
        least = 0 if self.is_built else max(self.due_since, self.position)
        if not least <= cursor <= self.ledger.cursor:
            self.fail("P6", f"a snapshot as of {cursor}, needed since {self.due_since}")
        if self.announced is not None and cursor != self.announced:
            self.fail("P6", f"a snapshot as of {cursor}; its welcome said {self.announced}")
        if self.is_built and cursor < self.ledger.cursor:
            self.seen.append("snapshot behind the head")
        self.position, self.due, self.announced, self.sent = cursor, None, None, 0

    # -- what the peer asks for ---------------------------------------------------------------

    @property
    def is_recovering(self) -> bool:
        """Whether a recovery that is asked for now is merged into what is under way."""
        return self.due is not None or self.recovery is not None or bool(self.chunks)

    def resume(self, frame: Frame) -> None:
        """A `resume`: granted, or answered by a snapshot for the table's reason."""
        self._ask(frame)
        self.replay_until = self.ledger.cursor
        if self.due is not None:
            return  # it yields to a snapshot that is under way
        epochs = (frame["epoch"],) if "epoch" in frame else ()
        known = Known(
            agent_id="",
            epoch=self.session.epoch or "",
            cursor=self.ledger.cursor,
            oldest_cursor=self.ledger.oldest(self.version),
        )
        asked = Asked(version=self.version, agent_id="", epochs=epochs, since=frame["since"])
        reason = resync_reason(asked, known)
        if reason is not None:
            self.due, self.due_since = reason, self.ledger.cursor
        else:
            self.sent = max(self.sent or 0, self.position)
            self.position = min(self.position, frame["since"])

    def resync(self, frame: Frame) -> None:
        """A `resync`."""
        self._ask(frame)
        if self.due is None:
            self.due, self.due_since = "requested", self.ledger.cursor

    def _ask(self, frame: Frame) -> None:
        self.recovery = (self.ledger.cursor, frame.get("nonce"))

    def change_epoch(self) -> None:
        """The session's numbering began anew."""
        self.chunks, self.announced, self.sent = [], None, None
        self.due, self.due_since = "epoch_changed", self.ledger.cursor

    # -- the end of a turn --------------------------------------------------------------------

    @property
    def owed(self) -> str | None:
        """What is still owed; None once everything up to the head was sent."""
        if self.due is not None:
            return f"a snapshot, {self.due}"
        if self.position != self.ledger.cursor:
            return f"what follows {self.position}"
        return f"a `caught_up` at {self._heads()}" if self._heads() else None

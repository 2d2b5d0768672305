"""What a session's clients must see, held to what the specification says by brute force."""

import json

from attrs import define, field

from gatewayproto.testing.reference import Ledger, compact, event_object, event_v1, fold
from tests.gateway.gwworld import Frame, Peer


@define(eq=False)
class Account:
    """One follower of a session, frame by frame: P1, P2, P3 and P5 as it goes.

    `owed_attach` is the head that its attach's `caught_up` waits for, `recovery` the head and the
    nonce of the latest `resume` or `resync` while that is unanswered.
    """

    peer: Peer
    ledger: Ledger
    version: int
    cursor: int
    epoch: str
    replay_until: int
    owed_attach: int | None
    due: str | None
    due_since: int = 0
    recovery: tuple[int, str] | None = None
    nonces: set[str] = field(factory=set)
    chunks: list[str] = field(factory=list)
    lagged_at: int | None = None
    seen: list[str] = field(factory=list)

    def take(self, frames: list[Frame], epoch: str, *, lagged_at: int | None) -> None:
        """Account for frames that were sent in one turn.

        `lagged_at` is where the gateway said that this follower lost its place.
        """
        self.lagged_at = lagged_at
        for frame in frames:
            kind = frame["type"]
            if kind in {"pong", "ping", "message_ack"}:
                continue
            if self.chunks:
                assert kind == "snapshot", "a snapshot in parts is interrupted"
            match kind:
                case "event" | "replay":
                    self._event(frame)
                case "skip":
                    self._skip(frame)
                case "caught_up":
                    self._caught_up(frame)
                case "snapshot" if self.version == 1:
                    self._snapshot_v1(frame)
                case "snapshot":
                    self._snapshot(frame, epoch)
                case _:
                    raise AssertionError(f"unexpected {frame}")
            self.seen.append(kind if kind != "snapshot" else f"snapshot {frame.get('reason')}")
        if self.lagged_at is not None:
            self._check_reason("lagged")
            self.due, self.due_since = "lagged", self.cursor

    def _nothing_else_first(self) -> None:
        """Nothing may go before a snapshot that is due, or a `caught_up` whose head is reached."""
        assert self.due is None, f"a frame before the snapshot {self.due}"
        assert self.lagged_at is None or self.cursor < self.lagged_at
        assert all(self.cursor < head for head in self._heads())

    def _event(self, frame: Frame) -> None:
        self._nothing_else_first()
        seq, event = frame["seq"], self.ledger.log[frame["seq"] - 1]
        assert seq == self.cursor + 1
        if self.version == 1:
            assert frame == event_v1(seq, event)
        else:
            live = seq > self.replay_until
            assert frame == {
                "type": "event" if live else "replay",
                "seq": seq,
                "event": event_object(event),
            }
            assert seq not in self.ledger.ends
        self.cursor = seq

    def _skip(self, frame: Frame) -> None:
        self._nothing_else_first()
        assert self.version == 2
        first, last = frame["first"], frame["last"]
        assert frame == {"type": "skip", "first": first, "last": last, "reason": "superseded"}
        assert first == self.cursor + 1 <= last
        gone = self.ledger.ends.keys()
        assert set(range(first, last + 1)) <= gone, "a skip names what was not superseded"
        assert last + 1 not in gone, "two skips where one would do"
        assert last < self.ledger.cursor
        self.cursor = last

    def _caught_up(self, frame: Frame) -> None:
        assert self.version == 2
        assert self.due is None
        assert frame["cursor"] == self.cursor
        nonce = frame.get("nonce")
        if nonce is None:
            assert self.owed_attach is not None, "a second `caught_up` for one attach"
            assert self.cursor >= self.owed_attach
            self.owed_attach = None
        else:
            assert self.recovery is not None
            assert (nonce, self.cursor >= self.recovery[0]) == (self.recovery[1], True)
            self.recovery = None

    def _snapshot_v1(self, frame: Frame) -> None:
        assert self.due is not None
        state = dict(frame["state"])
        assert state.pop("agent_id") == "agent"
        assert state.pop("session_id") == self.peer.welcome["session_id"]
        cursor = state.pop("event_cursor")
        if state.pop("truncated", False):
            messages = fold(self.ledger.log[:cursor])["messages"]
            shed = len(messages) - len(state["messages"])
            restored = {**frame["state"], "messages": messages[shed - 1 :]}
            assert len(compact({**frame, "state": restored})) > self.peer.limit
            state["messages"] = messages[:shed] + state["messages"]
            self.seen.append("shed")
        self._covered(cursor, state)

    def _snapshot(self, frame: Frame, epoch: str) -> None:
        part = frame.get("part")
        if part in {None, 1}:
            self.chunks = []
            self._check_reason(frame["reason"])
            if self.due is None:
                self.due, self.due_since = frame["reason"], self.cursor
        assert (frame["epoch"], frame["reason"]) == (epoch, self.due)
        assert frame.get("nonce") in {None, *self.nonces}
        if part is None:
            state = frame["state"]
        else:
            assert part == len(self.chunks) + 1
            self.chunks.append(frame["chunk"])
            self.seen.append("part")
            assert "state" not in frame
            if part < frame["parts"]:
                return
            state = json.loads("".join(self.chunks))
            self.chunks = []
        self.epoch = epoch
        self._covered(frame["cursor"], state)

    def _check_reason(self, reason: str) -> None:
        if self.due is not None:
            assert reason == self.due
            return
        assert (reason, self.lagged_at) == ("lagged", self.cursor)
        overrun = self.cursor < self.ledger.oldest(self.version) - 1
        assert overrun or self._is_barred(), "a snapshot that nothing called for"
        self.lagged_at = None

    def _is_barred(self) -> bool:
        """Whether the next frame is an event that is too large for this peer."""
        seq = self.cursor + 1
        if self.due is not None or seq > self.ledger.cursor or seq in self.ledger.ends:
            return False
        if any(self.cursor >= head for head in self._heads()):
            return False
        event = event_object(self.ledger.log[seq - 1])
        kind = "replay" if seq <= self.replay_until else "event"
        return len(compact({"type": kind, "seq": seq, "event": event})) > self.peer.limit

    def _heads(self) -> list[int]:
        attach = [] if self.owed_attach is None else [self.owed_attach]
        return attach if self.recovery is None else [*attach, self.recovery[0]]

    def _covered(self, cursor: int, state: Frame) -> None:
        assert self.due_since <= cursor <= self.ledger.cursor
        assert cursor >= self.cursor
        assert state == fold(self.ledger.log[:cursor])
        self.cursor, self.due = cursor, None

    # -- what the peer asks for ---------------------------------------------------------------

    def resumed(self, nonce: str, since: int, reason: str | None) -> None:
        """A `resume`; `reason` is the decision table's, where it cannot be granted."""
        self._asked(nonce)
        self.replay_until = self.ledger.cursor
        if self.due is not None:
            return  # it yields to a snapshot that is under way
        if reason is not None:
            self.due, self.due_since = reason, self.ledger.cursor
        else:
            self.cursor = min(self.cursor, since)

    def resynced(self, nonce: str) -> None:
        """A `resync`."""
        self._asked(nonce)
        if self.due is None:
            self.due, self.due_since = "requested", self.ledger.cursor

    def _asked(self, nonce: str) -> None:
        self.nonces.add(nonce)
        self.recovery = (self.ledger.cursor, nonce)

    def new_epoch(self) -> None:
        self.chunks = []
        self.due, self.due_since = "epoch_changed", self.ledger.cursor

    def is_ready(self) -> bool:
        """Whether everything up to the head was sent."""
        nothing_owed = self.due is None and not self._heads()
        return self.cursor == self.ledger.cursor and nothing_owed

    def settled(self) -> None:
        """The transport took everything: nothing may be owed any more (P3)."""
        assert self.cursor == self.ledger.cursor
        assert self.due is None
        assert self.owed_attach is None
        assert self.recovery is None

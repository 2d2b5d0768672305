"""What a gateway must send to those who follow a session, frame by frame.

Spec: Delivery; Snapshots; Lagging; Recovery in band; Version 1.
"""

import json
from typing import Final

from attrs import define

from gatewayproto.actions import SubscriberLagged
from gatewayproto.frames import Event
from gatewayproto.testing.any_peer._client_known import ANY
from gatewayproto.testing.any_peer._gateway_book import Asked, Peer, Session
from gatewayproto.testing.any_peer._gateway_pushes import PushBook
from gatewayproto.testing.reference import (
    Asked as Question,
)
from gatewayproto.testing.reference import (
    Decided,
    Known,
    Plain,
    compact,
    event_object,
    event_v1,
    resync_reason,
)
from gatewayproto.testing.steps import Violation

METHODS: Final = {
    1: {"hello", "join", "message", "abort", "ping", "pong", "leave"},
    2: {
        *("hello", "join", "message", "abort", "ping", "pong", "leave"),
        *("resume", "resync", "auth"),
    },
}
EVENTS: Final = {
    1: {"hello_ok", "joined", "replay", "snapshot", "response", "error", "ping", "pong"},
    2: {
        *("hello_ok", "joined", "hello_error", "error", "replay", "event", "skip", "caught_up"),
        *("snapshot", "message_ack", "message_nack", "ping", "pong", "going_away"),
    },
}
PUSHES: Final = {"presence", "health"}
SKIPPABLE: Final = ("presence", "health", "features")


@define
class _Owed:
    """The next frame that is owed, and where delivery stands once it was sent."""

    frame: Plain
    position: int
    ends: str = ""


class DeliveryBook(PushBook):
    """What followers must be sent."""

    def known(self, session: Session, version: int) -> Known:
        """A session as the decision table sees it."""
        return Known(
            agent_id=session.agent_id,
            epoch=session.epoch,
            cursor=session.cursor,
            oldest_cursor=session.ledger.oldest(version),
        )

    # -- the welcome --------------------------------------------------------------------------

    def attach(self, peer: Peer, asked: Asked, decided: Decided, session: Session) -> None:
        """Follow a session from where the decision says; the welcome and what it announces."""
        head, snapshot = session.cursor, decided.resumed and decided.reason is not None
        peer.state, peer.session, peer.version = "live", session, asked.version
        peer.max_payload, peer.replay_until = asked.max_payload, head
        peer.position = asked.since if decided.resumed else 0
        peer.attach_target = None if asked.version == 1 else head
        peer.due = (str(decided.reason), None) if snapshot else None
        keeps = not decided.resumed or decided.reason in {None, "trimmed", "requested"}
        peer.sent, peer.due_least = 0 if keeps else None, 0
        peer.recovery, peer.lags = None, []
        peer.whole, peer.part, peer.blocked_at = None, 0, None
        peer.sign = peer.pinged = self.now
        if not session.sealed:
            session.expires = None
        session.presence_version += 1
        session.presence[peer.number] = {
            "client_id": peer.client_id,
            "agent_id": session.agent_id,
            "connected_at": peer.timestamp,
            **({} if asked.about is None else {"client": asked.about}),
        }
        self.plan(session)
        self.witnessed.add(f"welcome: {decided.reason}" if decided.resumed else "welcome: new")
        at_once = peer.outstanding == 0
        self._send_welcome(peer, asked, decided, session)
        state = session.state(self._least(peer, session)) if snapshot else None
        if peer.number in self.peers and state is not None:
            self._begin_snapshot(peer, session, state)
            if at_once:
                self._send_part(peer, at_once=True)
        held, peer.held, peer.asked = peer.held, [], None
        for frame in held:
            self.answer(peer, frame)
        self.pump(peer)

    def _send_welcome(self, peer: Peer, asked: Asked, decided: Decided, session: Session) -> None:
        config, hello, head = self.config, asked.kind == "hello", session.cursor
        entries = list(session.presence.values())
        pushes = PUSHES if config.push_interval is not None and asked.version > 1 else set()
        fields: Plain = {
            "type": "hello_ok" if hello else "joined",
            "session_id": session.session_id,
            "agent_id": session.agent_id,
            "protocol": asked.version if hello else None,
            "protocol_version": asked.version,
            "server_min_version": config.versions.minimum,
            "server_max_version": config.versions.maximum,
            "resumed": decided.resumed,
            "epoch": session.epoch,
            "cursor": head,
            "oldest_cursor": session.ledger.oldest(asked.version),
            "resync_required": decided.reason is not None,
            "resync_reason": decided.reason,
            "sequence": decided.sequence,
            "presence": entries if len(entries) <= config.presence_max else None,
            "presence_count": len(entries),
            "presence_version": session.presence_version,
            "health": self.health,
            "health_version": self.health_version,
            "features": {
                "methods": sorted(METHODS[asked.version]),
                "events": sorted(EVENTS[asked.version] | pushes),
            },
            "policy": {
                "max_payload": config.max_payload,
                "heartbeat_ms": round(config.heartbeat * 1000),
                "resume_window_ms": round(config.resume_window * 1000),
                "request_ttl_ms": round(config.request_ttl * 1000),
                "max_pending_requests": config.max_pending_requests,
            },
        }
        if asked.version == 1:
            fields["session_id"] = f"{session.session_id}.{session.epoch}"
            fields["epoch"], fields["head"] = None, head
            adopted = {None: decided.sequence, "trimmed": asked.since}
            fields["cursor"] = adopted.get(decided.reason, 0)
        fields = {name: value for name, value in fields.items() if value is not None}
        for name in SKIPPABLE:
            if len(compact(fields)) > asked.max_payload:
                self.witnessed.add(f"welcome without {name}")
                fields.pop(name, None)
        self.begin_pushes(peer, listed="presence" in fields)
        self._see_welcome(peer, fields)
        self.answer(peer, fields, "P4")

    def _see_welcome(self, peer: Peer, expected: Plain) -> None:
        """The order of what is taken and sent says nothing."""
        data = self.next_frame(peer)
        said = None if data is None else json.loads(data).get("features")
        if said is not None and "features" in expected:
            plain = {name: sorted(words) for name, words in said.items()}
            if plain == expected["features"]:
                expected["features"] = said

    # -- what is asked for in band ------------------------------------------------------------

    def resume(self, peer: Peer, epoch: str | None, since: int, nonce: str | None) -> None:
        """Back to `since`, if that can be; merged into what is under way."""
        session = self._session(peer)
        question = Question(
            version=2,
            agent_id=session.agent_id,
            epochs=() if epoch is None else (epoch,),
            since=since,
        )
        reason = resync_reason(question, self.known(session, 2))
        under_way = peer.due is not None or peer.whole is not None
        self.witnessed.add("resume merged" if peer.recovery or under_way else f"resume: {reason}")
        peer.recovery = session.cursor, nonce
        peer.replay_until = session.cursor
        if peer.due is not None:
            peer.due = peer.due[0], nonce
        elif peer.whole is None and reason is not None:
            peer.due, peer.due_least = (reason, nonce), 0
        elif peer.whole is None:
            peer.sent = max(peer.sent or 0, peer.position)
            peer.position = min(peer.position, since)
        self.pump(peer)

    def resync(self, peer: Peer, nonce: str | None) -> None:
        """A snapshot; merged into one that is under way."""
        session = self._session(peer)
        self.witnessed.add("resync merged" if peer.due or peer.whole else "resync")
        peer.recovery = session.cursor, nonce
        if peer.due is not None:
            peer.due = peer.due[0], nonce
        elif peer.whole is None:
            peer.due, peer.due_least = ("requested", nonce), 0
        self.pump(peer)

    def change_epoch(self, peer: Peer) -> None:
        """The numbering has begun anew."""
        if peer.version == 1:
            self.close_with(peer, 1012)
            return
        self.witnessed.add("epoch changed in parts" if peer.whole else "epoch changed")
        peer.whole, peer.part, peer.blocked_at = None, 0, None
        peer.due = "epoch_changed", peer.recovery[1] if peer.recovery else None
        peer.sent, peer.due_least = None, 0
        self.pump(peer)

    # -- what is published --------------------------------------------------------------------

    def publish(self, session: Session, event: Event) -> None:
        """Whoever is at the head gets it at once."""
        session.ledger.append(event)
        session.fold.apply(session.cursor, event)
        if event.expects_reply:
            session.ask(event.event_id)
        behind = []
        for number in session.presence:
            peer = self.peers[number]
            if not peer.is_ready:
                self.witnessed.add("published to one who lags")
                continue
            frame = self._event_frame(peer, session.cursor, live=True)
            size = len(compact(frame))
            if size <= peer.max_payload and self.has_room(peer, size):
                self.charge(peer, len(self.take(peer, frame)))
                peer.position = session.cursor
            else:
                behind.append(peer)
        for peer in behind:
            peer.is_ready = False
            self.pump(peer)
        session.ledger.trim()

    def _event_frame(self, peer: Peer, seq: int, *, live: bool = False) -> Plain:
        event = self._session(peer).ledger.log[seq - 1]
        if peer.version == 1:
            return event_v1(seq, event)
        kind = "event" if live or seq > peer.replay_until else "replay"
        return {"type": kind, "seq": seq, "event": event_object(event)}

    # -- delivery -----------------------------------------------------------------------------

    def pump(self, peer: Peer) -> None:
        """Everything that is owed must go, as far as there is room."""
        while peer.number in self.peers:
            session = self._session(peer)
            under_way = peer.due is not None or peer.whole is not None
            if not under_way and peer.position < session.ledger.oldest(peer.version) - 1:
                self._lag(peer)
            elif peer.whole is not None:
                if not self._send_part(peer):
                    break
            elif peer.due is not None:
                if not self._try_snapshot(peer, session):
                    break
            elif not self._send_next(peer, session):
                break
        if peer.number in self.peers:
            peer.is_ready = self._is_at_head(peer)
            if peer.is_ready and self._session(peer).sealed:
                self.witnessed.add("finished in a closed session")
                self.close(peer, "session_closed")
            elif peer.is_ready:
                self.catch_up(peer)

    def _is_at_head(self, peer: Peer) -> bool:
        owed = peer.due, peer.attach_target, peer.recovery
        at_head = peer.position == self._session(peer).cursor
        return at_head and peer.whole is None and owed == (None, None, None)

    def _lag(self, peer: Peer) -> None:
        config, session = self.config, self._session(peer)
        self.tell(
            SubscriberLagged(
                connection=peer.number, session_id=session.session_id, position=peer.position
            )
        )
        peer.lags = [at for at in peer.lags if at + config.lag_period > self.now]
        if peer.version == 1 or len(peer.lags) >= config.max_lags:
            self.close(peer, "slow_consumer")
            return
        peer.lags.append(self.now)
        peer.due = "lagged", peer.recovery[1] if peer.recovery else None
        peer.due_least = peer.position + 1

    def _send_next(self, peer: Peer, session: Session) -> bool:
        """Whether the next frame that is owed went, or something else came of it."""
        owed = self._next(peer, session)
        if owed is None:
            return False
        size = len(compact(owed.frame))
        if size > peer.max_payload:
            self.witnessed.add("an event too large for its client")
            if peer.version == 1:
                self.close(peer, "payload_too_large")
            else:
                self._lag(peer)
            return True
        if not self.has_room(peer, size):
            self.witnessed.add(f"{owed.frame['type']} waits for room")
            return False
        self.charge(peer, len(self.take(peer, owed.frame)))
        peer.position = owed.position
        if owed.ends == "attach":
            peer.attach_target = None
        elif owed.ends == "recovery":
            peer.recovery = None
        return True

    def _next(self, peer: Peer, session: Session) -> _Owed | None:
        if peer.attach_target is not None and peer.position >= peer.attach_target:
            return _Owed({"type": "caught_up", "cursor": peer.position}, peer.position, "attach")
        if peer.recovery is not None and peer.position >= peer.recovery[0]:
            frame: Plain = {"type": "caught_up", "cursor": peer.position}
            if peer.recovery[1] is not None:
                frame["nonce"] = peer.recovery[1]
            return _Owed(frame, peer.position, "recovery")
        ledger = session.ledger
        ahead = (
            seq
            for seq in ledger.kept
            if seq > peer.position and (peer.version == 1 or seq not in ledger.ends)
        )
        seq = next(ahead, None)
        if seq is None:
            return None
        first, last = peer.position + 1, seq - 1
        if last >= first:
            skip = {"type": "skip", "first": first, "last": last, "reason": "superseded"}
            return _Owed(skip, last)
        return _Owed(self._event_frame(peer, seq), seq)

    # -- snapshots ----------------------------------------------------------------------------

    def has_room_for_state(self, peer: Peer, session: Session) -> bool:
        """Whether there is room for what the last state took."""
        size = session.state_size
        if size == 0 and not session.builds:
            size = len(session.body())
        return self.has_room(peer, min(size, peer.max_payload))

    def waits(self, peer: Peer, session: Session) -> bool:
        """Whether all that it lacks is a state that the application has to build."""
        due = peer.due is not None and self.has_room_for_state(peer, session)
        return due and session.state(self._least(peer, session)) is None

    def _try_snapshot(self, peer: Peer, session: Session) -> bool:
        """Whether it begins: with room for it, and with a state that it may have."""
        has_room = self.has_room_for_state(peer, session)
        state = session.state(self._least(peer, session)) if has_room else None
        if has_room and state is None:
            self.witnessed.add("a snapshot waits for its state")
            self.want(session)
        elif state is not None and self._has_room_for_snapshot(peer, session, state):
            self._begin_snapshot(peer, session, state)
            return True
        else:
            self.witnessed.add("a snapshot waits for room")
        return False

    def _least(self, peer: Peer, session: Session) -> int:
        """How new a state must be: the journal goes on from it, and it takes nobody back."""
        least = max(session.ledger.oldest(peer.version) - 1, peer.due_least)
        return least if peer.sent is None else max(least, peer.sent, peer.position)

    def _has_room_for_snapshot(
        self, peer: Peer, session: Session, state: tuple[int, Plain]
    ) -> bool:
        """Whether there is room for its first frame."""
        whole = self._snapshot(peer, session, state)
        if whole is None or len(compact(whole)) <= peer.max_payload:
            return whole is None or self.has_room(peer, len(compact(whole)))
        return self._sees_part(peer)

    def _snapshot(self, peer: Peer, session: Session, state: tuple[int, Plain]) -> Plain | None:
        """The snapshot in one frame, whatever it takes; None where version 1 has none that fits."""
        assert peer.due is not None
        reason, nonce = peer.due
        cursor, plain = state
        if peer.version == 1:
            return self._snapshot_v1(peer, session, cursor, plain)
        frame = {
            "type": "snapshot",
            "cursor": cursor,
            "epoch": session.epoch,
            "reason": reason,
            "nonce": nonce,
            "state": plain,
        }
        return {name: value for name, value in frame.items() if value is not None}

    def _begin_snapshot(self, peer: Peer, session: Session, state: tuple[int, Plain]) -> None:
        """The state as of one cursor; from here on that is where delivery stands."""
        assert peer.due is not None
        frame = self._snapshot(peer, session, state)
        self.witnessed.add(f"snapshot: {peer.due[0]}")
        peer.due, peer.part, peer.gathered, peer.sent = None, 0, "", 0
        if frame is None:
            self.close(peer, "payload_too_large")
            return
        peer.whole, peer.position = frame, state[0]

    def _snapshot_v1(self, peer: Peer, session: Session, cursor: int, state: Plain) -> Plain | None:
        """The snapshot with as many of its newest messages as fit."""
        state = {
            **state,
            "event_cursor": cursor,
            "session_id": f"{session.session_id}.{session.epoch}",
            "agent_id": session.agent_id,
        }
        messages = list(state.get("messages", ()))
        for count in range(len(messages) + 1):
            if count:
                state = {**state, "messages": messages[count:], "truncated": True}
                self.witnessed.add("a snapshot is shed")
            frame = {"type": "snapshot", "state": state}
            if len(compact(frame)) <= peer.max_payload:
                return frame
        return None

    def _send_part(self, peer: Peer, *, at_once: bool = False) -> bool:
        """Whether a snapshot, or its next part, went; how a text is cut is the gateway's choice.

        `at_once`: whatever room there is.
        """
        if peer.whole is None:
            return False
        size = len(compact(peer.whole))
        if size <= peer.max_payload:
            if not at_once and not self.has_room(peer, size):
                self.witnessed.add("a snapshot waits for room")
                return False
            self.charge(peer, len(self.take(peer, peer.whole, "P5")))
            peer.whole = None
            return True
        if not self._sees_part(peer):
            return False
        self._take_part(peer, at_once=at_once)
        return True

    def _sees_part(self, peer: Peer) -> bool:
        """Whether the next frame is a part; if it is not, something must be in its way."""
        data = self.next_frame(peer)
        if data is not None and json.loads(data)["type"] == "snapshot":
            return True
        if peer.outstanding == 0:
            raise Violation("P3", f"#{peer.number} waits for a part with nothing in its way")
        least = peer.outstanding if peer.blocked_at is None else peer.blocked_at
        peer.blocked_at = min(least, peer.outstanding)
        self.witnessed.add("a part waits for room")
        return False

    def _take_part(self, peer: Peer, *, at_once: bool) -> None:
        assert peer.whole is not None
        state = peer.whole["state"]
        data = self.next_frame(peer) or b"{}"
        said, size = json.loads(data), len(data)
        if not at_once and not self.has_room(peer, size):
            raise Violation("P9", f"a part to #{peer.number} goes without room for it")
        blocked, peer.blocked_at = peer.blocked_at, None
        if blocked is not None and blocked + size <= self.config.send_window:
            raise Violation("P3", f"a part to #{peer.number} waited while there was room for it")
        peer.part += 1
        peer.parts = said.get("parts") if peer.part == 1 else peer.parts
        fields = {name: value for name, value in peer.whole.items() if name != "state"}
        expected = {**fields, "part": peer.part, "parts": peer.parts, "chunk": ANY}
        self.take(peer, expected, "P5")
        self.charge(peer, size)
        peer.gathered += str(said.get("chunk"))
        self.witnessed.add("a part")
        if peer.part == peer.parts:
            if json.loads(peer.gathered) != state:
                raise Violation("P5", f"the parts to #{peer.number} are not the state")
            peer.whole = None

    def _session(self, peer: Peer) -> Session:
        assert peer.session is not None
        return peer.session

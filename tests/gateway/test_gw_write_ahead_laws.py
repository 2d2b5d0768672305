"""Writing ahead, by every interleaving: what anybody saw is stored, and a crash takes none of it.

The store here is a list of records for each session, confirmed from the front, as late as it
likes. What it holds is read by the record's kinds alone; nothing of the package reads it.
"""

import json
from collections import Counter, defaultdict
from typing import Any

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gatewayproto import Gateway, LocalProtocolError
from gatewayproto.actions import MessageReceived, Published, SessionExpired, SessionOpened
from gatewayproto.inputs import ChangeEpoch, Complete, FrameReceived, Persisted
from tests.gateway.gwworld import Frame, Peer, World, encode, handshake

REQUESTS = ("r1", "r2", "r3", "r4")


@define
class Held:
    """What a prefix of a session's records holds."""

    epochs: list[str] = field(factory=list)
    events: list[Frame] = field(factory=list)
    requests: dict[str, int] = field(factory=dict)
    messages: list[int] = field(factory=list)
    done: list[int] = field(factory=list)
    replied: set[str] = field(factory=set)
    expired: bool = False

    @classmethod
    def of(cls, records: list[Frame]) -> "Held":
        held = cls()
        for record in records:
            match record["kind"]:
                case "opened" | "epoch":
                    held.epochs.append(record["epoch"])
                case "event":
                    held.events.append(json.loads(record["event"]))
                    assert len(held.events) == record["seq"]
                case "message":
                    message = record["message"]
                    held.messages.append(record["message_id"])
                    if "request_id" in message:
                        held.requests[message["request_id"]] = record["message_id"]
                    held.replied.add(message.get("reply_to"))
                case "complete":
                    held.done.append(record["message_id"])
                case "session":
                    held.epochs.append(record["epoch"])
                case kind:
                    assert kind == "expired"
                    held.expired = True
        return held

    @property
    def pending(self) -> list[int]:
        return [each for each in self.messages if each not in self.done]


class WriteAhead(RuleBasedStateMachine):
    """Clients, an application and a store around one gateway, and what the clients saw."""

    def __init__(self) -> None:
        super().__init__()
        self.confirmed: Counter[str] = Counter()
        self.given: defaultdict[str, list[Frame]] = defaultdict(list)
        self.crashes = 0
        self.taken = 0
        self.heard = 0
        self.seen: dict[tuple[str, str, int], Frame] = {}
        self.last_seen: dict[tuple[str, str], int] = {}
        self.told: list[str] = []
        self.ran: Counter[tuple[str, int]] = Counter()
        self.received: dict[str, list[int]] = defaultdict(list)
        self.questions: list[tuple[str, str]] = []
        self.checked: dict[int, int] = {}
        self.offered: dict[int, str | None] = {}
        self.epochs: dict[int, str] = {}

    @initialize(every=st.integers(1, 6), unstored=st.integers(2, 12))
    def start(self, every: int, unstored: int) -> None:
        self.world = World.make(
            write_ahead=True, checkpoint_every=every, max_unstored=unstored, max_sessions=3
        )
        self.world.late = True
        self.join(0, 2, 0)
        self.seen_by_now()
        self.persist_all()

    # -- what is done -------------------------------------------------------------------------

    @rule(session=st.integers(0, 3), version=st.sampled_from((1, 2, 2)), back=st.integers(0, 2))
    def join(self, session: int, version: int, back: int) -> None:
        """A new client, or one that comes back with what it saw last, or somewhat less."""
        fields: Frame = {}
        if session < 3 and self.told:
            session_id = self.told[session % len(self.told)]
            epochs = [epoch for each, epoch in self.last_seen if each == session_id]
            fields["session_id"] = session_id
            if epochs:
                since = max(0, self.last_seen[session_id, epochs[-1]] - back)
                fields.update(epoch=epochs[-1], since=since)
        peer = self.world.open()
        self.offered[peer.number] = fields.get("epoch")
        hello = handshake("hello", version, **fields)
        self.world.give(FrameReceived(peer.number, encode(hello)))
        self.world.accept(peer)

    @rule(session=st.integers(0, 2), kind=st.sampled_from(("note", "ask", "token", "final")))
    def publish(self, session: int, kind: str) -> None:
        session_id = self.session(session)
        made = self.world.events_made = self.world.events_made + 1
        fields: Frame = {}
        if kind == "ask":
            fields["expects_reply"] = True
            self.questions.append((session_id, f"e{made}"))
        if kind in {"token", "final"}:
            fields.update(run_id="run", transient=kind == "token" or None)
            fields["final"] = kind == "final" or None
        self.attempt(lambda: self.world.publish(session_id, kind, **fields))

    @rule(
        peer=st.integers(0, 9),
        request=st.integers(0, 6),
        other=st.sampled_from((False, False, True)),
    )
    def say(self, peer: int, request: int, other: bool) -> None:
        sender = self.live(peer)
        if sender is None:
            return
        request_id = REQUESTS[request] if request < len(REQUESTS) else None
        fields: Frame = {"content": "other" if other else "hi"}
        asked = [event for each, event in self.questions if each == sender.session_id]
        if request == 5 and asked:
            request_id, fields["reply_to"] = f"answer {peer}", asked[-1]
        if request_id is not None:
            fields["request_id"] = request_id
        self.feed(sender, {"type": "message", **fields})

    @rule(peer=st.integers(0, 9), kind=st.sampled_from(("resync", "ping", "leave")))
    def ask(self, peer: int, kind: str) -> None:
        sender = self.live(peer)
        if sender is not None:
            self.feed(sender, {"type": kind})

    @rule(session=st.integers(0, 2))
    def complete(self, session: int) -> None:
        session_id = self.session(session)
        pending = self.world.gateway.pending(session_id)
        if pending:
            self.world.give(Complete(session_id=session_id, message_id=pending[0].message_id))

    @rule(session=st.integers(0, 2))
    def change_epoch(self, session: int) -> None:
        session_id = self.session(session)
        self.attempt(lambda: self.world.give(ChangeEpoch(session_id=session_id)))

    @rule(session=st.integers(0, 9), count=st.integers(1, 9))
    def persist(self, session: int, count: int) -> None:
        """The store confirms some of what it was given, of one session."""
        behind = [each for each in self.given if self.confirmed[each] < len(self.given[each])]
        if behind:
            session_id = behind[session % len(behind)]
            number = min(self.confirmed[session_id] + count, len(self.given[session_id]))
            self.confirmed[session_id] = number
            self.world.give(Persisted(session_id=session_id, number=number))

    @rule()
    def persist_all(self) -> None:
        """The store has caught up."""
        for session_id, records in self.given.items():
            if self.confirmed[session_id] < len(records):
                self.confirmed[session_id] = len(records)
                self.world.give(Persisted(session_id=session_id, number=len(records)))

    @rule(peer=st.integers(0, 9))
    def cut(self, peer: int) -> None:
        open_ = [each for each in self.world.peers.values() if not each.closed]
        if open_:
            open_[peer % len(open_)].cut()

    @rule(seconds=st.sampled_from((1.0, 1.0, 40.0, 400.0)))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def move(self) -> None:
        self.world.restore()

    @precondition(lambda self: self.world.events_made > 2 * self.crashes)
    @rule(lost=st.lists(st.integers(0, 5), min_size=3), unbroken=st.booleans(), slim=st.booleans())
    def crash(self, lost: list[int], unbroken: bool, slim: bool) -> None:
        """The process is gone, and of each session a tail that was not confirmed.

        A `slim` store keeps no record that is superseded.
        """
        self.crashes += 1
        stored = []
        for at, (session_id, records) in enumerate(self.given.items()):
            kept = max(self.confirmed[session_id], len(records) - lost[at % len(lost)])
            del records[kept:]
            self.confirmed[session_id] = kept
            whole = [n for n, record in enumerate(records) if record["kind"] == "session"]
            first = whole[-1] if slim and whole else 0
            stored += [
                (session_id, number, record)
                for number, record in enumerate(records, start=1)
                if number > first
            ]
        world = self.world
        world.gateway = Gateway.recover_stored(
            world.config, stored, now=world.now, unbroken=unbroken, ids=world.ids
        )
        for peer in world.peers.values():
            peer.code = -1
        world.heard = len(world.events)
        self.received.clear()
        self.check_recovered(unbroken)

    # -- help ---------------------------------------------------------------------------------

    def session(self, at: int) -> str:
        """A session of the gateway, or one that is not there."""
        ids = self.world.gateway.session_ids
        return ids[at % len(ids)] if ids else "gone"

    def live(self, at: int) -> Peer | None:
        live = [each for each in self.world.peers.values() if each.welcome and not each.closed]
        return live[at % len(live)] if live else None

    def feed(self, peer: Peer, frame: Frame) -> None:
        self.world.give(FrameReceived(peer.number, encode(frame)))

    def attempt(self, act: Any) -> None:
        """What is refused for want of room changes nothing."""
        before = self.world.state()
        refused = ""
        try:
            act()
        except LocalProtocolError as error:
            refused = str(error)
        if refused:
            assert "wait to be stored" in refused
            assert self.world.state() == before

    def held(self, session_id: str) -> Held:
        """What the store has confirmed."""
        return Held.of(self.given[session_id][: self.confirmed[session_id]])

    # -- the laws -----------------------------------------------------------------------------

    @invariant()
    def seen_by_now(self) -> None:
        """Records are numbered without holes; whatever was seen is stored."""
        for each in self.world.records[self.taken :]:
            self.given[each.session_id].append(json.loads(json.dumps(each.record)))
            assert each.number == len(self.given[each.session_id])
        self.taken = len(self.world.records)
        for peer in self.world.peers.values():
            for frame in peer.frames[self.checked.get(peer.number, 0) :]:
                self.see(peer, frame)
            self.checked[peer.number] = len(peer.frames)
        for event in self.world.events[self.heard :]:
            self.hear(event)
        self.heard = len(self.world.events)

    def see(self, peer: Peer, frame: Frame) -> None:
        kind = frame["type"]
        if kind in {"hello_error", "error"}:
            return
        session_id, epoch = self.place(peer, frame)
        held = self.held(session_id)
        assert epoch in held.epochs, "an epoch that a crash would take back"
        match kind:
            case "hello_ok":
                assert frame["head" if "head" in frame else "cursor"] <= len(held.events)
                if frame["resumed"]:
                    self.see_decision(frame, self.offered[peer.number], held)
                if session_id not in self.told:
                    self.told.append(session_id)
                self.last_seen.setdefault((session_id, epoch), 0)
            case "event" | "replay":
                self.see_event(session_id, epoch, frame, held)
            case "snapshot":
                cursor = frame["cursor"] if "cursor" in frame else frame["state"]["event_cursor"]
                assert cursor <= len(held.events)
                self.last_seen[session_id, epoch] = cursor
            case "skip":
                assert frame["last"] <= len(held.events)
            case "ping" | "caught_up":
                assert frame.get("cursor", 0) <= len(held.events)
            case "message_ack" | "response":
                assert frame["request_id"] in held.requests
            case "message_nack" if frame["code"] == "request_conflict":
                assert frame["request_id"] in held.requests
            case "message_nack" if frame["code"] == "already_answered":
                assert held.replied - {None}
            case _:
                assert kind in {"message_nack", "pong", "presence", "health"}

    def see_decision(self, welcome: Frame, offered: str | None, held: Held) -> None:
        """Nothing that a client saw is ever ahead of the session, or of another epoch for it."""
        changed = offered is not None and offered != held.epochs[-1]
        assert welcome.get("resync_reason") == ("epoch_changed" if changed else None)

    def place(self, peer: Peer, frame: Frame) -> tuple[str, str]:
        """Where a client stands: the session and the epoch that it was told of."""
        if frame["type"] == "hello_ok":
            in_id = str(frame["session_id"]).partition(".")[2]
            self.epochs[peer.number] = frame.get("epoch", in_id)
        elif frame["type"] == "snapshot" and "epoch" in frame:
            self.epochs[peer.number] = frame["epoch"]
        return peer.session_id, self.epochs[peer.number]

    def see_event(self, session_id: str, epoch: str, frame: Frame, held: Held) -> None:
        seq, event = frame["seq"], frame["event"]
        assert seq <= len(held.events), "an event that a crash would take back"
        assert event["event_id"] == held.events[seq - 1]["event_id"]
        known = self.seen.setdefault((session_id, epoch, seq), event["event_id"])
        assert known == event["event_id"], "a seq that was another event's"
        self.last_seen[session_id, epoch] = max(self.last_seen[session_id, epoch], seq)

    def hear(self, event: object) -> None:
        match event:
            case MessageReceived(session_id=session_id, message_id=message_id):
                held = self.held(session_id)
                assert message_id in held.messages, "work on what a crash would take back"
                self.ran[session_id, message_id] += 1
                assert self.ran[session_id, message_id] == 1, "a message that is taken twice"
                self.received[session_id].append(message_id)
            case SessionOpened(session_id=session_id):
                assert self.confirmed[session_id] > 0
            case SessionExpired(session_id=session_id):
                assert self.held(session_id).expired
            case Published(session_id=session_id, seq=seq):
                assert seq <= len(Held.of(self.given[session_id]).events)
            case _:
                pass

    def check_recovered(self, unbroken: bool) -> None:
        """What was recovered is what the records hold, which is no less than anybody saw."""
        for session_id in self.given:
            held = self.held(session_id)
            info = self.world.gateway.session(session_id)
            if held.expired or not held.epochs:
                assert info is None
                continue
            assert info is not None
            assert info.cursor == len(held.events)
            assert (info.epoch == held.epochs[-1]) is unbroken
            pending = [each.message_id for each in self.world.gateway.pending(session_id)]
            assert pending == held.pending
            for each in pending:
                self.ran[session_id, each] = 1
        for (session_id, _), seq in self.last_seen.items():
            held = self.held(session_id)
            assert held.expired or seq <= len(held.events)


def test_what_anybody_saw_is_stored_and_a_crash_takes_none_of_it() -> None:
    run_state_machine_as_test(
        WriteAhead, settings=settings(max_examples=60, stateful_step_count=50)
    )

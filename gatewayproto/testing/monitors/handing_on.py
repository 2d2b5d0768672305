"""P1, P2, P3 and P6 at a client: what it hands on is what it was sent, in order, with no hole.

Spec: The client's side (position, events and gaps).
"""

import json
from collections import Counter

from gatewayproto.actions import (
    CaughtUp,
    ClientEvent,
    CloseTransport,
    EventReceived,
    Gap,
    Joined,
    ResumeToken,
    Skipped,
    SnapshotReceived,
)
from gatewayproto.testing._shapes import SERVER
from gatewayproto.testing.monitors.client import ClientBook, ClientMonitor, Transport
from gatewayproto.testing.monitors.wire import EVENTS, WELCOMES, Frame
from gatewayproto.testing.reference import EVENT_FIELDS, Plain
from gatewayproto.testing.steps import Step


class Cursor(ClientMonitor):
    """P6: the cursor moves with what is handed on, and every handshake says where it stands."""

    prop = "P6"
    about = "a cursor moves when its event is handed on, goes back only by a snapshot, and is told"
    needs = frozenset({"P6 hello with since", "P6 hello at 0", "P6 resume", "P6 taken", "P6 join"})

    def wrote(self, step: Step, link: Transport, frame: Frame) -> None:
        """What the client says of itself is what was handed on."""
        book, since = self.book, frame.get("since")
        match frame["type"]:
            case "hello" | "join" if book.token is None:
                if since is not None or "session_id" in frame:
                    self.fail(f"{book.name} says since {since} and holds nothing")
            case "hello":
                self._check_since(frame, since, {book.cursor})
                self.saw("hello with since" if book.cursor else "hello at 0")
            case "join":
                # A version 1 server that is behind is asked for everything.
                self._check_since(frame, since, {0, book.cursor})
                self.saw("join")
            case "resume":
                if (since, frame.get("epoch")) != (book.cursor, link.epoch):
                    self.fail(f"{book.name} resumes from {since}, and stands at {book.cursor}")
                self.saw("resume")
            case "pong" if frame.get("cursor") is not None:
                if frame["cursor"] != book.taken:
                    self.fail(f"a pong says {frame['cursor']}; {book.taken} was taken")
                self.saw("taken")
            case _:
                pass

    def _check_since(self, frame: Frame, since: object, allowed: set[int]) -> None:
        token = self.book.token
        assert token is not None
        said = (frame.get("session_id"), frame.get("epoch"))
        if since not in allowed or said != (token.session_id, token.epoch):
            self.fail(
                f"{self.book.name} asks for {said} since {since}; it holds {token.session_id},"
                f" {token.epoch} at {token.cursor}"
            )

    def told(self, step: Step, event: ClientEvent) -> None:
        """A token says where the client stands, and moves with what it goes with."""
        match event:
            case Joined():
                self._joined(event)
            case EventReceived():
                self._moves(event.token, event.seq)
            case Skipped():
                self._moves(event.token, event.last)
            case SnapshotReceived():
                link = self.book.link
                expected = (event.epoch, event.cursor)
                if (event.token.epoch, event.token.cursor) != expected or link is None:
                    self.fail(f"a snapshot as of {expected} with {event.token}")
            case _:
                pass

    def _joined(self, event: Joined) -> None:
        token, held = event.token, self.book.token
        if not event.resumed:
            if (token.session_id, token.epoch, token.cursor) != (event.session_id, event.epoch, 0):
                self.fail(f"a new session begins at {token}")
        elif held is None:
            self.fail("a session is resumed that was never held")
        elif token.cursor != held.cursor:
            self.fail(f"a welcome moves the cursor from {held.cursor} to {token.cursor}")
        elif event.resync_required and token != held:
            self.fail(f"a welcome that announces a snapshot moves {held} to {token}")
        elif not event.resync_required and token.epoch != event.epoch:
            self.fail(f"the epoch is {event.epoch}, and {token} goes with it")

    def _moves(self, token: ResumeToken, cursor: int) -> None:
        held = self.book.token
        if held is None or token.cursor != cursor:
            self.fail(f"what takes the cursor to {cursor} goes with {token}")
        if (token.session_id, token.epoch) != (held.session_id, held.epoch):
            self.fail(f"an event moves {held} to {token}: another session or epoch")


class HandingOn(ClientMonitor):
    """P2 and P3, and P1 on the way: in order, once, and what is missing is noticed and told once.

    The frame that comes says what must be told: the next event, a skip around the next seq, a gap.
    """

    prop = "P2"
    about = "seqs handed on rise by one, save where a skip or a snapshot accounts for the rest"
    needs = frozenset(
        {
            "P1 handed on",
            "P2 duplicate",
            "P2 replayed",
            "P2 version 1",
            "P3 skip",
            "P3 gap",
            "P3 gap at the tail",
            "P3 snapshot",
            "P3 ahead while recovering",
        }
    )

    def __init__(self, witnessed: Counter[str], book: ClientBook) -> None:
        super().__init__(witnessed, book)
        self._recovers = False
        self._nonce: str | None = None
        self._awaited: str | None = None
        self._due = False
        self._before: tuple[bool, bool, bool] = False, False, False
        self._told: list[ClientEvent] = []
        self._chunks: list[str] = []
        self._head: Frame = {}
        self._ended = False

    # -- the step -----------------------------------------------------------------------------

    def begin(self, step: Step) -> None:
        """Remember where the client stands before its input."""
        self._told.clear()
        self._ended = False
        link = self.book.link
        live = link is not None and link.live and link.version > 1
        self._before = live, link is not None and link.awaits, self._recovers
        self._awaited = self._nonce
        if link is None:
            self._recovers, self._nonce, self._due = False, None, False
            self._chunks.clear()

    def wrote(self, step: Step, link: Transport, frame: Frame) -> None:
        """A recovery is asked for."""
        if frame["type"] in {"resume", "resync"}:
            if frame.get("nonce") in {None, self._nonce}:
                self.fail(f"{frame['type']} has the nonce of another, {frame.get('nonce')}", "P3")
            self._recovers, self._due, self._nonce = True, True, frame["nonce"]

    def closing(self, step: Step, action: CloseTransport) -> None:
        """What was under way is over."""
        self._ended, self._recovers, self._due = True, False, False
        self._chunks.clear()

    def told(self, step: Step, event: ClientEvent) -> None:
        """Judge what is handed on."""
        cursor = self.book.cursor
        match event:
            case EventReceived():
                self._event(event, cursor)
            case Skipped():
                if event.first != cursor + 1 or event.last < event.first:
                    self.fail(f"{event.first} to {event.last} are skipped; {cursor + 1} is next")
            case Gap():
                if event.expected != cursor + 1 or event.received < event.expected:
                    self.fail(f"{event} where {cursor + 1} is next", "P3")
            case Joined():
                self._recovers, self._nonce, self._due = False, None, True
                self._chunks.clear()
            case SnapshotReceived():
                self._recovers = False
                self.witnessed["P3 snapshot"] += 1
            case CaughtUp():
                self._caught_up(event, cursor)
            case _:
                return
        self._told.append(event)

    def _event(self, event: EventReceived, cursor: int) -> None:
        frame = self.book.incoming
        if event.seq != cursor + 1:
            self.fail(f"event {event.seq} is handed on; {cursor + 1} is next")
        if self.book.link is None or self.book.link.awaits:
            self.fail(f"event {event.seq} is handed on before the snapshot", "P3")
        if frame is None or frame.get("seq") != event.seq:
            self.fail(f"event {event.seq} is handed on; what came is {frame}", "P1")
        self._check_content(event, frame)
        self.witnessed["P1 handed on"] += 1
        if event.replayed:
            self.saw("replayed")
        if self.book.link.version == 1:
            self.saw("version 1")

    def _check_content(self, event: EventReceived, frame: Frame) -> None:
        nested = frame.get("event")
        if self.book.link is not None and self.book.link.version == 1:
            source = nested if isinstance(nested, dict) else frame
            data = source.get("data")
            handed_on = {name: each for name, each in event.event.data.items() if each is not None}
            if not isinstance(data, dict) and handed_on != source:
                self.fail(f"event {event.seq} is handed on as {event.event} for {frame}", "P1")
            if isinstance(data, dict) and event.event.data != data:
                self.fail(f"event {event.seq} is handed on as {event.event} for {frame}", "P1")
            return
        sent = nested if isinstance(nested, dict) else {}
        for name in EVENT_FIELDS:
            if sent.get(name) != getattr(event.event, name):
                self.fail(f"{name} of event {event.seq} is {getattr(event.event, name)!r}", "P1")

    def _caught_up(self, event: CaughtUp, cursor: int) -> None:
        frame, link = self.book.incoming, self.book.link
        if not self._due or event.cursor > cursor:
            self.fail(f"{event} is told at {cursor}, or once too often", "P3")
        self._recovers = self._due = False
        if link is None or link.version == 1:
            return
        if frame is None or (frame["type"], frame.get("nonce")) != ("caught_up", self._nonce):
            self.fail(f"{event} is told for {frame}; the nonce is {self._nonce}", "P3")
        self.witnessed["P3 caught up"] += 1

    # -- what the frame must lead to ----------------------------------------------------------

    def end(self, step: Step) -> None:
        """What came was heeded: the next event handed on, a hole told, nothing else."""
        live, awaits, recovered = self._before
        frame, link = self.book.incoming, self.book.link
        if not live or self._ended or link is None:
            self._nothing_of_old(step)
            return
        if frame is None or frame["type"] in WELCOMES or not link.live:
            return
        shape = SERVER.get(frame["type"])
        if shape is None or not shape(frame):
            self._expect(frame, None)
            return
        match frame["type"]:
            case kind if kind in EVENTS:
                self._expect_place(frame, frame["seq"], frame["seq"], awaits, recovered)
            case "skip":
                self._expect_place(frame, frame["first"], frame["last"], awaits, recovered)
            case "ping" | "caught_up":
                self._expect_tail(frame, awaits, recovered)
            case "snapshot":
                self._expect_snapshot(frame)
            case _:
                self._expect(frame, None)

    def _nothing_of_old(self, step: Step) -> None:
        """Without a version 2 welcome only a version 1 server hands on anything."""
        link = self.book.link
        if link is None and any(isinstance(each, EventReceived) for each in self._told):
            self.fail(f"{self._told[0]} is handed on without a connection")

    def _was(self) -> int:
        """The cursor before this step."""
        first = self._told[0] if self._told else None
        match first:
            case EventReceived():
                return first.seq - 1
            case Skipped():
                return first.first - 1
            case _:
                return self.book.cursor

    def _expect_place(
        self, frame: Frame, first: int, last: int, awaits: bool, recovered: bool
    ) -> None:
        cursor = self._was()
        if awaits or first > last:
            self.fail(f"{self.book.name} goes on after {frame}, which makes no sense", "P3")
        if last <= cursor:
            self._expect(frame, None)
            self.saw("duplicate")
        elif first > cursor + 1:
            self._expect_gap(frame, first, recovered)
        elif frame["type"] == "skip":
            self._expect(frame, Skipped)
            self.witnessed["P3 skip"] += 1
        else:
            self._expect(frame, EventReceived)

    def _expect_tail(self, frame: Frame, awaits: bool, recovered: bool) -> None:
        said, cursor = frame.get("cursor"), self.book.cursor
        ahead = said is not None and said > cursor and not awaits
        other = recovered and frame["type"] == "caught_up" and frame.get("nonce") != self._awaited
        if said is None or not ahead or other:  # the answer of an earlier attach is none
            self._expect(frame, None)
            return
        self._expect_gap(frame, said, recovered and frame["type"] == "ping")
        self.witnessed["P3 gap at the tail"] += 1

    def _expect_gap(self, frame: Frame, received: int, recovered: bool) -> None:
        if recovered:
            self._expect(frame, None)
            self.witnessed["P3 ahead while recovering"] += 1
            return
        self._expect(frame, Gap)
        gap = self._told[0]
        assert isinstance(gap, Gap)
        if gap.received != received:
            self.fail(f"{gap} for {frame}", "P3")
        if not self._recovers:
            self.fail(f"{gap} is told and nothing is asked for", "P3")
        self.witnessed["P3 gap"] += 1

    def _expect(self, frame: Frame, kind: type[ClientEvent] | None) -> None:
        told = [type(event) for event in self._told if not isinstance(event, CaughtUp)]
        if told != ([] if kind is None else [kind]):
            due = "nothing" if kind is None else kind.__name__
            prop = "P3" if kind in {Gap, Skipped} or Gap in told else "P2"
            self.fail(
                f"{self.book.name}, at {self._was()}, got {frame}: told {self._told or 'nothing'},"
                f" not {due}",
                prop,
            )

    # -- snapshots ----------------------------------------------------------------------------

    def _expect_snapshot(self, frame: Frame) -> None:
        part = frame.get("part")
        state: Plain | None = frame.get("state")
        if part is not None:
            if part == 1:
                self._chunks.clear()
            self._chunks.append(frame.get("chunk", ""))
            if part < frame.get("parts", 0):
                self._expect(frame, None)
                return
            state = json.loads("".join(self._chunks))
            self._chunks.clear()
        self._expect(frame, SnapshotReceived)
        told = self._told[0]
        assert isinstance(told, SnapshotReceived)
        said = (told.cursor, told.epoch, told.reason, told.state)
        if said != (frame["cursor"], frame["epoch"], frame["reason"], state):
            self.fail(f"the snapshot {frame} is handed on as {said}", "P5")

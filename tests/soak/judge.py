"""Judges a soak by what server and clients wrote down; neither machine is asked. No I/O here.

Every seq behind a tab's first cursor must be accounted for to it: delivered in order, as what was
published; or named as skipped, being superseded; or covered by a snapshot, which is the state that
the events before it fold into. Every message comes to one end, and is in the inbox once if that is
`accepted`, not at all if it was refused.
"""

from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from attrs import define, field

from tests.soak.record import state_digests
from tests.soak.setting import PROJECTION

MAX_PROBLEMS: Final = 50
_NO_RUN: Final = 0
_EMPTY: Final = state_digests(PROJECTION().state())

Line = list[Any]


@define(eq=False)
class Session:
    """What was published in a session, by seq: entry 0 of each array is what was there before.

    `runs` numbers the runs from 1; a final has the negative number of its run.
    """

    session_id: str
    digests: "array[int]" = field(factory=lambda: array("q", [0]))
    runs: "array[int]" = field(factory=lambda: array("l", [0]))
    bases: "array[int]" = field(factory=lambda: array("q", _EMPTY[:1]))
    states: "array[int]" = field(factory=lambda: array("q", _EMPTY[1:]))
    finals: dict[int, int] = field(factory=dict)
    messages: Counter[str] = field(factory=Counter)
    replies: Counter[str] = field(factory=Counter)
    expired_with: int | None = None
    _names: dict[str, int] = field(factory=dict)

    @property
    def head(self) -> int:
        """The newest seq."""
        return len(self.digests) - 1

    def publish(
        self, seq: int, digest: int, *, run: str | None, final: bool, state: tuple[int, int]
    ) -> bool:
        """Take an event; False where its seq is not the next."""
        number = _NO_RUN if run is None else self._names.setdefault(run, len(self._names) + 1)
        if final and run is not None:
            self.finals[number] = seq
            number = -number
        in_order = seq == self.head + 1
        self.digests.append(digest)
        self.runs.append(number)
        self.bases.append(state[0])
        self.states.append(state[1])
        return in_order

    def superseded(self, seq: int) -> bool:
        """Whether a later final stands for it."""
        run = self.runs[seq]
        return run > 0 and self.finals.get(run, 0) > seq


@define(eq=False)
class Tab:
    """Where a tab stands, and the runs of which it was not given all that is open there."""

    session: Session
    cursor: int
    open: set[int] = field(factory=set)
    partial: set[int] = field(factory=set)
    ended: str | None = None

    def move(self, cursor: int) -> None:
        """Walk on to a cursor."""
        for seq in range(self.cursor + 1, min(cursor, self.session.head) + 1):
            run = self.session.runs[seq]
            if run > 0:
                self.open.add(run)
            elif run < 0:
                self.open.discard(-run)
                self.partial.discard(-run)
        self.cursor = cursor


@define
class Verdict:
    """What was found, and how often."""

    figures: Counter[str] = field(factory=Counter)
    snapshots: Counter[str] = field(factory=Counter)
    requests: Counter[str] = field(factory=Counter)
    problems: list[str] = field(factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class Judge:
    """Takes the server's lines, then the clients', then gives the verdict."""

    def __init__(self) -> None:
        self.verdict = Verdict()
        self._sessions: dict[int, Session] = {}
        self._by_id: dict[str, Session] = {}
        self._tabs: dict[int, Tab] = {}
        self._requests: dict[str, tuple[int, list[str]]] = {}

    def _complain(self, kind: str, text: str, count: int = 1) -> None:
        self.verdict.figures[kind] += count
        if len(self.verdict.problems) < MAX_PROBLEMS:
            self.verdict.problems.append(f"{kind}: {text}")

    # -- the server's side --------------------------------------------------------------------

    def published(self, lines: Iterable[Line]) -> None:
        """Take all that the server wrote down."""
        for line in lines:
            match line:
                case ["opened", n, session_id]:
                    self._sessions[n] = self._by_id[session_id] = Session(session_id)
                case ["event", n, seq, digest, run, final, *state]:
                    self.verdict.figures["published"] += 1
                    session, (base, runs) = self._sessions[n], state
                    if not session.publish(seq, digest, run=run, final=final, state=(base, runs)):
                        self._complain("misnumbered", f"{seq} in session {n}")
                case ["message", n, request_id, reply_to]:
                    self._sessions[n].messages[request_id] += 1
                    if reply_to is not None:
                        self._sessions[n].replies[reply_to] += 1
                case ["expired", n, subscribers]:
                    self._sessions[n].expired_with = subscribers
                    if subscribers:
                        self._complain("expired", f"session {n} with {subscribers} connected")
                case _:
                    raise ValueError(f"no line of a server: {line}")

    # -- the clients' side --------------------------------------------------------------------

    def given(self, lines: Iterable[Line]) -> None:
        """Take all that the clients wrote down, after what the server did."""
        for line in lines:
            kind, number, *rest = line
            if kind == "tab":
                self._begin(number, *rest)
            elif kind in {"violation", "stuck", "stopped"}:
                self._complain(kind, f"tab {number}: {rest[0]}")
                if number in self._tabs:
                    self._tabs[number].ended = kind
            elif kind == "sent":
                self._requests[rest[0]] = (number, [])
            elif kind == "end":
                self._end(number, *rest)
            else:
                self._follow(number, self._tabs[number], kind, rest)

    def _begin(self, number: int, session_id: str, cursor: int) -> None:
        tab = self._tabs[number] = Tab(self._by_id[session_id], 0)
        tab.move(cursor)
        # What it was not given is not open to it.
        tab.partial |= tab.open
        self.verdict.figures["tabs"] += 1

    def _follow(self, number: int, tab: Tab, kind: str, rest: list[Any]) -> None:
        match kind, rest:
            case "event", [seq, digest, *state]:
                self._event(number, tab, seq, digest, state)
            case "skip", [first, last]:
                self._skip(number, tab, first, last)
            case "snapshot", [cursor, reason, base, runs]:
                self._snapshot(number, tab, cursor, reason, (base, runs))
            case "gap", [expected, received]:
                # TCP loses nothing within a connection, so there is none to be seen.
                self._complain("gaps", f"tab {number} expects {expected}, and got {received}")
            case "another", [_]:
                tab.ended = kind
                self.verdict.figures["expired"] += 1
                if tab.session.expired_with is None:
                    self._complain("lost sessions", f"tab {number}'s had not expired")
            case "done", [_]:
                tab.ended = kind
            case _:
                raise ValueError(f"no line of a client: {kind}, {rest}")

    def _event(self, number: int, tab: Tab, seq: int, digest: int, state: list[int]) -> None:
        if not 0 < seq <= tab.session.head:
            self._complain("invented", f"tab {number} was given {seq} of {tab.session.head}")
            return
        if digest != tab.session.digests[seq]:
            self._complain("changed", f"tab {number} was given another event {seq}")
        if seq <= tab.cursor:
            self._complain("duplicates", f"tab {number} was given {seq} at {tab.cursor}")
            return
        self._lose(number, tab, seq)
        self.verdict.figures["delivered"] += 1
        tab.move(seq)
        if state:
            partial = bool(tab.open & tab.partial)
            self._converges(number, tab, (state[0], None if partial else state[1]))

    def _lose(self, number: int, tab: Tab, seq: int) -> None:
        """Complain of what lies between the cursor and a seq."""
        missing = seq - tab.cursor - 1
        if missing > 0:
            first = tab.cursor + 1
            self._complain("lost", f"tab {number} never heard of {first} to {seq - 1}", missing)

    def _skip(self, number: int, tab: Tab, first: int, last: int) -> None:
        if last > tab.session.head or last < first:
            self._complain("invented", f"tab {number} is to skip {first} to {last}")
            return
        if last <= tab.cursor or first <= tab.cursor:
            self._complain("duplicates", f"tab {number} is to skip {first}, {last} at {tab.cursor}")
            return
        self._lose(number, tab, first)
        wrong = [seq for seq in range(first, last + 1) if not tab.session.superseded(seq)]
        if wrong:
            self._complain("lost", f"tab {number} skips {wrong[:5]}, not superseded", len(wrong))
        self.verdict.figures["skipped"] += last - first + 1 - len(wrong)
        self.verdict.figures["skips"] += 1
        tab.partial |= {abs(tab.session.runs[seq]) for seq in range(first, last + 1)}
        tab.move(last)

    def _snapshot(
        self, number: int, tab: Tab, cursor: int, reason: str, state: tuple[int, int]
    ) -> None:
        self.verdict.snapshots[reason] += 1
        if cursor > tab.session.head:
            self._complain("invented", f"tab {number} got a snapshot of {cursor}")
            return
        if cursor < tab.cursor:
            self._complain("duplicates", f"tab {number} got one of {cursor} at {tab.cursor}")
            return
        self.verdict.figures["covered"] += cursor - tab.cursor
        tab.move(cursor)
        tab.partial.clear()
        self._converges(number, tab, state)

    def _converges(self, number: int, tab: Tab, state: tuple[int, int | None]) -> None:
        base, runs = state
        self.verdict.figures["states compared"] += 1
        if base != tab.session.bases[tab.cursor]:
            self._complain("diverged", f"tab {number} at {tab.cursor}")
        elif runs is not None and runs != tab.session.states[tab.cursor]:
            self._complain("diverged", f"tab {number} at {tab.cursor}, in its open runs")

    # -- messages, and the end ----------------------------------------------------------------

    def _end(self, number: int, request_id: str, how: str) -> None:
        sender, ends = self._requests.get(request_id, (None, []))
        if sender != number:
            self._complain("misdirected", f"tab {number} hears of a request of {sender}")
        ends.append(how)

    def finish(self) -> Verdict:
        """All is taken: look at what never came."""
        taken: Counter[str] = Counter()
        for session in self._sessions.values():
            taken.update(session.messages)
            for event_id, count in session.replies.items():
                if count > 1:
                    self._complain("answered twice", f"{event_id}, {count} times")
        self.verdict.figures["sessions"] = len(self._sessions)
        self.verdict.figures["messages taken"] = taken.total()
        for request_id, (number, ends) in self._requests.items():
            self._judge_request(number, request_id, ends, taken.pop(request_id, 0))
        for request_id in taken:
            self._complain("invented", f"request {request_id} was never sent")
        for number, tab in self._tabs.items():
            if tab.ended is None and not self._excused(tab):
                self._complain("unfinished", f"tab {number} at {tab.cursor} of {tab.session.head}")
        return self.verdict

    def _excused(self, tab: Tab) -> bool:
        """Whether the session ended for all its tabs because another of them lost it."""
        ended = {each.ended for each in self._tabs.values() if each.session is tab.session}
        return bool(ended & {"another", "stuck", "stopped"})

    def _judge_request(self, number: int, request_id: str, ends: list[str], taken: int) -> None:
        for how in ends:
            self.verdict.requests[how] += 1
        what = f"request {request_id} of tab {number}"
        if len(ends) != 1:
            self._complain("requests", f"{what} has {len(ends)} ends: {ends}")
        elif taken > 1:
            self._complain("requests", f"{what} was taken {taken} times")
        elif ends[0] == "accepted" and taken != 1:
            self._complain("requests", f"{what} was accepted and not taken")
        elif ends[0] not in {"accepted", "unknown"} and taken:
            self._complain("requests", f"{what} was taken, and ended as {ends[0]}")

"""The alphabet against a gateway: every frame of any client, every fate of a transport, any time.

A letter makes one input for the gateway as it stands: for one of its connections, open or long
closed, for its application, or for its clock. Most are relative to what the gateway has, because
that is where its rules have their edges.

Spec: Client to server; The decision table; Requests; Version 1.
"""

import json
import math
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field

from gatewayproto.errors import ErrorCode
from gatewayproto.frames import Event
from gatewayproto.inputs import (
    Accept,
    Activity,
    ChangeEpoch,
    CloseSession,
    Complete,
    ConnectionClosed,
    ConnectionOpened,
    Drain,
    Drained,
    FrameReceived,
    GatewayInput,
    Publish,
    Reject,
    SetHealth,
    SnapshotReady,
    TimerExpired,
)
from gatewayproto.testing._shapes import MAX_INT
from gatewayproto.testing.any_peer._gateway_book import Peer, Session
from gatewayproto.testing.any_peer._gateway_reference import GatewayReference
from gatewayproto.testing.any_peer._server import GRID
from gatewayproto.testing.choices import Choices, pick
from gatewayproto.testing.reference import Plain, fold

Letter = Callable[..., "GatewayInput | None"]

RANGES: Final[dict[str, Plain]] = {
    "2": {"min": 2, "max": 2},
    "1": {"min": 1, "max": 1},
    "1 to 2": {"min": 1, "max": 2},
    "none": {},
    "min 1": {"min": 1},
    "min 2": {"min": 2},
    "max 1": {"max": 1},
    "max 2": {"max": 2},
    "3": {"min": 3, "max": 4},
    "to 9": {"min": 1, "max": 9},
    "backward": {"min": 2, "max": 1},
    "text": {"min": "1", "max": 2},
    "texts": {"min": "1", "max": "2"},
    "float": {"min": 1.0, "max": 2},
    "true": {"min": True, "max": 2},
    "zero": {"min": 0, "max": 2},
    "list": {"min": [], "max": {}},
    "huge": {"min": 1, "max": MAX_INT + 1},
}
_LARGE: Final = 200_000
_MOSTLY_LIVE: Final = (*("live",) * 8, "joining", "opening")
_NAMES: Final = {"hello": "protocol_{}", "join": "{}_version"}


@define(eq=False)
class AnyPeers:
    """Everybody around a gateway: its peers, its transports, its application and its clock.

    `sent` are messages that were sent, to be sent again; `gone` session ids that are no more.
    """

    book: GatewayReference
    choices: Choices
    now: float = 1024.0
    count: int = 0
    opened: int = 0
    sent: list[Plain] = field(factory=list)
    gone: list[str] = field(factory=lambda: ["g0"])
    epochs: list[str] = field(factory=lambda: ["g00"])

    def peer(self, *states: str) -> Peer | None:
        """One of the connections in these states, more often in one named more often."""
        peers = [peer for peer in self.book.peers.values() if peer.state in states]
        here = {peer.state for peer in peers}
        if len(here) > 1:
            drawn = pick(self.choices, [state for state in states if state in here])
            peers = [peer for peer in peers if peer.state == drawn]
        return pick(self.choices, peers) if peers else None

    def session(self) -> Session | None:
        """One of the sessions."""
        sessions = list(self.book.sessions.values())
        return pick(self.choices, sessions) if sessions else None

    def frame(self, peer: Peer | None, type_: str, **fields: Any) -> GatewayInput | None:
        """A frame from this peer; None where there is none."""
        if peer is None:
            return None
        present = {name: value for name, value in fields.items() if value is not ...}
        data = json.dumps({"type": type_, **present}, ensure_ascii=False).encode()
        return FrameReceived(peer.number, data)

    def pass_to(self, at: float) -> GatewayInput:
        """Let time pass, and let the timer fire."""
        self.now = max(self.now, math.ceil(at * GRID) / GRID)
        return TimerExpired()


# -- time and transports ----------------------------------------------------------------------


def due(peers: AnyPeers, late: float = 0.0) -> GatewayInput | None:
    """The timer fires when the next thing is due, or so much later."""
    at = peers.book.next_due
    return None if at is None else peers.pass_to(at + late)


def early(_: AnyPeers) -> GatewayInput | None:
    """The timer fires, whether or not anything is due."""
    return TimerExpired()


def pause(peers: AnyPeers, seconds: float) -> GatewayInput | None:
    """Time passes; a timer that comes due meanwhile is late."""
    peers.pass_to(peers.now + seconds)
    return None


def opened(peers: AnyPeers, token: str | None = None, address: str = "") -> GatewayInput | None:
    """A transport opens, with a token in its upgrade or none, from somewhere or from nowhere."""
    peers.opened += 1
    headers = {
        "bearer": {"authorization": "Bearer th"},
        "both": {"authorization": "bearer  th "},
        "basic": {"authorization": "Basic th"},
        "empty": {"authorization": "Bearer "},
    }
    return ConnectionOpened(
        connection=peers.opened,
        path="/ws",
        query={"token": "tq"} if token in {"query", "both", "basic", "empty"} else {},
        headers=headers.get(token or "", {}),
        peer="there",
        address=address,
        timestamp=peers.opened + 0.5,
    )


def gone(peers: AnyPeers) -> GatewayInput | None:
    """A transport is gone."""
    peer = peers.peer("opening", "joining", "live")
    return None if peer is None else ConnectionClosed(peer.number)


def activity(peers: AnyPeers) -> GatewayInput | None:
    """Bytes came in."""
    peer = peers.peer("opening", "joining", "live")
    return None if peer is None else Activity(peer.number)


def drained(peers: AnyPeers, part: float = 1.0) -> GatewayInput | None:
    """A transport took what it is owed, or a part of it."""
    owing = [peer for peer in peers.book.peers.values() if peer.outstanding]
    if not owing:
        return None
    peer = pick(peers.choices, owing)
    return Drained(peer.number, max(1, int(peer.outstanding * part)))


def too_late(peers: AnyPeers, what: str) -> GatewayInput | None:
    """Something of a connection that has ended."""
    number = next((n for n in range(peers.opened, 0, -1) if n not in peers.book.peers), None)
    if number is None or number > peers.book.last:
        return None
    inputs: dict[str, GatewayInput] = {
        "frame": FrameReceived(number, b'{"type":"ping"}'),
        "bad": FrameReceived(number, b"{"),
        "hello": FrameReceived(number, b'{"type":"hello","agent_id":"demo"}'),
        "activity": Activity(number),
        "drained": Drained(number, 5),
        "gone": ConnectionClosed(number),
        "accept": Accept(connection=number),
        "reject": Reject(connection=number, code=ErrorCode.RATE_LIMITED),
    }
    return inputs[what]


def mistake(peers: AnyPeers, what: str) -> GatewayInput | None:
    """What no driver and no application may do."""
    book = peers.book
    session, last = peers.session(), book.last
    session_id = "g0" if session is None else session.session_id
    busy = next((p for p in book.peers.values() if p.state == "opening"), None)
    owed = next(iter(book.peers.values()), None)
    event: Plain = {"type": "x", "event_id": "x", "timestamp": 1.0}
    events: dict[str, Event] = {
        "nan": Event(data={"n": math.nan}, **event),
        "large": Event(data={"n": "x" * book.config.max_event}, **event),
        "final without run": Event(data={}, final=True, **event),
        "transient final": Event(data={}, final=True, transient=True, run_id="A", **event),
        "transient question": Event(
            data={}, transient=True, expects_reply=True, run_id="A", **event
        ),
    }
    if what in events:
        return None if session is None else Publish(session_id=session_id, event=events[what])
    inputs: dict[str, GatewayInput | None] = {
        "opened": ConnectionOpened(connection=last) if last else None,
        "unknown": FrameReceived(last + 1, b'{"type":"ping"}'),
        "zero": Activity(0),
        "undecided": None if busy is None else Accept(connection=busy.number),
        "unrejected": None
        if busy is None
        else Reject(connection=busy.number, code=ErrorCode.AUTH_REQUIRED),
        "soft": None if owed is None else Reject(connection=owed.number, code=ErrorCode.NOT_JOINED),
        "drained": None if owed is None else Drained(owed.number, owed.outstanding + 1),
        "nothing": None if owed is None else Drained(owed.number, 0),
        "done": None if session is None else Complete(session_id=session_id, message_id=999),
        "health": SetHealth(health={"n": math.inf}),
        "large health": SetHealth(health={"n": "x" * 2048}),
    }
    return inputs[what]


# -- handshakes -------------------------------------------------------------------------------


def _session_id(peers: AnyPeers, which: str, session: Session | None) -> Any:
    if which == "none":
        return ...
    if session is None or which == "gone":
        return peers.gone[-1]
    forms: dict[str, Any] = {
        "own": session.session_id,
        "with epoch": f"{session.session_id}.{session.epoch}",
        "with old": f"{session.session_id}.{peers.epochs[-1]}",
        "dot": f"{session.session_id}.",
        "empty": "",
        "number": 5,
    }
    return forms[which]


def _epoch(peers: AnyPeers, which: str, session: Session | None) -> Any:
    forms: dict[str, Any] = {
        "none": ...,
        "null": None,
        "own": "g00" if session is None else session.epoch,
        "old": peers.epochs[-1],
        "long": "e" * 65,
        "empty": "",
        "number": 7,
    }
    return forms[which]


def _since(which: Any, session: Session | None) -> Any:
    if session is None:
        cursor = oldest = oldest_v1 = 0
    else:
        cursor = session.cursor
        oldest, oldest_v1 = session.ledger.oldest(2), session.ledger.oldest(1)
    edges: dict[str, Any] = {
        "none": ...,
        "oldest - 2": oldest - 2,
        "oldest - 1": oldest - 1,
        "oldest": oldest,
        "v1 oldest - 2": oldest_v1 - 2,
        "v1 oldest - 1": oldest_v1 - 1,
        "cursor": cursor,
        "cursor - 1": max(0, cursor - 1),
        "cursor + 1": cursor + 1,
        "text": str(cursor),
        "float": float(cursor),
    }
    return edges.get(which, which) if isinstance(which, str) else which


def handshake(  # noqa: PLR0917 -- as many details as a handshake has
    peers: AnyPeers,
    kind: str,
    versions: str,
    session: str,
    epoch: str,
    since: Any,
    start: Any,
    max_payload: Any,
    agent: Any,
    more: Plain,
) -> GatewayInput | None:
    """A handshake in either spelling, with every kind of field; also where it comes too early."""
    chosen = peers.session()
    names = {_NAMES[kind].format(name): value for name, value in RANGES[versions].items()}
    return peers.frame(
        peers.peer("opening", "opening", "live", "joining"),
        kind,
        agent_id=agent,
        session_id=_session_id(peers, session, chosen),
        epoch=_epoch(peers, epoch, chosen),
        since=_since(since, chosen),
        start=start,
        max_payload=max_payload,
        **names,
        **more,
    )


def good_handshake(
    peers: AnyPeers, version: int, fresh: bool, kind: str = "hello", max_payload: Any = ...
) -> GatewayInput | None:
    """A handshake as a good client would send it, to begin or to go on."""
    chosen = None if fresh else peers.session()
    names = {_NAMES[kind].format(name): version for name in ("min", "max")}
    sinces = ("none",) if chosen is None else ("oldest - 1", "cursor", "none")
    since = _since(pick(peers.choices, sinces), chosen)
    return peers.frame(
        peers.peer("opening"),
        kind,
        agent_id="demo" if chosen is None else chosen.agent_id,
        session_id=_session_id(peers, "none" if chosen is None else "own", chosen),
        epoch=... if chosen is None else chosen.epoch,
        since=... if chosen is None else since,
        max_payload=max_payload,
        **names,
    )


def accept(
    peers: AnyPeers, principal: str | None = None, owner: bool = True
) -> GatewayInput | None:
    """The application accepts: for the owner of the session that is asked for, or for anybody."""
    peer = peers.peer("joining")
    if peer is None or peer.asked is None:
        return None
    session = peers.book.sessions.get(peer.asked.session_id)
    if owner and session is not None:
        principal = session.principal
    return Accept(connection=peer.number, principal=principal)


def reject(peers: AnyPeers, code: ErrorCode, retry_after: float | None) -> GatewayInput | None:
    """The application rejects."""
    peer = peers.peer("joining")
    if peer is None:
        return None
    return Reject(connection=peer.number, code=code, message="no", retry_after_seconds=retry_after)


def accept_for(peers: AnyPeers, expires_in: float | None) -> GatewayInput | None:
    """The application accepts the owner, for some time."""
    accepted = accept(peers)
    if not isinstance(accepted, Accept):
        return accepted
    return Accept(
        connection=accepted.connection, principal=accepted.principal, expires_in=expires_in
    )


def renew(
    peers: AnyPeers, expires_in: float | None, principal: str | None = None
) -> GatewayInput | None:
    """The application accepts on a living connection, asked or not: its owner, or somebody else."""
    peer = peers.peer("live")
    if peer is None or peer.session is None:
        return None
    owner = peer.session.principal if principal is None else principal
    return Accept(connection=peer.number, principal=owner, expires_in=expires_in)


def end(peers: AnyPeers, code: ErrorCode) -> GatewayInput | None:
    """The application ends a living connection."""
    peer = peers.peer("live")
    if peer is None:
        return None
    return Reject(connection=peer.number, code=code, message="no", retry_after_seconds=2.5)


# -- what a welcomed peer may send, and whoever comes too early -------------------------------


def message(
    peers: AnyPeers, request_id: Any, content: Any = "hi", more: Plain | None = None
) -> GatewayInput | None:
    """A message, new by its id unless that is given."""
    peers.count += 1
    if request_id == "new":
        request_id = f"m{peers.count}"
    fields = {"content": content, "request_id": request_id, **(more or {})}
    if isinstance(request_id, str):
        peers.sent.append(fields)
    return peers.frame(peers.peer(*_MOSTLY_LIVE), "message", **fields)


def message_again(peers: AnyPeers, change: Plain) -> GatewayInput | None:
    """A message that was sent before, or one with its id and something else in it."""
    if not peers.sent:
        return None
    fields = {**pick(peers.choices, peers.sent[-4:]), **change}
    return peers.frame(peers.peer("live"), "message", **fields)


def reply(peers: AnyPeers, which: int, request_id: str = "new") -> GatewayInput | None:
    """A reply to a question, open or answered."""
    session = peers.session()
    questions = [] if session is None else list(session.questions)
    event_id = questions[which % len(questions)] if questions else "none"
    return message(peers, request_id, "yes", {"reply_to": event_id})


def resume(peers: AnyPeers, epoch: str, since: Any, nonce: Any) -> GatewayInput | None:
    """Back to anywhere on the connection."""
    peer = peers.peer("live", "live", "live", "joining")
    session = None if peer is None else peer.session
    return peers.frame(
        peer,
        "resume",
        epoch=_epoch(peers, epoch, session),
        since=_since(since, session),
        nonce=nonce,
    )


def resync(peers: AnyPeers, nonce: Any) -> GatewayInput | None:
    """A snapshot, now."""
    return peers.frame(peers.peer("live", "live", "live", "joining"), "resync", nonce=nonce)


def other(peers: AnyPeers, type_: str, fields: Plain) -> GatewayInput | None:
    """Any other frame."""
    return peers.frame(peers.peer(*_MOSTLY_LIVE), type_, **fields)


def raw(peers: AnyPeers, data: bytes) -> GatewayInput | None:
    """Any bytes."""
    peer = peers.peer(*_MOSTLY_LIVE)
    return None if peer is None else FrameReceived(peer.number, data)


def large(peers: AnyPeers, beyond: int) -> GatewayInput | None:
    """A frame as large as the gateway takes, or larger."""
    return raw(peers, b'{"type":"ping"}'.ljust(peers.book.config.max_payload + beyond))


# -- the application --------------------------------------------------------------------------


def publish(
    peers: AnyPeers, kind: str, run_id: str | None = None, size: int = 0
) -> GatewayInput | None:
    """An event: durable, transient, final, a question, or an answer to one."""
    session = peers.session()
    if session is None:
        return Publish(session_id=peers.gone[-1], event=_event(peers, {}, {}))
    data: Plain = {"text": "é" * (size // 2)} if size else {"n": peers.count}
    kinds: dict[str, Plain] = {
        "durable": {},
        "transient": {"transient": True, "run_id": run_id},
        "final": {"final": True, "run_id": run_id or "A"},
        "loose": {"transient": True},
        "question": {"expects_reply": True},
        "durable in a run": {"run_id": run_id or "A"},
        "answer": {},
        "full": {"source": "s", "target": "t", "request_id": "m1"},
    }
    if kind == "answer":
        data["reply_to"] = next(iter(session.questions), "none")
    return Publish(session_id=session.session_id, event=_event(peers, data, kinds[kind]))


def _event(peers: AnyPeers, data: Plain, fields: Plain) -> Event:
    peers.count += 1
    return Event(
        type="note",
        data=data,
        event_id=f"e{peers.count}",
        timestamp=peers.count + 0.5,
        **fields,
    )


def complete(peers: AnyPeers, newest: bool = False) -> GatewayInput | None:
    """A message is done."""
    busy = [session for session in peers.book.sessions.values() if session.pending]
    if not busy:
        return Complete(session_id=peers.gone[-1], message_id=1)
    session = pick(peers.choices, busy)
    ids = list(session.pending)
    return Complete(session_id=session.session_id, message_id=ids[-1 if newest else 0])


def set_health(_: AnyPeers, size: int) -> GatewayInput | None:
    """The gateway's health, as large as it may be."""
    return SetHealth(health={"n": "x" * size})


def owed_state(peers: AnyPeers) -> GatewayInput | None:
    """The state that somebody waits for, as of the head; None where nobody does."""
    waits = any(each.wanted and each.wanted.asked for each in peers.book.sessions.values())
    return built(peers, "head") if waits else None


def built(
    peers: AnyPeers, which: str, epoch: str = "own", large: bool = False
) -> GatewayInput | None:
    """A state that the application built: of the head, or of an older cursor, or of none.

    A `large` one is larger than it may be, where that is not too much for a test.
    """
    sessions = list(peers.book.sessions.values())
    wanted = [each for each in sessions if each.wanted is not None and each.wanted.asked]
    if not sessions:
        return SnapshotReady(session_id=peers.gone[-1], epoch="g00", cursor=0, state={})
    session = pick(peers.choices, wanted or sessions)
    cursors = {
        "head": session.cursor,
        "before": max(0, session.cursor - 1),
        "floor": session.ledger.oldest(2) - 1,
        "middle": session.cursor // 2,
        "none": 0,
        "beyond": session.cursor + 1,
    }
    at = cursors[which]
    log = session.ledger.log[:at]
    state: Plain = fold(log)
    if large and peers.book.config.max_snapshot <= _LARGE:
        state["more"] = "x" * _LARGE
    name = session.epoch if epoch == "own" else peers.epochs[-1]
    return SnapshotReady(session_id=session.session_id, epoch=name, cursor=at, state=state)


def change_epoch(peers: AnyPeers) -> GatewayInput | None:
    """The application can no longer vouch for a session's numbering."""
    session = peers.session()
    if session is None:
        return ChangeEpoch(session_id=peers.gone[-1])
    peers.epochs.append(session.epoch)
    return ChangeEpoch(session_id=session.session_id)


def close_session(peers: AnyPeers) -> GatewayInput | None:
    """The application ends a session; also one that has ended."""
    session = peers.session()
    return CloseSession(session_id=peers.gone[-1] if session is None else session.session_id)


def drain(_: AnyPeers, grace: float, reason: str = "restart") -> GatewayInput | None:
    """The gateway is about to stop."""
    return Drain(reason=reason, after=4.5, spread=2.0, grace=grace)


# -- what good peers, drivers and applications would do ---------------------------------------


def go_on(peers: AnyPeers, version: int = 2) -> GatewayInput | None:
    """What is next on the way to a session with followers."""
    book = peers.book
    if len(book.peers) < 2:  # noqa: PLR2004 -- one would not show who is confused with whom
        return opened(peers)
    states = {peer.state for peer in book.peers.values()}
    if "joining" in states:
        return accept(peers)
    if "opening" in states:
        return good_handshake(peers, version, fresh=not book.sessions)
    return drained(peers) or publish(peers, "durable")

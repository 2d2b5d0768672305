"""What a gateway that writes ahead has stored of a session, and the session made of it again.

A record is plain JSON data. Its `kind` says what happened:

- `opened`: the session began, with `epoch`, `agent_id`, `principal`. Its first record.
- `event`: an event got its `seq`; `event` is its JSON as text, whose bytes every frame carries.
- `message`: a message entered the inbox as `message_id`; `forgotten` are the request ids whose
  time was up since the last record that said so.
- `complete`: the message `message_id` is done.
- `epoch`: a new `epoch` began.
- `sealed`: the application closed the session.
- `session`: all of the session; it supersedes every earlier record.
- `expired`: the session is gone, and with it all of its records.

Spec: the architecture page, "Write ahead".
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

import attrs
import msgspec
from attrs import field, frozen

from gatewayproto import codec
from gatewayproto.config import GatewayConfig
from gatewayproto.errors import FrameError
from gatewayproto.frames import Cursor, Epoch, Message, Object, Seq
from gatewayproto.session import Encoded, Session

# -- to plain data ----------------------------------------------------------------------------


def opened(session: Session) -> Object:
    """A session began."""
    return {
        "kind": "opened",
        "epoch": session.epoch,
        "agent_id": session.agent_id,
        "principal": session.principal,
    }


def event(seq: int, body: bytes) -> Object:
    """An event got its seq."""
    return {"kind": "event", "seq": seq, "event": body.decode()}


def message(session: Session, message_id: int, taken: Message) -> Object:
    """A message entered the inbox."""
    return {
        "kind": "message",
        "message_id": message_id,
        "message": codec.to_object(taken),
        "forgotten": session.inbox.take_forgotten(),
    }


def complete(message_id: int) -> Object:
    """A message is done."""
    return {"kind": "complete", "message_id": message_id}


def epoch(new: str) -> Object:
    """A new epoch began."""
    return {"kind": "epoch", "epoch": new}


def sealed() -> Object:
    """The application closed a session."""
    return {"kind": "sealed"}


def expired() -> Object:
    """A session is gone."""
    return {"kind": "expired"}


def whole(session: Session, now: float) -> Object:
    """All of a session, with what waits to be stored."""
    ledger = session.ledger
    assert ledger is not None
    session.inbox.take_forgotten()  # those that are remembered say it all
    inbox = session.inbox.to_state(now)
    return {
        "kind": "session",
        "epoch": ledger.epoch,
        "agent_id": session.agent_id,
        "principal": session.principal,
        "journal": session.journal.to_state(),
        "projection": _projected(session),
        "inbox": {
            "next_id": inbox["next_id"],
            "pending": inbox["pending"],
            # Without their times: no clock outlives the process.
            "remembered": [[request_id, known] for request_id, known, _ in inbox["remembered"]],
            "questions": inbox["questions"],
        },
        "unstored": ledger.unstored_events(),
        "sealed": session.is_closed,
    }


def _projected(session: Session) -> Object | None:
    """A copy: what a projection gives may be what it goes on to change."""
    if session.projection is None:
        return None
    body = codec.encode_object(session.projection.state())
    return codec.parse_state(body, max_bytes=len(body))


# -- from plain data --------------------------------------------------------------------------


@frozen(kw_only=True)
class _Opened:
    epoch: Epoch
    agent_id: str
    principal: str | None


@frozen(kw_only=True)
class _Event:
    seq: Seq
    event: str


@frozen(kw_only=True)
class _Message:
    message_id: Seq
    message: Message
    forgotten: list[str]


@frozen(kw_only=True)
class _Complete:
    message_id: Seq


@frozen(kw_only=True)
class _Epoch:
    epoch: Epoch


@frozen(kw_only=True)
class _Sealed:
    pass


@frozen(kw_only=True)
class _Expired:
    pass


@frozen(kw_only=True)
class _Journal:
    cursor: Cursor
    lost: Cursor
    gone: Cursor
    events: list[tuple[Seq, str]]
    open: dict[str, Cursor]
    ended: list[list[Seq]]


@frozen(kw_only=True)
class _Inbox:
    next_id: Seq
    pending: list[tuple[Seq, Message]]
    remembered: list[tuple[str, str]]
    questions: dict[str, bool]


@frozen(kw_only=True)
class _Whole:
    epoch: Epoch
    agent_id: str
    principal: str | None
    journal: _Journal
    projection: dict[str, Any] | None
    inbox: _Inbox
    unstored: list[str]
    sealed: bool


_Record = _Opened | _Event | _Message | _Complete | _Epoch | _Sealed | _Expired | _Whole
_KINDS: Final[Mapping[str, type[Any]]] = {
    "opened": _Opened,
    "event": _Event,
    "message": _Message,
    "complete": _Complete,
    "epoch": _Epoch,
    "sealed": _Sealed,
    "session": _Whole,
    "expired": _Expired,
}


def read(record: Object) -> _Record:
    """Read a record. Raises `ValueError` for what is none."""
    kind = record.get("kind")
    cls = _KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise ValueError("a record of no known kind")
    fields = {name: value for name, value in record.items() if name != "kind"}
    unknown = fields.keys() - {each.name for each in attrs.fields(cls)}
    if unknown:
        raise ValueError(f"a record {kind} with fields that are not known")
    try:
        made: _Record = msgspec.convert(fields, cls)
    except (msgspec.ValidationError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"a record {kind} that is off: {type(error).__name__}") from None
    return made


@attrs.define(eq=False)
class Rebuilding:
    """One session out of its records, in their order. `number` is the latest one's.

    Only those are kept that are not superseded, so that however long a store is, no more than a
    session's share of it is in memory.
    """

    number: int = 0
    first: int = 0
    records: list[_Record] = field(factory=list)

    def add(self, number: int, record: Object) -> None:
        """Take the next record. Raises `ValueError` for one that is none or out of its turn."""
        if type(number) is not int or number <= self.number:
            raise ValueError(f"record {number} after record {self.number}")
        read_ = read(record)
        if self.records and isinstance(self.records[-1], _Expired):
            raise ValueError("a record of a session that had expired")
        if isinstance(read_, _Whole | _Expired):
            self.records.clear()
        if not self.records:
            self.first = number
        self.number = number
        self.records.append(read_)

    @property
    def whole(self) -> int:
        """The number of the record that holds all of the session, 0 where none does."""
        return self.first if isinstance(self.records[0], _Whole) else 0

    def session(self, config: GatewayConfig, session_id: str, now: float) -> Session | None:
        """The session; None for one that has expired.

        Raises `ValueError` where records are missing or contradict each other.
        """
        first = self.records[0]
        if isinstance(first, _Expired):
            return None
        if self.number - self.first + 1 != len(self.records):
            raise ValueError(f"a session whose records up to {self.number} are not all there")
        try:
            session = _begin(config, session_id, first, self.first, now)
            for record in self.records[1:]:
                _apply(session, record, now)
        except (FrameError, msgspec.MsgspecError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"a session's records are off: {type(error).__name__}") from None
        return session


def _begin(
    config: GatewayConfig, session_id: str, first: _Record, number: int, now: float
) -> Session:
    match first:
        case _Opened() if number == 1:
            return Session.create(
                config,
                session_id=session_id,
                epoch=first.epoch,
                agent_id=first.agent_id,
                principal=first.principal,
            )
        case _Whole():
            return _from_whole(config, session_id, first, now)
        case _:
            raise ValueError(f"a session's records begin with {number}, which holds no session")


def _from_whole(config: GatewayConfig, session_id: str, record: _Whole, now: float) -> Session:
    _check_journal(record.journal)
    inbox = attrs.asdict(record.inbox, recurse=False)
    inbox["forgotten"] = None
    inbox["remembered"] = [[*each, 0.0] for each in record.inbox.remembered]
    inbox["pending"] = [[number, codec.to_object(each)] for number, each in record.inbox.pending]
    state = {
        **attrs.asdict(record, recurse=False),
        "session_id": session_id,
        "journal": attrs.asdict(record.journal),
        "inbox": inbox,
        "state_size": 0,
        "built": None,
        "wanted": None,
        "sealed": record.sealed,
        "ledger": None,
    }
    session = Session.from_state(config, state, now)
    for body in record.unstored:
        _append(session, body)
    return session


def _check_journal(journal: _Journal) -> None:
    seqs = [seq for seq, _ in journal.events]
    transient = {seq for seq, text in journal.events if codec.decode_event(text.encode()).transient}
    rising = all(before < after for before, after in pairwise(seqs))
    highest = max([*seqs, *journal.open.values(), journal.lost, journal.gone])
    ended = {seq for run in journal.ended for seq in run}
    if not rising or highest > journal.cursor or not ended <= transient:
        raise ValueError("a session's journal is off")


def _apply(session: Session, record: _Record, now: float) -> None:
    match record:
        case _Event() if record.seq == session.journal.cursor + 1:
            _append(session, record.event)
        case _Message():
            taken = record.message
            session.inbox.take_again(record.message_id, taken, record.forgotten, now)
        case _Complete() if session.inbox.complete(record.message_id):
            pass
        case _Epoch():
            session.epoch = record.epoch
        case _Sealed():
            session.sealed = True
        case _:
            raise ValueError("a session's record contradicts those before it")


def _append(session: Session, text: str) -> None:
    body = text.encode()
    session.append(Encoded(body, codec.decode_event(body)))
    session.journal.trim()


Stored = Iterable[tuple[str, int, Object]]
"""Records as a store gives them back: a session's id, the record's number, the record."""


def rebuild(
    config: GatewayConfig, stored: Stored, now: float
) -> Iterator[tuple[Session, Rebuilding]]:
    """Every session that is stored and has not expired, with the records that it was made of.

    Raises `ValueError` for a record that is none, that is out of its turn, or that contradicts
    those before it, and for a session of which records are missing.
    """
    sessions: dict[str, Rebuilding] = {}
    for session_id, number, record in stored:
        if not isinstance(session_id, str):
            raise ValueError("a session's id that is no text")  # noqa: TRY004
        sessions.setdefault(session_id, Rebuilding()).add(number, record)
    for session_id, records in sessions.items():
        session = records.session(config, session_id, now)
        if session is not None:
            yield session, records

"""What a gateway that writes ahead does in place of acting at once.

A change gives its record, and its effect waits in the session's ledger; `release` carries out what
the store has confirmed. Journal, projection and subscribers see stored events alone, so whatever
is read from them (welcomes, replays, snapshots, pings) tells nobody of more than is stored.

Spec: the architecture page, "Write ahead".
"""

from collections.abc import Mapping
from typing import assert_never

from gatewayproto import _connection_live as live
from gatewayproto import _gateway_snapshots as snapshots
from gatewayproto import connection, records
from gatewayproto._connection_link import Link
from gatewayproto._gateway_context import Context
from gatewayproto.actions import Published, SessionExpired
from gatewayproto.connection import Input
from gatewayproto.errors import LocalProtocolError
from gatewayproto.frames import Event
from gatewayproto.inputs import Persisted
from gatewayproto.journal import Entry
from gatewayproto.ledger import (
    Effect,
    EpochGiven,
    EventGiven,
    Ledger,
    MessageGiven,
    Opening,
    Sealing,
)
from gatewayproto.session import Encoded, Session

Links = Mapping[int, Link]


def publish(context: Context, session: Session, encoded: Encoded, now: float) -> None:
    """Give an event its seq and have it stored; it goes out when it is."""
    ledger = _with_room(session, len(encoded.body))
    context.begin(session, now)
    given = EventGiven(ledger.cursor + 1, encoded.body, encoded.event)
    context.write(session, records.event(given.seq, given.body), now, given)
    context.effects.emit(
        Published(session_id=session.session_id, seq=given.seq, event_id=given.event.event_id)
    )


def change_epoch(context: Context, session: Session, now: float) -> None:
    """Have a new epoch stored; it begins when it is."""
    _with_room(session)
    context.begin(session, now)
    epoch = context.ids()
    context.write(session, records.epoch(epoch), now, EpochGiven(epoch))


def close_session(context: Context, session: Session, now: float) -> None:
    """Have the end of a session stored, behind all that was given; it is sealed when it is."""
    ledger = session.ledger
    assert ledger is not None
    context.begin(session, now)
    context.write(session, records.sealed(), now, Sealing())


def _with_room(session: Session, size: int = 0) -> Ledger:
    ledger = session.ledger
    assert ledger is not None
    if ledger.full(size):
        raise LocalProtocolError(f"{ledger.unstored} records wait to be stored")
    return ledger


def release(context: Context, links: Links, persisted: Persisted, now: float) -> None:
    """Carry out what waited for the records that are stored now.

    Raises `LocalProtocolError` for a number that was never given. A session that is unknown was
    forgotten with its records: that is a harmless race.
    """
    session_id, number = persisted.session_id, persisted.number
    session = context.sessions.get(session_id)
    if session is None:
        given = context.ending.get(session_id, number)
    else:
        given = session.ledger.given if session.ledger is not None else 0
    if not 1 <= number <= given:
        raise LocalProtocolError(f"record {number} was never given")
    if session is not None and session.ledger is not None:
        if number > session.ledger.stored:
            session.ledger.stored = number
            _release(context, links, session, session.ledger, now)
    elif context.ending.get(session_id) == number:
        del context.ending[session_id]
        context.effects.emit(SessionExpired(session_id=session_id))


def _release(context: Context, links: Links, session: Session, ledger: Ledger, now: float) -> None:
    was_early, epoch = session.has_early_state, session.epoch
    while (waited := ledger.take()) is not None:
        _carry_out(context, links, session, waited, now)
    if was_early and not session.has_early_state and session.epoch == epoch:
        snapshots.answered(context, links, session, now)
    _tell(links, ledger.joining, ledger.stored, now)  # the first record is all they wait for
    _tell(links, ledger.answering, ledger.stored, now)


def _carry_out(
    context: Context, links: Links, session: Session, waited: tuple[int, Effect], now: float
) -> None:
    number, effect = waited
    ledger = session.ledger
    assert ledger is not None
    match effect:
        case EventGiven():
            entry = session.append(Encoded(effect.body, effect.event))
            deliver(context, links, session, entry, effect.event, now=now)
        case MessageGiven():
            ledger.received = effect.message_id
            message = session.inbox.pending[effect.message_id]
            context.effects.emit(live.received(session.session_id, effect.message_id, message))
            _tell(links, ledger.answering, number, now)
        case EpochGiven():
            begin_epoch(context, links, session, effect.epoch, now)
        case Opening():
            context.announce(session, now)
        case Sealing():
            # First: whoever is at the head is closed by it.
            _tell(links, ledger.answering, ledger.stored, now)
            seal(context, links, session, now)
        case _:
            assert_never(effect)


def deliver(
    context: Context, links: Links, session: Session, entry: Entry, event: Event, *, now: float
) -> None:
    """Send an event that is in the journal to all who are ready."""
    subscribers = context.subscribers[session.session_id]
    for number in subscribers.broadcast(entry, event, context.effects, now):
        links[number].pump(now)
    # Only now: a subscriber that has room gets the event even where nothing is retained.
    session.journal.trim()


def begin_epoch(context: Context, links: Links, session: Session, epoch: str, now: float) -> None:
    """Begin a new epoch, and tell those who follow the session."""
    session.begin_epoch(epoch)
    for number in tuple(context.subscribers[session.session_id].deliveries):
        live.change_epoch(links[number], now)
    snapshots.wake(context, links, session, now)


def seal(context: Context, links: Links, session: Session, now: float) -> None:
    """Seal a session; whoever has had all of it is closed."""
    context.seal(session, now)
    for number in tuple(context.subscribers[session.session_id].deliveries):
        links[number].pump(now)


def _tell(links: Links, waiting: Mapping[int, None], number: int, now: float) -> None:
    """Let connections go on that wait for records up to `number`."""
    for connection_number in tuple(waiting):
        connection.handle(links[connection_number], Input.STORED, number, now)

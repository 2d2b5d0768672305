"""Records given to be stored: numbered, counted, and now and then one that holds a whole session.

Whatever changes a session that is written ahead comes through here: first `begin`, then the
change itself, then `write` with its record.

Spec: the architecture page, "Write ahead".
"""

from gatewayproto import records
from gatewayproto._gateway_effects import Effects
from gatewayproto.frames import Object
from gatewayproto.ledger import Effect
from gatewayproto.session import Session


def begin(effects: Effects, session: Session, now: float) -> None:
    """Give what must precede every other record of a session that was recovered.

    That is its new epoch; or all of it, where it was not recovered from records.
    """
    ledger = session.ledger
    if ledger is None or ledger.base is not None:
        return
    if ledger.unwritten:
        ledger.base = _write_whole(effects, session, now)
    else:
        ledger.base = ledger.give()
        effects.persist(session.session_id, ledger.base, records.epoch(session.epoch))


def write(
    effects: Effects,
    session: Session,
    record: Object,
    now: float,
    effect: Effect | None,
    *,
    every: int,
) -> int:
    """Give a record of what has changed; `effect` waits until it is stored. Gives its number.

    The session is given whole after `every` records.
    """
    ledger = session.ledger
    assert ledger is not None
    number = ledger.give(effect)
    effects.persist(session.session_id, number, record)
    if number - ledger.whole >= every:
        _write_whole(effects, session, now)
    return number


def _write_whole(effects: Effects, session: Session, now: float) -> int:
    ledger = session.ledger
    assert ledger is not None
    record = records.whole(session, now)
    ledger.whole = ledger.give()
    effects.persist(session.session_id, ledger.whole, record)
    return ledger.whole

"""Bugs of gateways that write ahead: what leaves too early, and what a recovery forgets."""

from typing import Final

from tests.mutants.patching import Edit, Mutant, edits

WRITE_AHEAD_BUGS: Final = (
    Mutant(
        "M60",
        "one confirmation lets everything go that waits, stored or not",
        "gateway",
        edits(
            Edit(
                "ledger:Ledger.take",
                "if not self.waiting or self.waiting[0][0] > self.stored:",
                "if not self.waiting:",
            )
        ),
    ),
    Mutant(
        "M61a",
        "a message is acknowledged before it is stored",
        "gateway",
        edits(
            Edit(
                "_connection_link:Link.answer_stored",
                "if ledger is None or ledger.unstored == 0:",
                "if True:",
            )
        ),
    ),
    Mutant(
        "M61b",
        "a refusal that speaks of another message leaves before that one is stored",
        "gateway",
        edits(
            Edit(
                "_connection_live:_refuse",
                "link.answer_stored(frame, now)",
                "link.answer(frame, now)",
            )
        ),
    ),
    Mutant(
        "M61c",
        "the application is told of a message before it is stored, and so works on it twice",
        "gateway",
        edits(
            Edit(
                "_connection_live:_hand_over",
                "record = records.message(session, message_id, message)",
                "context.effects.emit(received(session.session_id, message_id, message))\n"
                "record = records.message(session, message_id, message)",
            )
        ),
    ),
    Mutant(
        "M62",
        "a client is welcomed to a session that is not stored",
        "gateway",
        edits(
            Edit(
                "_connection_opening:_decide",
                "if session.ledger is None or session.ledger.based:",
                "if True:",
            )
        ),
    ),
    Mutant(
        "M63",
        "a new epoch begins before it is stored",
        "gateway",
        edits(
            Edit(
                "_write_ahead:change_epoch",
                "epoch = context.ids()",
                "session.epoch = epoch = context.ids()",
            )
        ),
    ),
    Mutant(
        "M64",
        "the numbers of records start again after a recovery",
        "gateway",
        edits(
            Edit(
                "session:Session.restart",
                "self.ledger.given = self.ledger.stored = given",
                "self.ledger.given = self.ledger.stored = 0",
            )
        ),
    ),
    Mutant(
        "M65a",
        "a session given whole does not say which requests were taken: they run twice",
        "gateway",
        edits(
            Edit(
                "records:whole",
                '[[request_id, known] for request_id, known, _ in inbox["remembered"]]',
                "[]",
            )
        ),
    ),
    Mutant(
        "M65b",
        "a session given whole leaves out the events that wait to be stored",
        "gateway",
        edits(Edit("records:whole", "ledger.unstored_events()", "[]")),
    ),
    Mutant(
        "M66a",
        "a recovery from a store that may be broken keeps the epochs",
        "gateway",
        edits(Edit("gateway:Gateway.recover_stored", "if not unbroken:", "if False:")),
    ),
    Mutant(
        "M66b",
        "a new epoch is stored when its session is needed: until then a broken store looks whole",
        "gateway",
        edits(
            Edit("gateway:Gateway.recover_stored", "gateway._context.begin_soon(now)", ""),
        ),
    ),
    Mutant(
        "M67a",
        "what waits for the store has no bound",
        "gateway",
        edits(
            Edit(
                "ledger:Ledger.full",
                "return self.unstored >= self.max_records or too_large",
                "return False",
            )
        ),
        alone="worlds have room for all that may wait: no application there could bear a refusal",
    ),
    Mutant(
        "M67b",
        "an event that waits is not counted: its run, and its seq, are given once more",
        "gateway",
        edits(
            Edit(
                "ledger:Ledger._wait",
                "self.cursor = effect.seq",
                "self.cursor = self.cursor",
            )
        ),
    ),
)

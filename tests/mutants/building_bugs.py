"""Bugs of gateways whose applications build the snapshots, and of the rates that they grant."""

from typing import Final

from tests.mutants.patching import Edit, Mutant, edits

STATE_BUGS: Final = (
    Mutant(
        "M80",
        "a state that an application built is sent, though it is behind what was sent already",
        "gateway",
        edits(
            Edit(
                "delivery:Delivery._state",
                "least = max(least, self.sent, self.position)",
                "least = max(least, 0)",
            )
        ),
    ),
    Mutant(
        "M81",
        "a state that an application built is sent, though the journal cannot go on from it",
        "gateway",
        edits(
            Edit("delivery:Delivery._state", "session.floor(self.version)", "0"),
            Edit("handshake:Decision.state", "floor = self.session.floor(version)", "floor = 0"),
        ),
    ),
    Mutant(
        "M82a",
        "a state of a former epoch is sent as one of the present: it came too late",
        "gateway",
        edits(
            Edit(
                "_gateway_snapshots:take",
                "if command.epoch != session.epoch:",
                "if not command.epoch:",
            )
        ),
    ),
    Mutant(
        "M82b",
        "a state of a former epoch is sent as one of the present: it was kept",
        "gateway",
        edits(
            Edit(
                "session:Session.begin_epoch",
                "self.built = self.wanted = None",
                "self.wanted = None",
            )
        ),
    ),
    Mutant(
        "M83",
        "the welcome names the head as its sequence, though its snapshot is older",
        "gateway",
        edits(
            Edit(
                "_connection_opening:_attach",
                "sequence = decision.since if state is None else state.cursor",
                "sequence = decision.since if state is None else session.journal.cursor",
            )
        ),
    ),
    Mutant(
        "M84",
        "an application whose states are of no use is asked for another without end",
        "gateway",
        edits(
            Edit(
                "_gateway_context:Context.want_snapshot",
                "wanted.exhausted = wanted.attempt >= self.config.max_snapshot_tries",
                "wanted.exhausted = False",
            )
        ),
    ),
    Mutant(
        "M85",
        "a welcome that waits for a state is forgotten when that comes",
        "gateway",
        edits(
            Edit(
                "_gateway_snapshots:_tell",
                "for number in (*subscribers.awaiting, *due):",
                "for number in due:",
            )
        ),
    ),
    Mutant(
        "M86",
        "events go out to one who waits for the state that an application builds",
        "gateway",
        edits(
            Edit(
                "delivery:Delivery._step",
                "return self._try_snapshot(session, self.due, pumped)",
                "turn = self._try_snapshot(session, self.due, pumped)\n"
                "if pumped.waits:\n"
                "    return self._send_entries(session, pumped, now)\n"
                "return turn",
            )
        ),
    ),
)

RATE_BUGS: Final = (
    Mutant(
        "M87a",
        "a rate is no bound: its bucket never empties",
        "gateway",
        edits(Edit("rates:Bucket.take", "self.level -= 1.0", "self.level -= 0.0")),
    ),
    Mutant(
        "M87b",
        "a rate is no bound over time: its bucket is full again the next moment",
        "gateway",
        edits(
            Edit(
                "rates:Bucket.take",
                "self.level = min(float(rate.burst), self.level + (now - self.at)"
                " * rate.per_second)",
                "self.level = float(rate.burst) if now > self.at else self.level",
            )
        ),
    ),
)

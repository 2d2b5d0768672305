"""Bugs of gateways: what is kept of what was published, and who is sent it when."""

from typing import Final

from tests.mutants.patching import Edit, Mutant, edits

JOURNAL_BUGS: Final = (
    Mutant(
        "M15a",
        "transient events push durable ones out of the journal: one bound for both",
        "gateway",
        edits(
            Edit(
                "journal:Journal.trim",
                "while len(self._durable) > keep.durable:",
                "while self._durable and self._retained > keep.durable:",
            )
        ),
    ),
    Mutant(
        "M15b",
        "transient events push durable ones out of the journal: those go first for their bytes",
        "gateway",
        edits(
            Edit(
                "journal:Journal.trim",
                "if self._transient_count:",
                "if self._transient_count and not self._durable:",
            )
        ),
    ),
    Mutant(
        "M16",
        "an event is journaled once for every subscriber",
        "gateway",
        edits(
            Edit(
                "gateway:Gateway._publish",
                "entry = session.append(encoded)",
                "for _ in range(len(context.subscribers[session.session_id].deliveries) - 1):\n"
                "    session.append(encoded)\n"
                "entry = session.append(encoded)",
            )
        ),
    ),
    Mutant(
        "M20",
        "a token event has no number of its own",
        "gateway",
        edits(
            Edit(
                "journal:Journal.append",
                "self._cursor += 1",
                "if not event.transient:\n    self._cursor += 1",
            )
        ),
    ),
    Mutant(
        "M23",
        "an event that nobody was there to receive is never recorded",
        "gateway",
        edits(
            Edit(
                "gateway:Gateway._publish",
                "entry = session.append(encoded)",
                "if not context.subscribers[session.session_id].deliveries:\n"
                "    return\n"
                "entry = session.append(encoded)",
            )
        ),
    ),
    Mutant(
        "M40",
        "the final of an earlier run supersedes a later run of the same id",
        "gateway",
        edits(
            Edit(
                "journal:Journal._join_run",
                "run = self._open[run_id] = Run(run_id)",
                "ended = any(earlier.run_id == run_id for earlier in self._ended)\n"
                "run = self._open[run_id] = Run(run_id, ended)",
            )
        ),
    ),
)

DELIVERY_BUGS: Final = (
    Mutant(
        "M12",
        "what is published during a replay is replayed, and sent once more as live",
        "gateway",
        edits(
            Edit(
                "delivery:Delivery._send_entries",
                "for kind, frame in self._owed(session):",
                "replaying = self.position < self.replay_until\n"
                "for kind, frame in self._owed(session):",
            ),
            Edit(
                "delivery:Delivery._send_entries",
                "return _Turn.HEAD",
                "if replaying:\n"
                "    for entry in session.journal.after(self.replay_until):\n"
                "        frame = self._frame(entry)\n"
                "        if self.credit.room_for(len(frame)):\n"
                '            self._send("event", frame, pumped, now)\n'
                "return _Turn.HEAD",
            ),
        ),
    ),
    Mutant(
        "M13",
        "what is published during a replay is lost: at its end the subscriber goes live",
        "gateway",
        edits(
            Edit(
                "delivery:Delivery._owed",
                "self.position = entry.seq",
                "self.position = entry.seq\n"
                "if entry.seq == self.replay_until:\n"
                "    yield from self._owed_caught_up()\n"
                "    self.position = session.journal.cursor\n"
                "    return",
            )
        ),
    ),
    Mutant(
        "M14",
        "a trim during a long replay leaves a hole",
        "gateway",
        edits(
            Edit(
                "delivery:Delivery.pump",
                "self._lag(pumped, now, max_lags, lag_period)\ncontinue",
                "self.position = session.floor(self.version)",
            )
        ),
    ),
    Mutant(
        "M17",
        "a second connection takes the stream from the first without a word",
        "gateway",
        edits(
            Edit(
                "subscribers:Subscribers.add",
                "self.deliveries[delivery.connection] = delivery",
                "self.ready.clear()\nself.deliveries[delivery.connection] = delivery",
            ),
            Edit(
                "_connection_link:Link.pump",
                "delivery, session = self.live()",
                "delivery, session = self.live()\n"
                "if self.number != max(self.context.subscribers[session.session_id].deliveries):\n"
                "    return",
            ),
        ),
    ),
    Mutant(
        "M18a",
        "an old connection's late close closes its successor",
        "gateway",
        edits(
            Edit(
                "_connection_live:lose",
                "link.forget(now)",
                "session, context = link.session, link.context\n"
                "link.forget(now)\n"
                "if session is None:\n"
                "    return\n"
                "followers = context.subscribers[session.session_id].deliveries\n"
                "for number in [each for each in followers if each > link.number]:\n"
                "    context.effects.close(number, 1001, 'gone')\n"
                "    context.unfollow(session, number, now)\n"
                "    context.timers.cancel(('connection', number))\n"
                "    context.ended.append(number)",
            )
        ),
    ),
    Mutant(
        "M18b",
        "an old connection's late close takes its successor off the list of who is live",
        "gateway",
        edits(
            Edit(
                "subscribers:Subscribers.remove",
                "self.ready.pop(connection, None)",
                "self.ready.clear()",
            )
        ),
    ),
    Mutant(
        "M24",
        "a replay longer than the window evicts the one who resumes as a slow consumer",
        "gateway",
        edits(
            Edit(
                "delivery:Delivery._send_entries",
                "if not self.credit.room_for(len(frame)):",
                "if not self.credit.room_for(len(frame)):\n"
                "    if self.position < self.replay_until:\n"
                "        pumped.close = ErrorCode.SLOW_CONSUMER",
            )
        ),
    ),
)

SNAPSHOT_BUGS: Final = (
    Mutant(
        "M19",
        "the snapshot's cursor is read after its state: tokens in between are in neither",
        "gateway",
        edits(
            Edit(
                "session:Session.append",
                "self._state = None",
                "if not event.transient:\n    self._state = None",
            ),
            Edit(
                "session:Session.state",
                "return self._state",
                "return State(self.journal.cursor, self._state.body, self._state.plain())",
            ),
        ),
    ),
    Mutant(
        "M41",
        "events go out between the need for a snapshot and the snapshot",
        "gateway",
        edits(
            Edit("delivery:Delivery.at_head", "and self.due is None", ""),
            Edit(
                "delivery:Delivery._step",
                "return self._try_snapshot(session, self.due, pumped)",
                "if not self._room_for_snapshot(session):\n"
                "    return self._send_entries(session, pumped, now)\n"
                "return self._try_snapshot(session, self.due, pumped)",
            ),
        ),
    ),
)

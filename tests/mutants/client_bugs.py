"""Bugs of clients: the cursor, the connection, and the messages that they send."""

from typing import Final

from gatewayproto._table import mistake
from gatewayproto.client import CLIENT_TABLE, ClientState, Trigger
from tests.mutants.patching import Edit, Mutant, Patcher, edits


def _disconnect_raises(patcher: Patcher) -> None:
    stopped = ClientState.STOPPED
    patcher.set_cell(CLIENT_TABLE, (stopped, Trigger.DISCONNECT), mistake(stopped))


CURSOR_BUGS: Final = (
    Mutant(
        "M25",
        "the client adopts the welcome's cursor before the replay has come",
        "client",
        edits(
            Edit(
                "_client_core:ClientCore.attach",
                "self.position = _position(attach, self.held().cursor)",
                "head = self.held().cursor if attach.head is None else attach.head\n"
                "self.position = _position(attach, head)",
            )
        ),
    ),
    Mutant(
        "M26",
        "live events do not move the client's cursor",
        "client",
        edits(
            Edit(
                "_client_live:take_event",
                "token = core.move(frame.seq, now)",
                "token = core.move(frame.seq, now) if replayed else core.held()",
            )
        ),
    ),
    Mutant(
        "M27",
        "a lower seq overwrites what is expected next",
        "client",
        edits(
            Edit(
                "_client_live:take_event",
                "core.note_caught_up_v1(by_frame=True)",
                "if frame.seq < expected:\n"
                "    core.move(frame.seq, now)\n"
                "core.note_caught_up_v1(by_frame=True)",
            )
        ),
    ),
    Mutant(
        "M28",
        "a duplicate is handed on",
        "client",
        edits(
            Edit("_client_live:take_event", "elif frame.seq == expected:", "else:"),
            Edit(
                "_client_live:take_event",
                "token = core.move(frame.seq, now)",
                "token = core.move(max(frame.seq, expected - 1), now)",
            ),
        ),
    ),
    Mutant(
        "M29",
        "the event behind a gap is handed on and counted",
        "client",
        edits(
            Edit(
                "_client_live:take_event",
                "if frame.seq > expected:\n"
                "    _miss(core, frame.seq, now)\n"
                "elif frame.seq == expected:",
                "if frame.seq >= expected:",
            )
        ),
    ),
    Mutant(
        "M30",
        "a cursor of zero is taken for none and not sent",
        "client",
        edits(
            Edit(
                "_client_welcome:hello",
                "since=None if held is None else held.cursor,",
                "since=held.cursor if held and held.cursor else None,",
            )
        ),
    ),
    Mutant(
        "M35",
        "a gap at the tail is never noticed: the cursor of `ping` and `caught_up` is not read",
        "client",
        edits(
            Edit(
                "_client_live:take_caught_up",
                "if frame.cursor > core.held().cursor:\n"
                "    core.gap(frame.cursor, now)\n"
                "elif _is_awaited(core, frame):",
                "if _is_awaited(core, frame):",
            ),
            Edit(
                "_client_live:take_recovery_end",
                "if frame.cursor > core.held().cursor:\n"
                "    core.gap(frame.cursor, now)\n"
                "else:\n"
                "    core.recovered()\n"
                "    _tell_caught_up(core, frame)",
                "core.recovered()\n_tell_caught_up(core, frame)",
            ),
            Edit(
                "_client_live:answer_ping",
                "if ping.cursor is not None and ping.cursor > core.held().cursor:\n"
                "    _miss(core, ping.cursor, now)",
                "",
            ),
        ),
    ),
    Mutant(
        "M36",
        "the baseline of an earlier connection is used after the next one's snapshot: a false gap",
        "client",
        edits(
            Edit(
                "_client_live:take_snapshot",
                "core.position = found.token",
                "core.position = found.token\n"
                "if core.state is ClientState.RESYNCING:\n"
                "    core.position = ResumeToken(\n"
                "        session_id=link.session_id,\n"
                "        epoch=found.epoch,\n"
                "        cursor=min(held.cursor, found.cursor),\n"
                "    )",
            )
        ),
    ),
    Mutant(
        "M38a",
        "a snapshot's cursor is taken and its state is ignored",
        "client",
        edits(Edit("_client_live:take_snapshot", "core.emit(found)", "")),
    ),
    Mutant(
        "M38b",
        "a snapshot's state is applied and its cursor is not: older events overtake it",
        "client",
        edits(
            Edit(
                "_client_live:take_snapshot",
                "core.position = found.token",
                "if held.epoch != found.epoch:\n    core.position = found.token",
            )
        ),
    ),
)

CONNECTION_BUGS: Final = (
    Mutant(
        "M31",
        "a rejected version is retried for ever",
        "client",
        edits(
            Edit(
                "_client_endings:_of_close_code",
                "if code == ERRORS[ErrorCode.AUTH_EXPIRED].close_code:",
                "if code == ERRORS[ErrorCode.VERSION_UNSUPPORTED].close_code:\n"
                "    return Next.RETRY\n"
                "if code == ERRORS[ErrorCode.AUTH_EXPIRED].close_code:",
            )
        ),
    ),
    Mutant(
        "M32",
        "`disconnect` raises once the client has ended by itself",
        "client",
        _disconnect_raises,
    ),
    Mutant(
        "M33",
        "the handshake has no timeout",
        "client",
        edits(
            Edit(
                "_client_core:ClientCore.open",
                "self.arm(Trigger.HANDSHAKE_LATE, now + self.config.handshake_timeout, now)",
                "",
            )
        ),
    ),
    Mutant(
        "M34a",
        "the backoff is reset by a welcome alone",
        "client",
        edits(
            Edit(
                "_client_core:ClientCore.attach",
                "self.timers.cancel(Trigger.HANDSHAKE_LATE)",
                "self.timers.cancel(Trigger.HANDSHAKE_LATE)\nself.attempt = 0",
            )
        ),
    ),
    Mutant(
        "M34b",
        "attempts are counted wrong: the first try is one, too",
        "client",
        edits(
            Edit(
                "_client_core:ClientCore.retry",
                "self.attempt >= limit",
                "self.attempt + 1 >= limit",
            )
        ),
    ),
    Mutant(
        "M34c",
        "attempts are counted wrong: the delay is that of the attempt before",
        "client",
        edits(
            Edit(
                "_client_core:ClientCore.retry",
                "self.config.backoff.delay(self.attempt, self.rng.random(), floor=floor)",
                "self.config.backoff.delay(self.attempt - 1, self.rng.random(), floor=floor)",
            )
        ),
    ),
)

MESSAGE_BUGS: Final = (
    Mutant(
        "M37a",
        "an unacknowledged request is dropped with its connection",
        "client",
        edits(
            Edit(
                "outbox:Outbox.detach",
                "self._waiting = {**self._in_flight, **self._waiting}",
                "",
            )
        ),
    ),
    Mutant(
        "M37b",
        "an unacknowledged request is sent again after newer ones",
        "client",
        edits(
            Edit(
                "outbox:Outbox.detach",
                "{**self._in_flight, **self._waiting}",
                "{**self._waiting, **self._in_flight}",
            )
        ),
    ),
    Mutant(
        "M39",
        "unacknowledged requests are sent again into a new session or epoch: they run twice",
        "client",
        edits(
            Edit(
                "_client_core:ClientCore.forget_written",
                "for pending in self.outbox.drop_written():\n"
                "    self.emit(OutcomeUnknown(request_id=pending.request_id))",
                "",
            )
        ),
    ),
)

"""Bugs of gateways: what is decided at the handshake, and what survives a restart."""

from typing import Final

from tests.mutants.patching import Edit, Mutant, edits

HANDSHAKE_BUGS: Final = (
    Mutant(
        "M01",
        "resume below the floor replays what is left, as if nothing were missing",
        "gateway",
        edits(
            Edit(
                "handshake:resync_reason",
                'if since < session.floor(version):\n    return "trimmed"',
                "",
            ),
            Edit(
                "_connection_opening:_delivery",
                "position=decision.since,",
                "position=max(decision.since, session.floor(request.version)),",
            ),
        ),
    ),
    Mutant(
        "M02",
        "the floor is off by one: a resync where nothing is missing",
        "gateway",
        edits(
            Edit(
                "handshake:resync_reason",
                "since < session.floor(version)",
                "since <= session.floor(version)",
            )
        ),
    ),
    Mutant(
        "M03",
        "the floor is off by one the other way: one event is lost",
        "gateway",
        edits(
            Edit("journal:Journal.floor", "return self._floor", "return max(0, self._floor - 1)")
        ),
    ),
    Mutant(
        "M04",
        "a `since` past the cursor counts as up to date",
        "gateway",
        edits(
            Edit(
                "handshake:resync_reason",
                'if since > session.journal.cursor:\n    return "cursor_ahead"',
                "",
            ),
            Edit(
                "_connection_opening:_delivery",
                "position=decision.since,",
                "position=min(decision.since, head),",
            ),
        ),
    ),
    Mutant(
        "M05",
        "the epoch that a client names is not compared with the session's",
        "gateway",
        edits(
            Edit(
                "handshake:resync_reason",
                "if unnamed or any(epoch != session.epoch for epoch in epochs):",
                "if unnamed:",
            )
        ),
    ),
    Mutant(
        "M06",
        "the epoch stays although state may have been lost",
        "gateway",
        edits(
            Edit("gateway:Gateway.recover", "if not unbroken:\n    session.begin_epoch(ids())", "")
        ),
    ),
    Mutant(
        "M07a",
        "`hello`, unlike `join`, does not check whose agent's the session is",
        "gateway",
        edits(
            Edit(
                "handshake:decide",
                "if session.agent_id != request.agent_id:",
                'if request.kind == "join" and session.agent_id != request.agent_id:',
            )
        ),
    ),
    Mutant(
        "M07b",
        "`hello`, unlike `join`, does not check the epoch",
        "gateway",
        edits(
            Edit(
                "handshake:decide",
                "reason = resync_reason(session, request.version, request.epochs, request.since)",
                'epochs = request.epochs if request.kind == "join" else (session.epoch,)\n'
                "reason = resync_reason(session, request.version, epochs, request.since)",
            )
        ),
    ),
    Mutant(
        "M08a",
        "a `since` that is a string, a float or a boolean is coerced to an integer",
        "gateway",
        edits(
            Edit(
                "handshake:read",
                "try:",
                "since = parsed.fields.get('since')\n"
                "if str(since).removesuffix('.0').isdigit() or isinstance(since, bool):\n"
                "    parsed.fields['since'] = int(float(since))\n"
                "try:",
            )
        ),
    ),
    Mutant(
        "M08b",
        "a `since` that is a string raises, because it is compared before it is checked",
        "gateway",
        edits(
            Edit(
                "handshake:read",
                "try:",
                "if (parsed.fields.get('since') or 0) < 0:\n"
                "    return refuse(ErrorCode.INVALID_CURSOR, 'a cursor is never negative')\n"
                "try:",
            )
        ),
    ),
    Mutant(
        "M09",
        "version fields are compared before they are checked",
        "gateway",
        edits(
            Edit(
                "versions:read_offer",
                "try:",
                "if low is not None and high is not None and low > high:\n"
                "    return Offer(None, stated=True)\n"
                "try:",
            )
        ),
    ),
    Mutant(
        "M10",
        "`sequence` in the welcome is the head although a replay follows",
        "gateway",
        edits(
            Edit(
                "_connection_opening:_attach",
                "sequence = decision.since if state is None else state.cursor",
                "sequence = session.journal.cursor",
            )
        ),
    ),
    Mutant(
        "M22",
        "another principal's session is resumed",
        "gateway",
        edits(
            Edit(
                "handshake:decide",
                "if session is None or session.principal != principal:",
                "if session is None:",
            )
        ),
    ),
)

RESTART_BUGS: Final = (
    Mutant(
        "M11",
        "the numbering starts again after a restore",
        "gateway",
        edits(Edit("journal:Journal.from_state", 'journal._cursor = state["cursor"]', "")),
    ),
    Mutant(
        "M21",
        "a repeated request runs twice after a restart: its id is not stored",
        "gateway",
        edits(
            Edit(
                "requests:Inbox.load",
                "self._remembered = {\n"
                "    request_id: _Remembered(fingerprint, now - ago)\n"
                '    for request_id, fingerprint, ago in state["remembered"]\n'
                "}",
                "",
            )
        ),
    ),
)

"""Bugs where something ends: a session that is closed, a gateway that sends its clients away."""

from typing import Final

from tests.mutants.patching import Edit, Mutant, edits

CLOSING_BUGS: Final = (
    Mutant(
        "M42",
        "closing a session drops what a lagging subscriber has not had",
        "gateway",
        edits(
            Edit(
                "_connection_link:Link.pump",
                "if session.sealed and delivery.at_head(session):",
                "if session.sealed:",
            )
        ),
    ),
    Mutant(
        "M50",
        "a message is taken into the inbox of a session that is closed",
        "gateway",
        edits(
            Edit(
                "requests:Inbox.admit",
                "refused = Refused(*_CLOSED) if sealed else self._refuse(message, full)",
                "refused = self._refuse(message, full)",
            )
        ),
    ),
    Mutant(
        "M51",
        "a closed session refuses the copy of a message that it took",
        "gateway",
        edits(
            Edit(
                "requests:Inbox.admit",
                'fingerprint = ""',
                'fingerprint = ""\nif sealed:\n    return Refused(*_CLOSED)',
            )
        ),
    ),
    Mutant(
        "M52",
        "an event is published in a session that is closed, behind the last close",
        "gateway",
        edits(
            Edit(
                "gateway:Gateway._publish",
                "if session is None or session.is_closed:",
                "if session is None:",
            )
        ),
    ),
    Mutant(
        "M53",
        "a closed session lives as long as its owner keeps attaching to it",
        "gateway",
        edits(
            Edit(
                "_gateway_context:Context.follow",
                "if not session.sealed:",
                "if True:",
            ),
            Edit(
                "_gateway_context:Context._leave_alone",
                "if not subscribers.is_followed and not session.sealed and session.is_opened:",
                "if not subscribers.is_followed and session.is_opened:",
            ),
            Edit(
                "_gateway_context:Context.session_of",
                "return None if session is None or self._is_over(session) else session",
                "return session",
            ),
            Edit(
                "_gateway_context:Context.expire_unfollowed",
                "if self._is_over(session):",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "M54",
        "at the end of its window a closed session is forgotten under one who still reads it",
        "gateway",
        edits(
            Edit(
                "_gateway_context:Context.expire_session",
                "if self.subscribers[session_id].is_followed:",
                "if False:",
            )
        ),
    ),
)

DRAINING_BUGS: Final = (
    Mutant(
        "M55",
        "a gateway that drains still takes newcomers",
        "gateway",
        edits(
            Edit(
                "gateway:Gateway._open",
                "if context.draining is not None:",
                "if False:",
            )
        ),
    ),
    Mutant(
        "M56",
        "a second command to drain gives those who stay more time",
        "gateway",
        edits(
            Edit(
                "_gateway_drain:drain",
                "if left is not None and deadline < left:",
                "if left is not None:",
            )
        ),
    ),
    Mutant(
        "M57a",
        "who is slow is not told that the gateway drains: the request waits for room",
        "gateway",
        edits(
            Edit(
                "_connection_live:send_away",
                "if going_away is None:",
                "if going_away is not None and not link.credit.room_for(len(going_away)):\n"
                "    return\n"
                "if going_away is None:",
            )
        ),
    ),
    Mutant(
        "M57b",
        "a client that was told to leave goes on writing messages",
        "client",
        edits(
            Edit(
                "_client_core:ClientCore.flush",
                "if self.state in ATTACHED and self.linked().leaving is None:",
                "if self.state in ATTACHED:",
            )
        ),
    ),
)

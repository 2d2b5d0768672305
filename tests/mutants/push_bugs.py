"""Bugs of credentials, presence and health: on a living connection, and beside the events."""

from typing import Final

from tests.mutants.patching import Edit, Mutant, edits

CREDENTIAL_BUGS: Final = (
    Mutant(
        "M43",
        "fresh credentials of another principal are taken on a living connection",
        "gateway",
        edits(
            Edit(
                "_connection_live:renew",
                "if accepted.principal != session.principal:\n"
                "    link.close(ErrorCode.AUTH_UNAUTHORIZED, now)\n"
                "    return",
                "",
            )
        ),
    ),
    Mutant(
        "M44a",
        "a connection outlives its credentials",
        "gateway",
        edits(
            Edit(
                "_connection_live:watch_over",
                "if link.expires is not None and now >= link.expires:\n"
                "    link.close(ErrorCode.AUTH_EXPIRED, now)\n"
                "    return",
                "",
            ),
            Edit(
                "_connection_link:Link.watch",
                "if self.expires is not None:\n    deadlines.append(self.expires)",
                "",
            ),
        ),
    ),
    Mutant(
        "M44b",
        "credentials that were renewed expire all the same",
        "gateway",
        edits(
            Edit(
                "_connection_live:renew",
                "link.expires = None if accepted.expires_in is None else now + accepted.expires_in",
                "",
            )
        ),
    ),
    Mutant(
        "M45a",
        "the application is asked about one token while it decides on another",
        "gateway",
        edits(
            Edit(
                "_connection_live:review",
                "if link.reviewing:\n"
                "    link.next_token = frame.token\n"
                "else:\n"
                "    _ask_about(link, frame.token)",
                "_ask_about(link, frame.token)",
            )
        ),
    ),
    Mutant(
        "M45b",
        "a token that comes while another is looked at is dropped",
        "gateway",
        edits(Edit("_connection_live:review", "link.next_token = frame.token", "pass")),
    ),
    Mutant(
        "M49c",
        "a client comes back with the token that has expired, again and again",
        "client",
        edits(
            Edit(
                "_client_core:ClientCore._has_untried_token",
                "return link.new_token and crossed",
                "return link.new_token or link.version is not None",
            )
        ),
    ),
)
PUSH_BUGS: Final = (
    Mutant(
        "M46a",
        "a push goes to a transport that has no room for it",
        "gateway",
        edits(
            Edit(
                "_gateway_pushes:_charge",
                "if not delivery.credit.room_for(len(frame)):\n    return False",
                "",
            )
        ),
    ),
    Mutant(
        "M46b",
        "a push goes before the events that a subscriber is owed",
        "gateway",
        edits(
            Edit(
                "_gateway_pushes:push_presence",
                "delivery = subscribers.ready.get(number)",
                "delivery = subscribers.deliveries.get(number)",
            )
        ),
    ),
    Mutant(
        "M47a",
        "a change is pushed to one who never knew the list that it changes",
        "gateway",
        edits(
            Edit(
                "_gateway_pushes:push_presence",
                "if told.listed and told.presence == changes.since:",
                "if told.listed:",
            )
        ),
    ),
    Mutant(
        "M47b",
        "who came and left between two pushes is told as gone to those who never saw it",
        "gateway",
        edits(
            Edit(
                "presence:PresenceChanges.note_left",
                "if self.joined.pop(client_id, None) is None:\n    self.left.append(client_id)",
                "self.joined.pop(client_id, None)\nself.left.append(client_id)",
            )
        ),
    ),
    Mutant(
        "M48a",
        "who had no room for a push is never told what it said",
        "gateway",
        edits(
            Edit(
                "_connection_link:Link.pump",
                "pushes.catch_up(self.context, subscribers, delivery, now)",
                "",
            )
        ),
    ),
    Mutant(
        "M48b",
        "every client that comes or goes is a push to all the others",
        "gateway",
        edits(
            Edit(
                "_gateway_context:Context._plan_presence_push",
                "max(now, subscribers.changes.not_before)",
                "now",
            )
        ),
    ),
    Mutant(
        "M49a",
        "a change of a list that the client does not have is handed on",
        "client",
        edits(
            Edit(
                "_client_live:tell_presence",
                "if frame.from_version is not None and not (\n"
                "    link.presence_listed and frame.from_version == link.presence_version\n"
                "):\n"
                '    core.end_bad(malformed("a change of a presence list that was never told"),'
                " now)\n"
                "    return",
                "",
            )
        ),
    ),
    Mutant(
        "M49b",
        "presence that is older than what was told is handed on after it",
        "client",
        edits(
            Edit(
                "_client_live:tell_presence",
                "if frame.version <= "
                "(-1 if link.presence_version is None else link.presence_version):\n"
                "    return",
                "",
            )
        ),
    ),
)

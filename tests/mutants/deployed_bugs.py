"""Bugs of a client that meets servers of version 1 as they are deployed."""

from typing import Final

from tests.mutants.patching import Edit, Mutant, edits

DEPLOYED_BUGS: Final = (
    Mutant(
        "M90",
        "a hole that a version 1 server cannot fill is asked for again, for ever",
        "client",
        edits(
            Edit(
                "_client_core:ClientCore.is_known_hole",
                "self.hole == self.held()",
                "False",
            )
        ),
    ),
    Mutant(
        "M91",
        "a version 1 server's hole is passed over without asking for it once more",
        "client",
        edits(
            Edit(
                "_client_core:ClientCore.is_known_hole",
                "and self.hole == self.held()",
                "",
            )
        ),
    ),
    Mutant(
        "M92",
        "a version 1 server's tail that never came is not missed",
        "client",
        edits(
            Edit(
                "_client_live:note_pong",
                "head > core.held().cursor",
                "False",
            )
        ),
    ),
)

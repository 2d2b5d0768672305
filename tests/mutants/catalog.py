"""All mutants, and what of the list of known bugs has none."""

from typing import Final

from tests.mutants.building_bugs import RATE_BUGS, STATE_BUGS
from tests.mutants.client_bugs import CONNECTION_BUGS, CURSOR_BUGS, MESSAGE_BUGS
from tests.mutants.delivery_bugs import DELIVERY_BUGS, JOURNAL_BUGS, SNAPSHOT_BUGS
from tests.mutants.deployed_bugs import DEPLOYED_BUGS
from tests.mutants.ending_bugs import CLOSING_BUGS, DRAINING_BUGS
from tests.mutants.gateway_bugs import HANDSHAKE_BUGS, RESTART_BUGS
from tests.mutants.patching import Mutant
from tests.mutants.push_bugs import CREDENTIAL_BUGS, PUSH_BUGS
from tests.mutants.store_bugs import WRITE_AHEAD_BUGS

BUGS: Final[tuple[Mutant, ...]] = (
    *HANDSHAKE_BUGS,
    *RESTART_BUGS,
    *JOURNAL_BUGS,
    *DELIVERY_BUGS,
    *SNAPSHOT_BUGS,
    *CURSOR_BUGS,
    *CONNECTION_BUGS,
    *MESSAGE_BUGS,
    *DEPLOYED_BUGS,
    *CREDENTIAL_BUGS,
    *PUSH_BUGS,
    *CLOSING_BUGS,
    *DRAINING_BUGS,
    *WRITE_AHEAD_BUGS,
    *STATE_BUGS,
    *RATE_BUGS,
)
MUTANTS: Final[dict[str, Mutant]] = {
    mutant.id: mutant for mutant in sorted(BUGS, key=lambda mutant: mutant.id)
}
"""By id, in order. A letter behind the number tells variants of one bug apart."""

ABOUT: Final[dict[str, str]] = {
    **{mutant.id: "deployed" for mutant in DEPLOYED_BUGS},
    **{mutant.id: "building" for mutant in STATE_BUGS},
    **{mutant.id: "rates" for mutant in RATE_BUGS},
    **{mutant.id: "pushes" for mutant in (*CREDENTIAL_BUGS, *PUSH_BUGS)},
    **{mutant.id: "endings" for mutant in (*CLOSING_BUGS, *DRAINING_BUGS)},
}
"""What runs must be about for a bug to show; the others show in any."""

NOT_YET: Final[dict[str, str]] = {}
"""Known bugs of what does not exist."""

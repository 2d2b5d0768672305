"""All mutants, and what of the list of known bugs has none."""

from typing import Final

from tests.mutants.building_bugs import RATE_BUGS, STATE_BUGS
from tests.mutants.client_bugs import CONNECTION_BUGS, CURSOR_BUGS, MESSAGE_BUGS
from tests.mutants.delivery_bugs import DELIVERY_BUGS, JOURNAL_BUGS, SNAPSHOT_BUGS
from tests.mutants.gateway_bugs import HANDSHAKE_BUGS, RESTART_BUGS
from tests.mutants.patching import Mutant

BUGS: Final[tuple[Mutant, ...]] = (
    *HANDSHAKE_BUGS,
    *RESTART_BUGS,
    *JOURNAL_BUGS,
    *DELIVERY_BUGS,
    *SNAPSHOT_BUGS,
    *CURSOR_BUGS,
    *CONNECTION_BUGS,
    *MESSAGE_BUGS,
    *STATE_BUGS,
    *RATE_BUGS,
)
MUTANTS: Final[dict[str, Mutant]] = {
    mutant.id: mutant for mutant in sorted(BUGS, key=lambda mutant: mutant.id)
}
"""By id, in order. A letter behind the number tells variants of one bug apart."""

NOT_YET: Final = {"M42": "nothing closes a session yet"}
"""Known bugs of what does not exist."""

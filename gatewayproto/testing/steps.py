"""What an observer sees of a run: every input with its actions, and what happened to the world.

A run is a sequence of steps. Monitors judge it, transcripts show it, and nothing in it is taken
from inside a machine: inputs, actions and deadlines are all that a driver sees, too.

Spec: the verification page, "One world".
"""

from collections.abc import Mapping
from typing import Final, Literal

from attrs import field, frozen

from gatewayproto.actions import ClientAction, GatewayAction, ResumeToken
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.inputs import ClientInput, GatewayInput

GATEWAY: Final = "gateway"
WORLD: Final = "world"
"""The names of those who are no client, in `Step.who`."""

Side = Literal["both", "client", "gateway"]
Restart = Literal["whole", "store", "copy", "nothing"]
Garble = Literal["lost", "repeated", "swapped"]


class Violation(AssertionError):  # noqa: N818 -- it is what monitors find, not a mistake
    """A run broke a property: `prop` is its number (`P1` to `P17`), `text` says how."""

    def __init__(self, prop: str, text: str) -> None:
        super().__init__(f"{prop}: {text}")
        self.prop = prop
        self.text = text


# -- what happens to the world ----------------------------------------------------------------


@frozen
class ClientAdded:
    """A client began, from nothing or from a stored position.

    `config` is its configuration. A client that is not told of any more has died in silence.
    """

    client: str
    config: ClientConfig
    resume: ResumeToken | None = None


@frozen
class LinkOpened:
    """A client's transport became a connection of the gateway; both are told next."""

    client: str
    transport: int
    connection: int


@frozen
class LinkCut:
    """What was in flight is lost. A side that is not told goes on as if nothing had happened."""

    client: str
    transport: int
    connection: int | None
    told: Side


@frozen
class LinkStalled:
    """Bytes stop flowing on a link, or flow again; nobody is told."""

    client: str
    transport: int
    connection: int | None
    stalled: bool


@frozen
class FrameGarbled:
    """A link that should not did something to the next frame in flight; nobody is told.

    `lost`: it never arrives; `repeated`: it arrives twice; `swapped`: it arrives after the one
    behind it. TCP does none of it, but proxies and gateways do.
    """

    client: str
    transport: int
    connection: int | None
    how: Garble
    up: bool


@frozen
class Saved:
    """The gateway's state was copied to a store; `Restarted("copy")` comes back with the last."""


@frozen
class Restarted:
    """The gateway's process died, and every connection with it; clients have yet to learn it.

    `whole`: it came back with its state as it was, and asserts that it is unbroken; `store`: with
    that state, unable to assert it; `copy`: with the state as of the last `Saved`; `nothing`.
    """

    kind: Restart


@frozen
class Swapped:
    """A machine was replaced by what its saved state restores; nobody may notice."""

    who: str


@frozen
class ClockJumped:
    """The clock moved by so many seconds at once, past any deadline (a laptop that slept)."""

    seconds: float


@frozen
class Healed:
    """Faults stop here: from now on every byte arrives and every application does its part."""


@frozen
class Rested:
    """After `Healed`: nothing is in flight and nobody has anything to do but wait."""


Happening = (
    ClientAdded
    | LinkOpened
    | LinkCut
    | LinkStalled
    | FrameGarbled
    | Saved
    | Restarted
    | Swapped
    | ClockJumped
    | Healed
    | Rested
)

# -- steps ------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Step:
    """One call of a machine's `handle`, or one thing that happened to the world.

    - `now`: the world's time in seconds.
    - `who`: whose step it is: `GATEWAY`, a client's name, or `WORLD`.
    - `input`: what the machine was given; `actions`: what it gave.
    - `deadline`: its `next_deadline` afterwards.
    - `raised`: what came out in place of actions.
    """

    now: float
    who: str
    input: GatewayInput | ClientInput | Happening
    actions: tuple[GatewayAction | ClientAction, ...] = ()
    deadline: float | None = None
    raised: Exception | None = field(default=None, eq=False)


@frozen(kw_only=True)
class Setup:
    """Who takes part: what monitors know of the machines before the first step.

    Either side may be missing: a machine alone against any peer, or a recording of one.
    """

    gateway: GatewayConfig | None = None
    clients: Mapping[str, ClientConfig] = field(factory=dict)

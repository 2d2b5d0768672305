"""Which faults a simulated world suffers, and how tight its limits are.

A profile says how often each kind of deed is chosen. `swarm` draws a mix of its own for every seed:
a run in which everything may happen seldom gets deep into anything.

Spec: the verification page, "Simulator".
"""

from collections.abc import Mapping
from typing import Final

from attrs import evolve, field, frozen

from gatewayproto.backoff import Backoff
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.rates import Rate
from gatewayproto.testing.choices import Choices, pick
from gatewayproto.testing.deeds import Kind, Limits
from gatewayproto.versions import VersionRange

Weights = Mapping[Kind, int]

WORK: Final[Weights] = {
    Kind.OPEN: 10,
    Kind.UP: 8,
    Kind.DRAIN: 4,
    Kind.DOWN: 10,
    Kind.FLOW: 12,
    Kind.WORK: 10,
    Kind.TOKENS: 5,
    Kind.FINAL: 4,
    Kind.DURABLE: 4,
    Kind.SEND: 3,
    Kind.TAKE: 6,
    Kind.TAB: 2,
    Kind.WAIT: 2,
    Kind.TICK: 2,
}
"""What goes on without any fault."""

FAULTS: Final[Mapping[str, Weights]] = {
    "cuts": {Kind.CUT: 4, Kind.REFUSE: 2},
    "restarts": {Kind.RESTART: 2, Kind.SAVE: 2},
    "slow": {Kind.STALL: 3, Kind.LARGE: 3, Kind.TOKENS: 6},
    "garbled": {Kind.GARBLE: 4},
    "clock": {Kind.JUMP: 2, Kind.EARLY: 3},
    "clients": {Kind.TAB: 3, Kind.REBORN: 2, Kind.THIEF: 1, Kind.DISCONNECT: 2},
    "requests": {Kind.REPEAT: 4, Kind.QUESTION: 2, Kind.ANSWER: 3, Kind.SEND: 4},
    "recovery": {Kind.RESYNC: 2, Kind.EPOCH: 1},
    "refusals": {Kind.REJECT: 2, Kind.TOKEN: 1},
    "swaps": {Kind.SWAP: 2},
}
"""The kinds of faults that a swarm's mix is drawn from, and the names of the pure profiles."""

PUSHES: Final[Weights] = {
    Kind.OPEN: 12,
    Kind.FLOW: 40,
    Kind.WORK: 16,
    Kind.TAB: 8,
    Kind.REBORN: 1,
    Kind.CUT: 2,
    Kind.STALL: 1,
    Kind.LARGE: 3,
    Kind.HEALTH: 3,
    Kind.ABORT: 2,
    Kind.TOKEN: 5,
    Kind.REVIEW: 10,
    Kind.RENEW: 4,
    Kind.END: 1,
    Kind.SWAP: 1,
    Kind.RESTART: 1,
    Kind.SAVE: 1,
    Kind.TICK: 3,
    Kind.EARLY: 1,
}
"""What the profile `pushes` adds: who comes and goes, health, credentials; and some faults."""

ENDINGS: Final[Weights] = {
    Kind.CLOSE: 1,
    Kind.SEND_AWAY: 1,
    Kind.SUCCEED: 12,
    Kind.REBORN: 1,
    Kind.STALL: 2,
    Kind.SEND: 3,
    Kind.FLOW: 12,
}
"""The ends of sessions and of processes, that the profile `endings` adds to a mix."""

STORE: Final[Weights] = {
    Kind.PERSIST: 25,
    Kind.EPOCH: 1,
    Kind.CUT: 3,
    Kind.REPEAT: 4,
    Kind.QUESTION: 2,
    Kind.ANSWER: 3,
    Kind.SEND: 4,
    Kind.RESYNC: 1,
    Kind.RESTART: 2,
    Kind.SAVE: 1,
    Kind.SWAP: 2,
}
"""What happens beside to a gateway that writes ahead. No clock jumps, so that nothing is forgotten
while it waits for the store."""

BUILDING: Final[Weights] = {
    Kind.BUILD: 14,
    Kind.OPEN: 12,
    Kind.FLOW: 40,
    Kind.WORK: 16,
    Kind.RESYNC: 8,
    Kind.TAB: 5,
    Kind.CUT: 4,
    Kind.DURABLE: 12,
    Kind.LARGE: 2,
    Kind.STALL: 2,
    Kind.EPOCH: 1,
    Kind.REBORN: 1,
    Kind.SWAP: 1,
    Kind.RESTART: 1,
    Kind.SAVE: 1,
    Kind.TICK: 3,
    Kind.EARLY: 1,
}
"""What the profile `building` adds: states that the application builds, and whoever needs them."""

RATES: Final[Weights] = {
    Kind.SEND: 12,
    Kind.RESYNC: 8,
    Kind.TAB: 5,
    Kind.CUT: 5,
    Kind.OPEN: 8,
    Kind.FLOW: 24,
    Kind.WORK: 12,
    Kind.TICK: 4,
    Kind.SWAP: 1,
    Kind.RESTART: 1,
    Kind.STALL: 1,
}
"""What the profile `rates` adds: those who come and ask more often than they may."""

_ADDED: Final[Mapping[str, Weights]] = {
    "pushes": PUSHES,
    "endings": ENDINGS,
    "building": BUILDING,
    "rates": RATES,
}
NAMES: Final = (
    *("swarm", "calm", "everything", *FAULTS),
    *("pushes", "endings", "stored", "building", "rates"),
)
"""The names of the profiles."""


@frozen(kw_only=True)
class Profile:
    """What one simulated world is made of.

    - `weights`: how often each kind of deed is chosen, relative to the others.
    - `deeds`: how many are done before faults stop.
    - `addresses`: whether the gateway is told from where its clients come.
    """

    name: str
    weights: Weights
    gateway: GatewayConfig
    clients: tuple[ClientConfig, ...]
    limits: Limits = field(factory=Limits)
    deeds: int = 150
    addresses: bool = False


def draw(name: str, choices: Choices) -> Profile:
    """The profile of this name, with limits and a mix drawn. Raises `KeyError` for another name."""
    if name == "stored":
        return _draw_stored(choices)
    weights = dict(WORK)
    if name in {"swarm", "endings"}:
        # Most runs suffer two or three kinds of faults, some none, some nearly all.
        share = pick(choices, (2, 3, 3, 5))
        mix = [fault for fault in FAULTS if choices.choose(share) == 0]
        if name == "endings" and "recovery" in mix and "garbled" in mix:
            mix.remove("garbled")  # a lost frame may be the only one that names a new epoch
    elif name == "everything":
        mix = list(FAULTS)
    else:
        mix = [] if name == "calm" or name in _ADDED else [name]
    for added in (*(FAULTS[fault] for fault in mix), _ADDED.get(name, {})):
        for kind, weight in added.items():
            weights[kind] = weights.get(kind, 0) + weight
    gateway = _gateway(choices, pushes=name == "pushes")
    if name == "building":
        gateway = _building(gateway, choices)
    elif name == "rates":
        gateway = _rates(gateway, choices)
    return Profile(
        name=name,
        weights=weights,
        gateway=gateway,
        clients=tuple(_client(choices, number) for number in range(1 + choices.choose(2))),
        limits=Limits(large=pick(choices, (700, 3000)), max_clients=6),
        addresses=name == "rates",
    )


def _draw_stored(choices: Choices) -> Profile:
    """A gateway that writes ahead, with room for all that may wait for its store."""
    weights = {kind: WORK.get(kind, 0) + STORE.get(kind, 0) for kind in (*WORK, *STORE)}
    gateway = evolve(
        _gateway(choices),
        write_ahead=True,
        resume_window=32.0,
        max_unstored=100_000,
        checkpoint_every=pick(choices, (1000, 9, 3)),
        answer_window=64 * 1024,
        max_pending_requests=100,
        max_open_runs=1000,
        max_connections=100,
        max_sessions=100,
    )
    return Profile(
        name="stored",
        weights=weights,
        gateway=gateway,
        clients=tuple(_client(choices, number) for number in range(1 + choices.choose(2))),
        limits=Limits(large=pick(choices, (700, 3000)), max_clients=6, waits=(0.25, 2.0, 5.0)),
    )


_TTL: Final = 64.0


def _gateway(choices: Choices, *, pushes: bool = False) -> GatewayConfig:
    versions = pick(choices, ((1, 2), (1, 2), (1, 2), (1, 2), (2, 2), (1, 1)))
    return GatewayConfig(
        versions=VersionRange(*versions),
        heartbeat=8.0,
        handshake_timeout=8.0,
        resume_window=128.0,
        request_ttl=_TTL,
        stall_timeout=32.0,
        lag_period=64.0,
        retry_after=2.0,
        retain=pick(choices, (50, 20, 6, 6, 2, 0)),
        retain_transient=pick(choices, (80, 40, 5, 5, 2, 0)),
        retain_bytes=pick(choices, (8 * 1024 * 1024, 900)),
        send_window=pick(choices, (300, 900, 4096, 256 * 1024)),
        answer_window=pick(choices, (64 * 1024, 2048)),
        max_pending_requests=pick(choices, (4, 2, 100)),
        max_lags=pick(choices, (20, 2)),
        max_open_runs=pick(choices, (1000, 2)),
        # As many as there are clients, so that nobody is turned away for ever.
        max_connections=pick(choices, (100, 6)),
        max_sessions=pick(choices, (100, 6)),
        presence_max=pick(choices, (100, 1)),
        frame_rate=None,
        recovery_rate=None,
        session_rate=None,
        push_interval=pick(choices, (1.0, 0.25, 8.0)) if pushes else None,
    )


def _building(gateway: GatewayConfig, choices: Choices) -> GatewayConfig:
    """The application builds the snapshots, in time or not."""
    return evolve(
        gateway,
        resume_window=pick(choices, (128.0, 128.0, 4.0)),
        application_snapshots=True,
        snapshot_timeout=pick(choices, (4.0, 0.5, 16.0)),
        max_snapshot_tries=pick(choices, (2, 5, 1)),
    )


def _rates(gateway: GatewayConfig, choices: Choices) -> GatewayConfig:
    """Rates that are reached, slow and quick ones; over the long run everybody gets through."""
    return evolve(
        gateway,
        frame_rate=pick(choices, (Rate(0.5, 8), Rate(2.0, 4), None)),
        recovery_rate=pick(choices, (Rate(0.0625, 1), Rate(0.5, 2), None)),
        connection_rate=pick(choices, (Rate(0.25, 2), None)),
        handshake_rate=pick(choices, (Rate(0.25, 2), None)),
        session_rate=pick(choices, (Rate(0.125, 1), Rate(0.5, 2), None)),
    )


def _client(choices: Choices, number: int) -> ClientConfig:
    versions = pick(choices, ((1, 2), (1, 2), (1, 2), (2, 2), (1, 1)))
    return ClientConfig(
        agent_id="agent",
        token=f"t{number}",
        versions=VersionRange(*versions),
        start=pick(choices, (None, None, "snapshot")),
        max_payload=pick(choices, (1024 * 1024, 2048)),
        handshake_timeout=8.0,
        recovery_timeout=8.0,
        heartbeat=8.0,
        request_ttl=_TTL,
        max_queued=pick(choices, (1000, 2)),
        max_attempts=pick(choices, (None, None, None, 2)),
        backoff=Backoff(initial=1.0, maximum=16.0),
    )

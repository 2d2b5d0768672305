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

_ADDED: Final[Mapping[str, Weights]] = {"building": BUILDING, "rates": RATES}

NAMES: Final = ("swarm", "calm", "everything", *FAULTS, *_ADDED)
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
    weights = dict(WORK)
    if name == "swarm":
        # Most runs suffer two or three kinds of faults, some none, some nearly all.
        share = pick(choices, (2, 3, 3, 5))
        mix = [fault for fault in FAULTS if choices.choose(share) == 0]
    elif name == "everything":
        mix = list(FAULTS)
    else:
        mix = [] if name == "calm" or name in _ADDED else [name]
    for fault in mix:
        for kind, weight in FAULTS[fault].items():
            weights[kind] = weights.get(kind, 0) + weight
    for kind, weight in _ADDED.get(name, {}).items():
        weights[kind] = weights.get(kind, 0) + weight
    gateway = _gateway(choices)
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


_TTL: Final = 64.0


def _gateway(choices: Choices) -> GatewayConfig:
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
        push_interval=None,
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

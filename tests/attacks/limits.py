"""The limits of the servers that are attacked: low, so that an attack ends in seconds."""

from typing import Final

from attrs import evolve, frozen

from gatewayproto import GatewayConfig, Rate


@frozen(kw_only=True)
class Profile:
    """How a server under attack is set up.

    `descriptors` is what `ulimit -n` leaves it, None for all that there are.
    """

    config: GatewayConfig
    close_timeout: float = 1.0
    max_upgrades: int = 100
    tls: bool = False
    descriptors: int | None = None


KIB: Final = 1024
MIB: Final = 1024 * KIB

STANDARD: Final = Profile(
    config=GatewayConfig(
        heartbeat=1.5,
        handshake_timeout=1.0,
        resume_window=1.0,
        request_ttl=5.0,
        max_pending_requests=20,
        max_payload=64 * KIB,
        retain=500,
        retain_transient=500,
        retain_bytes=MIB,
        send_window=64 * KIB,
        answer_window=16 * KIB,
        stall_timeout=1.5,
        max_lags=3,
        max_connections=400,
        max_sessions=300,
        retry_after=2.0,
        frame_rate=None,
        recovery_rate=None,
        connection_rate=None,
        handshake_rate=None,
        session_rate=None,
    )
)
"""For nearly everything. Rates have no limit, so that every other limit is reached."""

RATED: Final = evolve(
    STANDARD,
    config=evolve(
        STANDARD.config,
        frame_rate=Rate(1.0, 50),
        recovery_rate=Rate(1.0, 5),
        connection_rate=Rate(1.0, 40),
        handshake_rate=Rate(1.0, 20),
        session_rate=Rate(1.0, 10),
    ),
)
"""For what comes too often."""

WIDE: Final = evolve(
    STANDARD,
    config=evolve(
        STANDARD.config,
        heartbeat=60.0,
        handshake_timeout=60.0,
        max_connections=100_000,
        max_sessions=100_000,
    ),
    max_upgrades=100_000,
)
"""For more connections than anything else needs."""

TLS: Final = evolve(STANDARD, tls=True)
NARROW: Final = evolve(STANDARD, descriptors=80)
"""Out of descriptors long before any limit of ours is reached."""

PROFILES: Final = {
    "standard": STANDARD,
    "rated": RATED,
    "wide": WIDE,
    "tls": TLS,
    "narrow": NARROW,
}

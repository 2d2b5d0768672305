"""The limits of the servers that are attacked: low, so that an attack ends in seconds."""

from typing import Any, Final

from attrs import evolve, fields_dict, frozen

from gatewayproto import GatewayConfig


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

_FIELDS: Final = fields_dict(GatewayConfig)
_NAMES: Final = (
    "frame_rate",
    "recovery_rate",
    "connection_rate",
    "handshake_rate",
    "session_rate",
)
HAVE_RATES: Final = "frame_rate" in _FIELDS
"""Whether a gateway limits how often something may happen."""


def _rates(**bursts: int) -> dict[str, Any]:
    """One a second for each rate, so many at once; none where it is not named."""
    if not HAVE_RATES:
        return {}
    rate: Any = type(_FIELDS["frame_rate"].default)
    return {name: rate(1.0, bursts[name]) if name in bursts else None for name in _NAMES}


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
        **_rates(),
    )
)
"""For nearly everything. Rates have no limit, so that every other limit is reached."""

RATED: Final = evolve(
    STANDARD,
    config=evolve(
        STANDARD.config,
        **_rates(
            frame_rate=50,
            recovery_rate=5,
            connection_rate=40,
            handshake_rate=20,
            session_rate=10,
        ),
    ),
)
"""For what comes too often."""

WIDE: Final = Profile(
    config=GatewayConfig(heartbeat=60.0, max_payload=64 * KIB, **_rates()), max_upgrades=100_000
)
"""For more connections than anything else needs, with the limits on their number as they are."""

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

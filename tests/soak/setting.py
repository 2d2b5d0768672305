"""How a soak is run, and the configurations of both ends that make it hard for them."""

from typing import Any, Literal, Self

from attrs import asdict, field, frozen, validators

from gatewayproto.backoff import Backoff
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.projection import Transcript

Adapter = Literal["asyncio", "trio"]
AGENT = "soak"

_positive: Any = validators.gt(0)


@frozen(kw_only=True)
class Setting:
    """How a soak is run.

    - `adapter`: what server and clients run on.
    - `clients`: how many sessions are followed at once; `tabs`: by how many connections each.
    - `seconds`: for how long; `life`: how long one session is followed before the next takes its
      place, about; `think`: between two messages of a session, on average.
    - `resume_window`: as in the gateway's configuration.
    - `seed`: decides all that clients and the fault proxy decide by chance.
    - `watched`: the share of tabs whose machine is watched by the monitors, step by step.
    """

    adapter: Adapter = field(default="asyncio", validator=validators.in_(("asyncio", "trio")))
    clients: int = field(default=200, validator=_positive)
    tabs: int = field(default=2, validator=_positive)
    seconds: float = field(default=600.0, validator=_positive)
    life: float = field(default=60.0, validator=_positive)
    think: float = field(default=10.0, validator=_positive)
    resume_window: float = field(default=30.0, validator=_positive)
    seed: int = 1
    watched: float = field(
        default=0.25, validator=validators.and_(validators.ge(0), validators.le(1))
    )

    @property
    def warm_up(self) -> float:
        """Seconds until memory may not grow any more: sessions have come, gone and expired."""
        return max(self.seconds / 4, min(self.seconds / 2, 1.5 * self.life + self.resume_window))

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """Back from plain data."""
        return cls(**data)


def _projection() -> Transcript:
    return Transcript(max_bytes=4096)


PROJECTION = _projection
"""Of the gateway's sessions, and of all observers: one that sheds messages before long."""


def gateway_config(setting: Setting) -> GatewayConfig:
    """A journal that is soon overrun, and short times."""
    return GatewayConfig(
        heartbeat=2.0,
        handshake_timeout=5.0,
        resume_window=setting.resume_window,
        request_ttl=15.0,
        retain=60,
        retain_transient=60,
        retain_bytes=64 * 1024,
        send_window=8 * 1024,
        stall_timeout=6.0,
        max_lags=1000,
        projection=PROJECTION,
    )


def client_config() -> ClientConfig:
    """Short times."""
    return ClientConfig(
        agent_id=AGENT,
        handshake_timeout=4.0,
        recovery_timeout=4.0,
        backoff=Backoff(initial=0.05, maximum=1.0),
    )

"""gatewayproto: the protocol between AI-agent gateways and their clients, without I/O.

Two machines, `Gateway` and `Client`, decide everything: each takes one input value at a time
(`gatewayproto.inputs`) and returns the actions to carry out (`gatewayproto.actions`). Adapters put
them on a network.
"""

__version__ = "0.1.0"

from gatewayproto.actions import ResumeToken
from gatewayproto.backoff import Backoff
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.errors import ErrorCode, LocalProtocolError
from gatewayproto.frames import ClientInfo, Event
from gatewayproto.gateway import Gateway, SessionInfo
from gatewayproto.metrics import ClientMetrics, GatewayMetrics
from gatewayproto.projection import Projection, Transcript
from gatewayproto.rates import Rate
from gatewayproto.versions import VersionRange

__all__ = [
    "Backoff",
    "Client",
    "ClientConfig",
    "ClientInfo",
    "ClientMetrics",
    "ErrorCode",
    "Event",
    "Gateway",
    "GatewayConfig",
    "GatewayMetrics",
    "LocalProtocolError",
    "Projection",
    "Rate",
    "ResumeToken",
    "SessionInfo",
    "Transcript",
    "VersionRange",
    "__version__",
]

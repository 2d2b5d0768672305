"""gatewayproto: the protocol between AI-agent gateways and their clients, without I/O.

Two machines, `Gateway` and `Client`, decide everything: each takes one input value at a time and
returns the actions to carry out. Adapters put them on a network.
"""

__version__ = "0.1.0"

from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.errors import ErrorCode, LocalProtocolError
from gatewayproto.frames import Event
from gatewayproto.gateway import Gateway

__all__ = [
    "ClientConfig",
    "ErrorCode",
    "Event",
    "Gateway",
    "GatewayConfig",
    "LocalProtocolError",
    "__version__",
]

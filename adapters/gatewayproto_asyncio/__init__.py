"""The gateway protocol on asyncio: `serve` and `connect`.

I/O only: the protocol is in `gatewayproto`, WebSocket in `gatewayproto_wsproto`. Sockets are
driven through asyncio's protocols, and one timer each wakes a server and a client. Every task and
every connection has an owner that ends it.
"""

from gatewayproto_adapter.application import (
    Application,
    BuiltSnapshot,
    Grant,
    Rejected,
    SessionHandle,
)
from gatewayproto_adapter.client import MakeClient
from gatewayproto_adapter.client_engine import Item
from gatewayproto_adapter.clock import monotonic
from gatewayproto_adapter.errors import (
    ClientStoppedError,
    MessageRefusedError,
    OutcomeUnknownError,
)
from gatewayproto_adapter.store import Store

from gatewayproto_asyncio.client import ClientSession, connect
from gatewayproto_asyncio.server import Server, serve

__all__ = [
    "Application",
    "BuiltSnapshot",
    "ClientSession",
    "ClientStoppedError",
    "Grant",
    "Item",
    "MakeClient",
    "MessageRefusedError",
    "OutcomeUnknownError",
    "Rejected",
    "Server",
    "SessionHandle",
    "Store",
    "connect",
    "monotonic",
    "serve",
]

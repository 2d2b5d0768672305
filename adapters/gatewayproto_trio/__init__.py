"""The gateway protocol on trio: `serve` and `connect`.

I/O only: the protocol is in `gatewayproto`, WebSocket in `gatewayproto_wsproto`, and what does not
depend on the framework in `gatewayproto_adapter`. The names, parameters and behavior are those of
`gatewayproto_asyncio`. Every task is in the nursery of the server or the client that it works for,
and has ended when their `async with` has.
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
from gatewayproto_adapter.errors import (
    ClientStoppedError,
    MessageRefusedError,
    OutcomeUnknownError,
)
from gatewayproto_adapter.store import Store

from gatewayproto_trio._clock import monotonic
from gatewayproto_trio.client import ClientSession, connect
from gatewayproto_trio.server import Server, serve

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

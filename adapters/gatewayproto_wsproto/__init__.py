"""WebSocket without I/O: TCP bytes in, text messages and control facts out, and the way back.

Both roles, on `wsproto` for the frames and `h11`, on which it stands, for the HTTP handshake. The
adapters that do the I/O share it. It knows nothing of the frames that travel in the messages, and
nothing of time.

A driver's duty: hand every byte read to `receive`, the end of the stream to `receive_eof`, act on
the events that every call returns, write what `bytes_to_send` gives, and close the transport after
`Closed`, once everything is written.

Spec: Framing.
"""

from gatewayproto_wsproto.client import ClientConnection
from gatewayproto_wsproto.connection import ConnectionState
from gatewayproto_wsproto.errors import WsUsageError
from gatewayproto_wsproto.events import (
    Closed,
    TextReceived,
    Upgraded,
    UpgradeRefused,
    UpgradeRequested,
    WsEvent,
)
from gatewayproto_wsproto.framing import frame_text
from gatewayproto_wsproto.server import ServerConnection
from gatewayproto_wsproto.url import WsUrl

__all__ = [
    "ClientConnection",
    "Closed",
    "ConnectionState",
    "ServerConnection",
    "TextReceived",
    "UpgradeRefused",
    "UpgradeRequested",
    "Upgraded",
    "WsEvent",
    "WsUrl",
    "WsUsageError",
    "frame_text",
]

"""How a server's sockets end, and how little of what it sends they hold back."""

import socket
import struct
import sys
from contextlib import suppress
from typing import Final, Protocol

_LINGER: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_UNSENT: Final = 16 * 1024
"""Bytes that the kernel takes beyond what it can send; trio sets the same."""


class Socket(Protocol):
    """What asyncio and trio give of a socket."""

    @property
    def family(self) -> socket.AddressFamily:
        """The family of its addresses."""
        ...

    def setsockopt(self, level: int, optname: int, value: int | bytes, /) -> None:
        """See `socket`."""
        ...


def hold_little(sock: Socket | None) -> None:
    """Have the kernel take about as much as it can send, where it knows how to.

    What it took counts as sent. Otherwise it takes megabytes for a peer that reads nothing,
    beside every limit of ours.
    """
    if _is_tcp(sock) and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)


def reset_at_close(sock: Socket | None) -> None:
    """Have the kernel forget what was not sent, and reset the connection, once it is closed.

    Otherwise it goes on for as long as the peer acknowledges that it has no room. A Unix socket
    holds nothing back: what was written lies with the peer.
    """
    if _is_tcp(sock):
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)

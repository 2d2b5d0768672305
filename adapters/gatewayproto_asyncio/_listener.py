"""Accepting connections: each is counted as it comes, before TLS or anything else begins on it.

asyncio's own server counts none before TLS is done, and reports each attempt to accept that lacks
a descriptor, up to its backlog at once.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from gatewayproto_adapter.server import BACKLOG

from gatewayproto_asyncio._tasks import TaskOwner

_logger = logging.getLogger("gatewayproto.asyncio")

_AT_ONCE: Final = 16
"""Connections that are accepted in one turn of the loop."""
_PAUSE: Final = 1.0
"""Seconds without accepting where there is no descriptor or no memory."""
# What accepting one connection may meet although the listener is sound: errors of the network that
# wait on that connection, and a firewall's.
_OF_THE_PEER: Final = frozenset(
    getattr(errno, name, None)
    for name in (
        "ECONNABORTED",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EOPNOTSUPP",
        "EPERM",
        "EPROTO",
    )
)


async def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a socket to each address of `host`, as asyncio would; none of them listens yet.

    Raises:
        OSError: An address cannot be had.
    """
    loop = asyncio.get_running_loop()
    # One that never listens, and so never makes a protocol.
    server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    try:
        return [each.dup() for each in server.sockets]
    finally:
        server.close()


class Listener:
    """Accepts on sockets, and gives each connection to `take` with the address of its peer."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        tasks: TaskOwner,
        take: Callable[[socket.socket, object], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = tuple(sockets)
        self._tasks = tasks
        self._take = take
        self._retries: dict[socket.socket, asyncio.TimerHandle] = {}
        self._polls: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Listen, and accept from now on."""
        for sock in self._sockets:
            sock.setblocking(False)
            sock.listen(BACKLOG)
            try:
                self._watch(sock)
            except NotImplementedError:  # Windows' own loop knows of operations alone
                poll = self._poll(sock)
                self._polls.append(self._tasks.start(poll, name="gatewayproto listener"))

    def close(self) -> None:
        """Accept nothing more; whoever was not accepted is reset. It may be called again."""
        for poll in self._polls:
            poll.cancel()
        for sock in self._sockets:
            retry = self._retries.pop(sock, None)
            if retry is not None:
                retry.cancel()
            if sock.fileno() >= 0:
                if not self._polls:
                    self._loop.remove_reader(sock)
                sock.close()

    def _watch(self, sock: socket.socket) -> None:
        self._retries.pop(sock, None)
        self._loop.add_reader(sock, self._accept, sock)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _OF_THE_PEER:
                    continue
                _complain(error)
                self._loop.remove_reader(listener)
                self._retries[listener] = self._loop.call_later(_PAUSE, self._watch, listener)
                return
            self._take(sock, address)

    async def _poll(self, listener: socket.socket) -> None:
        """Do the same without being told when there is something to accept."""
        while True:
            for _ in range(_AT_ONCE):
                try:
                    sock, address = await self._loop.sock_accept(listener)
                except OSError as error:
                    if error.errno in _OF_THE_PEER:
                        continue
                    _complain(error)
                    await asyncio.sleep(_PAUSE)
                else:
                    self._take(sock, address)
            # What is there to be accepted is accepted without waiting.
            await asyncio.sleep(0)


def _complain(error: OSError) -> None:
    why = os.strerror(error.errno) if error.errno else "no reason given"
    _logger.error("cannot accept connections: %s; trying again in %g s", why, _PAUSE)

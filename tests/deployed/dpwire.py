"""A connection that breaks after so many bytes: by reset, by end of stream, or without a sign."""

import select
import socket
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Literal, NoReturn

from tests.blackbox.bbwire import OPEN, Peer, brief

Way = Literal["reset", "fin", "silent"]
Direction = Literal["in", "out"]


class CutError(Exception):
    """The connection broke where its fault said."""


@dataclass(frozen=True)
class Fault:
    """Break the connection once so many bytes went `in` or `out` of the peer that has the fault.

    Bytes count without regard to frames: most cuts are in the middle of one.
    """

    way: Way
    direction: Direction
    after: int


def draw_fault(
    rng: Random, directions: Sequence[Direction], ways: Sequence[Way], largest: int
) -> Fault:
    """Draw a fault; small numbers of bytes are as likely as large ones."""
    after = int(60 * (largest / 60) ** rng.random())
    return Fault(rng.choice(ways), rng.choice(directions), after)


class FaultyPeer(Peer):
    """A WebSocket peer whose connection breaks."""

    def __init__(self, peer: Peer, fault: Fault | None) -> None:
        """Take over a peer that is connected."""
        super().__init__(peer.sock, client=peer.client, received=bytes(peer.buffer))
        self.fault = fault
        self.left = fault.after if fault is not None else 0

    def send_bytes(self, data: bytes) -> None:
        """Send what may still go out."""
        if self.fault is not None and self.fault.direction == "out":
            if self.left < len(data):
                super().send_bytes(data[: self.left])
                self.end(self.fault.way)
            self.left -= len(data)
        super().send_bytes(data)

    def fill(self, deadline: float) -> None:
        """Take in what may still come."""
        if self.fault is None or self.fault.direction == "out":
            super().fill(deadline)
            return
        if self.left <= 0:
            self.end(self.fault.way)
        if not select.select([self.sock], [], [], max(0.0, deadline - time.monotonic()))[0]:
            msg = f"nothing came in time; the last frames were {brief(self.log[-5:])}"
            raise AssertionError(msg)
        try:
            data = self.sock.recv(min(self.left, 1 << 16))
        except ConnectionResetError:
            data = b""
        self.left -= len(data)
        self.eof = not data
        self.buffer += data

    def end(self, way: Way) -> NoReturn:
        """Break it now. What is silent or half closed stays open, and nobody reads it any more."""
        match way:
            case "reset":
                self.cut()
            case "fin":
                with suppress(OSError):
                    self.sock.shutdown(socket.SHUT_WR)
            case "silent":
                pass
        raise CutError(way)


@contextmanager
def everything_closed() -> Generator[None]:
    """Close what was opened inside, in the reverse order."""
    try:
        yield
    finally:
        while OPEN:
            OPEN.pop().__exit__(None, None, None)

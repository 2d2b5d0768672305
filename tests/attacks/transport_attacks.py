"""Attacks below WebSocket: on TLS, and on the number of descriptors."""

import time

from tests.attacks.attack import attack
from tests.attacks.field import Field
from tests.attacks.limits import MIB
from tests.blackbox.bbwire import WAIT, Peer


@attack(
    "transport",
    answer="closed at `handshake_timeout`",
    growth=32 * MIB,
    full=96 * MIB,
    profile="tls",
    deep=True,
)
def silent_tls(field: Field) -> None:
    """Connections that never begin TLS, or stop in the middle of its first message."""
    most = 2 * field.profile.max_upgrades
    socks = [field.dial() for _ in range(most // field.many(4, 1))]
    for sock in socks[::2]:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50))
    for end in field.to_the_end(socks, timeout=field.config.handshake_timeout + WAIT):
        assert end.received == b"", end.received[:50]


@attack(
    "transport",
    answer="no more at once than twice `max_upgrades`; the others are closed as they come",
    growth=96 * MIB,
    profile="tls",
    deep=True,
)
def tls_flood(field: Field) -> None:
    """More connections that never finish TLS than there may be unfinished upgrades."""
    most = 2 * field.profile.max_upgrades
    socks = [field.dial()]
    held = 0
    started = time.monotonic()
    while len(socks) < 3 * most and time.monotonic() < started + field.config.handshake_timeout / 2:
        socks.append(field.dial())
        held = max(held, field.connections())
    assert held <= most + 10, f"{held} connections are held"
    field.to_the_end(socks, timeout=field.config.handshake_timeout + WAIT)


@attack(
    "transport",
    answer="closed: there is no TLS in it",
    growth=16 * MIB,
    full=96 * MIB,
    profile="tls",
    deep=True,
)
def tls_junk(field: Field) -> None:
    """What is no TLS on a port that speaks it: HTTP, zeros, alerts, records of every size."""
    junk = (
        field.request(),
        bytes(10_000),
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x16\x03\x01\xff\xff" + b"\x01" * 70_000,
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x17\x03\x03\x00\x10" + bytes(16),
        b"\xff" * 100,
    )
    socks = [field.dial()]
    for data in junk * field.many(3, 30):
        sock = field.dial()
        sock.sendall(data)
        socks.append(sock)
    field.to_the_end(socks, timeout=field.config.handshake_timeout + WAIT)


@attack(
    "transport",
    answer="those that there is room for are served, the others wait to be accepted",
    profile="narrow",
    allowed=r".*",
    lines=200,
    deep=True,
)
def out_of_descriptors(field: Field) -> None:
    """More connections than the server has descriptors for."""
    assert field.profile.descriptors is not None
    socks = [field.dial() for _ in range(field.profile.descriptors + 100)]
    field.to_the_end(socks, timeout=4 * field.config.handshake_timeout + WAIT)
    deadline = time.monotonic() + WAIT
    peer: Peer | None = None
    while peer is None:
        assert time.monotonic() < deadline, "nobody is accepted any more"
        peer = field.joined()

"""Peers that are slow, silent or greedy for as long as they are let."""

import contextlib
import resource
import select
import socket
import time
from typing import Final

from tests.attacks.attack import attack
from tests.attacks.field import Field, hello, pour, text, types
from tests.attacks.limits import MIB
from tests.blackbox.bbwire import WAIT, Frame, Peer

_SPARE: Final = 200
"""Descriptors that a process has open beside its connections."""


def _in_order(frames: list[Frame], cursor: int) -> int:
    """Hold what a peer was sent to the promise: each seq once, in order, or covered."""
    for frame in frames:
        match frame["type"]:
            case "event" | "replay":
                assert frame["seq"] == cursor + 1, (frame["seq"], cursor)
                cursor += 1
            case "snapshot" if frame.get("part", 1) == frame.get("parts", 1):
                assert frame["cursor"] >= cursor, (frame["cursor"], cursor)
                cursor = frame["cursor"]
            case "skip":
                assert frame["first"] <= cursor + 1 <= frame["last"], frame
                cursor = frame["last"]
            case _:
                pass
    return cursor


@attack("peers", answer="`slow_consumer`, 4002, at `stall_timeout`", growth=12 * MIB, full=60 * MIB)
def never_reads(field: Field) -> None:
    """Clients that ask for megabytes and never read a byte."""
    peers = [field.joined(rcvbuf=4096) for _ in range(field.many(2, 20))]
    for peer in peers:
        peer.send({"type": "message", "content": f"fill {field.many(200, 2000)} 50000"})
    # All of it is more than the bound of memory: the journal lets go of what nobody takes.
    _until_gone(field, field.config.stall_timeout + field.profile.close_timeout + WAIT)
    for peer in peers:
        poured = pour(peer, b"")
        assert poured.code in (4002, 1006), poured.code
        _in_order(poured.frames, 0)


@attack(
    "peers",
    answer="no more for each than the parts of one snapshot",
    growth=80 * MIB,
    full=260 * MIB,
    deep=True,
)
def hoarded_snapshots(field: Field) -> None:
    """Many that take a large state in the smallest parts there are, and never read them."""
    owner = field.joined()
    for _ in range(40):
        owner.send({"type": "message", "content": "x" * 20_000})
        owner.expect("event")
    fields = {"session_id": owner.log[0]["session_id"], "epoch": owner.log[0]["epoch"]}
    for _ in range(field.many(60, 200)):
        peer = field.upgraded(rcvbuf=4096)
        peer.send(hello(**fields, start="snapshot", max_payload=1024))
    field.joined().sock.close()  # once all of them were heard


@attack(
    "peers",
    answer="reset, so that the kernel keeps nothing of what was not sent",
    growth=12 * MIB,
    open="an aborted connection is closed and not reset: while its peer still acknowledges, the "
    "kernel keeps megabytes for each, beyond every limit of the server",
    deep=True,
)
def given_up(field: Field) -> None:
    """A client that never reads, after the server has given it up."""
    peer = field.joined(rcvbuf=4096)
    peer.send({"type": "message", "content": "fill 200 50000"})
    _until_gone(field, field.config.stall_timeout + field.profile.close_timeout + WAIT)
    poll = select.poll()
    # An end that is seen without a byte having been read is a reset.
    poll.register(peer.sock, select.POLLRDHUP)
    assert poll.poll(1000), "the kernel still holds what was to be sent"


def _until_gone(field: Field, timeout: float) -> None:
    """Wait until the server has let go of every connection, without reading what it sent."""
    deadline = time.monotonic() + timeout
    while field.connections() > 0:
        assert time.monotonic() < deadline, f"{field.connections()} connections were not ended"
        time.sleep(0.02)


@attack("peers", answer="served as slowly as it reads, or `slow_consumer`, 4002", growth=12 * MIB)
def reads_a_byte(field: Field) -> None:
    """A client that reads a byte at a time, long after everybody else has read on."""
    peer = field.joined(rcvbuf=4096)
    peer.send({"type": "message", "content": f"fill {field.many(200, 1000)} 50000"})
    read = bytearray()
    deadline = time.monotonic() + field.many(2, 20)
    pause = field.many(20, 1000) / 1000
    with contextlib.suppress(ConnectionResetError):
        while time.monotonic() < deadline and (byte := peer.sock.recv(1)):
            read += byte
            time.sleep(pause)
    peer.buffer += read
    poured = pour(peer, b"", enough=lambda frames: len(frames) > 100)
    assert poured.code in (None, 4002, 1006), poured.code
    _in_order(poured.frames, 0)


@attack(
    "peers",
    answer="a `snapshot` `lagged` each time; above `max_lags` of them `slow_consumer`, 4002",
    growth=12 * MIB,
    deep=True,
)
def always_behind(field: Field) -> None:
    """A client that reads a quarter of what is published, for ever."""
    peer = field.joined(rcvbuf=262_144)
    peer.send({"type": "message", "content": "drip 100000 100000"})
    deadline = time.monotonic() + 4 * WAIT
    while field.connections() > 0:
        assert time.monotonic() < deadline, "it may go on for ever"
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            peer.buffer += peer.sock.recv(65_536, socket.MSG_DONTWAIT)
        time.sleep(0.05)
    poured = pour(peer, b"")
    # What is owed may not go in `close_timeout`; then there is no last word.
    assert poured.code in (4002, 1006), poured.code
    lags = [f for f in poured.frames if f["type"] == "snapshot" and f["reason"] == "lagged"]
    assert 1 <= len(lags) <= field.config.max_lags, len(lags)
    _in_order(poured.frames, 0)


@attack("peers", answer="`liveness_timeout`, 4001, after two heartbeats", growth=24 * MIB)
def idle_connections(field: Field) -> None:
    """Hundreds of welcomed connections that never say a word again."""
    peers = [field.joined() for _ in range(field.many(100, 250))]
    for peer in peers:
        assert peer.drain(2 * field.config.heartbeat + WAIT) == 4001


@attack(
    "peers",
    answer="held, at a few kilobytes each",
    growth=40 * MIB,
    full=400 * MIB,
    profile="wide",
    deep=True,
)
def ten_thousand_idle(field: Field) -> None:
    """10,000 idle connections, or as many as `ulimit -n` lets two processes have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = field.many(1000, min(10_000, limit - _SPARE))
    peers: list[Peer] = []
    for _ in range(count):
        peer = field.upgraded()
        peer.send(hello())
        peers.append(peer)
    for peer in peers:
        poured = pour(peer, b"", enough=lambda frames: len(frames) > 0)
        assert poured.frames[0]["type"] == "hello_ok", poured
    last = text({"type": "message", "content": "still there?"})
    pour(peers[-1], last, enough=lambda frames: "event" in types(frames))


@attack("peers", answer="at most one `presence` in each `push_interval`")
def presence_storm(field: Field) -> None:
    """Connections that join a session and leave it, as fast as they can, before a follower."""
    follower = field.joined()
    session = {name: follower.log[0][name] for name in ("session_id", "epoch")}
    started = time.monotonic()
    for number in range(field.many(30, 1000)):
        peer = field.joined(**session, client={"name": str(number)})
        if number % 2:
            peer.cut()
        else:
            peer.sock.close()
    ping = text({"type": "ping", "nonce": "alive"})
    poured = pour(follower, ping, enough=lambda frames: "pong" in types(frames))
    pushed = types(poured.frames).count("presence")
    assert field.config.push_interval is not None
    assert pushed <= (time.monotonic() - started) / field.config.push_interval + 1, pushed


@attack("peers", answer="served: any byte is a sign of life; ended by nobody", deep=True)
def barely_alive(field: Field) -> None:
    """A welcomed client that sends a byte of a frame now and then, and never the whole."""
    peer = field.joined()
    data = text({"type": "message", "content": "x" * 200})
    pause = field.config.heartbeat
    deadline = time.monotonic() + field.many(2, 5) * field.config.heartbeat + 0.5
    at = 0
    while time.monotonic() < deadline:
        peer.send_bytes(data[at : at + 1])
        at += 1
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
    peer.send_bytes(data[at:])
    peer.expect("event")


@attack(
    "peers",
    answer="let go of with their session, or bounded by `max_sessions`",
    growth=20 * MIB,
    full=32 * MIB,
    open="messages that wait behind work without an end outlive their session, without a bound",
    deep=True,
)
def abandoned_messages(field: Field) -> None:
    """Sessions with a full inbox behind work that never ends, left to expire, again and again."""
    message = {"type": "message", "content": "x" * 50_000}
    for _ in range(field.many(3, 6)):
        # Each round leaves more than is allowed to stay of all of them.
        for _ in range(field.many(10, 20)):
            peer = field.joined()
            peer.send({"type": "message", "content": "work"})
            peer.send(*[message] * (field.config.max_pending_requests - 1))
            peer.send({"type": "ping", "nonce": "all read"})
            peer.expect("pong", nonce="all read")
            peer.sock.close()
        time.sleep(field.config.resume_window + 0.2)

"""Floods: of frames, of handshakes, of sessions, of messages."""

import contextlib
import json
import secrets
import time

from tests.attacks.attack import SECRET, attack
from tests.attacks.field import Field, hello, pour, text, types
from tests.attacks.limits import MIB
from tests.attacks.target import TOKENS
from tests.blackbox.bbwire import Frame, Peer

ALICE, BOB = TOKENS


def _count(kind: str, frames: list[Frame]) -> int:
    return sum(frame["type"] == kind for frame in frames)


@attack("floods", answer="a `pong` to each, in order")
def ping_flood(field: Field) -> None:
    """`ping` as fast as the wire takes it, the answers read."""
    count = field.many(1_000, 50_000)
    data = b"".join(text({"type": "ping", "nonce": str(n)}) for n in range(count))
    poured = pour(field.joined(), data, enough=lambda frames: _count("pong", frames) == count)
    pongs = [frame["nonce"] for frame in poured.frames if frame["type"] == "pong"]
    assert pongs == [str(n) for n in range(count)]


@attack("floods", answer="`slow_consumer`, 4002, beyond `answer_window`", deep=True)
def ping_flood_unread(field: Field) -> None:
    """`ping` as fast as the wire takes it, and not one answer read."""
    peer = field.joined(rcvbuf=4096)
    # More than the buffers of both kernels and the windows of the server together.
    data = memoryview(text({"type": "ping", "nonce": "n" * 128}) * 100_000)
    peer.sock.settimeout(1.0)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
        while data and field.connections() > 0:
            data = data[peer.sock.send(data[: 1 << 18]) :]
    poured = pour(peer, b"")
    # What is owed may not go in `close_timeout`; then there is no last word.
    assert poured.code in (4002, 1006), poured.code
    assert set(types(poured.frames)) <= {"pong", "error"}


@attack("floods", answer="`unknown_type` to each, and the connection lives")
def unknown_flood(field: Field) -> None:
    """Types that nobody knows, and those that only a server sends."""
    kinds = ("", "x" * 200, "\n\x1b[2J", "hello_ok", "snapshot", "event", "__class__", "ping ")
    count = field.many(50, 5_000)
    data = b"".join(text({"type": kind, "seq": 1}) for kind in kinds) * count
    total = count * len(kinds)
    peer = field.joined()
    poured = pour(peer, data, enough=lambda frames: _count("error", frames) == total)
    said = {frame["code"] for frame in poured.frames if frame["type"] == "error"}
    assert said == {"unknown_type"}, said
    peer.send({"type": "ping", "nonce": "alive"})
    peer.expect("pong", nonce="alive")


@attack("floods", answer="merged: a snapshot for many, and one `caught_up` with the last nonce")
def resync_flood(field: Field) -> None:
    """`resync` as fast as the wire takes it."""
    count = field.many(300, 10_000)
    peer = _with_history(field)
    data = b"".join(text({"type": "resync", "nonce": str(n)}) for n in range(count))
    last = str(count - 1)
    poured = pour(peer, data, enough=lambda frames: _settled(frames, last))
    assert poured.code is None, poured.code
    assert 1 <= _count("snapshot", poured.frames) <= count
    assert _count("caught_up", poured.frames) <= count


@attack("floods", answer="merged: replays for many, and one `caught_up` with the last nonce")
def resume_flood(field: Field) -> None:
    """`resume` from the start, as fast as the wire takes it."""
    count = field.many(300, 5_000)
    peer = _with_history(field)
    epoch = peer.log[0]["epoch"]
    data = b"".join(
        text({"type": "resume", "since": 0, "epoch": epoch, "nonce": str(n)}) for n in range(count)
    )
    last = str(count - 1)
    poured = pour(peer, data, enough=lambda frames: _settled(frames, last))
    assert poured.code is None, poured.code
    assert _count("caught_up", poured.frames) <= count


def _with_history(field: Field) -> Peer:
    """A connection to a session that has something to recover."""
    peer = field.joined()
    peer.send({"type": "message", "content": "fill 20 1000"})
    for _ in range(20):
        peer.expect("event")
    return peer


def _settled(frames: list[Frame], last: str) -> bool:
    """Whether the last request was answered, by itself or merged."""
    return any(f["type"] == "caught_up" and f.get("nonce") == last for f in frames)


@attack("floods", answer="`malformed_frame` for each further one; the tenth closes, 4506")
def hello_flood(field: Field) -> None:
    """`hello` and `join` on a connection that was welcomed."""
    peer = field.joined()
    second = {"type": "join", "agent_id": "demo", "min_version": 2, "max_version": 2}
    poured = pour(peer, (text(hello()) + text(second)) * 500)
    codes = [frame["code"] for frame in poured.frames if frame["type"] == "error"]
    assert codes == ["malformed_frame"] * field.config.max_violations, codes
    assert poured.code == 4506, poured.code


@attack(
    "floods",
    answer="`abort`: none; `auth` with a bad token: `auth_unauthorized`, 4504",
    open="the adapter decides on no `auth`: it is never answered",
)
def auth_and_abort_flood(field: Field) -> None:
    """`abort` of runs that there are not, and `auth` with tokens that are none."""
    peer = field.joined()
    count = field.many(100, 5_000)
    aborts = (text({"type": "abort"}) + text({"type": "abort", "run_id": "none"})) * count
    data = aborts + text({"type": "ping", "nonce": "alive"})
    poured = pour(peer, data, enough=lambda frames: _count("pong", frames) == 1)
    assert _count("error", poured.frames) == 0, poured.frames[:3]
    peer.send_bytes(text({"type": "auth", "token": SECRET}) * 200)
    code = peer.drain()
    assert code == 4504, code


@attack(
    "floods", answer="a new attach each, in the same session; beyond `answer_window` at once, 4003"
)
def join_flood_version_1(field: Field) -> None:
    """`join` over and over on one connection of version 1, where each is a new attach."""
    peer = field.upgraded()
    first = {"type": "join", "agent_id": "demo"}
    peer.send(first)
    welcome = peer.expect("joined")
    again = text({**first, "session_id": welcome["session_id"], "since": 0})
    count = field.many(100, 2000)
    poured = pour(peer, again * count, enough=lambda f: _done(f, count))
    # Many that wait while one is decided are frames before the welcome, with their own bound.
    assert poured.code in (None, 4003), poured.code
    joined = [frame for frame in poured.frames if frame["type"] == "joined"]
    assert all(frame["session_id"] == welcome["session_id"] for frame in joined)
    assert set(types(poured.frames)) <= {"joined", "error"}, types(poured.frames)[:10]


def _done(frames: list[Frame], count: int) -> bool:
    # While one is decided, a further one is `not_joined`.
    return _count("joined", frames) + _count("error", frames) >= count


@attack("floods", answer="`rate_limited`, 4003, beyond `answer_window`")
def early_frames(field: Field) -> None:
    """Frames of every kind while the application has not decided on the handshake."""
    for flood in ({"type": "ping", "nonce": "n" * 100}, hello(), {"type": "resync"}):
        peer = field.upgraded()
        peer.send(hello(agent_id="slow"))
        poured = pour(peer, text(flood) * 2_000)
        assert poured.code == 4003, poured.code
        assert [frame["code"] for frame in poured.frames] == ["rate_limited"], poured.frames[:3]


@attack(
    "floods", answer="a new session for each, `session_unknown`, no hint; 4003 above `max_sessions`"
)
def random_sessions(field: Field) -> None:
    """Handshakes for random session ids, and for one that is somebody else's."""
    owner = field.joined(token=ALICE)
    theirs = owner.log[0]
    shapes = set[str]()
    limited = 0
    for number in range(field.many(40, 600)):
        owner.send({"type": "pong"})  # a sign of life
        foreign = number % 4 == 0
        session_id = theirs["session_id"] if foreign else secrets.token_urlsafe(24)
        peer = field.upgraded()
        peer.send(hello(token=BOB, session_id=session_id, epoch=theirs["epoch"], since=number % 3))
        frame = peer.recv()
        if frame["type"] == "hello_error":
            assert frame["code"] == "rate_limited", frame
            assert frame["retry_after_seconds"] > 0, frame
            peer.expect_closed(4003)
            limited += 1
        else:
            assert frame["type"] == "hello_ok", frame
            assert frame["resumed"] is False, frame
            assert frame["session_id"] not in (session_id, theirs["session_id"])
            assert frame.get("resync_reason") == ("session_unknown" if number % 3 else None)
            shapes.add(json.dumps(sorted(frame)))
        peer.sock.close()
    assert len(shapes) <= 2, "an answer that gives a session away"
    assert limited == 0 or field.many(0, 1) == 1, "limited below the limit"
    owner.send({"type": "ping", "nonce": "undisturbed"})
    owner.expect("pong", nonce="undisturbed")
    if limited:
        time.sleep(field.config.resume_window + 0.2)  # so that the next attack finds room


@attack(
    "floods",
    answer="`rate_limited`, 4003, above `max_sessions`; others keep theirs",
    growth=24 * MIB,
    deep=True,
)
def many_sessions(field: Field) -> None:
    """One peer opens all the sessions that there may be, and then more."""
    peers: list[Peer] = []
    refused, started = 0, time.monotonic()
    for _ in range(field.config.max_sessions + 20):
        peer = field.upgraded()
        peer.send(hello())
        frame = peer.recv()
        if frame["type"] == "hello_error":
            assert frame["code"] == "rate_limited", frame
            assert frame["retry_after_seconds"] > 0, frame
            peer.expect_closed(4003)
            peer.sock.close()
            refused += 1
        else:
            assert frame["type"] == "hello_ok", frame
            peers.append(peer)
    # On a machine with other work the first may have been given up for their silence.
    if time.monotonic() - started < 2 * field.config.heartbeat:
        assert refused >= 20, f"{len(peers)} sessions were opened"
    first = peers[0].log[0]
    back = field.upgraded()
    back.send(hello(session_id=first["session_id"], epoch=first["epoch"], since=0))
    assert back.recv()["resumed"] is True, "whoever has a session keeps it"
    for peer in (*peers, back):
        peer.sock.close()
    # Once these sessions have expired, all of their places are there again.
    time.sleep(field.config.resume_window + 0.2)
    for _ in peers[:-20]:
        field.joined().sock.close()
    time.sleep(field.config.resume_window + 0.2)


@attack(
    "floods",
    answer="`rate_limited`, 4003, above `max_connections`, before any handshake",
    growth=24 * MIB,
)
def connection_flood(field: Field) -> None:
    """More connections than `max_connections`, all silent."""
    deadline = time.monotonic() + 0.9 * field.config.handshake_timeout
    limited = opened = 0
    for _ in range(field.config.max_connections + 20):
        if limited == 0 and time.monotonic() > deadline:
            break  # on a machine with other work the first are gone already
        peer = field.upgraded()
        opened += 1
        if opened < field.config.max_connections - 10:
            continue
        if limited or opened >= field.config.max_connections:
            frame = peer.recv()
            assert frame["type"] == "error", frame
            assert frame["code"] == "rate_limited", frame
            assert frame["retry_after_seconds"] > 0, frame
            peer.expect_closed(4003)
            limited += 1
    assert limited > 0 or opened < field.config.max_connections


@attack(
    "floods",
    answer="`inbox_full` above `max_pending_requests`, and the connection lives",
    growth=24 * MIB,
)
def message_flood(field: Field) -> None:
    """Large messages to an application that is at work on the first, with ids and without."""
    most = field.config.max_pending_requests
    for with_id in (True, False):
        peer = field.joined()
        peer.send({"type": "message", "content": "work"})
        count = field.many(100, 1000)
        data = b"".join(
            text(
                {"type": "message", "content": "x" * 10_000}
                | ({"request_id": secrets.token_hex(16)} if with_id else {})
            )
            for _ in range(count)
        )
        poured = pour(peer, data, enough=lambda f, n=count: _answered(f, n, most))  # type: ignore[misc]  # a default that mypy cannot infer
        nacks = [frame for frame in poured.frames if frame["type"] == "message_nack"]
        assert {frame["code"] for frame in nacks} == {"inbox_full"}
        assert len(nacks) == count - (most - 1), len(nacks)


def _answered(frames: list[Frame], count: int, most: int) -> bool:
    return _count("message_nack", frames) >= count - (most - 1)


@attack("floods", answer="`inbox_full` once ten times `max_pending_requests` ids are remembered")
def request_id_flood(field: Field) -> None:
    """Messages that are done at once, each with an id that has to be remembered."""
    peer = field.joined()
    most = 10 * field.config.max_pending_requests
    taken = refused = 0
    content = "ignore " + "x" * field.many(1_000, 50_000)
    for number in range(0, 2 * most, 10):
        ids = [f"{number + n}-{secrets.token_hex(16)}" for n in range(10)]
        peer.send(*({"type": "message", "content": content, "request_id": each} for each in ids))
        answers = [peer.recv_but("event", "ping") for _ in ids]
        taken += _count("message_ack", answers)
        refused += _count("message_nack", answers)
        assert all(f["code"] == "inbox_full" for f in answers if f["type"] == "message_nack")
    assert taken == most, taken
    assert refused == most, refused

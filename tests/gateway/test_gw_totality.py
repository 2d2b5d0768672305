"""Any bytes in any state: actions or a named answer, never an exception (P13), within bounds."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto.inputs import FrameReceived
from tests.gateway.gwworld import Frame, Peer, World, encode, handshake, only

VERSIONS = pytest.mark.parametrize("version", [1, 2])
STATES = ("opening", "joining", "live v1", "live v2", "closed")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 20)
    | st.sampled_from([2**53 - 1, 2**53, -(2**63), 10**30, 1e308, -0.0])
    | st.sampled_from(["", "x", "i1", "i2", "i1.i2", "e1", "é", "\u0000", "n" * 200, "n" * 5000])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
TYPES = (
    *("hello", "join", "message", "abort", "resume", "resync", "auth", "ping", "pong", "leave"),
    *("hello_ok", "event", "snapshot", "", "x"),
)
FIELDS = (
    *("agent_id", "protocol_min", "protocol_max", "min_version", "max_version", "session_id"),
    *("epoch", "since", "start", "token", "max_payload", "client", "capabilities", "content"),
    *("request_id", "reply_to", "metadata", "nonce", "run_id", "reason", "cursor"),
)
FRAMES = st.builds(
    lambda kind, fields: encode({"type": kind, **fields}),
    st.sampled_from(TYPES),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5),
)
DATA = FRAMES | st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode())


def bring(world: World, state: str, *, auto: bool) -> Peer:
    """A connection in that state, in a session with a past."""
    maker = world.connect()
    for n in range(6):
        world.publish(maker.session_id, expects_reply=n == 0, data={"text": "x" * 900})
    peer = world.open(auto=auto)
    if state == "opening":
        return peer
    version = 1 if state == "live v1" else 2
    fields = {"session_id": maker.session_id, "max_payload": 4096}
    peer.limit = 4096
    world.give(FrameReceived(peer.number, encode(handshake("hello", version, **fields))))
    if state != "joining":
        world.accept(peer)
    if state == "closed":
        peer.send("leave")
    return peer


@settings(max_examples=400)
@given(st.sampled_from(STATES), st.lists(DATA, min_size=1, max_size=8), st.booleans())
def test_no_bytes_raise_anything_in_any_state(state: str, frames: list[bytes], auto: bool) -> None:
    world = World.make(max_payload=4096, send_window=2000, answer_window=2000, retain=3)
    peer = bring(world, state, auto=auto)
    for data in frames:
        was_closed, pending = peer.closed, len(peer.frames)
        asked = len(world.events)
        peer.send_raw(data)
        if was_closed:
            assert (len(peer.frames), len(world.events)) == (pending, asked)
        if len(world.events) > asked and not peer.closed and peer.limit == 4096:
            last = json.loads(data)
            if last.get("type") in {"hello", "join"}:
                limit = last.get("max_payload")
                peer.limit = limit if isinstance(limit, int) else 1_048_576
                world.accept(peer)
    # The session and its other client have not noticed.
    world.publish(world.peers[1].session_id)
    assert world.peers[1].frames[-1]["seq"] == 7
    json.dumps(world.gateway.to_state(now=world.now))


@VERSIONS
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed_frame"),
        (b"nonsense", "malformed_frame"),
        (b"\xff", "malformed_frame"),
        (b'{"type":5}', "malformed_frame"),
        (b'{"type":"message"}', "malformed_frame"),
        (b'{"type":"ping","nonce":5}', "malformed_frame"),
        (b'{"type":"ping","cursor":-1}', "malformed_frame"),
        (b'{"type":"leave","reason":5}', "malformed_frame"),
        (b'{"type":"ping","type":"ping"}', "malformed_frame"),
    ],
)
def test_bad_frame_is_answered_until_there_were_too_many(
    version: int, data: bytes, code: str
) -> None:
    world = World.make(max_violations=3)
    peer = world.connect(version)
    peer.take()
    for _ in range(2):
        (error,) = peer.send_raw(data)
        assert (error["type"], error["code"]) == ("error", code)
        assert not peer.closed
    (error,) = peer.send_raw(data)
    assert error["code"] == code
    assert (peer.code, peer.reason) == (4506, "malformed_frame")


@VERSIONS
def test_frame_that_is_too_large_closes(version: int) -> None:
    world = World.make(max_payload=4096)
    peer = world.connect(version)
    peer.take()
    fits = encode({"type": "ping", "nonce": "n" * 90, "pad": "x" * 3000})
    assert only(peer.send_raw(fits), "pong")
    exact = b'{"type":"ping"}'.ljust(4096)
    assert only(peer.send_raw(exact), "pong")
    (error,) = peer.send_raw(exact + b" ")
    assert error["code"] == "payload_too_large"
    assert (peer.code, peer.reason) == (4507, "payload_too_large")


@VERSIONS
@pytest.mark.parametrize("kind", ["dance", "", "hello_ok", "event", "snapshot", "message_ack"])
def test_unknown_type_is_answered_and_never_closes(version: int, kind: str) -> None:
    world = World.make(max_violations=1)
    peer = world.connect(version)
    peer.take()
    for _ in range(5):
        (error,) = peer.send_raw(encode({"type": kind, "seq": "x", "request_id": 5}))
        assert (error["type"], error["code"]) == ("error", "unknown_type")
    assert not peer.closed


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "resync", "nonce": 5},
        {"type": "resume", "since": 0, "epoch": 5},
        {"type": "auth", "token": 5},
    ],
)
def test_type_of_version_2_is_unknown_to_version_1_whatever_its_fields(frame: Frame) -> None:
    world = World.make(max_violations=1)
    peer = world.connect(1)
    peer.take()
    (error,) = peer.send_raw(encode(frame))
    assert error["code"] == "unknown_type"
    assert not peer.closed


@VERSIONS
def test_unknown_fields_are_ignored(version: int) -> None:
    world = World.make()
    peer = world.connect(version, later={"deep": [1]}, capabilities=["x"])
    peer.take()
    assert peer.send("ping", nonce="n", more=[{}]) == [{"type": "pong", "nonce": "n"}]
    assert peer.send("message", content="", request_id="r", unheard=5)


def test_second_handshake_on_a_living_version_2_connection_is_malformed() -> None:
    world = World.make(max_violations=2)
    peer = world.connect()
    peer.take()
    for kind, version in (("hello", 2), ("join", 1)):
        (error,) = peer.send_raw(encode(handshake(kind, version)))
        assert (error["type"], error["code"]) == ("error", "malformed_frame")
    assert peer.code == 4506


def test_answers_quote_nothing_of_what_the_peer_sent() -> None:
    world = World.make(max_violations=100)
    secret = "s3cr3t\u001b"
    frames: list[Frame] = []
    bad: list[dict[str, Any]] = [
        {"type": secret},
        {"type": "message", "content": "", "request_id": secret * 40},
        {"type": "message", "content": 5, secret: 5},
        {"type": "resume", "since": secret},
        {"type": "ping", "nonce": {secret: secret}},
    ]
    peer = world.connect()
    for frame in bad:
        frames += peer.send_raw(encode(frame))
    for frame in ({"since": secret}, {"start": secret}, {"client": {"name": {secret: 1}}}):
        refused = world.open()
        frames += refused.send_raw(encode(handshake("hello", 2, **frame)))
    assert "s3cr3t" not in json.dumps(frames)
    assert len(only(frames, "error", "hello_error", "message_nack")) == 8

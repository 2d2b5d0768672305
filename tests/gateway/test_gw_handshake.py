"""The handshake: what is refused, with which words, and which version is agreed."""

from typing import Any

import pytest

from gatewayproto import ErrorCode, LocalProtocolError
from gatewayproto.actions import CommandDropped, JoinRequested, SessionOpened, SubscriberJoined
from gatewayproto.frames import ClientInfo
from gatewayproto.inputs import (
    Accept,
    ConnectionClosed,
    ConnectionOpened,
    FrameReceived,
    Reject,
    TimerExpired,
)
from gatewayproto.versions import VersionRange
from tests.gateway.gwworld import (
    MAX_INT,
    RANGE_FIELDS,
    Frame,
    Peer,
    World,
    encode,
    handshake,
    kinds,
    seqs,
)
from tests.wire_vocabulary import ERROR_CODES

SPELLINGS = pytest.mark.parametrize("kind", ["hello", "join"])

CLOSING = [code for code, (close, _) in ERROR_CODES.items() if close is not None]
DEPLOYED = {
    "version_unsupported": "protocol_unsupported",
    "agent_not_found": "agent_not_found",
    "auth_required": "auth_required",
    "auth_unauthorized": "auth_unauthorized",
    "rate_limited": "rate_limited",
}


def refused(
    peer: Peer, kind: str, code: str, *, counts_as: int = 2, next_step: str | None = None
) -> Frame:
    """Check a rejection in full; `code` is that of the specification's table."""
    (frame,) = peer.take()
    close, step = ERROR_CODES[code]
    said = DEPLOYED.get(code, "configuration_error") if (kind, counts_as) == ("hello", 1) else code
    assert frame["type"] == ("hello_error" if kind == "hello" else "error")
    assert frame["code"] == said
    assert frame["next_step"] == (next_step or step)
    assert isinstance(frame["message"], str)
    assert peer.code == close
    if code == "version_unsupported":
        config = peer.world.config.versions
        assert frame["server_min_version"] == config.minimum
        assert frame["server_max_version"] == config.maximum
    else:
        assert "server_min_version" not in frame
    return frame


def offer(world: World, frame: Frame) -> Peer:
    peer = world.open()
    world.give(FrameReceived(peer.number, encode(frame)))
    return peer


# -- versions ---------------------------------------------------------------------------------

OFF = ["1", "", 1.0, 1.5, True, False, [], [1], {}, 0, -1, 2**53, 2**64, -(2**53)]


@SPELLINGS
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("server", [(1, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("low", [..., None, 1, 2, 3, 9])
@pytest.mark.parametrize("high", [..., None, 1, 2, 3, MAX_INT])
def test_highest_common_version_is_agreed(
    kind: str, strict: bool, server: tuple[int, int], low: Any, high: Any
) -> None:
    world = World.make(versions=VersionRange(*server), protocol_strict=strict)
    names = RANGE_FIELDS[kind]
    fields = {"type": kind, "agent_id": "a", names[0]: low, names[1]: high}
    peer = offer(world, {name: value for name, value in fields.items() if value is not ...})
    first = None if low in {..., None} else low
    last = None if high in {..., None} else high
    stated = first is not None or last is not None
    if not stated:
        bottom = top = 1
    else:
        bottom = 1 if first is None else first
        top = bottom if last is None else last
    counts_as = 1 if top == 1 else 2
    if bottom > top:
        refused(peer, kind, "invalid_protocol_hello")
        return
    if strict and not stated:
        refused(peer, kind, "version_unsupported", counts_as=1)
        return
    if bottom > server[1]:
        refused(peer, kind, "version_unsupported", next_step="downgrade_client")
        return
    if top < server[0]:
        refused(peer, kind, "version_unsupported", counts_as=counts_as)
        return
    agreed = min(top, server[1])
    (asked,) = world.hear(JoinRequested)
    assert asked.protocol_version == agreed
    world.accept(peer)
    assert peer.welcome["protocol_version"] == agreed
    assert (peer.welcome["server_min_version"], peer.welcome["server_max_version"]) == server
    assert peer.welcome.get("protocol") == (agreed if kind == "hello" else None)
    assert peer.welcome["type"] == ("hello_ok" if kind == "hello" else "joined")


@SPELLINGS
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("value", OFF, ids=repr)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("other", [..., 1, 2, "x"])
def test_version_fields_are_checked_before_they_are_compared(
    kind: str, strict: bool, value: Any, which: int, other: Any
) -> None:
    names = RANGE_FIELDS[kind]
    fields = {"type": kind, "agent_id": "a", names[which]: value, names[1 - which]: other}
    world = World.make(protocol_strict=strict)
    peer = offer(world, {name: value for name, value in fields.items() if value is not ...})
    # Its range cannot be read: it counts as version 2.
    refused(peer, kind, "invalid_protocol_hello")
    assert not world.told(JoinRequested)


@pytest.mark.parametrize("kind", ["hello", "join"])
def test_fields_of_the_other_spelling_are_unknown_and_so_ignored(kind: str) -> None:
    other = RANGE_FIELDS["join" if kind == "hello" else "hello"]
    fields: dict[str, Any] = dict.fromkeys(other, "2")
    peer = World.make().connect(None, kind=kind, **fields)
    assert peer.welcome["protocol_version"] == 1


# -- bad values -------------------------------------------------------------------------------

NO_INT = ["5", "", 5.0, 0.5, True, False, [], {}, [5]]
NO_STR = [5, 1.5, True, [], {}, ["a"]]
BAD_FIELDS: list[tuple[str, Any, str]] = [
    *(("since", value, "invalid_cursor") for value in [*NO_INT, -1, MAX_INT + 1, 2**64, -(2**60)]),
    *(("agent_id", value, "invalid_protocol_hello") for value in [*NO_STR, "", None, ...]),
    *(("session_id", value, "invalid_protocol_hello") for value in NO_STR),
    *(("epoch", value, "invalid_protocol_hello") for value in [*NO_STR, "", "e" * 65]),
    *(("start", value, "invalid_protocol_hello") for value in [*NO_STR, "", "Replay", "resume"]),
    *(("token", value, "invalid_protocol_hello") for value in NO_STR),
    *(("max_payload", v, "invalid_protocol_hello") for v in [*NO_INT, 0, -1, MAX_INT + 1]),
    *(("capabilities", v, "invalid_protocol_hello") for v in ["a", 5, {}, True, [5], [None]]),
    *(("client", value, "invalid_protocol_hello") for value in ["a", 5, [], True]),
    *(("client", {"name": v}, "invalid_protocol_hello") for v in NO_STR),
    *(("client", {"version": v}, "invalid_protocol_hello") for v in NO_STR),
]


@SPELLINGS
@pytest.mark.parametrize("version", [None, 1, 2])
@pytest.mark.parametrize(("name", "value", "code"), BAD_FIELDS, ids=repr)
def test_field_that_is_off_rejects_with_its_code(
    kind: str, version: int | None, name: str, value: Any, code: str
) -> None:
    world = World.make()
    peer = offer(world, handshake(kind, version, **{name: value}))
    refused(peer, kind, code, counts_as=version or 1)
    assert not world.told(JoinRequested)
    assert not world.gateway.session_ids


@SPELLINGS
def test_versions_are_judged_before_the_rest(kind: str) -> None:
    world = World.make()
    refused(offer(world, handshake(kind, 7, since=-1)), kind, "version_unsupported",
            next_step="downgrade_client")  # fmt: skip
    refused(offer(world, handshake(kind, 0, agent_id=5)), kind, "invalid_protocol_hello")


@SPELLINGS
@pytest.mark.parametrize("version", [None, 1, 2])
def test_absent_null_and_the_limits_are_good(kind: str, version: int | None) -> None:
    optional = ("session_id", "epoch", "since", "start", "token", "max_payload", "client",
                "capabilities")  # fmt: skip
    absent: dict[str, Any] = dict.fromkeys(optional)
    World.make().connect(version, kind=kind, **absent)
    peer = World.make().connect(
        version, kind=kind, since=MAX_INT, epoch="e" * 64, start="replay", max_payload=MAX_INT,
        client={"name": None, "more": 5}, capabilities=[], session_id="", unknown={"a": [1]},
    )  # fmt: skip
    assert peer.welcome["resync_reason"] == "session_unknown"


@pytest.mark.parametrize("since", NO_INT[:-1], ids=repr)
def test_bad_cursor_leaves_the_session_as_it_was(since: Any) -> None:
    world = World.make()
    first = world.connect()
    world.publish(first.session_id)
    before = world.gateway.session(first.session_id)
    first.take()
    peer = offer(world, handshake("hello", 2, session_id=first.session_id, since=since))
    refused(peer, "hello", "invalid_cursor")
    assert world.gateway.session(first.session_id) == before
    world.publish(first.session_id)
    assert seqs(first.take()) == [2]


# -- what the application decides -------------------------------------------------------------


@SPELLINGS
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("code", CLOSING)
def test_application_rejects_with_any_closing_code(kind: str, version: int, code: str) -> None:
    world = World.make()
    peer = offer(world, handshake(kind, version))
    world.give(
        Reject(
            connection=peer.number,
            code=ErrorCode(code),
            message="not now",
            retry_after_seconds=2.5,
        )
    )
    frame = refused(peer, kind, code, counts_as=version)
    assert frame["message"] == "not now"
    assert frame["retry_after_seconds"] == 2.5
    assert not world.gateway.session_ids


@pytest.mark.parametrize(("low", "high", "counts_as"), [(None, None, 1), (1, 1, 1), (1, 2, 2)])
def test_client_counts_by_what_it_offered_not_by_what_was_agreed(
    low: int | None, high: int | None, counts_as: int
) -> None:
    world = World.make(versions=VersionRange(1, 1))
    peer = offer(world, handshake("hello", None, protocol_min=low, protocol_max=high))
    world.give(Reject(connection=peer.number, code=ErrorCode.INTERNAL_ERROR))
    refused(peer, "hello", "internal_error", counts_as=counts_as)


@pytest.mark.parametrize("code", [code for code in ErrorCode if code not in CLOSING])
def test_code_that_closes_nothing_rejects_no_handshake(code: ErrorCode) -> None:
    world = World.make()
    peer = offer(world, handshake("hello", 2))
    before = world.state()
    with pytest.raises(LocalProtocolError):
        world.give(Reject(connection=peer.number, code=code))
    assert world.state() == before
    world.accept(peer)
    assert peer.welcome


def test_decision_after_the_client_has_gone_is_dropped() -> None:
    world = World.make()
    for number, decision in enumerate(("accept", "reject"), start=1):
        peer = offer(world, handshake("hello", 2))
        world.give(ConnectionClosed(peer.number))
        if decision == "accept":
            world.give(Accept(connection=number))
        else:
            world.give(Reject(connection=number, code=ErrorCode.AUTH_REQUIRED))
        assert world.hear(CommandDropped) == [CommandDropped(command=decision, target=number)]  # type: ignore[arg-type] # one of its names
        assert not peer.frames
    assert not world.told(SessionOpened)


@pytest.mark.parametrize(
    ("headers", "query", "field", "token"),
    [
        ({}, {}, None, None),
        ({}, {"token": "q"}, None, "q"),
        ({"authorization": "Bearer h"}, {}, None, "h"),
        ({"authorization": "bearer  h "}, {"token": "q"}, None, "h"),
        ({"authorization": "Basic h"}, {"token": "q"}, None, "q"),
        ({"authorization": "Bearer "}, {"token": "q"}, None, "q"),
        ({"authorization": "Bearer"}, {}, None, None),
        ({"authorization": "Bearer h"}, {"token": "q"}, "f", "f"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_token_comes_from_the_handshake_else_from_the_upgrade(
    headers: dict[str, str], query: dict[str, str], field: str | None, token: str, version: int
) -> None:
    world = World.make()
    peer = world.open(headers=headers, query=query, path="/ws", peer="192.0.2.1:5", timestamp=9.0)
    client = {"name": "n", "version": "v"}
    frame = handshake("hello", version, token=field, client=client, capabilities=["x", "y"])
    world.give(FrameReceived(peer.number, encode(frame)))
    (asked,) = world.hear(JoinRequested)
    assert asked == JoinRequested(
        connection=peer.number, agent_id="agent", protocol_version=version, token=token,
        path="/ws", peer="192.0.2.1:5", client=ClientInfo(name="n", version="v"),
        capabilities=("x", "y"),
    )  # fmt: skip
    for secret in {"f", "h", "q"} & {token}:
        assert f"'{secret}'" not in repr(asked)
        assert f"'{secret}'" not in repr(peer.world.gateway)


# -- before the welcome -----------------------------------------------------------------------

EARLY: list[tuple[Frame, str]] = [
    ({"type": "ping", "nonce": "p"}, "pong"),
    ({"type": "ping"}, "pong"),
    ({"type": "pong"}, "not_joined"),
    ({"type": "message", "content": "hi", "request_id": "r1"}, "not_joined"),
    ({"type": "message", "content": "hi", "request_id": ""}, "not_joined"),
    ({"type": "resume", "epoch": "e", "since": 0}, "not_joined"),
    ({"type": "resume", "epoch": "e", "since": -1}, "not_joined"),
    ({"type": "resync"}, "not_joined"),
    ({"type": "dance"}, "not_joined"),
]


@pytest.mark.parametrize("first", [True, False], ids=["before the handshake", "after it"])
@pytest.mark.parametrize("version", [1, 2])
def test_nothing_precedes_the_welcome_and_its_answers_follow(version: int, first: bool) -> None:
    world = World.make()
    peer = world.open()
    shake = encode(handshake("hello", version))
    if not first:
        peer.send_raw(shake)
    for frame, _ in EARLY:
        assert peer.send_raw(encode(frame)) == []
    if first:
        peer.send_raw(shake)
    world.accept(peer)
    welcome, *answers = peer.take()
    assert welcome["type"] == "hello_ok"
    answers = [frame for frame in answers if frame["type"] != "caught_up"]
    for (sent, kind), answer in zip(EARLY, answers, strict=True):
        if kind == "pong":
            assert answer == {**sent, "type": "pong"}
        else:
            assert (answer["type"], answer["code"]) == ("error", "not_joined")
    assert answers[3]["request_id"] == "r1"
    assert world.gateway.session(peer.session_id)
    assert peer.send("ping", nonce="x") == [{"type": "pong", "nonce": "x"}]


def test_second_handshake_before_the_welcome_is_too_early_as_well() -> None:
    world = World.make()
    peer = offer(world, handshake("hello", 2))
    assert peer.send_raw(encode(handshake("join", 1))) == []
    world.accept(peer)
    welcome, error, _ = peer.take()
    assert (welcome["type"], welcome["protocol_version"]) == ("hello_ok", 2)
    assert error["code"] == "not_joined"
    assert len(world.told(JoinRequested)) == 1


@pytest.mark.parametrize("shaken", [False, True])
def test_leave_before_the_welcome_ends_the_connection(shaken: bool) -> None:
    world = World.make()
    peer = world.open()
    if shaken:
        peer.send_raw(encode(handshake("hello", 2)))
    assert peer.send("leave", reason="bye") == []
    assert peer.code == 1000
    assert world.gateway.next_deadline is None


@pytest.mark.parametrize("shaken", [False, True])
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed_frame"),
        (b"{", "malformed_frame"),
        (b"\xff\xfe", "malformed_frame"),
        (b"[]", "malformed_frame"),
        (b"5", "malformed_frame"),
        (b'{"kind":"hello"}', "malformed_frame"),
        (b'{"type":"message"}', "malformed_frame"),
        (b'{"type":"message","content":NaN}', "malformed_frame"),
        (b'{"type":"x","a":' + b"[" * 64 + b"]" * 64 + b"}", "malformed_frame"),
        (b'{"type":"ping","n":9007199254740992}', "malformed_frame"),
        (b'{"type":"ping","nonce":"' + b"n" * 4096 + b'"}', "payload_too_large"),
    ],
)
def test_what_is_no_frame_closes_at_once_before_the_welcome(
    shaken: bool, data: bytes, code: str
) -> None:
    world = World.make(max_payload=4096)
    peer = world.open()
    if shaken:
        peer.send_raw(encode(handshake("hello", 1)))
    peer.send_raw(data)
    peer.read = 0
    # Without a handshake nobody knows its spelling; with one, its own words are used.
    refused(peer, "hello" if shaken else "error", code, counts_as=1)


def test_answers_held_for_a_handshake_that_takes_its_time_are_bounded() -> None:
    world = World.make(answer_window=500)
    peer = offer(world, handshake("hello", 2))
    sent = 0
    while not peer.closed:
        peer.send("ping", nonce="n" * 50)
        sent += 1
        assert sent < 20
    peer.read = 0
    refused(peer, "hello", "rate_limited")
    assert sent > 5


def test_handshake_is_awaited_no_longer_than_its_timeout() -> None:
    world = World.make(handshake_timeout=8)
    peer = world.open()
    assert world.gateway.next_deadline == world.now + 8
    world.advance(7.875)
    world.give(TimerExpired())
    peer.send("ping")  # no handshake
    assert not peer.closed
    world.advance(0.125)
    refused(peer, "error", "handshake_timeout")
    assert world.gateway.next_deadline is None


def test_application_may_take_its_time() -> None:
    world = World.make(handshake_timeout=8)
    peer = offer(world, handshake("hello", 2))
    assert world.gateway.next_deadline is None
    world.advance(10_000)
    world.give(TimerExpired())
    world.accept(peer)
    assert kinds(peer.take()) == ["hello_ok", "caught_up"]
    assert world.gateway.next_deadline is not None


def test_subscriber_joined_tells_what_was_decided() -> None:
    world = World.make()
    first = world.connect()
    world.publish(first.session_id)
    world.connect(session_id=first.session_id, epoch=first.epoch, since=1)
    world.connect(session_id=first.session_id, epoch="old", since=1)
    found = [
        (event.connection, event.resumed, event.sequence, event.resync_reason)
        for event in world.hear(SubscriberJoined)
    ]
    assert found == [(1, False, 0, None), (2, True, 1, None), (3, True, 1, "epoch_changed")]


@pytest.mark.parametrize(
    ("message", "after", "why"),
    [
        ("\ud800", None, "cannot be sent"),
        ("", float("nan"), "no time to wait"),
        ("", float("inf"), "no time to wait"),
        ("", -1.0, "no time to wait"),
    ],
)
def test_rejection_that_cannot_be_sent_is_the_callers_mistake(
    message: str, after: float | None, why: str
) -> None:
    world = World.make()
    peer = world.open()
    peer.send("hello", agent_id="agent", protocol_min=2, protocol_max=2)
    before = world.state()
    with pytest.raises(LocalProtocolError, match=why):
        world.give(
            Reject(
                connection=peer.number,
                code=ErrorCode.RATE_LIMITED,
                message=message,
                retry_after_seconds=after,
            )
        )
    assert world.state() == before


def test_rejection_leaves_out_words_that_its_peer_cannot_take() -> None:
    world = World.make()
    peer = world.open()
    peer.send("hello", agent_id="agent", protocol_min=2, protocol_max=2, max_payload=1024)
    world.give(Reject(connection=peer.number, code=ErrorCode.AUTH_UNAUTHORIZED, message="x" * 3000))
    (answer,) = peer.take()
    assert (answer["code"], answer["message"]) == ("auth_unauthorized", "")
    assert peer.sizes[-1] <= 1024


def test_time_that_is_none_is_the_callers_mistake() -> None:
    world = World.make()
    with pytest.raises(LocalProtocolError, match="no time"):
        world.give(ConnectionOpened(connection=1, timestamp=float("nan")))

"""The handshake in both spellings: versions, fields, rejections, and what comes too early."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.blackbox.bbserve import (
    ABSENT,
    NO_CURSORS,
    Gateway,
    agreed_version,
    handshake,
    message,
    rejected,
    v1,
    welcomed,
)
from tests.blackbox.bbwire import PING, TEXT, Frame

SPELLINGS = pytest.mark.parametrize("spelling", ["hello", "join"])


@pytest.fixture(scope="module")
def strict(adapter: str) -> Iterator[Gateway]:
    running = Gateway("--strict", adapter=adapter)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def agents(adapter: str) -> Iterator[Gateway]:
    running = Gateway("--agent-id", "ann", "--agent-id", "bob", adapter=adapter)
    yield running
    running.stop()


@SPELLINGS
@pytest.mark.parametrize(
    ("least", "most", "version"),
    [
        (ABSENT, ABSENT, 1),
        (None, None, 1),
        (1, 1, 1),
        (1, 2, 2),
        (2, 2, 2),
        (1, 99, 2),
        (2, 2**53 - 1, 2),
        (1, ABSENT, 1),
        (2, ABSENT, 2),
        (2, None, 2),
        (ABSENT, 1, 1),
        (ABSENT, 2, 2),
        (None, 2, 2),
        (ABSENT, 7, 2),
    ],
)
def test_the_highest_common_version_is_taken(
    gateway: Gateway, spelling: str, least: object, most: object, version: int
) -> None:
    opening = handshake(spelling, range=(least, most))
    assert agreed_version(opening) == version
    follower = gateway.attach(opening)
    assert follower.welcome["protocol_version"] == version


@SPELLINGS
@pytest.mark.parametrize(("least", "most"), [(3, 3), (3, 99), (3, ABSENT), (2**53 - 1, 2**53 - 1)])
def test_no_common_version_is_said_with_the_servers_range(
    gateway: Gateway, spelling: str, least: object, most: object
) -> None:
    opening = handshake(spelling, range=(least, most))
    frame = gateway.reject(opening, "version_unsupported")
    assert frame["server_min_version"] == 1
    assert frame["server_max_version"] == 2


@SPELLINGS
@pytest.mark.parametrize("bad", ["5", "2", 2.0, True, False, [], [2], {}, 0, -1, 1.5, ""])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("other", [2, ABSENT])
def test_a_version_that_is_none_is_an_invalid_hello(
    gateway: Gateway, spelling: str, bad: object, side: int, other: object
) -> None:
    versions = (bad, other) if side == 0 else (other, bad)
    opening = handshake(spelling, range=versions)
    gateway.reject(opening, "invalid_protocol_hello")


@SPELLINGS
@pytest.mark.parametrize("versions", [(3, 2), (99, 98), ("x", "a"), ([], {}), (True, True)])
def test_a_range_the_wrong_way_round_is_an_invalid_hello(
    gateway: Gateway, spelling: str, versions: tuple[object, object]
) -> None:
    opening = handshake(spelling, range=versions)
    gateway.reject(opening, "invalid_protocol_hello")


def test_a_range_that_ends_at_1_below_its_beginning_is_an_invalid_hello(gateway: Gateway) -> None:
    gateway.reject(handshake("join", range=(2, 1)), "invalid_protocol_hello")


@pytest.mark.parametrize("versions", [(ABSENT, ABSENT), (None, None)])
def test_strict_refuses_a_handshake_without_versions(
    strict: Gateway, versions: tuple[object, object]
) -> None:
    frame = strict.reject(handshake("join", range=versions), "version_unsupported")
    assert (frame["server_min_version"], frame["server_max_version"]) == (1, 2)
    opening = handshake("hello", range=versions)
    peer = strict.connect()
    peer.send(opening)
    rejected(peer, opening, "protocol_unsupported", 4500)


@SPELLINGS
@pytest.mark.parametrize("versions", [(1, 1), (ABSENT, 1), (1, 2), (2, ABSENT)])
def test_strict_takes_a_handshake_with_versions(
    strict: Gateway, spelling: str, versions: tuple[object, object]
) -> None:
    strict.attach(handshake(spelling, range=versions))


@SPELLINGS
@pytest.mark.parametrize("since", NO_CURSORS)
def test_since_that_is_no_cursor_is_rejected(gateway: Gateway, spelling: str, since: str) -> None:
    opening = handshake(spelling, since="HERE")
    peer = gateway.connect()
    peer.send_text(json.dumps(opening).replace('"HERE"', since))
    rejected(peer, opening, "invalid_cursor")


@pytest.mark.parametrize("since", NO_CURSORS)
def test_since_that_is_no_cursor_is_rejected_for_version_1(gateway: Gateway, since: str) -> None:
    for opening, code in ((v1("hello"), "configuration_error"), (v1("join"), "invalid_cursor")):
        peer = gateway.connect()
        peer.send_text(json.dumps({**opening, "since": "HERE"}).replace('"HERE"', since))
        rejected(peer, opening, code, 4502)


@SPELLINGS
def test_a_rejected_since_leaves_the_session_as_it_was(gateway: Gateway, spelling: str) -> None:
    past = gateway.session("burst 3")
    gateway.reject(handshake(spelling, **past.at("3")), "invalid_cursor")
    follower = gateway.attach(handshake(spelling, **past.at(1)))
    assert follower.welcome["resumed"] is True
    assert follower.catch_up().replayed == [2, 3]


@SPELLINGS
@pytest.mark.parametrize(
    "fields",
    [
        {"agent_id": ABSENT},
        {"agent_id": None},
        {"agent_id": 5},
        {"agent_id": ["demo"]},
        {"capabilities": "x"},
        {"capabilities": [1]},
        {"capabilities": {}},
        {"session_id": 5},
        {"session_id": True},
        {"session_id": []},
        {"epoch": 5},
        {"epoch": {}},
        {"start": 1},
        {"start": "end"},
        {"start": True},
        {"token": 5},
        {"token": ["x"]},
        {"max_payload": "5"},
        {"max_payload": 65536.0},
        {"max_payload": True},
        {"max_payload": -1},
        {"client": "x"},
        {"client": []},
        {"client": {"name": 5}},
    ],
    ids=str,
)
def test_fields_that_are_off_are_an_invalid_hello(
    gateway: Gateway, spelling: str, fields: dict[str, Any]
) -> None:
    gateway.reject(handshake(spelling, **fields), "invalid_protocol_hello")


def test_fields_that_are_off_are_a_configuration_error_to_version_1(gateway: Gateway) -> None:
    for opening, code in (
        (v1("hello", agent_id=5), "configuration_error"),
        (handshake("hello", range=(1, 1), agent_id=5), "configuration_error"),
        (v1("join", agent_id=5), "invalid_protocol_hello"),
    ):
        peer = gateway.connect()
        peer.send(opening)
        rejected(peer, opening, code, 4501)


@SPELLINGS
def test_optional_fields_may_be_null_and_unknown_ones_are_ignored(
    gateway: Gateway, spelling: str
) -> None:
    optional = ("capabilities", "session_id", "epoch", "since", "start", "token", "max_payload")
    nulls = dict.fromkeys((*optional, "client"))
    opening = handshake(spelling, **nulls, future={"a": [1]}, seq="x")
    follower = gateway.attach(opening)
    assert follower.welcome["resumed"] is False
    assert follower.welcome["resync_required"] is False
    opening = handshake(
        spelling,
        capabilities=["a", "b"],
        client={"name": "check", "version": "1", "future": 1},
        max_payload=100_000,
        start="replay",
    )
    gateway.attach(opening)


@SPELLINGS
@pytest.mark.parametrize("versions", [(1, 2), (ABSENT, ABSENT)])
@pytest.mark.parametrize("agent_id", ["nobody", "DEMO", "demo "])
def test_an_unknown_agent_is_not_found(
    gateway: Gateway, spelling: str, versions: tuple[object, object], agent_id: str
) -> None:
    opening = handshake(spelling, range=versions, agent_id=agent_id)
    gateway.reject(opening, "agent_not_found")


@SPELLINGS
@pytest.mark.parametrize("versions", [(1, 2), (ABSENT, ABSENT)])
def test_another_agents_session_is_refused(
    agents: Gateway, spelling: str, versions: tuple[object, object]
) -> None:
    past = agents.session("burst 2", agent_id="ann")
    fields = {"range": versions, **past.at(1)}
    agents.reject(handshake(spelling, agent_id="bob", **fields), "auth_unauthorized")
    agents.reject(handshake(spelling, agent_id="demo", **fields), "agent_not_found")
    follower = agents.attach(handshake(spelling, agent_id="ann", **fields))
    assert follower.welcome["resumed"] is True


@SPELLINGS
def test_both_spellings_lead_into_the_same_session(gateway: Gateway, spelling: str) -> None:
    past = gateway.session("burst 2")
    follower = gateway.attach(handshake(spelling, **past.at(0)))
    assert follower.session_id == past.session_id
    assert follower.catch_up().events == past.events


def test_a_rejected_version_1_hello_has_the_codes_deployed_clients_know(gateway: Gateway) -> None:
    for opening, code in (
        (v1("hello", start="end"), "configuration_error"),
        (v1("join", start="end"), "invalid_protocol_hello"),
    ):
        peer = gateway.connect()
        peer.send(opening)
        rejected(peer, opening, code, 4501)


# Too early, too late


@SPELLINGS
def test_an_early_ping_is_answered_after_the_welcome(gateway: Gateway, spelling: str) -> None:
    peer = gateway.connect()
    opening = handshake(spelling)
    peer.send({"type": "ping", "nonce": "n1"}, opening)
    follower = welcomed(peer, opening)
    assert follower.until_type("pong")["nonce"] == "n1"


def test_early_frames_get_not_joined_after_the_welcome(gateway: Gateway) -> None:
    peer = gateway.connect()
    opening = handshake()
    peer.send(message("hi", "r1"), {"type": "resync"}, {"type": "bogus"}, opening)
    follower = welcomed(peer, opening)
    for _ in range(3):
        assert follower.until_type("error")["code"] == "not_joined"
    follower.settle()
    assert follower.account().cursor == 0, "an early message was taken"
    follower.peer.send(message("hi", "r1"))
    assert follower.until_type("message_ack")["duplicate"] is False


@pytest.mark.on_trio
def test_nothing_is_sent_before_the_handshake(gateway: Gateway) -> None:
    peer = gateway.connect()
    peer.send(message("hi", "r1"), {"type": "ping", "nonce": "n1"})
    peer.send_frame(PING, b"probe")
    assert peer.recv_frame().payload == b"probe"
    gateway.attach(peer=peer)


def test_early_frames_before_a_rejection_are_not_answered(gateway: Gateway) -> None:
    peer = gateway.connect()
    opening = handshake(agent_id="nobody")
    peer.send(message("hi", "r1"), {"type": "ping", "nonce": "n1"}, opening)
    rejected(peer, opening, "agent_not_found")


def test_leave_before_the_handshake_ends_in_order(gateway: Gateway) -> None:
    peer = gateway.connect()
    peer.send({"type": "leave"})
    peer.expect_closed(1000)


@SPELLINGS
@pytest.mark.parametrize("versions", [(1, 2), (ABSENT, ABSENT)])
@pytest.mark.parametrize("fields", [{}, {"reason": "done"}, {"reason": None}])
def test_leave_closes_with_1000_and_the_session_stays(
    gateway: Gateway, spelling: str, versions: tuple[object, object], fields: Frame
) -> None:
    follower = gateway.attach(handshake(spelling, range=versions))
    if follower.epoch:
        follower.until_type("caught_up")
    follower.peer.send({"type": "leave", **fields})
    follower.peer.expect_closed(1000)
    opening = handshake(spelling, range=versions, **follower.token())
    assert gateway.attach(opening).welcome["resumed"] is True


@SPELLINGS
def test_a_second_handshake_is_malformed_and_the_connection_lives(
    gateway: Gateway, spelling: str
) -> None:
    follower = gateway.attach()
    follower.until_type("caught_up")
    for again in (handshake(spelling), v1(spelling), handshake(spelling, since="x")):
        follower.peer.send(again)
        follower.peer.expect("error", code="malformed_frame")
    follower.live()
    follower.ask("hello there")
    assert follower.until_type("event")["event"]["data"]["text"] == "hello there"


@SPELLINGS
def test_a_second_handshake_in_version_1_is_a_new_attach(gateway: Gateway, spelling: str) -> None:
    past = gateway.session("burst 4")
    bare = {"session_id": past.session_id}
    follower = gateway.attach(v1(spelling, since=2, **bare))
    assert [follower.recv()["seq"] for _ in range(2)] == [3, 4]
    opening = v1(spelling, since=1, session_id=follower.session_id)
    follower.peer.send(opening)
    again = welcomed(follower.peer, opening)
    assert again.welcome["resumed"] is True
    assert again.session_id == follower.session_id
    assert [again.recv()["seq"] for _ in range(3)] == [2, 3, 4]
    again.ask("after it")
    frames = [again.until_type("replay")]
    assert frames[0]["seq"] == 5
    assert frames[0]["event"]["data"]["text"] == "after it"


@SPELLINGS
def test_a_bad_second_handshake_in_version_1_is_rejected(gateway: Gateway, spelling: str) -> None:
    follower = gateway.attach(v1(spelling))
    opening = v1(spelling, agent_id="nobody")
    follower.peer.send(opening)
    rejected(follower.peer, opening, "agent_not_found")


def test_a_welcome_may_be_asked_for_in_fragments(gateway: Gateway) -> None:
    peer = gateway.connect()
    opening = handshake(client={"name": "Zoë 🛰"})
    data = json.dumps(opening, ensure_ascii=False).encode()
    for at in range(len(data)):
        last = at == len(data) - 1
        peer.send_frame(TEXT if at == 0 else 0, data[at : at + 1], fin=last)
    welcomed(peer, opening)


@pytest.mark.on_trio
def test_frames_may_come_byte_by_byte(gateway: Gateway) -> None:
    peer = gateway.connect()
    opening = handshake()
    for byte in peer.encoded(opening, {"type": "ping", "nonce": "n"}):
        peer.send_bytes(bytes([byte]))
    follower = welcomed(peer, opening)
    follower.until_type("pong", nonce="n")
    for byte in peer.encoded(message("hi", "r1"), message("ho", "r2")):
        peer.send_bytes(bytes([byte]))
    follower.until_seq(2)
    assert follower.account().texts() == ["hi", "ho"]

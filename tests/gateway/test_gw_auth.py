"""What a welcomed client asks of the application: to stop a run, to judge fresh credentials."""

import json
import math
from typing import Any

import attrs
import pytest

from gatewayproto import ErrorCode, LocalProtocolError
from gatewayproto.actions import (
    AbortRequested,
    AuthRequested,
    CommandDropped,
    JoinRequested,
    SubscriberLeft,
)
from gatewayproto.errors import ERRORS
from gatewayproto.frames import ClientInfo
from gatewayproto.inputs import Accept, FrameReceived, Reject, TimerExpired
from tests.gateway.gwworld import Peer, World, encode, handshake, kinds, seqs

CLOSING = [code for code, error in ERRORS.items() if error.close_code is not None]


def accept(peer: Peer, principal: str | None = None, expires_in: float | None = None) -> None:
    peer.world.give(Accept(connection=peer.number, principal=principal, expires_in=expires_in))


def tokens(world: World) -> list[str | None]:
    return [asked.join.token for asked in world.hear(AuthRequested)]


# -- abort ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_abort_is_told_to_the_application_and_not_answered(version: int) -> None:
    world = World.make()
    peer = world.connect(version)
    other = world.connect(version)
    peer.take()
    other.take()
    for fields in ({}, {"run_id": "r"}, {"request_id": "q"}, {"run_id": "r", "request_id": "q"}):
        assert peer.send("abort", **fields) == []
        (asked,) = world.hear(AbortRequested)
        assert asked == AbortRequested(
            connection=peer.number,
            session_id=peer.session_id,
            run_id=fields.get("run_id"),
            request_id=fields.get("request_id"),
        )
    assert other.take() == []


def test_abort_before_the_welcome_is_named_after_it() -> None:
    world = World.make()
    peer = world.open()
    world.give(FrameReceived(peer.number, encode({"type": "abort", "request_id": "q"})))
    world.attach(peer)
    (error,) = [frame for frame in peer.take() if frame["type"] == "error"]
    assert (error["code"], error["request_id"]) == ("not_joined", "q")
    assert world.told(AbortRequested) == []


@pytest.mark.parametrize("version", [1, 2])
def test_abort_with_a_field_that_is_off_is_malformed(version: int) -> None:
    world = World.make()
    peer = world.connect(version)
    peer.take()
    (error,) = peer.send("abort", run_id=5)
    assert error["code"] == "malformed_frame"
    assert world.told(AbortRequested) == []


# -- fresh credentials ------------------------------------------------------------------------


def test_fresh_credentials_are_asked_about_as_if_the_handshake_came_now() -> None:
    world = World.make()
    peer = world.open(
        path="/p", peer="10.0.0.1", headers={"authorization": "Bearer upgrade"}, timestamp=5.0
    )
    world.attach(peer, capabilities=["c"], client={"name": "tab"}, token="old")
    (joined,) = world.told(JoinRequested)
    assert (joined.client, joined.capabilities) == (ClientInfo(name="tab"), ("c",))
    peer.take()
    for token in ("new", ""):
        assert peer.send("auth", token=token) == []
        (asked,) = world.hear(AuthRequested)
        assert asked == AuthRequested(
            connection=peer.number,
            session_id=peer.session_id,
            client_id=peer.welcome["presence"][0]["client_id"],
            join=attrs.evolve(joined, token=token),
        )
        assert "new" not in repr(asked)
        accept(peer)
    assert peer.take() == []
    assert not peer.closed


def test_one_decision_at_a_time_and_then_the_newest() -> None:
    world = World.make()
    peer = world.connect()
    for token in ("a", "b", "c"):
        peer.send("auth", token=token)
    assert tokens(world) == ["a"]
    accept(peer)
    assert tokens(world) == ["c"]
    accept(peer)
    assert tokens(world) == []
    peer.send("auth", token="d")
    assert tokens(world) == ["d"]


def test_events_and_messages_go_on_while_the_application_decides() -> None:
    world = World.make()
    peer = world.connect()
    peer.drain_all()
    peer.send("auth", token="a")
    world.publish(peer.session_id)
    assert seqs(peer.take()) == [1]
    assert kinds(peer.send("message", content="hi", request_id="r")) == ["message_ack"]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("token", ["t", 5, None])
def test_before_version_2_nobody_knows_auth(version: int, token: Any) -> None:
    world = World.make()
    peer = world.connect(version)
    peer.drain_all()
    (*error,) = peer.send("auth", token=token)
    if version == 1:
        assert [frame["code"] for frame in error] == ["unknown_type"]
    elif token != "t":
        assert [frame["code"] for frame in error] == ["malformed_frame"]
    assert len(tokens(world)) == (version == 2 and token == "t")


def test_auth_before_the_welcome_is_not_joined() -> None:
    world = World.make()
    peer = world.open()
    world.give(FrameReceived(peer.number, encode({"type": "auth", "token": "t"})))
    world.attach(peer)
    assert [frame["code"] for frame in peer.take() if frame["type"] == "error"] == ["not_joined"]
    assert tokens(world) == []


def test_another_principals_credentials_end_the_connection() -> None:
    world = World.make()
    peer = world.connect(principal="ann")
    peer.send("auth", token="bob's")
    accept(peer, "bob")
    assert (peer.code, peer.reason) == (4504, "auth_unauthorized")
    again = world.connect(principal="ann", session_id=peer.session_id)
    assert again.welcome["resumed"]
    accept(again, None)
    assert again.code == 4504


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("code", CLOSING)
@pytest.mark.parametrize("asked", [True, False])
def test_a_living_connection_can_be_ended_with_any_code_that_closes(
    version: int, code: ErrorCode, asked: bool
) -> None:
    world = World.make()
    peer = world.connect(version)
    peer.drain_all()
    if asked:
        peer.send("auth", token="t")
        peer.take()
    world.give(
        Reject(connection=peer.number, code=code, message="because", retry_after_seconds=2.5)
    )
    (error,) = peer.take()
    assert (error["type"], error["code"], error["message"]) == ("error", code, "because")
    assert error["retry_after_seconds"] == 2.5
    assert (peer.code, peer.reason) == (ERRORS[code].close_code, code)
    assert world.hear(SubscriberLeft)
    assert world.gateway.session(peer.session_id) is not None


def test_a_reason_that_the_peer_could_not_take_is_left_out() -> None:
    world = World.make()
    for room, told in ((0, ["error"]), (1, [])):
        peer = world.connect(max_payload=1024)
        peer.drain_all()
        bare = len(encode_error(""))
        message = "x" * (1024 - bare + room)
        world.give(Reject(connection=peer.number, code=ErrorCode.RATE_LIMITED, message=message))
        assert kinds(peer.take()) == told
        assert peer.code == 4003


def encode_error(message: str) -> bytes:
    fields = {"type": "error", "code": "rate_limited", "message": message}
    return json.dumps({**fields, "next_step": "wait_then_retry"}, separators=(",", ":")).encode()


def test_a_code_without_a_close_ends_nothing() -> None:
    world = World.make()
    peer = world.connect()
    before = world.state()
    with pytest.raises(LocalProtocolError):
        world.give(Reject(connection=peer.number, code=ErrorCode.NOT_JOINED))
    assert world.state() == before


def test_a_decision_that_comes_after_the_end_is_dropped() -> None:
    world = World.make()
    peer = world.connect()
    peer.send("auth", token="t")
    peer.cut()
    accept(peer, expires_in=5.0)
    world.give(Reject(connection=peer.number, code=ErrorCode.AUTH_EXPIRED))
    assert [each.command for each in world.hear(CommandDropped)] == ["accept", "reject"]


# -- their end --------------------------------------------------------------------------------


def joined(world: World, version: int = 2, expires_in: float | None = 8.0) -> Peer:
    peer = world.open()
    world.give(FrameReceived(peer.number, encode(handshake("hello", version))))
    world.accept(peer, expires_in=expires_in)
    peer.take()
    return peer


@pytest.mark.parametrize("version", [1, 2])
def test_credentials_end_the_connection_when_they_expire_and_not_before(version: int) -> None:
    world = World.make()
    peer = joined(world, version)
    world.advance(7.999)
    assert not peer.closed
    world.publish(peer.session_id)
    world.advance(0.001)
    assert (peer.code, peer.reason) == (4006, "auth_expired")
    assert seqs(peer.take()) == [1]
    world.publish(peer.session_id)  # no event after that: the peer would have noticed


def test_renewed_credentials_count_from_the_renewal() -> None:
    world = World.make()
    peer = joined(world)
    world.advance(6.0)
    peer.send("auth", token="t")
    accept(peer, expires_in=4.0)
    world.advance(3.999)
    assert not peer.closed
    accept(peer, expires_in=1.0)  # unasked, and the word of the last counts
    world.advance(0.999)
    assert not peer.closed
    world.advance(0.001)
    assert peer.code == 4006


def test_credentials_may_become_good_for_ever_and_cease_to_be() -> None:
    world = World.make(heartbeat=1e6)
    peer = joined(world)
    accept(peer)
    world.advance(1000.0)
    assert not peer.closed
    accept(peer, expires_in=2.0)
    world.advance(2.0)
    assert peer.code == 4006


def test_credentials_expire_while_fresh_ones_are_looked_at() -> None:
    world = World.make()
    peer = joined(world)
    peer.send("auth", token="t")
    world.advance(8.0)
    assert peer.code == 4006
    accept(peer, expires_in=60.0)
    assert [each.command for each in world.hear(CommandDropped)] == ["accept"]


def test_an_early_timer_changes_nothing() -> None:
    world = World.make()
    peer = joined(world)
    world.now += 7.0
    before = world.state()
    assert world.give(TimerExpired()) == ()
    assert world.state() == before
    assert world.gateway.next_deadline == world.now + 1.0
    assert not peer.closed


def test_a_new_attach_of_version_1_has_the_expiry_of_its_own_acceptance() -> None:
    world = World.make(heartbeat=1e6)
    peer = joined(world, 1)
    world.give(FrameReceived(peer.number, encode(handshake("hello", 1))))
    world.advance(20.0)  # nothing expires while the application decides
    assert not peer.closed
    world.accept(peer)
    world.advance(20.0)
    assert not peer.closed


@pytest.mark.parametrize("wrong", [0, 0.0, -1, math.nan, math.inf, -math.inf, 1e10, "5"])
def test_credentials_that_are_good_for_no_time_are_the_callers_mistake(wrong: Any) -> None:
    world = World.make()
    peer = world.open()
    world.give(FrameReceived(peer.number, encode(handshake("hello", 2))))
    before = world.state()
    for _ in range(2):
        with pytest.raises(LocalProtocolError):
            accept(peer, expires_in=wrong)
        assert world.state() == before
    world.accept(peer)
    before = world.state()
    with pytest.raises(LocalProtocolError):
        accept(peer, expires_in=wrong)
    assert world.state() == before


def test_a_moved_machine_keeps_the_review_what_waits_and_the_expiry() -> None:
    world = World.make()
    peer = joined(world)
    for token in ("a", "b"):
        peer.send("auth", token=token)
    world.advance(3.0)
    world.restore(later=64.0)
    assert tokens(world) == ["a"]
    accept(peer, expires_in=5.0)
    assert tokens(world) == ["b"]
    world.advance(4.0)
    world.restore(later=-32.0)
    world.advance(0.999)
    assert not peer.closed
    world.advance(0.001)
    assert peer.code == 4006


def test_a_held_token_shows_in_no_repr() -> None:
    world = World.make()
    peer = world.connect()
    peer.send("auth", token="first")
    peer.send("auth", token="open sesame")
    assert "open sesame" in world.state()
    assert "open sesame" not in repr(vars(world.gateway))

"""Heartbeats, silent peers, and how long a session outlives its last connection."""

import time
from collections.abc import Iterator

import pytest

from tests.blackbox.bbserve import Ends, Follower, Gateway, handshake, v1
from tests.blackbox.bbwire import PING, Frame

HEARTBEAT = 0.3
WINDOW = 0.6
SLACK = 4.0
"""Seconds that a busy machine may add to a deadline."""


@pytest.fixture(scope="module")
def lively(adapter: str) -> Iterator[Gateway]:
    running = Gateway(
        "--heartbeat", str(HEARTBEAT), "--resume-window", str(WINDOW), adapter=adapter
    )
    yield running
    running.stop()


def pause(gateway: Gateway, seconds: float) -> None:
    """Let time pass, by the server's own clock: another session's agent sleeps."""
    clock = gateway.attach()
    clock.ask(f"sleep {seconds} x")
    while "event" not in (frame := clock.recv())["type"]:
        answer_ping(clock, frame)
    clock.peer.cut()


def answer_ping(follower: Follower, frame: Frame) -> None:
    if frame["type"] == "ping":
        nonce = {"nonce": frame["nonce"]} if frame.get("nonce") is not None else {}
        follower.peer.send({"type": "pong", **nonce})


def test_the_policy_tells_what_was_configured(lively: Gateway, gateway: Gateway) -> None:
    policy = lively.attach().welcome["policy"]
    assert (policy["heartbeat_ms"], policy["resume_window_ms"]) == (300, 600)
    assert policy["max_payload"] == 1_048_576
    policy = gateway.attach().welcome["policy"]
    assert (policy["heartbeat_ms"], policy["resume_window_ms"]) == (30_000, 300_000)
    assert policy["request_ttl_ms"] == 300_000


def test_pings_come_at_the_heartbeat_with_the_cursor(lively: Gateway) -> None:
    follower = lively.attach()
    follower.ask("burst 3")
    follower.until_seq(3)
    started = time.monotonic()
    for count in range(1, 5):
        ping = follower.until_type("ping")
        assert ping["cursor"] == 3
        answer_ping(follower, ping)
        assert time.monotonic() - started < count * HEARTBEAT + SLACK
    # Four pings of a heartbeat each: not all at once.
    assert time.monotonic() - started > 2 * HEARTBEAT
    assert follower.account().cursor == 3


@pytest.mark.parametrize("opening", [handshake(), v1()], ids=["v2", "v1"])
def test_a_silent_peer_is_closed_by_its_deadline(lively: Gateway, opening: Frame) -> None:
    started = time.monotonic()
    follower = lively.attach(opening)
    welcomed = time.monotonic()
    with Ends(4001):
        while True:
            follower.recv()
    ended = time.monotonic()
    assert ended - started >= 2 * HEARTBEAT
    assert ended - welcomed <= 3 * HEARTBEAT + SLACK
    follower.peer.expect_eof()


def test_a_peer_that_answers_pings_lives(lively: Gateway) -> None:
    follower = lively.attach()
    for _ in range(5):
        answer_ping(follower, follower.until_type("ping"))
    follower.settle()


def test_a_peer_from_which_any_byte_comes_lives(lively: Gateway) -> None:
    follower = lively.attach()
    for _ in range(3):
        follower.until_type("ping")
        follower.peer.send_frame(PING, b"alive")
    follower.until_type("ping")
    follower.peer.send_bytes(b"\x81")
    follower.until_type("ping")
    follower.peer.send_bytes(b"\xfe\x00\x7e")
    follower.until_type("ping")
    # Half a frame has come, byte by byte; its end comes now and the frame is taken.
    text = b'{"type":"ping","nonce":"' + b"n" * 100 + b'"}'
    follower.peer.send_bytes(bytes(4) + text)
    assert len(text) == 126
    follower.until_type("pong", nonce="n" * 100)


def test_one_silent_tab_is_closed_and_the_other_goes_on(lively: Gateway) -> None:
    silent = lively.attach()
    lively_one = lively.attach(handshake(**silent.token()))
    assert lively_one.welcome["resumed"] is True
    for _ in range(5):
        answer_ping(lively_one, lively_one.until_type("ping"))
    assert silent.peer.drain() == 4001
    lively_one.ask("still")
    lively_one.until_seq(1)
    assert lively_one.account().texts() == ["still"]


def test_a_session_outlives_its_last_connection_by_the_window(lively: Gateway) -> None:
    past = lively.session("burst 2")
    again = lively.attach(handshake(**past.at(1)))
    assert again.welcome["resumed"] is True
    assert again.catch_up().replayed == [2]
    again.peer.send({"type": "leave"})
    again.peer.expect_closed(1000)
    again = lively.attach(handshake(**past.at(2)))
    assert again.welcome["resumed"] is True


def test_a_session_is_gone_after_the_window(lively: Gateway) -> None:
    past = lively.session("burst 2")
    pause(lively, WINDOW + 0.4)
    gone = lively.attach(handshake(**past.at(1)))
    assert gone.welcome["resumed"] is False
    assert gone.welcome["resync_reason"] == "session_unknown"
    assert gone.session_id != past.session_id
    gone = lively.attach(handshake(**past.at(0)))
    assert gone.welcome["resumed"] is False
    assert "resync_reason" not in gone.welcome


def test_the_window_begins_anew_with_each_connection(lively: Gateway) -> None:
    past = lively.session("burst 2")
    for _ in range(5):
        pause(lively, WINDOW / 3)
        again = lively.attach(handshake(**past.at(2)))
        assert again.welcome["resumed"] is True
        again.peer.cut()


def test_a_session_lives_as_long_as_anybody_follows_it(lively: Gateway) -> None:
    keeper = lively.attach()
    other = lively.attach(handshake(**keeper.token()))
    other.peer.cut()
    for _ in range(5):
        answer_ping(keeper, keeper.until_type("ping"))
    again = lively.attach(handshake(**keeper.token()))
    assert again.welcome["resumed"] is True

"""Readers that stop reading: they cost no memory, hold nobody up, and lose nothing."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.blackbox.bbaccount import Account
from tests.blackbox.bbserve import Ends, Follower, Gateway, handshake, v1

MIB = 1 << 20
LARGE: dict[str, Any] = {"max_payload": 64 * MIB}
SMALL_WINDOW = 4096


@pytest.fixture(scope="module")
def stalled(adapter: str) -> Iterator[Gateway]:
    running = Gateway("--retain", "500", "--retain-transient", "500", adapter=adapter)
    yield running
    running.stop()


def finish(follower: Follower, last: int) -> Account:
    """Read again, to the end; everything must be accounted for."""
    follower.until_seq(last, timeout=20.0)
    result = follower.account()
    assert result.cursor == last
    return result


@pytest.mark.on_trio
def test_a_stalled_reader_of_a_stream_gets_a_skip_and_the_final(stalled: Gateway) -> None:
    watcher = stalled.attach()
    slow = stalled.attach(handshake(**watcher.token()), rcvbuf=SMALL_WINDOW)
    watcher.ask("tokens 20000 0")
    watcher.until_seq(20001, timeout=30.0)
    whole = "".join(f"t{n} " for n in range(20000))
    assert watcher.account().events[20001]["data"]["text"] == whole
    result = finish(slow, 20001)
    assert result.events[20001]["data"]["text"] == whole
    assert result.skips or result.snapshots
    # What it had not taken yet went by in one piece; nothing was kept for it.
    assert len(result.events) < 20001
    slow.live()


def test_stalled_readers_cost_no_memory(stalled: Gateway) -> None:
    watcher = stalled.attach()
    watcher.ask("tokens 20000 0")
    watcher.until_seq(20001, timeout=30.0)
    before = stalled.rss()
    token = watcher.token()
    slow = [stalled.attach(handshake(**token, since=20001), rcvbuf=SMALL_WINDOW) for _ in range(12)]
    watcher.ask("tokens 30000 0")
    watcher.until_seq(50002, timeout=30.0)
    # Beyond what the kernel takes, a queue for each of them would hold some 50 MiB by now.
    grown = stalled.rss() - before
    assert grown < 16 * MIB, f"{grown / MIB:.0f} MiB for 12 stalled readers"
    for follower in slow[:2]:
        finish(follower, 50002)


def test_a_stalled_reader_that_the_journal_has_left_behind_is_lagged(stalled: Gateway) -> None:
    watcher = stalled.attach(**LARGE)
    slow = stalled.attach(handshake(**watcher.token(), **LARGE), rcvbuf=SMALL_WINDOW)
    watcher.ask("burst 20000")
    watcher.until_seq(20000, timeout=30.0)
    result = finish(slow, 20000)
    assert [snapshot["reason"] for snapshot in result.snapshots] == ["lagged"]
    assert result.skips == []
    assert len(result.caught_up) == 1
    slow.ask("and it goes on")
    slow.until_seq(20001)
    assert slow.account().texts()[-1] == "and it goes on"


def test_a_trim_under_a_stalled_replay_leaves_no_hole(stalled: Gateway) -> None:
    watcher = stalled.attach(**LARGE)
    filler = "x" * 10_000
    for n in range(400):
        watcher.peer.send({"type": "message", "content": f"{n} {filler}"})
        watcher.until_seq(n + 1)
    slow = stalled.attach(handshake(**watcher.token(), since=0, **LARGE), rcvbuf=SMALL_WINDOW)
    assert slow.welcome["resync_required"] is False
    assert slow.recv()["seq"] == 1
    watcher.ask("burst 600")
    watcher.until_seq(1000)
    result = finish(slow, 1000)
    assert [snapshot["reason"] for snapshot in result.snapshots] == ["lagged"]
    assert result.replayed == list(range(1, len(result.replayed) + 1))
    assert len(result.caught_up) <= 1
    if not result.caught_up:
        slow.until_type("caught_up")
    slow.live()


def test_a_resume_moves_a_stalled_position_back_and_never_forward(stalled: Gateway) -> None:
    watcher = stalled.attach(**LARGE)
    filler = "x" * 15_000
    for n in range(400):
        watcher.peer.send({"type": "message", "content": f"{n} {filler}"})
        watcher.until_seq(n + 1)
    for sinces in ((400,), (399, 390)):
        opening = handshake(**watcher.token(), since=0, **LARGE)
        slow = stalled.attach(opening, rcvbuf=SMALL_WINDOW)
        assert slow.recv()["seq"] == 1
        resume = {"type": "resume", "epoch": watcher.epoch}
        slow.peer.send(*({**resume, "since": since, "nonce": f"n{since}"} for since in sinces))
        slow.until_type("caught_up", timeout=20.0, nonce=f"n{sinces[-1]}")
        result = slow.account()
        assert result.replayed == list(range(1, 401))
        # Merged: one answer, with the newest nonce, beside that of the attach.
        assert [f.get("nonce") for f in result.caught_up if f.get("nonce")] == [f"n{sinces[-1]}"]
        slow.live()
        slow.peer.cut()


def test_a_long_replay_to_a_slow_reader_is_no_reason_to_evict_it(stalled: Gateway) -> None:
    past = stalled.session("burst 500", **LARGE)
    slow = stalled.attach(handshake(**past.at(0, **LARGE)), rcvbuf=SMALL_WINDOW)
    result = slow.catch_up(timeout=20.0)
    assert result.replayed == list(range(1, 501))
    assert result.snapshots == []


def test_a_stalled_reader_holds_nobody_up(stalled: Gateway) -> None:
    watcher = stalled.attach()
    token = watcher.token()
    slow = [stalled.attach(handshake(**token), rcvbuf=SMALL_WINDOW) for _ in range(5)]
    watcher.ask("tokens 5000 0")
    watcher.until_seq(5001, timeout=20.0)
    other = stalled.attach()
    other.ask("quick")
    assert other.until_seq(1)["event"]["data"]["text"] == "quick"
    for follower in slow:
        finish(follower, 5001)


def test_a_stalled_version_1_client_is_closed_to_join_again(stalled: Gateway) -> None:
    watcher = stalled.attach(**LARGE)
    slow = stalled.attach(v1(session_id=watcher.session_id), rcvbuf=SMALL_WINDOW)
    watcher.ask("burst 20000")
    watcher.until_seq(20000, timeout=30.0)
    position = 0
    with Ends(4002):
        while True:
            frame = slow.recv()
            if frame["type"] == "replay":
                assert frame["seq"] == position + 1
                position = frame["seq"]
    assert position < 20000
    again = stalled.attach(v1(session_id=slow.session_id, since=position))
    assert again.welcome["resync_reason"] == "trimmed"
    assert again.welcome["cursor"] == position
    text = again.peer.recv_text()
    assert len(text.encode()) <= MIB, "larger than a client takes that states nothing"
    state = json.loads(text)["state"]
    assert state["event_cursor"] == 20000
    assert state["truncated"] is True


def test_answers_to_a_peer_that_does_not_read_are_bounded(stalled: Gateway) -> None:
    before = stalled.rss()
    flooder = stalled.attach(rcvbuf=SMALL_WINDOW)
    ping = flooder.peer.encoded({"type": "ping", "nonce": "n" * 100}) * 500
    sock = flooder.peer.sock
    sock.setblocking(False)
    sent = 0
    refused = 0
    # It stops when the server no longer takes any, or has thrown the peer out.
    while sent < 64 * MIB and refused < 80:
        try:
            sent += sock.send(ping[sent % len(ping) :])
            refused = 0
        except BlockingIOError:
            refused += 1
            probe = stalled.attach()
            probe.settle()
            probe.peer.cut()
        except (ConnectionResetError, BrokenPipeError):
            break
    assert stalled.rss() - before < 32 * MIB
    assert stalled.attach().welcome["resumed"] is False

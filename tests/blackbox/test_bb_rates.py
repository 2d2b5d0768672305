"""How often is too often, for `gatewayproto serve`: its own bounds, and those that it is given."""

from collections.abc import Iterator

import pytest

from tests.blackbox.bbserve import Follower, Gateway, handshake
from tests.blackbox.bbwire import Frame


@pytest.fixture(scope="module")
def narrow(adapter: str) -> Iterator[Gateway]:
    """Nothing comes back within a test."""
    running = Gateway(
        *("--frame-rate", "0.001/5", "--recovery-rate", "0.001/2"),
        *("--session-rate", "0.001/2", "--handshake-rate", "0.001/6", "--connection-rate", "none"),
        adapter=adapter,
    )
    yield running
    running.stop()


def limited(frame: Frame) -> None:
    assert frame["code"] == "rate_limited"
    assert frame["retry_after_seconds"] > 0


def test_the_bounds_that_it_is_given_are_kept(narrow: Gateway) -> None:
    one, two = narrow.attach(), narrow.attach()
    third = narrow.connect()
    third.send(handshake())
    limited(third.recv())
    assert third.drain() == 4003
    # Back to a session, and no new one.
    tab = narrow.attach(handshake(**one.token()))
    tab.until_type("caught_up")
    for _ in range(2):
        tab.peer.send({"type": "resume", "since": 0})
        tab.until_type("caught_up")
    tab.peer.send({"type": "resume", "since": 0})
    limited(tab.until_type("error"))
    tab.settle()
    two.peer.send(*[{"type": "ping", "nonce": str(n)} for n in range(6)])
    limited(two.until_type("error"))
    assert [frame["type"] for frame in two.peer.log].count("pong") <= 5
    assert two.peer.drain() == 4003
    one.settle()


def test_a_script_on_the_same_machine_meets_no_bound(gateway: Gateway) -> None:
    followers: list[Follower] = [gateway.attach() for _ in range(120)]
    busy = followers[-1]
    busy.catch_up()
    for start in range(0, 2000, 500):
        busy.peer.send(*[{"type": "ping", "nonce": str(start + n)} for n in range(500)])
        busy.until_type("pong", nonce=str(start + 499))
    for follower in followers:
        follower.peer.cut()

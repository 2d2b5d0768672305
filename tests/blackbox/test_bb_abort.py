"""`abort`: what the demo agent has under way ends, and nothing else."""

import pytest

from tests.blackbox.bbserve import Follower, Gateway, handshake, v1
from tests.blackbox.bbwire import Frame


def check_aborted(final: Frame, text: str, request_id: str) -> None:
    event = final["event"]
    assert event["type"] == "response"
    assert event["final"] is True
    assert not event.get("transient")
    assert event["data"] == {"text": text, "aborted": True}
    assert event["request_id"] == request_id


def begun(follower: Follower, text: str) -> tuple[str, Frame]:
    """Have a run begin; its request and its first event."""
    request = follower.ask(text)
    frame = follower.until_type("event")
    return request, frame["event"]


@pytest.mark.on_trio
def test_a_run_ends_with_the_text_so_far_as_its_final(gateway: Gateway) -> None:
    follower = gateway.attach()
    request, event = begun(follower, "tokens 3 60000")
    for strange in ({"run_id": "another"}, {"request_id": "another"}):
        follower.peer.send({"type": "abort", **strange})
    follower.settle()
    follower.peer.send({"type": "abort", "run_id": event["run_id"]})
    final = follower.until_type("event")
    assert (final["seq"], final["event"]["run_id"]) == (2, event["run_id"])
    check_aborted(final, "t0 ", request)
    follower.peer.send({"type": "abort", "run_id": event["run_id"]})  # too late
    follower.settle()
    follower.ask("next")
    assert follower.until_seq(3)["event"]["data"] == {"text": "next"}


def test_version_1_may_abort_as_well(gateway: Gateway) -> None:
    follower = gateway.attach(v1("join"))
    follower.ask("tokens 3 60000")
    follower.until_seq(1)
    follower.peer.send({"type": "abort"})
    event = follower.until_seq(2)["event"]
    assert (event["type"], event["data"]["text"]) == ("response", "t0 ")
    assert event["data"]["aborted"] is True


@pytest.mark.on_trio
def test_whatever_runs_ends_and_the_next_message_begins(gateway: Gateway) -> None:
    follower = gateway.attach()
    waiting = [follower.ask("sleep 60 never") for _ in range(2)]
    for seq, request in enumerate(waiting, 1):
        follower.settle()
        follower.peer.send({"type": "abort"})
        check_aborted(follower.until_seq(seq), "", request)
    follower.ask("last")
    assert follower.until_seq(3)["event"]["data"] == {"text": "last"}


def test_only_the_session_that_is_followed_is_meant(gateway: Gateway) -> None:
    one, two = gateway.attach(), gateway.attach()
    _, event = begun(one, "tokens 2 300")
    two.peer.send({"type": "abort"}, {"type": "abort", "run_id": event["run_id"]})
    two.settle()
    assert one.until_seq(3)["event"]["data"] == {"text": "t0 t1 "}
    tab = gateway.attach(handshake(**one.token()))
    tab.catch_up()
    request, event = begun(one, "tokens 2 60000")
    tab.peer.send({"type": "abort", "request_id": request})
    check_aborted(one.until_seq(5), "t0 ", request)

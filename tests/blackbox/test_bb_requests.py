"""Messages: taken once however often they come, and every refusal by its code."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.blackbox.bbserve import Follower, Gateway, handshake, message, new_id, v1
from tests.blackbox.bbwire import Frame

BAD_IDS = ["", "x" * 129, 5, 5.0, 0, True, False, [], ["x"], {}, {"id": "x"}]


@pytest.fixture(scope="module")
def forgetful(adapter: str) -> Iterator[Gateway]:
    running = Gateway("--request-ttl", "0.2", adapter=adapter)
    yield running
    running.stop()


@pytest.fixture
def follower(gateway: Gateway) -> Follower:
    follower = gateway.attach()
    follower.until_type("caught_up")
    return follower


def acked(follower: Follower, frame: Frame, *, duplicate: bool) -> None:
    follower.peer.send(frame)
    answer = follower.until(lambda got: got["type"].startswith("message_"))
    assert answer == {
        "type": "message_ack",
        "request_id": frame["request_id"],
        "duplicate": duplicate,
    }


def nacked(follower: Follower, frame: Frame, code: str) -> Frame:
    follower.peer.send(frame)
    answer = follower.until(lambda got: got["type"] in {"message_nack", "message_ack", "error"})
    assert (answer["type"], answer["code"]) == ("message_nack", code), answer
    assert answer["message"]
    assert answer.get("request_id", frame.get("request_id")) == frame.get("request_id")
    return answer


def has_text(frame: Frame, text: str) -> bool:
    return bool(frame.get("event", {}).get("data", {}).get("text") == text)


def marked(follower: Follower) -> list[str]:
    """Have one more message answered, and tell what was answered up to it."""
    follower.ask("marker")
    follower.until(lambda frame: has_text(frame, "marker"))
    return follower.account().texts()


def test_a_message_is_acknowledged_once_and_answered_once(follower: Follower) -> None:
    frame = message("hello", new_id())
    acked(follower, frame, duplicate=False)
    follower.until_seq(1)
    follower.settle()
    assert follower.account().cursor == 1
    assert [f["type"] for f in follower.frames].count("message_ack") == 1


def test_a_repeated_message_is_a_duplicate_wherever_it_comes_from(
    gateway: Gateway, follower: Follower
) -> None:
    frame = message("once", new_id())
    acked(follower, frame, duplicate=False)
    for _ in range(3):
        acked(follower, frame, duplicate=True)
    other = gateway.attach(handshake(**follower.token()))
    acked(other, frame, duplicate=True)
    follower.peer.cut()
    other.peer.cut()
    again = gateway.attach(handshake(**follower.token(), since=0))
    acked(again, frame, duplicate=True)
    assert marked(again) == ["once", "marker"]


def test_a_message_lost_before_its_answer_is_taken_once(gateway: Gateway) -> None:
    follower = gateway.attach()
    frame = message("maybe lost", new_id())
    for _ in range(5):
        follower.peer.send(frame)
        follower.peer.cut()
        follower = gateway.attach(handshake(**follower.token(), since=0))
    follower.peer.send(frame)
    follower.until_type("message_ack")
    assert marked(follower) == ["maybe lost", "marker"]


def test_the_same_id_in_another_session_is_another_message(gateway: Gateway) -> None:
    frame = message("hello", "the-same-id")
    for _ in range(2):
        follower = gateway.attach()
        acked(follower, frame, duplicate=False)
        follower.until_seq(1)


@pytest.mark.parametrize("content", ["other", {"text": "hello"}, "hello ", "Hello"])
def test_the_same_id_with_another_content_is_a_conflict(
    follower: Follower, content: object
) -> None:
    frame = message("hello", new_id())
    acked(follower, frame, duplicate=False)
    nacked(follower, {**frame, "content": content}, "request_conflict")
    acked(follower, frame, duplicate=True)
    assert marked(follower) == ["hello", "marker"]


def test_the_same_id_with_another_reply_to_is_a_conflict(follower: Follower) -> None:
    frame = message("hello", new_id())
    acked(follower, frame, duplicate=False)
    event_id = follower.until_seq(1)["event"]["event_id"]
    nacked(follower, {**frame, "reply_to": event_id}, "request_conflict")
    nacked(follower, {**frame, "reply_to": "nothing"}, "request_conflict")


def test_metadata_does_not_count(follower: Follower) -> None:
    frame = message({"text": "hello", "n": [1, 2]}, new_id(), metadata={"try": 1})
    acked(follower, frame, duplicate=False)
    for metadata in ({"try": 2}, {}, None):
        acked(follower, {**frame, "metadata": metadata}, duplicate=True)


@pytest.mark.parametrize("request_id", BAD_IDS, ids=repr)
def test_a_request_id_that_is_none_is_an_invalid_request(
    follower: Follower, request_id: object
) -> None:
    follower.peer.send({"type": "message", "content": "x", "request_id": request_id})
    follower.peer.expect("message_nack", code="invalid_request")
    follower.live()
    acked(follower, message("x", new_id()), duplicate=False)
    follower.until_seq(1)


@pytest.mark.parametrize("request_id", ["x", "x" * 128, "\u0000", "é" * 128, '"\\', " "])
def test_any_string_of_1_to_128_characters_is_a_request_id(
    follower: Follower, request_id: str
) -> None:
    acked(follower, message("x", request_id), duplicate=False)
    acked(follower, message("x", request_id), duplicate=True)


@pytest.mark.parametrize("fields", [{}, {"request_id": None}])
def test_without_an_id_a_message_is_taken_as_often_as_it_comes(
    follower: Follower, fields: dict[str, Any]
) -> None:
    for _ in range(3):
        follower.peer.send({"type": "message", "content": "again", **fields})
    follower.until_seq(3)
    follower.settle()
    result = follower.account()
    assert result.texts() == ["again"] * 3
    assert [frame["type"] for frame in result.others] == ["pong"]
    assert all("request_id" not in event for event in result.events.values())


# A full window


def test_a_full_inbox_refuses_what_is_new_and_knows_what_it_has(gateway: Gateway) -> None:
    follower = gateway.attach()
    follower.until_type("caught_up")
    bound = follower.welcome["policy"]["max_pending_requests"]
    frames = [message("sleep 20 first", new_id())]
    frames += [message(f"message {n}", new_id()) for n in range(1, bound)]
    for frame in frames:
        acked(follower, frame, duplicate=False)
    extra = message("one too many", new_id())
    for _ in range(2):
        nacked(follower, extra, "inbox_full")
    for frame in frames:
        acked(follower, frame, duplicate=True)
    nacked(follower, {**frames[-1], "content": "x"}, "request_conflict")
    other = gateway.attach(handshake(**follower.token()))
    nacked(other, extra, "inbox_full")
    acked(other, frames[0], duplicate=True)
    assert gateway.session("elsewhere there is room").cursor == 1


def test_the_inbox_has_room_again_once_messages_are_done(gateway: Gateway) -> None:
    follower = gateway.attach()
    follower.until_type("caught_up")
    bound = follower.welcome["policy"]["max_pending_requests"]
    acked(follower, message("sleep 0.3 first", new_id()), duplicate=False)
    for n in range(1, bound):
        follower.peer.send(message(f"message {n}", new_id()))
    extra = message("one too many", new_id())
    follower.peer.send(extra)
    refused = follower.until_type("message_nack")
    assert (refused["request_id"], refused["code"]) == (extra["request_id"], "inbox_full")
    follower.until_seq(bound)
    acked(follower, extra, duplicate=False)
    follower.until_seq(bound + 1)
    assert follower.account().texts()[-1] == "one too many"


def test_a_remembered_id_is_never_pushed_out(gateway: Gateway) -> None:
    follower = gateway.attach()
    follower.until_type("caught_up")
    bound = 10 * follower.welcome["policy"]["max_pending_requests"]
    ids = [new_id() for _ in range(bound)]
    step = follower.welcome["policy"]["max_pending_requests"]
    for at in range(0, bound, step):
        part = ids[at : at + step]
        follower.peer.send(*(message("x", request_id) for request_id in part))
        follower.until_seq(at + len(part))
    follower.settle()
    acks = [frame for frame in follower.frames if frame["type"] == "message_ack"]
    assert [frame["duplicate"] for frame in acks] == [False] * bound
    nacked(follower, message("x", new_id()), "inbox_full")
    for request_id in (ids[0], ids[bound // 2], ids[-1]):
        acked(follower, message("x", request_id), duplicate=True)


def test_an_id_is_remembered_for_twice_its_time(forgetful: Gateway) -> None:
    follower = forgetful.attach()
    follower.until_type("caught_up")
    assert follower.welcome["policy"]["request_ttl_ms"] == 200
    frame = message("hello", new_id())
    acked(follower, frame, duplicate=False)
    acked(follower, frame, duplicate=True)
    follower.ask("sleep 0.6 pause")
    follower.until(lambda f: has_text(f, "pause"))
    acked(follower, frame, duplicate=False)
    acked(follower, frame, duplicate=True)


# Questions


def question(follower: Follower, text: str) -> str:
    """Have the agent ask; the event id of its question."""
    follower.ask(f"ask {text}")
    event = follower.until(lambda f: f.get("event", {}).get("type") == "question")["event"]
    assert event["expects_reply"] is True
    assert "transient" not in event
    assert event["data"]["text"] == text
    return str(event["event_id"])


def test_the_first_reply_is_taken_and_later_ones_are_told(
    gateway: Gateway, follower: Follower
) -> None:
    event_id = question(follower, "yes or no?")
    first = message("yes", new_id(), reply_to=event_id)
    acked(follower, first, duplicate=False)
    answer = follower.until(lambda f: f.get("event", {}).get("type") == "response")["event"]
    assert answer["data"]["text"] == "yes"
    nacked(follower, message("no", new_id(), reply_to=event_id), "already_answered")
    nacked(follower, message("yes", new_id(), reply_to=event_id), "already_answered")
    acked(follower, first, duplicate=True)
    other = gateway.attach(handshake(**follower.token()))
    nacked(other, message("no", new_id(), reply_to=event_id), "already_answered")
    acked(other, first, duplicate=True)
    nacked(other, {**first, "content": "no"}, "request_conflict")
    assert marked(follower) == ["yes or no?", "yes", "marker"]


def test_an_open_question_is_shown_to_every_attach_and_answered_from_any(
    gateway: Gateway, follower: Follower
) -> None:
    event_id = question(follower, "who?")
    other = gateway.attach(handshake(**follower.token(), since=0))
    shown = other.until_type("replay")["event"]
    assert (shown["event_id"], shown["expects_reply"]) == (event_id, True)
    other.ask("me", reply_to=event_id)
    for tab in (other, follower):
        tab.until(lambda f: has_text(f, "me"))


@pytest.mark.parametrize("reply_to", ["nothing", "", "x" * 1000])
def test_a_reply_to_an_unknown_event_is_an_invalid_request(
    follower: Follower, reply_to: str
) -> None:
    frame = message("yes", new_id(), reply_to=reply_to)
    nacked(follower, frame, "invalid_request")
    follower.settle()
    assert follower.account().cursor == 0


def test_a_refused_id_was_not_taken(follower: Follower) -> None:
    request_id = new_id()
    nacked(follower, message("yes", request_id, reply_to="nothing"), "invalid_request")
    acked(follower, message("yes", request_id), duplicate=False)


def test_an_event_of_another_session_is_an_unknown_event(
    gateway: Gateway, follower: Follower
) -> None:
    event_id = question(follower, "mine?")
    stranger = gateway.attach()
    nacked(stranger, message("yes", new_id(), reply_to=event_id), "invalid_request")
    acked(follower, message("yes", new_id(), reply_to=event_id), duplicate=False)


def test_a_reply_to_what_is_no_question_is_an_invalid_request(follower: Follower) -> None:
    follower.ask("hello")
    event_id = follower.until_seq(1)["event"]["event_id"]
    nacked(follower, message("yes", new_id(), reply_to=event_id), "invalid_request")


# Version 1


def test_version_1_is_answered_with_response_and_error(gateway: Gateway) -> None:
    follower = gateway.attach(v1())
    frame = message("hello", new_id())
    request_id = frame["request_id"]
    for status in ("accepted", "duplicate"):
        follower.peer.send(frame)
        answer = follower.until_type("response")
        assert answer == {"type": "response", "status": status, "request_id": request_id}
    follower.peer.send({**frame, "content": "other"})
    error = follower.until_type("error")
    assert (error["code"], error["request_id"]) == ("request_conflict", request_id)
    follower.peer.send(message("yes", "r2", reply_to="nothing"))
    error = follower.until_type("error")
    assert (error["code"], error["request_id"]) == ("invalid_request", "r2")
    follower.peer.send({"type": "message", "content": "x", "request_id": ""})
    assert follower.until_type("error")["code"] == "invalid_request"
    follower.settle()


def test_versions_share_one_memory_of_requests(gateway: Gateway, follower: Follower) -> None:
    frame = message("hello", new_id())
    acked(follower, frame, duplicate=False)
    one = gateway.attach(v1(session_id=follower.session_id))
    one.peer.send(frame)
    assert one.until_type("response")["status"] == "duplicate"


def test_a_message_is_compared_by_its_value(follower: Follower) -> None:
    request_id = new_id()
    acked(follower, message({"text": "hi", "n": 1}, request_id), duplicate=False)
    text = json.dumps({"n": 1, "text": "hi"}, indent=3)
    follower.peer.send_text(
        f'{{"request_id": "{request_id}",\n "content": {text}, "type": "message"}}'
    )
    assert follower.until_type("message_ack")["duplicate"] is True

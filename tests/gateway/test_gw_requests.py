"""Messages: a request enters the inbox at most once within its window (P8), and is bounded (P9)."""

from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto import LocalProtocolError
from gatewayproto.actions import CommandDropped, MessageReceived
from gatewayproto.inputs import ChangeEpoch, Complete
from tests.gateway.gwworld import Frame, Peer, World

VERSIONS = pytest.mark.parametrize("version", [1, 2])


def session(version: int = 2, **options: Any) -> tuple[World, Peer]:
    world = World.make(heartbeat=10**6, **options)
    peer = world.connect(version)
    peer.take()
    return world, peer


def again(world: World, peer: Peer) -> Peer:
    """Another connection to the same session."""
    version = peer.welcome["protocol_version"]
    new = world.connect(version, session_id=peer.welcome["session_id"])
    new.take()
    return new


def ack(version: int, request_id: str, *, duplicate: bool) -> list[Frame]:
    if version == 2:
        return [{"type": "message_ack", "request_id": request_id, "duplicate": duplicate}]
    status = "duplicate" if duplicate else "accepted"
    return [{"type": "response", "status": status, "request_id": request_id}]


def nacked(frames: list[Frame], version: int, code: str, request_id: str | None) -> None:
    (frame,) = frames
    assert frame["type"] == ("message_nack" if version == 2 else "error")
    assert frame["code"] == code
    assert frame.get("request_id") == request_id
    assert isinstance(frame["message"], str)


# -- once -------------------------------------------------------------------------------------


@VERSIONS
def test_request_is_taken_once_and_every_copy_acknowledged(version: int) -> None:
    world, peer = session(version)
    fields: dict[str, Any] = {"content": {"text": "hi", "n": [1, 2.5]}, "request_id": "r"}
    assert peer.send("message", **fields) == ack(version, "r", duplicate=False)
    (received,) = world.hear(MessageReceived)
    assert received == MessageReceived(
        session_id=peer.session_id, message_id=received.message_id,
        content={"text": "hi", "n": [1, 2.5]}, request_id="r", reply_to=None, metadata=None,
    )  # fmt: skip
    for other in (peer, again(world, peer), peer):
        assert other.send("message", **fields) == ack(version, "r", duplicate=True)
    # `metadata` does not count, nor the order of members.
    fields["content"] = {"n": [1, 2.5], "text": "hi"}
    assert peer.send("message", metadata={"try": 2}, **fields) == ack(version, "r", duplicate=True)
    assert not world.hear(MessageReceived)


@VERSIONS
@pytest.mark.parametrize("other", [
    {"content": "ho"},
    {"content": {"text": "hi"}},
    {"content": "hi", "reply_to": "e1"},
])  # fmt: skip
def test_same_id_with_another_content_or_reply_to_is_a_conflict(
    version: int, other: dict[str, Any]
) -> None:
    world, peer = session(version)
    world.publish(peer.session_id, expects_reply=True)
    peer.send("message", content="hi", request_id="r")
    nacked(peer.send("message", request_id="r", **other), version, "request_conflict", "r")
    assert peer.send("message", content="hi", request_id="r") == ack(version, "r", duplicate=True)
    assert len(world.told(MessageReceived)) == 1
    assert not peer.closed


@VERSIONS
def test_message_without_an_id_is_taken_as_often_as_it_comes(version: int) -> None:
    world, peer = session(version)
    for request_id in ({}, {"request_id": None}, {}):
        assert peer.send("message", content="hi", metadata={"a": 1}, **request_id) == []
    received = world.hear(MessageReceived)
    assert [each.metadata for each in received] == [{"a": 1}] * 3
    assert len({each.message_id for each in received}) == 3


@VERSIONS
@pytest.mark.parametrize("bad", ["", "x" * 129, 5, 1.5, True, [], {}], ids=repr)
def test_request_id_that_is_none_is_an_invalid_request(version: int, bad: Any) -> None:
    world, peer = session(version, max_violations=1)
    nacked(peer.send("message", content="hi", request_id=bad), version, "invalid_request", None)
    assert not world.hear(MessageReceived)
    assert not peer.closed


@VERSIONS
def test_request_id_may_be_as_long_as_the_specification_says(version: int) -> None:
    _, peer = session(version)
    for request_id in ("x", "é" * 128):
        assert peer.send("message", content="", request_id=request_id) == ack(
            version, request_id, duplicate=False
        )


@VERSIONS
@pytest.mark.parametrize("fields", [
    {}, {"content": None}, {"content": 5}, {"content": ["a"]}, {"content": "a", "reply_to": 5},
    {"content": "a", "metadata": "m"},
])  # fmt: skip
def test_message_that_is_none_is_malformed_and_named(version: int, fields: Frame) -> None:
    world, peer = session(version)
    (error,) = peer.send("message", request_id="r", **fields)
    assert (error["type"], error["code"], error["request_id"]) == ("error", "malformed_frame", "r")
    assert not world.hear(MessageReceived)


# -- the window -------------------------------------------------------------------------------


def test_id_is_remembered_for_twice_its_time_after_its_last_sight() -> None:
    world, peer = session(request_ttl=10, max_pending_requests=1)
    fields = {"content": "hi", "request_id": "r"}
    assert peer.send("message", **fields) == ack(2, "r", duplicate=False)
    for _ in range(4):
        world.advance(19.875)
        assert peer.send("message", **fields) == ack(2, "r", duplicate=True)
    world.advance(19.875)
    nacked(peer.send("message", content="ho", request_id="r"), 2, "request_conflict", "r")
    (received,) = world.hear(MessageReceived)
    world.give(Complete(session_id=peer.session_id, message_id=received.message_id))
    world.advance(20)
    assert peer.send("message", **fields) == ack(2, "r", duplicate=False)


@VERSIONS
def test_messages_not_yet_done_are_bounded(version: int) -> None:
    world, peer = session(version, max_pending_requests=3)
    for n in range(2):
        assert peer.send("message", content="", request_id=f"r{n}")
    peer.send("message", content="no id")
    nacked(peer.send("message", content="", request_id="r9"), version, "inbox_full", "r9")
    nacked(peer.send("message", content="no id"), version, "inbox_full", None)
    # A copy of what is in the inbox is acknowledged all the same.
    assert peer.send("message", content="", request_id="r0") == ack(version, "r0", duplicate=True)
    info = world.gateway.session(peer.session_id)
    assert info is not None
    assert info.pending_messages == 3
    first = world.hear(MessageReceived)[0]
    world.give(Complete(session_id=peer.session_id, message_id=first.message_id))
    # What was refused was not remembered.
    assert peer.send("message", content="x", request_id="r9") == ack(version, "r9", duplicate=False)


def test_ids_remembered_are_bounded_and_none_is_pushed_out() -> None:
    world, peer = session(max_pending_requests=2, request_ttl=10)
    for n in range(20):
        assert peer.send("message", content="", request_id=f"r{n}") == ack(
            2, f"r{n}", duplicate=False
        )
        (received,) = world.hear(MessageReceived)
        world.give(Complete(session_id=peer.session_id, message_id=received.message_id))
        world.advance(0.5)
    nacked(peer.send("message", content="", request_id="new"), 2, "inbox_full", "new")
    for n in range(20):
        assert peer.send("message", content="", request_id=f"r{n}") == ack(
            2, f"r{n}", duplicate=True
        )
    assert peer.send("message", content="no id") == []
    world.advance(20)  # all of them have had their time
    assert peer.send("message", content="", request_id="new") == ack(2, "new", duplicate=False)


def test_completing_what_is_not_pending_is_the_callers_mistake() -> None:
    world, peer = session()
    peer.send("message", content="hi")
    (received,) = world.hear(MessageReceived)
    done = Complete(session_id=peer.session_id, message_id=received.message_id)
    world.give(done)
    before = world.state()
    for message_id in (received.message_id, 0, -1, 99):
        with pytest.raises(LocalProtocolError):
            world.give(Complete(session_id=peer.session_id, message_id=message_id))
    assert world.state() == before
    world.give(Complete(session_id="gone", message_id=1))
    assert world.hear(CommandDropped) == [CommandDropped(command="complete", target="gone")]


# -- answers to questions ---------------------------------------------------------------------


@VERSIONS
def test_question_is_answered_once(version: int) -> None:
    world, peer = session(version)
    question = world.publish(peer.session_id, expects_reply=True).event_id
    peer.take()
    other = again(world, peer)
    other.take()
    fields = {"content": "yes", "reply_to": question, "request_id": "a"}
    assert peer.send("message", **fields) == ack(version, "a", duplicate=False)
    (received,) = world.hear(MessageReceived)
    assert received.reply_to == question
    late = {"content": "no", "reply_to": question}
    nacked(other.send("message", request_id="b", **late), version, "already_answered", "b")
    nacked(other.send("message", **late), version, "already_answered", None)
    # The id is looked at before: a copy of the first is acknowledged.
    assert other.send("message", **fields) == ack(version, "a", duplicate=True)
    assert not world.hear(MessageReceived)


@VERSIONS
def test_question_that_is_published_again_stays_answered(version: int) -> None:
    """As by an application that dies after it published, and publishes the same once more."""
    world, peer = session(version)
    question = world.publish(peer.session_id, expects_reply=True).event_id
    fields = {"content": "yes", "reply_to": question}
    peer.take()
    peer.send("message", request_id="a", **fields)
    world.publish(peer.session_id, event_id=question, expects_reply=True)
    peer.take()
    nacked(peer.send("message", request_id="b", **fields), version, "already_answered", "b")


@VERSIONS
def test_answer_to_what_expects_none_is_an_invalid_request(version: int) -> None:
    world, peer = session(version)
    plain = world.publish(peer.session_id).event_id
    peer.take()
    for reply_to in (plain, "never-was", ""):
        frames = peer.send("message", content="", reply_to=reply_to, request_id="r")
        nacked(frames, version, "invalid_request", "r")
    question = world.publish(peer.session_id, expects_reply=True).event_id
    peer.take()
    # What was refused was not remembered, whatever it replied to.
    assert peer.send("message", content="", reply_to=question, request_id="r") == ack(
        version, "r", duplicate=False
    )


def test_full_inbox_leaves_the_question_open() -> None:
    world, peer = session(max_pending_requests=1)
    question = world.publish(peer.session_id, expects_reply=True).event_id
    peer.send("message", content="first")
    peer.take()
    (first,) = world.hear(MessageReceived)
    fields = {"content": "yes", "reply_to": question, "request_id": "r"}
    nacked(peer.send("message", **fields), 2, "inbox_full", "r")
    world.give(Complete(session_id=peer.session_id, message_id=first.message_id))
    assert peer.send("message", **fields) == ack(2, "r", duplicate=False)


def test_questions_remembered_are_bounded_and_answered_ones_go_first() -> None:
    world, peer = session(max_pending_requests=10, retain=1)
    questions = [world.publish(peer.session_id, expects_reply=True).event_id for _ in range(1000)]
    peer.take()
    assert peer.send("message", content="", reply_to=questions[500], request_id="a") == ack(
        2, "a", duplicate=False
    )
    world.publish(peer.session_id, expects_reply=True)  # pushes out 500, which was answered
    peer.take()
    assert peer.send("message", content="", reply_to=questions[0], request_id="b") == ack(
        2, "b", duplicate=False
    )
    for _ in range(2):  # pushes out 0, then 1, the oldest
        world.publish(peer.session_id, expects_reply=True)
    peer.take()
    nacked(
        peer.send("message", content="", reply_to=questions[1], request_id="c"),
        2, "invalid_request", "c",
    )  # fmt: skip
    assert len(world.gateway.to_state(now=world.now)["sessions"][0]["inbox"]["questions"]) == 1000


# -- whatever happens -------------------------------------------------------------------------


@define
class Taken:
    """What the specification makes of a session's messages: a list of all sights, searched anew."""

    ttl: float
    bound: int
    first: dict[str, tuple[str, float]] = field(factory=dict)
    pending: set[int] = field(factory=set)
    answered: set[str] = field(factory=set)

    def expected(self, request_id: str | None, content: str, reply_to: str | None, now: float,
                 open_questions: set[str]) -> str:  # fmt: skip
        alive = {k: v for k, v in self.first.items() if v[1] + 2 * self.ttl > now}
        if request_id is not None:
            self.first = alive
            if request_id in alive:
                key = f"{content}|{reply_to}"
                same = alive[request_id][0] == key
                self.first[request_id] = (alive[request_id][0], now)
                return "duplicate" if same else "request_conflict"
        if reply_to is not None:
            if reply_to in self.answered:
                return "already_answered"
            if reply_to not in open_questions:
                return "invalid_request"
        if len(self.pending) >= self.bound:
            return "inbox_full"
        if request_id is not None:
            if len(alive) >= 10 * self.bound:
                return "inbox_full"
            self.first[request_id] = (f"{content}|{reply_to}", now)
        if reply_to is not None:
            self.answered.add(reply_to)
        return "accepted"


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 30), st.integers(0, 9)), max_size=80),
    st.integers(1, 3),
)
def test_request_enters_once_whatever_is_lost_repeated_or_restarted(
    script: list[tuple[int, int, int]], bound: int
) -> None:
    world, peer = session(max_pending_requests=bound, request_ttl=4, resume_window=10**6)
    model, questions = Taken(4, bound), set[str]()
    session_id = peer.session_id
    for code, a, b in script:
        match code:
            case 9:
                world.advance(b / 2)
            case 10 if b < 3:
                world.recover(unbroken=b == 0)
                peer = world.connect(2, session_id=session_id)
            case 10 if b < 5:
                world.restore(later=16)  # another clock, and no time has passed
                model.first = {k: (key, at + 16) for k, (key, at) in model.first.items()}
            case 10 if b == 5:
                world.give(ChangeEpoch(session_id=session_id))
            case 10:
                peer.cut()
                peer = world.connect(1 + b % 2, session_id=session_id)
            case 11 if b > 5:
                questions.add(world.publish(session_id, expects_reply=True).event_id)
            case 11 | 8 if model.pending:
                done = sorted(model.pending)[a % len(model.pending)]
                model.pending.discard(done)
                world.give(Complete(session_id=session_id, message_id=done))
            case _:
                request_id = None if code == 0 else f"r{a if b % 2 else a % 4}"
                reply_to = f"e{1 + a % 3}" if b > 7 else None
                content = str(b % 3 == 0)
                expected = model.expected(request_id, content, reply_to, world.now, questions)
                peer.take()
                fields = {"content": content, "request_id": request_id, "reply_to": reply_to}
                frames = peer.send("message", **fields)
                received = world.hear(MessageReceived)
                assert len(received) == (expected == "accepted")
                if received:
                    assert received[0].message_id not in model.pending
                    model.pending.add(received[0].message_id)
                check_answer(frames, expected, request_id)
        info = world.gateway.session(session_id)
        assert info is not None
        assert info.pending_messages == len(model.pending) <= bound


def check_answer(frames: list[Frame], expected: str, request_id: str | None) -> None:
    if request_id is None and expected == "accepted":
        assert frames == []
        return
    (frame,) = frames
    match frame["type"]:
        case "message_ack":
            assert frame["duplicate"] == (expected == "duplicate")
            assert expected in {"accepted", "duplicate"}
        case "response":
            assert frame["status"] == expected
        case _:
            assert frame["code"] == expected
    assert frame.get("request_id") == request_id

"""Messages: in order, safe to repeat, and each of them comes to exactly one end."""

from collections.abc import Mapping
from typing import Any

import pytest

from gatewayproto.actions import (
    MessageAccepted,
    MessageRefused,
    OutcomeUnknown,
    RetryScheduled,
    SnapshotReceived,
)
from gatewayproto.client import ClientState
from gatewayproto.errors import LocalProtocolError
from gatewayproto.inputs import Abort, Connect, Send
from tests.client.clientlab import (
    HELD,
    POLICY,
    Frame,
    Lab,
    Told,
    ack,
    caught_up,
    event,
    nack,
    snapshot,
)


def send(lab: Lab, *names: str) -> Told:
    return lab.give(*(Send(content=f"text {name}", request_id=name) for name in names))


def written(told: Told) -> list[str]:
    return [frame["request_id"] for frame in told.sent("message")]


def ends(told: Told) -> list[tuple[str, str]]:
    kinds = (MessageAccepted, MessageRefused, OutcomeUnknown)
    found = [each for each in told.events if isinstance(each, kinds)]
    return [(type(each).__name__, each.request_id) for each in found]


# -- writing ----------------------------------------------------------------------------------


def test_a_message_is_written_whole() -> None:
    lab = Lab()
    lab.live()
    told = lab.give(
        Send(content={"text": "é"}, request_id="r", reply_to="ev-1", metadata={"a": [1]})
    )
    assert told.frames == [
        {
            "type": "message",
            "content": {"text": "é"},
            "request_id": "r",
            "reply_to": "ev-1",
            "metadata": {"a": [1]},
        }
    ]
    assert lab.give(Send(content="", request_id="s")).frames[0]["content"] == ""


def test_a_message_without_an_id_gets_one_of_its_own() -> None:
    lab = Lab()
    lab.live()
    told = lab.give(Send(content="a"), Send(content="b"))
    assert len(set(written(told))) == 2
    assert ends(lab.server(ack(written(told)[0]))) == [("MessageAccepted", written(told)[0])]


def test_messages_wait_for_the_welcome_in_order() -> None:
    lab = Lab()
    assert send(lab, "a").frames == []
    lab.give(Connect())
    assert send(lab, "b").frames == []
    lab.open()
    assert send(lab, "c").frames == []
    assert written(lab.server(lab.welcome())) == ["a", "b", "c"]
    assert written(send(lab, "d")) == ["d"]


def test_messages_are_written_while_a_recovery_or_a_snapshot_is_awaited() -> None:
    lab = Lab()
    lab.live(event(5))
    assert lab.state == ClientState.RECOVERING
    assert written(send(lab, "a")) == ["a"]
    lab = Lab(resume=HELD)
    lab.live(resync_required=True, resync_reason="trimmed")
    assert written(send(lab, "a")) == ["a"]


# -- answers ----------------------------------------------------------------------------------


def test_every_answer_is_told_once() -> None:
    lab = Lab()
    lab.live()
    send(lab, "a", "b", "c")
    told = lab.server(ack("b"), ack("a", duplicate=True), nack("c", "request_conflict"))
    assert told.events == [
        MessageAccepted(request_id="b", duplicate=False),
        MessageAccepted(request_id="a", duplicate=True),
        MessageRefused(request_id="c", code="request_conflict", message="no"),
    ]
    assert lab.server(ack("a"), ack("b"), nack("c"), nack("a"), ack("bogus")).actions == ()
    lab.close()
    assert written(lab.back()) == []


def test_an_answer_to_what_was_never_written_is_none() -> None:
    lab = Lab()
    lab.live(policy={**POLICY, "max_pending_requests": 1})
    send(lab, "a", "b")
    assert lab.server(ack("b"), nack("b")).actions == ()
    nameless = {"type": "message_nack", "code": "invalid_request", "message": "x"}
    assert lab.server(nameless).actions == ()
    assert written(lab.server(ack("a"))) == ["b"]


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        ("request_conflict", True),
        ("inbox_full", True),
        ("already_answered", True),
        ("invalid_request", True),
        ("not_joined", True),
        ("rate_limited", True),
        ("malformed_frame", True),
        ("payload_too_large", True),
        ("internal_error", False),
        ("bogus", False),
    ],
)
def test_an_error_that_names_a_message_refuses_it_where_the_code_says_so(
    code: str, refused: bool
) -> None:
    lab = Lab()
    lab.live()
    send(lab, "a", "b")
    error = {"type": "error", "code": code, "message": "no", "request_id": "a"}
    assert ends(lab.server(error)) == ([("MessageRefused", "a")] if refused else [])
    assert lab.server({**error, "request_id": None}).actions == ()
    lab.close()
    assert written(lab.back()) == (["b"] if refused else ["a", "b"])


# -- the window -------------------------------------------------------------------------------


def test_no_more_than_the_servers_bound_are_unacknowledged() -> None:
    lab = Lab()
    lab.live(policy={**POLICY, "max_pending_requests": 2})
    assert written(send(lab, "a", "b", "c", "d")) == ["a", "b"]
    assert written(lab.server(ack("b"))) == ["c"]
    assert written(lab.server(nack("a"))) == ["d"]
    assert written(send(lab, "e")) == []


def test_until_the_server_says_its_bound_the_configured_one_counts() -> None:
    lab = Lab(max_pending_requests=1)
    lab.live(policy=None)
    assert written(send(lab, "a", "b")) == ["a"]


def test_a_window_that_shrank_counts_what_was_written_before() -> None:
    lab = Lab()
    lab.live()
    send(lab, "a", "b", "c")
    lab.close()
    send(lab, "d")
    assert written(lab.back(policy={**POLICY, "max_pending_requests": 2})) == ["a", "b"]
    # An answer from before may still be to what is not yet written again.
    assert ends(lab.server(ack("c"))) == [("MessageAccepted", "c")]
    assert written(lab.server(ack("a"))) == ["d"]


def test_what_had_no_room_goes_after_what_is_written_again() -> None:
    lab = Lab()
    lab.live(policy={**POLICY, "max_pending_requests": 2})
    send(lab, "a", "b", "c", "d")
    lab.close()
    assert written(lab.back()) == ["a", "b", "c", "d"]


def test_the_queue_has_a_bound() -> None:
    lab = Lab(max_queued=2)
    told = send(lab, "a", "b", "c")
    assert told.one(MessageRefused).request_id == "c"
    assert told.one(MessageRefused).code == "inbox_full"
    told = lab.live()
    assert written(told) == ["a", "b"]
    assert ends(send(lab, "d")) == [("MessageRefused", "d")]
    lab.server(ack("a"))
    assert written(send(lab, "d")) == ["d"]


@pytest.mark.parametrize("window", [0, 1])
def test_a_server_that_states_no_window_gets_one_message_at_a_time(window: int) -> None:
    lab = Lab()
    lab.live(policy={**POLICY, "max_pending_requests": window})
    assert written(send(lab, "a", "b")) == ["a"]
    assert written(lab.server(ack("a"))) == ["b"]


# -- again ------------------------------------------------------------------------------------


def test_what_is_unacknowledged_is_written_again_in_order_before_anything_newer() -> None:
    lab = Lab()
    lab.live()
    send(lab, "a", "b", "c")
    lab.server(ack("b"))
    for newer in ("d", "e"):
        lab.close()
        send(lab, newer)
        told = lab.back()
        assert written(told)[:2] == ["a", "c"]
        assert written(told)[-1] == newer
    assert ends(lab.server(*(ack(name, duplicate=True) for name in "acde"))) == [
        ("MessageAccepted", name) for name in "acde"
    ]


@pytest.mark.parametrize("reason", ["trimmed", "cursor_ahead", "requested", None])
def test_a_resume_or_a_resync_in_the_same_epoch_writes_again(reason: str | None) -> None:
    lab = Lab()
    lab.live()
    send(lab, "a")
    lab.close()
    resync = {} if reason is None else {"resync_required": True, "resync_reason": reason}
    assert written(lab.back(**resync)) == ["a"]


LOST: dict[str, Frame] = {
    "not resumed": {"resumed": False, "session_id": "s2", "epoch": "e2"},
    "epoch changed": {
        "epoch": "e2",
        "resync_required": True,
        "resync_reason": "epoch_changed",
        "cursor": 4,
        "sequence": 4,
    },
}


@pytest.mark.parametrize("fields", LOST.values(), ids=LOST)
def test_what_was_written_ends_unknown_where_the_state_was_lost(fields: Frame) -> None:
    lab = Lab()
    lab.live(policy={**POLICY, "max_pending_requests": 3})
    send(lab, "a", "b", "c", "d")
    lab.server(nack("b"))
    assert lab.client.resume_token is not None
    lab.close()
    send(lab, "e")
    told = lab.back(**fields)
    assert ends(told) == [("OutcomeUnknown", name) for name in "acd"]
    assert written(told) == ["e"]
    # Before it, the application is told why.
    kinds = [type(each).__name__ for each in told.events]
    assert kinds.index("Joined") < kinds.index("OutcomeUnknown")


def test_a_live_change_of_epoch_ends_what_was_written() -> None:
    lab = Lab()
    lab.live(policy={**POLICY, "max_pending_requests": 2})
    send(lab, "a", "b", "c")
    lab.server(ack("a"))
    send(lab, "d")
    told = lab.server(snapshot(0, "epoch_changed", epoch="e2"))
    assert isinstance(told.events[0], SnapshotReceived)
    assert ends(told) == [("OutcomeUnknown", "b"), ("OutcomeUnknown", "c")]
    assert written(told) == ["d"]


def test_a_snapshot_of_the_epoch_that_was_agreed_ends_nothing() -> None:
    lab = Lab()
    lab.live()
    send(lab, "a")
    assert ends(lab.server(snapshot(5))) == []
    lab.close()
    told = lab.back(
        epoch="e2", resync_required=True, resync_reason="epoch_changed", sequence=2, cursor=2
    )
    assert ends(told) == [("OutcomeUnknown", "a")]
    # Written in the new epoch, before its snapshot came.
    send(lab, "b")
    assert ends(lab.server(snapshot(2, "epoch_changed", epoch="e2"))) == []
    assert ends(lab.server(ack("b"))) == [("MessageAccepted", "b")]


# -- time -------------------------------------------------------------------------------------


def test_a_message_whose_time_is_up_ends_unknown_and_is_never_written_again() -> None:
    for away in (False, True):
        lab = Lab()
        lab.live()
        send(lab, "a")
        lab.slow = True
        if away:
            lab.close(1012, retry_after_seconds=1000.0)
            assert lab.client.next_deadline == 256.0
        told = Told(())
        while not ends(told):
            told = lab.pass_time(32.0)
            if not away:
                lab.server({"type": "pong"})
        assert ends(told) == [("OutcomeUnknown", "a")]
        assert lab.now == 256.0
        if not away:
            lab.close()
        assert written(lab.back()) == []


def test_the_time_runs_from_the_first_writing() -> None:
    lab = Lab()
    lab.live()
    send(lab, "a")
    lab.close(1012, retry_after_seconds=200.0)
    assert written(lab.back()) == ["a"]
    lab.close(1012, retry_after_seconds=200.0)
    send(lab, "b")
    told = lab.pass_time(100.0)
    assert ends(told) == [("OutcomeUnknown", "a")]
    # What was never written has no end of its time.
    told = lab.back()
    assert written(told) == ["b"]


def test_a_late_timer_writes_nothing_again_either() -> None:
    lab = Lab(handshake_timeout=1000.0)
    lab.live()
    send(lab, "a")
    lab.close()
    lab.try_again()
    lab.now += 999.0
    told = lab.server(lab.welcome())
    assert written(told) == []
    assert ends(told) == [("OutcomeUnknown", "a")]


def test_room_that_time_makes_is_used() -> None:
    lab = Lab()
    lab.live(policy={**POLICY, "max_pending_requests": 1, "heartbeat_ms": 1_000_000})
    send(lab, "a")
    lab.pass_time(100.0)
    assert written(send(lab, "b")) == []
    told = lab.pass_time(200.0)
    assert ends(told) == [("OutcomeUnknown", "a")]
    assert written(told) == ["b"]


@pytest.mark.parametrize("policy", [None, {**POLICY, "request_ttl_ms": 0}])
def test_a_server_that_states_no_time_leaves_the_configured_one(policy: Frame | None) -> None:
    lab = Lab(request_ttl=16.0)
    lab.live(policy=policy)
    send(lab, "a")
    assert ends(lab.pass_time(15.0)) == []
    assert ends(lab.pass_time(1.0)) == [("OutcomeUnknown", "a")]


# -- size -------------------------------------------------------------------------------------


def test_a_message_beyond_the_servers_limit_is_refused_at_once() -> None:
    lab = Lab(server_max_payload=5000)
    told = lab.give(Send(content="x" * 5000, request_id="a"))
    assert told.one(MessageRefused).code == "payload_too_large"
    lab.give(Send(content="x" * 3000, request_id="b"))
    # The server turns out to take less than was thought.
    told = lab.live(policy={**POLICY, "max_payload": 2000})
    assert told.one(MessageRefused) == MessageRefused(
        request_id="b",
        code="payload_too_large",
        message="the message is larger than the server takes",
    )
    assert written(told) == []
    assert ends(lab.give(Send(content="x" * 2000, request_id="c"))) == [("MessageRefused", "c")]
    assert written(lab.give(Send(content="x" * 1000, request_id="d"))) == ["d"]


def test_what_was_written_to_a_server_that_takes_less_now_ends_unknown() -> None:
    lab = Lab()
    lab.live()
    lab.give(Send(content="x" * 3000, request_id="a"))
    lab.close()
    told = lab.back(policy={**POLICY, "max_payload": 2000})
    assert ends(told) == [("OutcomeUnknown", "a")]


# -- mistakes ---------------------------------------------------------------------------------


class OddFloat(float):
    pass


class OddMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return {"a": 1}[key]

    def __iter__(self) -> Any:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


BAD: list[Any] = [
    Send(content={"x": float("nan")}),
    Send(content={"x": float("inf")}),
    Send(content={"x": 2**53}),
    Send(content={"x": "\ud800"}),
    Send(content="\ud800"),
    Send(content={"x": object()}),
    Send(content={"x": b"bytes"}),
    Send(content={1: "x"}),  # type: ignore[dict-item]  # the mistake that is tested
    Send(content=nested(63)),
    Send(content={"x": OddMapping()}),
    Send(content=5),  # type: ignore[arg-type]  # the mistake that is tested
    Send(content=[("a", 1)]),  # type: ignore[arg-type]  # the mistake that is tested
    Send(content=None),  # type: ignore[arg-type]  # the mistake that is tested
    Send(content="x", metadata=[1]),  # type: ignore[arg-type]  # the mistake that is tested
    Send(content="x", metadata={"x": {1, 2}}),
    Send(content="x", reply_to=5),  # type: ignore[arg-type]  # the mistake that is tested
    Send(content="x", reply_to="\udfff"),
    Send(content="x", request_id=""),
    Send(content="x", request_id="r" * 129),
    Send(content="x", request_id=5),  # type: ignore[arg-type]  # the mistake that is tested
    Send(content="x", request_id="\ud800"),
    Send(content="x", request_id="taken"),
    Abort(run_id="\ud800"),
    Abort(run_id=object()),  # type: ignore[arg-type]  # the mistake that is tested
]


@pytest.mark.parametrize("command", BAD)
def test_what_cannot_be_sent_is_the_callers_mistake_and_changes_nothing(command: Any) -> None:
    lab = Lab()
    lab.live()
    send(lab, "taken")
    before = lab.client.to_state(now=0.0)
    with pytest.raises(LocalProtocolError):
        lab.give(command)
    assert lab.client.to_state(now=0.0) == before
    # Not even the source of ids has moved.
    assert lab.ids() == "id-1"


def test_what_can_just_be_sent() -> None:
    lab = Lab()
    lab.live()
    for content in (nested(62), OddMapping(), {"x": 2**53 - 1}, {"x": (1, [2])}):
        assert lab.give(Send(content=content)).sent("message")
    assert written(lab.give(Send(content="x", request_id="r" * 128))) == ["r" * 128]


def test_an_id_may_be_used_again_once_its_message_has_ended() -> None:
    lab = Lab()
    lab.live()
    send(lab, "a")
    lab.server(ack("a"))
    assert written(send(lab, "a")) == ["a"]


def test_a_source_of_ids_that_repeats_itself_is_the_callers_mistake() -> None:
    lab = Lab()
    lab.give(Send(content="x", request_id="id-1"))
    with pytest.raises(LocalProtocolError):
        lab.give(Send(content="y"))


# -- abort ------------------------------------------------------------------------------------


def test_an_abort_is_passed_on_or_comes_too_late() -> None:
    lab = Lab()
    abort = Abort(run_id="r", request_id="q")
    assert lab.give(abort).actions == ()
    lab.live()
    assert lab.give(abort).frames == [{"type": "abort", "run_id": "r", "request_id": "q"}]
    assert lab.give(Abort()).frames == [{"type": "abort"}]
    lab.close()
    assert lab.give(abort).actions == ()
    # It is not held: it might stop another run by then.
    assert lab.back(caught_up(0)).frames[1:] == []
    assert lab.close().of(RetryScheduled)

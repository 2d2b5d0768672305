"""A version 1 server: what the client takes from its welcome, and what it waits for."""

from typing import Any

import pytest

from gatewayproto.actions import CaughtUp, EventReceived, Joined, ResumeToken, SnapshotReceived
from gatewayproto.backoff import Backoff
from gatewayproto.client import Client
from gatewayproto.frames import ClientInfo, Event
from gatewayproto.inputs import Resync
from gatewayproto.versions import VersionRange
from tests.client.clientlab import HELD, POLICY, Frame, Lab, event, retry_of

RANGE_OF_JOIN = ("min_version", "max_version")
BASELINE = {"event_cursor": 5, "session_id": "s1", "agent_id": "demo", "messages": []}


def tried_v1(**fields: Any) -> Lab:
    """A client of a version 1 server that has tried in vain, and is welcomed at last."""
    lab = Lab(resume=ResumeToken(session_id="s1", epoch=None, cursor=5))
    lab.connect()
    lab.close()
    lab.try_again()
    lab.close()
    lab.try_again()
    lab.server(lab.welcome_v1(cursor=5, oldest_cursor=1, **fields))
    return lab


def test_version_1_has_caught_up_with_any_frame_after_the_welcome() -> None:
    required = {"resync_required": True, "resync_reason": "trimmed"}
    for fields, frame in (
        (required, {"type": "snapshot", "state": BASELINE}),
        ({}, {"type": "ping"}),
        ({}, {"type": "pong"}),
    ):
        lab = tried_v1(**fields)
        lab.server(frame)
        assert retry_of(lab.close()).attempt == 1
        lab = tried_v1(**fields)
        assert retry_of(lab.close()).attempt == 3


def test_join_says_all_that_hello_said() -> None:
    client = ClientInfo(name="n", version="3")
    fields: dict[str, Any] = {"token": "t", "capabilities": ("a", "b"), "client": client}
    lab = Lab(resume=HELD, max_payload=4096, versions=VersionRange(1, 1), **fields)
    (hello,) = lab.connect().sent("hello")
    (join,) = lab.server(lab.welcome_v1()).sent("join")
    for frame, low, high in ((hello, "protocol_min", "protocol_max"), (join, *RANGE_OF_JOIN)):
        assert (frame.pop(low), frame.pop(high)) == (1, 1)
    assert {**hello, "type": "join"} == join
    assert join == {
        "type": "join",
        "agent_id": "demo",
        "session_id": "s1",
        "epoch": "e1",
        "since": 5,
        "token": "t",
        "max_payload": 4096,
        "capabilities": ["a", "b"],
        "client": {"name": "n", "version": "3"},
    }


def test_version_1_session_that_begins_anew_begins_at_0() -> None:
    lab = Lab(resume=ResumeToken(session_id="s1", epoch=None, cursor=5))
    lab.connect()
    (join,) = lab.server(lab.welcome_v1(cursor=2, oldest_cursor=1)).sent("join")
    assert join["since"] == 0
    told = lab.server({**lab.welcome_v1(cursor=2, oldest_cursor=1, sequence=2), "type": "joined"})
    assert (told.one(Joined).resumed, told.one(Joined).sequence) == (False, 0)


@pytest.mark.parametrize(
    ("fields", "sequence"),
    [({}, 5), ({"sequence": 3}, 3), ({"session_id": "s2"}, 0), ({"cursor": 9}, 5)],
)
def test_where_a_version_1_welcome_goes_on_is_where_the_client_stands(
    fields: Frame, sequence: int
) -> None:
    lab = Lab(resume=ResumeToken(session_id="s1", epoch=None, cursor=5))
    lab.connect()
    told = lab.server(lab.welcome_v1(**{"cursor": 5, "oldest_cursor": 1, **fields}))
    assert told.one(Joined).sequence == sequence


def test_machine_that_has_caught_up_with_version_1_can_be_moved() -> None:
    lab = Lab()
    lab.connect()
    assert lab.server(lab.welcome_v1()).of(CaughtUp)
    state = lab.client.to_state(now=lab.now)
    lab.client = Client.from_state(lab.config, state, rng=lab.rng, now=lab.now, ids=lab.ids)
    told = lab.server(event(1, "replay"))
    assert [each.seq for each in told.of(EventReceived)] == [1]
    assert told.of(CaughtUp) == []


@pytest.mark.parametrize("kind", ["hello_ok", "joined"])
def test_second_welcome_of_version_1_ends_the_connection(kind: str) -> None:
    lab = Lab()
    lab.connect()
    lab.server(lab.welcome_v1())
    assert retry_of(lab.server({**lab.welcome_v1(), "type": kind})).code == "malformed_frame"


@pytest.mark.parametrize("kind", ["error", "hello_error"])
def test_time_to_stay_away_counts_in_either_error_of_version_1(kind: str) -> None:
    lab = Lab()
    lab.connect()
    lab.server(lab.welcome_v1())
    lab.server({"type": kind, "code": "x", "message": "", "retry_after_seconds": 50})
    assert retry_of(lab.close(4003)).delay == 50.0


WHOLE: Frame = {
    "type": "note",
    "data": {"n": 1},
    "event_id": "e",
    "timestamp": 2.5,
    "source": "s",
    "target": "t",
    "run_id": "r",
    "request_id": "q",
    "transient": True,
    "final": False,
    "expects_reply": True,
}


def version_1_event(**fields: Any) -> Event:
    lab = Lab()
    lab.connect()
    lab.server(lab.welcome_v1())
    return lab.server({"type": "replay", "seq": 1, "event": fields}).one(EventReceived).event


def test_event_of_version_1_is_read_in_full() -> None:
    assert version_1_event(**WHOLE) == Event(**WHOLE)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_field_of_a_version_1_event_that_is_off_counts_as_absent(name: str) -> None:
    rest = {**WHOLE}
    del rest[name]
    event_without = version_1_event(**rest)
    for off in (None, 5 if isinstance(WHOLE[name], str | bool) else "5", ["x"]):
        # Without `data`, the event is its own.
        expected = {**WHOLE, name: off} if name == "data" else getattr(event_without, name)
        assert getattr(version_1_event(**{**WHOLE, name: off}), name) == expected


def test_time_to_stay_away_may_be_short_before_the_welcome() -> None:
    lab = Lab(backoff=Backoff(initial=0.25, maximum=16.0, multiplier=2.0, jitter=0.0))
    lab.connect()
    frame = {"type": "hello_error", "code": "rate_limited", "retry_after_seconds": 0.625}
    assert retry_of(lab.server(frame)).delay == 0.625


def test_policy_of_version_1_counts() -> None:
    lab = Lab()
    lab.connect()
    lab.server(lab.welcome_v1(policy={**POLICY, "heartbeat_ms": 16_000}))
    assert lab.client.next_deadline == lab.now + 16.0


def test_version_1_snapshot_that_nobody_asked_for_has_no_reason() -> None:
    lab = tried_v1()
    told = lab.server({"type": "snapshot", "state": BASELINE})
    assert told.one(SnapshotReceived).reason == "unspecified"


def test_first_event_of_version_1_is_live_where_the_welcome_names_no_head() -> None:
    lab = Lab()
    lab.connect()
    lab.server(lab.welcome_v1(cursor=None))
    assert lab.server(event(1, "replay")).one(EventReceived).replayed is False


def test_while_version_1_joins_again_only_its_answer_is_waited_for() -> None:
    lab = Lab(handshake_timeout=8.0, token="t")
    lab.connect()
    lab.server(lab.welcome_v1())
    lab.pass_time(29.0)
    (join,) = lab.give(Resync()).sent("join")
    assert join["token"] == "t"
    assert lab.client.next_deadline == 37.0
    assert lab.pass_time(7.875).actions == ()
    assert retry_of(lab.pass_time(0.125)).code == "handshake_timeout"


def test_welcome_of_version_1_without_a_cursor_goes_on_from_the_held_one() -> None:
    lab = Lab(resume=ResumeToken(session_id="s1", epoch=None, cursor=5))
    lab.connect()
    told = lab.server(lab.welcome_v1(cursor=None, oldest_cursor=1))
    assert told.one(Joined).cursor == 5

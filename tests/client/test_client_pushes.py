"""Presence and health as the client takes them, and credentials on a living connection."""

from typing import Any

import pytest

from gatewayproto import LocalProtocolError
from gatewayproto.actions import (
    HealthReceived,
    Joined,
    PresenceReceived,
    RetryScheduled,
    Stopped,
    TokenNeeded,
)
from gatewayproto.client import ClientState
from gatewayproto.inputs import Abort, Send, SetToken
from tests.client.clientlab import POLICY, Frame, Lab, Told, caught_up, retry_of

ENTRY: Frame = {"client_id": "c", "agent_id": "demo", "connected_at": 1.5}


def listed(version: int = 3, **fields: Any) -> Lab:
    lab = Lab()
    lab.live(presence=[ENTRY], presence_version=version, health={}, health_version=7, **fields)
    return lab


def presence(version: int, **fields: Any) -> Frame:
    return {"type": "presence", "version": version, **fields}


def change(version: int, since: int) -> Frame:
    return presence(version, from_version=since, joined=[], left=["c"])


# -- presence and health ----------------------------------------------------------------------


def test_the_welcome_says_where_the_changes_begin() -> None:
    lab = Lab()
    told = lab.live(presence_version=3, presence_count=2, health_version=7).one(Joined)
    assert (told.presence_version, told.presence_count, told.health_version) == (3, 2, 7)
    lab = Lab()
    lab.connect()
    told = lab.server(lab.welcome_v1(presence_version=3)).one(Joined)
    assert (told.presence_version, told.presence_count, told.health_version) == (None, None, None)


def test_every_form_is_told_as_it_came() -> None:
    lab = listed()
    told = lab.server(
        change(5, 3),
        presence(6, presence_count=9),
        presence(8, entries=[ENTRY]),
        change(9, 8),
    )
    first, count, whole, last = told.of(PresenceReceived)
    assert (first.version, first.from_version, first.joined, first.left) == (5, 3, (), ("c",))
    assert (count.presence_count, count.entries, count.from_version) == (9, None, None)
    assert whole.entries is not None
    assert [entry.client_id for entry in whole.entries] == ["c"]
    assert (last.version, last.from_version) == (9, 8)


def test_what_is_no_newer_is_not_told() -> None:
    lab = listed()
    stale = [change(3, 3), change(2, 1), presence(3, entries=[]), presence(0, presence_count=1)]
    assert lab.server(*stale).actions == ()
    assert lab.server(presence(4, entries=[])).of(PresenceReceived)
    assert lab.server(presence(4, entries=[ENTRY])).actions == ()
    for version in (7, 6, 0):
        assert lab.server({"type": "health", "version": version, "health": {}}).actions == ()
    for _ in range(2):
        told = lab.server({"type": "health", "version": 8, "health": {"ok": True}})
        assert len(told.of(HealthReceived)) == (_ == 0)


def test_without_a_version_in_the_welcome_the_first_word_counts() -> None:
    lab = Lab()
    lab.live(presence_version=None, health_version=None)
    told = lab.server(presence(0, entries=[]), {"type": "health", "version": 0, "health": {}})
    assert told.of(PresenceReceived)
    assert told.of(HealthReceived)


UNKNOWN_BASES = [
    ({"presence": [ENTRY], "presence_version": 3}, [change(5, 4)]),
    ({"presence": [ENTRY], "presence_version": 3}, [change(5, 2)]),
    ({"presence": None, "presence_version": 3}, [change(5, 3)]),
    ({"presence": [ENTRY], "presence_version": None}, [change(5, 3)]),
    ({"presence": [ENTRY], "presence_version": 3}, [presence(4, presence_count=1), change(5, 4)]),
]


@pytest.mark.parametrize(("welcome", "frames"), UNKNOWN_BASES)
def test_a_change_of_a_list_that_was_never_told_ends_the_connection(
    welcome: Frame, frames: list[Frame]
) -> None:
    lab = Lab()
    lab.live(**welcome)
    told = lab.server(*frames)
    assert [each.version for each in told.of(PresenceReceived)] == [4] * (len(frames) - 1)
    assert [each.code for each in told.closed] == [1002]
    assert retry_of(told).code == "malformed_frame"
    # The next welcome says anew where changes begin.
    lab.back(caught_up(0))
    assert lab.state is ClientState.LIVE


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"from_version": 3},
        {"from_version": 3, "joined": []},
        {"from_version": 3, "left": []},
        {"joined": [], "left": []},
        {"entries": [], "presence_count": 0},
        {"entries": [], "from_version": 3, "joined": [], "left": []},
        {"presence_count": 0, "from_version": 3, "joined": [], "left": []},
        {"entries": [], "left": []},
    ],
)
@pytest.mark.parametrize("version", [1, 4])
def test_a_presence_of_no_form_or_of_two_is_a_bad_frame(version: int, fields: Frame) -> None:
    lab = listed()
    told = lab.server(presence(version, **fields))
    assert told.of(PresenceReceived) == []
    assert [each.code for each in told.closed] == [1002]


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "presence", "version": -1, "entries": []},
        {"type": "presence", "version": 2**53, "entries": []},
        {"type": "presence", "version": "4", "entries": []},
        {"type": "presence", "version": 4, "entries": [{"client_id": "c"}]},
        {"type": "presence", "version": 4, "presence_count": -1},
        {"type": "health", "version": 8},
        {"type": "health", "version": 8, "health": []},
        {"type": "health", "health": {}},
    ],
)
def test_a_push_with_a_field_that_is_off_is_a_bad_frame(frame: Frame) -> None:
    assert [each.code for each in listed().server(frame).closed] == [1002]


def test_a_push_decides_nothing_about_events() -> None:
    lab = Lab()
    lab.connect()
    lab.server(lab.welcome(presence=[ENTRY], presence_version=3))
    before = lab.client.resume_token
    lab.server(presence(4, entries=[]), {"type": "health", "version": 9, "health": {}})
    assert lab.client.resume_token == before
    assert lab.client.next_deadline is not None


# -- abort ------------------------------------------------------------------------------------


def test_an_abort_that_the_server_would_not_take_is_the_callers_mistake() -> None:
    lab = Lab()
    lab.policy = {**POLICY, "max_payload": 1024}
    lab.live()
    bare = len(b'{"type":"abort","run_id":""}')
    assert lab.give(Abort(run_id="x" * (1024 - bare))).sent("abort")
    with pytest.raises(LocalProtocolError):
        lab.give(Abort(run_id="x" * (1025 - bare)))


@pytest.mark.parametrize("wrong", [5, b"r", ["r"]])
def test_an_abort_names_by_strings(wrong: Any) -> None:
    lab = Lab()
    lab.live()
    for abort in (Abort(run_id=wrong), Abort(request_id=wrong)):
        with pytest.raises(LocalProtocolError):
            lab.give(abort)


# -- credentials ------------------------------------------------------------------------------


def expire(lab: Lab) -> Told:
    return lab.close(code=4006, reason="auth_expired")


def test_expired_credentials_wait_for_new_ones_with_cursor_and_queue() -> None:
    lab = Lab(token="old")
    lab.live()
    lab.give(Send(content="x", request_id="r"))
    told = expire(lab)
    assert told.one(TokenNeeded).code == "auth_expired"
    assert told.of(RetryScheduled) == []
    assert lab.pass_time(200.0).actions == ()
    assert lab.give(SetToken("new")).opened[0].token == "new"
    (hello,) = lab.open().frames
    assert (hello["token"], hello["session_id"], hello["since"]) == ("new", "s1", 0)
    assert [frame["request_id"] for frame in lab.server(lab.welcome()).sent("message")] == ["r"]


def test_a_token_that_crossed_with_the_end_is_tried_before_another_is_asked_for() -> None:
    lab = Lab(token="old", handshake_timeout=8.0)
    lab.live()
    assert lab.give(SetToken("new")).sent("auth")
    lab.pass_time(7.999)
    told = expire(lab)
    assert told.of(TokenNeeded) == []
    (hello,) = lab.try_again().frames
    assert hello["token"] == "new"
    assert expire(lab).of(TokenNeeded)


def test_a_token_that_was_good_for_a_while_is_not_tried_again() -> None:
    lab = Lab(token="old", handshake_timeout=8.0)
    lab.live()
    lab.give(SetToken("new"))
    lab.pass_time(8.0)
    assert expire(lab).of(TokenNeeded)


def test_a_token_that_the_welcome_brought_along_counts_from_there() -> None:
    for away, asked in ((7.0, 0), (8.0, 1)):
        lab = Lab(token="old", handshake_timeout=8.0)
        lab.connect()
        lab.give(SetToken("new"))
        lab.pass_time(4.0)
        assert lab.server(lab.welcome()).sent("auth")
        lab.pass_time(away)
        assert len(expire(lab).of(TokenNeeded)) == asked


def test_a_second_token_is_newer_than_the_first() -> None:
    lab = Lab(token="old", handshake_timeout=8.0)
    lab.live()
    lab.give(SetToken("a"))
    lab.pass_time(20.0)
    assert lab.give(SetToken("b")).frames == [{"type": "auth", "token": "b"}]
    assert expire(lab).of(TokenNeeded) == []
    (hello,) = lab.try_again().frames
    assert hello["token"] == "b"


def test_a_token_that_was_taken_back_is_not_tried() -> None:
    lab = Lab(token="old")
    lab.live()
    lab.give(SetToken("a"))
    lab.give(SetToken(None))
    assert expire(lab).of(TokenNeeded)


def test_a_token_that_the_server_would_not_take_waits_for_the_next_handshake() -> None:
    lab = Lab(token="old")
    lab.policy = {**POLICY, "max_payload": 1024}
    lab.live()
    bare = len(b'{"type":"auth","token":""}')
    assert lab.give(SetToken("x" * (1024 - bare))).sent("auth")
    long = "x" * (1025 - bare)
    assert lab.give(SetToken(long)).frames == []
    lab.pass_time(20.0)
    assert expire(lab).of(TokenNeeded) == []
    (hello,) = lab.try_again().frames
    assert hello["token"] == long


def test_credentials_that_will_not_do_are_the_end() -> None:
    lab = Lab(token="old")
    lab.live()
    lab.give(SetToken("bad"))
    told = lab.close(code=4504, reason="auth_unauthorized")
    assert told.one(Stopped).code == "auth_unauthorized"

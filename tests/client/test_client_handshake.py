"""What a client asks for, which welcomes it believes, and what precedes them."""

from typing import Any

import pytest

from gatewayproto.actions import (
    EventReceived,
    Joined,
    OpenTransport,
    ResumeToken,
    RetryScheduled,
    StateChanged,
    Stopped,
)
from gatewayproto.client import Client
from gatewayproto.config import ClientConfig
from gatewayproto.errors import LocalProtocolError
from gatewayproto.frames import ClientInfo
from gatewayproto.inputs import (
    Activity,
    ClientInput,
    Connect,
    FrameReceived,
    SetToken,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.versions import VersionRange
from tests.client.clientlab import HELD, Lab, Told, caught_up, event, events, skip, snapshot


def hello_of(told: Told) -> dict[str, Any]:
    (frame,) = told.frames
    assert frame["type"] == "hello"
    return frame


# -- hello ------------------------------------------------------------------------------------


def test_the_first_handshake_offers_the_range_and_claims_nothing() -> None:
    lab = Lab(
        token="secret",
        capabilities=("a", "b"),
        client=ClientInfo(name="n", version="v"),
        max_payload=4096,
    )
    told = lab.connect()
    assert told.events == [StateChanged("connecting")]
    assert told.opened == [OpenTransport(connection=1, token="secret")]
    assert hello_of(told) == {
        "type": "hello",
        "agent_id": "demo",
        "protocol_min": 1,
        "protocol_max": 2,
        "capabilities": ["a", "b"],
        "token": "secret",
        "max_payload": 4096,
        "client": {"name": "n", "version": "v"},
    }


@pytest.mark.parametrize("cursor", [0, 5])
def test_a_position_that_is_held_is_always_said_also_at_0(cursor: int) -> None:
    lab = Lab(resume=ResumeToken(session_id="s1", epoch="e1", cursor=cursor))
    hello = hello_of(lab.connect())
    assert (hello["session_id"], hello["epoch"], hello["since"]) == ("s1", "e1", cursor)


def test_a_new_session_is_a_position_at_0() -> None:
    lab = Lab()
    lab.live()
    lab.close()
    hello = hello_of(lab.try_again())
    assert (hello["session_id"], hello["epoch"], hello["since"]) == ("s1", "e1", 0)


def test_a_snapshot_to_start_with_is_asked_for_only_without_a_position() -> None:
    assert hello_of(Lab(start="snapshot").connect())["start"] == "snapshot"
    assert "start" not in hello_of(Lab(start="snapshot", resume=HELD).connect())
    assert "start" not in hello_of(Lab(start="replay").connect())


@pytest.mark.parametrize(
    ("session_id", "epoch", "cursor"),
    [("", "e1", 0), ("s1", "", 0), ("s1", "e" * 65, 0), ("s1", "e1", -1), ("s1", "e1", 2**53)],
)
def test_a_position_that_no_client_ever_gave_is_refused(
    session_id: str, epoch: str, cursor: int
) -> None:
    with pytest.raises(ValueError, match=r"."):
        Lab(resume=ResumeToken(session_id=session_id, epoch=epoch, cursor=cursor))


def test_ids_come_from_a_cryptographic_source_unless_they_are_given() -> None:
    made = []
    for _ in range(2):
        lab = Lab()
        lab.client = Client(lab.config, rng=lab.rng)
        lab.live(event(2))
        made.append(lab.server(event(3)).frames or lab.client.to_state(now=0.0)["link"]["nonce"])
    assert made[0] != made[1]


# -- the welcome ------------------------------------------------------------------------------


def test_a_new_session() -> None:
    lab = Lab()
    presence = [{"client_id": "c", "agent_id": "demo", "connected_at": 1.5}]
    told = lab.live(cursor=0, presence=presence, health={"ok": True})
    assert told.events[0] == StateChanged("connected")
    joined = told.one(Joined)
    assert (joined.session_id, joined.epoch, joined.protocol_version) == ("s1", "e1", 2)
    assert (joined.resumed, joined.resync_required, joined.resync_reason) == (False, False, None)
    assert (joined.cursor, joined.oldest_cursor, joined.sequence) == (0, 1, 0)
    assert joined.token == ResumeToken(session_id="s1", epoch="e1", cursor=0)
    assert joined.presence is not None
    assert joined.presence[0].client_id == "c"
    assert joined.health == {"ok": True}
    assert lab.client.protocol_version == 2


def test_a_welcome_never_moves_the_cursor() -> None:
    lab = Lab(resume=HELD)
    told = lab.live(cursor=50)
    assert told.one(Joined).cursor == 50
    assert told.one(Joined).token == HELD
    assert lab.client.resume_token == HELD
    lab.close()
    assert hello_of(lab.try_again())["since"] == 5


def test_not_resumed_replaces_session_epoch_and_cursor_at_once() -> None:
    lab = Lab(resume=HELD)
    told = lab.live(
        session_id="s2",
        epoch="e2",
        resumed=False,
        cursor=0,
        sequence=0,
        resync_required=True,
        resync_reason="session_unknown",
    )
    joined = told.one(Joined)
    assert (joined.resumed, joined.resync_reason) == (False, "session_unknown")
    assert joined.token == ResumeToken(session_id="s2", epoch="e2", cursor=0)
    assert lab.client.resume_token == joined.token
    # There is nothing to wait for: it starts from an empty state.
    assert [e.seq for e in lab.server(event(1)).of(EventReceived)] == [1]


def test_unknown_fields_of_a_welcome_are_ignored() -> None:
    assert Lab().live(future={"x": [1]}).of(Joined)


BAD_WELCOMES: dict[str, dict[str, Any]] = {
    "no session id": {"session_id": None},
    "session id a number": {"session_id": 5},
    "no epoch": {"epoch": None},
    "no cursor": {"cursor": None},
    "no sequence": {"sequence": None},
    "cursor a string": {"cursor": "5"},
    "cursor negative": {"cursor": -1},
    "sequence a float": {"sequence": 5.5},
    "version a string": {"protocol_version": "2"},
    "version a float": {"protocol_version": 2.0, "protocol": None},
    "version true": {"protocol_version": True, "protocol": None},
    "version a list": {"protocol_version": [2]},
    "version 0": {"protocol_version": 0, "protocol": 0},
    "version above the range": {"protocol_version": 3, "protocol": 3},
    "two versions": {"protocol": 1},
    "policy that is none": {"policy": {"heartbeat_ms": "x"}},
}
# What contradicts the position that the client presented.
NONSENSE: dict[str, dict[str, Any]] = {
    "resumed unsaid": {"resumed": None},
    "another session": {"session_id": "s2"},
    "another epoch": {"epoch": "e2"},
    "another epoch, trimmed": {
        "epoch": "e2",
        "resync_required": True,
        "resync_reason": "trimmed",
    },
    "goes on from elsewhere": {"sequence": 4},
    "goes on beyond": {"sequence": 6, "cursor": 9},
    "head behind the client": {"cursor": 4},
    "the same session anew": {"resumed": False, "sequence": 0},
    "a new session in mid-stream": {"resumed": False, "session_id": "s2", "sequence": 5},
}


@pytest.mark.parametrize("fields", BAD_WELCOMES.values(), ids=BAD_WELCOMES)
def test_a_bad_welcome_ends_the_connection_and_keeps_the_position(fields: dict[str, Any]) -> None:
    for lab in (Lab(), Lab(resume=HELD)):
        before = lab.client.resume_token
        told = lab.live(**fields)
        assert told.of(Joined) == []
        assert [closing.code for closing in told.closed] == [1002]
        assert told.one(RetryScheduled).code == "malformed_frame"
        assert lab.client.resume_token == before


@pytest.mark.parametrize("fields", NONSENSE.values(), ids=NONSENSE)
def test_a_welcome_that_contradicts_the_position_is_a_bad_one(fields: dict[str, Any]) -> None:
    lab = Lab(resume=HELD)
    told = lab.live(**fields)
    assert told.of(Joined) == []
    assert told.one(RetryScheduled).code == "malformed_frame"
    assert lab.client.resume_token == HELD


def test_what_was_never_held_cannot_be_resumed() -> None:
    told = Lab().live(resumed=True)
    assert told.one(RetryScheduled).code == "malformed_frame"


def test_a_cursor_without_an_epoch_is_not_gone_on_from_in_version_2() -> None:
    lab = Lab(resume=ResumeToken(session_id="s1", epoch=None, cursor=5))
    assert lab.live().one(RetryScheduled).code == "malformed_frame"
    # At 0 there is nothing to prove, and an id may name its epoch.
    lab = Lab(resume=ResumeToken(session_id="s1", epoch=None, cursor=0))
    assert lab.live().one(Joined).token.epoch == "e1"
    lab = Lab(resume=ResumeToken(session_id="s1.e1", epoch=None, cursor=5))
    assert lab.live().one(Joined).token == HELD
    lab = Lab(resume=ResumeToken(session_id="s1.e0", epoch=None, cursor=5))
    assert lab.live().one(RetryScheduled).code == "malformed_frame"


def test_fields_that_a_client_can_do_without_may_be_absent() -> None:
    absent = dict.fromkeys(["oldest_cursor", "resync_required", "policy", "agent_id"])
    assert Lab().live(**absent, resumed=None).of(Joined)
    assert Lab(resume=HELD).live(**absent).of(Joined)


def test_a_resync_without_a_reason_is_one_all_the_same() -> None:
    lab = Lab(resume=HELD)
    joined = lab.live(resync_required=True).one(Joined)
    assert joined.resync_required
    assert lab.server(snapshot(9)).events


def test_a_second_welcome_ends_the_connection() -> None:
    lab = Lab()
    lab.live(event(1))
    told = lab.server(lab.welcome(session_id="s2", resumed=False, sequence=0))
    assert told.of(Joined) == []
    assert told.one(RetryScheduled).code == "malformed_frame"
    assert lab.client.resume_token == ResumeToken(session_id="s1", epoch="e1", cursor=1)


# -- versions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [{"protocol_version": 1}, {"protocol_version": None}])
def test_a_server_below_the_range_can_never_be_talked_to(named: dict[str, Any]) -> None:
    lab = Lab(versions=VersionRange(2, 2))
    told = lab.live(**named, protocol=None)
    assert told.one(Stopped).code == "version_unsupported"
    assert lab.client.next_deadline is None


# -- what precedes the welcome ----------------------------------------------------------------


@pytest.mark.parametrize("versions", [VersionRange(1, 2), VersionRange(2, 2)])
def test_nothing_counts_before_the_welcome(versions: VersionRange) -> None:
    lab = Lab(resume=HELD, versions=versions)
    lab.connect()
    for frame in (
        event(6),
        event(6, "replay"),
        event(9),
        skip(6, 8),
        snapshot(9),
        {"type": "snapshot", "state": {"event_cursor": 9}},
        caught_up(9),
        {"type": "ping", "cursor": 9},
        {"type": "ping", "nonce": 5},
        {"type": "pong"},
        {"type": "message_ack", "request_id": "x", "duplicate": False},
        {"type": "presence", "version": 1},
        {"type": "going_away"},
        {"type": "bogus"},
        {"type": "bogus", "seq": 6},
        {"type": ""},
    ):
        assert lab.server(frame).actions == ()
    assert lab.client.resume_token == HELD
    assert [e.seq for e in lab.server(lab.welcome(), event(6)).of(EventReceived)] == [6]


def test_a_numbered_error_before_the_welcome_is_an_event_of_version_1() -> None:
    lab = Lab()
    lab.connect()
    error = {"type": "error", "seq": 1, "code": "agent_not_found", "message": "x"}
    assert lab.server(error).actions == ()
    lab = Lab(versions=VersionRange(2, 2))
    lab.connect()
    assert lab.server(error).one(Stopped).code == "agent_not_found"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"type":5}', b'{"type":"x","type":"y"}'])
def test_no_frame_before_the_welcome_ends_the_connection(data: bytes) -> None:
    lab = Lab()
    lab.connect()
    told = lab.raw(data)
    assert told.closed[0].code == 1002
    assert told.one(RetryScheduled).code == "malformed_frame"


def test_a_frame_beyond_what_this_client_takes_ends_the_connection() -> None:
    lab = Lab(max_payload=4096)
    lab.live()
    told = lab.raw(b'{"type":"x","y":"' + b"z" * 4096 + b'"}')
    assert told.closed[0].code == 1009
    assert told.one(RetryScheduled).code == "payload_too_large"


# -- the handshake's time ---------------------------------------------------------------------


def test_the_handshake_timeout_runs_from_the_wish_for_a_transport() -> None:
    lab = Lab(handshake_timeout=8.0)
    lab.give(Connect())
    assert lab.client.next_deadline == 8.0
    told = lab.pass_time(8.0)
    assert told.closed[0].connection == 1
    assert told.one(RetryScheduled).code == "handshake_timeout"
    # Opened late, and without a word: it is still the same time.
    lab = Lab(handshake_timeout=8.0)
    lab.give(Connect())
    lab.pass_time(6.0)
    lab.open()
    lab.server({"type": "ping"})
    lab.give(Activity(1))
    assert lab.client.next_deadline == 8.0
    assert lab.pass_time(2.0).one(RetryScheduled).code == "handshake_timeout"


def test_a_welcome_in_time_ends_the_handshake_timeout() -> None:
    lab = Lab(handshake_timeout=8.0)
    lab.connect()
    lab.pass_time(7.0)
    lab.server(lab.welcome())
    assert lab.pass_time(20.0).of(RetryScheduled) == []


# -- the caller's mistakes --------------------------------------------------------------------


def test_the_callers_mistakes_change_nothing() -> None:
    lab = Lab()
    mistakes: list[ClientInput] = [
        FrameReceived(1, b"{}"),
        TransportOpened(1),
        TransportClosed(connection=1),
    ]
    for mistake in [*mistakes, Activity(1), Activity(0), Activity(-1)]:
        with pytest.raises(LocalProtocolError):
            lab.give(mistake)
    lab.give(Connect())
    before = lab.client.to_state(now=0.0)
    mistakes = [Connect(), FrameReceived(1, b"{}"), FrameReceived(2, b"{}"), Activity(2)]
    for mistake in mistakes:
        with pytest.raises(LocalProtocolError):
            lab.give(mistake)
        assert lab.client.to_state(now=0.0) == before
    lab.open()
    with pytest.raises(LocalProtocolError):
        lab.give(TransportOpened(1))


# -- tokens -----------------------------------------------------------------------------------


def test_a_token_for_the_next_handshake() -> None:
    lab = Lab(token="old")
    lab.give(SetToken("a"))
    assert lab.give(Connect()).opened[0].token == "a"
    lab.give(SetToken("b"))
    assert hello_of(lab.open())["token"] == "b"
    lab.close()
    lab.give(SetToken("c"))
    assert hello_of(Told(lab.try_again().actions))["token"] == "c"


def test_a_token_on_a_living_connection_is_presented_at_once_in_version_2() -> None:
    lab = Lab()
    lab.live()
    assert lab.give(SetToken("new")).frames == [{"type": "auth", "token": "new"}]
    assert lab.give(SetToken(None)).frames == []
    lab = Lab()
    lab.connect()
    lab.server(lab.welcome_v1())
    assert lab.give(SetToken("new")).frames == []


def test_a_token_that_came_while_the_handshake_was_away_follows_the_welcome() -> None:
    lab = Lab(token="old")
    lab.connect()
    assert lab.give(SetToken("new")).frames == []
    assert lab.server(lab.welcome()).frames == [{"type": "auth", "token": "new"}]


def test_tokens_and_session_ids_stay_out_of_every_repr() -> None:
    lab = Lab(token="sesame", resume=ResumeToken(session_id="hidden", epoch="e1", cursor=5))
    told = lab.give(Connect())
    assert "sesame" not in repr(told.actions) + repr(lab.config)
    lab.open()
    told = lab.server(lab.welcome(session_id="hidden"), *events(6, 7), snapshot(9))
    assert "hidden" not in repr(told.events)


def test_config_of_a_client_is_checked() -> None:
    mistakes: list[dict[str, Any]] = [{"agent_id": ""}, {"start": "x"}, {"max_attempts": 0}]
    for mistake in [*mistakes, {"max_payload": 1}, {"handshake_timeout": 0.0}]:
        fields: dict[str, Any] = {"agent_id": "a", **mistake}
        with pytest.raises(ValueError, match=r"."):
            ClientConfig(**fields)

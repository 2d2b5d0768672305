"""Tokens, principals, and that nobody learns of another's session."""

from collections.abc import Iterator

import pytest

from tests.blackbox.bbserve import ABSENT, Gateway, handshake, rejected, v1, welcomed
from tests.blackbox.bbwire import Frame

SPELLINGS = pytest.mark.parametrize("spelling", ["hello", "join"])
VERSIONS = pytest.mark.parametrize("versions", [(1, 2), (ABSENT, ABSENT)])
RED = "red-token-0001"
BLUE = "blue/token+0002="


@pytest.fixture(scope="module")
def guarded(adapter: str) -> Iterator[Gateway]:
    running = Gateway(
        *("--token", RED, "--token", BLUE),
        *("--agent-id", "ann", "--agent-id", "bob"),
        *("--resume-window", "60"),
        adapter=adapter,
    )
    yield running
    running.stop()


def opening_of(spelling: str, versions: tuple[object, object], **fields: object) -> Frame:
    return handshake(spelling, range=versions, agent_id="ann", **fields)


@SPELLINGS
@VERSIONS
def test_a_token_may_come_in_the_handshake_the_header_or_the_query(
    guarded: Gateway, spelling: str, versions: tuple[object, object]
) -> None:
    bare = opening_of(spelling, versions)
    welcomed_by = [
        (guarded.connect(), {**bare, "token": RED}),
        (guarded.connect(headers=[("Authorization", f"Bearer {RED}")]), bare),
        (guarded.connect(headers=[("authorization", f"bearer {RED}")]), bare),
        (guarded.connect(f"/ws?token={RED}"), bare),
        (guarded.connect("/ws?a=1&token=blue%2Ftoken%2B0002%3D&b=2"), bare),
        (guarded.connect(headers=[("Authorization", f"Bearer {BLUE}")]), bare),
    ]
    for peer, opening in welcomed_by:
        peer.send(opening)
        welcomed(peer, opening)


@SPELLINGS
@VERSIONS
@pytest.mark.parametrize("token", [ABSENT, None])
def test_no_token_is_auth_required(
    guarded: Gateway, spelling: str, versions: tuple[object, object], token: object
) -> None:
    guarded.reject(opening_of(spelling, versions, token=token), "auth_required")


@SPELLINGS
@VERSIONS
@pytest.mark.parametrize("token", ["wrong", RED[:-1], RED + "x", RED.upper(), f" {RED}", "é", "🛰"])
def test_a_wrong_token_is_auth_unauthorized(
    guarded: Gateway, spelling: str, versions: tuple[object, object], token: str
) -> None:
    guarded.reject(opening_of(spelling, versions, token=token), "auth_unauthorized")


def test_a_wrong_token_in_the_header_or_the_query_is_auth_unauthorized(guarded: Gateway) -> None:
    opening = opening_of("hello", (1, 2))
    for peer in (
        guarded.connect(headers=[("Authorization", "Bearer wrong")]),
        guarded.connect("/ws?token=wrong"),
    ):
        peer.send(opening)
        rejected(peer, opening, "auth_unauthorized")


def test_a_rejection_tells_no_secret(guarded: Gateway) -> None:
    for token in ("wrong", RED[:-1]):
        frame = guarded.reject(opening_of("hello", (1, 2), token=token), "auth_unauthorized")
        assert RED not in str(frame)
        assert BLUE not in str(frame)
        assert token not in str(frame)


def test_an_unknown_agent_is_told_only_to_who_may_ask(guarded: Gateway) -> None:
    opening = handshake(agent_id="nobody")
    guarded.reject(opening, "auth_required")
    guarded.reject({**opening, "token": "wrong"}, "auth_unauthorized")
    guarded.reject({**opening, "token": RED}, "agent_not_found")


def comparable(frame: Frame) -> Frame:
    """The welcome without what is random or the time."""
    random = {"session_id", "epoch", "presence", "presence_version", "health", "health_version"}
    return {name: value for name, value in frame.items() if name not in random}


@SPELLINGS
@VERSIONS
@pytest.mark.parametrize("since", [ABSENT, 0, 1, 2, 3, 99])
def test_anothers_session_is_as_unknown_as_any(
    guarded: Gateway, spelling: str, versions: tuple[object, object], since: object
) -> None:
    past = guarded.session("burst 2", agent_id="ann", token=RED)
    fields = {**past.at(since), "token": BLUE}
    theirs = guarded.attach(opening_of(spelling, versions, **fields))
    fields["session_id"] = "no-such-session"
    unknown = guarded.attach(opening_of(spelling, versions, **fields))
    assert theirs.welcome["resumed"] is False
    assert theirs.session_id.partition(".")[0] != past.session_id
    assert comparable(theirs.welcome) == comparable(unknown.welcome)
    for follower in (theirs, unknown):
        follower.settle()
        kinds = [frame["type"] for frame in follower.frames]
        assert kinds == (["caught_up", "pong"] if follower.epoch else ["pong"])
    mine = guarded.attach(handshake(agent_id="ann", token=RED, **past.at(1)))
    assert mine.welcome["resumed"] is True
    assert mine.catch_up().replayed == [2]


def test_anothers_session_is_unknown_before_it_is_another_agents(guarded: Gateway) -> None:
    past = guarded.session("burst 2", agent_id="ann", token=RED)
    opening = handshake(agent_id="bob", token=BLUE, **past.at(1))
    follower = guarded.attach(opening)
    assert follower.welcome["resumed"] is False
    assert follower.welcome["resync_reason"] == "session_unknown"
    guarded.reject({**opening, "token": RED}, "auth_unauthorized")


def test_two_connections_of_one_principal_share_a_session(guarded: Gateway) -> None:
    one = guarded.attach(handshake(agent_id="ann", token=RED))
    peer = guarded.connect(headers=[("Authorization", f"Bearer {RED}")])
    two = guarded.attach(handshake(agent_id="ann", **one.token()), peer=peer)
    assert two.welcome["resumed"] is True
    one.ask("to both")
    assert two.until_seq(1)["event"]["data"]["text"] == "to both"


def test_without_tokens_configured_any_token_is_fine(gateway: Gateway) -> None:
    for opening in (handshake(token="anything"), v1(token="anything")):
        gateway.attach(opening)


def test_good_credentials_in_band_are_not_answered(guarded: Gateway) -> None:
    follower = guarded.attach(opening_of("hello", (1, 2), token=RED))
    follower.until_type("caught_up")
    follower.peer.send({"type": "auth", "token": RED}, {"type": "auth", "token": RED})
    follower.ask("still here")
    assert follower.until_seq(1)["event"]["data"]["text"] == "still here"
    assert {frame["type"] for frame in follower.frames} == {"caught_up", "message_ack", "event"}


@pytest.mark.parametrize("token", ["wrong", BLUE])
def test_bad_credentials_in_band_close_the_connection_and_no_other(
    guarded: Gateway, token: str
) -> None:
    tab = guarded.attach(opening_of("hello", (1, 2), token=RED))
    follower = guarded.attach(opening_of("hello", (1, 2), token=RED, **tab.token()))
    for each in (tab, follower):
        each.until_type("caught_up")
    follower.peer.send({"type": "auth", "token": token})
    assert follower.peer.drain() == 4504
    said = [frame for frame in follower.peer.log if frame["type"] == "error"]
    assert all(frame["code"] == "auth_unauthorized" for frame in said)
    assert token not in str(said)
    assert said or token == BLUE
    tab.settle()

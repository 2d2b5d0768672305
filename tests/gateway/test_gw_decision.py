"""The decision table of the welcome, row by row, for both versions and both spellings (P4)."""

from itertools import product
from typing import Any

import pytest
from attrs import frozen

from gatewayproto.actions import SessionExpired, SessionOpened
from gatewayproto.inputs import (
    ChangeEpoch,
    ConnectionClosed,
    ConnectionOpened,
    FrameReceived,
    SetHealth,
)
from tests.gateway.gwworld import MAX_INT, Frame, Peer, World, encode, handshake, kinds, seqs

VERSIONS = pytest.mark.parametrize("version", [1, 2])
SPELLINGS = pytest.mark.parametrize("kind", ["hello", "join"])
HEAD, FLOOR = 12, 7  # durable events 8 to 12 of 12 are retained


@frozen
class Past:
    """A session with events 1 to 12 of which 8 to 12 are retained, that nobody follows."""

    world: World
    session_id: str
    epoch: str


def past(**options: Any) -> Past:
    world = World.make(retain=5, **options)
    maker = world.connect(2, principal="p")
    for _ in range(HEAD):
        world.publish(maker.session_id)
    maker.send("leave")
    return Past(world, maker.session_id, maker.epoch)


def expected_reason(
    version: int, epochs: list[str], own: str, since: int, start: Any, *, floor: int = FLOOR
) -> str | None:
    """The rows of the table for a session that is the client's own, in their order."""
    if any(epoch != own for epoch in epochs) or (version == 2 and since > 0 and not epochs):
        return "epoch_changed"
    if since > HEAD:
        return "cursor_ahead"
    if since < floor:
        return "trimmed"
    return "requested" if start == "snapshot" else None


def check_found(
    peer: Peer, version: int, reason: str | None, since: int, *, floor: int = FLOOR
) -> None:
    """Check the welcome of a session that was found, and what it promises."""
    welcome = peer.welcome
    assert welcome["resumed"] is True
    assert welcome["oldest_cursor"] == floor + 1
    assert welcome["resync_required"] is (reason is not None)
    assert welcome.get("resync_reason") == reason
    assert ("resync_reason" in welcome) is (reason is not None)
    assert welcome["sequence"] == (since if reason is None else HEAD)
    frames = peer.take()
    if version == 1:
        adopted = since if reason in {None, "trimmed"} else 0
        assert (welcome["cursor"], welcome["head"]) == (adopted, HEAD)
        assert "epoch" not in welcome
    else:
        assert welcome["cursor"] == HEAD
        assert "head" not in welcome
        assert frames.pop() == {"type": "caught_up", "cursor": HEAD}
    if reason is None:
        assert seqs(frames) == list(range(since + 1, HEAD + 1))
        assert set(kinds(frames)) <= {"replay"}
        return
    (snapshot,) = frames
    if version == 1:
        assert set(snapshot) == {"type", "state"}
        assert snapshot["state"]["event_cursor"] == HEAD
        assert snapshot["state"]["session_id"] == welcome["session_id"]
        assert snapshot["state"]["agent_id"] == "agent"
    else:
        assert set(snapshot) == {"type", "cursor", "epoch", "reason", "state"}
        assert (snapshot["cursor"], snapshot["reason"]) == (HEAD, reason)
        assert snapshot["epoch"] == welcome["epoch"]


@SPELLINGS
@VERSIONS
@pytest.mark.parametrize("form", ["bare", "own epoch", "old epoch", "no epoch at all"])
def test_session_of_its_own_resumes_or_names_the_true_reason(
    kind: str, version: int, form: str
) -> None:
    before = past()
    own = before.epoch
    suffix = {"bare": "", "own epoch": f".{own}", "old epoch": ".old", "no epoch at all": "."}[form]
    in_id = {"bare": [], "own epoch": [own], "old epoch": ["old"], "no epoch at all": [""]}[form]
    epochs = [..., None, own, "other"]
    sinces = [..., None, 0, 1, FLOOR - 1, FLOOR, FLOOR + 1, HEAD - 1, HEAD, HEAD + 1, MAX_INT]
    seen: set[str | None] = set()
    for epoch, since, start in product(epochs, sinces, [..., "replay", "snapshot"]):
        named = [*in_id, *([epoch] if isinstance(epoch, str) else [])]
        number = since if isinstance(since, int) else 0
        reason = expected_reason(version, named, own, number, start)
        peer = before.world.connect(
            version, kind=kind, principal="p", session_id=before.session_id + suffix,
            epoch=epoch, since=since, start=start,
        )  # fmt: skip
        assert peer.session_id == before.session_id
        check_found(peer, version, reason, number)
        peer.send("leave")
        seen.add(reason)
    if form in {"bare", "own epoch"}:
        assert seen == {None, "epoch_changed", "cursor_ahead", "trimmed", "requested"}


@SPELLINGS
@VERSIONS
@pytest.mark.parametrize("start", [..., "replay", "snapshot"])
@pytest.mark.parametrize("since", [..., 0, 1, MAX_INT])
@pytest.mark.parametrize("row", ["no session_id", "unknown", "expired", "another principal's"])
def test_any_other_session_id_gives_a_new_session_and_never_a_hint(
    kind: str, version: int, start: Any, since: Any, row: str
) -> None:
    before = past()
    world = before.world
    named = {
        "no session_id": ...,
        "unknown": "never-was",
        "expired": before.session_id,
        "another principal's": f"{before.session_id}.{before.epoch}",
    }[row]
    if row == "expired":
        world.advance(300)
        assert world.hear(SessionExpired) == [SessionExpired(session_id=before.session_id)]
    principal = "p" if row == "expired" else "other" if row == "another principal's" else None
    world.hear(SessionOpened)
    peer = world.connect(
        version, kind=kind, principal=principal, session_id=named, since=since, start=start
    )
    (opened,) = world.hear(SessionOpened)
    assert peer.session_id == opened.session_id != before.session_id
    welcome = peer.welcome
    reason = "session_unknown" if isinstance(since, int) and since > 0 else None
    assert welcome["resumed"] is False
    assert welcome["resync_required"] is (reason is not None)
    assert welcome.get("resync_reason") == reason
    assert (welcome["cursor"], welcome["oldest_cursor"], welcome["sequence"]) == (0, 1, 0)
    frames = peer.take()
    assert frames == ([] if version == 1 else [{"type": "caught_up", "cursor": 0}])
    # What an unknown id gets and what another's gets differ in nothing but ids.
    shown = {k: v for k, v in welcome.items() if k not in {"session_id", "epoch", "presence"}}
    fresh = World.make(retain=5).connect(version, kind=kind, since=since, start=start).welcome
    assert shown == {k: fresh[k] for k in shown}


@SPELLINGS
@VERSIONS
@pytest.mark.parametrize("since", [..., 0, 9, MAX_INT])
def test_session_of_another_agent_is_refused(kind: str, version: int, since: Any) -> None:
    before = past()
    info = before.world.gateway.session(before.session_id)
    peer = before.world.connect(
        version, kind=kind, principal="p", agent_id="other", session_id=before.session_id,
        since=since,
    )  # fmt: skip
    (frame,) = peer.take()
    assert frame["code"] == "auth_unauthorized"
    assert frame["type"] == ("hello_error" if kind == "hello" else "error")
    assert peer.code == 4504
    assert before.world.gateway.session(before.session_id) == info


@SPELLINGS
@VERSIONS
def test_session_of_another_agent_and_principal_is_just_unknown(kind: str, version: int) -> None:
    before = past()
    peer = before.world.connect(
        version, kind=kind, principal=None, agent_id="other", session_id=before.session_id
    )
    assert peer.welcome["resumed"] is False
    assert peer.welcome["agent_id"] == "other"


# -- the floor --------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("retain", [0, 1, 3])
def test_floor_is_exact_whatever_is_retained(version: int, retain: int) -> None:
    world = World.make(retain=retain)
    maker = world.connect(1)
    for head in range(8):
        oldest = max(1, head - retain + 1)
        for since in range(head + 2):
            peer = world.connect(version, session_id=maker.welcome["session_id"], since=since)
            welcome = peer.welcome
            assert welcome["oldest_cursor"] == oldest
            reason = "cursor_ahead" if since > head else "trimmed" if since < oldest - 1 else None
            assert welcome.get("resync_reason") == reason
            if reason is None:
                assert seqs(peer.take()) == list(range(since + 1, head + 1))
            peer.send("leave")
        world.publish(maker.session_id)


def test_superseded_events_that_are_gone_trim_version_1_alone() -> None:
    world = World.make(retain_transient=2)
    maker = world.connect()
    session_id = maker.session_id
    world.publish(session_id)
    for _ in range(4):
        world.publish(session_id, run_id="r", transient=True)  # 2 to 5; 2 and 3 are let go
    info = world.gateway.session(session_id)
    assert info is not None
    assert info.oldest_cursor == 4
    world.publish(session_id, run_id="r", final=True)  # 6
    info = world.gateway.session(session_id)
    assert info is not None
    assert info.oldest_cursor == 1  # the floor fell

    second = world.connect(2, session_id=session_id, epoch=maker.epoch, since=0)
    assert second.welcome["oldest_cursor"] == 1
    assert [(f["type"], f.get("seq"), f.get("first"), f.get("last")) for f in second.take()] == [
        ("replay", 1, None, None),
        ("skip", None, 2, 5),
        ("replay", 6, None, None),
        ("caught_up", None, None, None),
    ]
    for since, reason in [(0, "trimmed"), (2, "trimmed"), (3, None), (6, None)]:
        first = world.connect(1, session_id=session_id, since=since)
        assert first.welcome["oldest_cursor"] == 4
        assert first.welcome.get("resync_reason") == reason
        assert seqs(first.take()) == ([] if reason else list(range(since + 1, 7)))


# -- the moment of acceptance -----------------------------------------------------------------


@VERSIONS
def test_what_the_session_can_still_give_is_judged_at_the_acceptance(version: int) -> None:
    before = past()
    world = before.world
    named = {"session_id": f"{before.session_id}.{before.epoch}", "since": FLOOR}
    waiting = [world.open() for _ in range(4)]
    for peer in waiting:
        world.give(FrameReceived(peer.number, encode(handshake("hello", version, **named))))
    first, second, third, fourth = waiting
    world.accept(first, "p")
    assert first.welcome["resync_required"] is False
    world.publish(before.session_id)
    world.accept(second, "p")
    assert second.welcome["resync_reason"] == "trimmed"
    world.give(ChangeEpoch(session_id=before.session_id))
    world.accept(third, "p")
    assert third.welcome["resync_reason"] == "epoch_changed"
    for peer in (first, second, third):
        peer.cut()
    world.advance(300)
    world.accept(fourth, "p")
    assert fourth.welcome["resumed"] is False
    assert fourth.welcome["resync_reason"] == "session_unknown"


@VERSIONS
def test_events_between_handshake_and_acceptance_are_replayed(version: int) -> None:
    before = past()
    world = before.world
    peer = world.open()
    named = {"session_id": f"{before.session_id}.{before.epoch}", "since": HEAD}
    world.give(FrameReceived(peer.number, encode(handshake("hello", version, **named))))
    world.publish(before.session_id)
    world.publish(before.session_id)
    world.accept(peer, "p")
    assert peer.welcome["head" if version == 1 else "cursor"] == HEAD + 2
    assert peer.welcome["sequence"] == HEAD
    world.publish(before.session_id)
    live = "replay" if version == 1 else "event"
    frames = [(f["type"], f["seq"]) for f in peer.take() if "seq" in f]
    assert frames == [("replay", 13), ("replay", 14), (live, 15)]


def test_version_1_shakes_hands_again_on_the_same_connection() -> None:
    before = past()
    world = before.world
    peer = world.connect(1, principal="p", session_id=before.session_id, since=HEAD)
    world.attach(peer, 1, kind="join", principal="p", session_id=before.session_id, since=HEAD - 2)
    assert peer.welcome["type"] == "joined"
    assert seqs(peer.take()) == [HEAD - 1, HEAD]
    world.publish(before.session_id)
    assert seqs(peer.take()) == [HEAD + 1]
    info = world.gateway.session(before.session_id)
    assert info is not None
    assert info.subscribers == 1
    # It may even become version 2, whose second handshake is malformed.
    world.attach(peer, 2, principal="p", session_id=before.session_id, epoch=before.epoch)
    assert peer.welcome["protocol_version"] == 2
    (error,) = [f for f in peer.send_raw(encode(handshake("hello", 2))) if f["type"] == "error"]
    assert error["code"] == "malformed_frame"
    assert not peer.closed


def test_snapshot_of_a_second_version_1_handshake_waits_for_its_room() -> None:
    before = past(send_window=1500)
    world = before.world
    named = {"principal": "p", "session_id": before.session_id}
    peer = world.connect(1, auto=False, **named, since=0)
    peer.take()
    world.attach(peer, 1, **named, since=HEAD + 9)  # the first snapshot is not taken yet
    world.publish(before.session_id)
    assert kinds(peer.take()) == []
    frames = peer.drain_all()
    assert kinds(frames) == ["snapshot", "replay"]
    assert frames[0]["state"]["event_cursor"] == HEAD == peer.welcome["sequence"]
    world.publish(before.session_id)
    assert seqs(peer.drain_all()) == [HEAD + 2]


# -- what else the welcome says ---------------------------------------------------------------


@SPELLINGS
@VERSIONS
def test_welcome_states_policy_features_and_presence(kind: str, version: int) -> None:
    world = World.make(
        heartbeat=12.5, resume_window=60, request_ttl=90, max_pending_requests=7, max_payload=5000
    )
    peer = world.open(timestamp=1234.5)
    frame = handshake(kind, version, client={"name": "n"})
    world.give(FrameReceived(peer.number, encode(frame)))
    world.accept(peer)
    welcome: Frame = peer.welcome
    assert welcome["policy"] == {
        "max_payload": 5000,
        "heartbeat_ms": 12_500,
        "resume_window_ms": 60_000,
        "request_ttl_ms": 90_000,
        "max_pending_requests": 7,
    }
    (entry,) = welcome["presence"]  # a subscriber is in its own welcome's list
    assert entry == {
        "client_id": entry["client_id"],
        "agent_id": "agent",
        "connected_at": 1234.5,
        "client": {"name": "n"},
    }
    assert (welcome["health"], welcome["health_version"]) == ({}, 0)
    assert welcome["agent_id"] == "agent"
    assert {"hello", "join", "message", "ping", "leave"} <= set(welcome["features"]["methods"])
    assert ({"resume", "resync"} <= set(welcome["features"]["methods"])) is (version == 2)
    assert ({"skip", "event", "caught_up"} <= set(welcome["features"]["events"])) is (version == 2)
    epoch = welcome["session_id"].partition(".")[2] if version == 1 else welcome["epoch"]
    info = world.gateway.session(peer.session_id)
    assert info is not None
    assert info.epoch == epoch


def test_ids_are_the_servers_own() -> None:
    world = World.make()
    peers = [world.connect() for _ in range(3)]
    found = [
        value
        for peer in peers
        for value in (peer.session_id, peer.epoch, peer.welcome["presence"][0]["client_id"])
    ]
    assert len(set(found)) == 9
    assert list(world.gateway.session_ids) == [peer.session_id for peer in peers]


def test_presence_lists_the_session_alone_and_beyond_its_bound_a_count() -> None:
    world = World.make(presence_max=2)
    first = world.connect()
    world.connect()  # another session
    named: dict[str, Any] = {"session_id": first.session_id}
    second = world.connect(**named)
    assert len(second.welcome["presence"]) == second.welcome["presence_count"] == 2
    third = world.connect(**named)
    assert "presence" not in third.welcome
    assert third.welcome["presence_count"] == 3
    assert third.welcome["presence_version"] == 3
    first.cut()
    third.send("leave")
    fourth = world.connect(1, **named)
    listed = [entry["client_id"] for entry in fourth.welcome["presence"]]
    assert len(listed) == 2
    assert second.welcome["presence"][1]["client_id"] in listed
    assert fourth.welcome["presence_version"] == 6


def test_welcome_leaves_out_what_a_small_peer_has_no_room_for() -> None:
    world = World.make()
    first = world.connect(client={"name": "n" * 256, "version": "v" * 256})
    named: dict[str, Any] = {"session_id": first.session_id, "client": {"name": "x" * 256}}
    peer = world.connect(**named, max_payload=1400)
    assert "presence" not in peer.welcome
    assert peer.welcome["presence_count"] == 2
    assert peer.welcome["health"] == {}
    roomy = world.connect(**named)
    assert len(roomy.welcome["presence"]) == 3


def test_health_makes_room_for_the_welcome_last() -> None:
    world = World.make()
    world.ids.width = 32  # the longest there are
    world.give(SetHealth(health={"pad": "x" * 1000}))
    roomy = world.connect(agent_id="a" * 128)
    assert len(roomy.welcome["health"]["pad"]) == 1000
    peer = world.connect(agent_id="a" * 128, max_payload=1500)
    assert not {"health", "presence"} & set(peer.welcome)
    assert peer.welcome["presence_count"] == 1
    assert peer.welcome["features"]["methods"]
    smallest = world.connect(agent_id="a" * 128, max_payload=1024)
    assert not {"health", "presence"} & set(smallest.welcome)
    assert smallest.welcome["policy"]["max_pending_requests"] == 100


@VERSIONS
@SPELLINGS
def test_welcome_at_its_largest_is_left_with_what_its_client_needs(kind: str, version: int) -> None:
    world = World.make(
        heartbeat=1e9,
        resume_window=1e9,
        request_ttl=1e9,
        max_payload=MAX_INT,
        max_pending_requests=MAX_INT,
    )
    world.ids.width = 32  # the longest there are
    peer = world.connect(version, kind=kind, agent_id='"' * 127, max_payload=1024, since=MAX_INT)
    welcome = peer.welcome
    assert welcome["resync_reason"] == "session_unknown"
    assert {"session_id", "cursor", "oldest_cursor", "sequence", "policy"} <= set(welcome)
    assert welcome["policy"]["heartbeat_ms"] == 10**12
    assert "presence" not in welcome
    assert ("features" in welcome) is (version == 1)  # version 1 has fewer


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("agent_id", ["a" * 128, "\u0000" * 128, "\U0001f600" * 128])
def test_welcome_never_exceeds_what_its_client_takes(version: int, agent_id: str) -> None:
    """`Peer.received` holds every frame to its receiver's limit."""
    world = World.make()
    world.ids.width = 32  # the longest there are
    for max_payload in range(1024, 2048, 64):
        peer = world.connect(version, agent_id=agent_id, max_payload=max_payload)
        assert peer.closed == ("session_id" not in peer.welcome)
        if peer.closed:
            assert peer.code == 4501


def test_connection_numbers_only_rise() -> None:
    world = World.make()
    world.give(ConnectionOpened(connection=7))
    before = world.state()
    with pytest.raises(Exception, match="opened already"):
        world.give(ConnectionOpened(connection=7))
    with pytest.raises(Exception, match="opened already"):
        world.give(ConnectionOpened(connection=3))
    with pytest.raises(Exception, match="opened already"):
        world.gateway.handle(ConnectionOpened(connection=-1), now=world.now)
    with pytest.raises(Exception, match="never opened"):
        world.give(FrameReceived(8, b"{}"))
    with pytest.raises(Exception, match="never opened"):
        world.give(FrameReceived(0, b"{}"))
    assert world.state() == before
    assert (world.gateway.connections, world.gateway.last_connection) == ((7,), 7)
    world.give(ConnectionClosed(7))
    assert (world.gateway.connections, world.gateway.last_connection) == ((), 7)

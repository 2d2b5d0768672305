"""A client against a peer that may send every frame at every moment."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto.actions import ResumeToken
from gatewayproto.client import Client, ClientState, Trigger
from gatewayproto.config import ClientConfig
from gatewayproto.errors import LocalProtocolError
from gatewayproto.inputs import Disconnect, FrameReceived, Send, TimerExpired
from gatewayproto.versions import VersionRange
from tests.client.clientaccount import Account
from tests.client.clientlab import HELD, STEADY, TTL, Lab, event, reach
from tests.client.clientscript import Peer, Step, counting_ids, scripts, steps

POSITIONS = st.sampled_from([None, None, HELD, ResumeToken(session_id="s1", epoch=None, cursor=3)])
CONFIGS = st.fixed_dictionaries(
    {
        "versions": st.sampled_from([VersionRange(1, 2), VersionRange(1, 1), VersionRange(2, 2)]),
        "max_queued": st.sampled_from([2, 1000]),
        "max_attempts": st.sampled_from([None, 3]),
        "start": st.sampled_from([None, "snapshot"]),
    }
)


def play(script: list[Step], config: dict[str, Any], resume: ResumeToken | None) -> Account:
    """Play a script to its end, and then disconnect."""
    client = Client(
        ClientConfig(agent_id="demo", backoff=STEADY, **config),
        rng=random.Random(0),
        resume=resume,
        ids=counting_ids(),
    )
    peer, account = Peer(), Account(client, TTL)
    if resume is not None:
        peer.cursor = account.cursor = resume.cursor
    for step in [("connect",), ("opened",), *script]:
        input_ = peer.input_of(step, client)
        if input_ is None:
            continue
        deadline = client.next_deadline
        before = client.to_state(now=peer.now) if step[0] in {"from the past", "early"} else None
        judge = None
        if isinstance(input_, FrameReceived) and step[0] not in {"raw", "from the past"}:
            judge = account.expect(json.loads(input_.data))
        try:
            if isinstance(input_, Send) and input_.request_id is not None:
                account.send(input_.request_id)
            actions = client.handle(input_, now=peer.now)
        except LocalProtocolError:
            # The only mistake that a script makes.
            assert step == ("connect",)
            continue
        if step[0] == "from the past":
            assert actions == ()
            assert client.to_state(now=peer.now) == before
        if isinstance(input_, TimerExpired):
            if deadline is None or deadline > peer.now:
                assert actions == ()
            after = client.next_deadline
            assert after is None or after > peer.now
        if judge is not None:
            judge(actions)
        account.check(actions, peer.now)
        peer.see(actions)
    account.check(client.handle(Disconnect(), now=peer.now), peer.now)
    account.finish()
    return account


@given(script=scripts(), config=CONFIGS, resume=POSITIONS)
@settings(max_examples=300)
def test_whatever_the_peer_does_the_account_is_right(
    script: list[Step], config: dict[str, Any], resume: ResumeToken | None
) -> None:
    play(script, config, resume)


def test_the_scripts_reach_what_they_are_to_show() -> None:
    """The properties above are no empty ones: all of this happened."""
    witness: set[str] = set()

    @given(script=st.lists(steps(), min_size=40, max_size=60), config=CONFIGS, resume=POSITIONS)
    @settings(max_examples=150)
    def collect(script: list[Step], config: dict[str, Any], resume: ResumeToken | None) -> None:
        witness.update(play(script, config, resume).witness)

    collect()
    assert witness >= {  # told and written, in one script or another
        *("event", "gap", "resume", "join", "snapshot", "joined", "resumed"),
        *("skipped, superseded", "written again", "disconnected"),
        *("MessageAccepted", "MessageRefused", "OutcomeUnknown"),
    }


@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
@pytest.mark.parametrize("state", [each for each in ClientState if each is not ClientState.IDLE])
def test_any_bytes_in_any_state_are_no_exception(state: ClientState, data: bytes) -> None:
    lab = Lab(resume=HELD)
    reach(lab, state)
    try:
        lab.client.handle(FrameReceived(lab.connection, data), now=lab.now)
    except LocalProtocolError:
        assert state is ClientState.CONNECTING  # a frame before the transport was opened
    assert lab.client.resume_token == HELD


@pytest.mark.parametrize("trigger", list(Trigger))
@pytest.mark.parametrize("state", [ClientState.HANDSHAKING, ClientState.REJOINING])
def test_what_this_client_calls_things_is_no_type_of_a_frame(
    state: ClientState, trigger: Trigger
) -> None:
    lab = Lab(resume=HELD)
    reach(lab, state)
    told = lab.server({**lab.welcome(), "type": trigger.value})
    assert told.closed == [] or trigger is Trigger.ERROR
    assert lab.state in {state, ClientState.REJECTED}
    assert lab.client.resume_token == HELD


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [
        *("seq", "event", "first", "last", "reason", "cursor", "nonce", "epoch", "state", "part"),
        *("parts", "chunk", "request_id", "duplicate", "code", "message", "session_id", "status"),
        *("protocol_version", "resumed", "resync_required", "sequence", "oldest_cursor", "policy"),
        *("version", "health", "after_ms", "spread_ms", "retry_after_seconds", "next_step", "head"),
    ]
)
TYPES = st.sampled_from(
    [
        *("hello_ok", "joined", "hello_error", "error", "replay", "event", "skip", "caught_up"),
        *("snapshot", "message_ack", "message_nack", "ping", "pong", "presence", "health"),
        *("going_away", "response", "message", "bogus"),
    ]
)


@given(
    frames=st.lists(
        st.tuples(TYPES, st.dictionaries(NAMES, JSON, max_size=6)), min_size=1, max_size=4
    ),
    versions=st.sampled_from([1, 2]),
)
@pytest.mark.parametrize("state", [ClientState.HANDSHAKING, ClientState.LIVE])
def test_any_fields_in_any_frame_are_no_exception(
    state: ClientState, frames: list[tuple[str, dict[str, Any]]], versions: int
) -> None:
    lab = Lab(resume=HELD)
    if versions == 1 and state is ClientState.LIVE:
        lab.connect()
        lab.server(lab.welcome_v1(oldest_cursor=1, cursor=5))
    else:
        reach(lab, state)
    for kind, fields in frames:
        lab.server({"type": kind, **fields})
        lab.client.to_state(now=lab.now)
    lab.server(event(6))

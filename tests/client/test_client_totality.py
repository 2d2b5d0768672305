"""Any bytes, and any fields in any frame, in any state: never an exception, never a move (P13)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayproto.client import ClientState, Trigger
from gatewayproto.errors import LocalProtocolError
from gatewayproto.inputs import FrameReceived
from tests.client.clientlab import HELD, Lab, event, reach


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

"""What a client is made of is checked before it says a word."""

from typing import Any

import pytest
from attrs import evolve

from gatewayproto.client import Client, ClientState
from gatewayproto.config import ClientConfig
from gatewayproto.errors import LocalProtocolError
from gatewayproto.frames import ClientInfo
from gatewayproto.inputs import SetToken
from tests.client.clientlab import HELD, Lab, reach

NO_TEXT = ["\ud800", "a\udcffb", "\udfff\ud800"]
FIELDS: dict[str, Any] = {
    "agent_id": lambda text: text,
    "token": lambda text: text,
    "capabilities": lambda text: ("a", text),
    "client": lambda text: ClientInfo(name=text),
    "client ": lambda text: ClientInfo(version=text),
}


def config(**fields: Any) -> ClientConfig:
    whole: dict[str, Any] = {"agent_id": "demo", **fields}
    return ClientConfig(**whole)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("text", NO_TEXT)
def test_text_that_no_frame_can_hold_is_refused_and_not_repeated(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=name.strip()) as refused:
        config(**{name.strip(): FIELDS[name](f"s3cret{text}")})
    assert "s3cret" not in str(refused.value)
    config(**{name.strip(): FIELDS[name]("\U0001f6f0\x00é")})


@pytest.mark.parametrize("name", FIELDS)
def test_what_is_no_text_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(TypeError) as refused:
        config(**{name.strip(): FIELDS[name](b"s3cret")})
    assert "s3cret" not in str(refused.value)


def test_what_a_client_says_of_itself_is_short() -> None:
    config(client=ClientInfo(name="n" * 256, version="v" * 256))
    with pytest.raises(ValueError, match="client"):
        config(client=ClientInfo(name="n" * 257))


def test_a_bound_of_snapshots_is_a_number_of_bytes() -> None:
    assert config().max_snapshot == 64 * 1024 * 1024
    assert config(max_snapshot=1).max_snapshot == 1
    with pytest.raises(ValueError, match="max_snapshot"):
        config(max_snapshot=0)


BAD_TOKENS: dict[str, dict[str, Any]] = {
    "session id with a surrogate": {"session_id": "s\ud800"},
    "no session id": {"session_id": ""},
    "session id of another type": {"session_id": b"s"},
    "epoch with a surrogate": {"epoch": "\udcff"},
    "empty epoch": {"epoch": ""},
    "long epoch": {"epoch": "e" * 65},
    "cursor below zero": {"cursor": -1},
    "cursor beyond": {"cursor": 2**53},
    "cursor that is none": {"cursor": 1.0},
}


@pytest.mark.parametrize("fields", BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_position_that_no_client_ever_had_is_refused(fields: dict[str, Any]) -> None:
    token = evolve(HELD, **fields)
    with pytest.raises(ValueError, match=r"."):
        Lab(resume=token)


@pytest.mark.parametrize(
    "damage",
    [
        {"position": {"session_id": "s\ud800", "epoch": None, "cursor": 1}},
        {"not_before": float("nan")},
        {"deadlines": [["time to try again", float("inf")]]},
    ],
)
def test_saved_state_that_is_no_json_is_refused(damage: dict[str, Any]) -> None:
    lab = Lab(resume=HELD)
    lab.live()
    saved = {**lab.client.to_state(now=0.0), **damage}
    with pytest.raises(ValueError, match=r"."):
        Client.from_state(lab.config, saved, rng=lab.rng, now=0.0)


@pytest.mark.parametrize("state", [each for each in ClientState if each is not ClientState.STOPPED])
@pytest.mark.parametrize("token", ["s3cret\ud800", b"s3cret", 5])
def test_a_new_token_that_is_no_text_is_a_mistake_and_changes_nothing(
    state: ClientState, token: Any
) -> None:
    lab = Lab(resume=HELD, token="old")
    reach(lab, state)
    before = lab.client.to_state(now=lab.now)
    with pytest.raises(LocalProtocolError) as refused:
        lab.give(SetToken(token))
    assert "s3cret" not in str(refused.value)
    assert lab.client.to_state(now=lab.now) == before
    assert lab.give(SetToken("new")).sent("auth") in ([], [{"type": "auth", "token": "new"}])

"""What a client saves is plain, holds no secret, and is refused where it is damaged (P12).

That it goes on exactly as the original would is in `tests/testing/test_any_client.py`.
"""

import json
from typing import Any

import pytest

from gatewayproto.client import Client, ClientState
from gatewayproto.inputs import Send, SetToken
from tests.client.clientlab import HELD, Lab, event, events, reach, snapshot


@pytest.mark.parametrize("state", list(ClientState))
def test_saved_state_is_plain_json_without_the_token(state: ClientState) -> None:
    lab = Lab(resume=HELD, token="sesame")
    lab.give(Send(content="x"))
    reach(lab, state)
    if state is not ClientState.STOPPED:
        lab.give(SetToken("open sesame"))
    saved = lab.client.to_state(now=lab.now)
    assert json.loads(json.dumps(saved)) == saved
    assert saved["schema"] == "gatewayproto.client/1"
    assert "sesame" not in json.dumps(saved)


def test_deadlines_are_saved_as_time_that_remains() -> None:
    lab = Lab(recovery_timeout=8.0)
    lab.live(*events(1, 3), event(9))
    lab.pass_time(6.0)
    saved = lab.client.to_state(now=lab.now)
    again = Client.from_state(lab.config, saved, rng=lab.rng, now=1000.0, ids=lab.ids)
    assert again.next_deadline == 1002.0
    assert again.resume_token == lab.client.resume_token
    assert again.protocol_version == 2


def test_a_snapshot_half_come_is_saved_too() -> None:
    lab = Lab()
    one, two = (
        snapshot(9, state=None, part=part, parts=2, chunk=chunk)
        for part, chunk in ((1, '{"a":'), (2, "1}"))
    )
    lab.live(one)
    saved = json.loads(json.dumps(lab.client.to_state(now=0.0)))
    lab.client = Client.from_state(lab.config, saved, rng=lab.rng, now=0.0, ids=lab.ids)
    lab.server(two)
    assert lab.cursor == 9


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": "gatewayproto.client/2"},
        {"schema": None},
        {"state": "bogus"},
        {"position": {"session_id": "s1", "epoch": "e1", "cursor": -1}},
        {"deadlines": [["bogus", 1.0]]},
        {"messages": [{"request_id": 5}]},
        {"opened": "1"},
    ],
)
def test_what_is_no_saved_state_is_a_value_error(damage: dict[str, Any]) -> None:
    lab = Lab()
    lab.live()
    saved = {**lab.client.to_state(now=0.0), **damage}
    with pytest.raises(ValueError, match=r"."):
        Client.from_state(lab.config, saved, rng=lab.rng, now=0.0)
    with pytest.raises(ValueError, match=r"."):
        Client.from_state(lab.config, {}, rng=lab.rng, now=0.0)

"""A machine that is saved and restored goes on exactly as the original would."""

import json
import random
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto.actions import ClientAction, ResumeToken
from gatewayproto.client import Client, ClientState
from gatewayproto.config import ClientConfig
from gatewayproto.errors import LocalProtocolError
from gatewayproto.inputs import Send, SetToken
from gatewayproto.versions import VersionRange
from tests.client.clientlab import HELD, STEADY, Lab, event, events, reach, snapshot
from tests.client.clientscript import Peer, Step, scripts

CONFIGS = st.sampled_from([VersionRange(1, 2), VersionRange(1, 1), VersionRange(2, 2)])


class Ids:
    """A source of ids that can be copied."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def __call__(self) -> str:
        self.count += 1
        return f"id-{self.count}"


class Twin:
    """A client and, from some step on, its restored copy on another clock."""

    def __init__(self, config: ClientConfig, resume: ResumeToken | None) -> None:
        self.config = config
        self.rng, self.ids = random.Random(3), Ids()
        self.client = Client(config, rng=self.rng, resume=resume, ids=self.ids)

    def copy(self, token: str | None, *, now: float, elsewhere: float) -> "Twin":
        state = json.loads(json.dumps(self.client.to_state(now=now)))
        twin = Twin(evolve(self.config, token=token), None)
        twin.rng.setstate(self.rng.getstate())
        twin.ids = Ids(self.ids.count)
        twin.client = Client.from_state(
            twin.config, state, rng=twin.rng, now=elsewhere, ids=twin.ids
        )
        return twin

    def handle(self, input_: Any, now: float) -> tuple[ClientAction, ...] | None:
        try:
            return self.client.handle(input_, now=now)
        except LocalProtocolError:
            return None


@given(
    script=scripts(),
    versions=CONFIGS,
    resume=st.sampled_from([None, HELD]),
    when=st.integers(0, 40),
)
@settings(max_examples=200)
def test_restored_at_any_step_it_goes_on_the_same(
    script: list[Step], versions: VersionRange, resume: ResumeToken | None, when: int
) -> None:
    config = ClientConfig(agent_id="demo", backoff=STEADY, versions=versions, token="t0")
    original, peer, offset = Twin(config, resume), Peer(), 2.0**20
    peer.token = "t0"
    restored: Twin | None = None
    for number, step in enumerate([("connect",), ("opened",), *script]):
        if number == when:
            restored = original.copy(peer.token, now=peer.now, elsewhere=peer.now + offset)
        input_ = peer.input_of(step, original.client)
        if input_ is None:
            continue
        actions = original.handle(input_, peer.now)
        if restored is not None:
            assert restored.handle(input_, peer.now + offset) == actions
            due, again = original.client.next_deadline, restored.client.next_deadline
            assert (due is None and again is None) or due == (again or 0.0) - offset
            saved = original.client.to_state(now=peer.now)
            assert restored.client.to_state(now=peer.now + offset) == saved
        peer.see(actions or ())


@given(script=scripts(), resume=st.sampled_from([None, HELD]))
def test_the_same_inputs_give_the_same_actions(
    script: list[Step], resume: ResumeToken | None
) -> None:
    config = ClientConfig(agent_id="demo")
    one, two, peer = Twin(config, resume), Twin(config, resume), Peer()
    for step in [("connect",), ("opened",), *script]:
        input_ = peer.input_of(step, one.client)
        if input_ is not None:
            actions = one.handle(input_, peer.now)
            assert two.handle(input_, peer.now) == actions
            peer.see(actions or ())


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

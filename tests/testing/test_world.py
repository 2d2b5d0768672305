"""The world of the toolkit: what its faults do, that it forks, and that it repeats."""

from typing import Any

import pytest

from gatewayproto import ClientConfig, Event, GatewayConfig
from gatewayproto.actions import EventReceived, Gap, MessageAccepted, SnapshotReceived, Stopped
from gatewayproto.gateway import Gateway
from gatewayproto.inputs import Disconnect, Publish
from gatewayproto.testing.choices import Seeded
from gatewayproto.testing.monitors import Monitors
from gatewayproto.testing.peer import Peer
from gatewayproto.testing.profiles import draw
from gatewayproto.testing.simulator import heal, scramble, settle
from gatewayproto.testing.steps import GATEWAY, Restart, Setup, Step, Violation
from gatewayproto.testing.transcript import render
from gatewayproto.testing.world import World


class Log:
    """Everything that was observed."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __call__(self, step: Step) -> None:
        self.steps.append(step)

    def told(self, peer: Peer, *kinds: type) -> list[Any]:
        """What the application of a client was told, of these kinds."""
        events = [
            getattr(action, "event", None)
            for step in self.steps
            if step.who == peer.name
            for action in step.actions
        ]
        return [event for event in events if isinstance(event, kinds)]

    def seqs(self, peer: Peer) -> list[int]:
        return [event.seq for event in self.told(peer, EventReceived)]


def make(**settings: Any) -> tuple[World, Peer, Log]:
    """A world with one client that is connected and at rest."""
    log = Log()
    world = World(GatewayConfig(**settings), observe=log)
    peer = world.add_client(ClientConfig(agent_id="agent"))
    settle(world)
    return world, peer, log


def publish(world: World, count: int = 1, **fields: Any) -> None:
    data = fields.pop("data", {})
    for _ in range(count):
        event = Event(type="note", data=data, event_id="e", timestamp=world.now, **fields)
        world.publish(world.sessions[0], event)


def test_messages_and_events_flow_without_a_fault() -> None:
    world, peer, log = make()
    publish(world, 3)
    world.send(peer, "hello")
    settle(world)
    assert log.seqs(peer) == [1, 2, 3, 4]
    assert [each.request_id for each in log.told(peer, MessageAccepted)] == ["c0.1"]
    answer = log.told(peer, EventReceived)[-1].event
    assert (answer.type, answer.data, answer.request_id) == ("response", {"text": "hello"}, "c0.1")


@pytest.mark.parametrize("told", ["both", "client", "gateway"])
def test_a_cut_loses_what_is_in_flight_and_healing_brings_it_again(told: Any) -> None:
    world, peer, log = make()
    publish(world, 3)
    (link,) = world.links
    world.drain(link)
    world.cut(link, told)
    settle(world)
    assert log.seqs(peer) == []
    heal(world)
    assert log.seqs(peer) == [1, 2, 3]


def test_on_a_stalled_link_nothing_moves_until_it_flows_again() -> None:
    world, peer, log = make()
    (link,) = world.links
    world.stall(link, stalled=True)
    publish(world, 2)
    settle(world)
    assert log.seqs(peer) == []
    world.stall(link, stalled=False)
    settle(world)
    assert log.seqs(peer) == [1, 2]


@pytest.mark.parametrize(("how", "gaps"), [("lost", 1), ("swapped", 1), ("repeated", 0)])
def test_what_a_bad_link_does_to_a_frame_is_noticed(how: Any, gaps: int) -> None:
    world, peer, log = make()
    publish(world, 3)
    (link,) = world.links
    world.garble(link, how, up=False)
    settle(world)
    assert log.seqs(peer) == [1, 2, 3]
    assert len(log.told(peer, Gap)) == gaps


@pytest.mark.parametrize(
    ("kind", "reasons"),
    [("whole", []), ("store", ["epoch_changed"]), ("copy", ["epoch_changed"]), ("nothing", [])],
)
def test_after_each_kind_of_restart_clients_come_back(kind: Restart, reasons: list[str]) -> None:
    world, peer, log = make()
    publish(world, 2)
    world.save()
    publish(world)
    settle(world)
    world.restart(kind)
    heal(world)
    assert [each.reason for each in log.told(peer, SnapshotReceived)] == reasons
    assert len(world.sessions) == 1
    publish(world)
    settle(world)
    last = {"whole": 4, "store": 4, "copy": 3, "nothing": 1}
    assert peer.token is not None
    assert peer.token.cursor == last[kind]


def test_a_restart_brings_back_messages_that_were_accepted_and_not_done() -> None:
    world, peer, log = make()
    world.send(peer, "hello")
    world.flow(world.links[0])
    assert log.told(peer, MessageAccepted)
    world.restart("whole")
    heal(world)
    assert [each.event.request_id for each in log.told(peer, EventReceived)] == ["c0.1"]


def test_there_is_no_older_copy_to_come_back_with_before_one_was_saved() -> None:
    world, _, _ = make()
    with pytest.raises(ValueError, match="nothing was saved"):
        world.restart("copy")


def test_a_killed_client_is_silent_and_its_position_serves_another() -> None:
    world, peer, log = make()
    publish(world, 2)
    settle(world)
    world.kill_client(peer)
    before = len([step for step in log.steps if step.who == peer.name])
    publish(world, 2)
    heal(world)
    assert len([step for step in log.steps if step.who == peer.name]) == before
    successor = world.add_client(peer.config, peer.token)
    settle(world)
    assert log.seqs(successor) == [3, 4]


def test_a_client_that_disconnects_rests() -> None:
    world, peer, log = make()
    world.tell(peer, Disconnect())
    heal(world)
    assert [each.code for each in log.told(peer, Stopped)] == ["disconnected"]
    assert world.living == []


# -- forks and repetition ---------------------------------------------------------------------


def scrambled(seed: int, deeds: int = 60) -> tuple[World, Log]:
    log, choices = Log(), Seeded(seed)
    profile = draw("swarm", choices)
    world = World(profile.gateway, observe=log)
    for config in profile.clients:
        world.add_client(config)
    for _ in range(deeds):
        scramble(world, profile, choices, deeds=1)
    return world, log


@pytest.mark.parametrize("seed", range(12))
def test_forks_of_a_world_go_the_same_way_and_leave_each_other_alone(seed: int) -> None:
    world, log = scrambled(seed)
    before = len(log.steps)
    one, other = Log(), Log()
    first, second = world.copy(one), world.copy(other)
    heal(first)
    assert len(log.steps) == before
    heal(second)
    heal(world)
    assert render(one.steps) == render(other.steps) == render(log.steps[before:])


@pytest.mark.parametrize("seed", range(12))
def test_the_same_choices_give_the_same_steps(seed: int) -> None:
    one, other = scrambled(seed)[1], scrambled(seed)[1]
    assert render(one.steps) == render(other.steps)


def test_a_machine_that_is_not_restored_as_it_was_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    to_state = Gateway.to_state

    def forgetful(self: Gateway, *, now: float) -> Any:
        state = to_state(self, now=now)
        for connection in state["connections"]:
            connection["outstanding"] = 0
        return state

    monkeypatch.setattr(Gateway, "to_state", forgetful)
    world, _, _ = make(send_window=200)
    publish(world, 2)
    world.swap(GATEWAY)
    with pytest.raises(Violation, match="P12: the gateway, restored, gives"):
        publish(world, 2)


# -- transcripts ------------------------------------------------------------------------------


def test_a_transcript_tells_time_who_input_and_actions() -> None:
    world, _, log = make()
    log.steps.clear()
    world.advance(0.5)
    publish(world, data={"text": "hi"})
    world.flow(world.links[0])
    lines = render(log.steps).splitlines()
    assert lines[0] == (
        "  1024.500  gateway  < Publish session_id='g1' event=(Event type='note' "
        "data={'text': 'hi'} event_id='e' timestamp=1024.5)"
    )
    assert "                     > Emit Published session_id='g1' seq=1 event_id='e'" in lines
    assert any(line.startswith("  1024.500  c0       < FrameReceived") for line in lines)


def test_what_a_peer_wrote_is_escaped_and_cut() -> None:
    world, _, log = make()
    log.steps.clear()
    world.serve(
        Publish(
            session_id="\x1b[2J\n\u202e",
            event=Event(type="x" * 500, data={}, event_id="e", timestamp=0.0),
        )
    )
    text = render(log.steps)
    assert text.isprintable() or all(each == "\n" or each.isprintable() for each in text)
    assert "more)" in text


def test_only_the_last_steps_are_shown_if_so_wished() -> None:
    world, _, log = make()
    publish(world, 3)
    text = render(log.steps, last=1)
    assert text.startswith(f"… {len(log.steps) - 1} steps before\n")


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_time_that_cannot_pass_is_the_callers_mistake(seconds: float) -> None:
    world, _, _ = make()
    with pytest.raises(ValueError, match="cannot pass"):
        world.advance(seconds)
    with pytest.raises(ValueError, match="cannot pass"):
        world.jump(seconds)


def test_monitors_that_come_too_late_say_so() -> None:
    world, peer, _ = make()
    world.observe = Monitors(Setup(gateway=world.config)).observe
    with pytest.raises(ValueError, match="nobody announced 'c0'"):
        world.send(peer, "hello")

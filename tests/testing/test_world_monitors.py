"""The monitors that need both sides, and all of them together on worlds of real machines."""

from collections import Counter
from collections.abc import Callable

import pytest
from attrs import evolve

from gatewayproto.actions import (
    CaughtUp,
    CloseTransport,
    Emit,
    EventReceived,
    OpenTransport,
    SendFrame,
    SendFrames,
    SessionOpened,
    Skipped,
    SnapshotReceived,
)
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.errors import LocalProtocolError
from gatewayproto.inputs import (
    Accept,
    ChangeEpoch,
    Connect,
    ConnectionOpened,
    FrameReceived,
    Publish,
    Send,
    TimerExpired,
    TransportOpened,
)
from gatewayproto.testing.choices import Seeded
from gatewayproto.testing.monitors import (
    CLIENT_MONITORS,
    GATEWAY_MONITORS,
    WORLD_MONITORS,
    Monitor,
    Monitors,
    missing_witnesses,
    same_actions,
)
from gatewayproto.testing.monitors.client import ClientWatch
from gatewayproto.testing.monitors.convergence import EndToEnd, Resyncs
from gatewayproto.testing.monitors.gateway import GatewayWatch
from gatewayproto.testing.monitors.links import Links
from gatewayproto.testing.profiles import draw
from gatewayproto.testing.reference import fold
from gatewayproto.testing.simulator import heal, scramble, simulate
from gatewayproto.testing.steps import (
    GATEWAY,
    WORLD,
    ClientAdded,
    FrameGarbled,
    Healed,
    LinkCut,
    LinkOpened,
    Rested,
    Setup,
    Step,
    Swapped,
    Violation,
)
from gatewayproto.testing.world import World
from tests.testing import clientscripts, gatewayscripts
from tests.testing.clientscripts import handed, skipped
from tests.testing.gatewayscripts import FINAL, LOG, joined, numbered, send, snapshot
from tests.testing.handmade import (
    Change,
    Script,
    at,
    both,
    event,
    event_frame,
    frame,
    given,
    gone,
    silent,
    token,
    told,
    waits,
    welcome,
)

CLIENT = ClientConfig(agent_id="agent")
STRICT = GatewayConfig(resume_window=1.0, request_ttl=1.0, stall_timeout=1.0, heartbeat=1.0)


def both_sides() -> Script:
    """A client follows a session, over a skip and a new epoch, and comes to rest."""
    run = Script(Setup(gateway=GatewayConfig()))
    run.add("added", WORLD, ClientAdded("c", CLIENT))
    begin(run)
    for seq in (1, 2):
        live(run, seq)
    for seq in (3, 4):
        run.gateway("", Publish(session_id="s", event=LOG[seq - 1]), numbered(seq))
    frames = (frame("skip", first=3, last=3, reason="superseded"), event_frame("event", 4, FINAL))
    run.client("ping", TimerExpired(), SendFrame(1, frame("ping")))
    run.gateway("rest", FrameReceived(1, frame("ping")), send(1, *frames))
    run.client("skip", FrameReceived(1, frames[0]), skipped(3, 3))
    what = handed(4, what=FINAL)
    run.client("event 4", FrameReceived(1, frames[1]), what)
    new = snapshot("epoch_changed", 4, "F")
    run.gateway("epoch", ChangeEpoch(session_id="s"), send(1, new))
    run.client(
        "snapshot",
        FrameReceived(1, new),
        SnapshotReceived(
            cursor=4, epoch="F", reason="epoch_changed", state=fold(LOG), token=token(4, "F")
        ),
    )
    run.add("healed", WORLD, Healed())
    run.client("pause", TimerExpired())
    run.add("rested", WORLD, Rested())
    return run


def begin(run: Script) -> None:
    """Both sides join."""
    run.client("connect", Connect(), OpenTransport(connection=1))
    run.add("link", WORLD, LinkOpened("c", 1, 1))
    run.gateway("", ConnectionOpened(connection=1))
    hello = clientscripts.hello(1)
    run.client("hello", TransportOpened(1), hello)
    run.gateway("hello arrives", FrameReceived(1, hello.frame), gatewayscripts.asked(1))
    frames = (welcome(), frame("caught_up", cursor=0))
    run.gateway(
        "",
        Accept(connection=1, principal="p"),
        SessionOpened(session_id="s", agent_id="agent", principal="p"),
        joined(1),
        send(1, *frames),
    )
    run.client("welcome", FrameReceived(1, frames[0]), clientscripts.joined(token(0)))
    run.client("caught up", FrameReceived(1, frames[1]), CaughtUp(cursor=0))


def live(run: Script, seq: int) -> None:
    """An event goes from end to end."""
    what = LOG[seq - 1]
    data = event_frame("event", seq, what)
    run.gateway(f"publish {seq}", Publish(session_id="s", event=what), numbered(seq), send(1, data))
    run.client(f"event {seq}", FrameReceived(1, data), handed(seq, what=what))


def judge(run: Script, kind: type[Monitor], label: str, change: Change) -> str | None:
    """What one monitor of both sides finds in a run with one step changed."""
    witnessed: Counter[str] = Counter()
    clients: dict[str, ClientWatch] = {}
    assert run.setup.gateway is not None
    gateway = GatewayWatch(run.setup.gateway, (), witnessed)
    monitor = kind(witnessed) if kind is Links else kind(witnessed, gateway.book, clients)  # type: ignore[call-arg] # those of both sides
    try:
        for number, step in enumerate(run.steps):
            changed = change(step) if number == run.labels.get(label) else step
            if changed is None:
                continue
            if isinstance(changed.input, ClientAdded):
                clients["c"] = ClientWatch("c", CLIENT, None, (), witnessed)
            monitor.begin(changed)
            if changed.who in {GATEWAY, WORLD}:
                gateway.observe(changed)
            else:
                clients[changed.who].observe(changed)
            monitor.end(changed)
        monitor.finish()
    except Violation as violation:
        return violation.prop
    return None


def more(step: Step) -> Step:
    """The gateway publishes what never reaches the client."""
    return evolve(step, actions=step.actions[:1])


WRONG: list[tuple[str, type[Monitor], str, Change]] = [
    ("P1", EndToEnd, "event 1", told(EventReceived, event=event(9))),
    ("P1", EndToEnd, "event 2", told(EventReceived, seq=3, token=token(3))),
    ("P1", EndToEnd, "event 1", told(EventReceived, token=token(1, "X"))),
    ("P1", EndToEnd, "event 1", told(EventReceived, token=token(1, "E", "t"))),
    ("P3", EndToEnd, "skip", told(Skipped, first=1)),
    ("P5", EndToEnd, "snapshot", told(SnapshotReceived, state={})),
    ("P5", EndToEnd, "snapshot", told(SnapshotReceived, cursor=5)),
    ("P15", EndToEnd, "snapshot", silent),
    ("P15", EndToEnd, "caught up", silent),
    ("P15", EndToEnd, "pause", given(Send(content="x", request_id="q"))),
    ("P15", EndToEnd, "pause", lambda step: evolve(
        step, actions=(CloseTransport(connection=1),)
    )),
    ("P15", EndToEnd, "pause", lambda step: evolve(
        step, now=step.now + 10_000, actions=(Emit(CaughtUp(cursor=4)),)
    )),
    ("P11", Links, "event 1", given(FrameReceived(1, b'{"type":"event","seq":2}'))),
    ("P11", Links, "event 1", given(FrameReceived(1, event_frame("event", 2, LOG[1])))),
    ("P11", Links, "hello arrives", given(FrameReceived(1, b'{"type":"hello"}'))),
    ("P11", Links, "publish 1", more),
    ("P16", Resyncs, "snapshot", told(SnapshotReceived, epoch="E", token=token(4))),
    ("P16", Resyncs, "snapshot", told(SnapshotReceived, reason="requested")),
    ("P16", Resyncs, "snapshot", told(SnapshotReceived, reason="cursor_ahead")),
]  # fmt: skip


@pytest.mark.parametrize("kind", [EndToEnd, Resyncs, Links])
def test_what_is_right_passes(kind: type[Monitor]) -> None:
    assert judge(both_sides(), kind, "", gone) is None


@pytest.mark.parametrize(("prop", "kind", "label", "change"), WRONG)
def test_what_is_wrong_is_noticed(
    prop: str, kind: type[Monitor], label: str, change: Change
) -> None:
    assert judge(both_sides(), kind, label, change) == prop


@pytest.mark.parametrize(
    "happening",
    [
        FrameGarbled("c", 1, 1, "lost", up=False),
        FrameGarbled("c", 1, 1, "repeated", up=False),
        LinkCut("c", 1, 1, "both"),
    ],
)
def test_what_befalls_a_link_is_reckoned_with(
    happening: FrameGarbled | LinkCut,
) -> None:
    run = both_sides()
    arrival = run.labels["event 2"]
    run.steps.insert(arrival, evolve(run.steps[0], input=happening))
    repeated = isinstance(happening, FrameGarbled) and happening.how == "repeated"
    expected = None if repeated else "P11"
    again = run.steps[arrival + 1]
    steps = [*run.steps[: arrival + 1], *([again, again] if repeated else [again])]
    witnessed: Counter[str] = Counter()
    links, found = Links(witnessed), None
    try:
        for step in steps:
            links.begin(step)
            links.end(step)
    except Violation as violation:
        found = violation.prop
    assert found == expected


def test_a_client_that_died_need_not_rest() -> None:
    run = both_sides()
    del run.steps[run.labels["pause"]]
    assert judge(run, EndToEnd, "snapshot", silent) is None


# -- all of them ------------------------------------------------------------------------------


def test_every_property_has_a_monitor_and_a_witness() -> None:
    kinds = (*GATEWAY_MONITORS, *CLIENT_MONITORS, *WORLD_MONITORS)
    named = {each.partition(" ")[0] for kind in kinds for each in (*kind.needs, *kind.alone)}
    assert named == {f"P{number}" for number in range(1, 18)}
    assert all(kind.about and kind.prop in named for kind in kinds)


def test_missing_witnesses_are_those_that_nobody_saw() -> None:
    missing = missing_witnesses({})
    assert "P4 trimmed" in missing
    assert "P4 trimmed" not in missing_witnesses({"P4 trimmed": 1, "P4 resumed": 0})
    assert "P4 resumed" in missing_witnesses({"P4 trimmed": 1, "P4 resumed": 0})
    assert "P8 OutcomeUnknown" not in missing_witnesses({}, "gateway")
    assert "P13 unreadable frame" in missing_witnesses({}, "gateway")
    assert missing_witnesses(dict.fromkeys(missing, 1)) == []


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("profile", ["swarm", "everything"])
def test_real_machines_pass(profile: str, seed: int) -> None:
    assert simulate(profile, seed).witnessed


def recorded(seed: int) -> tuple[GatewayConfig, list[Step]]:
    """The steps of a world of real machines."""
    choices, steps = Seeded(seed), list[Step]()
    profile = draw("cuts", choices)
    world = World(profile.gateway, observe=steps.append)
    for config in profile.clients:
        world.add_client(config)
    scramble(world, profile, choices)
    heal(world)
    return profile.gateway, steps


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_recording_of_one_machine_gets_the_monitors_of_that_machine(seed: int) -> None:
    config, steps = recorded(seed)
    alone = Monitors(Setup(gateway=config))
    for step in steps:
        if step.who == GATEWAY:
            alone.observe(step)
    alone.finish()
    assert alone.witnessed
    (added,) = [step.input for step in steps if _adds(step, "c0")]
    assert isinstance(added, ClientAdded)
    one = Monitors(Setup(clients={"c0": added.config}))
    for step in steps:
        if step.who == "c0":
            one.observe(step)
    one.finish()
    assert one.witnessed
    assert not any(name.startswith("P11") for name in alone.witnessed + one.witnessed)


def _adds(step: Step, name: str) -> bool:
    return isinstance(step.input, ClientAdded) and step.input.client == name


# -- P12 and P13 for any machine --------------------------------------------------------------


def test_a_machine_that_was_swapped_waits_for_the_same_deadline() -> None:
    run = clientscripts.events()
    run.add("swap", WORLD, Swapped("c"), deadline=run.steps[-1].deadline)
    assert run.play()["P12 swap"] == 1
    assert run.finding("swap", waits(7.0)) == "P12"


def test_actions_are_compared_one_by_one() -> None:
    one, other = SendFrame(1, b"{}"), SendFrame(1, b"[]")
    assert same_actions((one,), (one,)) is None
    assert "action 2" in str(same_actions((one, one), (one, other)))
    assert same_actions((one,), (one, one)) == "1 actions, and 2 by the other"
    assert same_actions((SendFrames((1,), (b"{}",)),), ()) is not None


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda step: step, None),
        (waits(9.0), "P13"),
        (lambda step: evolve(step, raised=ValueError("no")), "P13"),
    ],
)
def test_a_callers_mistake_changes_nothing_where_it_is_allowed(
    change: Callable[[Step], Step], finding: str | None
) -> None:
    run = clientscripts.events()
    run.client("mistake", Connect(), raised=LocalProtocolError("twice"))
    judges = Monitors(run.setup, tolerant=True)
    for step in run.steps[:-1]:
        judges.observe(step)
    found: str | None = None
    try:
        judges.observe(change(run.steps[-1]))
    except Violation as violation:
        found = violation.prop
    assert found == finding
    assert run.finding("mistake", lambda step: step) == "P13"


def test_a_finding_says_what_where_and_what_was_due() -> None:
    run = gatewayscripts.delivery()
    change = both(at(0.0), lambda step: evolve(step, actions=step.actions[:1]))
    with pytest.raises(Violation, match=r"P3: connection 1, at 0 of 1 in E: .* what follows 0"):
        run.play("event 1", change)

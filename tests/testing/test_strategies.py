"""What Hypothesis makes for the machines: legal, varied, and small where it fails."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from gatewayproto import Event, Gateway, GatewayConfig
from gatewayproto.actions import Emit, SessionOpened
from gatewayproto.inputs import Accept, ConnectionOpened, FrameReceived, Publish
from gatewayproto.testing.choices import Recorded
from gatewayproto.testing.projections import superseded
from gatewayproto.testing.strategies import Drawn, choices, events, logs, objects

HELLO = b'{"type":"hello","agent_id":"a","protocol_min":2,"protocol_max":2}'


@given(choices(), st.lists(st.integers(1, 20)))
def test_a_choice_is_one_of_so_many_and_can_be_repeated(source: Drawn, sizes: list[int]) -> None:
    chosen = [source.choose(n) for n in sizes]
    assert all(0 <= each < n for each, n in zip(chosen, sizes, strict=True))
    again = Recorded(source.trace)
    assert [again.choose(n) for n in sizes] == chosen


def test_what_fails_is_shrunk_to_few_choices() -> None:
    def steps_until_seven(source: Drawn) -> bool:
        total = 0
        while total < 7 and source.choose(10):
            total += source.choose(4)
        return total >= 7

    small = find(choices(), steps_until_seven, settings=settings(database=None))
    assert len(small.trace) <= 6


@given(logs(events(data=objects)))
@settings(max_examples=50)
def test_every_event_of_a_log_may_be_published(log: tuple[Event, ...]) -> None:
    gateway = Gateway(GatewayConfig())
    gateway.handle(ConnectionOpened(connection=1), now=0.0)
    gateway.handle(FrameReceived(1, HELLO), now=0.0)
    actions = gateway.handle(Accept(connection=1), now=0.0)
    told = [action.event for action in actions if isinstance(action, Emit)]
    session_id = next(event.session_id for event in told if isinstance(event, SessionOpened))
    for event in log:
        gateway.handle(Publish(session_id=session_id, event=event), now=0.0)
    session = gateway.session(session_id)
    assert session is not None
    assert session.cursor == len(log)
    assert [event.event_id for event in log] == [f"e{n}" for n in range(1, len(log) + 1)]


LogTest = Callable[[tuple[Event, ...]], bool]
SEEN: list[LogTest] = [
    lambda log: len(superseded(log)) >= 2,
    lambda log: any(event.expects_reply for event in log),
    lambda log: any("reply_to" in event.data for event in log),
    lambda log: any(event.final and not superseded(log[:seq]) for seq, event in enumerate(log)),
    lambda log: any(event.transient and event.run_id is None for event in log),
]


@pytest.mark.parametrize("seen", SEEN)
def test_logs_hold_whatever_a_session_may_see(seen: LogTest) -> None:
    assert find(logs(), seen, settings=settings(phases=[Phase.generate]))


def test_without_hypothesis_it_says_what_to_install() -> None:
    script = (
        "import sys\n"
        "sys.modules['hypothesis'] = None\n"
        "import gatewayproto.testing.choices, gatewayproto.testing.projections\n"
        "import gatewayproto.testing.drivers, gatewayproto.testing.memory\n"
        "import gatewayproto.testing.strategies\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, text=True
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "pip install gatewayproto[testing]" in last

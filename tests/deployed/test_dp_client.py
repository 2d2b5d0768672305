"""Deployed version 1 clients against our server: every event once, and every request once."""

import signal

import pytest

from gatewayproto import GatewayConfig
from tests.blackbox.bbserve import Gateway
from tests.blackbox.bbwire import Frame, open_client
from tests.deployed.dpaccount import follow, holds, said_to
from tests.deployed.dpclient import KNOWN_CODES, DeployedClient, Habits, RejectedError, View
from tests.deployed.dphost import Host, Restart
from tests.deployed.dpplay_client import TOKEN, against_restarts, against_serve, small_gateway
from tests.deployed.dpwire import Fault

DEEP = 400
HELLO, JOIN = Habits(token=TOKEN), Habits(spelling="join", token=TOKEN)


def client_of(gateway: Gateway, habits: Habits = HELLO) -> DeployedClient:
    return DeployedClient(habits, lambda: (gateway.host, gateway.port))


def shows(client: DeployedClient, count: int) -> bool:
    return client.cursor >= count and not client.unacknowledged()


@pytest.mark.parametrize("seed", range(12))
def test_it_gets_every_event_once_from_the_command(gateway: Gateway, seed: int) -> None:
    against_serve(seed, gateway)


@pytest.mark.parametrize("seed", range(6))
def test_it_gets_every_event_once_over_restarts(seed: int) -> None:
    against_restarts(seed)


@pytest.mark.deep
@pytest.mark.parametrize("block", range(12, DEEP, 32))
def test_it_gets_every_event_once_from_the_command_by_many_seeds(
    gateway: Gateway, block: int
) -> None:
    for seed in range(block, block + 32):
        against_serve(seed, gateway)


@pytest.mark.deep
@pytest.mark.parametrize("block", range(6, DEEP, 28))
def test_it_gets_every_event_once_over_restarts_by_many_seeds(block: int) -> None:
    for seed in range(block, block + 28):
        against_restarts(seed)


@pytest.mark.parametrize("habits", [HELLO, JOIN, Habits(stated=True, token=TOKEN)])
def test_a_cut_at_any_byte_of_the_welcome_loses_nothing(gateway: Gateway, habits: Habits) -> None:
    # Twelve events overrun the ten transient ones that the journal keeps: from 0 it is a snapshot.
    client = client_of(gateway, habits)
    assert client.visit(texts=["tokens 12"], done=lambda: shows(client, 13))
    for after in range(1, 1600, 97):
        client.cursor, client.view = 0, View()
        del client.log[:]
        client.visit(Fault("reset", "in", after), done=lambda: shows(client, 13))
        assert client.visit(done=lambda: shows(client, 13))
        follow(client.log)
        holds(client.view, said_to(["tokens 12"]))


@pytest.mark.parametrize(
    ("habits", "code"),
    [
        (Habits(), "auth_required"),
        (Habits(token="other"), "auth_unauthorized"),
        (Habits(token="other", token_in_query=True), "auth_unauthorized"),
    ],
)
def test_it_is_refused_in_words_that_it_knows(gateway: Gateway, habits: Habits, code: str) -> None:
    client = client_of(gateway, habits)
    with pytest.raises(RejectedError) as refused:
        client.visit(done=lambda: False)
    assert refused.value.code == code
    assert code in KNOWN_CODES


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"agent_id": "nobody"}, "agent_not_found"),
        ({"since": "5"}, "configuration_error"),
        ({"since": -1}, "configuration_error"),
        ({"session_id": 5}, "configuration_error"),
        ({"agent_id": None}, "configuration_error"),
    ],
)
def test_what_it_says_wrongly_is_refused_in_words_that_it_knows(
    gateway: Gateway, fields: Frame, code: str
) -> None:
    peer = open_client(gateway.host, gateway.port)
    opening = {"type": "hello", "agent_id": "demo", "token": TOKEN, **fields}
    peer.send(opening)
    frame = peer.recv()
    assert frame["type"] == "hello_error"
    assert frame["code"] == code
    assert code in KNOWN_CODES


def test_one_that_stalled_is_sent_away_and_comes_back_to_a_snapshot() -> None:
    with Host(GatewayConfig(retain=20)) as host:
        slow = DeployedClient(Habits(), lambda: host.address, rcvbuf=4096)
        assert slow.visit(texts=["hello"], done=lambda: shows(slow, 1))
        other = DeployedClient(Habits(), lambda: host.address)
        other.session_id = slow.session_id
        # More than the system takes in for a peer that reads nothing.
        texts = [f"{number} {'x' * 60_000}" for number in range(120)]

        def overrun() -> bool:
            if not other.written:
                assert other.visit(texts=texts[:60], done=lambda: shows(other, 61))
                assert other.visit(texts=texts[60:], done=lambda: shows(other, 121))
            return False

        assert not slow.visit(done=overrun)
        assert slow.closed_with == 4002
        assert slow.visit(done=lambda: shows(slow, 121))
        assert slow.view.state is not None
        follow(slow.log)
        holds(slow.view, said_to(["hello", *texts]))


@pytest.mark.parametrize("how", ["saved", "unbroken", "lost"])
def test_one_that_is_there_when_the_server_stops_is_told_to_come_again(how: Restart) -> None:
    with Host(GatewayConfig()) as host:
        client = DeployedClient(Habits(), lambda: host.address)
        stopped = False

        def stops() -> bool:
            nonlocal stopped
            if client.cursor >= 13 and not stopped:
                stopped = True
                host.restart(how)
            return False

        assert not client.visit(texts=["tokens 12"], done=stops)
        assert client.closed_with == 1012
        old = client.session_id
        count = 0 if how == "lost" else 13
        assert client.visit(done=lambda: shows(client, count))
        assert (client.session_id == old) == (how == "unbroken")
        assert (client.view.state is not None) == (how == "saved")
        follow(client.log)
        holds(client.view, said_to([] if how == "lost" else ["tokens 12"]))


@pytest.mark.deep
def test_a_command_that_stopped_and_started_again_has_a_new_session_for_it() -> None:
    first = small_gateway()
    client = client_of(first)
    assert client.visit(texts=["burst 5"], done=lambda: shows(client, 5))
    first.stop(signal.SIGTERM)
    second = small_gateway()
    try:
        client.address = lambda: (second.host, second.port)
        assert client.visit(texts=["burst 3"], done=lambda: shows(client, 3))
        follow(client.log)
        holds(client.view, said_to(["burst 3"]))
    finally:
        second.stop()

"""The checks of drivers: correct ones pass in any time, and each kind of broken one is caught."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from gatewayproto import GatewayConfig
from gatewayproto.errors import LocalProtocolError
from gatewayproto.inputs import (
    Accept,
    Activity,
    ConnectionClosed,
    ConnectionOpened,
    Drained,
    FrameReceived,
    GatewayInput,
    TimerExpired,
)
from gatewayproto.testing.drivers import (
    CLIENT_CHECKS,
    SERVER_CHECKS,
    Check,
    ClientHarness,
    HookError,
    ServerHarness,
    WatchedGateway,
    check_client_driver,
    check_server_driver,
    run_blocking,
)
from gatewayproto.testing.memory import MemoryClientHarness, MemoryServerHarness, RealClock
from gatewayproto.testing.steps import Violation
from tests.testing.broken_clients import CLIENTS
from tests.testing.broken_drivers import Broken
from tests.testing.broken_servers import SERVERS, LosesAddresses, NeverArms

SERVER = {check.name: check for check in SERVER_CHECKS}
CLIENT = {check.name: check for check in CLIENT_CHECKS}
FAILS = (Violation, HookError, LocalProtocolError, RuntimeError)


@pytest.mark.parametrize("check", SERVER_CHECKS, ids=str)
def test_a_correct_server_passes(check: Check[ServerHarness]) -> None:
    check(MemoryServerHarness())


@pytest.mark.parametrize("check", CLIENT_CHECKS, ids=str)
def test_a_correct_client_passes(check: Check[ClientHarness]) -> None:
    check(MemoryClientHarness())


@pytest.mark.parametrize("broken", SERVERS, ids=str)
def test_a_broken_server_is_caught(broken: Broken) -> None:
    with pytest.raises(FAILS):
        SERVER[broken.caught_by](MemoryServerHarness(broken.driver))


@pytest.mark.parametrize("broken", CLIENTS, ids=str)
def test_a_broken_client_is_caught(broken: Broken) -> None:
    with pytest.raises(FAILS):
        CLIENT[broken.caught_by](MemoryClientHarness(broken.driver))


def test_no_check_is_without_a_driver_that_fails_it() -> None:
    assert {broken.caught_by for broken in SERVERS} == set(SERVER)
    assert {broken.caught_by for broken in CLIENTS} == set(CLIENT)


@pytest.mark.parametrize("name", ["delivers_in_order", "closes_who_never_joins"])
def test_real_time_gives_the_same(name: str) -> None:
    SERVER[name](MemoryServerHarness(clock=RealClock))


def test_all_checks_at_once() -> None:
    check_server_driver(MemoryServerHarness())
    check_client_driver(MemoryClientHarness())


def test_everything_that_fails_is_told() -> None:
    with pytest.raises(ExceptionGroup, match=r"failed \d of \d+") as caught:
        check_server_driver(MemoryServerHarness(NeverArms))
    assert {type(each) for each in caught.value.exceptions} == {Violation}
    with pytest.raises(Violation, match="the peer's address"):
        check_server_driver(MemoryServerHarness(LosesAddresses))


def test_a_blocking_harness_awaits_nothing_else() -> None:
    async def main() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="no method of a blocking harness"):
        run_blocking(main)


# -- the gateway that watches how it is driven ------------------------------------------------


def watched(*inputs: tuple[float, GatewayInput]) -> list[str]:
    gateway = WatchedGateway(GatewayConfig(handshake_timeout=1.0))
    for now, input_ in inputs:
        with suppress(LocalProtocolError):
            gateway.handle(input_, now=now)
    return list(gateway.faults(lateness=0.5))


OPEN = ConnectionOpened(connection=1)


@pytest.mark.parametrize(
    ("inputs", "fault"),
    [
        ([(5.0, OPEN), (4.9, Activity(1))], "time went back"),
        ([(0.0, OPEN), (0.0, OPEN)], "opened already"),
        ([(0.0, Activity(1))], "never opened"),
        ([(0.0, OPEN), (0.1, Drained(1, 5))], "owed"),
        ([(0.0, OPEN), (1.6, Activity(1))], "first after a deadline"),
        ([(0.0, OPEN), (0.1, ConnectionClosed(1)), (0.2, Activity(1))], "closed before"),
        ([(0.0, OPEN), (0.1, ConnectionClosed(1)), (0.2, ConnectionClosed(1))], "closed before"),
        ([(0.0, OPEN), (1.0, TimerExpired()), (1.1, FrameReceived(1, b"{}"))], "closed before"),
        ([(0.0, OPEN), *(200 * [(0.1, TimerExpired())])], "for nothing"),
    ],
)
def test_an_unlawful_driver_is_found_out(
    inputs: list[tuple[float, GatewayInput]], fault: str
) -> None:
    faults = watched(*inputs)
    assert len(faults) == 1
    assert fault in faults[0]
    gateway = WatchedGateway(GatewayConfig())
    gateway.check(lateness=0.0)


def test_a_lawful_driver_is_not() -> None:
    assert watched(
        (0.0, OPEN),
        (0.1, Activity(1)),
        (0.9, TimerExpired()),
        (1.4, TimerExpired()),
        (1.4, Accept(connection=1)),
        (1.4, ConnectionOpened(connection=2)),
        (1.5, ConnectionClosed(2)),
    ) == []  # fmt: skip


@pytest.mark.parametrize("check", [*SERVER_CHECKS, *CLIENT_CHECKS], ids=str)
def test_a_harness_that_runs_nothing_passes_nothing(check: Any) -> None:
    class Idle:
        def run(self, _: object) -> None:
            pass

    with pytest.raises(Violation, match="did not run it to its end"):
        check(Idle())

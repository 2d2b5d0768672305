"""The trio adapter does a driver's whole duty, in virtual time and on real sockets."""

import pytest

from gatewayproto.testing.drivers import (
    CLIENT_CHECKS,
    SERVER_CHECKS,
    Check,
    ClientHarness,
    ServerHarness,
)
from tests.trio_adapter.trio_harness import TrioClientHarness, TrioServerHarness


@pytest.mark.parametrize("check", SERVER_CHECKS, ids=str)
def test_the_server_in_memory(check: Check[ServerHarness]) -> None:
    check(TrioServerHarness(memory=True))


@pytest.mark.parametrize("check", SERVER_CHECKS, ids=str)
def test_the_server_on_sockets(check: Check[ServerHarness]) -> None:
    check(TrioServerHarness(memory=False))


@pytest.mark.parametrize("check", CLIENT_CHECKS, ids=str)
def test_the_client(check: Check[ClientHarness]) -> None:
    check(TrioClientHarness())


@pytest.mark.deep
@pytest.mark.parametrize("check", SERVER_CHECKS, ids=str)
def test_the_server_in_real_time(check: Check[ServerHarness]) -> None:
    check(TrioServerHarness(virtual=False, memory=False))


@pytest.mark.deep
@pytest.mark.parametrize("check", CLIENT_CHECKS, ids=str)
def test_the_client_in_real_time(check: Check[ClientHarness]) -> None:
    check(TrioClientHarness(virtual=False))

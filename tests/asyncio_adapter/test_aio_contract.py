"""The asyncio adapter does a driver's whole duty, on real sockets."""

import pytest

from gatewayproto.testing.drivers import (
    CLIENT_CHECKS,
    SERVER_CHECKS,
    Check,
    ClientHarness,
    ServerHarness,
)
from tests.asyncio_adapter.aio_harness import AsyncioClientHarness, AsyncioServerHarness


@pytest.mark.parametrize("check", SERVER_CHECKS, ids=str)
def test_the_server(check: Check[ServerHarness]) -> None:
    check(AsyncioServerHarness())


@pytest.mark.parametrize("check", CLIENT_CHECKS, ids=str)
def test_the_client(check: Check[ClientHarness]) -> None:
    check(AsyncioClientHarness())

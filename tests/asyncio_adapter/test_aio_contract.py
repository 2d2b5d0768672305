"""The asyncio adapter does a driver's whole duty on real sockets, also on uvloop."""

from collections.abc import Iterable
from typing import Any, Final

import pytest
import uvloop
from _pytest.mark import ParameterSet

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


# By default those in which a loop's timers have little and its transports have much to do.
_ON_UVLOOP: Final = frozenset(
    {
        "closes_who_never_joins",
        "waits_for_who_does_not_read",
        "gives_back_what_was_taken",
        "sends_what_is_owed_before_it_closes",
        "tells_every_end",
        "stops_in_good_order",
        "comes_back_when_nobody_answers",
        "goes_by_the_close_that_came",
        "disconnects_in_every_state",
        "says_goodbye",
    }
)


def _on_uvloop(checks: Iterable[Check[Any]]) -> list[ParameterSet]:
    return [
        pytest.param(
            check, id=str(check), marks=() if check.name in _ON_UVLOOP else pytest.mark.deep
        )
        for check in checks
    ]


@pytest.mark.parametrize("check", _on_uvloop(SERVER_CHECKS))
def test_the_server_on_uvloop(check: Check[ServerHarness]) -> None:
    check(AsyncioServerHarness(uvloop.new_event_loop))


@pytest.mark.parametrize("check", _on_uvloop(CLIENT_CHECKS))
def test_the_client_on_uvloop(check: Check[ClientHarness]) -> None:
    check(AsyncioClientHarness(uvloop.new_event_loop))

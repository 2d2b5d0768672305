"""What every driver owes its machine, as checks that a driver of your own can be put to.

A driver is the code between a machine and the transports, on whatever framework. Write a harness
for it (`ServerHarness`, `ClientHarness`) and call `check_server_driver` or `check_client_driver`
with it, or give pytest `SERVER_CHECKS` or `CLIENT_CHECKS` to have a test for each duty.

Spec: the architecture page, "Machines".
"""

from gatewayproto.testing.drivers.backend import Backend, HookError
from gatewayproto.testing.drivers.check import Check, run_all
from gatewayproto.testing.drivers.client import CLIENT_CHECKS
from gatewayproto.testing.drivers.harness import (
    Attempt,
    ClientHarness,
    DrivenClient,
    End,
    Harness,
    Item,
    Main,
    Peer,
    ServerHarness,
    run_blocking,
)
from gatewayproto.testing.drivers.server import SERVER_CHECKS
from gatewayproto.testing.drivers.watch import WatchedGateway

__all__ = [
    "CLIENT_CHECKS",
    "SERVER_CHECKS",
    "Attempt",
    "Backend",
    "Check",
    "ClientHarness",
    "DrivenClient",
    "End",
    "Harness",
    "HookError",
    "Item",
    "Main",
    "Peer",
    "ServerHarness",
    "WatchedGateway",
    "check_client_driver",
    "check_server_driver",
    "run_blocking",
]


def check_server_driver(harness: ServerHarness) -> None:
    """Put a server's driver to all `SERVER_CHECKS`.

    Raises:
        Violation: The driver failed one check.
        ExceptionGroup: It failed several.
    """
    run_all(SERVER_CHECKS, harness)


def check_client_driver(harness: ClientHarness) -> None:
    """Put a client's driver to all `CLIENT_CHECKS`.

    Raises:
        Violation: The driver failed one check.
        ExceptionGroup: It failed several.
    """
    run_all(CLIENT_CHECKS, harness)

"""What every play is given."""

from collections.abc import Iterator

import pytest

from tests.blackbox.bbserve import Gateway
from tests.deployed.dpplay_client import small_gateway
from tests.deployed.dpwire import everything_closed


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """Share one `gatewayproto serve` with a small journal; each play makes a session of its own."""
    running = small_gateway()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _everything_closed() -> Iterator[None]:
    with everything_closed():
        yield

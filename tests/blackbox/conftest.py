"""What every black-box check is given."""

from collections.abc import Iterator

import pytest

from tests.blackbox.bbserve import Gateway
from tests.blackbox.bbwire import OPEN


@pytest.fixture(autouse=True)
def _everything_closed() -> Iterator[None]:
    """Close what the test opened, in the reverse order."""
    yield
    while OPEN:
        OPEN.pop().__exit__(None, None, None)


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """Share one gateway with the default options; each check makes sessions of its own."""
    running = Gateway()
    yield running
    running.stop()

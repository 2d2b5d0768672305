"""What every black-box check is given."""

from collections.abc import Iterator

import pytest

from tests.adapter.both import CHOSEN, adapter_fixture, parametrize_adapter
from tests.blackbox.bbserve import Gateway
from tests.blackbox.bbwire import OPEN, Listener

pytest_generate_tests = parametrize_adapter
adapter = adapter_fixture


@pytest.fixture(autouse=True)
def _everything_closed() -> Iterator[None]:
    """Close what the test opened, in the reverse order."""
    yield
    while OPEN:
        OPEN.pop().__exit__(None, None, None)


@pytest.fixture(scope="session")
def gateway(adapter: str) -> Iterator[Gateway]:
    """Share one gateway with the default options; each check makes sessions of its own."""
    running = Gateway(adapter=adapter)
    yield running
    running.stop()


@pytest.fixture
def listener(adapter: str) -> Listener:
    """Listen for a client; it is one of this adapter."""
    assert CHOSEN.name == adapter
    return Listener()

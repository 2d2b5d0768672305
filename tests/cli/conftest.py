"""What every test of the command is given."""

import logging
from collections.abc import Iterator

import pytest

from tests.adapter.both import CHOSEN, adapter_fixture, parametrize_adapter
from tests.cli.cli_support import Process

pytest_generate_tests = parametrize_adapter
adapter = adapter_fixture


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what a command that ran in this process did to logging."""
    root, own = logging.getLogger(), logging.getLogger("gatewayproto")
    handlers, levels = list(root.handlers), (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


@pytest.fixture(scope="session")
def served(adapter: str) -> Iterator[str]:
    """The URL of one gateway with the default options, as a process on this adapter."""
    assert CHOSEN.name == adapter
    with Process("serve", "--port", "0") as process:
        yield process.ready()

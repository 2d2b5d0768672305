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
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def served(adapter: str) -> Iterator[str]:
    """The URL of one gateway with the default options, as a process on this adapter."""
    assert CHOSEN.name == adapter
    with Process("serve", "--port", "0") as process:
        yield process.ready()

"""What runs on every adapter, and what of it does so by default."""

from collections.abc import Iterator
from typing import Final

import pytest

ADAPTERS: Final = ("asyncio", "trio")
_CHOOSING: Final = frozenset({"serve", "tail", "demo"})


class _Chosen:
    name = ADAPTERS[0]


CHOSEN: Final = _Chosen()
"""The adapter of the commands that are started, where they do not name one themselves."""


def on_adapter(command: str, *arguments: str, adapter: str | None = None) -> list[str]:
    """These arguments of the command line, with the adapter named unless it is the default."""
    name = adapter or CHOSEN.name
    named = command not in _CHOOSING or "--adapter" in arguments or name == ADAPTERS[0]
    return [command, *(() if named else ("--adapter", name)), *arguments]


def parametrize_adapter(metafunc: pytest.Metafunc) -> None:
    """Run what asks for the fixture `adapter` on each of them.

    Both must answer alike, so on trio only what is marked `on_trio` runs without `--deep`.
    """
    if "adapter" not in metafunc.fixturenames:
        return
    also = metafunc.definition.get_closest_marker("on_trio") is not None
    marks = () if also else (pytest.mark.deep,)
    names = [ADAPTERS[0], *(pytest.param(name, marks=marks) for name in ADAPTERS[1:])]
    metafunc.parametrize("adapter", names, indirect=True, scope="session")


@pytest.fixture(name="adapter", scope="session")
def adapter_fixture(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have every command that is started meanwhile use this adapter."""
    name: str = request.param
    former, CHOSEN.name = CHOSEN.name, name
    yield name
    CHOSEN.name = former

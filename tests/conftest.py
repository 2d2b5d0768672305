"""Options and Hypothesis profiles of the whole suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

from tests.last_steps import LastSteps

if TYPE_CHECKING:
    import pytest

# The same examples on every machine and every run: a failure is one for everybody.
settings.register_profile(
    "default",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    stateful_step_count=40,
    print_blob=True,
)
# New examples on every run, and many; a failure prints what reproduces it.
settings.register_profile(
    "deep",
    derandomize=False,
    deadline=None,
    max_examples=5_000,
    stateful_step_count=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--deep",
        action="store_true",
        help="run the tests marked `deep` too, and many random examples of every property",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Hypothesis's own --hypothesis-profile is applied after this, and so still decides.
    settings.load_profile("deep" if config.getoption("--deep") else "default")
    config.pluginmanager.register(LastSteps(), "last-steps")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--deep"):
        return
    kept = [item for item in items if item.get_closest_marker("deep") is None]
    deselected = [item for item in items if item.get_closest_marker("deep") is not None]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = kept

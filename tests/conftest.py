"""Options and Hypothesis profiles of the whole suite."""

import signal

import pytest
from hypothesis import HealthCheck, settings

from tests.last_steps import LastSteps
from tests.untraced import untraced

__all__ = ["untraced"]

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


# A helper's assertion says what it compared, as a test's does.
for helper in ("gateway.gwmodel", "gateway.gwworld", "client.clientlab", "testing.handmade"):
    pytest.register_assert_rewrite(f"tests.{helper}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--deep",
        action="store_true",
        help="run the tests marked `deep` too, and many random examples of every property",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Whoever starts this in the background of a shell may hand down that SIGINT is ignored, and so
    # would every process that a test starts and interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
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

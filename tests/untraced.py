"""A fixture for tests that run the machines a million times: nobody counts their lines.

What must be covered is covered by the tests of single rules; here counting would take longer than
what is counted.
"""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def untraced() -> Iterator[None]:
    """Do not count which lines run."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)

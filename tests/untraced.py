"""Where lines are counted: in the tests of single rules, which must cover the core by themselves.

All other tests run the machines a million times, or on sockets; there counting would take longer
than what is counted.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_TESTS: Final = Path(__file__).parent
_COUNTED: Final = frozenset({_TESTS, _TESTS / "gateway", _TESTS / "client"})


@pytest.fixture(autouse=True)
def untraced(request: pytest.FixtureRequest) -> Iterator[None]:
    """Do not count which lines run, unless the test is one of a single rule."""
    if request.path.parent in _COUNTED:
        yield
        return
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)

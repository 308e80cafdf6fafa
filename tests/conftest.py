"""What every test may use."""

import logging
from collections.abc import Iterator

import hypothesis
import pytest

# the same examples in each run, and no limit on how long one takes: no test fails by chance, or
# because the machine is busy; others with `--hypothesis-profile fresh`
hypothesis.settings.register_profile("fresh", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci")

_SET_UP = ("httpx", "httpcore", "asyncio", "uvicorn.error", "proxyindex.audit")


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on asyncio only; so do the tests."""
    return "asyncio"


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """For tests of what sets up logging for a process of its own: all as before, afterwards."""
    loggers = [logging.getLogger(), *map(logging.getLogger, _SET_UP)]
    before = [(one, one.handlers[:], one.level, one.propagate) for one in loggers]
    yield
    for one, handlers, level, propagate in before:
        one.handlers[:] = handlers
        one.setLevel(level)
        one.propagate = propagate

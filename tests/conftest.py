"""What every test may use."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on asyncio only; so do the tests."""
    return "asyncio"

"""Real clients, real server, fake upstream; everything in here is marked `e2e`.

See `tests/support/fixtures.py` for what each fixture gives.
"""

from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.fixtures import (
    index,
    other_upstream,
    server,
    upstream,
    upstream_process,
    workbench,
    workers,
)

__all__ = [
    "index",
    "other_upstream",
    "server",
    "upstream",
    "upstream_process",
    "workbench",
    "workers",
]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the hook sees those of the others too."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A private authority, and what it signed for a server and a client on loopback."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))

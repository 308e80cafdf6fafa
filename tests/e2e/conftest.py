"""Real clients, real server, fake upstream; everything in here is marked `e2e`.

See `tests/support/fixtures.py` for what each fixture gives.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import privacy
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
from tests.support.upstream import FakeUpstream

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


@pytest.fixture(scope="module", autouse=True)
def no_private_name_leaves_the_house() -> Iterator[None]:
    """After each module: of all requests to all upstreams, in all tests of this folder until now,
    none has the name of an own package or a reserved one in it, in its target or its headers."""
    privacy.listen(privacy.SUITE)
    try:
        yield
        for upstream in FakeUpstream.living:
            privacy.SUITE.saw(upstream.requests())
    finally:
        privacy.stop_listening(privacy.SUITE)
    assert privacy.SUITE.betrayals() == []


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A private authority, and what it signed for a server and a client on loopback."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))

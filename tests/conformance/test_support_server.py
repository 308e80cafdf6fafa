"""The real server starts, restarts and ends as the other tests rely on."""

from __future__ import annotations

import pytest

from tests.support.fixtures import Index, ServerFactory
from tests.support.server import StartFailedError
from tests.support.upstream import FakeUpstream


def test_a_restart_keeps_the_address_and_a_stop_is_orderly(
    server: ServerFactory, upstream: FakeUpstream, workers: int
) -> None:
    running = server(upstream=upstream, workers=workers)
    address = running.url
    running.restart("--offline")
    assert running.url == address
    assert running.get("/health").status == 200
    assert running.stop().code == 0


def test_a_killed_server_is_gone_with_its_workers(
    server: ServerFactory, upstream: FakeUpstream, workers: int
) -> None:
    running = server(upstream=upstream, workers=workers)
    running.kill()
    with pytest.raises(ConnectionRefusedError):
        running.get("/health")


def test_a_server_that_cannot_start_tells_why(server: ServerFactory) -> None:
    with pytest.raises(StartFailedError, match="no-such-folder"):
        server("no-such-folder")


def test_the_shared_index_serves_both_projects(index: Index) -> None:
    assert index.get(f"/simple/local-lib/{index.local_filename}").body == index.local_wheel
    assert index.get(f"/simple/foo-bar/{index.wheel.filename}").body == index.wheel.body
    assert index.upstream.count("/simple/local-lib/") == 0

"""Fixtures of the fault tests: real servers, scripted upstreams."""

from tests.support.fixtures import (
    index,
    other_upstream,
    server,
    upstream,
    upstream_process,
    workbench,
)

__all__ = ["index", "other_upstream", "server", "upstream", "upstream_process", "workbench"]

"""Fixtures of the fault tests: real servers, scripted upstreams."""

from tests.support.fixtures import index, server, upstream, upstream_process, workbench

__all__ = ["index", "server", "upstream", "upstream_process", "workbench"]

"""Real server, fake upstream: see `tests/support/fixtures.py` for what each fixture gives."""

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

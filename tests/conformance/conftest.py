"""Real server, fake upstream: see `tests/support/fixtures.py` for what each fixture gives."""

from tests.support.crowd import crowded
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
    "crowded",
    "index",
    "other_upstream",
    "server",
    "upstream",
    "upstream_process",
    "workbench",
    "workers",
]

"""What tests of single rooms share."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that does not even refuse: the queue of its port is full."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(4):
            made = socket.socket()
            made.setblocking(False)
            made.connect_ex(full.getsockname())
            waiting.append(made)
        yield full.getsockname()
        for made in waiting:
            made.close()

"""What the system refuses this very process for a moment, for real."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened: EMFILE. What is open stays so."""
    with _limited(resource.RLIMIT_NOFILE):
        yield


@contextmanager
def no_room() -> Iterator[None]:
    """Nothing can be written to a file: EFBIG."""
    with _limited(resource.RLIMIT_FSIZE):
        yield


@contextmanager
def _limited(what: int) -> Iterator[None]:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)

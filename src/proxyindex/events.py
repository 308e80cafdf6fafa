"""What the inner floors report to whoever counts: a seam, so that they need not know Prometheus.

`metrics.py` implements it; tests and library users pass `SILENT`.
"""

from typing import Protocol


class Events(Protocol):
    """Receiver of countable events. Methods never raise and never block."""

    def page(self, upstream: str, decision: str) -> None:
        """A page was asked of a mirror: fresh, stale, absent, fetched, joined, renewed, failed."""
        ...

    def flight(self, kind: str, role: str) -> None:
        """Shared work (`page`, `file`, `metadata`) was `led` by, or `joined` by, a request, or a
        look `ahead` of its client."""
        ...

    def transfer(self, upstream: str, result: str, size: int) -> None:
        """A download ended: adopted, resumed, failed, mismatch; `size` in bytes moved."""
        ...

    def trim(self, store: str, freed: int) -> None:
        """`freed` bytes were evicted from `blobs` or `pages`."""
        ...

    def alarm(self, kind: str) -> None:
        """Something an operator must look at: digest-mismatch, changed-file, store-failed, …"""
        ...


class _Silent:
    """Receives everything and keeps nothing."""

    def page(self, upstream: str, decision: str) -> None: ...
    def flight(self, kind: str, role: str) -> None: ...
    def transfer(self, upstream: str, result: str, size: int) -> None: ...
    def trim(self, store: str, freed: int) -> None: ...
    def alarm(self, kind: str) -> None: ...


SILENT: Events = _Silent()

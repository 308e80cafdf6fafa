"""Which stored files have been found to be what their names say.

A disk may lose bits, and others may write to our folder. Hashing a file each time it is sent would
cost more than sending it (measured: 1.9 GB/s a core), so each process hashes a file once before it
first sends it, again when its inode, time or size has changed, and again after a day.
"""

import threading
import time
from collections import OrderedDict

from proxyindex.disk import Signature

_LIFETIME = 86400.0  # seconds
_LIMIT = 100_000  # remembered proofs, about 300 bytes each


class Proofs:
    """Proofs of this process, by sha256; each lasts `lifetime` seconds. Thread-safe."""

    def __init__(self, *, limit: int = _LIMIT, lifetime: float = _LIFETIME) -> None:
        self._limit = limit
        self._lifetime = lifetime
        self._proven: OrderedDict[str, tuple[Signature, float]] = OrderedDict()
        self._lock = threading.Lock()

    def holds(self, sha256: str, signature: Signature) -> bool:
        """Whether this very file was proven lately."""
        seen = self._proven.get(sha256)
        return seen is not None and seen[0] == signature and time.monotonic() < seen[1]

    def add(self, sha256: str, signature: Signature) -> None:
        """The file with this signature has this sha256."""
        with self._lock:
            self._proven[sha256] = signature, time.monotonic() + self._lifetime
            self._proven.move_to_end(sha256)
            if len(self._proven) > self._limit:
                self._proven.popitem(last=False)

"""Looking at folders that may not answer: file systems of other machines hang when those are gone.

A thread that asks one hangs with it, and cannot be ended. So it is waited for so long and no
longer, and until it comes back nobody else is sent after it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from proxyindex.repository.scan import FolderUnavailable

log = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

PATIENCE_SECONDS = 10.0  # pip gives up after 15 s
_LOOKERS = 16  # threads; apart from those of others, who must not wait for a folder


class Looker:
    """Runs what looks at the folders called `name` in threads of its own number."""

    def __init__(self, name: str, patience: float = PATIENCE_SECONDS) -> None:
        self._name = name
        self._patience = patience
        self._limiter = anyio.CapacityLimiter(_LOOKERS)
        self._guard = threading.Lock()
        self._running: set[object] = set()
        self._lost: set[object] = set()  # looks that nobody waits for any more

    async def run(self, look: Callable[[*Ts], T], *args: *Ts) -> T:
        """The result of `look(*args)`. Raises `FolderUnavailable` if it does not come in time, and
        at once while an earlier one has not come back."""
        if self._lost:
            raise self._silence()
        token = object()
        with anyio.move_on_after(self._patience):
            return await anyio.to_thread.run_sync(
                self._watched, token, look, *args, abandon_on_cancel=True, limiter=self._limiter
            )
        with self._guard:
            if not self._lost:
                log.error("package folder %r does not answer", self._name)
            self._lost |= self._running & {token}
        raise self._silence()

    def _watched(self, token: object, look: Callable[[*Ts], T], *args: *Ts) -> T:
        with self._guard:
            self._running.add(token)
        try:
            return look(*args)
        finally:
            with self._guard:
                self._running.discard(token)
                self._lost.discard(token)

    def _silence(self) -> FolderUnavailable:
        return FolderUnavailable(self._name, "does not answer")

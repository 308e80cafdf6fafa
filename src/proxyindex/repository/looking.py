"""Looking at folders that may not answer: file systems of other machines hang when those are gone.

A thread that asks one hangs with it, and cannot be ended. So it is waited for so long and no
longer, and until it comes back nobody else is sent after it, whether anybody waited or had left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from proxyindex.repository.scan import FolderSilent

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
        self._due: dict[object, float] = {}  # when each look that runs is to be back
        self._told: object = None  # the look whose silence is in the log

    async def run(self, look: Callable[[*Ts], T], *args: *Ts) -> T:
        """The result of `look(*args)`. Raises `FolderSilent` if it does not come in time, and
        at once while an earlier one has not come back."""
        due = anyio.current_time() + self._patience
        if not self._is_late():
            with anyio.CancelScope(deadline=due):
                return await anyio.to_thread.run_sync(
                    self._watched, due, look, *args, abandon_on_cancel=True, limiter=self._limiter
                )
            self._is_late()
        raise FolderSilent(self._name)

    def _watched(self, due: float, look: Callable[[*Ts], T], *args: *Ts) -> T:
        token = object()
        with self._guard:
            self._due[token] = due
        try:
            return look(*args)
        finally:
            with self._guard:
                del self._due[token]

    def _is_late(self) -> bool:
        """Whether a look is not back in time, which is logged once of each."""
        now = anyio.current_time()
        with self._guard:
            late = next((token for token, due in self._due.items() if due <= now), None)
            is_new = late not in (None, self._told)
            self._told = late
        if is_new:
            log.error("package folder %r does not answer", self._name)
        return late is not None

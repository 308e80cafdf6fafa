"""Documents that were asked for in vain a moment ago."""

import time
from collections.abc import Callable

from proxyindex.memo import Memo

_SECONDS = 5.0
_MOST = 1000


class Resting:
    """Which documents are not to be asked for again at once, and what is known of their failures.

    The memory is bounded: the longest untouched are forgotten.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: Memo[str, float] = Memo(_MOST)
        self._told: Memo[str, str] = Memo(_MOST)

    def rest(self, key: str) -> None:
        """Do not ask for it for five seconds."""
        self._until.put(key, self._clock() + _SECONDS)

    def is_resting(self, key: str) -> bool:
        return self._clock() < (self._until.get(key) or 0.0)

    def is_news(self, key: str, problem: str) -> bool:
        """Whether the document did not fail for this very reason already, the last time."""
        is_new = self._told.get(key) != problem
        self._told.put(key, problem)
        return is_new

    def wake(self, key: str) -> None:
        """It can be had again."""
        self._until.pop(key)
        self._told.pop(key)

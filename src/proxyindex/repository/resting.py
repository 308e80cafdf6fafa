"""Documents that were asked for in vain a moment ago."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

V = TypeVar("V")

_SECONDS = 5.0
_MOST = 1000


class Resting:
    """Which documents are not to be asked for again at once, and what is known of their failures.

    The memory is bounded: the longest untouched are forgotten.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()
        self._told: OrderedDict[str, str] = OrderedDict()

    def rest(self, key: str) -> None:
        """Do not ask for it for five seconds."""
        _put(self._until, key, self._clock() + _SECONDS)

    def is_resting(self, key: str) -> bool:
        return self._clock() < self._until.get(key, 0.0)

    def is_news(self, key: str, problem: str) -> bool:
        """Whether the document did not fail for this very reason already, the last time."""
        is_new = self._told.get(key) != problem
        _put(self._told, key, problem)
        return is_new

    def wake(self, key: str) -> None:
        """It can be had again."""
        self._until.pop(key, None)
        self._told.pop(key, None)

    def __len__(self) -> int:
        return len(self._until)


def _put(memory: OrderedDict[str, V], key: str, value: V) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > _MOST:
        memory.popitem(last=False)

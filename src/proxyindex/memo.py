"""A bounded memory for what can be made or asked for again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memo(Generic[K, V]):
    """The values used last, as many as weigh `limit` together; those not used for longest leave.

    Each weighs 1 unless `weigh` tells otherwise, and always the same for one value. The value put
    last stays, whatever it weighs. Not for use by two threads at once.
    """

    def __init__(self, limit: int, weigh: Callable[[V], int] = lambda value: 1) -> None:
        self._limit = limit
        self._weigh = weigh
        self._weight = 0
        self._values: OrderedDict[K, V] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def get(self, key: K) -> V | None:
        """The value, which counts as used now; `None` if there is none (any more)."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def items(self) -> list[tuple[K, V]]:
        """All of them, those not used for longest first."""
        return list(self._values.items())

    def put(self, key: K, value: V) -> None:
        """Remember the value in the place of the one before."""
        self.pop(key)
        self._values[key] = value
        self._weight += self._weigh(value)
        while self._weight > self._limit and len(self._values) > 1:
            self.pop(next(iter(self._values)))

    def pop(self, key: K) -> None:
        """Forget the value, if there is one."""
        if key in self._values:
            self._weight -= self._weigh(self._values.pop(key))

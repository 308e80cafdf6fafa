"""Stop asking a failing upstream for a while, so that answers from the store stay fast."""

import time
from collections.abc import Callable

_THRESHOLD = 3  # failures in a row: one broken project must not shut out all others
_FIRST_PAUSE = 5.0
_LAST_PAUSE = 60.0


class Breaker:
    """Counts failures in a row; after three it is open for 5 s, doubling up to 60 s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether asking is pointless now."""
        return self._clock() < self._open_until

    def seconds_left(self) -> int:
        """Whole seconds until the next try, at least 1."""
        return max(1, round(self._open_until - self._clock()))

    def succeeded(self) -> None:
        self._failures, self._pause, self._open_until = 0, _FIRST_PAUSE, 0.0

    def failed(self) -> bool:
        """Count a failure; whether it opened the breaker."""
        self._failures += 1
        if self._failures < _THRESHOLD or self.is_open:
            return False
        self._open_until = self._clock() + self._pause
        self._pause = min(self._pause * 2, _LAST_PAUSE)
        return True

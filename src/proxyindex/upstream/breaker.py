"""Stop asking a failing upstream for a while, so that answers from the store stay fast."""

import time
from collections.abc import Callable

_THRESHOLD = 3  # documents: a broken one, however often it is asked for, must not shut out others
_FIRST_PAUSE = 5.0
_LAST_PAUSE = 60.0


class Breaker:
    """Once three documents have failed, and none was had meanwhile, it is open for 5 s, doubling up
    to 60 s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: set[str] = set()
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
        self._failed.clear()
        self._pause, self._open_until = _FIRST_PAUSE, 0.0

    def failed(self, key: str) -> bool:
        """The document failed; whether that opened the breaker."""
        if self.is_open:
            return False
        self._failed.add(key)
        if len(self._failed) < _THRESHOLD:
            return False
        self._failed.clear()
        self._open_until = self._clock() + self._pause
        self._pause = min(self._pause * 2, _LAST_PAUSE)
        return True

"""Writes that the disk refused, told to the operator once in a while and not once per file."""

import logging
import time

from proxyindex.errors import StoreError
from proxyindex.events import Events

log = logging.getLogger(__name__)

_QUIET_SECONDS = 300.0


class Trouble:
    """Counts every refused write as an alarm, and logs the first of a spell."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._told_at: float | None = None

    def refused(self, problem: StoreError) -> None:
        """The cache did not take something; what was asked for is served all the same."""
        self._events.alarm("store-failed")
        now = time.monotonic()
        if self._told_at is not None and now - self._told_at < _QUIET_SECONDS:
            log.debug("%s", problem)
            return
        self._told_at = now
        log.warning(
            "%s Serving on without keeping what does not fit; not saying so again for %d minutes.",
            problem,
            _QUIET_SECONDS / 60,
        )

"""What one client request demands of the repositories, and what it learns on the way.

An `Inquiry` is passed down explicitly, so that nothing below the web layer needs to know HTTP
and nothing needs a context variable.
"""

import math
import time
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Where an answer came from; sent as `X-Proxyindex` and written to the access line."""

    LOCAL = "local"  # own folders
    HIT = "hit"  # the cache, no network
    STALE = "stale"  # the cache, past its lifetime: upstream failed, or is being asked meanwhile
    FETCHED = "fetched"  # upstream, asked because of this request
    JOINED = "joined"  # upstream, asked because of an earlier request still under way


@dataclass(slots=True)
class Inquiry:
    """One request on its way through the repositories and the file service.

    `deadline` is a `time.monotonic()` instant: whoever waits for an upstream on behalf of this
    request stops then and answers with what it has. It bounds page look-ups, never the transfer
    of a file's bytes. `accepts_stale`: an expired page will do, if it has what is looked for.
    `via`: the servers of our kind it came through, passed on so that each knows itself in a ring.
    """

    revalidate: bool = False
    accepts_stale: bool = False
    deadline: float = math.inf
    via: str = ""
    outcome: Outcome | None = None

    def remaining(self) -> float:
        """Seconds left until the deadline, never negative."""
        return max(0.0, self.deadline - time.monotonic())

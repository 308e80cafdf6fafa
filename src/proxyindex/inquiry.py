"""What one client request demands of the repositories, and what it learns on the way.

An `Inquiry` is passed down explicitly, so that nothing below the web layer needs to know HTTP
and nothing needs a context variable.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from proxyindex.errors import NotHeld, UpstreamError

# Each costs the event loop 1.7 µs, again for every request: half a millisecond at most. Enough for
# all 256 shelves of stored files, or for an index with some 250 package directories.
MOST_WITNESSES = 300

# The path of a file or directory, and its stamp (`disk.signature`); `None`: nothing is there.
Witness = tuple[str, tuple[int, ...] | None]


OUTCOME_HEADER = "x-proxyindex"
UNCHANGED = "unchanged"  # the outcome of an upload of bytes that are there, of yanks as it was


class Outcome(StrEnum):
    """Where an answer came from; sent as `X-Proxyindex` and written to the access line."""

    LOCAL = "local"  # own folders
    HIT = "hit"  # the cache, no network
    STALE = "stale"  # the cache, past its lifetime: upstream failed, or is being asked meanwhile
    FETCHED = "fetched"  # upstream, asked because of this request
    JOINED = "joined"  # upstream, asked because of an earlier request still under way


@dataclass(slots=True, eq=False)
class Ground:
    """What an answer rests on: for as long as this stands, the same question has the same answer.

    From `since` up to `until` (seconds since the epoch), while all `witnesses` still have their
    stamps. Every source that is asked must call `rests_on` or `holds_once`: one that forgets makes
    answers stale (`tests/contract/test_repository.py` asks each kind of repository). An answer that
    rests on more than `MOST_WITNESSES` holds once, too. `uses` are to be called whenever the answer
    is given again.
    """

    since: float = 0.0
    until: float = math.inf
    witnesses: list[Witness] = field(default_factory=list)
    uses: list[Callable[[], None]] = field(default_factory=list)
    _unknown: int = 0  # shares that are still to be told
    _waiting: list[Callable[[], None]] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        """Whether all has been told that it rests on."""
        return not self._unknown

    def when_known(self, act: Callable[[], None]) -> None:
        """Do this once `is_known`: now, later, or never."""
        if self.is_known:
            act()
        else:
            self._waiting.append(act)

    def comes_to_know(self) -> Callable[[], None]:
        """One source's share is told later, by calls of `rests_on` or `holds_once`, and then of
        what this returns; never called, the answer holds once."""
        self._unknown += 1

        def known() -> None:
            self._unknown -= 1
            if self.is_known:
                for act in self._waiting:
                    act()
                self._waiting.clear()

        return known

    def rests_on(
        self,
        *witnesses: Witness,
        since: float = 0.0,
        until: float = math.inf,
    ) -> None:
        """One source's share."""
        self.witnesses += witnesses
        self.since = max(self.since, since)
        self.until = min(self.until, until)
        if len(self.witnesses) > MOST_WITNESSES:
            self.holds_once()

    def holds_once(self) -> None:
        """The answer holds for this request only."""
        self.until = 0.0


@dataclass(slots=True)
class Inquiry:
    """One request on its way through the repositories and the file service.

    `deadline` is a `time.monotonic()` instant: whoever waits for an upstream on behalf of this
    request stops then and answers with what it has. It bounds page look-ups, never the transfer
    of a file's bytes. `accepts_stale`: an expired page will do, if it has what is looked for;
    `insists`: even one that is just stale will not, while upstream can be asked; `met_stale` tells
    that one was served, of whichever source.
    `via`: the servers of our kind it came through, passed on so that each knows itself in a ring.
    `unsure`: why an earlier source cannot tell now whether it has what it had not when it was asked
    last; then others tell only of what is stored of them.
    Without `may_fetch` nothing is asked for its sake: what is stored is the answer, of any age.
    """

    revalidate: bool = False
    may_fetch: bool = True
    accepts_stale: bool = False
    insists: bool = False
    deadline: float = math.inf
    via: str = ""
    outcome: Outcome | None = None
    met_stale: bool = False
    unsure: UpstreamError | NotHeld | None = None
    ground: Ground = field(default_factory=Ground)

    def remaining(self) -> float:
        """Seconds left until the deadline, never negative."""
        return max(0.0, self.deadline - time.monotonic())

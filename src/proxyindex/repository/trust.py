"""Whether a new answer may take the place of a stored page: not at once, if it loses most or all
of it.

See docs/decisions/0018.
"""

import logging
from collections.abc import Callable

from proxyindex.errors import UpstreamInvalid
from proxyindex.events import Events
from proxyindex.model import ACTIVE, ProjectPage
from proxyindex.store.doubts import DOUBT_SECONDS, Doubts
from proxyindex.store.index import Notes
from proxyindex.store.worker import Worker

log = logging.getLogger(__name__)


class Disbelieved(UpstreamInvalid):
    """An answer that contradicts the stored page; that one stays for now."""


def shrinkage(known: ProjectPage, sent: ProjectPage) -> str | None:
    """What is suspicious in `sent` after `known`, as a phrase: that most of its files are gone.

    A page with a status that says why, or with as many files as before under other names (an
    index that keeps only the newest build), is not.
    """
    if sent.status.status != ACTIVE.status or len(sent.files) >= len(known.files):
        return None
    listed = {file.filename for file in sent.files}
    lost = sum(file.filename not in listed for file in known.files)
    if 2 * lost <= len(known.files):
        return None
    return f"has lost {lost} of the {len(known.files)} files of its page"


class Trust:
    """The doubts about one upstream's answers, by key; shared by all processes.

    What it says for `DOUBT_SECONDS`, or what an operator accepts, is believed.
    """

    def __init__(
        self,
        upstream: str,
        upstream_id: str,
        notes: Notes,
        worker: Worker,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._id = upstream_id
        self._doubts = Doubts(notes)
        self._worker = worker
        self._events = events
        self._clock = clock

    def since(self, key: str) -> float | None:
        """When the doubt about the document began, in seconds since the epoch, if there is one.
        For the store's thread."""
        return self._doubts.since(self._id, key)

    async def check(self, key: str, since: float | None, suspicion: str, alarm: str) -> None:
        """Raises `Disbelieved` while the upstream has not contradicted the stored page for long.

        `suspicion` is a phrase; it is logged, and counted as `alarm`, once per doubt.
        """
        now = self._clock()
        if since is None or since > now:  # the clock was set back: nobody knows for how long
            since = now
            await self._worker.run(self._doubts.begin, self._id, key, now)
            self._events.alarm(alarm)
            log.warning(
                "%s: upstream %r %s; the last good page stays for %d hours, or until you accept "
                "the new one with `proxyindex cache accept %s`",
                key,
                self._upstream,
                suspicion,
                DOUBT_SECONDS // 3600,
                key,
            )
        if now - since < DOUBT_SECONDS:
            raise Disbelieved(self._upstream, suspicion)
        log.info("%s: upstream %r %s; that is believed now", key, self._upstream, suspicion)

    async def settle(self, key: str, since: float | None) -> None:
        """The document is what the upstream says: end the doubt, if there was one."""
        if since is not None:
            await self._worker.run(self._doubts.end, self._id, key)

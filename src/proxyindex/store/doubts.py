"""Since when an upstream contradicts a stored page: notes that all processes share.

For the store's thread. A note outlives the doubt, so that a project asked for once a week does
not begin it anew each time. Notes may be lost; then the doubt begins again.
"""

from proxyindex.store.index import Notes

DOUBT_SECONDS = 86_400.0  # what an upstream says for so long is believed
_NOTE_SECONDS = 8 * DOUBT_SECONDS


class Doubts:
    """The beginnings of doubts (seconds since the epoch) by upstream id and key of the page."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def since(self, upstream: str, key: str) -> float | None:
        """When it began; `None` where there is none."""
        return instant(self._notes.recall(_note(upstream, key)))

    def begin(self, upstream: str, key: str, now: float) -> None:
        self._notes.remember(_note(upstream, key), str(now).encode(), _NOTE_SECONDS)

    def end(self, upstream: str, key: str) -> None:
        self._notes.forget(_note(upstream, key))

    def accept(self, upstream: str, key: str) -> bool:
        """Make it so old that the next answer is believed; whether that could be noted."""
        self.begin(upstream, key, 0.0)
        return self.since(upstream, key) == 0.0


def instant(noted: bytes | None) -> float | None:
    """What is noted as seconds since the epoch; `None` for what is no note of ours."""
    try:
        return None if noted is None else float(noted)
    except ValueError:
        return None


def _note(upstream: str, key: str) -> str:
    return f"doubt {upstream}/{key}"

"""Why a change of our folders is refused: one type, one sentence."""

from collections.abc import Callable, Iterable
from typing import TypeVar, TypeVarTuple

import anyio.to_thread
from anyio import CapacityLimiter

from proxyindex.errors import ProxyindexError

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class UploadRejected(ProxyindexError):
    """The request is at fault. `status` is the HTTP status, 400 to 415.

    The sentence says what was wrong, and where. Clients show it to a person: in the body, and
    twine in the reason phrase only.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class FolderRefused(ProxyindexError):
    """Our own folder could not be written (full, read-only, vanished): 503."""

    def __init__(self, problem: OSError) -> None:
        self.problem = problem
        reason = problem.strerror or type(problem).__name__
        super().__init__(f"The folder of this index could not be written: {reason}.")


def bad(sentence: str) -> UploadRejected:
    """400."""
    return UploadRejected(400, sentence)


def no_folder() -> UploadRejected:
    """403: for an index that only inherits and falls through."""
    return UploadRejected(403, "This index has no folder of its own to be changed.")


def no_uploads() -> UploadRejected:
    """403: for an index to which nobody may upload, whoever asks."""
    return UploadRejected(
        403,
        "This index takes no uploads: 'upload' and 'folders' in its configuration would allow "
        "them.",
    )


def no_other_index(name: str, others: Iterable[str]) -> UploadRejected:
    """404: for a target of pushes that is not there, has no folder, or is the source itself.

    `others`: those that whoever asks may push to.
    """
    known = f"; there are: {names}" if (names := ", ".join(others)) else ""
    return UploadRejected(404, f"There is no other index {name[:80]!r} to push to{known}.")


async def on_disk(call: Callable[[*Ts], T], *args: *Ts, limiter: CapacityLimiter) -> T:
    """Run what blocks on our own folder, in threads that are not those of others: where the file
    system of the folder hangs, so do they. Raises `FolderRefused` for its `OSError`."""
    try:
        return await anyio.to_thread.run_sync(call, *args, limiter=limiter)
    except OSError as problem:
        raise FolderRefused(problem) from problem

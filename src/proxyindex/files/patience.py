"""How long an upstream is waited for: by a client until it begins, by us until it has ended."""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio

from proxyindex.errors import UpstreamUnavailable
from proxyindex.upstream.index import Upstream

T = TypeVar("T")

_SLICE = 1.0  # seconds between two looks
_LONGEST = 60.0  # seconds, whatever the upstream does for others
_WHOLE = 60.0  # seconds for all of a sidecar, a signature, or the ranges of a wheel's tail


@contextmanager
def whole_in_time(upstream: Upstream) -> Iterator[None]:
    """Something small must be here within a minute: what never ends would hold a place that others
    wait for.

    Raises `UpstreamUnavailable`.
    """
    try:
        with anyio.fail_after(_WHOLE):
            yield
    except TimeoutError as problem:
        raise UpstreamUnavailable(upstream.name, "did not finish in time") from problem


async def in_time(wait: Callable[[], Awaitable[T]], upstream: Upstream, seconds: float) -> T:
    """The result of `wait()`, which may be called again after it was cancelled.

    Raises `UpstreamUnavailable` after `seconds`; but while the upstream is sending to others it
    is our turn that is waited for, and a refusal would only make the crowd larger.
    """
    end = time.monotonic() + _LONGEST
    while True:
        with anyio.move_on_after(seconds):
            return await wait()
        if not upstream.is_talking or time.monotonic() > end:
            raise UpstreamUnavailable(upstream.name, "did not answer in time")
        seconds = _SLICE

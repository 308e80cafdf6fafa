"""When to ask again, and when to give up: the same for pages and files."""

from proxyindex.errors import UpstreamUnavailable

_BACKOFF = (0.25, 0.5, 1.0)  # seconds
LONGEST_PAUSE = 2  # seconds; installers wait 8 for a page, so a longer request is passed on


def pause_before(
    problem: UpstreamUnavailable, attempt: int, *, longest: int = LONGEST_PAUSE
) -> float | None:
    """Seconds to wait after the failed `attempt` (0 is the first), or `None` to give up, for
    upstream asks for more than the `longest`.

    What upstream asks for with Retry-After is kept to the second (RFC 9110, 10.2.3).
    """
    if problem.asked_pause is None:
        return _BACKOFF[min(attempt, len(_BACKOFF) - 1)]
    return float(problem.asked_pause) if problem.asked_pause <= longest else None

"""Waiting for a connection for so long only, with httpcore's errors for both ways to fail."""

from collections.abc import Awaitable
from contextlib import nullcontext
from typing import TypeVar

import anyio
import httpcore

T = TypeVar("T")


async def in_time(
    waiting: Awaitable[T],
    timeout: float | None,
    late: type[httpcore.TimeoutException],
    broken: type[Exception],
) -> T:
    """What is waited for; raises `late` after `timeout` seconds, if that is limited, and `broken`
    for an `OSError`, and for a name that no name server can hold (`UnicodeError`)."""
    try:
        # anyio's, as those around it: of two kinds that end together one might be left over
        with nullcontext() if timeout is None else anyio.fail_after(timeout):
            return await waiting
    except TimeoutError as problem:
        raise late from problem
    except (OSError, UnicodeError) as problem:
        raise broken(str(problem)) from problem

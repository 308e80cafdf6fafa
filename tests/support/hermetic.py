"""Child processes that see nothing of the machine they run on but the interpreter."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from inspect import isawaitable
from pathlib import Path
from typing import TypeVar

import anyio

from proxyindex.threads import Threads

T = TypeVar("T")

PATIENCE = 60.0  # seconds; only used up when something is broken, however busy the machine is

# what a child needs to find libraries and locales; everything else stays outside, and compiled
# modules are kept whatever this process does: without them a start takes twice as long
_KEPT = {"LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR"}


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small environment with a private home; no installer setting or proxy leaks in."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name in _KEPT}
    private = {
        "HOME": str(home),
        "PATH": with_keyring(home / "bin"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local"),
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }
    return {**kept, **private, **(extra or {})}


def with_keyring(folder: Path, script: str = "exit 1") -> str:
    """PATH with a `keyring` program in `folder` before all others, which does what the script says.

    The real one takes four times a third of a second of each command to say that it has nothing.
    """
    folder.mkdir(exist_ok=True)
    program = folder / "keyring"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def wait_until(
    condition: Callable[[], T | None], what: str, *, timeout: float = PATIENCE, every: float = 0.02
) -> T:
    """The first true value of `condition`, asked again and again; else `TimeoutError`."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(every)
    return value


def calls(threads: Threads) -> int:
    """How many wait for one of the threads, or run in it."""
    return len(threads._jobs) + threads._awake


async def until(
    condition: Callable[[], object], what: str, *, timeout: float = PATIENCE, every: float = 0.001
) -> None:
    """As `wait_until`, while other tasks run; the condition may be awaited for."""
    try:
        with anyio.fail_after(timeout):
            while not (await value if isawaitable(value := condition()) else value):
                await anyio.sleep(every)
    except TimeoutError as problem:
        raise TimeoutError(f"not within {timeout} s: {what}") from problem

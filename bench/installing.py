"""An installer's command, run where nothing of the user's settings reaches it, and timed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.errors import Unavailable


def environment(folder: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """With a home of its own, and what is unpacked on the way beside it."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        **extra,
    }


def timed(
    command: Sequence[str | Path], folder: Path, *, limit: float, extra: Mapping[str, str]
) -> float:
    """How many seconds it took. Raises `Unavailable` if it fails."""
    begun = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment(folder, extra),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise Unavailable(f"it failed: {done.stderr.strip()[-200:]}")
    return seconds

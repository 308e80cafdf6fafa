"""What the rivals and the plots need, each in an environment of its own outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

from bench.errors import Unavailable

PINS = {
    "proxpi": ["proxpi==1.3.1", "gunicorn==27.0.1"],
    "devpi": ["devpi-server==6.20.3"],
    "simple-repository-server": [
        "simple-repository-server==0.10.0",
        "simple-repository==0.11.1",
    ],
    "plots": ["matplotlib==3.11.2"],
}
_SECONDS = 600
_failures: dict[str, str] = {}  # what was tried in vain is not tried again in this run
_PROGRAMS = {"nginx": "nginx-light", "wrk": "wrk"}  # and the packages that have them


def environment(scratch: Path, name: str) -> Path:
    """The `bin` of the environment `name`, made if need be. Raises `Unavailable`."""
    folder = scratch / "venvs" / name
    stamp, wanted = folder / "pins", "\n".join(PINS[name])
    if stamp.exists() and stamp.read_text() == wanted:
        return folder / "bin"
    if name in _failures:
        raise Unavailable(_failures[name])
    try:
        venv.create(folder, with_pip=True, clear=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
        _run([*pip, "--disable-pip-version-check", *PINS[name]])
    except (OSError, subprocess.SubprocessError) as problem:
        _failures[name] = f"cannot be installed: {_reason(problem)}"
        raise Unavailable(_failures[name]) from problem
    stamp.write_text(wanted)
    return folder / "bin"


def program(name: str) -> Path:
    """Where nginx or wrk is; installed with apt-get if that is possible. Raises `Unavailable`."""
    if not _find(name) and shutil.which("apt-get") and os.geteuid() == 0:
        try:
            _run(["apt-get", "update", "-qq"])
            _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", _PROGRAMS[name]])
        except (OSError, subprocess.SubprocessError) as problem:
            raise Unavailable(f"not installed: {_reason(problem)}") from problem
    if found := _find(name):
        return Path(found)
    raise Unavailable("not installed")


def _find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _run(command: Sequence[str | Path]) -> None:
    subprocess.run(
        [str(word) for word in command],
        check=True,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )


def _reason(problem: Exception) -> str:
    text = getattr(problem, "stderr", "") or str(problem)
    return str(text).strip().splitlines()[-1][:200] if str(text).strip() else repr(problem)

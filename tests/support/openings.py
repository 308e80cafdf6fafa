"""What a process opened and whom it connected to, from its audit hook's log or from strace's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

AUDIT_FOLDER = Path(__file__).parent / "audit"
SYSCALLS = (
    "open,openat,openat2,creat,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,"
    "symlinkat,mkdir,mkdirat,rmdir,truncate,chmod,fchmodat,mknod,mknodat,execve,execveat,connect"
)

# events whose arguments hold no path or peer, or one that another event tells
_WITHOUT_PATH = {"os.fork", "os.forkpty", "os.kill", "os.killpg", "os.putenv", "os.unsetenv"}
_TWO_PATHS = {"os.rename", "os.link", "os.symlink", "shutil.move", "shutil.copyfile"}

_READING = {"os.scandir", "os.listdir"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_CALL = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<rest>.*)$", re.DOTALL)
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WRITING = re.compile(r"O_(?:WRONLY|RDWR|CREAT|TRUNC)")
_FOLDER = re.compile(r"(?:AT_FDCWD|\d+)<([^>]*)>, $")
_PEER = re.compile(r'sa_family=(AF_\w+)(?:.*?htons\((\d+)\))?(?:.*?inet_addr\("([^"]*)"\))?')


@dataclass(frozen=True, slots=True)
class Opening:
    """One thing asked of the system: `call`, and an absolute path or a peer's `host:port`."""

    call: str
    what: str
    is_reading: bool = False

    @property
    def is_peer(self) -> bool:
        return self.call in ("connect", "socket.connect", "socket.getaddrinfo")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a server may go: below `folders`, to exactly `paths`, and to `peers`; and below
    `libraries`, but only to read."""

    folders: tuple[Path, ...]
    peers: frozenset[str]
    libraries: tuple[Path, ...] = ()
    paths: frozenset[str] = frozenset({os.devnull})

    def strays(self, openings: Iterable[Opening]) -> list[Opening]:
        """What is out of bounds."""
        return [one for one in openings if not self._holds(one)]

    def _holds(self, one: Opening) -> bool:
        if one.is_peer:
            return one.what in self.peers
        path = os.path.normpath(one.what)
        if path in self.paths or "\0" in path:
            return path in self.paths
        folders = self.folders + (self.libraries if one.is_reading else ())
        return any(Path(path).is_relative_to(folder) for folder in folders)


def interpreter_folders(*more: Path) -> tuple[Path, ...]:
    """Where modules are imported from: the interpreter's libraries, and `more`."""
    libraries = {Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib")}
    libraries |= {Path(place) for place in sys.path if place.endswith(("-packages", "-dynload"))}
    return tuple({*libraries, *more, *(place.resolve() for place in libraries)})


def has_strace() -> bool:
    """Whether strace is installed and may trace here."""
    try:
        probe = subprocess.run(
            ["strace", "-D", "-f", "-o", os.devnull, "true"], capture_output=True, check=False
        )
    except OSError:
        return False
    return probe.returncode == 0


def strace_command(log: Path) -> list[str]:
    """What to put before a command: its process stays the child, the tracer is beside it."""
    options = ["-D", "-f", "-y", "-s", "9999", "-o", str(log), "-e", "trace=" + SYSCALLS]
    return ["strace", "--seccomp-bpf", *options]


def read_audit(lines: Iterable[str], workdir: Path) -> Iterator[Opening]:
    """The openings in the log of `audit/sitecustomize.py`."""
    for line in lines:
        event, *told = json.loads(line)
        if event in _WITHOUT_PATH:
            continue
        if event == "socket.connect":
            yield Opening(event, _plain_peer(told[1]))
        elif event == "socket.getaddrinfo":
            yield Opening(event, f"{told[0]}:{told[1]}")
        elif not told or told[0].isdecimal() or told[0] == "None":
            continue  # by descriptor: opened before
        else:
            is_reading = event in _READING or (event == "open" and not int(told[2]) & _WRITES)
            for path in told[: 2 if event in _TWO_PATHS else 1]:
                yield Opening(event, os.path.join(workdir, path), is_reading)


def read_strace(lines: Iterable[str], workdir: Path) -> Iterator[Opening]:
    """The openings in a log that `strace_command` had written."""
    for line in lines:
        if not (call := _CALL.match(line)):
            continue  # signals, exits, the second half of a call
        name, rest = call["name"], call["rest"]
        if name == "connect":
            yield Opening(name, _peer(rest))
            continue
        arguments = rest.partition(", [")[0] if name == "execve" else rest.rpartition(" = ")[0]
        is_reading = name.startswith("open") and not _WRITING.search(arguments or rest)
        for text in _TEXT.finditer(arguments or rest):
            folder = _FOLDER.search(rest[: text.start()])
            path = os.path.join(folder[1] if folder else workdir, _decoded(text[1]))
            yield Opening(name, path, is_reading)


def _decoded(text: str) -> str:
    """strace's octal and C escapes resolved."""
    raw = text.encode().decode("unicode_escape").encode("latin-1")
    return raw.decode(errors="replace")


def _plain_peer(text: str) -> str:
    found = re.match(r"\('([^']*)', (\d+)", text)
    return f"{found[1]}:{found[2]}" if found else text


def _peer(rest: str) -> str:
    found = _PEER.search(rest)
    if found and found[1] == "AF_INET":
        return f"{found[3]}:{found[2]}"
    return rest

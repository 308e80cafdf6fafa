"""A real file system that is small, can be filled to the byte, and refuses to be written on demand.

It is mounted where nobody but its own holder and the programs started on it can see it, so that it
vanishes with the holder, whatever happens to the tests.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.support.server import ProxyIndex

MIB = 1024**2
_BLOCK = 4096

# the holder mounts, says so, and then does as it is told. A file system with files open for writing
# cannot be made read-only; so what cannot be written is laid over it
_HOLDER = """
refuse() { mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"; }
allow() { umount -l "$1"; }
mount -t tmpfs -o "size=$2,nr_inodes=$3,mode=0777" tmpfs "$1" && echo mounted || exit 1
while read -r what; do "$what" "$1" && echo "$what"; done
"""
_AS_ROOT = "--map-root-user"
# as root, and as anybody where the kernel lets users have name spaces of their own
_SPACES: tuple[tuple[str, ...], ...] = (("--mount",), ("--user", _AS_ROOT, "--mount"))


class NotPossibleError(Exception):
    """This system lets us mount nothing."""


class SmallDisk:
    """A tmpfs of `size` bytes and `files` files and folders; a context manager.

    `path` is where it lies for the tests, `inside` for programs run with the prefix `command`.
    """

    def __init__(self, mount_point: Path, *, size: int = 80 * MIB, files: int = 2000) -> None:
        mount_point.mkdir(parents=True, exist_ok=True)
        self.inside = mount_point
        self._numbers = itertools.count()
        if not (shutil.which("unshare") and shutil.which("nsenter")):
            raise NotPossibleError("no unshare or nsenter (util-linux)")
        for spaces in _SPACES:
            self._holder = _hold(*spaces, str(mount_point), str(size), str(files))
            if self._said() == "mounted":
                break
            self.close()
        else:
            raise NotPossibleError("neither root nor name spaces of our own")
        spaces = tuple(space for space in spaces if space != _AS_ROOT)
        who = ("--target", str(self._holder.pid), "--preserve-credentials")
        self.command = ["nsenter", *who, *spaces]
        self.path = Path(f"/proc/{self._holder.pid}/root{mount_point}")

    def carry(self, server: ProxyIndex) -> ProxyIndex:
        """Let a server that was not started yet keep its cache here."""
        server.wrapper = self.command
        server.args += ["--cache-dir", str(self.inside / "cache")]
        server.cache_dir = self.path / "cache"
        return server

    @property
    def free(self) -> int:
        """Bytes that can still be written."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take all space but `leave` bytes (whole blocks of 4096), until `clear`."""
        while (excess := self.free // _BLOCK - leave // _BLOCK) > 0:
            with self._ballast().open("wb") as stream, contextlib.suppress(OSError):
                os.posix_fallocate(stream.fileno(), 0, excess * _BLOCK)

    def fill_names(self, leave: int = 0) -> None:
        """Let no more than `leave` files or folders be made, until `clear`."""
        with contextlib.suppress(OSError):
            while True:
                self._ballast().touch()
        for path in list(self.path.glob("ballast-*"))[:leave]:
            path.unlink()

    def clear(self) -> None:
        """Give back what `fill` and `fill_names` took."""
        for path in self.path.glob("ballast-*"):
            path.unlink()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be opened for writing, made or removed; what is open stays so."""
        self._tell("refuse")
        try:
            yield
        finally:
            self._tell("allow")

    def close(self) -> None:
        """Unmount it: with the last process that can see it, it is gone."""
        assert self._holder.stdin
        assert self._holder.stdout
        self._holder.stdin.close()
        self._holder.wait(10)
        self._holder.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ballast(self) -> Path:
        return self.path / f"ballast-{next(self._numbers)}"

    def _tell(self, what: str) -> None:
        assert self._holder.stdin
        self._holder.stdin.write(f"{what}\n")
        self._holder.stdin.flush()
        assert self._said() == what

    def _said(self) -> str:
        assert self._holder.stdout
        return self._holder.stdout.readline().strip()


def _hold(*command: str) -> subprocess.Popen[str]:
    *spaces, point, size, files = command
    return subprocess.Popen(
        ["unshare", *spaces, "sh", "-c", _HOLDER, "sh", point, size, files],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

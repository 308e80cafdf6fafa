"""The system's rsync, over ssh: what is on another machine, there and back. No shell, nowhere.

rsync is all that is needed over there, so an account restricted to it will do. Its receiver
writes to hidden names and renames what is whole.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from proxyindex.publishing.target import PublishError

DEFAULT_SSH = "ssh -o ConnectTimeout=15"
# a name that begins with a dash would be an option to ssh; IPv6 addresses are in brackets
_REMOTE = re.compile(
    r"(?P<host>(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?"
    r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\])):(?P<path>.+)",
    re.DOTALL,
)
_LISTED = re.compile(r"([0-9]+) ([0-9]{4}/[0-9]{2}/[0-9]{2}-[0-9]{2}:[0-9]{2}:[0-9]{2}) (.+)")
_PROGRESS = re.compile(r"\s*([0-9]+)\s+[0-9]+%")
_LONGEST_SOCKET = 85  # bytes of a path: systems take 103 to 107, and ssh adds 17 of its own
_SILENCE_SECONDS = 120  # of the other side, after which rsync gives up
_SOME_ARE_MISSING = 23  # what is to be read does not exist, or not all of it could be transferred
_SAID = 600  # characters of what rsync says


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies somewhere; `size` in bytes."""

    name: str
    size: int
    mtime: datetime
    is_folder: bool


class Missing(PublishError):
    """There is no such file or folder over there."""


class Remote:
    """A folder on another machine: `host:path` or `user@host:path`, as rsync and scp write it.

    `ssh` is the command to get there; a path that is not absolute begins at the user's home.
    `control` is a folder for the connection that is shared; `close` ends it. Every method raises
    `PublishError`, with what rsync or ssh said.
    """

    def __init__(self, shown: str, ssh: str, control: Path) -> None:
        match = _REMOTE.fullmatch(shown)
        if match is None or not match["path"].isprintable():
            raise PublishError(f"{shown!r} is not of the form host:path or user@host:path.")
        if "@" not in match["host"] and "@" in match["path"].partition("/")[0]:
            raise PublishError("TARGET looks like user:password@host: ssh takes no password there.")
        if (program := shutil.which("rsync")) is None:
            raise PublishError("rsync is not installed on this machine; it does the transfer.")
        self.shown = shown
        self._control = control / "c"
        self._ssh = [*_words(ssh), *_shared(ssh, self._control)]
        self._host = match["host"]
        self._base = f"{match['host']}:{match['path'].rstrip('/')}/"
        self._command = [
            program,
            f"--rsh={shlex.join(self._ssh)}",
            "--secluded-args",  # the shell over there sees no path
            f"--timeout={_SILENCE_SECONDS}",
            "--no-human-readable",
        ]

    def listing(self, below: str = "", *, is_deep: bool = False) -> list[Entry]:
        """What is directly in the folder, or in one below it; with `is_deep` also what lies deeper,
        by its path. Raises `Missing`."""
        with tempfile.TemporaryDirectory() as nothing:
            said = self._run(
                "--dry-run",
                "--recursive" if is_deep else "--dirs",
                "--out-format=%l %M %n",
                f"{self._base}{below}/" if below else self._base,
                nothing + "/",
            )
        return [entry for line in said if (entry := _entry(line))]

    def fetch(self, names: Iterable[str], into: Path) -> None:
        """Copy these files (paths below the folder) to the same paths below `into`, times kept."""
        self._run(
            "--files-from=-", "--times", "--copy-links", self._base, f"{into}/",
            answer="\n".join(names),
        )  # fmt: skip

    def differing(self, stage: Path) -> set[str]:
        """Of the files staged and there, those with other bytes, by their path."""
        return set(
            self._run(
                "--dry-run", "--recursive", "--copy-links", "--checksum", "--existing",
                "--out-format=%n", f"{stage}/", self._base,
            )
        )  # fmt: skip

    def send(
        self, stage: Path, *, overwrite: bool, told: Callable[[int], object] | None = None
    ) -> None:
        """Put what is staged to the same paths there; what is there with the same bytes is left.

        All of it gets its names at the end. `told` learns the count of bytes that have left.
        """
        self._run(
            "--recursive", "--copy-links", "--checksum", "--delay-updates",
            "--no-perms", "--chmod=ugo=rwX",  # new files as the umask over there has it
            "--info=progress2", "--outbuf=N",
            *(() if overwrite else ("--ignore-existing",)),
            f"{stage}/", self._base,
            told=told,
        )  # fmt: skip

    def remove(self, names: Collection[str]) -> None:
        """Remove these files (paths below the folder), those that are there."""
        with tempfile.TemporaryDirectory() as nothing:
            for name in names:  # their folders must be here: those that are not would go as well
                Path(nothing, name).parent.mkdir(parents=True, exist_ok=True)
            self._run(
                "--files-from=-", "--delete-missing-args", f"{nothing}/", self._base,
                answer="\n".join(names),
            )  # fmt: skip

    def close(self) -> None:
        """End the connection."""
        if self._control.exists():
            subprocess.run(  # noqa: S603 - a list of arguments, no shell
                [*self._ssh, "-O", "exit", self._host],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )

    def _run(
        self,
        *arguments: str,
        answer: str = "",
        told: Callable[[int], object] | None = None,
    ) -> list[str]:
        """The lines of its output."""
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as given:
            given.write(answer.encode())
            given.seek(0)
            process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
                [*self._command, *arguments],
                stdin=given,  # ssh asks a terminal for pass phrases, not this
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "TZ": "UTC0", "LC_ALL": "C"},
            )
            with process:
                assert process.stdout is not None
                lines = list(_lines(process.stdout.fileno(), told))
            errors.seek(0)
            self._check(process.returncode, errors.read().decode("utf-8", "replace"))
        return lines

    def _check(self, code: int, said: str) -> None:
        if code == 0:
            return
        sentence = " ".join(said.split())[:_SAID] or f"rsync ended with exit code {code}"
        if code == _SOME_ARE_MISSING and "No such file or directory" in said:
            raise Missing(f"{self.shown}: {sentence}")
        raise PublishError(f"{self.shown}: {sentence}")


def looks_remote(text: str) -> bool:
    """Whether it is `host:path` rather than a path: a colon before the first slash, as for scp."""
    return ":" in text.partition("/")[0]


def _words(ssh: str) -> list[str]:
    """The command in words. Raises `PublishError` for one that rsync cannot be told of.

    It splits the command again, and knows quotation marks, but none within others.
    """
    try:
        words = shlex.split(ssh)
    except ValueError as problem:
        raise PublishError(f"The ssh command {ssh!r} cannot be read: {problem}.") from problem
    if not words or any("'" in word for word in words):
        raise PublishError(f"The ssh command {ssh!r} cannot be used.")
    return words


def _shared(ssh: str, path: Path) -> list[str]:
    """What has OpenSSH use one connection for all: each costs a second, and maybe a pass phrase.

    Not where the folder for temporary files has too long a name for a socket.
    """
    if os.path.basename(_words(ssh)[0]) != "ssh" or len(os.fsencode(path)) > _LONGEST_SOCKET:
        return []
    return ["-o", "ControlMaster=auto", "-o", f"ControlPath={path}", "-o", "ControlPersist=60"]


def _entry(line: str) -> Entry | None:
    if (match := _LISTED.fullmatch(line)) is None:
        return None
    mtime = datetime.strptime(match[2], "%Y/%m/%d-%H:%M:%S").replace(tzinfo=UTC)
    name = match[3]
    return Entry(name.rstrip("/"), int(match[1]), mtime, name.endswith("/"))


def _lines(output: int, told: Callable[[int], object] | None) -> Iterator[str]:
    """Lines of a pipe as they come; those of the progress, which end with CR, are told instead."""
    rest = b""
    while piece := os.read(output, 65_536):
        *lines, rest = (rest + piece).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace")
            if told and (match := _PROGRESS.match(text)):
                told(int(match[1]))
            elif text:
                yield text


def stage_files(stage: Path, files: Iterable[tuple[str, Path | bytes]]) -> None:
    """Lay out what is to be sent: a link to a file of this machine, or content, for each path."""
    for name, source in files:
        place = stage / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            place.write_bytes(source)
        else:
            place.symlink_to(source.resolve())

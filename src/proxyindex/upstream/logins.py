"""What the user's netrc file has for a host; whoever sends credentials asks here."""

from __future__ import annotations

import netrc
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_LARGEST = 1024**2  # bytes; the parser holds several times as much


class InvalidNetrc(ValueError):
    """The file that $NETRC names cannot be read or understood."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is no readable netrc file")
        self.path = path


@dataclass(frozen=True, slots=True)
class Login:
    """One entry, and the file it is in. The password may be empty."""

    username: str
    password: str = field(repr=False)
    path: Path


def login(host: str, environ: Mapping[str, str]) -> Login | None:
    """The entry of `$NETRC`, or else of `~/.netrc`, for this very host.

    The entry `default` is not used: it would send a password to anybody. A broken `~/.netrc` counts
    as none, for it was not written for us. Raises `InvalidNetrc` for one that $NETRC names, unless
    that says that there is none (`/dev/null`).
    """
    explicit = environ.get("NETRC")
    home = environ.get("HOME")
    if explicit == os.devnull:
        return None
    if not (path := Path(explicit) if explicit else home and Path(home) / ".netrc"):
        return None
    try:
        found = _read(path).hosts.get(host)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as problem:
        if explicit:
            raise InvalidNetrc(path) from problem
        return None
    return Login(found[0], found[2] or "", path) if found and found[0] else None


def _read(path: Path) -> netrc.netrc:
    """Whatever else bears the name may have no end, or nobody who writes to it."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
        raise OSError("no regular file, or a very large one")
    return netrc.netrc(str(path))

"""Users and passwords in files as Apache's `htpasswd` writes them: `name:hash`, a line each."""

import hmac
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from proxyindex.access import is_user_name
from proxyindex.disk import Signature
from proxyindex.users.followed import AccountsError, Followed, changing, read_whole, replace
from proxyindex.users.hashes import PasswordHashes

log = logging.getLogger(__name__)

Witness = tuple[str, Signature | None]

_BROKEN: Mapping[str, str] = MappingProxyType({})  # nobody knows who is in it


class Htpasswd:
    """The users of some files. In several files, the first that has a user counts.

    Behind a file that cannot be read nobody is let in: it might have the user, with another
    password or none.
    """

    def __init__(self, paths: Sequence[Path], hashes: PasswordHashes) -> None:
        self._hashes = hashes
        self._files = [Followed(path, partial(self._parse, path), broken=_BROKEN) for path in paths]
        self._key = secrets.token_bytes(16)

    def verify(self, user: str, password: str) -> tuple[bool, list[Witness]]:
        """Whether this is the user's password, and the state of the files that say so.

        Takes a tenth of a second or more, for users that do not exist as for those that do. Reads
        files: not for the event loop.
        """
        witnesses: list[Witness] = []
        everybody: dict[str, str] = {}
        is_told = True
        for file in self._files:
            found, users = file.now()
            witnesses.append((str(file.path), found))
            is_told = is_told and users is not _BROKEN
            if is_told:
                everybody = {**users, **everybody}
        hashed = everybody.get(user)
        if hashed is None:
            if everybody:
                self._hashes.verify(password, self._somebodys(user, everybody))
            return False, witnesses
        return self._hashes.verify(password, hashed), witnesses

    def faults(self) -> Iterator[AccountsError]:
        """Why a file cannot be used, of each that cannot; logs lines that cannot."""
        for file in self._files:
            try:
                file.check()
            except AccountsError as problem:
                yield problem

    def _somebodys(self, user: str, everybody: Mapping[str, str]) -> str:
        # always the same for one name, so that repetition shows no more than the first try
        drawn = int.from_bytes(hmac.digest(self._key, user.encode(), "sha256")[:8])
        return sorted(everybody.values())[drawn % len(everybody)]

    def _parse(self, path: Path, body: bytes) -> Mapping[str, str]:
        users: dict[str, str] = {}
        for number, line in enumerate(body.decode().splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            user, _, rest = line.strip().partition(":")
            hashed = rest.partition(":")[0]
            if is_user_name(user) and self._hashes.is_readable(hashed):
                users.setdefault(user, hashed)
            else:
                log.warning(
                    "line %d of %s is left out: the name of its user or the kind of its hash "
                    "cannot be used (`proxyindex user add` writes one that can)",
                    number,
                    path,
                )
        return users


def names(path: Path) -> list[str]:
    """The names in the file, in order. Raises `AccountsError`."""
    return [_user_of(line) for line in _lines(read_whole(path)) if _user_of(line)]


def put(path: Path, user: str, hashed: str) -> bool:
    """Give the user this hash; whether there was one before. Raises `AccountsError`."""
    with changing(path) as body:
        lines, new = _lines(body), f"{user}:{hashed}"
        kept = [new if _user_of(line) == user else line for line in lines]
        replace(path, _joined(kept if new in kept else [*kept, new]))
        return new in kept


def remove(path: Path, user: str) -> bool:
    """Take the user out; whether there was one. Raises `AccountsError`."""
    if not read_whole(path):  # nor is a folder made for it
        return False
    with changing(path) as body:
        lines = _lines(body)
        kept = [line for line in lines if _user_of(line) != user]
        if len(kept) < len(lines):
            replace(path, _joined(kept))
        return len(kept) < len(lines)


def _lines(body: bytes) -> list[str]:
    try:
        return body.decode().splitlines()
    except UnicodeDecodeError as problem:
        raise AccountsError("The password file is not UTF-8 text.") from problem


def _joined(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _user_of(line: str) -> str:
    return "" if line.startswith("#") else line.strip().partition(":")[0]

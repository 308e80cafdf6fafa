"""Users, passwords and tokens for tests, and how they are shown to a server."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt

from proxyindex import disk
from proxyindex.access import Scope
from proxyindex.users import htpasswd
from proxyindex.users.tokens import TokenFile


def basic(user: str, password: str, encoding: str = "utf-8") -> dict[str, str]:
    """The header of a log-in (RFC 7617)."""
    shown = base64.b64encode(f"{user}:{password}".encode(encoding)).decode()
    return {"authorization": f"Basic {shown}"}


@dataclass(frozen=True, slots=True)
class Accounts:
    """A folder with a file of users and one of tokens."""

    folder: Path

    @property
    def htpasswd(self) -> Path:
        return self.folder / "users.htpasswd"

    @property
    def tokens(self) -> TokenFile:
        return TokenFile(self.folder / "tokens.json")

    @property
    def toml(self) -> str:
        """The two keys of a configuration file."""
        return f'htpasswd = ["{self.htpasswd}"]\ntokens = "{self.tokens.path}"\n'

    def user(self, name: str, password: str) -> None:
        """Add the user, or change his password; with a hash that takes a millisecond."""
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        htpasswd.put(self.htpasswd, name, hashed)

    def token(self, user: str, **scope: Any) -> str:
        """A new token; `scope` as `access.Scope` has it."""
        return self.tokens.create(user, Scope(**scope))[0]

    def is_settled(self) -> bool:
        """Whether the last writes can be told from the next: only then are log-ins remembered."""
        found = map(disk.signature, (self.htpasswd, self.tokens.path))
        return all(one is None or disk.is_settled(one, time.time_ns()) for one in found)

    def revoke_all(self) -> None:
        self.tokens.revoke(frozenset(one.id for one in self.tokens.all()))

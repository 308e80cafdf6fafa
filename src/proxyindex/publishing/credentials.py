"""User name and password for an upload: from the environment, netrc or keyring, never elsewhere."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from proxyindex.access import TOKEN_USER
from proxyindex.publishing.target import PublishError
from proxyindex.upstream.logins import InvalidNetrc, login

USERNAME = "PROXYINDEX_PUBLISH_USERNAME"
PASSWORD = "PROXYINDEX_PUBLISH_PASSWORD"  # noqa: S105 - the name of a variable
TOKEN = "PROXYINDEX_PUBLISH_TOKEN"  # noqa: S105 - the name of a variable

_KEYRING_SECONDS = 60.0  # somebody may have to unlock it


@dataclass(frozen=True, slots=True)
class Credentials:
    """What to say to one origin."""

    username: str
    password: str = field(repr=False)

    def hide(self, text: str) -> str:
        """The text without the password, be it plain or as it goes over the wire."""
        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        for secret in filter(None, (pair, self.password)):
            text = text.replace(secret, "***")
        return text


def find(url: str, environ: Mapping[str, str]) -> Credentials | None:
    """The credentials for uploads to `url`, `None` to go without.

    Raises `PublishError` for variables that do not fit each other and a netrc file that is broken.
    """
    username, password = environ.get(USERNAME), environ.get(PASSWORD)
    if token := environ.get(TOKEN):
        if password:
            raise PublishError(f"Both {TOKEN} and {PASSWORD} are set; set one of them.")
        return Credentials(username or TOKEN_USER, token)
    if password:
        if not username:
            raise PublishError(f"{PASSWORD} is set without {USERNAME}.")
        return Credentials(username, password)
    found = stored(url, environ)
    if found and username in (None, "", found.username):
        return found
    return _from_keyring(url, username or None)


def stored(url: str, environ: Mapping[str, str]) -> Credentials | None:
    """What netrc has for the host of `url`. Raises `PublishError` if $NETRC cannot be read."""
    try:
        entry = login(urlsplit(url).hostname or "", environ)
    except InvalidNetrc as problem:
        raise PublishError(f"NETRC is set, but {problem}.") from problem
    return Credentials(entry.username, entry.password) if entry else None


def login_hint(known: Credentials | None) -> str:
    """What to do about a 401."""
    if known:
        return f"The credentials of {known.username!r} were not accepted."
    return (
        f"No credentials were found: set {TOKEN}, or {USERNAME} and {PASSWORD}, "
        "or use netrc or keyring."
    )


def _from_keyring(url: str, username: str | None) -> Credentials | None:
    """What the `keyring` program has for the URL, or else for its host: the order pip asks in.

    It runs as a process of its own, like pip's: its backends are no code of ours.
    """
    if (program := _keyring()) is None:
        return None
    for service in (url, urlsplit(url).netloc):
        if username is None and (found := _pair(_asked([*program, *_PAIR, "get", service]))):
            return found
        user = username or TOKEN_USER
        if password := _asked([*program, "get", service, user]):
            return Credentials(user, password)
    return None


_PAIR = ("--mode", "creds", "--output", "json")  # keyring 25.3 and later


def _keyring() -> list[str] | None:
    if program := shutil.which("keyring"):
        return [program]
    if importlib.util.find_spec("keyring"):
        return [sys.executable, "-m", "keyring"]
    return None


def _asked(command: list[str]) -> str:
    """What it answers, without the line's end; nothing where it has nothing, or no answer."""
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_KEYRING_SECONDS,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    answer = done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
    return answer.removesuffix("\n").removesuffix("\r")


def _pair(answer: str) -> Credentials | None:
    try:
        document = json.loads(answer)
        username, password = document["username"], document["password"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if isinstance(username, str) and isinstance(password, str) and username and password:
        return Credentials(username, password)
    return None

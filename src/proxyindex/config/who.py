"""The kinds of value that name people and those who vouch for them; as `kinds.py`."""

from __future__ import annotations

import re

from proxyindex.access import LOGGED_IN, UNIX_PEER, Grant, is_user_name
from proxyindex.config import kinds
from proxyindex.config.kinds import Kind, Unfit, expecting, text_of

_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


def _grants(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@expecting("WHO or WHO PROJECT-GLOB…, such as '@release' or 'ci acme-*'")
def _grant(value: object) -> Grant:
    return Grant.parse(text_of(value))


def _read_grant(value: object) -> str:
    grant = _grant(value)
    for glob in grant.projects:
        try:
            kinds.PATTERNS.read(glob)
        except Unfit as unfit:
            raise Unfit(f"behind {grant.who!r} {unfit}") from None
    return str(grant)


@expecting('a table of lists of user names, such as release = ["alice", "bob"]')
def _read_groups(value: object) -> tuple[tuple[str, tuple[str, ...]], ...] | None:
    if not isinstance(value, dict):
        return None
    for name, users in value.items():
        if not is_user_name(name) or f"@{name}" == LOGGED_IN or not isinstance(users, list):
            raise Unfit(f"; none may be called {LOGGED_IN[1:]}")
        if not all(isinstance(user, str) and is_user_name(user) for user in users):
            return None
    return tuple((name, tuple(users)) for name, users in value.items())


@expecting("the name of a header field other than Authorization, such as Remote-User")
def _read_header(value: object) -> str | None:
    name = text_of(value)
    return name if _HEADER.fullmatch(name) and name.lower() != "authorization" else None


def _read_peer(value: object) -> object:
    if value == UNIX_PEER:
        return UNIX_PEER
    try:
        return kinds.NETWORKS.read(value)
    except Unfit as unfit:
        raise Unfit(f"{unfit}, or {UNIX_PEER}") from None


GRANTS = Kind("WHO", _read_grant, split=_grants, items="grants")
FILES = Kind("FILE", kinds.PATH.read, split=kinds.FOLDERS.split, items="files")
GROUPS = Kind("TABLE", _read_groups)
HEADER = Kind("NAME", _read_header)
PEERS = Kind("PEER", _read_peer, split=kinds.NETWORKS.split, items="addresses, networks or unix")

"""Addresses of hosts, asked for once by all who connect within half a minute.

A client that installs has us make dozens of connections at a time, and many name servers drop what
comes in bursts; then glibc waits 5 s before it asks again, longer than a connection may take
(measured: one of ten installs with uv stood still for 3 s). Only of hosts that the operator named:
what others resolve to is judged anew each time, see `network`.
"""

import socket
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from proxyindex.memo import Memo

_FRESH_SECONDS = 30.0
_LOST_SECONDS = 1.0  # after which an answer that has not come is taken for lost
_MOST_HOSTS = 100

Entry = tuple[Any, ...]  # as `getaddrinfo` gives it


@dataclass(slots=True)
class _Host:
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    found: Sequence[Entry] = ()
    until: float = 0.0


class Hostnames:
    """What is known of some hosts. An old answer is better than none."""

    def __init__(self) -> None:
        self._hosts: Memo[tuple[str, int], _Host] = Memo(_MOST_HOSTS)

    async def addresses(self, host: str, port: int) -> Sequence[Entry]:
        """As `getaddrinfo` tells them. Raises its `OSError` and `UnicodeError`."""
        known = self._hosts.get((host, port))
        if known is None:
            self._hosts.put((host, port), known := _Host())
        async with known.lock:
            if time.monotonic() >= known.until:
                known.found = await ask(host, port, known.found)
                known.until = time.monotonic() + _FRESH_SECONDS
            return known.found

    def forget(self, host: str, port: int) -> None:
        """None of the addresses answers: they may be old."""
        self._hosts.pop((host, port))


async def ask(host: str, port: int, old: Sequence[Entry] = ()) -> Sequence[Entry]:
    """What the name server says now, asked twice if its answer may be lost, or `old` if it does not
    say: each address once, families in turn. Raises `OSError`, and `UnicodeError` for a name that
    no name server can hold."""
    with anyio.move_on_after(_LOST_SECONDS):
        try:
            return _in_turn(await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except socket.gaierror as problem:
            if not old or problem.errno != socket.EAI_AGAIN:
                raise
    return old or _in_turn(await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def _in_turn(found: Iterable[Entry]) -> Sequence[Entry]:
    """Where one family is dead, the second to be tried is of the other (RFC 8305, 4)."""
    before: Counter[int] = Counter()
    places = {}
    for entry in dict.fromkeys(found):
        places[entry] = before[entry[0]]
        before[entry[0]] += 1
    return sorted(places, key=places.__getitem__)

"""Slows those who guess passwords, without letting them keep anybody else out.

Guesses are counted per address and per user name, in buckets that refill with time. Whoever once
logged in from an address is counted there by himself alone: others who guess at his name, or from
behind the same address, do not use his guesses up. Memory is bounded whatever is tried; each
process counts for itself. Tokens are not counted: nobody guesses 256 random bits.
"""

import ipaddress
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from proxyindex.memo import Memo

_MOST = 10_000  # of each kind; the longest unused are forgotten


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class _Buckets:
    """Guesses that are left, by key."""

    def __init__(self, burst: int, seconds: float, clock: Callable[[], float]) -> None:
        self._burst = float(burst)
        self._rate = 1.0 / seconds
        self._clock = clock
        self._buckets: Memo[str, _Bucket] = Memo(_MOST)

    def wait(self, key: str) -> float:
        """Seconds until a guess may be made; 0 if it may be made now."""
        left = self._left(key)
        return 0.0 if left >= 1 else (1 - left) / self._rate

    def add(self, key: str, guesses: float) -> None:
        """Give guesses back, or take them (negative)."""
        left = min(self._burst, self._left(key) + guesses)
        self._buckets.put(key, _Bucket(left, self._clock()))

    def _left(self, key: str) -> float:
        bucket = self._buckets.get(key)
        if bucket is None:
            return self._burst
        return min(self._burst, bucket.left + (self._clock() - bucket.at) * self._rate)


class Attempts:
    """How often passwords may be tried.

    An address may guess 20 times, then once in 5 seconds; all of an IPv6 /48 100 times, then once a
    second; at one user name all addresses together 40 times, then once a second. The first try of
    an address at a name is not counted there but among first tries at it, of which there may be
    400, then one a second: who knows his password is not locked out by what a few others did.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._addresses = _Buckets(20, 5.0, clock)
        self._sites = _Buckets(100, 1.0, clock)
        self._users = _Buckets(40, 1.0, clock)
        self._firsts = _Buckets(400, 1.0, clock)
        self._pairs = _Buckets(20, 5.0, clock)
        self._proven: Memo[str, None] = Memo(_MOST)
        self._tried: Memo[str, None] = Memo(_MOST)

    def take(self, address: str, user: str) -> float:
        """Count one guess; 0.0, or how many seconds to wait, and then nothing is counted."""
        counters = self._counters(address, user)
        if wait := max(buckets.wait(key) for buckets, key in counters):
            return wait
        for buckets, key in counters:
            buckets.add(key, -1)
        self._tried.put(_pair(address, user), None)
        return 0.0

    def succeeded(self, address: str, user: str) -> None:
        """The last one counted was right: it was no guess."""
        for buckets, key in [*self._counters(address, user), (self._firsts, user)]:
            buckets.add(key, 1)
        pair = _pair(address, user)
        self._tried.pop(pair)
        self._proven.put(pair, None)

    def _counters(self, address: str, user: str) -> list[tuple[_Buckets, str]]:
        pair = _pair(address, user)
        if pair in self._proven:
            return [(self._pairs, pair)]
        name = (self._users if pair in self._tried else self._firsts, user)
        found = [(self._addresses, _network(address)), name]
        return [*found, (self._sites, site)] if (site := _site(address)) else found


def seconds(wait: float) -> int:
    """A wait as `Retry-After` tells it."""
    return max(1, math.ceil(wait))


def _pair(address: str, user: str) -> str:
    return f"{_network(address)} {user}"


def _network(address: str) -> str:
    """Who an address is counted as: one may have all of an IPv6 /64 to himself."""
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed or address[:100])


def _site(address: str) -> str | None:
    """Whose networks these are, for IPv6: whoever asks for one is given 65,536 of them."""
    parsed = _parsed(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 48), strict=False))
    return None


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    # a socket for both kinds shows IPv4 so
    return getattr(parsed, "ipv4_mapped", None) or parsed

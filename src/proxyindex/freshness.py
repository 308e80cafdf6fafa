"""Whether a stored page may be served: pure decisions over what was stored and a clock.

RFC 9111 for the lifetime, RFC 5861 for the two stale windows. Heuristic freshness (a share of the
Last-Modified age) is wrong for indexes and not used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto

MAX_LIFETIME = 3600.0  # seconds; an upstream that says more is not believed
_ETERNITY = 2.0**31  # seconds; what any longer time is taken for (RFC 9111, 1.2.2)


class Freshness(Enum):
    FRESH = auto()  # answer at once, no network
    STALE = auto()  # answer at once, refresh behind it
    EXPIRED = auto()  # ask first; answer from the store if upstream fails or is slow
    MISSING = auto()  # nothing to serve, or too old to be served


@dataclass(frozen=True, slots=True)
class FreshnessRules:
    """Seconds. `page_ttl` is the lifetime where upstream names none, and the longest otherwise."""

    page_ttl: float = 600.0
    stale_while_revalidate: float = 300.0
    stale_if_error: float = 365 * 86400.0
    negative_ttl: float = 60.0


def allowed_lifetime(lifetime: float | None, rules: FreshnessRules) -> float:
    """Seconds for which a page is fresh whose upstream said `lifetime`."""
    return rules.page_ttl if lifetime is None else min(lifetime, rules.page_ttl)


def freshness(
    validated_at: float, lifetime: float | None, now: float, rules: FreshnessRules
) -> Freshness:
    """State at `now` of a page last validated at `validated_at` (seconds since the epoch).

    A page from the future means that the clock was set back: its age is unknown, so it is asked
    for again.
    """
    age = now - validated_at
    allowed = allowed_lifetime(lifetime, rules)
    if age < 0:
        return Freshness.EXPIRED
    if age < allowed:
        return Freshness.FRESH
    # a lifetime of 0 is upstream's (or the operator's) word that every answer needs asking
    if allowed > 0 and age < allowed + rules.stale_while_revalidate:
        return Freshness.STALE
    if age < allowed + rules.stale_if_error:
        return Freshness.EXPIRED
    return Freshness.MISSING


def upstream_lifetime(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer with these headers stays fresh for a shared cache, if they say so.

    `s-maxage`, else `max-age`, else `Expires` - `Date`, less `Age` (RFC 9111, 4.2); `no-cache` and
    `no-store` mean 0. Header names are looked up in lower case.
    """
    directives = _directives(headers.get("cache-control", ""))
    if "no-cache" in directives or "no-store" in directives:
        return 0.0
    lifetime = _seconds(directives.get("s-maxage"))
    if lifetime is None:
        lifetime = _seconds(directives.get("max-age"))
    if lifetime is None and "max-age" not in directives and "expires" in headers:
        lifetime = _until_expiry(headers)
    if lifetime is None:
        return 0.0 if {"max-age", "s-maxage"} & directives.keys() else None
    age = _seconds(headers.get("age")) or 0.0
    return min(max(0.0, lifetime - age), MAX_LIFETIME)


def _directives(header: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in header.split(",") if part.strip())
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _seconds(text: str | None) -> float | None:
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return min(float(text), _ETERNITY)


def _until_expiry(headers: Mapping[str, str]) -> float:
    # an invalid Expires, such as "0", means already expired (RFC 9111, 5.3)
    try:
        expires = parsedate_to_datetime(headers["expires"])
        return (expires - parsedate_to_datetime(headers["date"])).total_seconds()
    except (ValueError, KeyError, TypeError, OverflowError):
        return 0.0

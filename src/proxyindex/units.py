"""Sizes and times as people write them (`50GB`, `1h30m`) and as programs count them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

_BYTES = {
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgtp", 1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgtp", 1)},
}
# read too: `50G` is 50GB, and a bare number is bytes
_SHORT = {"": 1, **{prefix: 1000**power for power, prefix in enumerate("kmgtp", 1)}}
_SPELLED = {"b": "B", "kb": "kB", "kib": "KiB"}
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)\s?([a-z]{0,3})", re.ASCII)
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s?(ms|[wdhms])\s?", re.ASCII)
_BARE = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?", re.ASCII)

LARGEST_SIZE = 2**63 - 1
LONGEST_SECONDS = 100 * 366 * 86_400  # beyond this dates overflow somewhere


def parse_size(text: str) -> int:
    """Bytes for `50GB` (powers of 1000), `512MiB` (powers of 1024), `50G` (= GB) or `4096`.

    Case does not matter. Raises `ValueError` for anything else or beyond 2^63-1.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if not match or (factor := (_BYTES | _SHORT).get(match[2])) is None:
        raise ValueError(f"not a size: {text!r}")
    size = int(Decimal(match[1]) * factor)
    if size > LARGEST_SIZE:
        raise ValueError(f"not a size: {text!r}")
    return size


def format_size(size: int) -> str:
    """The shortest exact text: 50_000_000_000 is `50GB`, 67_108_864 is `64MiB`, 1001 is `1001B`."""
    exact = [(factor, unit) for unit, factor in _BYTES.items() if size % factor == 0]
    factor, unit = max(exact) if size else (1, "b")
    spelled = _SPELLED.get(unit) or unit[0].upper() + unit[1:-1] + "B"
    return f"{size // factor}{spelled}"


def parse_duration(text: str) -> float:
    """Seconds, to the millisecond, for `10m`, `1h30m`, `7d`, `2w`, `500ms` or `90` (seconds).

    Raises `ValueError` for anything else or beyond a hundred years.
    """
    text = text.strip().lower()
    if _BARE.fullmatch(text):
        text += "s"
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text):
        raise ValueError(f"not a duration: {text!r}")
    factors = _MILLISECONDS | {"w": 7 * _MILLISECONDS["d"]}
    milliseconds = int(sum(Decimal(number) * factors[unit] for number, unit in parts))
    if milliseconds > LONGEST_SECONDS * 1000:
        raise ValueError(f"not a duration: {text!r}")
    return milliseconds / 1000


def format_minute(seconds: float) -> str:
    """The minute in UTC: 0.0 since the epoch is `1970-01-01 00:00`. A number that no calendar has,
    as it is."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def format_duration(seconds: float) -> str:
    """The exact text down to milliseconds: 5400.0 is `1h30m`, 604800.0 is `7d`, 0.0 is `0s`."""
    rest = round(seconds * 1000)
    parts = []
    for unit, factor in _MILLISECONDS.items():
        count, rest = divmod(rest, factor)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"

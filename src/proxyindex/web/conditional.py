"""Conditional and range requests, decided purely (RFC 9110, 13 and 14)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import NamedTuple

from starlette.datastructures import Headers

# one range of at most 18 digits; several ranges are answered with the whole, which is always legal
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*\Z", re.IGNORECASE)


class Span(NamedTuple):
    """Bytes from `start` up to `stop`, exclusive."""

    start: int
    stop: int


class Unsatisfiable:
    """The range lies outside the file: 416."""


UNSATISFIABLE = Unsatisfiable()


def http_date(moment: datetime) -> str:
    """IMF-fixdate of an aware time."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def whole_field(headers: Headers, name: str) -> str | None:
    """All of a field that is a list, which may come in several lines (RFC 9110, 5.3)."""
    lines = headers.getlist(name)
    return ", ".join(lines) if lines else None


def is_another(headers: Headers, etag: str | None, modified: datetime | None = None) -> bool:
    """Whether the client wants what was here before: If-Match (strong comparison), else
    If-Unmodified-Since (RFC 9110, 13.2.2)."""
    if (tags := whole_field(headers, "if-match")) is not None:
        wanted = [tag.strip() for tag in tags.split(",")]
        return "*" not in wanted and etag not in wanted
    since = _parsed_date(headers.get("if-unmodified-since"))
    return since is not None and modified is not None and modified.replace(microsecond=0) > since


def is_not_modified(headers: Headers, etag: str | None, modified: datetime | None = None) -> bool:
    """Whether the client's copy is current: If-None-Match (weak comparison), else
    If-Modified-Since (RFC 9110, 13.2.2)."""
    if (tags := whole_field(headers, "if-none-match")) is not None:
        wanted = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        return etag is not None and ("*" in wanted or etag in wanted)
    since = _parsed_date(headers.get("if-modified-since"))
    return since is not None and modified is not None and modified.replace(microsecond=0) <= since


def requested_span(
    headers: Mapping[str, str], size: int, etag: str | None, modified: datetime | None
) -> Span | Unsatisfiable | None:
    """The one range asked for, or `None` where the whole file is the answer.

    Malformed, foreign and multiple ranges are ignored, and a Range whose If-Range does not match
    strongly, too.
    """
    if not _if_range_holds(headers.get("if-range"), etag, modified):
        return None
    return span_of(headers.get("range", ""), size)


def span_of(field: str, size: int) -> Span | Unsatisfiable | None:
    """The one range that a Range field asks for, as `requested_span`."""
    match = _RANGE.match(field)
    if match is None:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        length = int(last)
        return Span(max(0, size - length), size) if length and size else UNSATISFIABLE
    start, stop = int(first), int(last) + 1 if last else size
    if stop <= start and last:
        return None
    return Span(start, min(stop, size)) if start < size else UNSATISFIABLE


def _if_range_holds(condition: str | None, etag: str | None, modified: datetime | None) -> bool:
    if condition is None:
        return True
    if condition.startswith('"'):
        return condition == etag
    date = _parsed_date(condition)  # a weak tag is no date and never holds
    return date is not None and modified is not None and modified.replace(microsecond=0) == date


def _parsed_date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # years and offsets of twenty digits
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)

"""Targets for what lies in the cache, where anything may have happened to it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

from proxyindex.disk import is_sha256
from proxyindex.freshness import FreshnessRules, freshness
from proxyindex.store import facts, pages
from proxyindex.store.seal import sealed


def page_head(line: bytes) -> None:
    """The head of a stored page, its seal broken and whole: sound, or a miss."""
    _check_head(line)
    _check_head(sealed(line))


def _check_head(line: bytes) -> None:
    try:
        head = pages._parse_head(line)
    except (ValueError, TypeError, RecursionError):  # what `PageStore` takes for a miss
        return
    assert isinstance(head.url, str)
    assert head.serial is None or type(head.serial) is int
    for instant in (head.fetched_at, head.validated_at, head.lifetime or 0):
        assert math.isfinite(instant)
    freshness(head.validated_at, head.lifetime, 1.8e9, FreshnessRules())
    assert head.etag is None or isinstance(head.etag, str) or not head.etag
    assert repr(pages._parse_head(sealed(json.dumps(asdict(head)).encode()))) == repr(head)


def fact_line(line: bytes) -> None:
    """A line of facts, its seal broken and whole: types and digests sound, or no fact."""
    _check_fact(line)
    _check_fact(sealed(line))


def _check_fact(line: bytes) -> None:
    parsed = facts._parse(line)
    if parsed is None:
        return
    filename, fact = parsed
    assert isinstance(filename, str)
    assert isinstance(fact.url, str)
    assert fact.size is None or (type(fact.size) is int and fact.size >= 0)
    assert fact.sha256 is None or is_sha256(fact.sha256)
    assert all(is_sha256(digest) for digest in fact.digests)
    assert fact.merged(fact) == fact

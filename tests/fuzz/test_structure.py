"""Inputs of the right shape with wrong things in them, and bombs, through the same targets."""

from __future__ import annotations

import gzip
import io
import json
import time
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings

from proxyindex import simple
from tests.fuzz.guard import MAX_GROWTH
from tests.fuzz.pages import BASE_URL, PROJECT
from tests.fuzz.structure import BUILT, tar_member
from tests.fuzz.targets import TARGETS

MIB = 1024**2
METADATA = "demo_pkg-1.0.dist-info/METADATA"


@pytest.mark.parametrize("name", BUILT)
def test_a_built_input_holds_all_promises(name: str) -> None:
    @settings(max_examples=100, suppress_health_check=list(HealthCheck))
    @given(BUILT[name])
    def check(data: bytes) -> None:
        TARGETS[name].run(data)

    check()


def _zip(*entries: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


def _overlapping() -> bytes:
    """A thousand entries that share one packed body of 1 MiB: a gigabyte from 60 kB."""
    whole = _zip(("x" * 4, bytes(MIB)))
    start = whole.rfind(b"PK\1\2")
    end = whole.rfind(b"PK\5\6")
    entry = whole[start:end]
    entries = b"".join(entry.replace(b"xxxx", b"%04d" % number) for number in range(1000))
    record = bytearray(whole[end:])
    record[8:10] = record[10:12] = (1000).to_bytes(2, "little")
    record[12:16] = len(entries).to_bytes(4, "little")
    return whole[:start] + entries + bytes(record)


BOMBS: list[tuple[str, Callable[[], bytes]]] = [
    ("wheel", lambda: _zip((METADATA, bytes(40 * MIB)))),
    ("wheel", lambda: _zip(*((f"{n}/x", b"") for n in range(5000)), (METADATA, b""))),
    ("wheel", _overlapping),
    ("zip-sdist", _overlapping),
    ("gzip-sdist", lambda: gzip.compress(bytes(80 * MIB), 9)),
    ("gzip-sdist", lambda: gzip.compress(gzip.compress(bytes(8 * MIB), 9), 9)),
    ("gzip-body", lambda: gzip.compress(b"") * 3000),
    ("gzip-body", lambda: gzip.compress(bytes(40 * MIB), 9)),
    ("tar-sdist", lambda: tar_member("x", b"L", 48 * MIB, bytes(48 * MIB))),
    ("core-metadata", lambda: b"Requires-Python: " + b"\n " * 30_000 + b">=3"),
    ("core-metadata", lambda: b"A: b\n" * 12_000),
    ("core-metadata", lambda: b"Name: a\n" + b"a:\n" * (3 * MIB)),
    ("core-metadata", lambda: b"Name: a\r" + b"a:\r" * (3 * MIB)),
    ("core-metadata", lambda: b"Name: a\n" + b" b\n" * (3 * MIB)),
    ("core-metadata", lambda: b"Name: " + "\U0001f40d".encode() * (2 * MIB)),
    ("json-page", lambda: b'{"files":[' + b"[" * 60_000),
    ("json-page", lambda: b'{"files":[' + b"{}," * 20_000 + b"{}]}"),
    ("json-page", lambda: b'{"files":["' + b"\\ud800" * 10_000 + b'"]}'),
    ("html-page", lambda: b"<title>Links for" + b"<a href=" * 8000 + b">"),
    ("html-page", lambda: b"<title>Links for</title>" + b"<!--" * 16_000 + b"-->"),
    ("html-page", lambda: b"<title>Links for</title><a href='" + b"&#x2f;" * 10_000 + b"'>"),
    ("html-list", lambda: b"<h1>Index of</h1>" + b"<a href=a/>" * 5900),
    ("accept", lambda: b"text/html;q=0.1," * 4000),
    ("accept", lambda: b"a" * 65_000),
    ("range", lambda: b"bytes=" + b" " * 65_000),
    ("conditional", lambda: b'"",' * 20_000),
    ("conditional", lambda: b"\n" + b"1 " * 30_000),
    ("caching", lambda: b"max-age=" + b"9" * 65_000),
    ("configuration", lambda: b"[policy]\ndeny = ['a<" + b" " * 60_000 + b"x']"),
    ("configuration", lambda: b"upstream = ['" + b"@" * 60_000 + b"']"),
    ("configuration", lambda: b"upstream = ['" + b"://" * 20_000 + b"']"),
    ("configuration", lambda: b"a" * 60_000 + b" = 1"),
    ("configuration", lambda: b"a." * 30_000 + b"a = 1"),
    ("configuration", lambda: b"[" + b"'a' . " * 10_000 + b"a]"),
    ("configuration", lambda: b"upstream = " + b"[" * 60_000),
    ("configuration", lambda: b"upstream = '" + b"a" * 60_000 + b"'"),
    ("rule", lambda: b"a<" + b" " * 60_000 + b"x"),
    ("filename", lambda: b"demo_pkg-" + b"1." * 30_000 + b"zip"),
    ("link", lambda: b"\n" + b"../" * 20_000 + b"demo_pkg-1.0.zip"),
]


@pytest.mark.parametrize(
    ("name", "make"), BOMBS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BOMBS)]
)
def test_a_bomb_takes_neither_a_second_nor_memory(name: str, make: Callable[[], bytes]) -> None:
    bomb = make()
    TARGETS[name].check(b"")  # what is imported late is not the bomb's
    tracemalloc.start()
    try:
        TARGETS[name].check(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_GROWTH
    started = time.process_time()
    TARGETS[name].check(bomb)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("kind", ["json", "html"])
def test_a_page_of_a_megabyte_takes_a_time_in_proportion(kind: str) -> None:
    names = [f"demo_pkg-1.{number}.zip" for number in range(16_000)]
    if kind == "json":
        body = json.dumps({"files": [{"url": name} for name in names]}).encode()
    else:
        body = b"<title>Links for</title>" + b"".join(
            f'<a href="{name}">{name}</a>'.encode() for name in names
        )
    assert len(body) < 1.2 * MIB
    started = time.process_time()
    _read_and_sent(body, simple.MediaType.JSON if kind == "json" else simple.MediaType.HTML)
    assert time.process_time() - started < 4.0


def _read_and_sent(body: bytes, form: simple.MediaType) -> None:
    page = simple.parse_page(
        body,
        form.content_type,
        project=PROJECT,
        base_url=BASE_URL,
        upstream="pypi",
    )
    assert len(page.files) == 16_000
    simple.render_page(page, form)

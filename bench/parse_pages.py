"""Time to read and write a page of 11,000 files, ours and with other libraries; no network.

    python bench/parse_pages.py             ours, and what is installed of the libraries compared
    python bench/parse_pages.py --hostile   seconds the HTML parsers need for 600 kB of bad markup

Numbers are the best of seven runs in milliseconds. Behind decisions 0010 and 0011.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

from proxyindex.names import is_safe_filename, normalize, parse_filename
from proxyindex.simple import MediaType, parse_page, render_page
from proxyindex.simple.entries import Entry
from proxyindex.simple.tags import tags

FILES = 11_000
SOURCE: dict[str, Any] = {
    "project": normalize("grpcio"),
    "base_url": "https://upstream.example/simple/grpcio/",
    "upstream": "up",
}
HOSTILE = {
    "<div> nested": "<div>",
    "<font> in <p>": "<font color={n}><p>",
    "open comments": "<!--",
    "open attributes": '<a href="',
    "attributes of one tag": "x{n}=1 ",
}
HOSTILE_BYTES = 600_000
PATIENCE_SECONDS = 60


def entry(number: int) -> dict[str, object]:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    tag = f"cp3{number % 40}-cp3{number % 40}-manylinux_2_17_x86_64.manylinux2014_x86_64"
    filename = f"grpcio-1.{number // 40}.0-{tag}.whl"
    return {
        "core-metadata": {"sha256": digest},
        "data-dist-info-metadata": {"sha256": digest},
        "filename": filename,
        "hashes": {"sha256": digest},
        "provenance": None,
        "requires-python": ">=3.8",
        "size": 1234567 + number,
        "upload-time": "2024-05-20T16:08:19.530618Z",
        "url": f"https://files.example/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{filename}",
        "yanked": False,
    }


def best(work: Callable[[], object], runs: int = 7) -> float:
    times = []
    for _ in range(runs):
        gc.collect()
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
        del result
    return min(times) * 1000


def report(label: str, work: Callable[[], object]) -> None:
    print(f"{label:<44}{best(work):8.1f} ms")


def optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name:<44}not installed")
        return None


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links.append(dict(attrs))


def html_readers() -> dict[str, Callable[[bytes], object]]:
    readers: dict[str, Callable[[bytes], object]] = {
        "tags": lambda body: list(tags(body.decode(), {"a"})),
        "html.parser": lambda body: Links(body.decode()).links,
    }
    if lexbor := optional("selectolax.lexbor"):
        readers["selectolax"] = lambda body: [
            node.attributes for node in lexbor.LexborHTMLParser(body).css("a[href]")
        ]
    if etree := optional("lxml.etree"):
        # an empty tree is None
        readers["lxml"] = lambda body: [
            dict(node.items())
            for root in (etree.HTML(body),)
            if root is not None
            for node in root.iter("a")
        ]
    return readers


def compare_json(body: bytes) -> None:
    import msgspec  # noqa: PLC0415  only for the comparison

    document = json.loads(body)
    report("json.loads", lambda: json.loads(body))
    report("json.dumps", lambda: json.dumps(document, separators=(",", ":")))
    if orjson := optional("orjson"):
        report("orjson.loads", lambda: orjson.loads(body))
        report("orjson.dumps", lambda: orjson.dumps(document))
    report("msgspec.json.decode, untyped", lambda: msgspec.json.decode(body))
    pieces = [msgspec.Raw(json.dumps(entry).encode()) for entry in document["files"]]
    decode = msgspec.json.Decoder(Entry).decode
    report("msgspec, one struct for each entry", lambda: [decode(piece) for piece in pieces])
    report("msgspec.json.encode", lambda: msgspec.json.encode(document))


def ours(body: bytes) -> bytes:
    """Reports our times; returns the page as HTML."""
    page = parse_page(body, MediaType.JSON, **SOURCE)
    html = render_page(page, MediaType.HTML)
    names = [file.filename for file in page.files]
    report("is_safe_filename, all", lambda: [is_safe_filename(name) for name in names])
    report("parse_filename, all", lambda: [parse_filename(name, page.name) for name in names])
    report("page from JSON", lambda: parse_page(body, MediaType.JSON, **SOURCE))
    report("page to JSON", lambda: render_page(page, MediaType.JSON))
    report("page from HTML", lambda: parse_page(html, MediaType.HTML, **SOURCE))
    report("page to HTML", lambda: render_page(page, MediaType.HTML))
    return html


def hostile_body(piece: str) -> bytes:
    count = HOSTILE_BYTES // len(piece)
    text = "".join(piece.replace("{n}", str(number)) for number in range(count))
    return (f"<a {text}>" if piece.startswith("x") else text).encode()


def read_hostile(reader: str, label: str) -> None:
    """Runs in a process of its own: some readers do not come back."""
    read, body = html_readers()[reader], hostile_body(HOSTILE[label])
    start = time.perf_counter()
    try:
        outcome = f"{len(read(body))} links"  # type: ignore[arg-type]
    except (ValueError, AssertionError, SyntaxError) as exc:
        outcome = type(exc).__name__
    print(f"{reader:<14}{label:<26}{time.perf_counter() - start:8.2f} s   {outcome}")


def compare_hostile() -> None:
    for reader in html_readers():
        for label in HOSTILE:
            command = [sys.executable, __file__, "--hostile", reader, label]
            try:
                subprocess.run(command, check=True, timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{reader:<14}{label:<26}  > {PATIENCE_SECONDS} s")


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--hostile", reader, label]:
            read_hostile(reader, label)
        case ["--hostile"]:
            compare_hostile()
        case _:
            files = [entry(number) for number in range(FILES)]
            body = json.dumps({"meta": {"api-version": "1.4"}, "files": files}).encode()
            html = ours(body)
            print(f"JSON {len(body) / 1e6:.1f} MB, HTML {len(html) / 1e6:.1f} MB; libraries alone:")
            compare_json(body)
            for name, read in html_readers().items():
                report(f"links of the HTML with {name}", lambda read=read: read(html))  # type: ignore[misc]


if __name__ == "__main__":
    main(sys.argv[1:])

"""The table of targets: what is fuzzed, with which seeds, words and largest input."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import archives, headers, pages, requests, settings, stored, uploads
from tests.fuzz.guard import bounded, confined

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True)
class Target:
    """`check` takes any bytes and raises `AssertionError`, or anything undocumented, on a fault.

    `words` are what its inputs are made of, for the fuzzer's dictionary. `max_len` is in bytes.
    """

    name: str
    check: Callable[[bytes], None]
    max_len: int
    words: tuple[str, ...] = ()
    may_open_files: bool = False

    @property
    def seeds(self) -> Path:
        return CORPUS / self.name

    def run(self, data: bytes) -> None:
        """Check one input. Raises `Excess` too when it takes too long, too much, or reaches out."""
        with bounded(), nullcontext() if self.may_open_files else confined():
            self.check(data)


_KEYS = (
    '"files":[{',
    '"filename":"',
    '"url":"',
    '"hashes":{"sha256":"',
    '"size":',
    '"upload-time":"2024-01-01T00:00:00Z"',
    '"requires-python":"',
    '"yanked":',
    '"core-metadata":',
    '"dist-info-metadata":',
    '"provenance":"https://',
    '"gpg-sig":true',
    '"meta":{"api-version":"1.4"}',
    '"versions":["1.0"]',
    '"project-status":{"status":"',
    '"quarantined"',
    "demo_pkg-1.0-py3-none-any.whl",
    "demo_pkg-1.0.tar.gz",
    "\\u0000",
    "\\ud800",
    "%2f",
    "%5c",
    "null",
    "true",
)
_TAGS = (
    '<a href="',
    "</a>",
    "<base href=",
    '<meta name="pypi:repository-version" content="1.0">',
    '<meta name="pypi:project-status" content="',
    "<title>Links for",
    "<h1>Index of",
    "<!--",
    "-->",
    "<script>",
    "</script>",
    "#sha256=",
    "data-requires-python=",
    "data-yanked",
    "data-core-metadata=",
    "data-dist-info-metadata=",
    "data-size=",
    "data-upload-time=",
    "data-provenance=",
    "data-gpg-sig=",
    "&gt;",
    "&#0;",
    "&#x2f;",
    "demo_pkg-1.0-py3-none-any.whl",
    "demo-pkg-1.0.tar.gz",
    "%2f",
    "../",
)
_MEDIA = (
    "application/vnd.pypi.simple.v1+json",
    "application/vnd.pypi.simple.v1+html",
    "application/vnd.pypi.simple.latest+json",
    "text/html",
    "text/*",
    "application/*",
    "*/*",
    ";q=0.5",
    ";q=0",
    ", ",
)
_ZIP = ("PK\x01\x02", "PK\x03\x04", "PK\x05\x06", "PK\x06\x06", "PK\x06\x07", ".dist-info/METADATA")
_DATES = ("Thu, 29 Feb 2024 12:30:59 GMT", "GMT", "+2359", "9999", "0001", "Jan")
_CONFIG = (
    "[policy]",
    "[[upstream]]",
    'url = "https://index.example/simple"',
    "password = 'hunter2'",
    ":hunter2@",
    "deny = [",
    "page-ttl = ",
    "cache-size = ",
    "PROXYINDEX_",
    "PROXYINDEX_UPSTREAM=",
    "folders=",
    "no_upstream=true",
    "file-hosts",
    "1h30m",
    "50GB",
    "torch>=2,<3",
)
_META = ("Name: ", "Version: ", "Requires-Python: ", "\r\n", "\n ", "\n\n", "=?utf-8?q?")
_STATES = ('"url": "', '"fetched_at": ', '"serial": ', '"size": ', '"sha256": "', "NaN", "1e999")
_FORM = (
    "\r\n--b0b1b2b3\r\n",
    "--b0b1b2b3--\r\n",
    'Content-Disposition: form-data; name="',
    '"; filename="',
    ':action"\r\n\r\nfile_upload',
    'content"; filename="demo-1.0.tar.gz"\r\n\r\n',
    "sha256_digest",
    "filename*=utf-8''",
    "\r\n\r\n",
)
_ATTESTED = ('"envelope":{', '"statement":"', '"verification_material":{', '"version":1', "\\ud800")
_RECORD = (
    '"sha256":"',
    '"upload-time":"',
    '"yanked":"',
    '"examined":{',
    '"before":{',
    "9999-12-31T23:59:59-14:00",
)


def _table(targets: Iterable[Target]) -> dict[str, Target]:
    return {target.name: target for target in targets}


TARGETS = _table(
    (
        Target("json-page", pages.json_page, 8192, _KEYS),
        Target("html-page", pages.html_page, 8192, _TAGS),
        Target("json-list", pages.json_list, 4096, ('"projects":[{"name":"', '"meta":', "\\ud800")),
        Target("html-list", pages.html_list, 4096, _TAGS),
        Target("link", pages.link, 1024, ("https://", "//", "%2f", "%5c", "%00", "..", "?", "#")),
        Target("filename", pages.filename, 300, (".whl", ".tar.gz", "-py3-none-any", "demo_pkg")),
        Target("project-name", pages.project_name, 256, ("-", "_", ".", "\n")),
        Target("accept", headers.accept, 1024, _MEDIA),
        Target("range", headers.range_, 256, ("bytes=", "0-", "-500", headers.ETAG, *_DATES)),
        Target("conditional", headers.conditional, 512, ("W/", headers.ETAG, "*", *_DATES)),
        Target("caching", headers.caching, 512, ("max-age=", "s-maxage=", "no-cache", *_DATES)),
        Target("path", requests.path, 2200, ("%2f", "%2e", "%00", "..", "//", "pypi/", "simple/")),
        Target("request", requests.request, 2048, ("gzip;q=", "no-cache", "1.1 proxyindex-", ", ")),
        Target("partial", headers.partial, 8192, ("bytes 0-9/10", "bytes */10", "\xb2")),
        Target("wheel", archives.wheel, 4096, _ZIP),
        Target("zip-sdist", archives.zip_sdist, 4096, _ZIP),
        Target("gzip-sdist", archives.gzip_sdist, 4096, ("\x1f\x8b\x08",)),
        Target("tar-sdist", archives.tar_sdist, 8192, ("ustar\x0000", "PKG-INFO", "path=")),
        Target("gzip-body", archives.gzip_body, 2048, ("\x1f\x8b\x08",)),
        Target("core-metadata", archives.core_metadata, 4096, _META),
        Target("configuration", settings.configuration, 4096, _CONFIG, may_open_files=True),
        Target("rule", settings.rule, 512, (">=", "==", "~=", "!=", "*", "[", "]", ".*")),
        Target("page-head", stored.page_head, 2048, _STATES),
        Target("fact-line", stored.fact_line, 1024, _STATES),
        Target("upload-form", uploads.form, 4096, _FORM),
        Target("attestations", uploads.attestations, 2048, _ATTESTED),
        Target("record", uploads.record, 1024, _RECORD),
    )
)

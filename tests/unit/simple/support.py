"""What the tests of the wire formats share."""

from collections.abc import Iterable
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

from hypothesis import strategies as st
from pip._internal.index.collector import IndexContent, parse_links
from pip._internal.models.link import Link

from proxyindex.model import ACTIVE, File, ProjectPage, Status, UpstreamOrigin
from proxyindex.names import normalize, parse_filename
from proxyindex.simple import order_files, order_versions

BASE = "https://upstream.example/simple/foo/"
FOO = normalize("foo")
WHEEL = "foo-1.0-py3-none-any.whl"
SHA256 = "0123456789abcdef" * 4
SOURCE: dict[str, Any] = {"project": FOO, "base_url": BASE, "upstream": "up"}


def pip_links(body: bytes, content_type: str) -> list[Link]:
    """The links that pip itself finds on a page of ours."""
    content = IndexContent(body, content_type, "utf-8", BASE, cache_link_parsing=False)
    return list(parse_links(content))


class Elements(HTMLParser):
    """Start tags as Python's own parser sees them."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(body.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(reversed(list(attrs)))))  # the first of a name counts

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def _hex(length: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=length, max_size=length)


# a subset in which each wire form can say all there is: one digest per file
_digests = st.sampled_from([("sha256", 64), ("md5", 32), ("sha512", 128), ("sha384", 96)]).flatmap(
    lambda kind: st.dictionaries(st.just(kind[0]), _hex(kind[1]), max_size=1)
)
_text = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("<>&\"'\n\t"), max_size=20
)
_versions = st.sampled_from(["1.0", "1.0.0", "2.0rc1", "1!3", "1.0+local.1", "legacy"])
_filenames = _versions.flatmap(
    lambda v: st.sampled_from(
        [f"foo-{v}-py3-none-any.whl", f"Foo-{v}.tar.gz", f"foo-{v}.win32.exe", f"foo-{v}.zip"]
    )
)


def _file(filename: str, **fields: Any) -> File:
    if not filename.endswith(".whl"):
        fields["core_metadata"] = None
    url = f"https://files.example/p/{filename.replace('+', '%2B')}"
    version = parse_filename(filename, FOO).version
    return File(filename, UpstreamOrigin("up", url, "foo"), version=version, **fields)


_files = st.builds(
    _file,
    _filenames,
    hashes=_digests,
    size=st.none() | st.integers(0, 2**40),
    upload_time=st.none()
    | st.datetimes(datetime(1999, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    requires_python=st.none() | st.sampled_from([">=3.8,<4", '<"&>', "é"]),
    yanked=st.none() | _text,
    # of a sidecar only the sha256 is passed on
    core_metadata=st.none() | st.dictionaries(st.just("sha256"), _hex(64), max_size=1),
    provenance=st.none() | st.just("https://upstream.example/integrity/foo?x=1&y=2"),
    has_signature=st.booleans(),
)
_statuses = st.just(ACTIVE) | st.builds(
    Status,
    st.sampled_from(["archived", "deprecated", "unheard-of"]),
    st.none() | _text.filter(bool),
)


def _page(files: list[File], status: Status) -> ProjectPage:
    return ProjectPage(
        FOO,
        order_files(files),
        order_versions(file.version for file in order_files(files) if file.version),
        status,
    )


pages = st.builds(
    _page, st.lists(_files, max_size=6, unique_by=lambda file: file.filename), _statuses
)


def origin_url(file: File) -> str:
    assert isinstance(file.origin, UpstreamOrigin)
    return file.origin.url

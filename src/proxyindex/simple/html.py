"""The HTML form of project pages and lists: wire bytes to values and back.

Source: PEP 503, with PEP 592, 629, 658, 714, 740 and 792; frozen at 1.4 by PEP 833. What a link
may say is judged in `entries`, exactly as for JSON.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from itertools import islice
from urllib.parse import unquote, urlsplit

from packaging.utils import NormalizedName

from proxyindex.model import File, ProjectPage, Sha256
from proxyindex.names import normalize
from proxyindex.simple.entries import (
    API_VERSION,
    MAX_FILES,
    MAX_PROJECTS,
    Entry,
    InvalidPage,
    Source,
    build_file,
    build_page,
    check_api_version,
    join,
    read_size,
    read_status,
    source_of_links,
)
from proxyindex.simple.plain import AT_ONCE, NotPlain, PlainEntry, read_files
from proxyindex.simple.tags import Tag, Unterminated, tags
from proxyindex.texts import whole_number

_VERSION_META = "pypi:repository-version"
_STATUS_META = "pypi:project-status"
_REASON_META = "pypi:project-status-reason"

# titles of index pages and of the directory listings of common web servers
_INDEX_TITLE = re.compile(r"\b(?:links for|index of|directory listing|simple index)\b", re.I)
_HASH = re.compile(r"\w+=[0-9A-Fa-f]+\Z", re.ASCII)


@dataclass(slots=True)
class _Document:
    """What matters of an HTML page; of metas and bases only the first of a kind counts."""

    links: list[Mapping[str, str]] = field(default_factory=list)
    metas: dict[str, str] = field(default_factory=dict)
    base: str | None = None
    has_index_title: bool = False

    def add(self, tag: Tag) -> None:
        match tag.name, tag.attributes:
            case "a", {"href": _}:
                self.links.append(tag.attributes)
            case "meta", {"name": str(name), "content": str(content)}:
                self.metas.setdefault(name.lower(), content)
            case "base", {"href": str(href)} if self.base is None:
                self.base = href
            case (("title" | "h1"), _) if _INDEX_TITLE.search(tag.text[:1024]):
                self.has_index_title = True

    @property
    def is_index(self) -> bool:
        return self.has_index_title or _VERSION_META in self.metas


def parse_project(body: bytes, source: Source) -> ProjectPage:
    """The page an upstream sent, be it an index page or a directory listing.

    Links are relative to the first `<base>`, that to the source's `base_url`. Names come from the
    links' paths, never from their texts, which web servers cut short. Raises `InvalidPage` for
    version 2 or later of the API, too many links, a page that ends within a tag, and a page that
    neither lists a file of the project nor calls itself an index (a portal's log-in page must not
    empty a project).
    """
    document = _read(body, most_links=MAX_FILES)
    metas = document.metas
    source = source_of_links(replace(source, base_url=_base(document.base, source.base_url)))
    page = build_page(
        read_files(
            document.links, source, _plain_entry, lambda link: build_file(_entry(link), source)
        ),
        source,
        status=read_status(metas.get(_STATUS_META), metas.get(_REASON_META)),
    )
    # only names that tell the project have a version here
    if not document.is_index and not any(file.version for file in page.files):
        raise InvalidPage("it is no index page")
    return page


def render_project(page: ProjectPage, href: Callable[[File], str]) -> Iterator[bytes]:
    """The page as UTF-8 HTML, in pieces, with `href(file)` as the link of each file."""
    files = page.files if page.status.status != "quarantined" else ()
    # a repository that marks signatures should mark every link (PEP 503)
    marks_signatures = any(file.has_signature for file in files)
    metas = {_VERSION_META: API_VERSION}
    if page.status.status != "active":
        metas[_STATUS_META] = page.status.status
        if page.status.reason is not None:
            metas[_REASON_META] = page.status.reason
    links = (_link(file, href(file), marks_signatures=marks_signatures) for file in files)
    return _document(f"Links for {page.name}", metas, links)


def parse_list(body: bytes) -> list[NormalizedName]:
    """The projects of an upstream's list, each once, in its order. Raises `InvalidPage`.

    A name is the last segment of a link that ends with a slash, as those of pages must (PEP 503).
    """
    document = _read(body, most_links=MAX_PROJECTS)
    names: dict[NormalizedName, None] = {}
    for link in document.links:
        if name := _listed_name(link["href"]):
            names[name] = None
    if not names and not document.is_index:
        raise InvalidPage("it is no list of projects")
    return list(names)


def render_list(names: Iterable[NormalizedName]) -> bytes:
    """The project list as UTF-8 HTML."""
    links = (_anchor(f"{name}/", {}, name) for name in names)
    return b"".join(_document("Simple index", {_VERSION_META: API_VERSION}, links))


def _read(body: bytes, *, most_links: int) -> _Document:
    document = _Document()
    try:
        for tag in tags(body.decode("utf-8", "replace"), {"a", "base", "meta", "title", "h1"}):
            document.add(tag)
            if len(document.links) > most_links:
                raise InvalidPage(f"it has more than {most_links} links")
    except Unterminated as exc:
        raise InvalidPage("it ends within a tag or comment") from exc
    check_api_version(document.metas.get(_VERSION_META))
    return document


def _base(href: str | None, base_url: str) -> str:
    """That of the page where its own is none, as browsers have it (HTML, 4.2.3); below one of
    another scheme there is nothing that may be asked."""
    base = join(base_url, href) if href is not None else ""
    return base_url if not base or base.startswith(("data:", "javascript:")) else base


def _entry(link: Mapping[str, str]) -> Entry:
    url, _, fragment = link["href"].partition("#")
    return Entry(
        url=url,
        hashes=_fragment_hashes(fragment),
        size=whole_number(link.get("data-size", "")),
        upload_time=link.get("data-upload-time"),
        requires_python=link.get("data-requires-python"),
        yanked=link.get("data-yanked"),
        core_metadata=_metadata(link.get("data-core-metadata")),
        dist_info_metadata=_metadata(link.get("data-dist-info-metadata")),
        provenance=link.get("data-provenance"),
        gpg_sig=link.get("data-gpg-sig") == "true",
    )


def _plain_entry(link: Mapping[str, str]) -> PlainEntry:
    """Raises `NotPlain` where this would not say what `_entry` says."""
    url, _, fragment = link["href"].partition("#")
    if not fragment.startswith("sha256="):
        raise NotPlain
    return PlainEntry(
        url,
        url.rpartition("/")[2],
        Sha256(fragment.removeprefix("sha256=")),
        read_size(whole_number(link.get("data-size", ""))),
        link.get("data-upload-time"),
        link.get("data-requires-python"),
        link.get("data-yanked"),
        _plain_metadata(link.get("data-core-metadata")),
        _plain_metadata(link.get("data-dist-info-metadata")),
        None,
        link.get("data-provenance"),
        link.get("data-gpg-sig") == "true",
    )


def _plain_metadata(value: str | None) -> Sha256 | bool | None:
    if value is None or value == "true":
        return None if value is None else True
    if not value.startswith("sha256="):
        raise NotPlain
    return Sha256(value.removeprefix("sha256="))


def _fragment_hashes(fragment: str) -> dict[str, str]:
    pairs = (piece.split("=", 1) for piece in fragment.split("&") if "=" in piece)
    hashes: dict[str, str] = {}
    for name, value in pairs:
        hashes.setdefault(name, value)
    return hashes


def _metadata(value: str | None) -> object:
    """The value the JSON form would have. `false` is pip's reading of nobody's standard."""
    match value:
        case None:
            return None
        case "true":
            return True
        case _ if _HASH.match(value):
            return dict([value.split("=", 1)])
        case _:
            return False


def _listed_name(href: str) -> NormalizedName | None:
    try:
        path = urlsplit(href.strip()).path.removesuffix("index.html")
        if not path.endswith("/"):
            return None
        return normalize(unquote(path[:-1].rpartition("/")[2]))
    except ValueError:  # InvalidName, and a URL beyond reading
        return None


def _link(file: File, url: str, *, marks_signatures: bool) -> str:
    attributes: dict[str, str] = {}
    if file.requires_python is not None:
        attributes["data-requires-python"] = file.requires_python
    if file.yanked is not None:
        attributes["data-yanked"] = file.yanked  # pip takes a valueless one for "not yanked"
    if file.core_metadata is not None and file.is_wheel:
        digest = file.core_metadata.get("sha256")
        value = f"sha256={digest}" if digest else "true"
        attributes["data-core-metadata"] = attributes["data-dist-info-metadata"] = value
    if marks_signatures:
        attributes["data-gpg-sig"] = "true" if file.has_signature else "false"
    if file.provenance is not None:
        attributes["data-provenance"] = file.provenance
    if file.size is not None:  # this and the next are no standard, but uv reads them
        attributes["data-size"] = str(file.size)
    if file.upload_time is not None:
        attributes["data-upload-time"] = file.upload_time.isoformat().replace("+00:00", "Z")
    digest = file.best_digest
    return _anchor(f"{url}#{digest}" if digest else url, attributes, file.filename)


def _anchor(url: str, attributes: Mapping[str, str], text: str) -> str:
    rest = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    return f'<a href="{escape(url)}"{rest}>{escape(text)}</a><br />'


def _document(title: str, metas: Mapping[str, str], links: Iterator[str]) -> Iterator[bytes]:
    yield _head(escape(title), metas).encode()
    while some := list(islice(links, AT_ONCE)):
        yield "".join([f"    {link}\n" for link in some]).encode()
    yield b"  </body>\n</html>\n"


def _head(title: str, metas: Mapping[str, str]) -> str:
    lines = (
        f'    <meta name="{name}" content="{escape(content)}">\n' for name, content in metas.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n  <head>\n    <meta charset="utf-8">\n'
        f"{''.join(lines)}    <title>{title}</title>\n  </head>\n  <body>\n    <h1>{title}</h1>\n"
    )

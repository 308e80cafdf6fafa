"""From what an upstream said to what we say: the one place where page entries are sanitised.

Both wire forms are read into `Entry` and become `File` here. A bad field costs the field, a bad
entry the entry, never the page: uv rejects a whole page for one `size: null` (measured).
"""

import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter
from urllib.parse import quote, unquote_to_bytes, urljoin

import msgspec
from packaging.utils import NormalizedName

from proxyindex.errors import ProxyindexError
from proxyindex.model import ACTIVE, PROVENANCE_ORIGIN, File, ProjectPage, Status, UpstreamOrigin
from proxyindex.names import in_order, is_safe_filename, parse_filename
from proxyindex.texts import one_line, with_ascii_host

API_VERSION = "1.4"
MAX_FILES = 200_000  # and versions; the largest real page has 12,000
MAX_PROJECTS = 2_000_000  # PyPI has 800,000
MAX_URL = 8192
MAX_TEXT = 4096  # of a reason
MAX_SPECIFIER = 1024
MAX_VERSION = 255
MAX_TIME = 64
MAX_SIZE = 2**53  # beyond this JSON numbers are not exact everywhere

# what clients check; uv rejects the page for any other length
HASH_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128, "md5": 32}

OFFERED: Mapping[str, str] = {}  # one for all: core metadata without a hash

_HEX = re.compile(r"[0-9a-f]+\Z")
_API_VERSION = re.compile(r"([0-9]{1,4})(?:\.[0-9]{1,4})?\Z")
_STATUS = re.compile(r"[a-z][a-z-]{0,63}\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_RESERVED = ":/?#[]@!$&'()*+,;=%"
_UNRESERVED = "-A-Za-z0-9._~"
_PLAIN = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9._~!@=+%]*\Z")
# no user information: credentials belong to the configuration, not to a page
ORIGIN = rf"https?://(?:[{_UNRESERVED}]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?"
_URL = re.compile(
    rf"({ORIGIN}"
    rf"(/[{_UNRESERVED}:/@!$&'()*+,;=%]*)"
    rf"(?:\?[{_UNRESERVED}:/?\[\]@!$&'()*+,;=%]*)?)(?:#.*)?",
    re.DOTALL,
)
# control bytes and backslashes in disguise, and escapes that are none
_BAD_ESCAPE = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff]|5[Cc]|(?![0-9A-Fa-f]{2}))")
_FILENAME = attrgetter("filename")
_USERINFO = re.compile(r"(https?://)[^/?#]*@", re.IGNORECASE)


class InvalidPage(ProxyindexError):
    """A body that is no project page or project list, or one this program must not use."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"The page cannot be used: {problem}.")
        self.problem = problem


class Entry(msgspec.Struct, rename="kebab", gc=False):
    """One file as an upstream describes it: the keys of the JSON form, of any type whatsoever.

    `None` is "not said". `url` is relative to the page and may carry a fragment.
    """

    url: object = None
    filename: object = None
    hashes: object = None
    size: object = None
    upload_time: object = None
    requires_python: object = None
    yanked: object = None
    core_metadata: object = None
    dist_info_metadata: object = None
    data_dist_info_metadata: object = None
    provenance: object = None
    gpg_sig: object = None


@dataclass(frozen=True, slots=True)
class Source:
    """Whose page it is: the project asked for, the page's final URL, the upstream's name.

    `offers_metadata`: its wheels have core metadata even where it does not say so.
    """

    project: NormalizedName
    base_url: str
    upstream: str
    offers_metadata: bool = False


def source_of_links(source: Source) -> Source:
    """The source with the URL against which the page's links resolve: credentials and the query
    of the page do not reach its files, and what is odd in it is encoded as it is in its links."""
    base_url = join("", _USERINFO.sub(r"\1", source.base_url))
    return replace(source, base_url=join(base_url, "."))


def build_page(
    found: Iterable[File | None],
    source: Source,
    *,
    versions: object = None,
    status: Status = ACTIVE,
) -> ProjectPage:
    """A page of the files found, each file name once, in deterministic order.

    `found` has one item for each entry, `None` where it is not to be listed. `versions` is the
    upstream's own list, if it has one; the files' versions join it. A quarantined project keeps its
    versions and has no files (PEP 792). Raises `InvalidPage` when there are more than `MAX_FILES`
    of either.
    """
    found, versions = list(found), versions if isinstance(versions, list) else []
    for listed, what in ((found, "files"), (versions, "versions")):
        if len(listed) > MAX_FILES:
            raise InvalidPage(f"it lists more than {MAX_FILES} {what}")
    files = _once_each([file for file in found if file is not None])
    told = [text for text in versions if _is_version(text)]
    named = dict.fromkeys([file.version for file in files if file.version])
    return ProjectPage(
        name=source.project,
        files=order_files(files) if status.status != "quarantined" else (),
        versions=order_versions([*told, *named]),
        status=status,
    )


def _once_each(listed: list[File]) -> Collection[File]:
    """pypiserver lists a name twice; the first wins unless only the second can be verified."""
    if len({file.filename for file in listed}) == len(listed):
        return listed
    files: dict[str, File] = {}
    for file in listed:
        known = files.setdefault(file.filename, file)
        if file.hashes and not known.hashes:
            files[file.filename] = file
    return files.values()


def build_file(entry: Entry, source: Source) -> File | None:
    """The file an entry describes, or `None` if it must not be listed.

    Not listed are targets other than http(s), unsafe names, names that differ from the last
    segment of the URL (pip goes by the URL, uv by the name), and other projects' wheels and sdists.
    """
    if not (target := resolve(entry.url, source.base_url)):
        return None
    url, filename = target
    if entry.filename is not None and entry.filename != filename:
        return None
    parsed = parse_filename(filename, source.project)
    if parsed.is_foreign_to(source.project):
        return None
    return File(
        filename=filename,
        origin=UpstreamOrigin(source.upstream, url, source.project),
        hashes=read_hashes(entry.hashes),
        # thousands of files share few versions and specifiers
        version=sys.intern(parsed.version) if parsed.version else None,
        size=read_size(entry.size),
        upload_time=_read_time(entry.upload_time),
        requires_python=read_specifier(entry.requires_python),
        yanked=read_yanked(entry.yanked),
        core_metadata=_core_metadata(entry, source) if filename.endswith(".whl") else None,
        provenance=_read_provenance(entry.provenance),
        has_signature=entry.gpg_sig is True,
    )


def resolve(url: object, base_url: str) -> tuple[str, str] | None:
    """Absolute URL without fragment, and the safe file name it ends in; `None` if there is none.

    The path is decoded once: an encoded slash, or anything encoded twice, is not a safe name.
    """
    if not isinstance(url, str) or len(url) > MAX_URL:
        return None
    # urljoin takes 10 µs; pages of our own kind have nothing but plain names
    joined = base_url + url if base_url.endswith("/") and _PLAIN.match(url) else url
    if not (match := _URL.fullmatch(joined) or _URL.fullmatch(join(base_url, url))):
        return None
    path = match[2]
    if "%" in path and _BAD_ESCAPE.search(path):
        return None
    filename = path.rpartition("/")[2]
    if "%" in filename:
        filename = unquote_to_bytes(filename).decode("ascii", "replace")
    return (match[1], filename) if is_safe_filename(filename) else None


def join(base_url: str, url: str) -> str:
    """`url` resolved against `base_url`, odd characters encoded; empty if it is beyond reading."""
    try:
        url = with_ascii_host(url.strip(" \t\n\f\r"))
        joined = urljoin(base_url, quote(url, safe=_RESERVED, errors="replace"))
    except ValueError:  # "//[" and its kin
        return ""
    scheme, colon, rest = joined.partition(":")
    return scheme.lower() + colon + rest


def read_hashes(value: object) -> dict[str, str]:
    """The usable digests of a mapping: known algorithms in lower case, hex of the right length."""
    hashes: dict[str, str] = {}
    if isinstance(value, dict):
        for algorithm, digest in value.items():
            if not isinstance(algorithm, str) or not isinstance(digest, str):
                continue
            # an upper-case `SHA256` is silently not verified by pip and uv (measured)
            name, digits = algorithm.lower(), digest.lower()
            if len(digits) == HASH_LENGTHS.get(name) and _HEX.match(digits):
                hashes.setdefault(name, digits)
    return hashes


def read_status(status: object, reason: object) -> Status:
    """The project's status marker; one that is not even a word is none. Source: PEP 792."""
    if not isinstance(status, str) or not _STATUS.match(word := status.strip().lower()):
        return ACTIVE
    return Status(word, _read_text(reason) or None)


def check_api_version(value: object) -> None:
    """Raise `InvalidPage` unless the page's API version is 1.x or not stated (PEP 629)."""
    if value is None:
        return
    match = _API_VERSION.match(str(value)) if isinstance(value, (str, int, float)) else None
    if not match or int(match[1]) != 1:
        raise InvalidPage(f"its API version is {str(value)[:20]!r}, not 1.x")


def order_files(files: Iterable[File]) -> tuple[File, ...]:
    """Files by version, then name, so that equal pages render to equal bytes."""
    by_version: dict[str | None, list[File]] = {}
    for file in files:
        by_version.setdefault(file.version, []).append(file)
    for listed in by_version.values():
        listed.sort(key=_FILENAME)  # a tenth of the time that one sort of all takes
    texts = chain.from_iterable(sorted(same, key=str) for same in in_order(by_version))
    return tuple(chain.from_iterable(by_version[text] for text in texts))


def order_versions(versions: Iterable[str]) -> tuple[str, ...]:
    """Versions sorted, each once; of spellings of the same version the first given stays."""
    return tuple(same[0] for same in in_order(versions))


def _is_version(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_VERSION and value.isprintable()


def read_size(value: object) -> int | None:
    """In bytes; `None` for what is no size."""
    return value if type(value) is int and 0 <= value < MAX_SIZE else None  # bool is an int too


def _read_time(value: object) -> datetime | None:
    if not isinstance(value, str) or len(value) > MAX_TIME:
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo else None  # without offset it says nothing
    except (ValueError, OverflowError):
        return None


def _read_text(value: object) -> str:
    """Text fit for both forms: line ends and tabs stay, other control characters become spaces."""
    return _CONTROL.sub(" ", value[:MAX_TEXT]) if isinstance(value, str) else ""


def read_specifier(value: object) -> str | None:
    """The text of a version specifier with single blanks, not parsed; `None` if it says nothing."""
    # a specifier cut short would say something else, so an overlong one goes
    if not isinstance(value, str) or len(value) > MAX_SPECIFIER:
        return None
    return sys.intern(one_line(value)) or None


def read_yanked(value: object) -> str | None:
    """`None` (not yanked), the reason, or `""`; see `File`."""
    return _read_text(value) if value or value == "" else None


def _core_metadata(entry: Entry, source: Source) -> Mapping[str, str] | None:
    value = entry.core_metadata
    if value is None:
        value = entry.dist_info_metadata
    if value is None:
        value = entry.data_dist_info_metadata  # PyPI's quirk
    if isinstance(value, dict):
        return read_hashes(value)
    return OFFERED if value is True or source.offers_metadata else None


def _read_provenance(value: object) -> str | None:
    if isinstance(value, str) and len(value) <= MAX_URL and (match := _URL.fullmatch(value)):
        return match[1] if value.startswith(PROVENANCE_ORIGIN) else None
    return None

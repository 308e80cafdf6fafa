"""The effective configuration as values: what can be set, its type, its default.

How the values are found (flags, environment, TOML file) is `config/`; what they do is wherever
`app.py` passes them. Nothing below floor 5 reads this module.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from packaging.utils import NormalizedName

from proxyindex.access import CHANGING, Action
from proxyindex.names import first_match

MEBIBYTE = 1024**2
GIGABYTE = 1000**3


class Secret:
    """A text that must not be shown: `repr` and `str` are masked, `reveal()` is explicit."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret('****')"

    def __str__(self) -> str:
        return "****"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Rules by name and version. Patterns are globs over normalized names.

    `reserved`: never asked at an upstream (`acme` also covers `acme-*`, PEP 752's rule).
    `allow`: if not empty, only what matches is served; `deny`: what matches is refused. Both take
    `PATTERN` or `PATTERN SPECIFIER`, e.g. `torch<2.1`, `evil-*`.
    """

    reserved: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One remote index. Times in seconds.

    `file_hosts`: hosts (`name` or `name:port`) besides the index's own that may hold files.
    `metadata`: find or make core metadata for wheels whose upstream has none.
    `forbidden_is_missing`: a 403 for a page means "no such project" (some wheel indexes).
    """

    name: str
    url: str
    username: str | None = None
    password: Secret | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: Secret | None = None
    connect_timeout: float = 3.0
    read_timeout: float = 20.0
    retries: int = 3
    max_connections: int = 20
    file_hosts: tuple[str, ...] = ()
    metadata: bool = True
    forbidden_is_missing: bool = False
    policy: PolicySettings = PolicySettings()

    @property
    def knows_us(self) -> bool:
        """Whether it is shown who we are: it may say "not found" to whom it does not know."""
        return any((self.username, self.password, self.client_cert))


FOLDERS = "folders"  # as target of a route: the own folders, and no upstream


@dataclass(frozen=True, slots=True)
class Route:
    """What may be asked for names that the glob `match` covers: an upstream, a base, `FOLDERS`."""

    match: str
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexKeys:
    """What describes an index, in its table or, where there is but one, among all other keys.

    `folders`: the first is the one uploads are written to. `fallback`: what happens to names that
    no folder has: fetched through the cache, sent to the upstream's own page, or not found.
    `merge`: globs of names whose files are joined from folders and upstreams. `overwrite`: other
    bytes may replace a file. `claim`: names that may be uploaded though an upstream has them.
    `read` to `admin`: grants, each `WHO` or `WHO PROJECT-GLOB…`.
    """

    folders: tuple[Path, ...] = ()
    routes: tuple[Route, ...] = ()
    fallback: Literal["proxy", "redirect", "none"] = "proxy"
    merge: tuple[str, ...] = ()
    overwrite: bool = False
    claim: tuple[str, ...] = ()
    policy: PolicySettings = PolicySettings()
    read: tuple[str, ...] = ("*",)
    fetch: tuple[str, ...] = ("*",)
    upload: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    yank: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexSettings(IndexKeys):
    """One index. `bases` are names of indexes and upstreams, in order; then its own `upstreams`."""

    name: str
    bases: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()


ROOT = "root"  # the one index of a configuration that has no table of any


@dataclass(frozen=True, slots=True)
class Settings(IndexKeys):
    """Everything `proxyindex serve` can be told. Sizes in bytes, times in seconds.

    Without `index_tables` the keys of `IndexKeys` describe the one index there is. `groups`: names
    and their users. `tokens`: `None` for a user who has no home. `remote_user_from`: addresses,
    networks, or `unix`.
    """

    upstreams: tuple[UpstreamSettings, ...] = ()
    index_tables: tuple[IndexSettings, ...] = ()
    default_index: str | None = None
    select_by_user: bool = False
    host: str = "127.0.0.1"
    port: int = 8080
    unix_socket: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    base_path: str = ""
    public_url: str | None = None
    workers: int = 1
    grace: float = 30.0
    cache_dir: Path = Path()
    cache_size: int = 50 * GIGABYTE
    page_cache_size: int = 2 * GIGABYTE
    offline: bool = False
    look_ahead: bool = True
    page_ttl: float = 600.0
    stale_while_revalidate: float = 300.0
    # whatever installed before the network went away shall install again
    stale_if_error: float = 365 * 86400.0
    negative_ttl: float = 60.0
    max_file_size: int = 5 * GIGABYTE
    max_page_size: int = 64 * MEBIBYTE
    max_transfers: int = 32
    max_upload_size: int = 5 * GIGABYTE
    project_list: Literal["local", "all"] = "local"
    htpasswd: tuple[Path, ...] = ()
    tokens: Path | None = None
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    remote_user_header: str | None = None
    remote_user_from: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    audit_log: Path | None = None
    config_file: Path | None = field(default=None, compare=False)

    @property
    def indexes(self) -> tuple[IndexSettings, ...]:
        """All indexes, in the order of the file."""
        if self.index_tables:
            return self.index_tables
        keys = {key.name: getattr(self, key.name) for key in fields(IndexKeys)}
        return (IndexSettings(ROOT, (), tuple(u.name for u in self.upstreams), **keys),)

    @property
    def default(self) -> IndexSettings:
        """The index `/simple/` is: the one that is named, else the first."""
        indexes = self.indexes
        return next((one for one in indexes if one.name == self.default_index), indexes[0])

    @property
    def every_folder(self) -> tuple[Path, ...]:
        """The folders of all indexes, each once."""
        return tuple(dict.fromkeys(folder for one in self.indexes for folder in one.folders))

    @property
    def changed_folders(self) -> tuple[Path, ...]:
        """The folders in which the configuration lets somebody change something, each once."""
        changing = [action.value for action in (*CHANGING, Action.ADMIN)]
        changed = (
            one.folders[0]
            for one in self.indexes
            if one.folders and any(getattr(one, key) for key in changing)
        )
        return tuple(dict.fromkeys(changed))

    def lineage(self, index: IndexSettings) -> tuple[IndexSettings, ...]:
        """The index and all it inherits from, each once, in the order they are asked."""
        by_name = {one.name: one for one in self.indexes}
        found: dict[str, IndexSettings] = {}

        def visit(one: IndexSettings) -> None:
            if one.name not in found:
                found[one.name] = one
                for base in one.bases:
                    if base in by_name:
                        visit(by_name[base])

        visit(index)
        return tuple(found.values())

    def asks(self, index: IndexSettings) -> tuple[str, ...]:
        """Names of the upstreams that are asked, in order, for a name of which no folder and no
        route tells, each once."""
        by_name = {one.name: one for one in self.indexes}
        known = {upstream.name for upstream in self.upstreams}
        return tuple(ways_out(index, None, by_name, known))

    def routes_of(self, index: IndexSettings) -> tuple[Route, ...]:
        """The routes of the index and of what it inherits from, as far as they ask anything."""
        line = self.lineage(index) if index.fallback != "none" else ()
        return tuple(route for one in line if one.fallback != "none" for route in one.routes)

    def reaches(self, index: IndexSettings) -> tuple[str, ...]:
        """Names of the upstreams an index may ask, by routes as well, each once."""
        known = {upstream.name for upstream in self.upstreams}
        targets = (route.to for route in self.routes_of(index) if route.to in known)
        return tuple(dict.fromkeys((*self.asks(index), *targets)))

    def followed(self) -> frozenset[str]:
        """Names of the upstreams behind which, in some index, another may be asked."""
        found: set[str] = set()
        for index in self.indexes:
            reached = self.reaches(index)
            # routes change the order by name: then any may be followed by another
            is_routed = len(reached) > 1 and bool(self.routes_of(index))
            found.update(reached if is_routed else self.asks(index)[:-1])
        return frozenset(found)


def ways_out(
    index: IndexSettings,
    name: NormalizedName | None,
    indexes: Mapping[str, IndexSettings],
    upstreams: Container[str],
) -> dict[str, tuple[IndexSettings, ...]]:
    """The upstreams that an index asks for a name, in order, each with the bases on any way there;
    `None`: for a name of which no route tells.

    Every index is visited once: bases may share bases.
    """
    reached: dict[str, dict[str, None]] = {}

    def visit(one: IndexSettings) -> Iterable[str]:
        if one.name in reached:
            return reached[one.name]
        found = reached[one.name] = {}
        if one.fallback != "none":
            routes = [(route.match, route.to) for route in one.routes]
            to = first_match(name, routes) if name else None
            for target in (to,) if to else (*one.bases, *one.upstreams):
                if target in upstreams:
                    found[target] = None
                elif target in indexes:
                    found |= dict.fromkeys(visit(indexes[target]))
        return found

    asked, bases = visit(index), [name for name in reached if name != index.name]
    return {one: tuple(indexes[base] for base in bases if one in reached[base]) for one in asked}

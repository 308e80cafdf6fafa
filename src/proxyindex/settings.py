"""The effective configuration as values: what can be set, its type, its default.

How the values are found (flags, environment, TOML file) is `config/`; what they do is wherever
`app.py` passes them. Nothing below floor 5 reads this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `proxyindex serve` can be told. Sizes in bytes, times in seconds."""

    folders: tuple[Path, ...] = ()
    upstreams: tuple[UpstreamSettings, ...] = ()
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
    page_ttl: float = 600.0
    stale_while_revalidate: float = 300.0
    # whatever installed before the network went away shall install again
    stale_if_error: float = 365 * 86400.0
    negative_ttl: float = 60.0
    max_file_size: int = 5 * GIGABYTE
    max_page_size: int = 64 * MEBIBYTE
    max_transfers: int = 32
    project_list: Literal["local", "all"] = "local"
    merge: tuple[str, ...] = ()
    policy: PolicySettings = PolicySettings()
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    config_file: Path | None = field(default=None, compare=False)

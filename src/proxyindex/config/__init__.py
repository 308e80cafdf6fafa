"""How the effective configuration is found: flags, environment, TOML file, defaults."""

from proxyindex.config.load import Loaded, load
from proxyindex.config.mistakes import NotReady
from proxyindex.config.options import (
    INDEX_OPTIONS,
    INHERITANCE_OPTIONS,
    OPTIONS,
    UPSTREAM_OPTIONS,
    Option,
)

__all__ = [
    "INDEX_OPTIONS",
    "INHERITANCE_OPTIONS",
    "OPTIONS",
    "UPSTREAM_OPTIONS",
    "Loaded",
    "NotReady",
    "Option",
    "load",
]

"""How the effective configuration is found: flags, environment, TOML file, defaults."""

from proxyindex.config.load import Loaded, load
from proxyindex.config.mistakes import NotReady
from proxyindex.config.options import OPTIONS, UPSTREAM_OPTIONS, Option

__all__ = ["OPTIONS", "UPSTREAM_OPTIONS", "Loaded", "NotReady", "Option", "load"]

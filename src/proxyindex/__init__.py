"""proxyindex: a private package index that falls through to PyPI and keeps what it fetched."""

from importlib.metadata import version

__version__ = version("proxyindex")

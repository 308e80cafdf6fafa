"""proxyindex: a private package index that falls through to PyPI and keeps what it fetched."""

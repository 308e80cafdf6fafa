"""The one door to the installed pip, which knows where PyPI is; no address is spelled out here.

Only pip's constants are read: its configuration and environment (`PIP_INDEX_URL`) belong to pip
and may well point at this very server.
"""

from pip._internal.models.index import PyPI

DEFAULT_NAME = "pypi"  # what configuration calls it, as a name and in place of its address


def default_index_url() -> str:
    """PyPI's Simple API, without a trailing slash."""
    return str(PyPI.simple_url).rstrip("/")


def default_file_host() -> str:
    """The host that holds the files listed on PyPI's pages."""
    return str(PyPI.file_storage_domain)

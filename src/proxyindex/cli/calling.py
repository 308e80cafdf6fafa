"""How commands call a server: as whom, and whom they believe to be it. Loads httpx."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import click

from proxyindex.errors import ProxyindexError
from proxyindex.publishing import credentials
from proxyindex.publishing.client import Client
from proxyindex.publishing.credentials import Credentials
from proxyindex.publishing.target import PublishError
from proxyindex.web.clients import is_loopback

# not yet valid, expired, of another name, of another address (OpenSSL's X509_V_ERR_…)
_NO_MATTER_OF_AUTHORITY = frozenset({9, 10, 62, 64})


def credentials_for(url: str) -> Credentials | None:
    """Those that are found for it; warns where others could read them. Raises `PublishError`."""
    found = credentials.find(url, os.environ)
    if found and urlsplit(url).scheme == "http" and not is_loopback(url):
        click.echo("Warning: over plain http, the credentials can be read on their way.", err=True)
    return found


def caller(logins: Mapping[str, Credentials], ca_file: Path | None) -> Client:
    """A client with the credentials of each origin. Raises `PublishError` for a useless CA file."""
    try:
        return Client(logins, ca_file=ca_file)
    except OSError as problem:
        raise PublishError(f"{ca_file} holds no certificates: {problem}.") from problem


@contextmanager
def believing() -> Iterator[None]:
    """Says to name the authority, where a server's certificate is of one that is not trusted."""
    try:
        yield
    except ProxyindexError as problem:
        if (found := _distrust(problem)) is None:
            raise
        raise ProxyindexError(
            f"The server's certificate is not trusted ({found.verify_message}). Name the PEM file "
            "of the authority that signed it with --ca-file."
        ) from problem


def _distrust(problem: BaseException) -> ssl.SSLCertVerificationError | None:
    """What it came of, if it was that and another authority would help."""
    cause: BaseException | None = problem
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return None if cause is None or cause.verify_code in _NO_MATTER_OF_AUTHORITY else cause

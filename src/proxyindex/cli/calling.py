"""How commands call a server: as whom, and whom they believe to be it. Loads httpx."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import click

from proxyindex.publishing import credentials
from proxyindex.publishing.client import Client
from proxyindex.publishing.credentials import Credentials
from proxyindex.publishing.target import PublishError
from proxyindex.web.clients import is_loopback


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

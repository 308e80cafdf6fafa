"""What would stop the server from working, found before it starts or takes other settings."""

import errno
import logging
import os
import ssl
import tempfile
from pathlib import Path

from proxyindex.server.listen import StartError
from proxyindex.settings import Settings
from proxyindex.upstream.proxies import Proxies

log = logging.getLogger(__name__)

_DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def check(settings: Settings) -> None:
    """Find what would stop the server from working. Raises `StartError` and `ProxyUnusable`."""
    for folder in settings.every_folder:
        if not folder.is_dir():
            raise StartError(f"The folder {folder} does not exist; create it or leave it out.")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise StartError(f"The folder {folder} cannot be read; change its permissions.")
    _check_cache(settings.cache_dir)
    for upstream in settings.upstreams:
        if not upstream.proxy:
            Proxies(None).of(upstream.url)
    _check_tls(settings.tls_cert, settings.tls_key)


def _check_cache(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno in _DISK_TROUBLE and (folder / "CACHEDIR.TAG").exists():
            # it served from there before: better without keeping anything than not at all
            log.warning("the cache folder %s cannot be written: %s", folder, error.strerror)
            return
        raise StartError(
            f"The cache folder {folder} cannot be written ({error.strerror}); "
            "change its permissions or choose another one."
        ) from error


def _check_tls(cert: Path | None, key: Path | None) -> None:
    if cert is None:
        if key is not None:
            raise StartError("A TLS key is given without a certificate; give both or neither.")
        return
    for path in filter(None, (cert, key)):
        if not os.access(path, os.R_OK):
            raise StartError(f"The TLS file {path} cannot be read; check path and permissions.")
    try:
        # without a password to give, OpenSSL would ask on the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=str)
    except (ssl.SSLError, ValueError) as error:
        raise StartError(
            f"The TLS certificate {cert} and its key cannot be used ({error}); they must be "
            "PEM files, belong together, and have no password."
        ) from error

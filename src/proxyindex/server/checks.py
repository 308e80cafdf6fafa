"""What would stop the server from working, found before it starts or takes other settings."""

import errno
import logging
import os
import ssl
from pathlib import Path

from proxyindex import logs
from proxyindex.server.listen import StartError
from proxyindex.settings import Settings
from proxyindex.store import disk

log = logging.getLogger(__name__)

_DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def check(settings: Settings) -> None:
    """Find what would stop the server from working. Raises `StartError`."""
    for folder in settings.every_folder:
        if not folder.is_dir():
            raise StartError(f"The folder {folder} does not exist; create it or leave it out.")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise StartError(f"The folder {folder} cannot be read; change its permissions.")
    _check_cache(settings.cache_dir)
    if settings.audit_log:
        _check_audit_log(settings.audit_log)
    _check_tls(settings.tls_cert, settings.tls_key)


def _check_cache(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        disk.try_writing(folder)
    except OSError as error:
        if error.errno in _DISK_TROUBLE and (folder / "CACHEDIR.TAG").exists():
            # it served from there before: better without keeping anything than not at all
            log.warning("the cache folder %s cannot be written: %s", folder, error.strerror)
            return
        raise StartError(
            f"The cache folder {folder} cannot be written ({error.strerror}); "
            "change its permissions or choose another one."
        ) from error


def _check_audit_log(path: Path) -> None:
    try:
        logs.append(path, "")
    except OSError as error:
        if error.errno in _DISK_TROUBLE:  # its lines go to the log until somebody has mended it
            log.warning("the audit log %s cannot be written: %s", path, error.strerror)
            return
        raise StartError(
            f"The audit log {path} cannot be written ({error.strerror}); "
            "change its permissions or choose another file."
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

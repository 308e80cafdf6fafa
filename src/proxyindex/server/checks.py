"""What would stop the server from working, found before it starts or takes other settings."""

import errno
import logging
import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from proxyindex import disk, logs
from proxyindex.server.listen import StartError
from proxyindex.settings import Settings
from proxyindex.uploads.stage import is_changeable
from proxyindex.upstream.proxies import Proxies

log = logging.getLogger(__name__)

_DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def check(settings: Settings) -> None:
    """Find what the configuration cannot tell. Raises `StartError` and `ProxyUnusable`."""
    for folder in settings.every_folder:
        if not os.access(folder, os.R_OK | os.X_OK):
            raise StartError(f"The folder {folder} cannot be read; change its permissions.")
    _warn_of_closed(settings.changed_folders)
    _check_cache(settings.cache_dir)
    if settings.audit_log:
        _check_audit_log(settings.audit_log)
    for upstream in settings.upstreams:
        if not upstream.proxy:
            Proxies(None).of(upstream.url)
    _check_tls(settings.tls_cert, settings.tls_key)


def _warn_of_closed(folders: Sequence[Path]) -> None:
    """What cannot be written is served all the same, so nobody would notice before an upload."""
    for folder in folders:
        if not is_changeable(folder):
            log.warning(
                "uploads to %s will be refused (503): user %d cannot write there; make that user "
                "its owner, and mount it without read-only",
                folder,
                os.geteuid(),
            )


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

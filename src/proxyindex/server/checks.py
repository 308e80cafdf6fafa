"""What would stop the server from working, found before it starts or takes other settings."""

import errno
import logging
import os
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from proxyindex import disk, logs
from proxyindex.errors import ProxyindexError
from proxyindex.server.listen import StartError, check_place_of
from proxyindex.settings import Settings, UpstreamSettings
from proxyindex.uploads.stage import is_changeable
from proxyindex.upstream.proxies import Proxies
from proxyindex.upstream.tls import present, trusting
from proxyindex.users.followed import AccountsError
from proxyindex.users.hashes import PasswordHashes
from proxyindex.users.htpasswd import Htpasswd
from proxyindex.users.tokens import TokenFile

log = logging.getLogger(__name__)

_DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def check(settings: Settings) -> None:
    """Find what the configuration cannot tell. Raises `StartError` and `ProxyUnusable`; what a
    server can live with is logged."""
    for problem in refusals(settings):
        raise problem
    for complaint in complaints(settings):
        log.warning("%s", complaint)


def refusals(settings: Settings, *, makes: bool = True) -> Iterator[ProxyindexError]:
    """Each reason for which a server of these settings does not start.

    Makes the cache folder and the audit log; without `makes` nothing, for whoever asks may be
    another user than the server's.
    """
    for look in _looks(settings, makes=makes):
        try:
            look()
        except ProxyindexError as problem:
            yield problem


def complaints(settings: Settings) -> Iterator[str]:
    """What makes a server of these settings serve worse than it could."""
    for folder in settings.changed_folders:
        if not is_changeable(folder):
            # it is served all the same, so nobody would notice before an upload
            yield (
                f"uploads to {folder} will be refused (503): user {os.geteuid()} cannot write "
                "there; make that user its owner, and mount it without read-only"
            )
    for fault in Htpasswd(settings.htpasswd, PasswordHashes()).faults():
        told = str(fault).rstrip(".")
        yield f"htpasswd lets in nobody of this file, nor of those behind it: {told}"
    try:
        if settings.tokens:
            TokenFile(settings.tokens).all()
    except AccountsError as problem:
        yield f"tokens lets nobody in: {str(problem).rstrip('.')}"


def _looks(settings: Settings, *, makes: bool) -> Iterator[Callable[[], object]]:
    for folder in settings.every_folder:
        yield partial(_check_folder, folder)
    yield partial(_check_cache, settings.cache_dir, makes=makes)
    if settings.audit_log:
        yield partial(_check_audit_log, settings.audit_log, makes=makes)
    if settings.unix_socket and not makes:  # whoever makes the socket learns it from that
        yield partial(check_place_of, settings.unix_socket)
    for upstream in settings.upstreams:
        yield from _looks_at(upstream)
    if settings.tls_cert:
        yield partial(_check_pair, "tls-cert", settings.tls_cert, settings.tls_key)


def _looks_at(upstream: UpstreamSettings) -> Iterator[Callable[[], object]]:
    of = f" of upstream {upstream.name!r}"
    if not upstream.proxy:
        yield partial(Proxies(None).of, upstream.url)
    if upstream.ca_file:
        yield partial(_check_authorities, upstream.ca_file, of)
    if upstream.client_cert:
        yield partial(_check_pair, "client-cert", upstream.client_cert, upstream.client_key, of)


def _check_folder(folder: Path) -> None:
    if not os.access(folder, os.R_OK | os.X_OK):
        raise StartError(f"The folder {folder} cannot be read; change its permissions.")


def _check_cache(folder: Path, *, makes: bool) -> None:
    try:
        if makes:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # a link that leads nowhere is there: no folder can be made in its place
        there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
        disk.try_writing(there)
    except OSError as error:
        if error.errno in _DISK_TROUBLE and (folder / "CACHEDIR.TAG").exists():
            # it served from there before: better without keeping anything than not at all
            log.warning("the cache folder %s cannot be written: %s", folder, error.strerror)
            return
        raise StartError(
            f"The cache folder {folder} cannot be written ({error.strerror}); "
            "change its permissions or choose another one."
        ) from error


def _check_audit_log(path: Path, *, makes: bool) -> None:
    try:
        if makes or os.path.exists(path):
            logs.append(path, "")
        else:
            disk.try_writing(path.parent)
    except OSError as error:
        if error.errno in _DISK_TROUBLE:  # its lines go to the log until somebody has mended it
            log.warning("the audit log %s cannot be written: %s", path, error.strerror)
            return
        raise StartError(
            f"The audit log {path} cannot be written ({error.strerror}); "
            "change its permissions or choose another file."
        ) from error


def _check_authorities(path: Path, of: str) -> None:
    try:
        trusting(path)
    except OSError as error:
        raise StartError(
            f"The ca-file {path}{of} cannot be used ({error}); it must be a PEM file of "
            "certificates that can be read."
        ) from error


def _check_pair(what: str, cert: Path, key: Path | None, of: str = "") -> None:
    for path in filter(None, (cert, key)):
        if not os.access(path, os.R_OK):
            raise StartError(f"The TLS file {path}{of} cannot be read; check path and permissions.")
    try:
        present(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, key)
    except (ssl.SSLError, ValueError) as error:
        raise StartError(
            f"The {what} {cert}{of} and its key cannot be used ({error}); they must be PEM files, "
            "belong together, and have no password."
        ) from error

"""Serving: checks, sockets, one process or several, signals, drain. uvicorn run from our code."""

import asyncio
import errno
import gc
import logging
import math
import os
import resource
import signal
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import socket
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp

from proxyindex import logs
from proxyindex.metrics import MULTIPROCESS_VARIABLE
from proxyindex.server.express import ExpressProtocol
from proxyindex.server.listen import (
    BACKLOG,
    StartError,
    addresses,
    bind_tcp,
    close_all,
    unix_socket,
)
from proxyindex.server.protocol import UNIX_PEER
from proxyindex.server.workers import (
    CANNOT_START,
    FORCED,
    STOP_SIGNALS,
    Lifeline,
    Supervisor,
    ignore_stop_signals,
)
from proxyindex.settings import Settings

log = logging.getLogger(__name__)

# Longer than the pauses of installers, and than the 60 s for which fronts keep idle connections:
# the side that reuses a connection should be the one that closes it.
KEEP_ALIVE_SECONDS = 75
HANDSHAKE_SECONDS = 5.0  # with the 10 s for a head, nobody holds a connection for more than 15
# The farewell begins when the last bytes are handed over, not when they have been read: after
# uvloop's 30 s a slow reader lost the end of its file (measured: 1 MiB of it).
FAREWELL_SECONDS = 600.0
DESCRIPTORS_WANTED = 65_536
_DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
DESCRIPTORS_PER_CONNECTION = 3  # the client's socket, the file, a share of upstream and store


Build = Callable[[Settings], ASGIApp]


def serve(
    settings: Settings,
    *,
    on_listening: Callable[[Sequence[str]], None],
    build: Build | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; the exit status: 0 after an orderly stop, 130 if forced.

    `on_listening` is called once, with the URLs, when requests are answered. After the first
    signal nothing new is accepted, answers under way have `settings.grace` seconds to end; a
    second SIGINT ends them at once. To be called in the main thread of a process that has no
    other threads and no event loop yet. `build` makes the application, in each process that
    serves; `app.build` unless given. Raises `StartError`, or what `build` raises.
    """
    logs.setup(settings.log_format, settings.log_level)
    check(settings)
    with ExitStack() as stack:
        sockets = stack.enter_context(_listening(settings))
        urls = addresses(sockets, scheme="https" if settings.tls_cert else "http")

        def tell() -> None:
            on_listening(urls)

        if settings.workers == 1:
            return _work(settings, sockets, build, on_started=tell)
        stack.enter_context(_shared_metrics())

        def work(lifeline: Lifeline) -> int:
            started = lifeline.announce
            return _work(settings, sockets, build, on_started=started, lifeline=lifeline)

        return Supervisor(work, settings.workers, sockets, settings.grace, tell).run()


def check(settings: Settings) -> None:
    """Find what would stop the server from working. Raises `StartError`."""
    for folder in settings.every_folder:
        if not folder.is_dir():
            raise StartError(f"The folder {folder} does not exist; create it or leave it out.")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise StartError(f"The folder {folder} cannot be read; change its permissions.")
    _check_cache(settings.cache_dir)
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


@contextmanager
def _listening(settings: Settings) -> Iterator[list[socket]]:
    if settings.unix_socket is not None:
        with unix_socket(settings.unix_socket) as sock:
            yield [sock]
        return
    sockets = bind_tcp(settings.host, settings.port)
    try:
        yield sockets
    finally:
        close_all(sockets)


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """A private folder for the workers' counters, for as long as the workers live.

    Files of ended workers stay: counters never go back. Gauges are not kept there.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="proxyindex-metrics-")
    except OSError as error:
        raise StartError(
            "No folder for temporary files can be written; set TMPDIR to one."
        ) from error
    with folder as path:
        os.environ[MULTIPROCESS_VARIABLE] = path
        try:
            yield
        finally:
            del os.environ[MULTIPROCESS_VARIABLE]


def _work(
    settings: Settings,
    sockets: list[socket],
    build: Build | None,
    *,
    on_started: Callable[[], None],
    lifeline: Lifeline | None = None,
) -> int:
    """Build the application and serve it in this process; the exit status."""
    try:
        application = (build or _build)(settings)
    except OSError as error:
        raise StartError(f"The application cannot start: {error}.") from error
    _calm_collector()
    server = _Server(_config(settings, application), on_started, lifeline)
    try:
        server.run(sockets=sockets)
    except SystemExit:  # uvicorn's way to say that the application's start-up failed
        server.started = False
    if not server.started:
        if lifeline is not None:
            return CANNOT_START
        raise StartError("The application cannot start; the lines above tell why.")
    return FORCED if server.force_exit else 0


def _build(settings: Settings) -> ASGIApp:
    # imported here: only processes that serve need all of it
    from proxyindex.app import build  # noqa: PLC0415

    return build(settings)


def _config(settings: Settings, application: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=ExpressProtocol,
        ws="none",
        loop=f"{__name__}:{Loop.__name__}",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        # whoever may open our Unix socket is the front we were put behind
        forwarded_allow_ips=[*settings.trusted_proxies, UNIX_PEER],
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        backlog=BACKLOG,
        limit_concurrency=raise_descriptor_limit() // DESCRIPTORS_PER_CONNECTION,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.grace),
    )


def _calm_collector() -> None:
    """Let the garbage collector look less often, and never at what the start has made.

    Parsed pages are tens of thousands of values without a cycle among them; looking for one doubled
    the time it took to parse a page of 11,000 files (170 ms against 95 ms).
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors as far as is of use; the limit now in force.

    Many systems still start services with 1,024 of them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else hard
    wanted = min(DESCRIPTORS_WANTED, ceiling)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return DESCRIPTORS_WANTED if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):  # forbidden by a sandbox
        return soft
    return wanted


class Loop(uvloop.Loop):
    """uvloop's event loop with our times for the two ends of a TLS connection.

    uvloop's own are 60 s and 30 s; uvicorn has no option for them.
    """

    async def create_server(  # type: ignore[override]
        self, *args: Any, **options: Any
    ) -> asyncio.AbstractServer:
        """As asyncio's."""
        if options.get("ssl") is not None:
            options |= {"ssl_handshake_timeout": HANDSHAKE_SECONDS}
            options |= {"ssl_shutdown_timeout": FAREWELL_SECONDS}
        return await super().create_server(*args, **options)


class _Server(uvicorn.Server):
    """uvicorn's server that tells when it serves, outlives no parent, and exits with 0."""

    def __init__(
        self, config: uvicorn.Config, on_started: Callable[[], None], lifeline: Lifeline | None
    ) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._lifeline = lifeline

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not self.started:
            return
        if self._lifeline is not None:
            parent_fd = self._lifeline.parent_fd
            asyncio.get_running_loop().add_reader(parent_fd, self._on_orphaned, parent_fd)
        self._on_started()

    def _on_orphaned(self, parent_fd: int) -> None:
        asyncio.get_running_loop().remove_reader(parent_fd)
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again at the end: a stopped service would look killed
        for number in STOP_SIGNALS:
            signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            ignore_stop_signals()

"""Serving: checks, sockets, one process or several, signals, drain. uvicorn run from our code."""

import asyncio
import fcntl
import gc
import math
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from socket import socket
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp

from proxyindex import logs
from proxyindex.access import UNIX_PEER
from proxyindex.metrics import MULTIPROCESS_VARIABLE
from proxyindex.server.certificate import Certificate
from proxyindex.server.checks import check
from proxyindex.server.express import ExpressProtocol
from proxyindex.server.listen import (
    BACKLOG,
    StartError,
    addresses,
    bind_tcp,
    close_all,
    unix_socket,
)
from proxyindex.server.protocol import STOPPING_KEY
from proxyindex.server.reload import (
    RENEW_KEY,
    Configuration,
    Load,
    Terminal,
    hold_hangups,
    take_hangups,
)
from proxyindex.server.workers import (
    CANNOT_START,
    FORCED,
    STOP_SIGNALS,
    Lifeline,
    Supervisor,
    ignore_stop_signals,
)
from proxyindex.settings import Settings

# Longer than the pauses of installers, and than the 60 s for which fronts keep idle connections:
# the side that reuses a connection should be the one that closes it.
KEEP_ALIVE_SECONDS = 75
HANDSHAKE_SECONDS = 5.0  # with the 10 s for a head, nobody holds a connection for more than 15
# The farewell begins when the last bytes are handed over, not when they have been read: after
# uvloop's 30 s a slow reader lost the end of its file (measured: 1 MiB of it).
FAREWELL_SECONDS = 600.0
DESCRIPTORS_WANTED = 65_536
# The client's socket, its duplicate for the kernel's sending, the file; and a share of upstreams,
# stores and files that are kept open.
DESCRIPTORS_PER_CONNECTION = 4


Build = Callable[[Settings], ASGIApp]


def serve(
    settings: Settings,
    *,
    on_listening: Callable[[Sequence[str]], None],
    build: Build | None = None,
    reload: Load | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; the exit status: 0 after an orderly stop, 130 if forced.

    `on_listening` is called once, with the URLs, when requests are answered. After the first
    signal nothing new is accepted, answers under way have `settings.grace` seconds to end; a
    second SIGINT ends them at once. To be called in the main thread of a process that has no
    other threads and no event loop yet. `build` makes the application, in each process that
    serves; `app.build` unless given. `reload` finds the settings again at SIGHUP. Raises
    `StartError`, or what `build` raises.
    """
    hold_hangups()
    terminal = Terminal()
    logs.setup(settings.log_format, settings.log_level, settings.audit_log)
    check(settings)
    configuration = Configuration(settings, reload, check)
    with ExitStack() as stack:
        sockets = stack.enter_context(_listening(settings))
        urls = addresses(sockets, scheme="https" if settings.tls_cert else "http")

        def tell() -> None:
            on_listening(urls)

        if settings.workers == 1:
            renewing = _Renewing(configuration, terminal)
            return _work(configuration.settings, sockets, build, tell, renewing)
        stack.enter_context(_shared_metrics())

        def work(lifeline: Lifeline) -> int:
            renewing = _Renewing(configuration, None, lifeline)
            return _work(configuration.settings, sockets, build, lifeline.announce, renewing)

        return Supervisor(
            work,
            count=settings.workers,
            sockets=sockets,
            grace=settings.grace,
            on_ready=tell,
            renew=configuration.renew,
            is_abandoned=terminal.is_gone,
        ).run()


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
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.environ[MULTIPROCESS_VARIABLE] = path
        try:
            # tells systemd-tmpfiles, which sweeps by age, to leave it alone (tmpfiles.d(5));
            # where there are no locks, as on some file servers, it is not kept from it
            with suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_SH)
            yield
        finally:
            del os.environ[MULTIPROCESS_VARIABLE]
            os.close(held)


def _work(
    settings: Settings,
    sockets: list[socket],
    build: Build | None,
    on_started: Callable[[], None],
    renewing: "_Renewing",
) -> int:
    """Build the application and serve it in this process; the exit status."""
    try:
        application = (build or _build)(settings)
    except OSError as error:
        raise StartError(f"The application cannot start: {error}.") from error
    _calm_collector()
    certificate = Certificate() if settings.tls_cert else None
    config = _config(settings, application, certificate)
    server = _Server(config, on_started, renewing, certificate)
    try:
        server.run(sockets=sockets)
    except SystemExit:  # uvicorn's way to say that the application's start-up failed
        server.started = False
    if not server.started:
        if renewing.lifeline is not None:
            return CANNOT_START
        raise StartError("The application cannot start; the lines above tell why.")
    return FORCED if server.force_exit else 0


def _build(settings: Settings) -> ASGIApp:
    # imported here: only processes that serve need all of it
    from proxyindex.app import build  # noqa: PLC0415

    return build(settings)


def _config(
    settings: Settings, application: ASGIApp, certificate: Certificate | None
) -> uvicorn.Config:
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
        ssl_context_factory=certificate.context if certificate else None,
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


@dataclass(frozen=True, slots=True)
class _Renewing:
    """How this process reads its configuration again.

    `terminal` is given to a process without a parent, `lifeline` to a worker of a supervisor.
    """

    configuration: Configuration
    terminal: Terminal | None
    lifeline: Lifeline | None = None

    def told(self, is_renewed: bool) -> None:
        if self.lifeline is not None:
            self.lifeline.tell_renewed(is_renewed=is_renewed)


class _Server(uvicorn.Server):
    """uvicorn's server that tells when it serves, outlives no parent, exits with 0, and reads its
    configuration again at SIGHUP."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_started: Callable[[], None],
        renewing: _Renewing,
        certificate: Certificate | None,
    ) -> None:
        super().__init__(config)
        self._certificate = certificate
        self._on_started = on_started
        self._renewing = renewing

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not self.started:
            return
        loop = asyncio.get_running_loop()
        if self._renewing.lifeline is not None:
            parent_fd = self._renewing.lifeline.parent_fd
            loop.add_reader(parent_fd, self._on_orphaned, parent_fd)
        self._on_started()
        signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._on_hangup))
        take_hangups()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.lifespan.state[STOPPING_KEY] = True  # for connections that are amid their handshake
        await super().shutdown(sockets=sockets)

    def _on_hangup(self) -> None:
        if self._renewing.terminal is not None and self._renewing.terminal.is_gone():
            self.should_exit = True
        elif renew := self.lifespan.state.get(RENEW_KEY):
            renew(self._load, self._renewed)
        else:  # an application that knows nothing of it
            self._renewing.told(False)

    def _load(self) -> Settings:
        """Everything that SIGHUP asks to be read again. In a thread."""
        # a parent has told already
        found = self._renewing.configuration.renewed(is_told=not self._renewing.lifeline)
        if self._certificate is not None:
            self._certificate.load()
        return found

    def _renewed(self, is_renewed: bool) -> None:
        if is_renewed and self._certificate is not None:
            self._certificate.take()
        self._renewing.told(is_renewed)

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

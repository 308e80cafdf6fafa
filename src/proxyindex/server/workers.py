"""Several worker processes behind one set of listening sockets: fork, watch, restart, stop.

Workers are forked, not spawned: nothing is pickled, and they inherit the sockets. The parent
runs no event loop and no thread, and imports nothing that would make a copy of itself unsound.
"""

import logging
import math
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from proxyindex.errors import ProxyindexError
from proxyindex.server.listen import StartError, close_all
from proxyindex.server.reload import take_hangups

CANNOT_START = 3  # exit status of a worker that failed before it served
GIVE_UP_AFTER = 5  # workers in a row that never became ready, once some were
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
STABLE_SECONDS = 60.0  # a worker that lived so long died of something new
# After the grace period, for the application to put its things away. It gives downloads without
# clients 5 s of it; killed in the middle of that, an orderly stop would end with 130.
CLOSE_SECONDS = 10.0
FORCE_SECONDS = 1.0
RENEW_SECONDS = 60.0  # for all workers to read the configuration again
FORCED = 128 + signal.SIGINT

_PIPE = 64 * 1024  # bytes: all that a pipe holds, so that no line is read in two
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lifeline:
    """What a worker has of its parent: a pipe to say "ready", and one that ends when it dies."""

    ready_fd: int
    parent_fd: int

    def announce(self) -> None:
        """Tell the parent that this worker serves."""
        self._tell(b"ready")

    def tell_renewed(self, *, is_renewed: bool) -> None:
        """Tell the parent that the configuration was read again, and whether it is followed."""
        self._tell(b"renewed" if is_renewed else b"kept")

    def _tell(self, word: bytes) -> None:
        with suppress(BrokenPipeError):
            os.write(self.ready_fd, b"%b %d\n" % (word, os.getpid()))


Work = Callable[[Lifeline], int]


@dataclass(slots=True)
class _Worker:
    started: float
    is_ready: bool = False


@dataclass(slots=True)
class Supervisor:
    """Keeps `count` processes running `work` until a stop signal.

    `work` runs in the child and returns its exit status. `on_ready` is called once, when all
    of them serve. `sockets` are closed in the parent as soon as it stops, since the kernel
    accepts connections for as long as anybody holds them open. A worker that ended is replaced
    after `first_delay` seconds, or up to `LONGEST_DELAY` if that keeps happening.

    At SIGHUP `renew` tells whether there is a sound configuration, which further workers will be
    started with; then those that run are told, and waited for `renew_seconds`. It ends everything
    if `is_abandoned`.
    """

    work: Work
    count: int
    sockets: Sequence[socket.socket]
    grace: float
    on_ready: Callable[[], None]
    first_delay: float = FIRST_DELAY
    renew: Callable[[], bool] = lambda: False
    is_abandoned: Callable[[], bool] = lambda: False
    renew_seconds: float = RENEW_SECONDS
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _start_at: list[float] = field(default_factory=list)
    _misses: int = 0  # workers in a row that never became ready
    _deaths: int = 0  # workers in a row that did not live long
    _was_ready: bool = False
    _signals: list[int] = field(default_factory=list)
    _is_hung_up: bool = False
    _renewing: set[int] = field(default_factory=set)  # workers that have yet to say so
    _renewed_by: float = math.inf  # when those are waited for no more
    _keepers: int = 0  # workers that stayed with the old configuration

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; 0 after an orderly stop, 130 after a forced one.

        Raises `StartError` when the workers cannot start.
        """
        ready_fd, ready_in = os.pipe()
        parent_fd, parent_in = os.pipe()
        os.set_blocking(ready_fd, False)
        self._start_at = [time.monotonic()] * self.count
        with _signals_to_pipe() as signals_fd:
            try:
                while not self._signals:
                    self._start_due(Lifeline(ready_in, parent_fd), ours=(ready_fd, parent_in))
                    self._wait([signals_fd, ready_fd], self._pause())
                    self._greet(ready_fd)
                    self._reap()
                    self._renew()
                return self._stop(signals_fd)
            finally:
                self._kill()
                for fd in (ready_fd, ready_in, parent_fd, parent_in):
                    os.close(fd)

    def _start_due(self, lifeline: Lifeline, *, ours: Sequence[int]) -> None:
        now = time.monotonic()
        due = [moment for moment in self._start_at if moment <= now]
        self._start_at = [moment for moment in self._start_at if moment > now]
        for _ in due:
            try:
                pid = _fork(lambda: self.work(lifeline), ours)
            except OSError as problem:  # no process or memory to be had
                if not self._was_ready:
                    raise StartError(f"The worker processes cannot start: {problem}.") from problem
                self._deaths += 1
                delay = self._start_later()
                logger.error("no worker can be started: %s; next try in %.1f s", problem, delay)
            else:
                self._workers[pid] = _Worker(time.monotonic())

    def _start_later(self) -> float:
        """Have another one started, the later the more did not live long; in how many seconds."""
        delay = min(LONGEST_DELAY, self.first_delay * 2.0 ** min(64, self._deaths // self.count))
        self._start_at.append(time.monotonic() + delay)
        return delay

    def _pause(self) -> float | None:
        """Seconds until a worker is to be started or given up; `None`: until something happens."""
        moment = min([*self._start_at, self._renewed_by])
        return None if moment == math.inf else max(0.0, moment - time.monotonic())

    def _wait(self, fds: list[int], timeout: float | None) -> None:
        readable, _, _ = select.select(fds, [], [], timeout)
        if fds[0] in readable:
            numbers = os.read(fds[0], 512)
            self._signals += [number for number in numbers if number in STOP_SIGNALS]
            self._is_hung_up |= signal.SIGHUP in numbers

    def _greet(self, ready_fd: int) -> None:
        with suppress(BlockingIOError):
            for line in os.read(ready_fd, _PIPE).splitlines():
                word, pid = line.split()
                worker = self._workers.get(int(pid))
                if word != b"ready":
                    self._settle(int(pid), is_renewed=word == b"renewed")
                elif worker is not None:  # not dead again already
                    worker.is_ready = True
                    self._misses = 0
        ready = sum(worker.is_ready for worker in self._workers.values())
        if not self._was_ready and ready == self.count:
            self._was_ready = True
            self.on_ready()

    def _reap(self) -> None:
        for pid, status in _ended():
            if worker := self._workers.pop(pid, None):
                self._replace(pid, worker, os.waitstatus_to_exitcode(status))
                self._settle(pid, is_renewed=True)  # the next one begins with it

    def _renew(self) -> None:
        """Have all workers read the configuration again; one such round at a time."""
        if self._renewed_by <= time.monotonic():
            stuck, seconds = ", ".join(map(str, sorted(self._renewing))), self.renew_seconds
            logger.error("workers %s did not reload the configuration within %d s", stuck, seconds)
            self._renewing, self._renewed_by = set(), math.inf
        if not self._is_hung_up or self._renewing:
            return
        self._is_hung_up = False
        if self.is_abandoned():
            self._signals.append(signal.SIGHUP)
        elif self.renew():
            self._renewing, self._keepers = set(self._workers), 0
            self._renewed_by = time.monotonic() + self.renew_seconds
            self._send(signal.SIGHUP)
            self._end_round()

    def _settle(self, pid: int, *, is_renewed: bool) -> None:
        if pid not in self._renewing:
            return
        self._renewing.discard(pid)
        self._keepers += not is_renewed
        self._end_round()

    def _end_round(self) -> None:
        """Tell how it went if none is waited for (any more: all may just have died)."""
        if self._renewing:
            return
        self._renewed_by = math.inf
        if self._keepers:
            logger.error("%d workers stay with the old configuration", self._keepers)
        else:
            logger.info("configuration reloaded by all workers")

    def _replace(self, pid: int, worker: _Worker, code: int) -> None:
        if not worker.is_ready:
            self._misses += 1
            is_vain = self._misses >= GIVE_UP_AFTER
            is_last = not any(other.is_ready for other in self._workers.values())
            if not self._was_ready or (is_vain and is_last):
                raise StartError("The worker processes cannot start; the lines above tell why.")
        lived = time.monotonic() - worker.started
        self._deaths = 0 if lived > STABLE_SECONDS else self._deaths + 1
        delay = self._start_later()
        logger.error("worker %d ended with status %d; next one in %.1f s", pid, code, delay)

    def _stop(self, signals_fd: int) -> int:
        close_all(self.sockets)
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + self.grace + CLOSE_SECONDS
        is_forced = False
        while self._workers and (left := deadline - time.monotonic()) > 0:
            if not is_forced and signal.SIGINT in self._signals[1:]:
                # uvicorn drops everything at an interrupt that follows a stop of whatever kind
                self._send(signal.SIGINT)
                is_forced, deadline = True, min(deadline, time.monotonic() + FORCE_SECONDS)
                continue
            self._wait([signals_fd], left)
            for pid, _ in _ended():
                self._workers.pop(pid, None)
        return FORCED if is_forced or self._kill() else 0

    def _send(self, number: int) -> None:
        for pid in self._workers:
            os.kill(pid, number)  # not reaped yet, so the number is still theirs

    def _kill(self) -> int:
        """Kill and reap what is left; the number of processes that was."""
        killed = len(self._workers)
        if killed:
            logger.warning("%d workers did not stop in time and are killed", killed)
        self._send(signal.SIGKILL)
        for pid in self._workers:
            os.waitpid(pid, 0)
        self._workers.clear()
        return killed


def _fork(work: Callable[[], int], parents_fds: Sequence[int]) -> int:
    """Run `work` in a child and end it there; the child's process id. Raises `OSError`.

    Signals wait while the child still has its parent's handlers.
    """
    blocked = {*STOP_SIGNALS, signal.SIGCHLD, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid
    status = CANNOT_START
    try:
        signal.set_wakeup_fd(-1)
        for number in blocked:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, {*before, signal.SIGHUP})  # until it serves
        for fd in parents_fds:
            os.close(fd)
        status = work()
    except ProxyindexError as error:
        logger.critical("%s", error)
    finally:
        # never unwind into the parent's half of the program
        if (problem := sys.exc_info()[1]) is not None:
            logger.critical("worker failed", exc_info=problem)
        logging.shutdown()
        os._exit(status)


def _ended() -> Iterator[tuple[int, int]]:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def ignore_stop_signals() -> None:
    """For a process that has served and ends.

    A second signal in the moment that takes would kill it, and an orderly stop look like none.
    """
    for number in (*STOP_SIGNALS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _signals_to_pipe() -> Iterator[int]:
    """A descriptor that yields the number of each stop signal, SIGHUP and SIGCHLD as a byte."""
    numbers = (*STOP_SIGNALS, signal.SIGHUP, signal.SIGCHLD)
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    with reader, writer:
        for number in numbers:
            signal.signal(number, lambda *_: None)
        waker = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        take_hangups()
        try:
            yield reader.fileno()
        finally:
            signal.set_wakeup_fd(waker)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ignore_stop_signals()

"""Random traffic against a server whose processes are killed at random moments, and the reckoning.

    mayhem = Mayhem(server, upstream, own_folder, seed=1)
    result = mayhem.round()
    assert not (result.wrong or result.lost or result.leftovers)

The server runs before and after each round. Every body that arrives whole is compared by digest;
a body cut short by a kill is no fault, for a client rejects it.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from proxyindex import disk
from proxyindex.store import upkeep
from tests.support import http
from tests.support.builders import put_wheel
from tests.support.crowd import lock_holder, processes_with_open
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec, wheel_spec
from tests.support.reply import Generated, Reply, sha256_of
from tests.support.server import ProxyIndex
from tests.support.stores import opened, sha256
from tests.support.upstream import FakeUpstream

CLIENTS = 6
OWN = 4
COLD = 12
_RATE = 3_000_000  # bytes per second from upstream, so that a kill finds downloads running
_FOLLOWERS = 12  # connections to one download, enough to meet several workers
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What one round brought.

    `responses`: bodies that arrived whole, each compared.  `wrong`: those with other bytes than
    promised, and damage found in the cache.  `lost`: own packages not served right after it.
    `leftovers`: files that nobody lists and no sweep removes.  `takeover_seconds`: from the kill of
    the process that fetched a file to the next byte at a client of another one; infinite if that
    never came, `None` if the round had no such client.  `kill`: what was killed.
    """

    responses: int
    wrong: int
    lost: int
    leftovers: int
    takeover_seconds: float | None
    kill: str = ""


@dataclass(slots=True)
class _Tally:
    responses: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, *, is_right: bool) -> None:
        with self.lock:
            self.responses += 1
            if not is_right:
                self.wrong.append(what)


class Mayhem:
    """Rounds of traffic and killing. `own` is the folder of local packages that `server` serves,
    to which some are added; `seed` makes the choices repeatable, though not the moments."""

    def __init__(self, server: ProxyIndex, upstream: FakeUpstream, own: Path, seed: int) -> None:
        self._server = server
        self._upstream = upstream
        self._random = random.Random(seed)
        self._rounds = itertools.count(1)
        self._workers = max(1, len(children(server)))
        self._files: dict[str, tuple[str, int]] = {}  # target: sha256 and size
        self._own = [self._put(own, number) for number in range(OWN)]
        self._cold = [self._offer(number) for number in range(COLD)]
        self._warm = wheel_spec("warm", payload=5000)
        upstream.project("warm", self._warm)
        self._files[f"/simple/warm/{self._warm.filename}"] = _digest(self._warm)

    def round(self) -> RoundResult:
        """Traffic, a kill amid it, a restart if need be, and a look at what is left."""
        number, tally, takeover = next(self._rounds), _Tally(), None
        kills: list[Callable[[], None]] = [self._kill_all]
        if self._workers > 1:
            kills.append(self._kill_one)
            takeover = self._take_over(number, tally)
        kill = kills[number % len(kills)]
        with self._traffic(tally):
            at = tally.responses + self._random.randrange(5, 150)
            wait_until(lambda: tally.responses >= at, "traffic", timeout=_PATIENCE, every=0.001)
            kill()
            wait_until(lambda: tally.responses >= at + 20, "traffic", timeout=_PATIENCE)
        lost = sum(not self._is_right(target) for target in self._own)
        leftovers, damage = self._reckon()
        self._cool_down()
        wrong = len(tally.wrong) + damage
        return RoundResult(tally.responses, wrong, lost, leftovers, takeover, kill.__name__)

    @contextmanager
    def traffic(self) -> Iterator[_Tally]:
        """Only the traffic, for as long as the block lasts."""
        tally = _Tally()
        with self._traffic(tally):
            yield tally

    # what there is

    def _put(self, own: Path, number: int) -> str:
        path = put_wheel(own, f"own-{number}", payload=20_000 * (number + 1))
        target = f"/simple/own-{number}/{path.name}"
        self._files[target] = sha256(path.read_bytes()), path.stat().st_size
        return target

    def _offer(self, number: int) -> FileSpec:
        spec = FileSpec(
            filename=f"cold{number}-1.0.tar.gz", body=Generated(20_000 + 40_000 * number, number)
        )
        self._upstream.project(f"cold{number}", spec)
        self._upstream.file(spec, rate=_RATE)
        self._files[_target(spec)] = _digest(spec)
        return spec

    # traffic

    @contextmanager
    def _traffic(self, tally: _Tally) -> Iterator[None]:
        over = threading.Event()
        choices = [random.Random(self._random.random()) for _ in range(CLIENTS)]
        clients = [threading.Thread(target=self._use, args=(tally, over, one)) for one in choices]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            over.set()
            for client in clients:
                client.join()

    def _use(self, tally: _Tally, over: threading.Event, choices: random.Random) -> None:
        targets = list(self._files)
        while not over.is_set():
            target = choices.choice(targets)
            try:
                if choices.random() < 0.3:
                    self._get_page(tally, target)
                elif choices.random() < 0.3:
                    self._get_range(tally, target, choices)
                else:
                    self._get_file(tally, target)
            except (OSError, http.NoAnswerError, http.ShortBodyError):
                over.wait(0.01)  # it is down: not worth asking at full speed

    def _get_page(self, tally: _Tally, target: str) -> None:
        page, _, filename = target.rpartition("/")
        answer = self._server.get(f"{page}/")
        if answer.status == 200:
            tally.add(page, is_right=filename in answer.text)

    def _get_file(self, tally: _Tally, target: str) -> None:
        answer = self._server.get(target)
        if answer.status == 200:
            tally.add(target, is_right=sha256(answer.body) == self._files[target][0])

    def _get_range(self, tally: _Tally, target: str, choices: random.Random) -> None:
        spec = next((one for one in self._cold if _target(one) == target), None)
        if spec is None:
            return
        first, last = sorted(choices.sample(range(len(spec.body)), 2))
        answer = self._server.get(target, [("Range", f"bytes={first}-{last}")])
        if answer.status == 206:
            assert isinstance(spec.body, Generated)
            tally.add(target, is_right=answer.body == spec.body.read(first, last + 1))

    def _is_right(self, target: str) -> bool:
        answer = self._server.get(target)
        return answer.status == 200 and sha256(answer.body) == self._files[target][0]

    # killing

    def _kill_all(self) -> None:
        self._server.kill()
        self._server.start()

    def _kill_one(self) -> None:
        kill_worker(self._server, self._random.choice(children(self._server)))

    def _take_over(self, number: int, tally: _Tally) -> float | None:
        """Kill the process that fetches a file which clients of others read, too."""
        spec = FileSpec(filename=f"relay{number}-1.0.tar.gz", body=Generated(600_000, number))
        half, gate = 300_000, f"relay{number}"
        self._upstream.project(f"relay{number}", spec)
        usual = Reply(body=spec.body, last_modified="Wed, 17 Jan 2024 16:53:12 GMT")
        self._upstream.script(spec.path, usual.with_(hold_at=half, gate=gate), usual)
        with ExitStack() as stack:
            stack.callback(self._upstream.release, gate)
            readers = [stack.enter_context(self._server.connect()) for _ in range(_FOLLOWERS)]
            answers = [reader.request(_target(spec)) for reader in readers]
            begun = [answer.read(half) for answer in answers]
            writer = self._writer()
            followers = processes_with_open(self._server.cache_dir / "partials") - {writer}
            killed_at = time.monotonic()
            kill_worker(self._server, writer, wait=False)
            first: float | None = None
            for answer, beginning in zip(answers, begun, strict=True):
                with suppress(http.ShortBodyError):
                    more = answer.read(1)
                    first = first or time.monotonic() - killed_at
                    body = beginning + more + answer.read()
                    tally.add(spec.filename, is_right=sha256(body) == sha256_of(spec.body))
        self._await_workers()
        return float("inf") if first is None and followers else first

    def _writer(self) -> int:
        """The process that holds a lock for longer than the moment that a page takes."""
        seen = [0]

        def is_steady() -> bool:
            seen.append(lock_holder(self._server.cache_dir / "locks"))
            return seen[-1] == seen[-2] != 0

        wait_until(is_steady, "the writer", every=0.05)
        return seen[-1]

    def _await_workers(self) -> None:
        enough = lambda: len(children(self._server)) == self._workers  # noqa: E731
        wait_until(enough, "a new worker", timeout=_PATIENCE)

    # the reckoning

    def _reckon(self) -> tuple[int, int]:
        """Files that remain after a sweep without mercy, and damage in the stores."""
        root = self._server.cache_dir
        wait_until(lambda: lock_holder(root / "locks") == 0, "all downloads", timeout=_PATIENCE)
        with opened(root) as cache:
            cache.sweep_before(float("inf"))
            for store in ("pages", "blobs"):
                disk.sweep(root / store, float("inf"))
            damage = list(upkeep.verify(cache, lambda size: None, repair=False))
        left = [path for path in (root / "partials").glob("*") if path.is_file()]
        left += [path for path in root.rglob(".new-*") if path.is_file()]
        return len(left), len(damage)

    def _cool_down(self) -> None:
        """Forget some files, so that the next round has something to fetch."""
        for spec in self._random.sample(self._cold, COLD // 2):
            digest = sha256_of(spec.body)
            (self._server.cache_dir / "blobs" / digest[:2] / digest).unlink(missing_ok=True)


def children(server: ProxyIndex) -> list[int]:
    """The worker processes of a running server; none if it works by itself."""
    listed = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return [int(pid) for pid in listed.split()]


def kill_worker(server: ProxyIndex, pid: int, *, wait: bool = True) -> None:
    """SIGKILL one worker, and wait until its parent has started another."""
    before = children(server)
    assert pid in before, f"{pid} is no worker"
    os.kill(pid, signal.SIGKILL)
    if wait:
        wait_until(
            lambda: pid not in (now := children(server)) and len(now) == len(before),
            "a new worker",
            timeout=_PATIENCE,
        )


def _target(spec: FileSpec) -> str:
    return f"/simple/{spec.filename.partition('-')[0]}/{spec.filename}"


def _digest(spec: FileSpec) -> tuple[str, int]:
    return sha256_of(spec.body), len(spec.body)

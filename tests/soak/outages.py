"""Every kind of outage, with and without a copy: each request is answered within the budget."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxyindex.settings import UpstreamSettings
from proxyindex.sources import upstream_id
from proxyindex.store.facts import Fact
from proxyindex.store.pages import PageHead
from tests.soak.lab import Run, serve
from tests.soak.row import Row
from tests.support import http
from tests.support.builders import make_wheel, metadata, wheel_name
from tests.support.stores import opened, sha256

ROUNDS = 20
BUDGET = 8.0  # seconds
_PATIENCE = 30.0  # seconds until a client gives up
_EACH = 3  # requests of every sort at once
_NAME = "outage"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4000\r\n\r\n<html>"
_REFUSAL = b"HTTP/1.1 503 Sorry\r\nContent-Length: 2\r\n\r\nno"
_ERROR = b"HTTP/1.1 500 Sorry\r\nContent-Length: 2\r\n\r\nno"


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request fared: `sort` of request, seconds to its head, and what is wrong with it."""

    outage: str
    sort: str
    seconds: float
    problem: str


class Rude:
    """A listener on loopback that treats every connection alike."""

    def __init__(self, treat: Callable[[socket.socket], None]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._treat = treat
        self._kept: list[socket.socket] = []
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self._kept.append(peer)
            with contextlib.suppress(OSError):
                self._treat(peer)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for each in (self._socket, *self._kept):
            each.close()


def _reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def _silent(peer: socket.socket) -> None:
    """Takes the request and says nothing."""


def _answering(data: bytes) -> Callable[[socket.socket], None]:
    """The same bytes to every request, until the client leaves."""

    def treat(peer: socket.socket) -> None:
        def answer() -> None:
            with contextlib.suppress(OSError):
                while peer.recv(65_536):
                    peer.sendall(data)

        threading.Thread(target=answer, daemon=True).start()

    return treat


_TREATMENTS = {
    "reset": _reset,
    "silent": _silent,
    "hang after headers": _answering(_HEAD),
    "503": _answering(_REFUSAL),
    "500": _answering(_ERROR),
}
OUTAGES = (*_TREATMENTS, "refused", "blackhole", "no such host", "no TLS")


@contextmanager
def outage(kind: str) -> Iterator[str]:
    """The URL of an upstream that is down in this way."""
    with ExitStack() as stack:
        if kind == "no such host":
            yield "http://soak-outage.invalid/simple"
            return
        if kind in ("refused", "blackhole"):
            bound = stack.enter_context(socket.socket())
            bound.bind(("127.0.0.1", 0))
            port = bound.getsockname()[1]
            if kind == "blackhole":
                bound.listen(0)
                _fill(port, stack)
        else:
            rude = Rude(_TREATMENTS.get(kind, _answering(_REFUSAL)))
            stack.callback(rude.close)
            port = rude.port
        yield f"{'https' if kind == 'no TLS' else 'http'}://127.0.0.1:{port}/simple"


def _fill(port: int, stack: ExitStack) -> None:
    """Take all places in a listener's queue: who comes after gets no answer at all."""
    for _ in range(4):
        taker = stack.enter_context(socket.socket())
        taker.setblocking(False)
        taker.connect_ex(("127.0.0.1", port))


@dataclass(frozen=True, slots=True)
class Held:
    """What a cache has before the outage: overdue pages, and some of the files they list."""

    body: bytes
    told: bytes

    @classmethod
    def make(cls) -> Held:
        return cls(make_wheel("held", payload=20_000), metadata("held"))

    def fill(self, cache_dir: Path, url: str) -> None:
        """Lay it into a cache directory, as a server before `url` would have."""
        key = upstream_id(UpstreamSettings(name=_NAME, url=url))
        head = PageHead(
            url=f"{url}/held/",
            content_type="application/vnd.pypi.simple.v1+json",
            fetched_at=time.time() - 86_400,
            validated_at=time.time() - 86_400,
        )
        with opened(cache_dir) as cache:
            for number in range(_EACH):
                project = f"held-{number}"
                cache.pages.write(key, project, head, self._page(project))
                kept = Fact(url=f"{url}/f", sha256=sha256(self.body), size=len(self.body))
                cache.facts.learn(key, project, wheel_name(project), kept)
            cache.blobs.put(sha256(self.body), self.body)
            cache.blobs.put(sha256(self.told), self.told)

    def _page(self, project: str) -> bytes:
        """Lists version 1.0, which is stored, and 2.0, which is not."""
        files = [
            {
                "filename": wheel_name(project, version),
                "url": f"../../files/{wheel_name(project, version)}",
                "hashes": {"sha256": sha256(body)},
                "size": len(body),
                "core-metadata": {"sha256": sha256(told)},
            }
            for version, body, told in (
                ("1.0", self.body, self.told),
                ("2.0", self.body + project.encode(), self.told + project.encode()),
            )
        ]
        page = {"meta": {"api-version": "1.1"}, "name": project, "versions": ["1.0", "2.0"]}
        return json.dumps({**page, "files": files}).encode()

    def problem(self, sort: str, answer: http.Response) -> str:
        """What is wrong with an answer; nothing if it is as promised."""
        if sort.endswith("no copy"):
            is_refused = answer.status == 503 and answer.header("retry-after")
            return "" if is_refused else f"status {answer.status}, no honest 503"
        if answer.status != 200:
            return f"status {answer.status}"
        expected = {"file": self.body, "metadata": self.told}.get(sort.partition(",")[0])
        if expected is None:
            return "" if len(answer.json()["files"]) == 2 else "another page"
        return "" if answer.body == expected else "WRONG BYTES"


def run(run: Run) -> Iterator[Row]:
    """All kinds of outage at the same time, in rounds; a fresh server for each."""
    rounds, held, answers = run.count(ROUNDS), Held.make(), list[Answer]()
    with run.folder("outages") as folder, run.bar("outages", rounds) as advance:
        for number in range(rounds):
            workers = run.workers[number % len(run.workers)]
            with ThreadPoolExecutor(len(OUTAGES)) as pool:
                places = [folder / f"{number}-{place}" for place in range(len(OUTAGES))]
                done = pool.map(_one, OUTAGES, places, itertools.repeat(held),
                                itertools.repeat(workers))  # fmt: skip
                answers += itertools.chain.from_iterable(done)
            advance(number + 1)
    for answer in answers:
        if answer.problem:
            told = f"{answer.outage}: {answer.sort}: {answer.problem} after {answer.seconds:.2f} s"
            run.progress.console.print(told, style="red", markup=False)
    for sort in dict.fromkeys(answer.sort for answer in answers):
        yield _row(sort, [answer for answer in answers if answer.sort == sort])


def _row(sort: str, answers: list[Answer]) -> Row:
    good = [a for a in answers if not a.problem and a.seconds <= BUDGET]
    slowest = max(answers, key=lambda answer: answer.seconds)
    missed = Counter(answer.outage for answer in answers if answer not in good)
    told = "".join(f"; missed: {outage} {count} times" for outage, count in missed.items())
    promised = "503 + Retry-After" if sort.endswith("no copy") else "the copy"
    return Row(
        f"outages: {sort}",
        f"{promised} ≤ {BUDGET:g} s in 100 % of {len(OUTAGES)} kinds",
        f"{100 * len(good) / len(answers):.1f} % of {len(answers)}, slowest {slowest.seconds:.2f} "
        f"s ({slowest.outage}){told}",
        len(good) == len(answers),
    )


def _one(kind: str, folder: Path, held: Held, workers: int) -> list[Answer]:
    """A round of one kind of outage: all sorts of requests at once, to a server just started."""
    with outage(kind) as url:
        folder.mkdir()
        config = folder / "proxyindex.toml"
        config.write_text(f'[[upstream]]\nname = "{_NAME}"\nurl = "{url}"\n')
        server = serve(folder, None, "--config", str(config), workers=workers)
        held.fill(server.cache_dir, url)
        with server, ThreadPoolExecutor(6 * _EACH) as pool:
            asked = [
                (sort, target)
                for number in range(_EACH)
                for sort, target in _requests(number)
            ]  # fmt: skip
            found = pool.map(lambda one: _ask(kind, server.url, held, *one), asked)
            return list(found)


def _requests(number: int) -> list[tuple[str, str]]:
    project = f"held-{number}"
    page = f"/simple/{project}/"
    stored, missing = (page + wheel_name(project, version) for version in ("1.0", "2.0"))
    return [
        ("page, copy", page),
        ("page, no copy", f"/simple/lost-{number}/"),
        ("file, copy", stored),
        ("metadata, copy", stored + ".metadata"),
        ("file, no copy", missing),
        ("metadata, no copy", missing + ".metadata"),
    ]


def _ask(kind: str, url: str, held: Held, sort: str, target: str) -> Answer:
    started = time.monotonic()
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"} if sort.startswith("page") else {}
    try:
        with http.Connection(url, timeout=_PATIENCE) as connection:
            answer = connection.request(target, accept)
            seconds = time.monotonic() - started
            answer.read()
    except (OSError, http.NoAnswerError, http.ShortBodyError) as problem:
        return Answer(kind, sort, time.monotonic() - started, type(problem).__name__)
    return Answer(kind, sort, seconds, held.problem(sort, answer))

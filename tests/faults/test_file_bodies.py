"""Files that upstream breaks, bends, delays or denies: one table of faults.

For each of them the client gets the right whole file, or a short body or an error, which it
rejects; never a wrong whole file. The cache holds only what was verified, and once upstream is
well the next request has the file. Where it is a matter of several processes or of the exact
requests to upstream, see `tests/conformance/test_transfers.py`.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support import http
from tests.support.answer import Seen
from tests.support.builders import make_sdist, noise
from tests.support.clients import Done, Workbench
from tests.support.crowd import together
from tests.support.fixtures import start_server
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec, sdist_spec, wheel_spec
from tests.support.reply import BEFORE_HEADERS, NOT_FOUND, Reply
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

BODY = make_sdist("px-body", payload=100_000)
SIZE = len(BODY)
HALF = SIZE // 2
WRONG = BODY[:-1] + bytes([BODY[-1] ^ 1])
OTHER = noise(SIZE, seed="another version")
NOTICE = b"<!DOCTYPE html><title>Please sign in</title>"
CODED = gzip.compress(BODY, mtime=0)
SMALL = make_sdist("px-small", pkg_info=False)

WELL = Reply(body=BODY)
CUT = WELL.with_(cut_after=HALF)
ANEW = WELL.with_(chunked=True, etag=None, ranges="none")  # nothing of it could be resumed
REFUSED = Reply(status=403, etag=None)  # to the end: the fault before it is all there was
BUSY = Reply(status=503, etag=None)

Installer = Callable[..., Done]

WHOLE = frozenset({"whole"})
FAILED = frozenset({"short", "refused"})

UNSIZED: Mapping[str, Any] = {"size": None}
UNPROVEN: Mapping[str, Any] = {"hashes": {}}
UNKNOWN: Mapping[str, Any] = {**UNSIZED, **UNPROVEN}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What upstream answers in turn, what the page says of the file, what the client may get."""

    replies: tuple[Reply, ...]
    gets: frozenset[str]
    page: Mapping[str, Any] = field(default_factory=dict)
    algorithm: str = "sha256"
    body: bytes = BODY

    def moved(self, by: int) -> Fault:
        """The same fault of another file: one whose bytes are already stored is not asked for."""
        shifted = bytes((byte + by) % 256 for byte in range(256))
        replies = [one.with_(body=bytes(one.body).translate(shifted)) for one in self.replies]  # type: ignore[arg-type]
        return replace(self, replies=tuple(replies), body=self.body.translate(shifted))


def mended(*replies: Reply, **more: Any) -> Fault:
    """Faults that the client must not notice."""
    return Fault(replies=replies, gets=WHOLE, **more)


def fatal(*replies: Reply, **more: Any) -> Fault:
    """Faults that nothing can mend; who is asked again in the same request refuses."""
    return Fault(replies=(*replies, REFUSED), gets=FAILED, **more)


def resumed(start: int, body: bytes, **behaviour: Any) -> Reply:
    """A 206 that claims to go on at `start`, whatever was asked."""
    span = {"Content-Range": f"bytes {start}-{SIZE - 1}/{SIZE}"}
    return Reply(status=206, body=body, headers=span, **behaviour)


FAULTS = {
    # cut off
    "cut at byte 0": mended(WELL.with_(cut_after=0), WELL),
    "cut at byte 1": mended(WELL.with_(cut_after=1), WELL),
    "cut at half": mended(CUT, WELL),
    "cut at the last byte": mended(WELL.with_(cut_after=SIZE - 1), WELL),
    "cut at half by a reset": mended(CUT.with_(reset=True), WELL),
    "cut at half, size unknown": mended(CUT, WELL, page=UNSIZED),
    "cut at half, digest unknown": mended(CUT, WELL, page=UNPROVEN),
    "cut at half, in chunks": mended(CUT.with_(chunked=True), WELL, page=UNSIZED),
    "cut at half and not given again": fatal(CUT),
    "cut at half and not given again, nothing known": fatal(CUT, page=UNKNOWN),
    "cut five times, each later": mended(*[WELL.with_(cut_after=9_000)] * 5, WELL),
    "cut, busy twice, then fine": mended(CUT, BUSY, BUSY, WELL),
    "cut, busy for longer, then fine": mended(CUT, BUSY.with_(headers={"Retry-After": "3"}), WELL),
    "cut, too late, too early, then fine": mended(
        CUT, *(Reply(status=status, etag=None) for status in (408, 425)), WELL
    ),
    "cut, denied once, then fine": mended(CUT, NOT_FOUND, WELL),
    "cut, refused twice, then fine": mended(CUT, REFUSED, REFUSED, WELL),
    # wrong bytes
    "wrong bytes": fatal(Reply(body=WRONG)),
    "wrong bytes, size unknown": fatal(Reply(body=WRONG), page=UNSIZED),
    "wrong bytes in chunks": fatal(Reply(body=WRONG, chunked=True), page=UNSIZED),
    "wrong bytes, SHA-512": fatal(Reply(body=WRONG), algorithm="sha512"),
    "a notice instead of the file": fatal(Reply(body=NOTICE, content_type="text/html")),
    "a notice, size unknown": fatal(Reply(body=NOTICE, content_type="text/html"), page=UNSIZED),
    "nothing instead of the file": fatal(Reply(body=b"")),
    "nothing instead of the file, size unknown": fatal(Reply(body=b""), page=UNSIZED),
    # wrong length
    "announced shorter": fatal(WELL.with_(declare=HALF)),
    "announced shorter, size unknown": fatal(WELL.with_(declare=HALF), page=UNSIZED),
    "announced shorter, digest unknown": fatal(WELL.with_(declare=HALF), page=UNPROVEN),
    "announced longer": fatal(WELL.with_(declare=SIZE + 9)),
    "announced longer, size unknown": fatal(WELL.with_(declare=SIZE + 9), page=UNSIZED),
    "announced longer, digest unknown": fatal(WELL.with_(declare=SIZE + 9), page=UNPROVEN),
    "announced longer, nothing known": fatal(WELL.with_(declare=SIZE + 9), page=UNKNOWN),
    "shorter than listed": fatal(Reply(body=BODY[:-9])),
    "shorter than listed, in chunks": fatal(Reply(body=BODY[:-9], chunked=True)),
    "shorter than listed, size unknown": fatal(Reply(body=BODY[:-9]), page=UNSIZED),
    "shorter than listed, digest unknown": fatal(Reply(body=BODY[:-9]), page=UNPROVEN),
    "longer than listed": fatal(Reply(body=BODY + b"more")),
    "longer than listed, in chunks": fatal(Reply(body=BODY + b"more", chunked=True)),
    "longer than listed, size unknown": fatal(Reply(body=BODY + b"more"), page=UNSIZED),
    "longer than listed, digest unknown": fatal(
        Reply(body=BODY + b"more", chunked=True), page=UNPROVEN
    ),
    # resumed wrongly
    "resumed too early": mended(CUT, WELL.with_(range_shift=-100), WELL),
    "resumed too late": mended(CUT, resumed(HALF + 9, BODY[HALF + 9 :]), WELL),
    "resumed where it was said, with other bytes": fatal(CUT, resumed(HALF, OTHER[HALF:])),
    "resumed as another version": mended(CUT, resumed(HALF, BODY[HALF:], etag='"new"'), WELL),
    "resumed as another version, digest unknown": fatal(
        CUT, resumed(HALF, OTHER[HALF:], etag='"new"'), page=UNPROVEN
    ),
    "begun anew": mended(CUT, WELL.with_(ranges="ignore")),
    "begun anew as another version, digest unknown": fatal(CUT, Reply(body=OTHER), page=UNPROVEN),
    "begun anew and shorter, nothing known": mended(
        ANEW.with_(cut_after=HALF), ANEW.with_(body=BODY[:99]), ANEW, page=UNKNOWN
    ),
    "begun anew and empty, nothing known": mended(
        ANEW.with_(cut_after=HALF), ANEW.with_(body=b"", chunked=False), ANEW, page=UNKNOWN
    ),
    "resumed with a part of nobody knows how much": mended(
        CUT.with_(chunked=True, etag='"v"'),
        Reply(
            status=206,
            body=BODY[HALF:-9],
            headers={"Content-Range": f"bytes {HALF}-{SIZE - 10}/*"},
            etag='"v"',
        ),
        WELL.with_(etag='"v"'),
        page=UNKNOWN,
    ),
    "resumed with a part of a coded body": mended(
        CUT,
        Reply(
            status=206,
            body=CODED[HALF:],
            etag=None,
            headers={
                "Content-Range": f"bytes {HALF}-{len(CODED) - 1}/*",
                "Content-Encoding": "gzip",
            },
        ),
        WELL,
    ),
    "not resumed": mended(CUT, Reply(status=416, etag=None), WELL),
    "a part that was not asked for": fatal(resumed(HALF, BODY[HALF:])),
    # encoded
    "gzip-coded": mended(WELL.with_(gzip=True)),
    "gzip-coded, in chunks": mended(WELL.with_(gzip=True, chunked=True)),
    "called gzip-coded": mended(WELL.with_(headers={"Content-Encoding": "gzip"})),
    "gzip-coded and cut": mended(WELL.with_(gzip=True, cut_after=HALF), WELL),
    "gzip-coded wrong bytes": fatal(Reply(body=WRONG, gzip=True)),
    "called gzip-coded, wrong bytes": fatal(
        Reply(body=OTHER, headers={"Content-Encoding": "gzip"})
    ),
    # late
    "silent before the head": mended(WELL.with_(hold_at=BEFORE_HEADERS, gate="never"), WELL),
    "silent amid the body": mended(WELL.with_(hang_after=HALF), WELL),
    "slow (1 KB/s)": mended(Reply(body=SMALL, rate=1000), body=SMALL),
    "denied for two seconds": mended(NOT_FOUND, NOT_FOUND, WELL),
    "busy, then fine": mended(BUSY, WELL),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a fault: for each client; in the cache; when upstream was well again."""

    got: list[str]
    was_stored: bool
    asked: list[Seen]
    recovered: bool
    is_stored: bool


@dataclass(slots=True)
class Lab:
    """A running server, its upstream, and so many clients that want the same file at once."""

    server: ProxyIndex
    upstream: FakeUpstream
    clients: int
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def run(self, case: Fault) -> Outcome:
        """Let clients ask for a new file with this fault, then one more without it."""
        number = next(self.numbers)
        name, fault = f"px-{number}", case.moved(number)
        digest = {fault.algorithm: hashlib.new(fault.algorithm, fault.body).hexdigest()}
        file = sdist_spec(name, body=fault.body, hashes=digest)
        self.upstream.project(name, replace(file, **fault.page))
        self.upstream.script(file.path, *fault.replies)
        target = f"/simple/{name}/{file.filename}"
        got = together(self.clients, partial(self.get, target, fault.body))
        was_stored, asked = self.has(fault.body), self.upstream.requests(file.path)
        self.upstream.script(file.path, Reply(body=fault.body))
        recovered = self.recovers(target, fault.body)
        return Outcome(got, was_stored, asked, recovered, self.has(fault.body))

    def get(self, target: str, body: bytes) -> str:
        """What a client makes of the answer: whole, short, refused, or something else."""
        try:
            answer = self.server.get(target)
        except http.ShortBodyError:
            return "short"
        except (http.NoAnswerError, OSError) as problem:
            return repr(problem)
        if answer.status == 200:
            return "whole" if answer.body == body else "wrong"
        return "refused" if answer.status in (404, 502, 503) else f"status {answer.status}"

    def recovers(self, target: str, body: bytes) -> bool:
        """Whether the file can be had; a transfer that is just failing may still be met."""
        try:
            return wait_until(lambda: self.get(target, body) == "whole", "whole", timeout=3.0)
        except TimeoutError:
            return False

    def has(self, body: bytes) -> bool:
        return hashlib.sha256(body).hexdigest() in blobs(self.server)


def blobs(server: ProxyIndex) -> dict[str, Path]:
    """The files in the cache by the digest they are named after."""
    return {path.name: path for path in (server.cache_dir / "blobs").glob("*/*")}


def start_lab(home: Path, upstream: FakeUpstream, workers: int) -> ProxyIndex:
    """A server whose upstream may be silent for one second at most."""
    config = home / "proxyindex.toml"
    config.write_text(f'[[upstream]]\nurl = "{upstream.simple_url}"\nread-timeout = "1s"\n')
    server = start_server(home, "--config", config, workers=workers)
    server.args.remove("--no-upstream")
    return server.start()


@dataclass(frozen=True, slots=True)
class Series:
    """All faults tried on one server."""

    server: ProxyIndex
    outcomes: Mapping[str, Outcome]


@pytest.fixture(scope="module", params=[1, 4], ids=["1-worker", "4-workers"])
def series(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Series]:
    """Several at a time: most of them wait most of the time."""
    home = tmp_path_factory.mktemp("bodies")
    with FakeUpstream() as upstream:
        server = start_lab(home, upstream, request.param)
        try:
            lab = Lab(server, upstream, clients=request.param)
            with ThreadPoolExecutor(6) as pool:
                outcomes = dict(zip(FAULTS, pool.map(lab.run, FAULTS.values()), strict=True))
            yield Series(server, outcomes)
        finally:
            server.kill()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_client_gets_the_right_whole_file_or_knows_that_it_has_not(
    series: Series, fault: str
) -> None:
    outcome, allowed = series.outcomes[fault], FAULTS[fault].gets
    assert set(outcome.got) <= allowed
    assert outcome.was_stored == (allowed == WHOLE)
    assert outcome.recovered, "not even when upstream was well again"
    assert outcome.is_stored


def test_a_listed_file_may_be_two_seconds_late(series: Series) -> None:
    outcome = series.outcomes["denied for two seconds"]
    assert set(outcome.got) == WHOLE
    assert outcome.asked[-1].at - outcome.asked[0].at >= 2.0


def test_an_upstream_that_breaks_five_times_is_resumed_five_times(series: Series) -> None:
    starts = [one.header("range") for one in series.outcomes["cut five times, each later"].asked]
    assert starts == [None, *(f"bytes={9_000 * times}-" for times in range(1, 6))]


def test_the_cache_is_sound_after_all_faults(series: Series) -> None:
    for digest, path in blobs(series.server).items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    command = [sys.executable, "-m", "proxyindex", "cache", "verify", "--cache-dir"]
    verified = subprocess.run(
        [*command, str(series.server.cache_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert verified.stdout == "The cache is sound.\n", verified.stderr
    assert "Traceback" not in series.server.logs


# Real installers


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One server for the installers."""
    with FakeUpstream() as upstream:
        server = start_lab(tmp_path_factory.mktemp("shop"), upstream, 1)
        try:
            yield Lab(server, upstream, clients=1)
        finally:
            server.kill()


@pytest.fixture(params=["pip", "uv"])
def install(request: pytest.FixtureRequest, workbench: Workbench) -> Installer:
    """Installs a project from an index with the real client."""
    return workbench.pip_install if request.param == "pip" else workbench.uv_pip_install


INSTALLER_FAULTS: Mapping[str, Callable[[Reply], tuple[Reply, ...]]] = {
    "cut half-way": lambda well: (well.with_(cut_after=30_000), well),
    "denied for two seconds": lambda well: (NOT_FOUND, NOT_FOUND, well),
    "gzip-coded": lambda well: (well.with_(gzip=True),),
}


@pytest.mark.e2e
@pytest.mark.parametrize("fault", INSTALLER_FAULTS)
def test_installers_do_not_notice(
    shop: Lab, install: Installer, workbench: Workbench, fault: str
) -> None:
    file = offer(shop, payload=60_000)
    shop.upstream.script(file.path, *INSTALLER_FAULTS[fault](Reply(body=file.body)))
    install(shop.server.simple_url, project_of(file))
    assert workbench.installed() == {project_of(file): "1.0"}


@pytest.mark.e2e
def test_installers_wait_for_a_slow_file(
    shop: Lab, install: Installer, workbench: Workbench
) -> None:
    file = offer(shop)
    shop.upstream.file(file, rate=1000)
    install(shop.server.simple_url, project_of(file))
    assert workbench.installed() == {project_of(file): "1.0"}


@pytest.mark.e2e
def test_installers_never_install_wrong_bytes(
    shop: Lab, install: Installer, workbench: Workbench
) -> None:
    file = offer(shop, payload=60_000)
    wrong = bytes(file.body)[:-1] + b"?"  # type: ignore[arg-type]
    shop.upstream.script(file.path, Reply(body=wrong))
    workbench.env["UV_HTTP_RETRIES"] = "0"  # three of them with their pauses take 20 s
    done = install(shop.server.simple_url, project_of(file), check=False)
    assert done.returncode != 0
    assert workbench.installed() == {}
    assert not shop.has(wrong)
    shop.upstream.file(file)
    install(shop.server.simple_url, project_of(file))
    assert workbench.installed() == {project_of(file): "1.0"}


def offer(shop: Lab, **spec: Any) -> FileSpec:
    """A new project with one wheel."""
    name = f"px-{next(shop.numbers)}"
    file = wheel_spec(name, **spec)
    shop.upstream.project(name, file)
    return file


def project_of(file: FileSpec) -> str:
    return file.filename.partition("-")[0].replace("_", "-")

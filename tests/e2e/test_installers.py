"""pip, uv and poetry install through the server: cold, warm, cut off, offline, from lock files."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.answer import Seen
from tests.support.clients import Workbench, tool
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec, sdist_spec, wheel_spec
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

APP = wheel_spec("px-app", requires_dist=["px-lib>=1,<2", "px-util"], payload=300_000)
LIB = wheel_spec("px-lib", "1.5", requires_python=">=3.8")
NEWER_LIB = wheel_spec("px-lib", "2.0")
OLDER_LIB = sdist_spec("px-lib", "1.4")
UTIL = wheel_spec("px-util", "2.1", requires_dist=["px-source"])
SOURCE = sdist_spec("px-source", "3.0")  # nobody has a wheel of it: it must be built
INSTALLED = {"px-app": "1.0", "px-lib": "1.5", "px-util": "2.1", "px-source": "3.0"}
WANTED_FILES = (APP, LIB, UTIL, SOURCE)
# pages that are overdue at once, so that an upstream that is down would be missed
OVERDUE = ("--page-ttl", "0s", "--stale-while-revalidate", "0s")

Install = Callable[[Workbench, str], None]


@pytest.fixture
def offer(upstream: FakeUpstream) -> FakeUpstream:
    """An application with dependencies two deep, one of them as source only."""
    upstream.project("px-app", APP)
    upstream.project("px-lib", NEWER_LIB, LIB, OLDER_LIB)
    upstream.project("px-util", UTIL)
    upstream.project("px-source", SOURCE)
    return upstream


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., Workbench]:
    """Makes workbenches: each an empty environment with empty client caches."""
    folders = (tmp_path / f"bench-{number}" for number in range(100))
    return lambda **options: Workbench(next(folders), **options)


def with_pip(bench: Workbench, url: str) -> None:
    bench.pip_install(url, "px-app")


def with_uv(bench: Workbench, url: str) -> None:
    bench.uv_pip_install(url, "px-app")


def with_poetry(bench: Workbench, url: str) -> None:
    bench.poetry_lock(url, "px-app")
    bench.env["VIRTUAL_ENV"] = str(bench.python.parent.parent)
    bench.run(tool("poetry"), "install", "--no-interaction", cwd=bench.project)


# six installs each: every client and both kinds of server, not all of their combinations
STORIES = [
    pytest.param(with_pip, 1, id="pip-1"),
    pytest.param(with_uv, 4, id="uv-4"),
    pytest.param(with_poetry, 1, id="poetry-1"),
]


def file_requests(upstream: FakeUpstream) -> list[Seen]:
    return [seen for seen in upstream.requests() if seen.path.startswith("/files/")]


def twice(upstream: FakeUpstream) -> dict[str, int]:
    """What was asked for more than once, and how often."""
    asked = Counter(seen.path for seen in upstream.requests())
    return {path: count for path, count in asked.items() if count > 1}


@pytest.mark.parametrize(("install", "workers"), STORIES)
def test_an_install_needs_the_upstream_only_once(
    offer: FakeUpstream,
    server: ServerFactory,
    fresh: Callable[..., Workbench],
    install: Install,
    workers: int,
) -> None:
    running = server(upstream=offer, workers=workers)

    def installs() -> bool:
        bench = fresh()
        install(bench, running.simple_url)
        return INSTALLED.items() <= bench.installed().items()

    assert installs(), "cold"
    asked = [(seen.method, seen.path) for seen in offer.requests()]
    assert twice(offer) == {}
    assert {("GET", spec.path) for spec in WANTED_FILES} <= set(asked)
    assert ("GET", NEWER_LIB.path) not in asked, "metadata needs no wheel"

    assert installs(), "warm"
    running.restart()
    assert installs(), "warm, after a restart"
    assert offer.count() == len(asked), "pages are fresh, files are stored"

    running.restart(*OVERDUE)
    files = len(file_requests(offer))
    assert installs(), "overdue"
    assert offer.count() > len(asked), "pages are asked for again"
    assert {seen.status for seen in offer.requests()[len(asked) :]} == {304}
    assert len(file_requests(offer)) == files, "files are not"

    offer.down()
    assert installs(), "upstream down"
    offer.up()
    running.restart("--offline")
    count = offer.count()  # only now: until it stopped, the other server went on retrying
    assert installs(), "offline"
    assert offer.count() == count


@pytest.mark.parametrize("workers", [1, 4])
def test_many_installers_at_once_share_the_upstream_requests(
    offer: FakeUpstream, server: ServerFactory, fresh: Callable[..., Workbench], workers: int
) -> None:
    running = server(upstream=offer, workers=workers)
    offer.file(APP, rate=600_000)  # half a second: they meet in the middle of it
    benches = [fresh() for _ in range(4)]
    for bench in benches:  # made beforehand, so that all start at once
        assert bench.python.exists()
    with ThreadPoolExecutor(len(benches)) as pool:
        done = [
            pool.submit(with_pip if number % 2 else with_uv, bench, running.simple_url)
            for number, bench in enumerate(benches)
        ]
        for one in done:
            one.result()
    assert all(bench.installed() == INSTALLED for bench in benches)
    assert twice(offer) == {}


@pytest.mark.parametrize("install", [with_pip, with_uv])
def test_what_is_fetched_ahead_is_what_is_installed(
    offer: FakeUpstream,
    server: ServerFactory,
    fresh: Callable[..., Workbench],
    install: Install,
) -> None:
    running = server("--look-ahead", upstream=offer)
    for _ in range(2):  # cold and warm
        bench = fresh()
        install(bench, running.simple_url)
        assert INSTALLED.items() <= bench.installed().items()
    assert twice(offer) == {}
    assert NEWER_LIB.path not in {seen.path for seen in offer.requests()}
    looks = 'proxyindex_flights_total{kind="ahead",role="led"}'
    assert any(line.startswith(looks) for line in running.get("/metrics").text.splitlines())


def wipe(running: ProxyIndex) -> None:
    """Stop, lose the cache, start again on the same port."""
    running.stop()
    shutil.rmtree(running.cache_dir)
    running.start()


def test_uv_syncs_a_lock_after_the_cache_was_lost(
    offer: FakeUpstream, server: ServerFactory, workbench: Workbench
) -> None:
    running = server(upstream=offer)
    workbench.uv_lock(running.simple_url, "px-app")
    lock = (workbench.project / "uv.lock").read_text()
    assert f"{running.url}/simple/px-app/px_app-1.0-py3-none-any.whl" in lock
    assert offer.url not in lock
    wipe(running)
    shutil.rmtree(workbench.folder / "uv-cache")
    count = offer.count()
    workbench.uv_sync(running.simple_url)
    assert list(workbench.project.glob(".venv/lib/*/site-packages/px_app"))
    assert [seen.path for seen in offer.requests()[count:] if seen.path == APP.path] == [APP.path]


def test_uv_syncs_a_lock_offline(
    offer: FakeUpstream, server: ServerFactory, workbench: Workbench
) -> None:
    running = server(upstream=offer)
    workbench.uv_lock(running.simple_url, "px-app")
    workbench.uv_sync(running.simple_url)
    running.restart("--offline")
    shutil.rmtree(workbench.folder / "uv-cache")
    shutil.rmtree(workbench.project / ".venv")
    workbench.uv_sync(running.simple_url)
    assert list(workbench.project.glob(".venv/lib/*/site-packages/px_source"))


def test_pip_installs_a_standard_lock_file_after_the_cache_was_lost(
    offer: FakeUpstream, server: ServerFactory, workbench: Workbench
) -> None:
    running = server(upstream=offer)
    lock = workbench.folder / "pylock.toml"
    workbench.pip("lock", "--index-url", running.simple_url, "--output", lock, "px-app")
    assert running.url in lock.read_text()
    assert offer.url not in lock.read_text()
    wipe(running)
    workbench.uv("pip", "sync", "--preview", "--python", workbench.python, lock)
    assert workbench.installed() == INSTALLED


def test_pip_checks_the_hashes_of_a_compiled_set(
    offer: FakeUpstream, server: ServerFactory, workbench: Workbench
) -> None:
    running = server(upstream=offer)
    compiled = workbench.uv_pip_compile(
        running.simple_url, "px-app", args=["--generate-hashes", "--quiet"]
    )
    pins = workbench.folder / "pins.txt"
    pins.write_text(compiled.stdout)
    assert all(f"sha256:{spec.known_hashes()['sha256']}" in compiled.stdout for spec in (APP, LIB))
    workbench.pip_download(running.simple_url, args=["--require-hashes", "-r", str(pins)])
    assert (workbench.downloads / APP.filename).read_bytes() == APP.body
    workbench.pip_install(running.simple_url, args=["--require-hashes", "-r", str(pins)])
    assert workbench.installed() == INSTALLED


def test_resolving_fetches_metadata_and_no_wheel(
    offer: FakeUpstream, server: ServerFactory, workbench: Workbench
) -> None:
    running = server(upstream=offer)
    assert "px-lib==1.5" in workbench.uv_pip_compile(running.simple_url, "px-app").stdout
    wheels = [seen.path for seen in file_requests(offer) if seen.path.endswith(".whl")]
    assert wheels == []


def without_metadata(spec: FileSpec) -> FileSpec:
    return FileSpec(filename=spec.filename, body=spec.body, requires_python=spec.requires_python)


def test_resolving_reads_only_the_tails_of_wheels_without_sidecars(
    upstream: FakeUpstream, server: ServerFactory, fresh: Callable[..., Workbench]
) -> None:
    big = wheel_spec("px-app", requires_dist=["px-lib"], payload=3_000_000)
    upstream.project("px-app", without_metadata(big))
    upstream.project("px-lib", without_metadata(LIB))
    running = server(upstream=upstream)
    for resolve in (
        lambda: fresh().uv_pip_compile(running.simple_url, "px-app"),
        lambda: fresh().pip(*("install", "--dry-run", "--index-url", running.simple_url, "px-app")),
    ):
        assert "px-lib" in resolve().stdout
    got = upstream.requests(big.path)
    assert got
    assert all(seen.status == 206 for seen in got)
    assert sum(seen.sent for seen in got) < 200_000


def test_pip_with_lazy_wheels_reads_tails_through_the_server(
    upstream: FakeUpstream, server: ServerFactory, workbench: Workbench
) -> None:
    upstream.project("px-app", without_metadata(APP))
    upstream.project("px-lib", without_metadata(LIB))
    upstream.project("px-util", without_metadata(UTIL))
    upstream.project("px-source", SOURCE)
    # the server makes no metadata, so that pip has to look into the wheels itself
    config = workbench.folder / "proxyindex.toml"
    config.write_text(f'[[upstream]]\nurl = "{upstream.simple_url}"\nmetadata = false\n')
    running = server("--config", config, "--upstream", upstream.simple_url, is_started=False)
    at = running.args.index("--upstream")
    del running.args[at : at + 2]
    running.start()
    done = workbench.pip_install(
        running.simple_url, "px-app", args=["--use-feature=fast-deps", "--verbose"]
    )
    assert "Obtaining dependency information from px-app" in done.stdout
    assert workbench.installed() == INSTALLED


def test_pip_keeps_immutable_files_in_its_own_cache(
    offer: FakeUpstream, server: ServerFactory, fresh: Callable[..., Workbench]
) -> None:
    running = server(upstream=offer)
    bench = fresh(is_caching=True)
    trust = ["--trusted-host", running.url.removeprefix("http://")]  # or pip caches nothing
    for _ in range(2):
        bench.pip_download(running.simple_url, "px-lib<2", args=[*trust, "--no-deps"])
        shutil.rmtree(bench.downloads)
    wait_until(lambda: running.logs.count("GET /simple/px-lib/ 304") == 1, "the last line")
    assert running.logs.count(f"GET /simple/px-lib/{LIB.filename} 200") == 1

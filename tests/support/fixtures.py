"""The fixtures of tests that talk to a real server; conftest modules import what they need."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import http, privacy
from tests.support.builders import make_wheel, metadata, put
from tests.support.clients import Workbench
from tests.support.pages import FileSpec, sdist_spec, wheel_spec
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

ServerFactory = Callable[..., ProxyIndex]


@pytest.fixture(scope="session")
def upstream_process() -> Iterator[FakeUpstream]:
    """The process behind `upstream`; use `upstream`."""
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(upstream_process: FakeUpstream) -> FakeUpstream:
    """An empty fake upstream of the test's own."""
    upstream_process.reset()
    return upstream_process


@pytest.fixture
def other_upstream() -> Iterator[FakeUpstream]:
    """A second one: another origin, another source."""
    with FakeUpstream() as upstream:
        yield upstream


def start_server(
    workdir: Path,
    *args: str | Path,
    upstream: FakeUpstream | None = None,
    workers: int = 1,
    env: Mapping[str, str] | None = None,
) -> ProxyIndex:
    """A server in front of `upstream`, or of none, that was not started yet."""
    workdir.mkdir(parents=True, exist_ok=True)
    privacy.arguments_reserve(args)
    source = ["--upstream", upstream.simple_url] if upstream else []
    if not upstream and "--upstream" not in args:
        source = ["--no-upstream"]  # never PyPI: no test touches the internet
    count = ["--workers", str(workers)] if "--workers" not in args else []
    return ProxyIndex(*args, *source, *count, workdir=workdir, env=env)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerFactory]:
    """Starts real servers, each with a cache of its own, and ends them after the test.

    `server(*args, upstream=…, workers=1, env=…, is_started=True)`; `args` are those of
    `proxyindex serve`, folders for instance.
    """
    with ExitStack() as stack:
        numbers = itertools.count(1)

        def start(*args: str | Path, is_started: bool = True, **options: Any) -> ProxyIndex:
            made = start_server(tmp_path / f"server-{next(numbers)}", *args, **options)
            stack.callback(made.kill)
            return made.start() if is_started else made

        yield start


@pytest.fixture(params=[1, 4])
def workers(request: pytest.FixtureRequest) -> int:
    """For tests of what must hold across processes, too: `server(…, workers=workers)`."""
    return int(request.param)


@dataclass(slots=True)
class Index:
    """A running server with the two projects of the conformance checks.

    *U*, upstream only, is `foo-bar`: `wheel` and `sdist` of 1.0, and `yanked`, a wheel of 0.9.
    *L*, local with the upstream offering a higher version, is `local-lib`: `local_filename` with
    the bytes `local_wheel` and the core metadata `local_metadata`.
    Shared by the tests of one module: read, or work with projects of your own by `new_name()`.
    """

    server: ProxyIndex
    upstream: FakeUpstream
    folder: Path
    wheel: FileSpec = field(
        default_factory=lambda: wheel_spec(
            "foo-bar", "1.0", payload=40_000, requires_python=">=3.8"
        )
    )
    sdist: FileSpec = field(default_factory=lambda: sdist_spec("foo-bar", "1.0"))
    yanked: FileSpec = field(
        default_factory=lambda: wheel_spec("foo-bar", "0.9", yanked='bad "<b>', payload=5_000)
    )
    local_filename: str = "local_lib-1.0-py3-none-any.whl"
    local_wheel: bytes = field(default_factory=lambda: make_wheel("local-lib", "1.0"))
    local_metadata: bytes = field(default_factory=lambda: metadata("local-lib", "1.0"))
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def populate(self) -> None:
        self.upstream.project("foo-bar", self.wheel, self.sdist, self.yanked)
        self.upstream.project("local-lib", wheel_spec("local-lib", "9.9"))
        put(self.folder, self.local_filename, self.local_wheel)

    def new_name(self) -> str:
        """A project name no other test of the module uses."""
        return f"px-{next(self._numbers)}"

    def get(self, target: str, headers: http.Headers = (), **more: Any) -> http.Response:
        """One request to the server, read to the end."""
        return self.server.get(target, headers, **more)

    def project(self, *specs: FileSpec, name: str | None = None, **behaviour: Any) -> str:
        """Offer a project upstream, by default under a new name, which is returned."""
        name = name or self.new_name()
        self.upstream.project(name, *specs, **behaviour)
        return name


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """One populated server with an upstream of its own for all tests of a module."""
    home = tmp_path_factory.mktemp("index")
    folder = home / "packages"
    folder.mkdir()
    with FakeUpstream() as upstream:
        made = Index(start_server(home / "server", folder, upstream=upstream), upstream, folder)
        made.populate()
        with made.server:
            yield made


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    """A fresh environment with the real installers."""
    return Workbench(tmp_path / "workbench")

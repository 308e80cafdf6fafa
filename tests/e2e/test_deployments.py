"""Real installers against the server as it is deployed: base path, TLS, guarded upstreams."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.clients import Workbench
from tests.support.fixtures import ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import wheel_spec
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

USER, PASSWORD = "px-reader", "s3cr3t+/täglich"
TOLD = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
INSTALLED = {"px-app": "1.0", "px-lib": "1.5"}


def offer(upstream: FakeUpstream, file_host: FakeUpstream | None = None) -> None:
    """Two projects; their files lie at `file_host` if given."""
    for spec in (
        wheel_spec("px-app", requires_dist=["px-lib"], payload=200_000),
        wheel_spec("px-lib", "1.5"),
    ):
        name = spec.filename.split("-")[0].replace("_", "-")
        if file_host is None:
            upstream.project(name, spec)
            continue
        file_host.file(spec)
        elsewhere = file_host.url + spec.path
        entry = {**spec.to_json(), "url": elsewhere}
        upstream.project(name, wheel_spec(name, spec.filename.split("-")[1], entry=entry))


def configured(server: ServerFactory, tmp_path: Path, *lines: str, **options: object) -> ProxyIndex:
    """A running server whose one upstream is the table of these lines."""
    config = tmp_path / "proxyindex.toml"
    config.write_text("\n".join(["[[upstream]]", 'name = "guarded"', *lines, ""]))
    made = server("--config", config, is_started=False, **options)
    made.args.remove("--no-upstream")
    return made.start()


@pytest.mark.parametrize("workers", [1, 4])
def test_everything_works_below_a_base_path(
    upstream: FakeUpstream, server: ServerFactory, workbench: Workbench, workers: int
) -> None:
    offer(upstream)
    running = server("--base-path", "/team/pypi", upstream=upstream, workers=workers)
    assert running.simple_url.endswith("/team/pypi/simple/")
    workbench.pip_install(running.simple_url, "px-app")
    assert workbench.installed() == INSTALLED
    workbench.uv_lock(running.simple_url, "px-app")
    lock = (workbench.project / "uv.lock").read_text()
    assert f"{running.simple_url}px-lib/px_lib-1.5-py3-none-any.whl" in lock
    workbench.uv_sync(running.simple_url)
    # an installer that is told a sloppy address gets there, too
    other = Workbench(workbench.folder / "other")
    other.pip_install(running.simple_url.rstrip("/"), "Px.Lib")
    assert other.installed() == {"px-lib": "1.5"}
    assert running.get("/team/pypi").header("location") == "/team/pypi/"


def test_installers_trust_the_server_through_a_private_authority(
    upstream: FakeUpstream,
    server: ServerFactory,
    workbench: Workbench,
    certificates: Certificates,
) -> None:
    offer(upstream)
    tls = ("--tls-cert", certificates.cert, "--tls-key", certificates.key)
    running = server(*tls, upstream=upstream)
    assert running.url.startswith("https://")
    args = ["--cert", str(certificates.authority)]
    workbench.pip_install(running.simple_url, "px-app", args=args)
    assert workbench.installed() == INSTALLED

    distrusting = Workbench(workbench.folder / "distrusting")
    done = distrusting.pip_install(running.simple_url, "px-app", args=["--retries=0"], check=False)
    assert "CERTIFICATE_VERIFY_FAILED" in done.stdout
    distrusting.env["SSL_CERT_FILE"] = str(certificates.authority)
    distrusting.uv_pip_install(running.simple_url, "px-app")
    assert distrusting.installed() == INSTALLED


@pytest.mark.parametrize("workers", [1, 4])
def test_a_guarded_upstream_gets_the_credentials_and_nobody_else_does(
    server: ServerFactory,
    workbench: Workbench,
    certificates: Certificates,
    tmp_path: Path,
    workers: int,
) -> None:
    tls = {"cert": certificates.cert, "key": certificates.key}
    with FakeUpstream(**tls) as guarded, FakeUpstream(**tls) as file_host:
        offer(guarded, file_host)
        running = configured(
            server,
            tmp_path,
            f'url = "{guarded.simple_url}"',
            f'username = "{USER}"',
            'password-env = "PX_PASSWORD"',
            f'ca-file = "{certificates.authority}"',
            f'file-hosts = ["127.0.0.1:{file_host.port}"]',
            env={"PX_PASSWORD": PASSWORD},
            workers=workers,
        )
        output = workbench.pip_install(running.simple_url, "px-app", args=["-vv"]).stdout
        workbench.uv_lock(running.simple_url, "px-app")
        assert workbench.installed() == INSTALLED
        assert {seen.header("authorization") for seen in guarded.requests()} == {TOLD}
        assert file_host.count() > 0
        assert {seen.header("authorization") for seen in file_host.requests()} == {None}
        guarded.down()
        broken = running.get("/simple/px-unseen/")
        assert broken.status == 503
    shown = [output, broken.text, str(broken.headers), running.logs]
    shown += [(workbench.project / "uv.lock").read_text()]
    for target in ("/", "/health", "/metrics", "/simple/", "/simple/px-app/"):
        answer = running.get(target)
        shown += [answer.text, str(answer.headers)]
    kept = [path.read_bytes() for path in running.cache_dir.rglob("*") if path.is_file()]
    everything = "\n".join(shown).encode() + b"\n".join(kept)
    for secret in (PASSWORD, "s3cr3t", TOLD.removeprefix("Basic ")):
        assert secret.encode() not in everything


def test_credentials_of_clients_stay_here(
    upstream: FakeUpstream, server: ServerFactory, workbench: Workbench
) -> None:
    offer(upstream)
    running = server(upstream=upstream)
    url = running.simple_url.replace("://", "://px-me:px-hidden@")
    workbench.pip_install(url, "px-lib")
    workbench.uv_pip_install(url, "px-app")
    assert workbench.installed() == INSTALLED
    assert {seen.header("authorization") for seen in upstream.requests()} == {None}
    assert "px-hidden" not in running.logs
    secret = base64.b64encode(b"px-me:px-hidden").decode()
    assert secret not in running.logs + json.dumps([seen.headers for seen in upstream.requests()])


def test_a_unix_socket_serves_pages_and_files(
    upstream: FakeUpstream, server: ServerFactory, tmp_path: Path
) -> None:
    offer(upstream)
    path = tmp_path / "px.sock"
    made = server("--unix-socket", path, upstream=upstream, is_started=False)
    with subprocess.Popen(
        [sys.executable, "-m", "proxyindex", "serve", *made.args, "--cache-dir", made.cache_dir],
        cwd=made.workdir,
        env=made.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            head, _ = wait_until(lambda: ask(path, "/health"), "serving")
            assert b" 200 " in head
            head, body = ask(path, "/simple/px-lib/") or (b"", b"")
            assert b" 200 " in head
            assert b'href="px_lib-1.5-py3-none-any.whl#sha256=' in body
            head, body = ask(path, "/simple/px-lib/px_lib-1.5-py3-none-any.whl") or (b"", b"")
            assert body == wheel_spec("px-lib", "1.5").body
        finally:
            process.terminate()
            process.wait()
    assert not path.exists()


def ask(path: Path, target: str) -> tuple[bytes, bytes] | None:
    """Head and body of one answer over a Unix socket; `None` while nobody listens."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        try:
            client.connect(str(path))
        except OSError:
            return None
        client.sendall(f"GET {target} HTTP/1.0\r\nHost: px.example\r\n\r\n".encode())
        answer = b""
        while piece := client.recv(65_536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body

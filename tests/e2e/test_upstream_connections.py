"""Upstreams that are reached in special ways: with a client certificate, through a proxy."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.clients import Workbench
from tests.support.fixtures import ServerFactory
from tests.support.pages import wheel_spec
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

WHEEL = wheel_spec("px-app")


def configured(server: ServerFactory, tmp_path: Path, *lines: str) -> ProxyIndex:
    """A running server whose one upstream is the table of these lines."""
    config = tmp_path / "proxyindex.toml"
    config.write_text("\n".join(["[[upstream]]", 'name = "special"', *lines, ""]))
    made = server("--config", config, is_started=False)
    made.args.remove("--no-upstream")
    return made.start()


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """The port of a web server on loopback that ends with the block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        web.daemon_threads = True
        if tls is not None:
            web.socket = tls.wrap_socket(web.socket, server_side=True)
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield web.server_address[1]
        finally:
            web.shutdown()
            thread.join()


def test_an_upstream_that_asks_for_a_client_certificate_gets_it(
    server: ServerFactory, workbench: Workbench, certificates: Certificates, tmp_path: Path
) -> None:
    site = tmp_path / "site" / "simple" / "px-app"
    site.mkdir(parents=True)
    (site / WHEEL.filename).write_bytes(WHEEL.body)  # type: ignore[arg-type]

    class Listing(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "site"))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None: ...

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.authority))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(certificates.cert, certificates.key)
    with serving(Listing, tls) as port:
        upstream = [
            f'url = "https://localhost:{port}/simple"',
            f'ca-file = "{certificates.authority}"',
        ]
        pair = [
            f'client-cert = "{certificates.client_cert}"',
            f'client-key = "{certificates.client_key}"',
        ]
        running = configured(server, tmp_path, *upstream, *pair)
        workbench.pip_install(running.simple_url, "px-app")
        assert workbench.installed() == {"px-app": "1.0"}
        stranger = configured(server, tmp_path, *upstream)
        assert stranger.get("/simple/px-app/").status == 503, stranger.logs


@dataclass(slots=True)
class Forwarded:
    """What went through a forward proxy."""

    targets: list[str] = field(default_factory=list)


@pytest.mark.parametrize("through", ["setting", "variable"])
def test_an_upstream_is_reached_through_the_forward_proxy(
    upstream: FakeUpstream,
    server: ServerFactory,
    workbench: Workbench,
    tmp_path: Path,
    through: str,
) -> None:
    upstream.project("px-app", WHEEL)
    seen = Forwarded()

    class Forward(BaseHTTPRequestHandler):
        """Sends a GET in absolute form on to where it points (RFC 9112, 3.2.2)."""

        def do_GET(self) -> None:
            seen.targets.append(self.path)
            path = self.path.removeprefix(upstream.url)
            lines = [f"GET {path} HTTP/1.0", f"Host: 127.0.0.1:{upstream.port}"]
            hop_by_hop = ("host", "connection")
            lines += [f"{k}: {v}" for k, v in self.headers.items() if k.lower() not in hop_by_hop]
            with socket.create_connection(("127.0.0.1", upstream.port)) as onward:
                onward.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
                while data := onward.recv(65536):
                    self.wfile.write(data)

        def log_message(self, *args: object) -> None: ...

    with serving(Forward) as port:
        proxy = f"http://127.0.0.1:{port}"
        table = ["[[upstream]]", 'name = "special"', f'url = "{upstream.simple_url}"']
        env = {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": "", "no_proxy": ""}
        if through == "setting":
            table, env = [*table, f'proxy = "{proxy}"'], {}
        config = tmp_path / "proxyindex.toml"
        config.write_text("\n".join([*table, ""]))
        made = server("--config", config, is_started=False, env=env)
        made.args.remove("--no-upstream")
        workbench.pip_install(made.start().simple_url, "px-app")
    assert workbench.installed() == {"px-app": "1.0"}
    assert any(target.endswith("/simple/px-app/") for target in seen.targets)
    assert upstream.count() == len(seen.targets)

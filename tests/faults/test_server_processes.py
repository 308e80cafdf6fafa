"""The server as processes: start, several workers, deaths, drain, stop."""

import fcntl
import http.client
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from proxyindex.server import StartError
from proxyindex.server.checks import check
from proxyindex.server.listen import addresses, bind_tcp, close_all, unix_socket
from proxyindex.server.run import raise_descriptor_limit
from proxyindex.server.workers import GIVE_UP_AFTER
from proxyindex.settings import Secret, Settings, UpstreamSettings
from proxyindex.upstream.proxies import ProxyUnusable
from tests.support.certificates import Certificates
from tests.support.hermetic import wait_until

# An application of few words: `/` is its process id, `/slow` ends when told to through `release`.
PROGRAM = """
import asyncio, errno, fcntl, json, os, sys
from pathlib import Path
from proxyindex.errors import ProxyindexError
from proxyindex.metrics import Metrics
from proxyindex.server import serve
from proxyindex.settings import Settings

told = json.loads(sys.argv[1])
for name in ("cache_dir", "unix_socket", "tls_cert", "tls_key"):
    if told["settings"].get(name):
        told["settings"][name] = Path(told["settings"][name])
settings = Settings(**told["settings"])
release = Path(told["release"])

def lockless(*_):
    raise OSError(errno.ENOLCK, "No locks available")

if told["mode"] == "lockless":  # as folders of some file servers are
    fcntl.flock = lockless

def build(settings):
    if told["mode"] == "unbuildable":
        raise ProxyindexError("it cannot be built")
    metrics = Metrics()

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            failed = told["mode"] == "unstartable"
            await send({"type": "lifespan.startup." + ("failed" if failed else "complete")})
            await receive()
            os.write(1, b"closed\\n")
            await send({"type": "lifespan.shutdown.complete"})
            return
        path, body = scope["path"], str(os.getpid()).encode()
        if path == "/crash":
            os._exit(9)
        if path == "/count":
            metrics.alarm("counted")
        if path == "/metrics":
            body = metrics.exposition()[0]
        if path == "/client":
            body = f"{scope['client'][0]} {scope['scheme']}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if path == "/slow":
            await send({"type": "http.response.body", "body": b"began ", "more_body": True})
            while not release.exists():
                await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": body})
    return app

def listening(urls):
    print(json.dumps([*urls]), flush=True)

try:
    status = serve(settings, on_listening=listening, build=build)
except ProxyindexError as error:
    sys.exit(f"Error: {error}")
sys.exit(status)
"""


@dataclass
class Running:
    process: subprocess.Popen[str]
    urls: list[str]
    release: Path
    port: int = field(init=False)

    def __post_init__(self) -> None:
        port = self.urls[0].rpartition(":")[2]
        self.port = int(port) if port.isdigit() else 0

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, path: str) -> str:
        with closing(self.connection()) as connection:
            connection.request("GET", path)
            with connection.getresponse() as answer:
                return answer.read().decode()

    @contextmanager
    def slow(self) -> Iterator[http.client.HTTPResponse]:
        """An answer that has begun and does not end by itself."""
        connection = self.connection()
        connection.request("GET", "/slow")
        with closing(connection), connection.getresponse() as answer:
            assert answer.read(6) == b"began "
            yield answer

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def out(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


@contextmanager
def started(tmp_path: Path, mode: str = "", **settings: object) -> Iterator[Running]:
    release = tmp_path / "release"
    chosen = {"port": 0, "grace": 10.0, "cache_dir": str(tmp_path / "cache"), **settings}
    told = json.dumps({"settings": chosen, "release": str(release), "mode": mode})
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, told],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        try:
            yield Running(process, json.loads(out(process).readline()), release)
        finally:
            process.kill()


def failure(tmp_path: Path, mode: str = "", **settings: object) -> str:
    """What a server that cannot start says."""
    told = {"settings": {"port": 0, "cache_dir": str(tmp_path / "cache"), **settings}}
    command = [sys.executable, "-c", PROGRAM, json.dumps({**told, "release": "", "mode": mode})]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    return ended.stderr


both = pytest.mark.parametrize("workers", [1, 2])


# Start


@both
def test_announces_its_url_once_it_answers(tmp_path: Path, workers: int) -> None:
    with started(tmp_path, workers=workers) as server:
        assert server.urls == [f"http://127.0.0.1:{server.port}"]
        assert int(server.ask("/"))


@both
@pytest.mark.parametrize("mode", ["unbuildable", "unstartable"])
def test_failing_application_is_an_error_and_no_loop(
    tmp_path: Path, workers: int, mode: str
) -> None:
    said = failure(tmp_path, mode, workers=workers)
    assert "Error: " in said
    assert "Traceback" not in said


def test_taken_port_is_explained(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = failure(tmp_path, port=port)
    assert f"127.0.0.1 port {port}: something listens there already" in said


# Stop


@both
def test_stop_signal_lets_answers_finish_and_refuses_new_ones(tmp_path: Path, workers: int) -> None:
    with started(tmp_path, workers=workers) as server, server.slow() as answer:
        server.process.send_signal(signal.SIGTERM)
        wait_until_refused(server.port)
        server.release.touch()
        assert int(answer.read())
        assert server.process.wait(30) == 0
        assert out(server.process).read() == "closed\n" * workers


def wait_until_refused(port: int) -> None:
    def is_refused() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionError:
            return True
        return False

    wait_until(is_refused, "the port is closed", every=0.005)


@both
def test_answers_that_outlast_the_grace_period_are_cut(tmp_path: Path, workers: int) -> None:
    with started(tmp_path, workers=workers, grace=0.5) as server, server.slow() as answer:
        assert server.stop() == 0
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            answer.read()
        assert server.process.stderr is not None
        told = server.process.stderr.read()
    assert (
        "WARNING uvicorn.error: the time for running answers (grace) is over; cut off: 1\n" in told
    )
    assert "ERROR" not in told


@both
def test_stop_signals_to_the_very_end_leave_the_stop_orderly(tmp_path: Path, workers: int) -> None:
    with started(tmp_path, workers=workers) as server:
        while server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
        assert server.process.returncode == 0


@both
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_after_a_stop_ends_everything_at_once(
    tmp_path: Path, workers: int, first: int
) -> None:
    with started(tmp_path, workers=workers, grace=600.0) as server, server.slow():
        server.process.send_signal(first)
        wait_until_refused(server.port)
        assert server.stop(signal.SIGINT) == 130


def test_nothing_temporary_is_left_behind(tmp_path: Path) -> None:
    with started(tmp_path, workers=2) as server:
        server.ask("/count")
        assert [*tmp_path.glob("proxyindex-metrics-*/*.db")]
        assert server.stop() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]


# Workers


def test_dead_worker_is_replaced(tmp_path: Path) -> None:
    with started(tmp_path, workers=2) as server:
        for _ in range(2):
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                server.ask("/crash")
            assert int(server.ask("/"))
        assert server.stop() == 0
        _, said = server.process.communicate(timeout=30)
        assert said.count("ended with status 9") == 2


UNLUCKY = """
import os, sys
from pathlib import Path
from proxyindex.server.listen import StartError
from proxyindex.server.workers import Supervisor

marker = Path(sys.argv[1])

def work(lifeline):
    os.write(1, b"started\\n")
    if marker.exists():
        return 3
    marker.touch()
    lifeline.announce()
    return 9

try:
    Supervisor(work, 1, [], 1.0, lambda: None, first_delay=0.001).run()
except StartError as error:
    sys.exit(f"gave up: {error}")
"""


def test_replacements_that_never_get_ready_end_the_server(tmp_path: Path) -> None:
    command = [sys.executable, "-c", UNLUCKY, str(tmp_path / "marker")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "gave up: The worker processes cannot start" in ended.stderr
    assert ended.stdout == "started\n" * (1 + GIVE_UP_AFTER)


CROWDED = """
import logging, os, signal, sys
from pathlib import Path
from proxyindex.server.workers import Supervisor

logging.basicConfig()
marker = Path(sys.argv[1])

def work(lifeline):
    os.write(1, b"%d\\n" % os.getpid())
    if marker.exists():
        return 3
    lifeline.announce()
    signal.pause()

sys.exit(Supervisor(work, 2, [], 1.0, marker.touch, first_delay=0.001).run())
"""


def test_replacements_that_never_get_ready_cost_no_worker_that_serves(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", CROWDED, str(tmp_path / "marker")]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        first, second = (int(out(process).readline()) for _ in range(2))
        wait_until((tmp_path / "marker").exists, "both are ready")
        os.kill(first, signal.SIGKILL)
        for _ in range(2 * GIVE_UP_AFTER):
            assert int(out(process).readline())
        os.kill(second, 0)  # still there
        (tmp_path / "marker").unlink()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == 0


CRAMPED = """
import logging, os, resource, signal, sys
from proxyindex.server.reload import take_hangups
from proxyindex.server.workers import Supervisor

logging.basicConfig()
if os.getuid() == 0:
    os.setuid(65534)  # no limit holds for root
_, hard = resource.getrlimit(resource.RLIMIT_NPROC)

def work(lifeline):
    lifeline.announce()
    take_hangups()
    os.write(1, b"%d\\n" % os.getpid())
    signal.pause()

def allow(most):
    resource.setrlimit(resource.RLIMIT_NPROC, (most, hard))

ready = lambda: (allow(1), os.write(1, b"ready\\n"))
sys.exit(Supervisor(work, 2, [], 1.0, ready, first_delay=0.01, renew=lambda: allow(hard)).run())
"""


def test_a_worker_that_cannot_be_replaced_yet_costs_no_other() -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", CRAMPED]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        lines = {out(process).readline() for _ in range(3)}
        first, second = map(int, lines - {"ready\n"})
        os.kill(first, signal.SIGKILL)
        assert process.stderr
        said = ""
        while "no worker can be started: " not in said:
            said = process.stderr.readline()
            assert said, "it has ended"
        os.kill(second, 0)
        process.send_signal(signal.SIGHUP)  # makes room
        third = int(out(process).readline())
        assert third not in (first, second)
        os.kill(second, 0)
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


STUCK = """
import logging, os, signal
from proxyindex.server.reload import take_hangups
from proxyindex.server.workers import Supervisor

logging.basicConfig()

def work(lifeline):
    signal.signal(signal.SIGHUP, lambda *_: os.write(1, b"told\\n"))
    take_hangups()
    lifeline.announce()
    while True:
        signal.pause()

ready = lambda: os.write(1, b"ready\\n")
Supervisor(work, 1, [], 1.0, ready, renew=lambda: True, renew_seconds=0.1).run()
"""


def test_a_worker_that_never_finishes_a_reload_does_not_keep_others_from_the_next() -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", STUCK]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert out(process).readline() == "ready\n"
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
            assert out(process).readline() == "told\n"
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert "did not reload the configuration within" in said


ALONE = """
import logging, os, sys
from proxyindex.server.workers import Supervisor

logging.basicConfig(level=logging.INFO, stream=sys.stdout)

def work(lifeline):
    lifeline.announce()
    return 9

ready = lambda: os.write(1, b"ready\\n")
Supervisor(work, 1, [], 1.0, ready, 1000.0, renew=lambda: True, renew_seconds=0.1).run()
"""


def test_a_reload_while_no_worker_lives_is_over_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ALONE], stdout=subprocess.PIPE, text=True
    ) as process:
        assert out(process).readline() == "ready\n"
        assert "ended with status 9" in out(process).readline()
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            assert "reloaded by all workers" in out(process).readline()
        process.terminate()
        said, _ = process.communicate(timeout=30)
    assert "did not reload" not in said


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    with started(tmp_path, workers=2) as server:
        server.process.kill()
        # both workers hold the pipe open; it ends with the last of them
        assert out(server.process).read() == "closed\n" * 2


def test_counts_of_all_workers_add_up(tmp_path: Path) -> None:
    with started(tmp_path, workers=2) as server:
        for _ in range(20):
            server.ask("/count")
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            server.ask("/crash")
        assert 'proxyindex_alarms_total{kind="counted"} 20.0' in server.ask("/metrics")


def test_those_who_sweep_by_age_find_the_folder_of_counts_held(tmp_path: Path) -> None:
    with started(tmp_path, workers=2) as server:
        (folder,) = tmp_path.glob("proxyindex-metrics-*")
        look = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # as systemd-tmpfiles looks
            fcntl.flock(look, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(look)
        assert server.stop() == 0
    assert not folder.exists()


def test_workers_serve_where_temporary_files_cannot_be_locked(tmp_path: Path) -> None:
    with started(tmp_path, "lockless", workers=2) as server:
        assert int(server.ask("/"))


# Sockets


def test_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with started(tmp_path, unix_socket=str(path), workers=2) as server:
        assert server.urls == [f"unix:{path}"]
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(path))
            forwarded = b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
            sock.sendall(b"GET /client HTTP/1.0\r\n" + forwarded + b"\r\n")
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert b"192.0.2.7 https" in answer
        assert server.stop() == 0
    assert not path.exists()


def test_stale_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with unix_socket(path):
        assert stat.S_ISSOCK(path.stat().st_mode)
        with pytest.raises(StartError, match="another server"), unix_socket(path):
            pass
        assert path.exists()
    assert not path.exists()


def test_socket_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(StartError, match="it is a file"), unix_socket(path):
        pass
    assert path.read_text() == "data"


def test_socket_in_a_missing_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="create it"), unix_socket(tmp_path / "no" / "sock"):
        pass


def test_socket_path_too_long_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="too long"), unix_socket(tmp_path / ("x" * 200)):
        pass


def test_a_successors_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with unix_socket(path):
        path.unlink()
        path.touch()
    assert path.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_all_addresses_of_a_host_share_one_port(host: str) -> None:
    sockets = bind_tcp(host, 0)
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        port = sockets[0].getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    finally:
        close_all(sockets)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no dual-stack IPv6 here")
def test_double_colon_listens_on_both_families() -> None:
    sockets = bind_tcp("::", 0)
    try:
        port = sockets[0].getsockname()[1]
        assert addresses(sockets, scheme="http") == [f"http://[::]:{port}"]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()
    finally:
        close_all(sockets)


@pytest.mark.parametrize(
    ("host", "port", "problem"),
    [
        ("no such host", 0, "no address of that name"),
        ("127.0.0.1", 70000, "not between 0 and 65535"),
        ("192.0.2.1", 0, "no such address"),
    ],
)
def test_unusable_address_is_explained(host: str, port: int, problem: str) -> None:
    with pytest.raises(StartError, match=problem):
        bind_tcp(host, port)


# Checks before the start


def test_missing_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot be read"):
        check(Settings(folders=(tmp_path / "no",), cache_dir=tmp_path))


def test_unwritable_cache_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="cannot be written"):
        check(Settings(cache_dir=tmp_path / "file" / "cache"))


def test_an_unusable_proxy_of_the_environment_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks4://alice:s3cret@proxy.example")
    special = UpstreamSettings("special", "https://index.example/simple", proxy=Secret("http://x"))
    check(Settings(cache_dir=tmp_path))
    check(Settings(cache_dir=tmp_path, upstreams=(special,)))
    with pytest.raises(ProxyUnusable, match="ALL_PROXY"):
        check(Settings(cache_dir=tmp_path, upstreams=(replace(special, proxy=None),)))


def test_tls_is_spoken_with_the_configured_certificate(tmp_path: Path) -> None:
    made = Certificates.make(tmp_path)
    with started(tmp_path, tls_cert=str(made.cert), tls_key=str(made.key)) as server:
        assert server.urls[0].startswith("https://")
        context = ssl.create_default_context(cafile=str(made.authority))
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(b"GET /client HTTP/1.0\r\n\r\n")
            assert b"127.0.0.1 https" in b"".join(iter(lambda: sock.recv(65536), b""))


def test_unusable_tls_files_are_explained(tmp_path: Path) -> None:
    made = Certificates.make(tmp_path)
    cert, key, other = made.cert, made.key, made.client_key
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        load_pem_private_key(key.read_bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )
    cases = [
        ((cert, other), "belong together"),
        ((cert, locked), "no password"),
        ((tmp_path / "no", key), "cannot be read"),
    ]
    for (chosen_cert, chosen_key), problem in cases:
        with pytest.raises(StartError, match=problem):
            check(Settings(cache_dir=tmp_path, tls_cert=chosen_cert, tls_key=chosen_key))
        upstream = UpstreamSettings(
            "up", "https://index.example", client_cert=chosen_cert, client_key=chosen_key
        )
        with pytest.raises(StartError, match=f"of upstream 'up' .*{problem}"):
            check(Settings(cache_dir=tmp_path, upstreams=(upstream,)))


def test_an_unusable_file_of_authorities_is_explained(tmp_path: Path) -> None:
    (tmp_path / "junk").touch()
    upstream = UpstreamSettings("up", "https://index.example", ca_file=tmp_path / "junk")
    with pytest.raises(StartError, match="junk of upstream 'up' cannot be used"):
        check(Settings(cache_dir=tmp_path, upstreams=(upstream,)))


def test_a_file_of_accounts_that_lets_nobody_in_is_told_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "users").write_bytes(b"\xff")
    check(Settings(cache_dir=tmp_path, htpasswd=(tmp_path / "users",)))
    assert f"nor of those behind it: {tmp_path / 'users'} cannot be used" in caplog.text


def test_descriptor_limit_is_never_lowered() -> None:
    first = raise_descriptor_limit()
    assert first >= 64
    assert raise_descriptor_limit() >= first

"""Nothing outside the stores is opened, whatever is asked or listed: watched, not believed.

The real server runs once under strace and once with an audit hook in its interpreter, while all
hostile requests, hostile pages and ordinary traffic are thrown at it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import proxyindex
from tests.support import hostile
from tests.support.builders import put_sdist
from tests.support.fixtures import Index, start_server
from tests.support.hermetic import wait_until
from tests.support.openings import (
    AUDIT_FOLDER,
    Bounds,
    Opening,
    has_strace,
    interpreter_folders,
    read_audit,
    read_strace,
    strace_command,
)
from tests.support.pages import HTML_TYPE, JSON_TYPE, sdist_spec
from tests.support.reply import Reply, redirect
from tests.support.upstream import FakeUpstream

CANARY = "canary-1.0.tar.gz"
SOURCE = Path(proxyindex.__file__).parent
# glibc counts them when threads that are busy at once first need memory of their own: any time
PROCESSORS = Path("/sys/devices/system/cpu/online")
LINKS = (
    "../../../../../../{canary}",
    "..%2f..%2f..%2f{canary}",
    "%2e%2e/%2e%2e/{canary}",
    "..%252f..%252f{canary}",
    "..%5c..%5c{canary}",
    "/{canary}",
    "//{canary}",
    "file://{canary}",
    "file:///{canary}",
    "FILE:{canary}",
    "{canary}%00.tar.gz",
    "{canary}%00",
    "/proc/self/environ%23-1.0.tar.gz",
    "http://[::1]:9/{name}-1.0.tar.gz",
    "http://localhost:9/{name}-1.0.tar.gz",
    "http://169.254.169.254/{name}-1.0.tar.gz",
    "http://other.example/{name}-1.0.tar.gz",
    "unix:///run/docker.sock/{name}-1.0.tar.gz",
)


@dataclass(frozen=True, slots=True)
class Watched:
    """A server whose openings are read from a log. `canary` is a file it has no business with."""

    index: Index
    canary: Path
    read: Callable[[], list[Opening]]
    bounds: Bounds


@contextlib.contextmanager
def watching(home: Path, way: str) -> Iterator[Watched]:
    folder, temporary, log = home / "packages", home / "temporary", home / "openings.log"
    folder.mkdir()
    temporary.mkdir()
    canary = home / CANARY
    canary.write_bytes(b"secret")
    hook = {"PYTHONPATH": str(AUDIT_FOLDER), "TEST_AUDIT_LOG": str(log)} if way == "audit" else {}
    env = {"TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1", **hook}
    reader = read_audit if way == "audit" else read_strace
    with FakeUpstream() as upstream:
        server = start_server(
            home / "server", folder, "--project-list", "all", upstream=upstream, env=env
        )
        server.wrapper = strace_command(log) if way == "strace" else []
        index = Index(server, upstream, folder)
        index.populate()
        upstream.project_list("foo-bar", "../../canary", "/etc/passwd")
        bounds = Bounds(
            folders=(server.cache_dir, folder),
            libraries=(*interpreter_folders(SOURCE), Path("/proc/self/mountinfo"), PROCESSORS),
            peers=frozenset({f"127.0.0.1:{upstream.port}"}),
        )
        with server:
            ordinary_traffic(index)  # whatever is opened once for all, is open now
            begun = log.stat().st_size

            def read() -> list[Opening]:
                with log.open(errors="replace") as lines:
                    lines.seek(begun)
                    whole = [line for line in lines if line.endswith("\n")]
                return list(reader(whole, server.workdir))

            yield Watched(index, canary, read, bounds)


@pytest.fixture(scope="module", params=["audit", "strace"])
def watched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    if request.param == "strace" and not has_strace():
        pytest.skip("strace is not installed, or may not trace here")
    with watching(tmp_path_factory.mktemp("watched"), request.param) as made:
        yield made


def ordinary_traffic(index: Index) -> None:
    name = index.new_name()
    cold = sdist_spec(name)
    index.project(cold, name=name)
    for accept in (JSON_TYPE, HTML_TYPE, "text/html"):
        for target in ("/", "/simple/", "/simple/foo-bar/", "/simple/local-lib/"):
            assert index.get(target, {"Accept": accept}).status in (200, 406)
    files = [("foo-bar", index.wheel.filename), ("foo-bar", index.sdist.filename)]
    files += [("local-lib", index.local_filename), (name, cold.filename)]
    for project, filename in files * 2:
        target = f"/simple/{project}/{filename}"
        assert index.get(target).status == 200
        assert index.get(target, {"Range": "bytes=1-5"}).status == 206
        for end in (".metadata", ".asc", ".provenance"):
            assert index.get(target + end).status in (200, 404)
    for target in ("/health", "/ready", "/metrics", "/status", "/simple/Foo.Bar", "/simple/px-no/"):
        index.get(target)


def hostile_requests(index: Index, canary: Path) -> None:
    attacks = [*hostile.AMBIGUOUS.values(), *hostile.BROKEN_BODIES.values(), *hostile.ODD.values()]
    attacks += [hostile.get(target) for target in hostile.TARGETS.values()]
    attacks += [ask.data for ask in hostile.FORMS.values()]
    up = b"../" * 12
    for path in (str(canary).encode(), b"/etc/passwd", b"/etc/hostname"):
        for prefix in (b"/", b"/simple", b"/simple/foo-bar", b"/simple/local-lib", b"/simple//"):
            attacks += [hostile.get(prefix + path), hostile.get(prefix + b"/" + up + path)]
            encoded = (prefix + b"/" + up).replace(b"../", b"%2e%2e%2f")
            attacks += [hostile.get(encoded + path), hostile.get(prefix + path + b".asc")]
    attacks += [hostile.get(b"/simple/local-lib/" + CANARY.encode())]
    for data in attacks:
        with index.server.connect() as connection, contextlib.suppress(ConnectionError):
            connection.send(data + hostile.LAST)
            while connection.receive(65_536):
                pass


def hostile_pages(index: Index, canary: Path) -> None:
    """Pages whose links and names point at the canary, and answers that redirect to it."""
    for link in LINKS:
        name = index.new_name()
        url = link.format(canary=str(canary).lstrip("/"), name=name.replace("-", "_"))
        own = f"{name.replace('-', '_')}-1.0.tar.gz"
        for form in (JSON_TYPE, HTML_TYPE):
            for filename in (own, url, f"../../{CANARY}", str(canary), f"{own}\0", None):
                entry = {"url": url, "hashes": {}, "filename": filename or own}
                page = json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": [entry]})
                if form == HTML_TYPE:
                    base = f'<base href="{url}">' if filename is None else ""
                    page = (
                        f'<html><head>{base}<title>x</title></head><a href="{url}">{filename}</a>'
                    )
                reply = Reply(body=page.encode(), content_type=form)
                index.upstream.script(f"/simple/{name}/", reply)
                ask_all(index, name, own)
        spec = sdist_spec(name)
        index.project(spec, name=name)
        index.upstream.script(spec.path, redirect(url.replace("%00", "")))
        ask_all(index, name, own)


def ask_all(index: Index, name: str, filename: str) -> None:
    listed = index.get(f"/simple/{name}/", {"Accept": JSON_TYPE, "Cache-Control": "no-cache"})
    assert "canary" not in listed.text
    for end in ("", ".metadata"):
        answer = index.get(f"/simple/{name}/{filename}{end}")
        assert b"secret" not in answer.body


def test_nothing_outside_the_stores_is_opened(watched: Watched) -> None:
    index = watched.index
    hostile_requests(index, watched.canary)
    hostile_pages(index, watched.canary)
    put_sdist(index.folder, "late-lib")
    assert index.get("/simple/late-lib/").status == 200
    ordinary_traffic(index)
    seen = wait_until(lambda: _with_last(watched), "the last opening in the log")
    assert watched.bounds.strays(seen) == []
    assert "Traceback" not in index.server.logs
    assert [one for one in seen if one.is_peer or "blobs" in one.what], "watched at all"


def _with_last(watched: Watched) -> list[Opening] | None:
    """The openings, once that of the newest file is among them."""
    newest = watched.index.server.cache_dir / "blobs"
    seen = watched.read()
    return seen if any(one.what.startswith(str(newest)) for one in seen) else None


@pytest.mark.parametrize(
    ("call", "what", "is_stray"),
    [
        ("openat", "/store/blobs/aa", False),
        ("openat", "/store/../etc/passwd", True),
        ("openat", "/stores", True),
        ("open", "/dev/null", False),
        ("open", "/dev/tcp", True),
        ("open", "/etc/passwd", True),
        ("execve", "/bin/sh", True),
        ("connect", "127.0.0.1:80", False),
        ("connect", "127.0.0.1:81", True),
        ("socket.getaddrinfo", "other.example:80", True),
    ],
)
def test_the_watch_knows_a_stray(call: str, what: str, is_stray: bool) -> None:
    bounds = Bounds((Path("/store"),), frozenset({"127.0.0.1:80"}))
    assert (bounds.strays([Opening(call, what)]) != []) is is_stray


def test_libraries_may_be_read_and_not_written() -> None:
    bounds = Bounds((), frozenset(), libraries=(Path("/lib"),))
    assert bounds.strays([Opening("open", "/lib/a.py", is_reading=True)]) == []
    assert bounds.strays([Opening("open", "/lib/a.py")]) != []
    lines = [
        '7 openat(AT_FDCWD</w>, "/lib/a", O_RDONLY|O_CLOEXEC) = 3</lib/a>',
        '7 openat(AT_FDCWD</w>, "/lib/a", O_WRONLY|O_CREAT, 0666) = 3</lib/a>',
        '7 unlink("/lib/a") = 0',
    ]
    assert len(bounds.strays(read_strace(lines, Path("/w")))) == 2
    told = [["open", "/lib/a", "r", "524288"], ["open", "/lib/a", "w", "524865"]]
    told += [["os.scandir", "/lib"], ["os.remove", "/lib/a", "-1"]]
    assert len(bounds.strays(read_audit(map(json.dumps, told), Path("/w")))) == 2


def test_strace_s_lines_are_understood(tmp_path: Path) -> None:
    lines = [
        '7 openat(AT_FDCWD</w>, "a\\303\\244\\0b", O_RDONLY) = -1 ENOENT (No such file)\n',
        '7 openat(5</dir>, "name", O_RDONLY|O_CLOEXEC <unfinished ...>\n',
        '7 <... openat resumed>) = 9</dir/name>\n',
        '7 renameat(AT_FDCWD</w>, "/x/a", 6</y>, "b") = 0\n',
        '7 execve("/bin/sh", ["sh", "-c", "id"], 0x7f /* 3 vars */) = 0\n',
        '7 connect(6<socket:[1]>, {sa_family=AF_INET, sin_port=htons(80), '
        'sin_addr=inet_addr("127.0.0.1")}, 16) = 0\n',
        '7 connect(6<socket:[1]>, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0\n',
        '7 --- SIGTERM {si_signo=SIGTERM} ---\n',
    ]  # fmt: skip
    assert [one.what for one in read_strace(lines, Path("/cwd"))][:6] == [
        "/w/aä\0b",
        "/dir/name",
        "/x/a",
        "/y/b",
        "/bin/sh",
        "127.0.0.1:80",
    ]

"""Upstreams that cannot be reached, in every way a connection can fail: the stored copy is served,
else 503; in time, for this once, and never as "there is no such project"."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.broken import (
    Front,
    Identities,
    hangs_up_after,
    interim_for_ever,
    resets_after,
    silent,
)
from tests.support.hermetic import wait_until
from tests.support.outages import (
    ask,
    assert_refused,
    assert_stale,
    configured,
    filenames,
    page,
    stored_page,
)
from tests.support.pages import JSON_TYPE, json_page, wheel_spec
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Place:
    """A running server, its upstream, and the failing port between them."""

    server: ProxyIndex
    upstream: FakeUpstream
    front: Front


@contextmanager
def placed(folder: Path, *settings: str, tls: ssl.SSLContext | None = None) -> Iterator[Place]:
    with FakeUpstream() as upstream, Front(upstream.port, tls) as front:
        config = configured(folder, front.simple_url, *settings)
        with ProxyIndex("--config", config, "--page-ttl", "0s", workdir=folder) as server:
            yield Place(server, upstream, front)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Without TLS. One retry, for more of them only cost time."""
    with placed(tmp_path_factory.mktemp("plain"), "retries = 1") as made:
        yield made


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return Identities.make(tmp_path_factory.mktemp("identities"))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, identities: Identities) -> Iterator[Place]:
    """With TLS and a private authority."""
    trusted = f'ca-file = "{identities.authority}"'
    folder = tmp_path_factory.mktemp("secure")
    with placed(folder, trusted, "retries = 1", tls=identities.good) as made:
        yield made


BODY = json_page("demo", [wheel_spec("demo")] * 3)
HEAD = (
    f"HTTP/1.1 200 OK\r\nContent-Type: {JSON_TYPE}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
)
ALERT = b"\x15\x03\x01\x00\x02\x02\x50"  # what a TLS server says to plain HTTP

PLAIN: dict[str, Callable[[Front], None]] = {
    "refused": Front.refuse,
    "reset at once": lambda front: front.behave(resets_after(b"")),
    "reset after headers": lambda front: front.behave(resets_after(HEAD)),
    "reset in the body": lambda front: front.behave(resets_after(HEAD + BODY[:200])),
    "closed in the body": lambda front: front.behave(hangs_up_after(HEAD + BODY[:200])),
    "TLS expected": lambda front: front.behave(hangs_up_after(ALERT)),
}
SECURE: dict[str, Callable[[Front, Identities], None]] = {
    "unknown authority": lambda front, shown: front.behave(tls=shown.stranger),
    "expired certificate": lambda front, shown: front.behave(tls=shown.expired),
    "closed without notice in the body": lambda front, _: front.behave(
        hangs_up_after(HEAD + BODY[:200])
    ),
}
SILENT: dict[str, Callable[[Front], None]] = {
    "no answer to TCP": Front.leave_unanswered,
    "no answer to HTTP": lambda front: front.behave(silent),
    "interim answers for ever": lambda front: front.behave(interim_for_ever),
    "no answer to TLS": lambda front: front.behave(silent),
}


REASONS = {  # what clients and the log are told of it
    "refused": b" cannot be reached (Connection refused).",
    "TLS expected": b" sent what is not HTTP (illegal status line).",
    "unknown authority": b" (its certificate is not trusted: unable to get local issuer",
    "expired certificate": b" (its certificate is not trusted: certificate has expired).",
}


def check(where: Place, fail: Callable[[], None], reason: bytes = b"") -> None:
    """One case: with and without a copy, and well again afterwards."""
    known, unknown = (f"demo-{next(NUMBERS)}" for _ in range(2))
    for name in (known, unknown):
        where.upstream.project(name, wheel_spec(name))
    where.front.relay()
    copy = page(where.server, known)
    assert copy.status == 200, where.server.logs
    stored = stored_page(where.server, known)
    fail()
    stale, refused = ask(where.server, known, unknown)
    assert_stale(stale, copy)
    assert_refused(refused, 503)
    assert reason in refused.response.body
    if reason:
        assert f"{unknown}: {refused.response.body.decode().strip()}" in where.server.logs
    assert stored_page(where.server, known) == stored
    where.front.relay()
    assert len(filenames(page(where.server, unknown))) == 1, "nothing of it was kept"
    assert page(where.server, known).body == copy.body


@pytest.mark.parametrize("case", PLAIN)
def test_an_upstream_that_cannot_be_reached_leaves_the_copy_or_503(plain: Place, case: str) -> None:
    check(plain, lambda: PLAIN[case](plain.front), REASONS.get(case, b""))


@pytest.mark.parametrize("case", SECURE)
def test_an_upstream_that_cannot_be_trusted_leaves_the_copy_or_503(
    secure: Place, identities: Identities, case: str
) -> None:
    fail = SECURE[case]
    check(secure, lambda: fail(secure.front, identities), REASONS.get(case, b""))


def test_an_upstream_that_never_answers_leaves_the_copy_or_503(
    tmp_path: Path, identities: Identities
) -> None:
    def one(case: str) -> None:
        tls = identities.good if "TLS" in case else None
        trusted = [f'ca-file = "{identities.authority}"'] if tls else []
        with placed(tmp_path / case.replace(" ", "-"), *trusted, tls=tls) as made:
            check(made, lambda: SILENT[case](made.front))

    with ThreadPoolExecutor(len(SILENT)) as pool:  # each takes the whole patience
        for done in [pool.submit(one, case) for case in SILENT]:
            done.result()


def test_a_name_without_address_leaves_the_copy_or_503(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.project("known", wheel_spec("known"))
    folder, url = tmp_path / "server", "http://nowhere.invalid/simple"
    config = configured(folder, upstream.simple_url.rstrip("/"))
    with ProxyIndex("--config", config, "--page-ttl", "0s", workdir=folder) as server:
        copy = page(server, "known")
        server.stop()
        # the same cache for an upstream of another address: stored under a digest of its URL
        (old,) = (server.cache_dir / "pages").iterdir()
        new = old.with_name(f"up-{hashlib.sha256(f'{url} '.encode()).hexdigest()[:12]}")
        shutil.move(old, new)
        configured(folder, url)
        server.start()
        stale, refused = ask(server, "known", "unknown")
    assert_stale(stale, copy)
    assert_refused(refused, 503)


def test_four_workers_tell_an_outage_alike(upstream: FakeUpstream, tmp_path: Path) -> None:
    for name in ("known", "unknown"):
        upstream.project(name, wheel_spec(name))
    config = configured(tmp_path, upstream.simple_url, "retries = 0")
    options = ["--config", config, "--page-ttl", "0s", "--workers", "4"]
    with ProxyIndex(*options, workdir=tmp_path) as server:
        copy = page(server, "known")
        upstream.down()
        names = ["known", "unknown"] * 8
        for name, answered in zip(names, ask(server, *names), strict=True):
            if name == "known":
                assert_stale(answered, copy)
            else:
                assert_refused(answered, 503)
        upstream.up()
        # a worker that has given upstream up asks it again after some seconds
        wait_until(lambda: page(server, "unknown").status == 200, "upstream is asked again")
        assert page(server, "known").body == copy.body


def test_a_file_is_not_waited_for_behind_interim_answers_for_ever(tmp_path: Path) -> None:
    spec = wheel_spec("demo")
    config = ["retries = 0", 'connect-timeout = "500ms"', 'read-timeout = "1s"']
    with placed(tmp_path / "server", *config) as made:
        made.upstream.project("demo", spec)
        target = f"/simple/demo/{spec.filename}"
        assert filenames(page(made.server, "demo")) == [spec.filename]
        made.front.behave(interim_for_ever)
        answer = made.server.get(target)
        assert (answer.status, answer.header("retry-after")) == (503, "2")
        made.front.relay()
        assert made.server.get(target).body == spec.body

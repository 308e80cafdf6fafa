"""Files over the wire: docs/conformance.md, checks 65 to 67 and 80 to 85."""

from __future__ import annotations

import gzip
import shutil

import pytest

from tests.support import http
from tests.support.builders import make_sdist
from tests.support.fixtures import Index, ServerFactory
from tests.support.hermetic import wait_until
from tests.support.pages import FileSpec, sdist_spec, wheel_spec
from tests.support.reply import BEFORE_HEADERS, NOT_FOUND, Reply, redirect, sha256_of
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

IMMUTABLE = "public, max-age=365000000, immutable"
VARYING = {"date", "x-proxyindex"}


def stable_headers(response: http.Response) -> dict[str, str]:
    pairs = {name.lower(): value for name, value in response.headers}
    return {name: value for name, value in pairs.items() if name not in VARYING}


def files_of(index: Index, name: str) -> dict[str, dict[str, object]]:
    answer = index.get(f"/simple/{name}/", {"Accept": "application/vnd.pypi.simple.v1+json"})
    return {entry["filename"]: entry for entry in answer.json()["files"]}


def evict(server: ProxyIndex, sha256: str) -> None:
    """What the LRU does: the blob is gone, everything else stays."""
    (server.cache_dir / "blobs" / sha256[:2] / sha256).unlink()


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_065_a_whole_file_is_sent_as_it_is_with_all_headers(index: Index, kind: str) -> None:
    name = index.new_name()
    spec = wheel_spec(name, payload=70_000) if kind == "wheel" else sdist_spec(name)
    index.project(spec, name=name)
    for state in ("fetched", "hit"):
        answer = index.get(f"/simple/{name}/{spec.filename}", {"Accept-Encoding": "gzip, deflate"})
        assert answer.status == 200
        assert answer.body == spec.body
        assert answer.header("x-proxyindex") == state
        assert answer.all("content-length") == [str(len(spec.body))]
        assert answer.header("etag") == f'"{sha256_of(spec.body)}"'
        assert answer.header("accept-ranges") == "bytes"
        assert answer.header("cache-control") == IMMUTABLE
        assert answer.header("content-type") == "application/octet-stream"
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("date")
        assert answer.header("last-modified")
        for absent in ("content-encoding", "set-cookie", "content-disposition"):
            assert answer.header(absent) is None


def test_066_head_has_the_headers_of_get_and_downloads_nothing(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name, payload=300_000)
    index.project(spec, name=name)
    target = f"/simple/{name}/{spec.filename}"
    cold = index.get(target, method="HEAD")
    assert cold.status == 200
    assert index.upstream.count(spec.path) == 0
    full = index.get(target)
    warm = index.get(target, method="HEAD")
    assert stable_headers(cold) == stable_headers(full) == stable_headers(warm)


def test_066_head_of_a_file_without_size_asks_for_one_byte(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name, payload=300_000, size=None)
    index.project(spec, name=name)
    answer = index.get(f"/simple/{name}/{spec.filename}", method="HEAD")
    assert answer.header("content-length") == str(len(spec.body))
    assert [seen.header("range") for seen in index.upstream.requests(spec.path)] == ["bytes=0-0"]


@pytest.mark.parametrize("state", ["cold", "warm", "local"])
@pytest.mark.parametrize("form", ['"{0}"', 'W/"{0}"', '"x", W/"{0}" , "y"', "*"])
def test_067_a_matching_if_none_match_is_answered_304(index: Index, state: str, form: str) -> None:
    if state == "local":
        target, tag = f"/simple/local-lib/{index.local_filename}", sha256_of(index.local_wheel)
    else:
        name = index.new_name()
        spec = wheel_spec(name)
        index.project(spec, name=name)
        target, tag = f"/simple/{name}/{spec.filename}", sha256_of(spec.body)
        if state == "warm":
            index.get(target)
    answer = index.get(target, {"If-None-Match": form.format(tag), "Range": "bytes=0-9"})
    assert answer.status == 304
    assert answer.body == b""
    assert answer.header("etag") == f'"{tag}"'
    kept = "max-age=0, must-revalidate" if state == "local" else IMMUTABLE
    assert answer.header("cache-control") == kept
    assert index.get(target, {"If-None-Match": f'"{"0" * 64}"'}).status == 200


@pytest.mark.parametrize("is_mislabelled", [True, False])
def test_080_a_content_encoding_from_upstream_never_reaches_the_store(
    index: Index, is_mislabelled: bool
) -> None:
    name = index.new_name()
    spec = sdist_spec(name, body=make_sdist(name, payload=100_000))
    index.project(spec, name=name)
    if is_mislabelled:  # the archive itself, said to be an encoding of something
        index.upstream.file(spec, headers={"Content-Encoding": "gzip"})
    else:  # encoded once more
        index.upstream.file(spec, gzip=True)
    target = f"/simple/{name}/{spec.filename}"
    for _ in ("fetched", "hit"):
        answer = index.get(target, {"Accept-Encoding": "gzip"})
        assert answer.header("content-encoding") is None
        assert answer.body == spec.body
    assert gzip.decompress(answer.body)
    [seen] = index.upstream.requests(spec.path)
    assert seen.header("accept-encoding") == "identity"


def test_081_a_signed_redirect_is_followed_and_never_kept(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = wheel_spec("signed", payload=5_000)
    upstream.project("signed", spec)
    signed = f"/store/{spec.filename}?X-Signature=s3cr3t-signature"
    upstream.script(spec.path, redirect(signed))
    upstream.script(signed, Reply(body=spec.body))
    running = server("--log-level", "debug", upstream=upstream)
    target = f"/simple/signed/{spec.filename}"
    first = running.get(target)
    evict(running, sha256_of(spec.body))
    second = running.get(target)
    assert first.body == second.body == spec.body
    assert upstream.count(spec.path) == 2
    seen = [running.get("/simple/signed/"), first, second]
    told = running.logs + "".join(f"{one.headers}{one.body!r}" for one in seen)
    assert "s3cr3t" not in told
    assert "X-Signature" not in told


def test_082_plus_and_its_escape_are_one_file(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name, "1.0+cpu.1")
    assert "+" in spec.filename
    index.project(spec, name=name)
    entry = files_of(index, name)[spec.filename]
    assert entry["url"] == spec.filename.replace("+", "%2B")
    html = index.get(f"/simple/{name}/", {"Accept": "text/html"}).text
    assert f'href="{entry["url"]}#sha256=' in html
    escaped, plain = entry["url"], spec.filename
    assert index.get(f"/simple/{name}/{escaped}").body == spec.body
    assert index.get(f"/simple/{name}/{plain}").body == spec.body
    assert index.get(f"/simple/{name}/{escaped}.metadata").body == spec.metadata
    assert index.upstream.count(spec.path) == 1
    lower = str(escaped).replace("%2B", "%2b")
    assert index.get(f"/simple/{name}/{lower}").body == spec.body


def test_083_a_file_is_served_without_a_page_request_before(crowded: Index) -> None:
    name = crowded.new_name()
    spec = wheel_spec(name, payload=5_000)
    crowded.project(spec, name=name)
    target = f"/simple/{name}/{spec.filename}"
    assert crowded.get(target).body == spec.body
    asked = [seen.path for seen in crowded.upstream.requests()]
    assert asked[-2:] == [f"/simple/{name}/", spec.path]
    evict(crowded.server, sha256_of(spec.body))
    assert crowded.get(target).body == spec.body


def test_083_a_file_is_served_after_the_cache_was_deleted(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = wheel_spec("lonely", payload=5_000)
    upstream.project("lonely", spec)
    running = server(upstream=upstream)
    target = f"/simple/lonely/{spec.filename}"
    assert running.get(target).body == spec.body
    running.stop()
    shutil.rmtree(running.cache_dir)
    running.start()
    assert running.get(target + ".metadata").body == spec.metadata
    assert running.get(target).body == spec.body


def test_084_a_cached_file_outlives_its_upstream(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    doomed, kept = wheel_spec("doomed", "1.0", payload=5_000), wheel_spec("doomed", "2.0")
    upstream.project("doomed", doomed, kept)
    running = server("--page-ttl", "0s", upstream=upstream)
    target = f"/simple/doomed/{doomed.filename}"
    assert running.get(target).body == doomed.body

    upstream.project("doomed", kept)
    upstream.script(doomed.path, NOT_FOUND)
    page = running.get("/simple/doomed/", {"Accept": "application/vnd.pypi.simple.v1+json"}).json()
    assert [entry["filename"] for entry in page["files"]] == [kept.filename]
    assert running.get(target).body == doomed.body

    upstream.script("/simple/doomed/", NOT_FOUND)
    # a refresh that the file's request began may still be under way, and is joined
    wait_until(lambda: running.get("/simple/doomed/").status == 404, "the project is gone")
    answer = running.get(target)
    assert (answer.status, answer.body) == (200, doomed.body)
    assert running.get(f"/simple/doomed/{kept.filename}").status == 404


HOSTILE = [
    "/simple/local-lib/../secret.txt",
    "/simple/local-lib/../../secret.txt",
    "/simple/local-lib/%2e%2e/secret.txt",
    "/simple/local-lib/%2e%2e%2fsecret.txt",
    "/simple/local-lib/..%2Fsecret.txt",
    "/simple/local-lib/..%5Csecret.txt",
    "/simple/local-lib/..\\secret.txt",
    "/simple/local-lib/%252e%252e%252fsecret.txt",
    "/simple/local-lib/%2Fetc%2Fpasswd",
    "/simple/local-lib//etc/passwd",
    "/simple/..%2f..%2fsecret.txt/x-1.0.tar.gz",
    "/simple/%2e%2e/secret.txt",
    "/simple/../secret.txt",
    "/simple/local-lib/secret.txt",
    "/simple/local-lib/secret.txt%00.whl",
    "/simple/local-lib/%00",
    "/simple/local-lib/%",
    "/simple/local-lib/%zz",
    "/simple/local-lib/.",
    "/simple/local-lib/..",
    "/simple/local-lib/.metadata",
    "/simple/local-lib/.asc",
    "/../secret.txt",
    "//secret.txt",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/simple/local-lib/" + "../" * 200 + "etc/passwd",
    "/simple/local-lib/" + "a" * 3000,
    "secret.txt",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("target", HOSTILE, ids=range(len(HOSTILE)))
def test_085_a_path_leads_nowhere_but_to_listed_files(index: Index, target: str) -> None:
    for folder in (index.folder, index.folder.parent, index.folder / "local-lib"):
        folder.mkdir(exist_ok=True)
        (folder / "secret.txt").write_text("the-secret-content")
    seen = index.upstream.count()
    answer = index.get(target)
    assert answer.status in (400, 404)
    assert b"the-secret-content" not in answer.body
    assert b"root:" not in answer.body
    assert index.upstream.count() == seen


def test_085_a_link_out_of_the_folder_is_not_followed_by_name(index: Index) -> None:
    outside = index.folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "local_lib-3.0.tar.gz").write_bytes(make_sdist("local-lib", "3.0"))
    for name in ("../outside/local_lib-3.0.tar.gz", "%2e%2e/outside/local_lib-3.0.tar.gz"):
        assert index.get(f"/simple/local-lib/{name}").status in (400, 404)


def test_a_listed_file_that_upstream_denies_is_404_and_soon_asked_for_again(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name, payload=1_000)
    index.project(spec, name=name)
    index.upstream.script(spec.path, NOT_FOUND, Reply(body=spec.body))
    # some indexes list a file a second or two before it can be had
    answer = index.get(f"/simple/{name}/{spec.filename}")
    assert (answer.status, answer.body) == (200, spec.body)


def test_a_file_without_hash_gets_one_once_it_was_fetched(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name, payload=1_000, hashes={}, size=None)
    index.project(spec, name=name)
    target = f"/simple/{name}/{spec.filename}"
    assert files_of(index, name)[spec.filename]["hashes"] == {}
    first = index.get(target)
    assert first.body == spec.body
    assert "immutable" not in (first.header("cache-control") or "")
    entry = files_of(index, name)[spec.filename]
    assert entry["hashes"] == {"sha256": sha256_of(spec.body)}
    assert entry["size"] == len(spec.body)
    second = index.get(target)
    assert second.header("x-proxyindex") == "hit"
    assert second.header("etag") == f'"{sha256_of(spec.body)}"'
    assert second.header("cache-control") == IMMUTABLE


def test_the_first_bytes_of_a_file_without_hash_stay(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    def offer(version: bytes) -> FileSpec:
        return FileSpec(filename="pinned-1.0.tar.gz", body=version, hashes={}, size=None)

    upstream.project("pinned", offer(b"first" * 500))
    running = server("--page-ttl", "0s", upstream=upstream)
    target = "/simple/pinned/pinned-1.0.tar.gz"
    assert running.get(target).body == b"first" * 500
    upstream.project("pinned", offer(b"other" * 500))
    assert running.get("/simple/pinned/").status == 200
    assert running.get(target).body == b"first" * 500


def test_an_upstream_that_is_silent_about_a_file_holds_up_nobody_else(index: Index) -> None:
    name = index.new_name()
    stuck, other = wheel_spec(name, "1.0"), wheel_spec(name, "2.0")
    index.project(stuck, other, name=name)
    gate = f"silent-{name}"
    index.upstream.file(stuck, hold_at=BEFORE_HEADERS, gate=gate)
    with index.server.connect() as waiting:
        waiting.start(f"/simple/{name}/{stuck.filename}")
        index.upstream.wait_held(gate)
        assert index.get(f"/simple/{name}/{other.filename}").body == other.body
        index.upstream.release(gate)
        assert waiting.answer().body == stuck.body

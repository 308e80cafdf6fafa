"""Core metadata, signatures, provenance: docs/conformance.md, checks 86 to 92."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import make_zip, metadata
from tests.support.crowd import together
from tests.support.fixtures import Index, ServerFactory
from tests.support.pages import JSON_TYPE, FileSpec, sdist_spec, wheel_spec
from tests.support.reply import NOT_FOUND, Reply, sha256_of
from tests.support.upstream import FakeUpstream


def entry_of(index: Index, name: str, filename: str) -> dict[str, Any]:
    page = index.get(f"/simple/{name}/", {"Accept": JSON_TYPE}).json()
    return next(entry for entry in page["files"] if entry["filename"] == filename)


def offered(index: Index, spec: FileSpec, **sidecar: Any) -> str:
    """Offer a wheel in a project of its own; its sidecar answers by `sidecar`."""
    name = spec.filename.partition("-")[0].replace("_", "-")
    index.project(spec, name=name)
    if sidecar:
        usual = Reply(body=spec.metadata or b"")
        index.upstream.script(spec.path + ".metadata", usual.with_(**sidecar))
    return name


def test_086_metadata_of_a_local_wheel_is_its_own(index: Index) -> None:
    entry = entry_of(index, "local-lib", index.local_filename)
    answer = index.get(f"/simple/local-lib/{index.local_filename}.metadata")
    assert answer.status == 200
    assert answer.body == index.local_metadata
    assert entry["core-metadata"] == {"sha256": sha256_of(index.local_metadata)}
    # the deprecated spelling may be left out, but not say anything else
    assert entry.get("dist-info-metadata", entry["core-metadata"]) == entry["core-metadata"]
    assert answer.header("content-length") == str(len(index.local_metadata))
    assert answer.header("content-encoding") is None
    html = index.get("/simple/local-lib/", {"Accept": "text/html"}).text
    digest = sha256_of(index.local_metadata)
    assert f'data-core-metadata="sha256={digest}"' in html
    assert f'data-dist-info-metadata="sha256={digest}"' in html


def test_087_an_advertised_sidecar_is_fetched_once(crowded: Index) -> None:
    spec = wheel_spec(crowded.new_name(), payload=50_000)
    name = offered(crowded, spec)
    target = f"/simple/{name}/{spec.filename}.metadata"
    answers = together(20, lambda: crowded.get(target))
    assert {answer.body for answer in answers} == {spec.metadata}
    assert crowded.upstream.count(spec.path + ".metadata") == 1
    assert crowded.upstream.count(spec.path) == 0
    before = crowded.upstream.count()
    for _ in range(8):  # so that other workers answer, too
        again = crowded.get(target)
        assert (again.header("x-proxyindex"), again.body) == ("hit", spec.metadata)
        assert again.header("etag") == f'"{sha256_of(spec.metadata or b"")}"'
        assert "immutable" in (again.header("cache-control") or "")
    assert crowded.upstream.count() == before


@pytest.mark.parametrize("ranges", ["honour", "ignore", "none"])
@pytest.mark.parametrize("is_hashed", [True, False])
def test_088_an_advertised_sidecar_that_is_missing_is_extracted(
    index: Index, ranges: Any, is_hashed: bool
) -> None:
    spec = wheel_spec(index.new_name(), payload=200_000, core_metadata=None if is_hashed else True)
    name = offered(index, spec)
    index.upstream.script(spec.path + ".metadata", NOT_FOUND)
    index.upstream.file(
        FileSpec(filename=spec.filename, body=spec.body), ranges=ranges
    )  # without its metadata
    answer = index.get(f"/simple/{name}/{spec.filename}.metadata")
    assert (answer.status, answer.body) == (200, spec.metadata)
    sent = sum(seen.sent for seen in index.upstream.requests(spec.path))
    assert sent < 60_000 or ranges != "honour", "the tail would have done"
    advertised = entry_of(index, name, spec.filename)["core-metadata"]
    assert advertised == {"sha256": sha256_of(answer.body)}


@pytest.mark.parametrize(
    "sidecar",
    [
        {"body": b"Metadata-Version: 2.1\nName: other\nVersion: 1.0\n"},
        {"body": b""},
        {"status": 500, "etag": None},
        {"status": 403, "etag": None},
    ],
    ids=["other", "empty", "500", "403"],
)
def test_089_a_sidecar_with_the_wrong_hash_is_not_passed_on(
    index: Index, sidecar: dict[str, Any]
) -> None:
    spec = wheel_spec(index.new_name(), payload=1_000)
    name = offered(index, spec, **sidecar)
    answer = index.get(f"/simple/{name}/{spec.filename}.metadata")
    assert (answer.status, answer.body) == (200, spec.metadata)
    advertised = entry_of(index, name, spec.filename)["core-metadata"]
    assert advertised == {"sha256": sha256_of(answer.body)}


def test_089_a_wrong_advertised_hash_is_corrected_once_it_is_known(index: Index) -> None:
    spec = wheel_spec(index.new_name(), core_metadata={"sha256": "0" * 64})
    name = offered(index, spec)
    before = index.get(f"/simple/{name}/")
    answer = index.get(f"/simple/{name}/{spec.filename}.metadata")
    assert answer.body == spec.metadata
    assert entry_of(index, name, spec.filename)["core-metadata"] == {
        "sha256": sha256_of(answer.body)
    }
    after = index.get(f"/simple/{name}/", {"If-None-Match": before.header("etag") or ""})
    assert after.status == 200, "a client that holds the wrong hash has to learn the right one"


@pytest.mark.parametrize("ranges", ["honour", "ignore", "none"])
def test_metadata_that_nobody_advertised_is_found(
    server: ServerFactory, upstream: FakeUpstream, ranges: Any
) -> None:
    # of its own: upstreams that lately had no ranges or sidecars are not asked for them
    spec = wheel_spec("silent", payload=20_000_000, core_metadata=False)
    upstream.project("silent", spec)
    upstream.file(spec, ranges=ranges)
    running = server(upstream=upstream)

    def advertised() -> object:
        page = running.get("/simple/silent/", {"Accept": JSON_TYPE}).json()
        return page["files"][0]["core-metadata"]

    assert advertised() is True
    answer = running.get(f"/simple/silent/{spec.filename}.metadata")
    assert (answer.status, answer.body) == (200, spec.metadata)
    # the tail is at hand wherever there are ranges; a sidecar may be made only when asked for
    assert upstream.count(spec.path + ".metadata") == (0 if ranges == "honour" else 1)
    assert all(seen.sent < len(spec.body) for seen in upstream.requests(spec.path))
    assert advertised() == {"sha256": sha256_of(answer.body)}


@pytest.mark.parametrize("status", [503, 429])
def test_an_upstream_that_is_busy_is_not_asked_for_whole_wheels(
    server: ServerFactory, upstream: FakeUpstream, status: int
) -> None:
    spec = wheel_spec("busy", payload=5_000_000, core_metadata=False)
    upstream.project("busy", spec)
    busy = Reply(status=status, etag=None)
    upstream.script(spec.path, busy, Reply(body=spec.body))
    upstream.script(spec.path + ".metadata", busy)
    running = server(upstream=upstream)
    answer = running.get(f"/simple/busy/{spec.filename}.metadata")
    assert (answer.status, answer.body) == (200, spec.metadata)
    other = wheel_spec("busier", payload=5_000_000, core_metadata=False)
    upstream.project("busier", other)
    for path in (other.path, other.path + ".metadata"):
        upstream.script(path, busy.with_(headers={"Retry-After": "20"}))
    answer = running.get(f"/simple/busier/{other.filename}.metadata")
    assert (answer.status, answer.header("retry-after")) == (503, "20")
    asked = [*upstream.requests(spec.path), *upstream.requests(other.path)]
    assert all(seen.header("range") for seen in asked)


@pytest.mark.parametrize(
    "dislike", [Reply(status=501, etag=None), Reply(raw=b"")], ids=["501", "end"]
)
def test_an_upstream_that_dislikes_ranges_gives_the_whole_wheel(
    server: ServerFactory, upstream: FakeUpstream, dislike: Reply
) -> None:
    spec = wheel_spec("silent", core_metadata=False)
    upstream.project("silent", spec)
    upstream.script(spec.path, *[dislike] * 4, Reply(body=spec.body))
    upstream.script(spec.path + ".metadata", NOT_FOUND)
    answer = server(upstream=upstream).get(f"/simple/silent/{spec.filename}.metadata")
    assert (answer.status, answer.body) == (200, spec.metadata)


@pytest.mark.parametrize("algorithm", ["md5", "sha512", None])
def test_089_a_sidecar_of_another_wheel_is_not_passed_on(
    server: ServerFactory, upstream: FakeUpstream, algorithm: str | None
) -> None:
    """By whichever digest the page tells of it, or else by the version that it names."""
    spec = wheel_spec("silent", payload=1_000)
    assert spec.metadata
    told = {algorithm: hashlib.new(algorithm, spec.metadata).hexdigest()} if algorithm else True
    forged = spec.metadata.replace(b"Version: 1.0", b"Version: 9.9")
    upstream.project("silent", replace(spec, core_metadata=told))
    upstream.file(spec, ranges="none")
    upstream.script(spec.path + ".metadata", Reply(body=forged))
    running = server(upstream=upstream)
    answer = running.get(f"/simple/silent/{spec.filename}.metadata")
    assert (answer.status, answer.body) == (200, spec.metadata)


def test_an_upstream_without_ranges_is_not_asked_for_one_per_wheel(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    specs = [wheel_spec("silent", f"{n}.0", core_metadata=False) for n in range(8)]
    upstream.project("silent", *specs)
    for spec in specs:
        upstream.file(spec, ranges="ignore")
    running = server(upstream=upstream)
    for spec in specs:
        answer = running.get(f"/simple/silent/{spec.filename}.metadata")
        assert (answer.status, answer.body) == (200, spec.metadata)
    assert [upstream.count(spec.path) for spec in specs] == [1, 1, 1, 1, 1, 0, 0, 0]


def test_a_sidecar_encoded_against_our_will_is_decoded(index: Index) -> None:
    spec = wheel_spec(index.new_name())
    name = offered(index, spec, gzip=True)
    answer = index.get(f"/simple/{name}/{spec.filename}.metadata", {"Accept-Encoding": "gzip"})
    assert answer.header("content-encoding") is None
    assert answer.body == spec.metadata


def test_a_wheel_without_metadata_stops_being_advertised(index: Index) -> None:
    name = index.new_name()
    broken = make_zip([("something.py", b"pass\n")])
    filename = f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    index.project(FileSpec(filename=filename, body=broken), name=name)
    assert index.get(f"/simple/{name}/{filename}.metadata").status == 404
    assert entry_of(index, name, filename)["core-metadata"] is False
    html = index.get(f"/simple/{name}/", {"Accept": "text/html"}).text
    assert "metadata=" not in html
    assert index.get(f"/simple/{name}/{filename}").body == broken


def test_metadata_in_a_cached_wheel_needs_no_upstream(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    spec = wheel_spec("held", payload=5_000, metadata=None)
    upstream.project("held", spec)
    running = server(upstream=upstream)
    assert running.get(f"/simple/held/{spec.filename}").body == spec.body
    upstream.down()
    answer = running.get(f"/simple/held/{spec.filename}.metadata")
    assert (answer.status, answer.body) == (200, metadata("held", "1.0"))


def test_090_sdists_never_advertise_metadata(index: Index) -> None:
    spec = sdist_spec(index.new_name(), metadata=b"Metadata-Version: 2.1\n", core_metadata=True)
    name = spec.filename.removesuffix("-1.0.tar.gz").replace("_", "-")
    index.project(spec, name=name)
    assert entry_of(index, name, spec.filename)["core-metadata"] is False
    assert "metadata=" not in index.get(f"/simple/{name}/", {"Accept": "text/html"}).text
    assert index.get(f"/simple/{name}/{spec.filename}.metadata").status == 404
    assert index.upstream.count(spec.path + ".metadata") == 0


def test_091_an_absent_signature_is_404_and_remembered(crowded: Index) -> None:
    spec = wheel_spec(crowded.new_name())
    name = offered(crowded, spec)
    for _ in range(8):  # so that other workers answer, too
        assert crowded.get(f"/simple/{name}/{spec.filename}.asc").status == 404
    assert crowded.upstream.count(spec.path + ".asc") == 1


def test_091_a_signature_is_passed_through_but_not_for_ever(index: Index) -> None:
    spec = wheel_spec(index.new_name(), gpg_sig=True)
    name = offered(index, spec)
    index.upstream.script(spec.path + ".asc", Reply(body=b"-----BEGIN PGP SIGNATURE-----"))
    answer = index.get(f"/simple/{name}/{spec.filename}.asc")
    assert (answer.status, answer.body) == (200, b"-----BEGIN PGP SIGNATURE-----")
    assert "immutable" not in (answer.header("cache-control") or "")


@pytest.mark.parametrize("missing", ["{0}.asc", "{0}.metadata.asc", "{0}.asc.metadata"])
def test_091_siblings_of_unlisted_files_are_not_asked_for(index: Index, missing: str) -> None:
    before = index.upstream.count()
    filename = missing.format(index.local_filename)
    assert index.get(f"/simple/local-lib/{filename}").status == 404
    assert index.get(f"/simple/local-lib/other-1.0.tar.gz{missing.format('')}").status == 404
    assert index.upstream.count() == before


@pytest.mark.parametrize(
    ("told", "is_kept"),
    [
        ("https://attest.example/integrity/x/1.0/x.whl/provenance", True),
        ("/integrity/x/1.0/x.whl/provenance", False),
        ("x.whl.provenance", False),
        ("javascript:alert(1)", False),
        ("//attest.example/x", False),
        ("http://attest.example/x", False),
        ("https://user:pass@attest.example/x", False),
        (None, False),
        (7, False),
    ],
)
def test_092_provenance_is_absolute_and_secure_or_absent(
    index: Index, told: Any, is_kept: bool
) -> None:
    spec = wheel_spec(index.new_name(), entry={"provenance": told})
    name = offered(index, spec)
    entry = entry_of(index, name, spec.filename)
    assert entry.get("provenance") == (told if is_kept else None)
    html = index.get(f"/simple/{name}/", {"Accept": "text/html"}).text
    assert ("data-provenance" in html) is is_kept


def test_metadata_can_be_left_to_upstream(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    plain, told = wheel_spec("plain", metadata=None), wheel_spec("told")
    upstream.project("plain", plain)
    upstream.project("told", told)
    config = tmp_path / "proxyindex.toml"
    config.write_text(f'[[upstream]]\nurl = "{upstream.simple_url}"\nmetadata = false\n')
    running = server("--config", config, is_started=False)
    running.args.remove("--no-upstream")
    running.start()
    assert running.get(f"/simple/plain/{plain.filename}.metadata").status == 404
    assert upstream.count(plain.path) == 0
    assert running.get(f"/simple/told/{told.filename}.metadata").body == told.metadata

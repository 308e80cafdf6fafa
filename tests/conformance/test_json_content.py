"""Conformance checks 33-48: what the JSON page says, whatever the upstream said."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import metadata
from tests.support.fixtures import Index, ServerFactory, start_server
from tests.support.hermetic import wait_until
from tests.support.http import Response
from tests.support.pages import JSON_TYPE, FileSpec, json_page, sdist_spec, wheel_spec
from tests.support.reading import (
    AS_JSON,
    entry_of,
    html_of,
    json_of,
    last_segment,
    offer,
    page_reply,
)
from tests.support.reply import Reply, sha256_of
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream, html_reply, json_reply

ALWAYS_STALE = {"Cache-Control": "max-age=0"}
LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128, "md5": 32}
UPLOAD_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def entry_with(index: Index, **keys: Any) -> dict[str, Any]:
    """What becomes of one wheel whose upstream entry has these keys (`_` for `-`) replaced."""
    name = index.new_name()
    changed = {key.replace("_", "-"): value for key, value in keys.items()}
    return entry_of(index, index.project(wheel_spec(name, entry=changed), name=name))


def entry_without(index: Index, key: str) -> dict[str, Any]:
    """The same for one whose upstream entry lacks this key."""
    name = index.new_name()
    page = json.loads(json_page(name, [wheel_spec(name)]))
    del page["files"][0][key]
    reply = Reply(body=json.dumps(page).encode(), content_type=JSON_TYPE)
    return entry_of(index, offer(index, reply, name))


def keys_in(document: object) -> Iterator[str]:
    """Every key of every object in a document."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from keys_in(value)
    elif isinstance(document, list):
        for value in document:
            yield from keys_in(value)


# 33-36: the shape of every page


def test_033_a_page_whose_files_all_have_sizes_says_1_4(index: Index) -> None:
    page = json_of(index, "foo-bar")
    assert page["meta"]["api-version"] == "1.4"
    assert page["name"] == "foo-bar"
    assert {entry["size"] for entry in page["files"]} == {
        len(spec.body) for spec in (index.wheel, index.sdist, index.yanked)
    }
    assert sorted(page["versions"]) == ["0.9", "1.0"]
    local = json_of(index, "local-lib")
    assert (local["meta"]["api-version"], local["versions"]) == ("1.4", ["1.0"])


def test_033_one_file_without_size_makes_it_1_0_and_costs_nothing_else(index: Index) -> None:
    name = index.new_name()
    specs = wheel_spec(name, "1.0", requires_python=">=3.8"), sdist_spec(name, "1.0", size=None)
    page = json_of(index, index.project(*specs, name=name))
    assert page["meta"]["api-version"] == "1.0"
    wheel = next(entry for entry in page["files"] if entry["filename"] == specs[0].filename)
    assert wheel["size"] == len(specs[0].body)
    assert wheel["upload-time"] == specs[0].upload_time
    assert page["versions"] == ["1.0"]


@pytest.mark.parametrize("told", [["1.0", "0.1", "1.0", "dev-r12"], [], None, "1.0", [1, None]])
def test_033_versions_are_unique_texts_that_cover_all_files(index: Index, told: object) -> None:
    name = index.new_name()
    specs = [sdist_spec(name, version) for version in ("1.0", "2.0rc1", "1!3.0", "2.0+local.1")]
    specs.append(sdist_spec(name, "0.5", filename=f"{name}-0.5.linux-x86_64.exe"))
    page = json_of(index, offer(index, page_reply(name, *specs, versions=told), name))
    versions = page["versions"]
    assert all(isinstance(version, str) for version in versions)
    assert len(set(versions)) == len(versions)
    assert {"1.0", "2.0rc1", "1!3.0", "2.0+local.1"} <= set(versions)
    assert len(page["files"]) == 5
    if isinstance(told, list) and "0.1" in told:
        assert {"0.1", "dev-r12"} <= set(versions)


def test_033_the_name_is_ours_even_if_upstream_gives_another(index: Index) -> None:
    name = index.new_name()
    page = json_of(index, offer(index, page_reply("X_" + name, sdist_spec(name)), name))
    assert page["name"] == name


def test_034_private_and_dead_keys_are_not_passed_on(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name, entry={"_private": 1, "comment_text": "", "namespaces": ["x"]})
    reply = page_reply(
        name,
        spec,
        meta={
            "api-version": "1.5",
            "_last-serial": "37059094",
            "tracks": ["https://upstream.example/simple/x/"],
        },
        alternate_locations=["https://other.example/simple/x/"],
        namespaces=["acme"],
    )
    reply = reply.with_(body=reply.body[:-1] + b', "_serial": 5, "unknown": {}}')  # type: ignore[index]
    found = set(keys_in(json_of(index, offer(index, reply, name))))
    assert not {key for key in found if key.startswith("_")}
    assert not found & {"tracks", "alternate-locations", "namespaces", "unknown", "comment_text"}


def test_035_the_name_is_the_last_segment_of_the_link(index: Index) -> None:
    name = index.new_name()
    stem = name.replace("-", "_")
    specs = [
        wheel_spec(name, "1.0+local.1"),
        sdist_spec(name, "1.0", url=f"/elsewhere/{stem}-1.0.tar.gz?signature=secret&x=1"),
        sdist_spec(name, "2.0", url=f"/elsewhere/{stem}-2.0.tar.gz#sha256={'0' * 64}"),
        sdist_spec(name, "1!3.0"),
    ]
    files = json_of(index, index.project(*specs, name=name))["files"]
    assert {entry["filename"] for entry in files} == {spec.filename for spec in specs}
    for entry in files:
        assert last_segment(entry["url"]) == entry["filename"]
        assert not set("#?") & set(entry["url"])
    (local,) = (entry["url"] for entry in files if "local" in entry["url"])
    assert local.endswith("-1.0%2Blocal.1-py3-none-any.whl")


def test_035_an_entry_whose_name_and_link_differ_is_not_listed(index: Index) -> None:
    name = index.new_name()
    good = wheel_spec(name, "1.0")
    other = wheel_spec(name, "2.0", url=good.path)
    page = json_of(index, index.project(other, good, name=name))
    for entry in page["files"]:
        assert last_segment(entry["url"]) == entry["filename"]
    assert good.filename in [entry["filename"] for entry in page["files"]]


def test_036_hashes_are_known_lower_case_and_of_full_length(index: Index) -> None:
    name = index.new_name()
    body = b"some bytes"
    odd = {
        "SHA256": sha256_of(body).upper(),
        "sha384": "A" * 96,
        "sha512": "b" * 128,
        "md5": "c" * 32,
        "sha1": "d" * 40,
        "sha224": "e" * 56,
        "blake2b": "f" * 64,
        "sha3_256": "0" * 64,
        "": "1" * 64,
    }
    bad = {"sha256": "g" * 64, "sha384": "a" * 95, "sha512": 12, "md5": None}
    specs = [sdist_spec(name, "1.0", hashes=odd), sdist_spec(name, "2.0", hashes=bad)]
    specs += [sdist_spec(name, "3.0", hashes={"sha256": sha256_of(body) + "\n"})]
    files = json_of(index, index.project(*specs, name=name))["files"]
    assert len(files) == 3
    for hashes in (entry["hashes"] for entry in files):
        for algorithm, digest in hashes.items():
            assert re.fullmatch(rf"[0-9a-f]{{{LENGTHS[algorithm]}}}", digest)
    assert files[0]["hashes"].keys() == {"sha256", "sha384", "sha512", "md5"}
    assert files[1]["hashes"] == {}


@pytest.mark.parametrize("hashes", [None, [], "sha256", {"sha256": {}}, {"sha256": ["a"]}])
def test_036_hashes_of_another_shape_cost_nothing_but_themselves(
    index: Index, hashes: object
) -> None:
    assert entry_with(index, hashes=hashes)["hashes"] == {}


# 37-43: one bad field costs the field


@pytest.mark.parametrize("size", [None, "12", -1, 1.5, True, [], {}, 2**70])
def test_037_a_size_that_is_none_is_left_out(index: Index, size: object) -> None:
    name = index.new_name()
    index.project(wheel_spec(name, entry={"size": size}), name=name)
    page = json_of(index, name)
    (entry,) = page["files"]
    assert "size" not in entry
    assert page["meta"]["api-version"] == "1.0"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, None),
        ("2024-01-17T16:53:12.779164", None),
        ("2024-01-17T16:53:12", None),
        ("yesterday", None),
        ("", None),
        (1705510392, None),
        ("2024-13-17T16:53:12Z", None),
        ("2024-01-17T16:53:12Z", "2024-01-17T16:53:12Z"),
        ("2024-01-17T18:53:12+02:00", "2024-01-17T16:53:12Z"),
        ("2024-01-17T16:53:12.779164+00:00", "2024-01-17T16:53:12.779164Z"),
        ("2024-01-17T16:53:12.77916412Z", "2024-01-17T16:53:12.779164Z"),
    ],
)
def test_038_an_upload_time_is_in_utc_or_left_out(
    index: Index, told: object, expected: str | None
) -> None:
    entry = entry_with(index, upload_time=told)
    assert entry.get("upload-time") == expected
    assert expected is None or UPLOAD_TIME.fullmatch(expected)
    assert "upload-time" in entry or expected is None


REASON = 'broken: "<b>&amp; ünïcode ☃\tsee\nissue'


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, False),
        (False, False),
        (True, True),
        ("", True),
        ("a reason", "a reason"),
        (REASON, REASON),
    ],
)
def test_039_yanked_is_false_true_or_a_reason(
    index: Index, told: object, expected: bool | str
) -> None:
    entry = entry_with(index, yanked=told)
    assert entry["yanked"] == expected
    assert type(entry["yanked"]) is type(expected)


def test_039_a_missing_yanked_is_false(index: Index) -> None:
    assert entry_without(index, "yanked")["yanked"] is False


def test_040_missing_hashes_become_none(index: Index) -> None:
    assert entry_without(index, "hashes")["hashes"] == {}


@pytest.mark.parametrize("odd", [{"blake2b": "a" * 128}, {"sha256": "abc"}, {"sha1": "a" * 40}])
def test_040_a_digest_uv_would_refuse_the_page_for_is_dropped(
    index: Index, odd: dict[str, str]
) -> None:
    kept = {"md5": "0" * 32}
    assert entry_with(index, hashes={**kept, **odd})["hashes"] == kept


def test_041_an_upper_case_algorithm_is_lowered(index: Index) -> None:
    digest = sha256_of(b"bytes")
    assert entry_with(index, hashes={"SHA256": digest.upper()})["hashes"] == {"sha256": digest}


@pytest.mark.parametrize("told", [None, "", "  ", 3, ["3"]])
def test_042_no_requires_python_is_no_requirement(index: Index, told: object) -> None:
    entry = entry_with(index, requires_python=told)
    assert entry.get("requires-python") is None
    html = html_of(index, entry["filename"].partition("-")[0].replace("_", "-"))
    assert "data-requires-python" not in html.link(entry["filename"]).attributes


@pytest.mark.parametrize("told", [">=3.8,<4", "~=3.7", ">=3.*, not a specifier <&>"])
def test_042_a_requires_python_is_passed_unparsed(index: Index, told: str) -> None:
    assert entry_with(index, requires_python=told)["requires-python"] == told


@pytest.mark.parametrize("key", ["dist-info-metadata", "data-dist-info-metadata"])
@pytest.mark.parametrize("main", ["absent", "null"])
def test_043_older_metadata_keys_are_fallbacks(index: Index, key: str, main: str) -> None:
    name = index.new_name()
    text = metadata(name)
    entry: dict[str, Any] = {key: {"sha256": sha256_of(text)}}
    if main == "null":
        entry["core-metadata"] = None
    spec = wheel_spec(name, metadata=None, entry=entry)
    index.project(spec, name=name)
    index.upstream.script(spec.path + ".metadata", Reply(body=text))
    found = entry_of(index, name)
    assert found["core-metadata"] == {"sha256": sha256_of(text)}
    assert found.get("dist-info-metadata", found["core-metadata"]) == found["core-metadata"]
    assert index.get(f"/simple/{name}/{found['url']}.metadata").body == text


def test_043_the_current_key_wins_over_its_fallbacks(index: Index) -> None:
    right, wrong = {"sha256": "a" * 64}, {"sha256": "b" * 64}
    entry = entry_with(index, core_metadata=right, dist_info_metadata=wrong)
    assert entry["core-metadata"] == right


# 44-45: status markers


@pytest.mark.parametrize("status", ["archived", "deprecated"])
@pytest.mark.parametrize("place", ["top", "meta"])
def test_044_a_status_and_its_reason_are_passed_in_both_forms(
    index: Index, status: str, place: str
) -> None:
    name = index.new_name()
    marker = {"status": status, "reason": "no longer <maintained>"}
    changes: dict[str, Any] = {"project_status": marker}
    if place == "meta":  # where the specification's example has it
        changes = {"meta": {"api-version": "1.4", "project-status": marker}}
    offer(index, page_reply(name, wheel_spec(name), **changes), name)
    page = json_of(index, name)
    assert page["project-status"] == marker
    assert len(page["files"]) == 1
    metas = html_of(index, name).metas
    assert metas["pypi:project-status"] == status
    assert metas["pypi:project-status-reason"] == "no longer <maintained>"


@pytest.mark.parametrize("marker", [None, {}, {"status": "active"}, "archived", {"status": 1}])
def test_044_no_status_is_the_usual_one(index: Index, marker: object) -> None:
    name = index.new_name()
    offer(index, page_reply(name, wheel_spec(name), project_status=marker), name)
    page = json_of(index, name)
    assert page.get("project-status", {"status": "active"}) == {"status": "active"}
    assert len(page["files"]) == 1
    assert html_of(index, name).metas.get("pypi:project-status", "active") == "active"


QUARANTINED = {"status": "quarantined", "reason": "the project is haunted"}


def test_045_a_quarantined_project_shows_versions_but_gives_no_file(index: Index) -> None:
    name = index.new_name()
    specs = [wheel_spec(name), sdist_spec(name)]
    index.project(*specs, name=name)
    offer(index, page_reply(name, *specs, project_status=QUARANTINED), name)
    page = json_of(index, name)
    assert page["files"] == []
    assert page["versions"] == ["1.0"]
    assert page["project-status"] == QUARANTINED
    html = html_of(index, name)
    assert html.anchors == []
    assert html.metas["pypi:project-status"] == "quarantined"
    for filename in (*(spec.filename for spec in specs), specs[0].filename + ".metadata"):
        assert index.get(f"/simple/{name}/{filename}").status in (403, 404)
    assert not any(index.upstream.count(spec.path) for spec in specs)


@pytest.mark.parametrize("still_listed", [True, False])
def test_045_quarantine_locks_away_cached_files_too(index: Index, still_listed: bool) -> None:
    name = index.new_name()
    spec = wheel_spec(name)
    index.project(spec, name=name, headers=ALWAYS_STALE)
    targets = [f"/simple/{name}/{spec.filename}", f"/simple/{name}/{spec.filename}.metadata"]
    assert [index.get(target).status for target in targets] == [200, 200]
    left = [spec] if still_listed else []
    reply = page_reply(name, *left, project_status=QUARANTINED)
    index.upstream.script(f"/simple/{name}/", reply.with_(headers=ALWAYS_STALE))
    wait_until(lambda: json_of(index, name)["files"] == [], "the quarantine to be seen")
    for target in targets:
        assert index.get(target).status in (403, 404)
        assert index.get(target, {"Range": "bytes=0-9"}).status in (403, 404)
        assert index.get(target, method="HEAD").status in (403, 404)


def test_what_is_removed_after_a_quarantine_stays_locked_away(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name)
    index.project(spec, name=name, headers=ALWAYS_STALE)
    targets = [f"/simple/{name}/{spec.filename}", f"/simple/{name}/{spec.filename}.metadata"]
    assert [index.get(target).status for target in targets] == [200, 200]
    reply = page_reply(name, project_status=QUARANTINED)
    index.upstream.script(f"/simple/{name}/", reply.with_(headers=ALWAYS_STALE))
    wait_until(lambda: json_of(index, name)["files"] == [], "the quarantine to be seen")
    index.upstream.script(f"/simple/{name}/", Reply(status=404))
    wait_until(lambda: index.get(f"/simple/{name}/").status == 404, "the removal to be seen")
    assert [index.get(target).status for target in targets] == [404, 404]


def test_a_download_that_ends_after_the_removal_brings_nothing_back(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name, payload=20_000)
    index.project(spec, name=name, headers=ALWAYS_STALE)
    index.upstream.file(spec, hold_at=50)
    target = f"/simple/{name}/{spec.filename}"
    with ThreadPoolExecutor() as pool:
        download = pool.submit(index.get, target)
        index.upstream.wait_held()
        reply = page_reply(name, project_status=QUARANTINED)
        index.upstream.script(f"/simple/{name}/", reply.with_(headers=ALWAYS_STALE))
        wait_until(lambda: json_of(index, name)["files"] == [], "the quarantine to be seen")
        index.upstream.script(f"/simple/{name}/", Reply(status=404))
        wait_until(lambda: index.get(f"/simple/{name}/").status == 404, "the removal to be seen")
        index.upstream.release()
        assert download.result().status == 200
    assert index.get(target).status == 404


# 46-47: pages that must not be used


def version_reply(form: str, name: str, version: str | None) -> Reply:
    """A page with one wheel that claims, in this form, this version of the API."""
    spec = wheel_spec(name)
    if form == "json":
        reply = json_reply(name, spec)
        meta = {} if version is None else {"api-version": version}
        return reply.with_(body=json_page(name, [spec], meta=meta))
    reply = html_reply(name, spec)
    marker = b'<meta name="pypi:repository-version" content="1.4">'
    told = b"" if version is None else marker.replace(b"1.4", version.encode())
    assert isinstance(reply.body, bytes)
    return reply.with_(body=reply.body.replace(marker, told))


@pytest.mark.parametrize("form", ["json", "html"])
@pytest.mark.parametrize("version", ["2.0", "2", "10.0", "0.9"])
def test_046_another_major_version_is_not_used(index: Index, form: str, version: str) -> None:
    name = index.new_name()
    offer(index, version_reply(form, name, version), name)
    for accept in (AS_JSON, {"Accept": "text/html"}):
        response = index.get(f"/simple/{name}/", accept)
        assert response.status == 502
        assert response.header("cache-control") == "no-store"


@pytest.mark.parametrize("form", ["json", "html"])
@pytest.mark.parametrize("version", ["1.0", "1.9", "1.5", None])
def test_046_any_minor_version_is_used(index: Index, form: str, version: str | None) -> None:
    name = index.new_name()
    page = json_of(index, offer(index, version_reply(form, name, version), name))
    assert [entry["filename"] for entry in page["files"]] == [wheel_spec(name).filename]
    assert page["meta"]["api-version"] in ("1.0", "1.4")


@pytest.mark.parametrize("meta", [None, [], "1.4"])
def test_046_a_page_without_a_version_marker_is_1_0(index: Index, meta: object) -> None:
    name = index.new_name()
    page = json_of(index, offer(index, page_reply(name, wheel_spec(name), meta=meta), name))
    assert len(page["files"]) == 1


def before_and_after_a_refusal(running: ProxyIndex, name: str) -> tuple[Response, Response]:
    """The page while the upstream's next answer comes in, and after it was found unusable."""
    before = running.get(f"/simple/{name}/", AS_JSON)
    wait_until(lambda: re.search(rf" {name}: Upstream ", running.logs), "the refusal to be logged")
    return before, running.get(f"/simple/{name}/", AS_JSON)


def test_046_a_good_copy_is_served_instead(index: Index) -> None:
    name = index.new_name()
    spec = wheel_spec(name)
    index.project(spec, name=name, headers=ALWAYS_STALE)
    good = index.get(f"/simple/{name}/", AS_JSON)
    offer(index, version_reply("json", name, "2.0").with_(headers=ALWAYS_STALE), name)
    again, later = before_and_after_a_refusal(index.server, name)
    assert good.status == again.status == later.status == 200
    assert good.body == again.body == later.body


def bomb(megabytes: int) -> bytes:
    """Gzip that unpacks to so many MiB of spaces."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * 2**20
    first = squeeze.compress(block) + squeeze.flush(zlib.Z_FULL_FLUSH)
    other = squeeze.compress(block) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return first + other * (megabytes - 1)


DEEP = 100_000
TOO_MUCH = {
    "long": Reply(body=b'{"files": [], "x": "' + b"x" * 2 * 2**20 + b'"}', content_type=JSON_TYPE),
    "long-html": Reply(body=b"<!DOCTYPE html><a>" * 2**17, content_type="text/html"),
    "bomb": Reply(
        body=bomb(256), content_type=JSON_TYPE, headers={"Content-Encoding": "gzip"}, etag=None
    ),
    "deep": Reply(body=b"[" * DEEP + b"]" * DEEP, content_type=JSON_TYPE),
    "deep-objects": Reply(
        body=b'{"files": [], "versions": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        content_type=JSON_TYPE,
    ),
    "cut-gzip": Reply(
        body=gzip.compress(b"<!DOCTYPE html><h1>Links for x</h1>" * 99)[:-9],
        content_type="text/html",
        headers={"Content-Encoding": "gzip"},
    ),
    "no-gzip": Reply(
        body=b'{"files": []}', content_type=JSON_TYPE, headers={"Content-Encoding": "gzip"}
    ),
    "no-json": Reply(body=b"<!DOCTYPE html>", content_type=JSON_TYPE),
    "cut-json": Reply(body=json_page("px", [sdist_spec("px")])[:-9], content_type=JSON_TYPE),
    "other-json": Reply(body=b'{"detail": "maintenance"}', content_type=JSON_TYPE),
}


def peak_memory(pid: int) -> int:
    """The most bytes a process ever held in memory."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found
    return int(found[1]) * 1024


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ProxyIndex, FakeUpstream]]:
    """A server that takes pages of 1 MiB at most."""
    home = tmp_path_factory.mktemp("small")
    with (
        FakeUpstream() as upstream,
        start_server(home, "--max-page-size", "1MiB", upstream=upstream) as running,
    ):
        yield running, upstream


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_047_a_page_too_large_or_too_deep_is_refused_in_bounded_memory(
    small: tuple[ProxyIndex, FakeUpstream], kind: str
) -> None:
    running, upstream = small
    upstream.script(f"/simple/{kind}/", TOO_MUCH[kind])
    before = peak_memory(running.pid)
    assert running.get(f"/simple/{kind}/", AS_JSON).status == 502
    assert peak_memory(running.pid) - before < 16 * 2**20


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_047_a_good_copy_is_served_instead(
    small: tuple[ProxyIndex, FakeUpstream], kind: str
) -> None:
    running, upstream = small
    name = f"good-{kind}"
    upstream.project(name, wheel_spec(name), headers=ALWAYS_STALE)
    good = running.get(f"/simple/{name}/", AS_JSON)
    upstream.script(f"/simple/{name}/", TOO_MUCH[kind])
    again, later = before_and_after_a_refusal(running, name)
    assert good.status == again.status == later.status == 200
    assert good.body == again.body == later.body


def test_047_a_compressed_page_within_the_cap_is_read(
    small: tuple[ProxyIndex, FakeUpstream],
) -> None:
    running, upstream = small
    spec = wheel_spec("zipped")
    upstream.script("/simple/zipped/", json_reply("zipped", spec, gzip=True, chunked=True))
    (entry,) = running.get("/simple/zipped/", AS_JSON).json()["files"]
    assert entry["filename"] == spec.filename
    (asked,) = upstream.requests("/simple/zipped/")
    assert asked.header("accept-encoding") == "gzip"


def test_047_a_deep_entry_costs_the_entry(index: Index) -> None:
    name = index.new_name()
    whole = json_page(name, [sdist_spec(name)])
    deep = b'"files": [' + b'{"hashes": ' * 5_000 + b"{}" + b"}" * 5_000 + b", "
    body = whole.replace(b'"files": [', deep)
    response = index.get(
        f"/simple/{offer(index, Reply(body=body, content_type=JSON_TYPE), name)}/", AS_JSON
    )
    assert response.status in (200, 502)
    if response.status == 200:
        names = [entry["filename"] for entry in response.json()["files"]]
        assert names == [sdist_spec(name).filename]


# 48: determinism


def many_files(name: str) -> list[FileSpec]:
    versions = ["1.0", "1.0rc1", "0.10", "0.9", "1.0+local.1", "1!0.1", "2.0.dev3"]
    wheels = [wheel_spec(name, version) for version in versions]
    return wheels + [sdist_spec(name, version) for version in versions]


def test_048_every_process_renders_the_same_bytes(
    server: ServerFactory, upstream: FakeUpstream, workers: int
) -> None:
    upstream.project("foo-bar", *many_files("foo-bar"))
    running = server(upstream=upstream, workers=workers)
    for accept in (AS_JSON, {"Accept": "text/html"}):
        for coding in ("gzip", "identity"):
            asked = {**accept, "Accept-Encoding": coding}
            answers = [running.get("/simple/foo-bar/", asked) for _ in range(4 * workers)]
            assert {answer.status for answer in answers} == {200}
            assert len({answer.body for answer in answers}) == 1
            assert len({answer.header("etag") for answer in answers}) == 1


def test_048_a_restart_changes_no_byte(server: ServerFactory, upstream: FakeUpstream) -> None:
    upstream.project("foo-bar", *many_files("foo-bar"))
    running = server(upstream=upstream)
    before = running.get("/simple/foo-bar/", AS_JSON)
    after = running.restart().get("/simple/foo-bar/", AS_JSON)
    assert (before.body, before.header("etag")) == (after.body, after.header("etag"))
    assert upstream.count("/simple/foo-bar/") == 1


def test_048_upstreams_order_does_not_matter(server: ServerFactory, upstream: FakeUpstream) -> None:
    files = many_files("foo-bar")
    bodies = []
    for ordered in (files, files[::-1], files[5:] + files[:5]):
        upstream.project("foo-bar", *ordered)
        bodies.append(server(upstream=upstream).get("/simple/foo-bar/", AS_JSON).body)
    assert bodies[0] == bodies[1] == bodies[2]
    names = [entry["filename"] for entry in json.loads(bodies[0])["files"]]
    assert [name.split("-")[1].removesuffix(".tar.gz") for name in names[::2]] == [
        "0.9",
        "0.10",
        "1.0rc1",
        "1.0",
        "1.0+local.1",
        "2.0.dev3",
        "1!0.1",
    ]

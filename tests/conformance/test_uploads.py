"""Uploads: checks 99, 105, 106, 110 to 119, 121 to 123 and 125 of docs/conformance.md."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.builders import (
    make_sdist,
    make_tar,
    make_wheel,
    make_zip,
    metadata,
    put,
    put_wheel,
    sdist_name,
    wheel_name,
)
from tests.support.crowd import together
from tests.support.fixtures import ServerFactory, start_server
from tests.support.hermetic import wait_until
from tests.support.pages import JSON_TYPE, wheel_spec
from tests.support.reply import Reply
from tests.support.server import ProxyIndex
from tests.support.uploads import (
    BASIC,
    BOUNDARY,
    ORDERS,
    UploadForm,
    attestation_of,
    multipart,
    upload_form,
)
from tests.support.upstream import FakeUpstream

JSON = {"Accept": JSON_TYPE}
HTML = {"Accept": "text/html"}
OPEN = ("--upload", "*", "--delete", "*", "--yank", "*")
TWINE_SHOWS = 200  # bytes of what a refusal says


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def running(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyIndex]:
    """Anybody may change it; read, and work with names of your own."""
    home = tmp_path_factory.mktemp("open")
    with start_server(home, folder, *OPEN, "--max-upload-size", "3MB", workers=4) as made:
        yield made


def entries(server: ProxyIndex, name: str) -> dict[str, dict[str, object]]:
    page = server.get(f"/simple/{name}/", JSON)
    assert page.status == 200, page.text
    return {entry["filename"]: entry for entry in page.json()["files"]}


def wheel_form(name: str = "demo", version: str = "1.0", **options: object) -> UploadForm:
    content = make_wheel(name, version, **options)  # type: ignore[arg-type]
    return upload_form(wheel_name(name, version), content, name=name)


@pytest.mark.parametrize("client", ORDERS)
def test_110_each_client_s_form_is_on_the_next_page_in_full(
    running: ProxyIndex, client: str
) -> None:
    name = f"from-{client}"
    wheel = make_wheel(name, "1.0", requires_python=">=3.9")
    source = make_sdist(name, "1.0", requires_python=">=3.9")
    before = datetime.now(UTC) - timedelta(seconds=2)
    for filename, content in ((wheel_name(name), wheel), (sdist_name(name), source)):
        answer = upload_form(filename, content, name=name, client=client).post(running)
        assert (answer.status, answer.reason) == (200, "OK"), answer.text
        for _ in range(6):  # of any worker
            entry = entries(running, name)[filename]
            assert entry["hashes"] == {"sha256": hashlib.sha256(content).hexdigest()}
            assert entry["size"] == len(content)
            assert entry["requires-python"] == ">=3.9"
            assert entry["yanked"] is False
            uploaded = datetime.fromisoformat(str(entry["upload-time"]))
            assert before < uploaded < datetime.now(UTC) + timedelta(seconds=1)
    core = running.get(f"/simple/{name}/{wheel_name(name)}.metadata").body
    advertised = entries(running, name)[wheel_name(name)]["core-metadata"]
    assert advertised == {"sha256": hashlib.sha256(core).hexdigest()}
    assert core == metadata(name, "1.0", requires_python=">=3.9")
    assert running.get(f"/simple/{name}/{wheel_name(name)}").body == wheel


@pytest.mark.parametrize("target", ["/legacy", "/legacy/", "/simple", "/simple/", "/"])
def test_111_an_upload_is_taken_at_each_address_without_a_redirect(
    running: ProxyIndex, target: str
) -> None:
    version = f"1.{len(target)}{target.count('y')}"
    answer = wheel_form("at-address", version).post(running, target)
    assert answer.status == 200, answer.text
    assert answer.header("location") is None
    assert wheel_name("at-address", version) in entries(running, "at-address")


def test_111_other_methods_are_refused_at_the_upload_address(running: ProxyIndex) -> None:
    for target in ("/legacy", "/legacy/"):
        for method in ("GET", "PUT", "DELETE"):
            answer = running.get(target, method=method)
            assert answer.status == 405
            assert answer.header("allow") == "POST"
    put = running.get("/simple/", method="PUT")
    assert put.status == 405
    assert {word.strip() for word in (put.header("allow") or "").split(",")} == {
        "GET",
        "HEAD",
        "POST",
    }


def test_112_a_file_part_without_content_type_is_taken(running: ProxyIndex) -> None:
    form = wheel_form("untyped")
    form.has_type = False
    assert b"Content-Type" not in form.body
    assert form.post(running).status == 200


def test_112_the_file_may_come_first_and_attestations_last(running: ProxyIndex) -> None:
    form = wheel_form("file-first")
    form.is_content_first = True
    assert form.post(running).status == 200


@pytest.mark.parametrize(
    "filename", ["PxDemo.Pkg-{}-py3-none-any.whl", "pxdemo_pkg-{}-py3-none-any.whl"]
)
def test_113_the_project_is_the_normalized_name(
    running: ProxyIndex, folder: Path, filename: str
) -> None:
    version = str(len(filename) + filename.count("P"))
    content = make_wheel("PxDemo.Pkg", version)
    form = upload_form(filename.format(version), content, name="PxDemo.Pkg")
    assert form.post(running).status == 200
    assert filename.format(version) in entries(running, "pxdemo-pkg")
    assert (folder / "pxdemo-pkg" / filename.format(version)).read_bytes() == content


@pytest.mark.parametrize("field", ["sha256_digest", "blake2_256_digest", "md5_digest"])
def test_114_a_wrong_digest_is_refused(running: ProxyIndex, field: str) -> None:
    form = wheel_form("wrong-digest")
    digests = {"sha256_digest": 64, "blake2_256_digest": 64, "md5_digest": 32}
    answer = form.with_(**{field: "0" * digests[field]}).post(running)
    assert answer.status == 400
    assert field in answer.text
    assert running.get("/simple/wrong-digest/").status == 404


def test_114_digests_may_be_in_upper_case(running: ProxyIndex) -> None:
    form = wheel_form("upper-digest")
    sha256 = hashlib.sha256(form.content).hexdigest().upper()
    assert form.with_(sha256_digest=sha256).post(running).status == 200


def test_115_a_form_without_a_digest_is_refused(running: ProxyIndex) -> None:
    form = wheel_form("no-digest").with_(sha256_digest=None, blake2_256_digest=None)
    answer = form.post(running)
    assert answer.status == 400
    assert "sha256_digest" in answer.text


def test_116_the_same_bytes_again_are_a_quiet_success(running: ProxyIndex, folder: Path) -> None:
    form = wheel_form("again")
    assert form.post(running).header("x-proxyindex") == "done"
    first = entries(running, "again")
    for _ in range(3):
        answer = form.post(running)
        assert (answer.status, answer.header("x-proxyindex")) == (200, "unchanged")
    counted = 'kind="upload",outcome="unchanged",status="200"'
    wait_until(lambda: counted in running.get("/metrics").text, counted)
    assert entries(running, "again") == first
    names = {path.name for path in (folder / "again").iterdir()}
    assert names == {form.filename, form.filename + ".json"}


def test_116_the_same_upload_raced_in_several_workers_succeeds_for_all(
    running: ProxyIndex, folder: Path
) -> None:
    for version in ("1.0", "2.0", "3.0"):
        form = wheel_form("raced", version, payload=20_000)
        answers = together(8, lambda form=form: form.post(running))  # type: ignore[misc]
        assert [answer.status for answer in answers] == [200] * 8
        assert (folder / "raced" / form.filename).read_bytes() == form.content
    assert len(entries(running, "raced")) == 3


def test_117_other_bytes_under_the_same_name_are_a_conflict(running: ProxyIndex) -> None:
    form = wheel_form("conflict")
    assert form.post(running).status == 200
    before = entries(running, "conflict")
    answer = wheel_form("conflict", payload=10).post(running)
    assert answer.status == 409
    assert (answer.header("content-type") or "").startswith("text/plain")
    assert answer.text.startswith("File already exists (")
    assert answer.reason.startswith("File already exists (")
    assert entries(running, "conflict") == before


def test_117_of_several_raced_uploads_one_wins_and_stays(running: ProxyIndex) -> None:
    forms = [wheel_form("duel", payload=1000 + number) for number in range(6)]
    pending = [*forms]
    answers = together(6, lambda: pending.pop().post(running))
    assert sorted(answer.status for answer in answers) == [200, *[409] * 5]
    (entry,) = entries(running, "duel").values()
    won = {hashlib.sha256(form.content).hexdigest() for form in forms}
    assert entry["hashes"]["sha256"] in won  # type: ignore[index]


def packages(folder: Path) -> list[Path]:
    """What is in the folder, but for what the first upload of all makes for itself."""
    return sorted(path for path in folder.rglob("*") if ".incoming" not in path.parts)


@pytest.mark.parametrize(
    "filename",
    [
        "../x-1.0-py3-none-any.whl",
        "a/b-1.0-py3-none-any.whl",
        "..\\x-1.0-py3-none-any.whl",
        "/etc/x-1.0-py3-none-any.whl",
        ".hidden-1.0-py3-none-any.whl",
        "-x-1.0-py3-none-any.whl",
        "demo\x01-1.0-py3-none-any.whl",
        "demo\x7f-1.0-py3-none-any.whl",
        "démo-1.0-py3-none-any.whl",
        "con.x-1.0-py3-none-any.whl",
        "demo-1.0-py3-none-any.whl.json",
        "demo-1.0-py3-none-any.whl.asc",
        ".deleted",
        "demo-1.0-py3-none-any.zip",
        "demo-1.0.tar.gz",
        "demo-1.0.egg",
        "demo.whl",
        "demo-1.0.whl",
        "demo-2.0-py3-none-any.whl",
        "other-1.0-py3-none-any.whl",
        "demo-x.y-py3-none-any.whl",
        "d" * 250 + "-1.0-py3-none-any.whl",
        "demo-1.0-py3-none-".ljust(241, "x") + ".whl",
        "",
    ],
)
def test_118_hostile_and_foreign_file_names_are_refused(
    running: ProxyIndex, folder: Path, filename: str
) -> None:
    before = packages(folder)
    form = wheel_form("demo").named(filename)
    body = form.body
    answer = running.get("/legacy/", form.headers, method="POST", body=body)
    assert answer.status == 400, answer.text
    assert "\n" not in answer.text.rstrip("\n")
    assert packages(folder) == before
    assert running.get("/simple/demo/").status == 404


@pytest.mark.parametrize(
    ("name", "version", "elsewhere"),
    [
        ("victim-x.linux", "1.0", "victim"),
        ("victim-9.9.linux", "1.0", "victim"),
        ("victim", "1.0+abc.linux", "victim"),  # would be taken for 1.0+abc
    ],
)
def test_118_a_file_that_would_be_listed_elsewhere_is_refused(
    running: ProxyIndex, folder: Path, name: str, version: str, elsewhere: str
) -> None:
    before = packages(folder)
    filename = f"{name}-{version}.tar.gz"
    form = upload_form(filename, make_sdist(name, version), name=name, version=version)
    answer = form.post(running)
    assert answer.status == 400, answer.text
    assert packages(folder) == before
    assert running.get(f"/simple/{elsewhere}/").status == 404


def test_118_a_name_is_as_long_as_its_sidecars_let_it_be(running: ProxyIndex) -> None:
    form = wheel_form("long").named("long-1.0-py3-none-".ljust(240, "x") + ".whl")
    assert form.post(running).status == 200
    assert list(entries(running, "long")) == [form.filename]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"name": "Idna_"},
        {"name": ""},
        {"name": None},
        {"name": "demo\n"},
        {"name": " demo"},
        {"version": "2.0"},
        {"version": "1.0\n"},
        {"version": " 1.0"},
        {"version": "one"},
        {"version": None},
        {"version": "1" * 4000},
        {"filetype": "sdist"},
        {"filetype": "bdist_egg"},
        {"filetype": None},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_118_a_form_that_disagrees_with_its_file_is_refused(
    running: ProxyIndex, changes: dict[str, str | None]
) -> None:
    answer = wheel_form("demo").with_(**changes).post(running)
    assert answer.status == 400, answer.text
    assert running.get("/simple/demo/").status == 404


HOME = "demo-1.0.dist-info"
ENDLESS = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n" + b"a:\n" * 10**6
BARE = [(f"{HOME}/METADATA", metadata()), (f"{HOME}/WHEEL", b""), (f"{HOME}/RECORD", b"")]
WHEELS: dict[str, Callable[[], bytes]] = {
    "no-zip": lambda: b"no zip at all",
    "empty": lambda: b"",
    "cut": lambda: make_wheel(payload=5000)[:-100],
    "trailing": lambda: make_wheel() + b"and more",
    "leading": lambda: b"#!/bin/sh\n" + make_wheel(),
    "no-metadata": lambda: make_zip(BARE[1:]),
    "no-wheel": lambda: make_zip([BARE[0], BARE[2]]),
    "no-record": lambda: make_zip(BARE[:2]),
    "two-metadata": lambda: make_zip([*BARE, ("x-1.dist-info/METADATA", b"")]),
    "other-project": lambda: make_wheel(core_metadata=metadata("other")),
    "other-version": lambda: make_wheel(core_metadata=metadata("demo", "2.0")),
    "nameless": lambda: make_wheel(core_metadata=b"Metadata-Version: 2.1\n"),
    "huge-head": lambda: make_wheel(core_metadata=ENDLESS),
    "huge-metadata": lambda: make_wheel(core_metadata=metadata() + b"x" * 11 * 1024**2),
    "bomb": lambda: make_wheel(extra={"zeros": bytes(80 * 1024**2)}),
    "lzma": lambda: make_zip(BARE, method=zipfile.ZIP_LZMA),
    "climbing": lambda: make_wheel(extra={"../../x": b""}),
    "twice": lambda: make_zip([*BARE, ("a", b"1"), ("a", b"2")]),
    "wrong-checksum": lambda: make_zip([*BARE, ("a", b"truth")], method=zipfile.ZIP_STORED).replace(
        b"truth", b"guess"
    ),
    "tar": lambda: make_tar(BARE),
}


@pytest.mark.parametrize("kind", WHEELS)
def test_119_a_broken_or_hostile_wheel_is_refused(running: ProxyIndex, kind: str) -> None:
    form = upload_form(wheel_name(), WHEELS[kind]())
    answer = form.post(running)
    assert answer.status == 400, answer.text
    assert running.get("/simple/demo/").status == 404


def gzipped(entries: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


TOP = ("demo-1.0/PKG-INFO", metadata())
SDISTS: dict[str, Callable[[], bytes]] = {
    "no-gzip": lambda: b"no gzip at all",
    "cut": lambda: make_sdist(payload=5000)[:-100],
    "no-pkg-info": lambda: make_sdist(pkg_info=False),
    "two-tops": lambda: gzipped([TOP, ("other/x", b"")]),
    "climbing": lambda: gzipped([TOP, ("demo-1.0/../../x", b"")]),
    "absolute": lambda: gzipped([TOP, ("/etc/x", b"")]),
    "deep-pkg-info": lambda: gzipped([("demo-1.0/deep/PKG-INFO", metadata())]),
    "other-project": lambda: gzipped([("demo-1.0/PKG-INFO", metadata("other"))]),
    "bomb": lambda: gzipped([TOP, ("demo-1.0/zeros", bytes(90 * 1024**2))]),
    "huge-head": lambda: gzipped([("demo-1.0/PKG-INFO", ENDLESS)]),
    "zip": lambda: make_sdist(suffix=".zip"),
}


@pytest.mark.parametrize("kind", SDISTS)
def test_119_a_broken_or_hostile_sdist_is_refused(running: ProxyIndex, kind: str) -> None:
    form = upload_form(sdist_name(), SDISTS[kind]())
    answer = form.post(running)
    assert answer.status == 400, answer.text
    assert running.get("/simple/demo/").status == 404


def test_121_a_body_above_the_limit_is_refused_before_it_is_read(running: ProxyIndex) -> None:
    with running.connect() as connection:
        headers = {**wheel_form().headers, "Content-Length": str(10**9), "Expect": "100-continue"}
        answer = connection.request("/legacy/", headers, method="POST")
        assert answer.status == 413, "and no 100 before it"
        assert "3000000" in answer.text


def test_121_a_file_above_the_limit_is_refused_by_count(running: ProxyIndex, folder: Path) -> None:
    content = make_wheel("too-large", payload=3_100_000)
    form = upload_form(wheel_name("too-large"), content)
    assert form.post(running).status == 413
    with running.connect() as connection:
        chunks = [form.body[at : at + 50_000] for at in range(0, len(form.body), 50_000)]
        connection.start(
            "/legacy/", {**form.headers, "Transfer-Encoding": "chunked"}, method="POST"
        )
        for chunk in chunks:
            connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        connection.send(b"0\r\n\r\n")
        assert connection.answer("POST").status == 413
    assert not [path for path in (folder / ".incoming").iterdir() if path.is_dir()]


def test_121_a_body_in_chunks_is_taken(running: ProxyIndex) -> None:
    form = wheel_form("chunked", payload=100_000)
    with running.connect() as connection:
        connection.start(
            "/legacy/", {**form.headers, "Transfer-Encoding": "chunked"}, method="POST"
        )
        connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(form.body), form.body))
        assert connection.answer("POST").status == 200


def test_121_who_waits_to_be_asked_is_asked(running: ProxyIndex) -> None:
    form = wheel_form("expecting")
    with running.connect() as connection:
        headers = {**form.headers, "Content-Length": str(len(form.body)), "Expect": "100-continue"}
        interim = connection.request("/legacy/", headers, method="POST")
        assert interim.status == 100
        connection.send(form.body)
        assert connection.answer("POST").status == 200


def test_122_a_long_description_is_taken(running: ProxyIndex) -> None:
    form = wheel_form("wordy").with_(description="Ä long story.\n" * 150_000)
    assert len(form.body) > 2 * 1024**2
    assert form.post(running).status == 200


def test_123_other_protocols_and_actions_are_refused(running: ProxyIndex) -> None:
    form = wheel_form("protocols")
    assert form.with_(protocol_version="2").post(running).status == 400
    for action in ("submit", "submit_pkg_info", "doc_upload"):
        assert form.with_(_action=action).post(running).status == 410
    assert form.with_(_action="explode").post(running).status == 400
    assert form.with_(_action=None).post(running).status == 400
    assert form.with_(protocol_version=None).post(running).status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "application/vnd.pypi.upload.v2+json",
        "application/x-www-form-urlencoded",
        "multipart/mixed",
        "",
    ],
)
def test_123_other_content_types_are_refused(running: ProxyIndex, content_type: str) -> None:
    headers = {"Content-Type": content_type, "Authorization": BASIC}
    assert running.get("/legacy/", headers, method="POST", body=b"{}").status == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--",
        b"no form",
        f"--{BOUNDARY}\r\n".encode(),
        f"--{BOUNDARY}--\r\n".encode(),
        f"--{BOUNDARY}\r\n\r\nnameless\r\n--{BOUNDARY}--\r\n".encode(),
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="content"\r\n\r\nx'.encode(),
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{"x" * 90_000}'.encode(),
        wheel_form().body[:-10],
        multipart([("content", b"a", "a.whl"), ("content", b"b", "b.whl")]),
        multipart([("name", b"\xff\xfe", None)]),
        multipart([(f"field{number}", b"", None) for number in range(10_000)]),
        multipart([("name", b"x" * 100_000, None)]),
        multipart([("summary", b"x" * 9 * 1024**2, None)]),
    ],
    ids=lambda body: f"{len(body)}-{body[:20]!r}",
)
def test_123_malformed_forms_are_refused_in_one_sentence(
    running: ProxyIndex, folder: Path, body: bytes
) -> None:
    answer = running.get(
        "/legacy/",
        [*wheel_form().headers.items(), ("Content-Length", str(len(body)))],
        method="POST",
        body=body,
    )
    assert answer.status in (400, 413), answer.text
    assert answer.text.endswith(".\n")
    assert answer.text.count("\n") == 1
    assert not [path for path in (folder / ".incoming").iterdir() if path.is_dir()]


def test_123_uploads_are_closed_unless_opened(server: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    running = server(tmp_path / "own")
    form = wheel_form("closed")
    anonymous = {"Content-Type": form.headers["Content-Type"]}
    for target, status in (("/legacy/", 403), ("/simple/", 405)):
        answer = running.get(target, anonymous, method="POST", body=form.body)
        assert answer.status == status
    assert form.post(running).status == 403, "no log-in would help"
    with running.connect() as connection:
        headers = {**anonymous, "Content-Length": "1000", "Expect": "100-continue"}
        assert connection.request("/legacy/", headers, method="POST").status == 403
    for method, target in (("DELETE", "/api/projects/x"), ("POST", "/api/projects/x/1/yank")):
        assert running.get(target, method=method).status == 403
    assert not (tmp_path / "own" / ".incoming").exists()


def test_125_what_is_left_of_a_crash_is_swept_and_never_shown(
    server: ServerFactory, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    put_wheel(own / ".incoming" / "0123456789abcdef", "half")
    put_wheel(own / "other-name")
    running = server(own, *OPEN)
    assert running.get("/simple/half/").status == 404
    assert wheel_form("half").post(running).status == 200
    wait_until(lambda: not (own / ".incoming" / "0123456789abcdef").exists(), "the sweep")


def test_065_only_what_was_uploaded_may_be_kept_for_ever(running: ProxyIndex, folder: Path) -> None:
    """pip does not recover from other bytes in its own cache, and a copied file may be replaced."""
    uploaded, copied = wheel_form("kept"), put_wheel(folder / "copied", "copied")
    assert uploaded.post(running).status == 200

    def cache_control(name: str, filename: str) -> str | None:
        answer = running.get(f"/simple/{name}/{filename}")
        assert answer.status == 200
        return answer.header("cache-control")

    for _ in range(6):  # of any worker
        kept = cache_control("kept", uploaded.filename)
        assert kept == "public, max-age=365000000, immutable"
        for suffix in ("", ".metadata"):
            target = copied.name + suffix
            assert cache_control("copied", target) == "max-age=0, must-revalidate"
    # a yank leaves a record, but nobody has uploaded it
    assert running.get("/api/projects/copied/1.0/yank", method="POST", body=b"{}").status == 200
    assert cache_control("copied", copied.name) == "max-age=0, must-revalidate"
    before = running.get(f"/simple/copied/{copied.name}")
    copied.write_bytes(make_wheel("copied", payload=500))
    etag = {"If-None-Match": before.header("etag") or ""}
    assert running.get(f"/simple/copied/{copied.name}", etag).body == copied.read_bytes()
    copied.write_bytes(make_wheel("kept", payload=500))
    (folder / "kept" / uploaded.filename).write_bytes(copied.read_bytes())
    assert cache_control("kept", uploaded.filename) == "max-age=0, must-revalidate"


def test_a_folder_that_cannot_be_written_is_told_to_whoever_can_mend_it(
    server: ServerFactory, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    put_wheel(own / "there", "there")
    (own / ".incoming").write_text("in the way, of root as well")
    running = server(own, *OPEN)
    assert f"uploads to {own} will be refused (503)" in running.logs
    ready = running.get("/ready")
    told = "Package folder 1 cannot be written, so uploads to it are refused."
    assert (ready.status, ready.text) == (200, f"ready\n{told}\n")
    assert running.get("/simple/there/").status == 200
    answer = wheel_form("closed").post(running)
    assert answer.status == 503
    assert answer.reason.startswith("The folder of this index could not be written: ")
    assert str(tmp_path) not in answer.text
    wait_until(lambda: f"{own}/.incoming" in running.logs, "a line with the path")
    assert re.search(rf" ERROR .*index root: .*\({re.escape(str(own))}, ", running.logs)


def test_a_folder_that_nobody_may_change_need_not_be_writable(
    server: ServerFactory, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / ".incoming").write_text("in the way")
    running = server(tmp_path / "own")
    assert running.get("/ready").text == "ready\n"
    assert "refused" not in running.logs


def test_what_came_of_a_request_is_told_to_client_and_log_alike(
    server: ServerFactory, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    running = server(tmp_path / "own", "--upload", "@users", "--delete", "*", "--yank", "*")
    refused = wheel_form("mine").with_(sha256_digest="0" * 64)
    anonymous = {"Content-Type": refused.headers["Content-Type"]}
    answers = {
        "denied": running.get("/legacy/", anonymous, method="POST", body=refused.body),
        "missing": running.get("/api/projects/nothing", method="DELETE"),
        "refused": running.get("/api/projects/mine/1/yank", method="POST", body=b"["),
    }
    assert [answer.status for answer in answers.values()] == [401, 404, 400]
    assert answers["denied"].reason.startswith("This needs a log-in: ")
    for outcome, answer in answers.items():
        assert answer.header("x-proxyindex") == outcome
        wait_until(lambda word=outcome: f" {word} " in running.logs, outcome)


# Whose a name is


def test_099_a_remembered_404_falls_with_the_upload(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    running = server(tmp_path / "own", *OPEN, upstream=upstream, workers=4)
    for _ in range(8):
        assert running.get("/simple/newcomer/", JSON).status == 404
    form = wheel_form("newcomer")
    assert form.post(running).status == 200
    asked = upstream.count("/simple/newcomer/")
    for _ in range(8):
        for headers in (JSON, HTML):
            assert form.filename in running.get("/simple/newcomer/", headers).text
    assert upstream.count("/simple/newcomer/") == asked


def test_099_a_warm_page_of_an_upstream_falls_with_the_upload(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    upstream.project("claimed", wheel_spec("claimed", "9.9"))
    running = server(tmp_path / "own", *OPEN, "--claim", "claimed", upstream=upstream, workers=4)
    for _ in range(12):
        assert "9.9" in running.get("/simple/claimed/", JSON).text
    form = wheel_form("claimed")
    assert form.post(running).status == 200
    for _ in range(12):
        assert list(entries(running, "claimed")) == [form.filename]


def test_105_a_first_upload_of_a_name_that_exists_upstream_is_refused(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    for name in ("public", "mine-too"):
        upstream.project(name, wheel_spec(name, "9.9"))
    running = server(
        tmp_path / "own",
        *OPEN,
        *("--claim", "mine-*", "--policy-reserved", "acme"),
        upstream=upstream,
    )
    refused = wheel_form("public").post(running)
    assert refused.status == 403
    for way in ("another name", "'policy.reserved'", "'claim'"):
        assert way in refused.reason[:TWINE_SHOWS]
    assert "'public' exists at an upstream" in refused.reason[:TWINE_SHOWS]
    assert "9.9" in running.get("/simple/public/", JSON).text, "it still is upstream's"
    assert wheel_form("mine-too").post(running).status == 200
    assert wheel_form("acme-core").post(running).status == 200
    assert upstream.count("/simple/acme-core/") == 0, "a reserved name leaves the house for nothing"
    upstream.script("/simple/unclear/", Reply(status=503, etag=None))
    assert wheel_form("unclear").post(running).status == 503
    upstream.down()
    assert wheel_form("unknown").post(running).status == 503
    assert wheel_form("mine-too", "2.0").post(running).status == 200


def test_105_a_name_that_an_upstream_is_not_asked_for_needs_to_be_ours(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    config = tmp_path / "proxyindex.toml"
    config.write_text(
        'folders = ["own"]\npolicy.reserved = ["acme"]\n'
        f'[[upstream]]\nurl = "{upstream.simple_url}"\npolicy.deny = ["denied-thing"]\n'
    )
    made = server("--config", config, *OPEN, is_started=False)
    made.args.remove("--no-upstream")
    with made as running:
        refused = wheel_form("denied-thing").post(running)
        assert refused.status == 403
        assert refused.reason[:TWINE_SHOWS].startswith(
            "Take another name, or have it put into 'policy.reserved' or 'claim': denied-thing is "
            "denied by rule deny denied-thing: denied-thing is not allowed here (a rule of an "
            "upstream or base)."
        )
        assert wheel_form("acme-core").post(running).status == 200
    assert upstream.count() == 0


def test_106_a_name_whose_files_were_all_deleted_stays_ours(
    server: ServerFactory, upstream: FakeUpstream, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    upstream.project("ours", wheel_spec("ours", "9.9"))
    running = server(tmp_path / "own", *OPEN, "--claim", "ours", upstream=upstream, workers=4)
    form = wheel_form("ours")
    assert form.post(running).status == 200
    asked = upstream.count()
    done = running.get("/api/projects/ours", method="DELETE")
    assert done.json() == {"project": "ours", "deleted": [form.filename]}
    for _ in range(8):
        assert entries(running, "ours") == {}
        assert running.get(f"/simple/ours/{form.filename}").status == 404
    again = form.post(running)
    assert again.status == 400
    assert "deleted" in again.text
    assert wheel_form("ours", "1.1").post(running).status == 200
    running.restart()
    assert list(entries(running, "ours")) == [wheel_name("ours", "1.1")]
    assert upstream.count() == asked


def test_106_a_file_that_lay_flat_is_deleted_and_its_name_kept(
    server: ServerFactory, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    flat = put_wheel(own, "flat")
    running = server(own, *OPEN)
    assert list(entries(running, "flat")) == [flat.name]
    assert running.get(f"/api/projects/flat/1.0/{flat.name}", method="DELETE").status == 200
    assert not flat.exists()
    assert entries(running, "flat") == {}
    assert upload_form(flat.name, make_wheel("flat")).post(running).status == 400


# What is kept beside


def test_signatures_and_provenance_are_kept_and_served(
    server: ServerFactory, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    running = server(tmp_path / "own", *OPEN, "--public-url", "https://packages.example")
    form = wheel_form("signed")
    attestation = attestation_of(form.filename, form.content)
    form.tail = [
        ("gpg_signature", b"-----BEGIN PGP", form.filename + ".asc"),
        ("attestations", json.dumps([attestation]).encode(), None),
    ]
    assert form.post(running).status == 200
    assert running.get(f"/simple/signed/{form.filename}.asc").body == b"-----BEGIN PGP"
    entry = entries(running, "signed")[form.filename]
    assert entry["gpg-sig"] is True
    where = f"/simple/signed/{form.filename}.provenance"
    assert entry["provenance"] == "https://packages.example" + where
    served = running.get(where)
    assert served.header("content-type") == "application/vnd.pypi.integrity.v1+json"
    assert served.header("cache-control") == "max-age=0, must-revalidate"
    (bundle,) = served.json()["attestation_bundles"]
    assert bundle["attestations"] == [attestation]
    assert served.json()["version"] == 1
    assert bundle["publisher"]["kind"]


def test_provenance_is_not_advertised_without_a_public_address(
    running: ProxyIndex,
) -> None:
    form = wheel_form("attested")
    form.tail = [
        ("attestations", json.dumps([attestation_of(form.filename, form.content)]).encode(), None)
    ]
    assert form.post(running).status == 200
    assert entries(running, "attested")[form.filename].get("provenance") is None


@pytest.mark.parametrize(
    "text",
    ["{}", "[1]", "nothing", '[{"version": 1}]', "[" * 5000],
)
def test_broken_attestations_are_refused(running: ProxyIndex, text: str) -> None:
    form = wheel_form("unattested")
    form.tail = [("attestations", text.encode(), None)]
    assert form.post(running).status == 400


def test_attestations_of_another_file_are_refused(running: ProxyIndex) -> None:
    form = wheel_form("unattested")
    other = wheel_form("unattested", payload=5)
    form.tail = [
        ("attestations", json.dumps([attestation_of(other.filename, other.content)]).encode(), None)
    ]
    answer = form.post(running)
    assert answer.status == 400
    assert "does not speak of" in answer.text


# Volatile indexes, yanks, browsers


def test_a_volatile_index_takes_other_bytes_and_lets_nobody_keep_them(
    server: ServerFactory, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    running = server(tmp_path / "own", *OPEN, "--overwrite", workers=4)
    for size in (10, 20, 30):
        form = wheel_form("volatile", payload=size, requires_python=f">=3.{size}")
        assert form.post(running).status == 200
        for _ in range(6):
            entry = entries(running, "volatile")[form.filename]
            assert entry["requires-python"] == f">=3.{size}"
            served = running.get(f"/simple/volatile/{form.filename}")
            assert served.body == form.content
            assert served.header("cache-control") == "max-age=0, must-revalidate"
    assert running.get("/api/projects/volatile", method="DELETE").status == 200
    assert form.post(running).status == 200, "deleted names are free again"


HEIRS = """
[index.heir]
folders = ["{home}/heir"]
bases = ["sibling", "base"]
upload = ["*"]
[index.volatile]
folders = ["{home}/volatile"]
bases = ["base"]
overwrite = true
upload = ["*"]
[index.sibling]
folders = ["{home}/sibling"]
[index.base]
folders = ["{home}/base"]
upload = ["*"]
delete = ["*"]
"""


@pytest.fixture
def heirs(server: ServerFactory, tmp_path: Path) -> ProxyIndex:
    for name in ("heir", "volatile", "sibling", "base"):
        (tmp_path / name).mkdir()
    config = tmp_path / "heirs.toml"
    config.write_text(HEIRS.format(home=tmp_path))
    return server("--config", config)


def test_no_upload_to_an_heir_takes_a_name_that_clients_keep(heirs: ProxyIndex) -> None:
    first, other = wheel_form("px-held"), wheel_form("px-held", payload=7)
    target = f"/simple/px-held/{wheel_name('px-held')}"

    def keeps(index: str) -> bool:
        return "immutable" in (heirs.get(f"/{index}{target}").header("cache-control") or "")

    assert first.post(heirs, "/base/").status == 200
    assert keeps("base")
    assert not keeps("volatile"), "whose uploads may take the name"
    assert not keeps("heir"), "nor where a base may, that does not look into the other"
    assert other.post(heirs, "/volatile/").status == 200
    assert other.post(heirs, "/heir/").status == 409
    assert first.post(heirs, "/heir/").status == 200, "the same bytes are no other file"
    assert keeps("heir")
    gone = wheel_form("px-gone")
    assert gone.post(heirs, "/base/").status == 200
    assert heirs.get("/base/api/projects/px-gone", method="DELETE").status == 200
    again = gone.post(heirs, "/heir/")
    assert (again.status, "deleted" in again.text) == (400, True)


def test_neither_another_spelling_nor_a_push_takes_a_name_of_a_base(
    heirs: ProxyIndex, tmp_path: Path
) -> None:
    source = upload_form(sdist_name("px-held"), make_sdist("px-held"), name="px-held")
    for form in (source, wheel_form("px-held")):
        assert form.post(heirs, "/base/").status == 200
    respelt = sdist_name("px-held").replace("1.0", "1.0.0")
    again = upload_form(respelt, make_sdist("px-held", "1.0.0"), name="px-held", version="1.0.0")
    assert again.post(heirs, "/heir/").status == 400, "one source archive per version"
    assert wheel_form("px-held", payload=7).post(heirs, "/volatile/").status == 200
    push = json.dumps({"project": "px-held", "version": "1.0", "to": "heir"}).encode()
    assert heirs.get("/volatile/api/push", method="POST", body=push).status == 409
    assert list((tmp_path / "heir").glob("**/*.whl")) == []


def test_yanks_show_at_the_next_request_of_every_worker(running: ProxyIndex) -> None:
    for version in ("1.0", "2.0"):
        assert wheel_form("yanky", version).post(running).status == 200
    mine, other = wheel_name("yanky", "1.0"), wheel_name("yanky", "2.0")
    reasons = {'bad "<b>\r\nX-Evil: 1': 'bad "<b> X-Evil: 1', "": True}
    for reason, shown in reasons.items():
        body = json.dumps({"reason": reason}).encode()
        done = running.get("/api/projects/Yanky/1.0.0/yank", method="POST", body=body)
        assert done.json() == {"project": "yanky", "yanked": [mine]}
        for _ in range(8):
            page = entries(running, "yanky")
            assert page[mine]["yanked"] == shown
            assert page[other]["yanked"] is False
        assert running.get(f"/simple/yanky/{mine}").status == 200
    undone = running.get("/api/projects/yanky/1.0/yank", method="DELETE")
    assert undone.json() == {"project": "yanky", "unyanked": [mine]}
    for _ in range(8):
        assert entries(running, "yanky")[mine]["yanked"] is False


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("DELETE", "/api/projects/nothing", 404),
        ("DELETE", "/api/projects/-bad-", 400),
        ("DELETE", "/api/projects/again/7.7", 404),
        ("POST", "/api/projects/again/7.7/yank", 404),
        ("POST", "/api/projects/nothing/1.0/yank", 404),
        ("POST", "/api/push", 400),
        ("GET", "/api/push", 405),
        ("PUT", "/api/projects/again", 405),
        ("GET", "/api", 404),
    ],
)
def test_the_management_api_says_what_is_wrong(
    running: ProxyIndex, method: str, target: str, status: int
) -> None:
    answer = running.get(target, method=method)
    assert answer.status == status
    assert (answer.header("content-type") or "").startswith("text/plain")


def test_a_page_of_another_site_cannot_make_a_browser_upload(running: ProxyIndex) -> None:
    form = wheel_form("lured")
    headers = {**form.headers, "Sec-Fetch-Site": "cross-site"}
    answer = running.get("/legacy/", headers, method="POST", body=form.body)
    assert answer.status == 403


def test_every_change_leaves_one_line(running: ProxyIndex) -> None:
    seen = len(running.logs)
    form = wheel_form("audited")
    form.post(running)
    form.post(running)
    running.get("/api/projects/audited", method="DELETE")
    lines = [line for line in running.logs[seen:].splitlines() if "proxyindex.audit" in line]
    assert [("upload" in line, "delete" in line) for line in lines] == [
        (True, False),
        (False, True),
    ]
    assert all("127.0.0.1" in line and form.filename in line for line in lines)


def test_a_second_source_archive_of_a_version_is_refused(running: ProxyIndex) -> None:
    first = upload_form(sdist_name("twofold"), make_sdist("twofold"))
    assert first.post(running).status == 200
    for version in ("1.0", "1.0.0"):  # in another spelling as well
        content = make_sdist("twofold", version, suffix=".zip")
        second = upload_form(sdist_name("twofold", version, ".zip"), content)
        assert second.post(running).status == 400
    assert list(entries(running, "twofold")) == [first.filename]


SPELLINGS = ("Px_Spelt-1.0-py3-none-any.whl", "px_spelt-1.0.0-py3-none-any.whl")


def test_117_another_spelling_of_a_file_name_is_a_conflict(
    running: ProxyIndex, folder: Path
) -> None:
    first, other = wheel_form("px-spelt"), wheel_form("px-spelt", payload=500)
    assert first.post(running).status == 200
    for name in SPELLINGS:
        answer = other.named(name).post(running)
        assert (answer.status, first.filename in answer.reason) == (409, True)
    assert list(entries(running, "px-spelt")) == [first.filename]
    # whoever put it there
    put(folder / "copied", "Px_Copied-1.0-py3-none-any.whl", make_wheel("px-copied"))
    assert wheel_form("px-copied", payload=500).post(running).status == 409
    tags = "py2.py3-none-any"
    built = upload_form(wheel_name("px-spelt", "1.0", tags), other.content, name="px-spelt")
    assert built.post(running).status == 200, "for other tags it is another file"


def test_106_the_name_of_a_deleted_file_is_taken_in_each_spelling(running: ProxyIndex) -> None:
    forms = [wheel_form("px-gone"), upload_form(sdist_name("px-gone"), make_sdist("px-gone"))]
    assert [form.post(running).status for form in forms] == [200, 200]
    assert running.get("/api/projects/px-gone", method="DELETE").status == 200
    names = [re.sub("spelt", "gone", name, flags=re.IGNORECASE) for name in SPELLINGS]
    for name in (*names, "px.gone-1.0.zip"):
        is_wheel = name.endswith(".whl")
        content = make_wheel("px-gone") if is_wheel else make_sdist("px-gone", suffix=".zip")
        answer = upload_form(name, content, name="px-gone", version="1.0").post(running)
        assert (answer.status, "was deleted" in answer.reason) == (400, True)


def test_a_closed_or_vanished_folder_is_told(server: ServerFactory, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    running = server(own, *OPEN)
    own.rename(tmp_path / "away")
    assert wheel_form("homeless").post(running).status == 503
    (tmp_path / "away").rename(own)
    assert wheel_form("homeless").post(running).status == 200

"""What folders promise as targets: on this machine, and on another one by rsync and ssh."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from proxyindex import records
from proxyindex.names import normalize
from proxyindex.publishing.distribution import Distribution, read
from proxyindex.publishing.folder import Folder
from proxyindex.publishing.publish import carry_out, plan
from proxyindex.publishing.remote import RemoteFolder
from proxyindex.publishing.target import Outcome, PublishError, Target
from proxyindex.records import Record
from proxyindex.uploads.shelf import Shelf
from tests.support.builders import make_sdist, make_wheel, put, put_sdist, put_wheel, wheel_name
from tests.support.hermetic import environment, wait_until
from tests.support.sshd import SshServer, ssh_server
from tests.support.uploads import attestation_of

Place = Callable[..., Target]
PAGES = ("index.html", "index.v1_json")
WHEEL, SDIST = "demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    """What the module's tests share, made where it is needed first."""
    with ExitStack() as made:
        yield made


@pytest.fixture(scope="module")
def machines(stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], SshServer]:
    running: list[SshServer] = []

    def machine() -> SshServer:
        if not running:
            folder = tmp_path_factory.mktemp("machine") / "ssh"
            running.append(stack.enter_context(ssh_server(folder)))
        return running[0]

    return machine


@pytest.fixture
def there(tmp_path: Path) -> Path:
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


@pytest.fixture(params=["folder", "machine"])
def place(request: pytest.FixtureRequest, there: Path, machines: Callable[[], SshServer]) -> Place:
    """Makes the target `there`; `place(with_pages=True)`."""
    if request.param == "folder":
        return lambda with_pages=False: Folder(there, with_pages=with_pages)
    ssh = machines()
    shown = f"{ssh.host}:{there}"
    return lambda with_pages=False: RemoteFolder(shown, ssh.command, with_pages=with_pages)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def publish(target: Target, *wanted: Distribution, overwrite: bool = False) -> dict[str, Outcome]:
    told: dict[str, Outcome] = {}
    with target:
        planned = plan(target, wanted, shown="there", overwrite=overwrite)
        carry_out(
            target,
            planned,
            advance=lambda size: None,
            tell=lambda each, outcome: told.update({each.filename: outcome}),
        )
    return told


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file that can be seen, with inode and time of its last change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "/." not in f"/{path.relative_to(folder)}"
    }


def test_files_are_put_where_local_looks_for_them(place: Place, there: Path, here: Path) -> None:
    wheel, sdist = read(put_wheel(here, "Demo")), read(put_sdist(here, "other-one"))
    assert set(publish(place(), wheel, sdist).values()) == {Outcome.PUBLISHED}
    for each in (wheel, sdist):
        found = there / each.project / each.filename
        assert found.read_bytes() == each.path.read_bytes()
        assert found.stat().st_mode & 0o444 == 0o444
    put_there = {f"demo/{wheel.filename}", f"other-one/{sdist.filename}"}
    assert {name for name in state(there) if not name.endswith(".json")} == put_there


@pytest.mark.parametrize("with_pages", [False, True])
def test_again_touches_nothing(place: Place, there: Path, here: Path, with_pages: bool) -> None:
    wheel, sdist = read(put_wheel(here)), read(put_sdist(here))
    publish(place(with_pages=with_pages), wheel, sdist)
    before = state(there)
    again = publish(place(with_pages=with_pages), wheel, sdist)
    assert set(again.values()) == {Outcome.THERE}
    assert state(there) == before


def test_only_what_is_new_is_written(place: Place, there: Path, here: Path) -> None:
    publish(place(with_pages=True), read(put_wheel(here)), read(put_wheel(here, "other")))
    before = state(there)
    publish(place(with_pages=True), read(put_wheel(here, version="2.0")))
    after = state(there)
    touched = {name for name in after if after[name] != before.get(name)}
    assert touched - {"demo/demo-2.0-py3-none-any.whl.json"} == {
        "demo/demo-2.0-py3-none-any.whl",
        "demo/demo-2.0-py3-none-any.whl.metadata",
        "demo/index.html",
        "demo/index.v1_json",
    }


@pytest.mark.parametrize("lies", [".", "demo", "Demo", "demo/+0f0f0f0f"])
def test_other_bytes_are_refused_wherever_they_lie(
    place: Place, there: Path, here: Path, lies: str
) -> None:
    (there / lies).mkdir(parents=True, exist_ok=True)
    old = put_wheel(there / lies, requires_python=">=3.8").read_bytes()
    wheel, sdist = read(put_wheel(here)), read(put_sdist(here))
    with pytest.raises(PublishError) as caught:
        publish(place(), wheel, sdist)
    assert wheel.sha256 in str(caught.value)
    assert hashlib.sha256(old).hexdigest() in str(caught.value)
    assert [path.name for path in there.rglob("demo-*")] == [WHEEL]
    told = publish(place(), wheel, sdist, overwrite=True)
    assert told == {sdist.filename: Outcome.PUBLISHED, WHEEL: Outcome.REPLACED}
    assert (there / lies / WHEEL).read_bytes() == wheel.path.read_bytes()
    assert len(list(there.rglob("*.whl"))) == 1


@pytest.mark.parametrize("pushed", ["demo-1.0.0.zip", "demo-1.0.0-py3-none-any.whl"])
def test_names_that_a_push_took_stay_taken(
    place: Place, there: Path, here: Path, pushed: str
) -> None:
    (home := there / "demo" / "+0f0f0f0f").mkdir(parents=True)
    put(home, pushed, make_sdist(suffix=".zip") if pushed.endswith(".zip") else make_wheel())
    with pytest.raises(PublishError, match=pushed):
        publish(place(), read(put_wheel(here)), read(put_sdist(here)))
    assert not list(there.rglob("demo-1.0[.-][tp]*"))


def test_pages_list_what_a_push_put_there(place: Place, there: Path, here: Path) -> None:
    """Each name once, though another file of it lies behind."""
    for lies in ("demo/+0f0f0f0f", "demo/+1f1f1f1f", "demo/.hidden"):
        (there / lies).mkdir(parents=True)
        put_wheel(there / lies, version="0.9", requires_python=f">=3.{len(lies)}")
    put_wheel(there / "demo" / ".hidden", version="0.8")
    put(there / "demo" / "+0f0f0f0f", "demo-3.0-1.tar.gz", make_sdist(version="3.0-1"))
    for version in ("1.0", "2.0"):
        publish(place(with_pages=True), read(put_wheel(here, version=version)))
    listed = json.loads((there / "demo" / "index.v1_json").read_text())["files"]
    assert [file["url"].replace("%2B", "+") for file in listed] == [
        "+0f0f0f0f/demo-0.9-py3-none-any.whl",
        WHEEL,
        "demo-2.0-py3-none-any.whl",
        "+0f0f0f0f/demo-3.0-1.tar.gz",
    ]
    assert (there / "demo" / "+0f0f0f0f" / "demo-0.9-py3-none-any.whl.metadata").is_file()


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("is_there", [False, True])
def test_what_belongs_to_other_bytes_goes(
    place: Place, there: Path, here: Path, is_there: bool, is_signed: bool
) -> None:
    (there / "demo").mkdir()
    if is_there:
        put_wheel(there / "demo", requires_python=">=3.8")
    for suffix in (".asc", ".provenance"):
        put(there / "demo", WHEEL + suffix, b"of others")
    wheel = put_wheel(here)
    if is_signed:
        put(here, f"{WHEEL}.asc", b"signed")
    publish(place(), read(wheel), overwrite=True)
    left = {path.name: path.read_bytes() for path in (there / "demo").iterdir()}
    left.pop(f"{WHEEL}.json", None)
    assert left == {WHEEL: wheel.read_bytes()} | ({f"{WHEEL}.asc": b"signed"} if is_signed else {})


@pytest.mark.parametrize("is_same", [False, True])
def test_what_others_put_there_meanwhile_stays(
    place: Place, there: Path, here: Path, is_same: bool
) -> None:
    wheel = read(put_wheel(here))
    theirs = wheel.path.read_bytes() if is_same else make_wheel(requires_python=">=3.8")
    with place() as target:
        assert target.held([wheel]) == {}
        (there / "demo").mkdir()
        put(there / "demo", WHEEL, theirs)
        sending = target.send([wheel], overwrite=False, advance=lambda size: None)
        if is_same:
            assert len(list(sending)) == 1
        else:
            with pytest.raises(PublishError, match="other bytes"):
                list(sending)
    assert (there / "demo" / WHEEL).read_bytes() == theirs
    assert len(list((there / "demo").iterdir())) == 1


def test_bytes_are_counted_as_they_leave(place: Place, here: Path) -> None:
    wheel = read(put_wheel(here, payload=3_000_000))
    counted: list[int] = []
    with place() as target:
        target.held([wheel])
        list(target.send([wheel], overwrite=False, advance=counted.append))
    assert sum(counted) == wheel.size
    assert len(counted) > 1


def test_pages_tell_what_changed_meanwhile(place: Place, there: Path, here: Path) -> None:
    publish(place(with_pages=True), read(put_wheel(here)), read(put_sdist(here)))
    put(there / "demo", "demo-3.0.tar.gz", make_sdist(version="3.0", requires_python=">=3.10"))
    (there / "demo" / "demo-1.0.tar.gz").unlink()
    changed = put_wheel(there / "demo", requires_python=">=3.7")
    os.utime(changed, (1e9, 1e9))
    publish(place(with_pages=True), read(put_wheel(here, version="2.0")))
    page = (there / "demo" / "index.html").read_text()
    assert page.count("<a ") == 3
    assert read(changed).sha256 in page
    assert "2001-09-09T01:46:40Z" in page
    assert "demo-3.0.tar.gz" in page
    assert "&gt;=3.10" in page
    assert "demo-1.0.tar.gz" not in page


def test_a_folder_gets_the_record_that_an_upload_gets(there: Path, here: Path) -> None:
    before = datetime.now(UTC)
    wheel = read(put_wheel(here, requires_python=">=3.9"))
    publish(Folder(there, with_pages=False), wheel)
    record = records.read(there / "demo" / f"{WHEEL}.json")
    assert record
    assert (record.sha256, record.size) == (wheel.sha256, wheel.size)
    assert (record.requires_python, record.yanked) == (">=3.9", None)
    assert record.core_metadata == hashlib.sha256(wheel.metadata).hexdigest()
    assert before <= record.upload_time <= datetime.now(UTC)
    assert record.uploader == pwd.getpwuid(os.geteuid()).pw_name
    found = (there / "demo" / WHEEL).stat()
    assert record.vouches_for(size=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino)


def test_records_on_web_servers_name_nobody(there: Path, here: Path) -> None:
    publish(Folder(there, with_pages=True), read(put_wheel(here)))
    record = records.read(there / "demo" / f"{WHEEL}.json")
    assert record
    assert record.uploader is None


def test_pages_tell_what_records_tell(place: Place, there: Path, here: Path) -> None:
    """However the record came there; beside other bytes it says nothing."""
    publish(place(with_pages=True), read(put_wheel(here)), read(put_sdist(here)))
    for name in (WHEEL, SDIST):
        path = there / "demo" / name
        noted = Record(
            sha256=read(path).sha256 if name == WHEEL else "0" * 64,
            size=path.stat().st_size,
            upload_time=datetime(2020, 2, 2, tzinfo=UTC),
            yanked="loses data",
        )
        put(there / "demo", f"{name}.json", records.encode(noted))
    publish(place(with_pages=True), read(put_wheel(here, version="2.0")))
    files = entries(there)
    assert (files[WHEEL]["upload-time"], files[WHEEL]["yanked"]) == (
        "2020-02-02T00:00:00Z",
        "loses data",
    )
    assert files[SDIST]["upload-time"] > "2026"
    assert not files[SDIST].get("yanked")
    assert 'data-yanked="loses data"' in (there / "demo" / "index.html").read_text()
    # and it is taken back, though the page over there is what is remembered
    (there / "demo" / f"{WHEEL}.json").unlink()
    publish(place(with_pages=True), read(put_wheel(here, version="3.0")))
    assert not entries(there)[WHEEL].get("yanked")


def renew(there: Path) -> tuple[list[str], list[str]]:
    with Folder(there, with_pages=True) as target:
        written, removed = target.renew()
    return list(written), list(removed)


def test_pages_are_renewed_where_they_differ(there: Path, here: Path) -> None:
    """Also of a project that has no files left: its name is taken, on the list and by a page."""
    for name in ("demo", "gone", "same"):
        publish(Folder(there, with_pages=True), read(put_wheel(here, name)))
    put_wheel(there / "demo", version="2.0")
    (there / "gone" / wheel_name("gone")).unlink()
    (there / "gone" / ".deleted").write_text(wheel_name("gone"))
    before = state(there)
    written = [f"{name}/{page}" for name in ("demo", "gone") for page in PAGES]
    written.insert(0, "demo/demo-2.0-py3-none-any.whl.metadata")
    assert renew(there) == (written, [])
    assert {name for name, was in before.items() if state(there)[name] != was} == {
        name for name in written if name in before
    }
    assert (there / "gone" / ".deleted").read_text() == wheel_name("gone")
    assert (there / "gone" / f"{wheel_name('gone')}.json").exists()
    assert set(entries(there)) == {WHEEL, "demo-2.0-py3-none-any.whl"}
    assert json.loads((there / "gone" / "index.v1_json").read_bytes())["files"] == []
    assert "gone" in (there / "index.html").read_text()
    assert renew(there) == ([], [])


def test_pages_of_what_is_no_project_any_more_are_removed(there: Path, here: Path) -> None:
    wheel = read(put_wheel(here))
    publish(Folder(there, with_pages=True), wheel)
    put_wheel(there / "demo", "other")
    (there / "demo" / WHEEL).unlink()
    left = {name for name in state(there) if name.startswith("demo/")}
    written, removed = renew(there)
    assert "other/index.html" in written
    assert removed == [f"demo/{page}" for page in PAGES]
    assert {name for name in state(there) if name.startswith("demo/")} >= left - {*removed}


def test_pages_that_are_not_ours_stay(there: Path) -> None:
    (there / "handbook").mkdir()
    (there / "handbook" / "index.html").write_text("read me")
    renew(there)
    assert (there / "handbook" / "index.html").read_text() == "read me"
    assert renew(there) == ([], [])


def entries(there: Path) -> dict[str, dict[str, Any]]:
    page = json.loads((there / "demo" / "index.v1_json").read_text())
    return {file["filename"]: file for file in page["files"]}


def test_what_a_record_vouches_for_is_not_fetched_again(
    there: Path, here: Path, machines: Callable[[], SshServer]
) -> None:
    """It would be noticed that other bytes lie there by now."""
    publish(Folder(there, with_pages=True), read(put_wheel(here, payload=9)))
    path = there / "demo" / WHEEL
    digest, found = read(path).sha256, path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    ssh = machines()
    for mtime, is_vouched in ((found.st_mtime, True), (found.st_mtime - 2, False)):
        os.utime(path, (mtime, mtime))
        target = RemoteFolder(f"{ssh.host}:{there}", ssh.command, with_pages=True)
        publish(target, read(put_wheel(here, version="2.0")))
        listed = entries(there).get(WHEEL)
        assert (listed is not None and listed["hashes"]["sha256"] == digest) is is_vouched


def test_names_of_deleted_files_stay_taken(place: Place, there: Path, here: Path) -> None:
    (there / "demo").mkdir()
    (there / "demo" / ".deleted").write_text(f"\n{WHEEL}\ndemo-0.9.tar.gz\n")
    wheel, sdist = read(put_wheel(here)), read(put_sdist(here))
    for overwrite in (False, True):
        with pytest.raises(PublishError) as caught:
            publish(place(), sdist, wheel, overwrite=overwrite)
        assert f"A file '{WHEEL}' was deleted; its name is not used again." in str(caught.value)
        assert "Nothing was published." in str(caught.value)
        assert state(there) == {}
    assert publish(place(), sdist) == {SDIST: Outcome.PUBLISHED}


def test_a_version_has_one_sdist(place: Place, there: Path, here: Path) -> None:
    publish(place(), read(put_sdist(here)))
    other = put(here, "demo-1.0.0.zip", make_sdist(suffix=".zip"))
    with pytest.raises(PublishError, match=r"Version 1.0.0 has a source archive, 'demo-1.0.tar.gz"):
        publish(place(), read(other))
    assert not (there / "demo" / other.name).exists()


def test_a_version_has_one_sdist_of_those_that_come_together(
    place: Place, there: Path, here: Path
) -> None:
    wanted = [
        read(put_wheel(here)),
        read(put_sdist(here)),
        read(put(here, "demo-1.0.0.zip", make_sdist(suffix=".zip"))),
        read(put_sdist(here, version="2.0")),
    ]
    with pytest.raises(
        PublishError, match=r"demo-1.0.0.zip: Version 1.0.0 has a source arch"
    ) as no:
        publish(place(), *wanted)
    assert len(str(no.value).splitlines()) == 2
    assert not list(there.rglob("demo*"))


def test_a_broken_file_of_that_name_is_other_bytes(there: Path, here: Path) -> None:
    """It is on no page, but it lies there."""
    put(there / "demo", WHEEL, b"half of a")
    wheel = read(put_wheel(here))
    with pytest.raises(PublishError, match="other bytes"):
        publish(Folder(there, with_pages=False), wheel)
    told = publish(Folder(there, with_pages=False), wheel, overwrite=True)
    assert told == {WHEEL: Outcome.REPLACED}
    assert (there / "demo" / WHEEL).read_bytes() == wheel.path.read_bytes()


def test_a_publisher_waits_for_whoever_changes_the_project(
    there: Path, here: Path, tmp_path: Path
) -> None:
    """And sees what he has done: checks and the step in are one, among processes."""
    put_wheel(here, payload=300_000)
    theirs = make_wheel(requires_python=">=3.8")
    command = [sys.executable, "-m", "proxyindex", "publish", here, "--to", there]

    async def run() -> str:
        async with Shelf(there).locked(normalize("demo")):
            process = subprocess.Popen(
                command, env=environment(tmp_path / "home"), stderr=subprocess.PIPE, text=True
            )
            await anyio.to_thread.run_sync(partial(wait_until, partial(is_staged, there), "it"))
            assert process.poll() is None
            put(there / "demo", WHEEL, theirs)
        return (await anyio.to_thread.run_sync(process.communicate))[1]

    assert f"File already exists ('{WHEEL}', with other bytes)." in anyio.run(run)
    assert (there / "demo" / WHEEL).read_bytes() == theirs
    assert not (there / "demo" / f"{WHEEL}.json").exists()


def is_staged(there: Path) -> bool:
    return any(path.stat().st_size > 300_000 for path in there.glob(".incoming/*/.content"))


WITHOUT_LINKS = """
import errno, sys

def refuse(event, arguments):
    if event == "os.link":
        raise OSError(errno.EPERM, "Operation not permitted")

sys.addaudithook(refuse)
from proxyindex.cli import main
main()
"""


def test_a_file_system_without_hard_links_will_do(there: Path, here: Path, tmp_path: Path) -> None:
    publish(Folder(there, with_pages=False), read(put_sdist(here)))
    command = [sys.executable, "-c", WITHOUT_LINKS, "publish", here, "--to", there]
    wheel = put_wheel(here)
    env = environment(tmp_path / "home")
    assert subprocess.run(command, env=env, check=False).returncode == 0
    assert (there / "demo" / WHEEL).read_bytes() == wheel.read_bytes()
    assert records.read(there / "demo" / f"{WHEEL}.json")


def test_several_users_may_share_a_folder_that_says_so(there: Path, here: Path) -> None:
    """What is made beside the files is as open to a group as the folder is, and no more."""
    there.chmod(0o2775)
    publish(Folder(there, with_pages=False), read(put_wheel(here)))
    incoming = there / ".incoming"
    assert stat.S_IMODE(incoming.stat().st_mode) & 0o777 == 0o770
    assert stat.S_IMODE((incoming / "locks").stat().st_mode) == 0o660


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_folders_for_pages_stay_with_the_owner_of_the_folder(there: Path, here: Path) -> None:
    put_wheel(there)  # flat
    os.chown(there, 54321, 54321)
    publish(Folder(there, with_pages=True), read(put_wheel(here, "other")))
    assert {path.stat().st_uid for path in (there / "demo", there / "other")} == {54321}


def test_signatures_and_attestations_go_along(place: Place, there: Path, here: Path) -> None:
    sdist = put_sdist(here)
    put(here, sdist.name + ".asc", b"signed")
    attestation = attestation_of(sdist.name, sdist.read_bytes())
    put(here, sdist.name + ".publish.attestation", json.dumps(attestation).encode())
    publish(place(with_pages=True), read(sdist))
    told = json.loads((there / "demo" / (sdist.name + ".provenance")).read_text())
    assert told["attestation_bundles"][0]["attestations"] == [attestation]
    assert (there / "demo" / (sdist.name + ".asc")).read_bytes() == b"signed"
    assert 'data-gpg-sig="true"' in (there / "demo" / "index.html").read_text()


def test_a_page_with_hostile_words_is_harmless(place: Place, there: Path, here: Path) -> None:
    publish(place(with_pages=True), read(put_wheel(here, requires_python='>=3"><script>')))
    assert "<script" not in (there / "demo" / "index.html").read_text()


def test_a_home_page_that_is_not_ours_is_left_alone(place: Place, there: Path, here: Path) -> None:
    (there / "index.html").write_text("welcome")
    wheel = read(put_wheel(here))
    with pytest.raises(PublishError, match=r"index\.html is no page of ours"):
        publish(place(with_pages=True), wheel)
    assert [path.name for path in there.iterdir() if path.name[0] != "."] == ["index.html"]
    publish(place(), wheel)
    assert (there / "index.html").read_text() == "welcome"


def test_a_pipe_in_the_place_of_a_page_is_replaced(there: Path) -> None:
    put_wheel(there / "demo")
    os.mkfifo(there / "demo" / "index.html")
    publish(Folder(there, with_pages=True), read(there / "demo" / WHEEL))
    assert WHEEL in (there / "demo" / "index.html").read_text()


def test_pages_name_folders_that_are_not_utf_8(there: Path) -> None:
    put_wheel(Path(os.fsdecode(os.fsencode(there) + b"/\xfe")))
    with Folder(there, with_pages=True) as target:
        target.renew()
    assert 'href="../%FE/demo-1.0' in (there / "demo" / "index.html").read_text()

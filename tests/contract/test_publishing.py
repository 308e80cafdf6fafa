"""What folders promise as targets: on this machine, and on another one by rsync and ssh."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxyindex.publishing.distribution import Distribution, read
from proxyindex.publishing.folder import Folder
from proxyindex.publishing.publish import carry_out, plan
from proxyindex.publishing.remote import RemoteFolder
from proxyindex.publishing.target import Outcome, PublishError, Target
from tests.support.builders import make_sdist, make_wheel, put, put_sdist, put_wheel
from tests.support.sshd import SshServer, ssh_server

Place = Callable[..., Target]
WHEEL = "demo-1.0-py3-none-any.whl"


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
        if path.is_file() and not path.name.startswith(".")
    }


def test_files_are_put_where_local_looks_for_them(place: Place, there: Path, here: Path) -> None:
    wheel, sdist = read(put_wheel(here, "Demo")), read(put_sdist(here, "other-one"))
    assert set(publish(place(), wheel, sdist).values()) == {Outcome.PUBLISHED}
    for each in (wheel, sdist):
        found = there / each.project / each.filename
        assert found.read_bytes() == each.path.read_bytes()
        assert found.stat().st_mode & 0o444 == 0o444
    assert set(state(there)) == {f"demo/{wheel.filename}", f"other-one/{sdist.filename}"}


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
    assert touched == {
        "demo/demo-2.0-py3-none-any.whl",
        "demo/demo-2.0-py3-none-any.whl.metadata",
        "demo/index.html",
        "demo/index.v1_json",
    }


@pytest.mark.parametrize("lies", [".", "demo", "Demo"])
def test_other_bytes_are_refused_wherever_they_lie(
    place: Place, there: Path, here: Path, lies: str
) -> None:
    (there / lies).mkdir(exist_ok=True)
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


def test_publishers_to_one_folder_take_turns(there: Path) -> None:
    lock = there / ".publishing"
    with Folder(there, with_pages=False):
        assert not is_free(lock)
    assert is_free(lock)


def is_free(lock: Path) -> bool:
    with lock.open() as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_signatures_go_along(place: Place, there: Path, here: Path) -> None:
    sdist = put_sdist(here)
    put(here, sdist.name + ".asc", b"signed")
    publish(place(with_pages=True), read(sdist))
    assert (there / "demo" / (sdist.name + ".asc")).read_bytes() == b"signed"
    assert 'data-gpg-sig="true"' in (there / "demo" / "index.html").read_text()


def test_a_page_with_hostile_words_is_harmless(place: Place, there: Path, here: Path) -> None:
    publish(place(with_pages=True), read(put_wheel(here, requires_python='>=3"><script>')))
    assert "<script" not in (there / "demo" / "index.html").read_text()

"""twine, uv, poetry, hatch, flit and pdm upload what `python -m build` made; pip and uv install it.

Checks 110 and 124 of docs/conformance.md with the clients themselves, against one and more workers.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.builders import make_wheel, wheel_name
from tests.support.clients import Workbench, tool
from tests.support.fixtures import ServerFactory
from tests.support.pages import JSON_TYPE
from tests.support.privacy import file_is_private
from tests.support.server import ProxyIndex
from tests.support.uploads import upload_form

USER, PASSWORD = "somebody", "something"
OPEN = ("--upload", "*", "--delete", "*")
LOGIN = ("--username", USER, "--password", PASSWORD)

BACKENDS = {
    "poetry": ("poetry-core", "poetry.core.masonry.api"),
    "flit": ("flit_core", "flit_core.buildapi"),
}
HATCHLING = ("hatchling", "hatchling.build")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    return folder


def project(folder: Path, client: str) -> tuple[str, Path]:
    """The source of a project, for the backend that belongs to this client; its name and folder."""
    name = f"px-with-{client}"
    needed, backend = BACKENDS.get(client, HATCHLING)
    home = folder / name
    module = home / name.replace("-", "_") / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text('"""A module."""\n')
    (home / "README.md").write_text("# Words\n\nwith ü\n")
    (home / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["{needed}"]\nbuild-backend = "{backend}"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\ndescription = "A test."\n'
        'readme = "README.md"\nrequires-python = ">=3.8"\n'
        'authors = [{name = "A. Nobody", email = "a@demo.example"}]\n'
    )
    return name, home


def build(bench: Workbench, home: Path) -> list[Path]:
    """What `python -m build` makes of it: an sdist and a wheel."""
    bench.run(sys.executable, "-m", "build", "--no-isolation", home)
    made = sorted((home / "dist").iterdir())
    assert len(made) == 2
    for path in made:
        file_is_private(path.name)
    return made


def with_twine(bench: Workbench, url: str, home: Path, files: list[Path]) -> None:
    bench.run(tool("twine"), "upload", "--non-interactive", "--repository-url", url, *LOGIN, *files)


def with_uv(bench: Workbench, url: str, home: Path, files: list[Path]) -> None:
    bench.run(tool("uv"), "publish", "--publish-url", url, *LOGIN, *files)


def with_poetry(bench: Workbench, url: str, home: Path, files: list[Path]) -> None:
    bench.env["POETRY_REPOSITORIES_OURS_URL"] = url
    bench.run(tool("poetry"), "publish", "-n", "--repository", "ours", *LOGIN, cwd=home)


def with_hatch(bench: Workbench, url: str, home: Path, files: list[Path]) -> None:
    login = ("--user", USER, "--auth", PASSWORD)
    bench.run(tool("hatch"), "publish", "--no-prompt", "--repo", url, *login, *files, cwd=home)


def with_flit(bench: Workbench, url: str, home: Path, files: list[Path]) -> None:
    login = {"FLIT_INDEX_URL": url, "FLIT_USERNAME": USER, "FLIT_PASSWORD": PASSWORD}
    bench.env |= login
    bench.run(tool("flit"), "publish", cwd=home)


def with_pdm(bench: Workbench, url: str, home: Path, files: list[Path]) -> None:
    bench.env |= {"PDM_CHECK_UPDATE": "false", "PDM_PYTHON": sys.executable}
    bench.run(tool("pdm"), "publish", "--no-build", "--repository", url, *LOGIN, cwd=home)


Publish = Callable[[Workbench, str, Path, list[Path]], None]
CLIENTS: dict[str, Publish] = {
    "twine": with_twine,
    "uv": with_uv,
    "poetry": with_poetry,
    "hatch": with_hatch,
    "flit": with_flit,
    "pdm": with_pdm,
}


def listed(server: ProxyIndex, name: str) -> dict[str, str]:
    """File names and their sha256, as the page has them now."""
    page = server.get(f"/simple/{name}/", {"Accept": JSON_TYPE})
    assert page.status == 200, page.text
    return {file["filename"]: file["hashes"]["sha256"] for file in page.json()["files"]}


def digests(files: list[Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("client", CLIENTS)
def test_110_what_each_client_uploads_is_installed_by_pip_and_uv(
    server: ServerFactory, tmp_path: Path, own: Path, workers: int, client: str
) -> None:
    running = server(own, *OPEN, workers=workers)
    bench = Workbench(tmp_path / "publisher")
    name, home = project(tmp_path, client)
    files = build(bench, home)
    CLIENTS[client](bench, running.url + "/legacy/", home, files)
    page = listed(running, name)
    assert set(page) == set(digests(files))
    if client != "flit":  # which builds by itself
        assert page == digests(files)
    for number, install in enumerate((Workbench.pip_install, Workbench.uv_pip_install)):
        user = Workbench(tmp_path / f"user-{number}")
        install(user, running.simple_url, name)
        assert user.installed() == {name: "1.0"}


def test_110_a_repeated_upload_succeeds_and_twine_shows_why_another_one_does_not(
    server: ServerFactory, tmp_path: Path, own: Path
) -> None:
    running = server(own, *OPEN)
    bench = Workbench(tmp_path / "publisher")
    path = wheel(tmp_path, "px-again", 1)
    for _ in range(2):
        with_twine(bench, running.url + "/legacy/", tmp_path, [path])
    path = wheel(tmp_path, "px-again", 2)
    upload = ("upload", "--non-interactive", "--repository-url", running.url + "/legacy/", *LOGIN)
    done = bench.run(tool("twine"), *upload, path, check=False)
    assert done.returncode != 0
    assert "409" in done.stdout
    assert "File already exists" in " ".join(done.stdout.split())


def wheel(folder: Path, name: str, size: int) -> Path:
    path = folder / wheel_name(name)
    path.write_bytes(make_wheel(name, payload=size * 1000))
    file_is_private(path.name)
    return path


def publish_checked(bench: Workbench, running: ProxyIndex, path: Path) -> tuple[int, str]:
    done = bench.run(
        *(tool("uv"), "publish", "--no-cache", "--publish-url", running.url + "/legacy/"),
        *("--check-url", running.simple_url, *LOGIN, path),
        check=False,
    )
    return done.returncode, done.stdout


def test_124_uv_skips_what_is_there_and_tells_what_differs(
    server: ServerFactory, tmp_path: Path, own: Path, workers: int
) -> None:
    running = server(own, *OPEN, workers=workers)
    bench = Workbench(tmp_path / "publisher")
    path = wheel(tmp_path, "px-checked", 1)
    assert publish_checked(bench, running, path)[0] == 0
    code, said = publish_checked(bench, running, path)
    assert (code, "already exists, skipping" in said) == (0, True), said
    code, said = publish_checked(bench, running, wheel(tmp_path, "px-checked", 2))
    assert code != 0
    assert "match" in said, said


def test_who_uploads_where_nobody_may_is_told_which_options_are_missing(
    server: ServerFactory, tmp_path: Path, own: Path
) -> None:
    running = server(own)
    bench = Workbench(tmp_path / "publisher")
    path = wheel(tmp_path, "px-closed", 1)
    to = running.url + "/legacy/"
    for command in (
        ("twine", "upload", "--non-interactive", "--repository-url", to, *LOGIN, path),
        ("uv", "publish", "--publish-url", to, *LOGIN, path),
    ):
        done = bench.run(tool(command[0]), *command[1:], check=False)
        said = " ".join(done.stdout.split())
        assert done.returncode != 0
        assert "takes no uploads: 'upload' and 'folders' in its configuration would allow" in said
    form = upload_form(path.name, path.read_bytes(), name="px-closed")
    for target, status in (("/simple/", 405), ("/legacy/", 403)):
        answer = form.post(running, target)
        assert answer.status == status
        assert "takes no uploads" in answer.text
    assert running.get("/simple/", method="PUT").text == "Method Not Allowed\n"


def test_124_raced_uploads_of_the_same_file_all_succeed(
    server: ServerFactory, tmp_path: Path, own: Path
) -> None:
    running = server(own, *OPEN, workers=4)
    path = wheel(tmp_path, "px-raced", 500)
    benches = [Workbench(tmp_path / f"publisher-{number}") for number in range(4)]
    with ThreadPoolExecutor(len(benches)) as pool:
        done = list(pool.map(lambda bench: publish_checked(bench, running, path), benches))
    assert [code for code, _ in done] == [0] * len(benches), done
    assert listed(running, "px-raced") == digests([path])

"""The house rules that a reader of the imports can check: floors, doors, sizes, and host names.

To add a module, add its name to its floor; to add a dependency with a door, name the door.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "proxyindex"
PACKAGE = "proxyindex"

# Top-level modules and sub-packages by floor; imports go down only.
FLOORS: list[set[str]] = [
    {"", "model", "names", "errors", "inquiry", "events", "units", "audit", "memo", "texts"}
    | {"unzip", "version", "threads"},
    {"simple", "archives", "policy", "freshness", "access", "disk"},
    {"upstream", "store", "flight", "users", "records"},
    {"repository", "files", "uploads"},
    {"web", "publishing"},
    {"__main__", "cli", "app", "config", "settings", "banner", "server", "metrics", "logs"}
    | {"lines", "trees", "sources", "houses", "accounts", "publishers"},
]
ASSEMBLY = 5  # the only floor whose rooms may know each other

# Who may import what from outside: a module, or a sub-package for all of its modules.
DOORS: dict[str, set[str]] = {
    "httpx": {"upstream", "publishing"},
    "httpcore": {"upstream"},
    "h11": {"upstream"},
    "diskcache": {"store.index", "store.rows"},
    "passlib": {"users.hashes"},
    "starlette": {"web", "app", "server"},
    "uvicorn": {"server"},
    "httptools": set(),  # uvicorn imports it
    "uvloop": {"server"},
    "prometheus_client": {"metrics"},
    "click": {"cli"},
    "rich": {"cli"},
    "pip": {"upstream.default"},
    "python_multipart": {"uploads.form"},
    "isal": {"web.gzipped"},
    "truststore": {"upstream.tls"},
    "platformdirs": {"config"},
    "msgspec": {"model", "records", "simple", "users", "uploads", "web"},
}
# Modules behind one door. httpx has two: `upstream.ways` asks on behalf of strangers and is
# guarded against what pages may point at; `publishing.client` sends what a person said, with
# credentials, to where the person said, and follows nothing.
MOST_BEHIND = {("httpx", "upstream"): 1, ("httpx", "publishing"): 1}
NEVER = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "requests"}

FUNCTION_LINES = 50
MODULE_LINES = 350

MODULES = sorted(SOURCE.rglob("*.py"))


def dotted(path: Path) -> str:
    """A module's name below the package: `store.index`, `simple`, or `` for the package itself."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {dotted(path) for path in MODULES}


def imports(path: Path) -> Iterator[str]:
    """The absolute name of every import, also those inside functions and for types only."""
    here = [PACKAGE, *dotted(path).split(".")] if dotted(path) else [PACKAGE]
    package = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (_resolved(stem, alias.name) for alias in node.names)


def _resolved(stem: str, name: str) -> str:
    """`from proxyindex import units` imports a module, `from proxyindex.units import x` a name."""
    inner = f"{stem}.{name}".removeprefix(PACKAGE + ".")
    return f"{stem}.{name}" if stem.startswith(PACKAGE) and inner in NAMES else stem


def own_imports(path: Path) -> list[str]:
    """Names below the package of the modules of ours that a module imports."""
    ours = [name for name in imports(path) if name.split(".")[0] == PACKAGE]
    return [name.removeprefix(PACKAGE).removeprefix(".") for name in ours]


def floor_of(module: str) -> int:
    top = module.split(".", maxsplit=1)[0]
    return next(number for number, rooms in enumerate(FLOORS) if top in rooms)


def room_of(module: str) -> str:
    """The sub-package a module lives in; modules beside each other in the package share one."""
    top = module.split(".", maxsplit=1)[0]
    return top if (SOURCE / top).is_dir() else ""


def is_behind(module: str, doors: set[str]) -> bool:
    return any(module == door or module.startswith(door + ".") for door in doors)


each_module = pytest.mark.parametrize("path", MODULES, ids=dotted)


def test_nothing_but_modules_lies_among_them() -> None:
    """Whatever lies there is shipped."""
    others = {path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.is_file()}
    others = {path for path in others if path.suffix != ".py" and "__pycache__" not in path.parts}
    assert others == {Path("py.typed")}


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 10


@each_module
def test_every_module_has_a_floor(path: Path) -> None:
    assert any(dotted(path).split(".")[0] in rooms for rooms in FLOORS), "add it to FLOORS"


@each_module
def test_imports_go_down_only(path: Path) -> None:
    mine = floor_of(dotted(path))
    upward = [name for name in own_imports(path) if floor_of(name) > mine]
    assert not upward


@each_module
def test_rooms_of_one_floor_do_not_know_each_other(path: Path) -> None:
    mine = floor_of(dotted(path))
    neighbours = [
        name
        for name in own_imports(path)
        if floor_of(name) == mine != ASSEMBLY and room_of(name) != room_of(dotted(path))
    ]
    assert not neighbours


@each_module
def test_every_dependency_has_one_door(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    through_the_wall = [
        top for top in tops & DOORS.keys() if not is_behind(dotted(path), DOORS[top])
    ]
    assert not through_the_wall


def test_every_door_is_used() -> None:
    used = {
        (package, door)
        for path in MODULES
        for package in {name.split(".")[0] for name in imports(path)} & DOORS.keys()
        for door in DOORS[package]
        if is_behind(dotted(path), {door})
    }
    assert used == {(package, door) for package, doors in DOORS.items() for door in doors}


@pytest.mark.parametrize(("package", "door", "most"), [(*k, v) for k, v in MOST_BEHIND.items()])
def test_a_door_stays_narrow(package: str, door: str, most: int) -> None:
    users = [
        dotted(path)
        for path in MODULES
        if is_behind(dotted(path), {door})
        and package in {name.split(".")[0] for name in imports(path)}
    ]
    assert len(users) <= most, users


@each_module
def test_nothing_is_unpickled(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & NEVER


@each_module
def test_functions_and_modules_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MODULE_LINES
    functions = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert not {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES}


def test_no_registry_host_is_spelled_out() -> None:
    from pip._internal.models.index import PyPI, TestPyPI  # noqa: PLC0415 - slow, needed here only

    hosts = {PyPI.netloc, PyPI.file_storage_domain, TestPyPI.netloc, TestPyPI.file_storage_domain}
    spelled = [
        str(path)
        for path in committed()
        if any(host.encode() in (ROOT / path).read_bytes().lower() for host in hosts)
    ]
    assert not spelled


def committed() -> list[str]:
    """Paths of the files of the repository, those about to be added included."""
    if shutil.which("git") is None:
        pytest.skip("no git to tell what is committed")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    paths = [path for path in listing.stdout.split("\0") if path and (ROOT / path).is_file()]
    assert "pyproject.toml" in paths
    return paths

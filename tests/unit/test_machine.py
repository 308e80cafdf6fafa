"""What a User-Agent tells of a machine, beside what pip itself says of this one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from packaging.markers import Marker, default_environment
from packaging.specifiers import SpecifierSet
from packaging.tags import sys_tags
from pip._internal.network.session import user_agent

from proxyindex.model import File, LocalOrigin, UpstreamOrigin
from proxyindex.web.machine import likely_wheel, machine_of

LINUX: dict[str, Any] = {
    "installer": {"name": "pip", "version": "26.3"},
    "python": "3.11.7",
    "implementation": {"name": "CPython", "version": "3.11.7"},
    "distro": {"name": "Debian", "version": "12", "libc": {"lib": "glibc", "version": "2.36"}},
    "system": {"name": "Linux", "release": "6.1"},
    "cpu": "x86_64",
    "ci": None,
}
MAC = LINUX | {"system": {"name": "Darwin"}, "distro": {"version": "14.2"}, "cpu": "arm64"}
WINDOWS = LINUX | {"system": {"name": "Windows", "release": "10"}, "cpu": "AMD64"} | {"distro": {}}
MUSL = LINUX | {"distro": {"name": "Alpine Linux", "version": "3.20"}}

ANY = SpecifierSet()


def agent(told: object) -> str:
    return f"pip/26.3 {json.dumps(told)}"


def wheel(tag: str, version: str = "1.0", **fields: Any) -> File:
    filename = f"lib-{version}-{tag}.whl"
    origin = UpstreamOrigin("up", f"https://files.example/{filename}", "lib")
    return File(filename, **{"origin": origin, "version": version, **fields})


def test_pip_tells_what_it_installs_by() -> None:
    """Real pip on this very machine: its markers and tags are those that we conclude."""
    machine = machine_of(user_agent())
    if machine is None:
        pytest.skip("no CPython on a known system")
    here = default_environment()
    # the one that no User-Agent tells
    expected = {name: value for name, value in here.items() if name != "platform_version"}
    told = {name: value for name, value in machine.environment.items() if name in expected}
    assert told == expected
    tags = list(sys_tags())
    if not any("musllinux" in str(tag) for tag in tags):
        assert list(machine.tags) == tags


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pip/26.3",
        "curl/8.0 (x86)",
        "pip/26.3 {",
        "pip/26.3 []",
        'pip/26.3 {"python": 3}',
        "pip/26.3 " + '{"a":' * 5000,
        agent(LINUX | {"python": "x"}),
        agent(LINUX | {"python": "2.7.18"}),
        agent(LINUX | {"python": "3.61"}),
        agent(LINUX | {"python": None}),
        agent(LINUX | {"cpu": 1}),
        agent(LINUX | {"cpu": "x" * 21}),
        agent(LINUX | {"cpu": "x-86"}),
        agent(LINUX | {"implementation": {"name": "PyPy", "version": "7.3"}}),
        agent(LINUX | {"system": {"name": "FreeBSD"}}),
        agent({name: value for name, value in LINUX.items() if name != "system"}),
    ],
)
def test_whoever_does_not_tell_is_not_known(text: str) -> None:
    assert machine_of(text) is None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (LINUX, "cp311-cp311-manylinux_2_28_x86_64"),
        (MAC, "cp311-cp311-macosx_11_0_arm64"),
        (WINDOWS, "cp311-cp311-win_amd64"),
        (MUSL, "py3-none-any"),
        (LINUX | {"cpu": "aarch64"}, "cp310-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64"),
        (LINUX | {"python": "3.8.1"}, "py3-none-any"),
        (LINUX | {"distro": {"libc": {"lib": "glibc", "version": "999.9"}}}, "py3-none-any"),
        (LINUX | {"distro": {"libc": {"lib": "glibc", "version": "2.999999"}}}, "py3-none-any"),
        (LINUX | {"distro": {"libc": {"lib": "glibc", "version": "new"}}}, "py3-none-any"),
        (MAC | {"distro": None}, "py3-none-any"),
        (MAC | {"distro": {"version": "1000000.1"}}, "py3-none-any"),
    ],
    ids=str,
)
def test_the_wheel_that_fits_best_is_chosen(told: object, expected: str) -> None:
    tags = [
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux_2_99_x86_64",
        "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "cp311-cp311-macosx_11_0_arm64",
        "cp311-cp311-macosx_10_9_x86_64",
        "cp311-cp311-win_amd64",
        "cp311-cp311-win32",
        "cp310-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64",
        "py3-none-any",
        "odd",
    ]
    files = tuple(wheel(tag) for tag in tags)
    for listed in (files, files[::-1]):
        chosen = likely_wheel(listed, machine_of(agent(told)), ANY)
        assert chosen is not None
        assert chosen.filename == f"lib-1.0-{expected}.whl"


def test_a_name_that_makes_a_million_tags_fits_nowhere() -> None:
    """Though one of them would fit."""
    many = ".".join(f"a{n}" for n in range(20))
    machine, bomb = machine_of(agent(LINUX)), f"py3.{many}-none.{many}-any.{many}"
    files = tuple(wheel(bomb, "2.0") for _ in range(1000))
    assert likely_wheel((wheel("py3-none-any"), *files), machine, ANY) is None
    assert likely_wheel((wheel("py2.py3-none-any", "2.0"),), machine, ANY) is not None


@pytest.mark.parametrize("tag", ["1-none-any", "py3.-none-any", "odd", "-", "py3-none-"])
def test_a_tag_that_is_none_fits_nowhere(tag: str) -> None:
    machine, fitting = machine_of(agent(LINUX)), wheel("py3-none-any", "2.0")
    assert likely_wheel((wheel(tag, "2.0"), fitting), machine, ANY) == fitting
    assert likely_wheel((wheel(tag, "2.0"),), machine, ANY) is None


def test_what_takes_long_to_be_judged_is_not_judged() -> None:
    machine = machine_of(agent(LINUX))
    strange = ",".join(f"!=4.{n}" for n in range(100)) + ",<3"
    files = tuple(wheel("py3-none-any", "2.0", requires_python=strange) for _ in range(50_000))
    assert likely_wheel(files, machine, ANY) == files[-1]
    unfit = [wheel("py3-none-any", f"1.{n}", requires_python="<3") for n in range(50_000)]
    fitting = wheel("py3-none-any", "0.1")
    assert likely_wheel((fitting, *unfit), machine, ANY) is None
    assert likely_wheel((fitting, *unfit[:900]), machine, ANY) == fitting


def test_a_candidate_of_an_interpreter_counts_as_its_release() -> None:
    machine = machine_of(agent(LINUX | {"python": "3.13.0rc1"}))
    new = wheel("py3-none-any", requires_python=">=3.13")
    assert likely_wheel((new,), machine, ANY) == new


def test_a_release_is_chosen_that_the_interpreter_can_run() -> None:
    machine = machine_of(agent(LINUX))
    old, new = wheel("py3-none-any", "1.0"), wheel("py3-none-any", "2.0", requires_python=">=3.12")
    assert likely_wheel((old, new), machine, ANY) == old
    assert likely_wheel((old, new.but(requires_python="not one!")), machine, ANY) == new.but(
        requires_python="not one!"
    )
    # nothing but a source in the newest, or a file of our own
    source = File("lib-3.0.tar.gz", LocalOrigin("x"), version="3.0")
    assert likely_wheel((old, source), machine, ANY) is None
    assert (
        likely_wheel((old, wheel("py3-none-any", "3.0", origin=LocalOrigin("x"))), machine, ANY)
        is None
    )
    assert likely_wheel((old, wheel("cp39-cp39-win32", "3.0")), machine, ANY) is None
    assert likely_wheel((), machine, ANY) is None


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ("", "3.0"),
        ("<3", "2.1"),
        ("==2.0", "2.0"),
        ("~=1.0", None),
        (">=4", None),
        ("==5.0rc1", None),
    ],
)
def test_of_the_versions_that_are_wanted_the_newest_is_chosen(
    versions: str, expected: str | None
) -> None:
    files = [wheel("py3-none-any", version) for version in ("2.0", "2.1", "3.0", "5.0rc1")]
    chosen = likely_wheel(tuple(files), machine_of(agent(LINUX)), SpecifierSet(versions))
    assert (chosen and chosen.version) == expected


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("python_version < '3.12'", True),
        ("python_version < '3.9'", False),
        ("sys_platform == 'win32'", False),
        ("extra == 'Fast_Mode'", True),
        ("extra == 'slow'", False),
        ("extra == 'fast-mode' and os_name == 'nt'", False),
        ("platform_version >= '1'", False),
        ("python_full_version ~= 'x'", False),
    ],
)
def test_markers_hold_as_on_that_machine(marker: str, expected: bool) -> None:
    machine = machine_of(agent(LINUX))
    assert machine is not None
    assert machine.holds(Marker(marker), {"fast-mode"}) is expected

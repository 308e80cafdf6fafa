"""What the image is made of is pinned with digests, and the security policy points at real tests.

No network here: `scripts/lock --check` and `scripts/audit` ask the index and the advisory service.
"""

from __future__ import annotations

import re
import runpy
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
RUN, BUILD = "requirements.txt", "requirements-build.txt"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
DECLARED: dict[str, list[str]] = {
    RUN: PROJECT["project"]["dependencies"],
    BUILD: PROJECT["build-system"]["requires"],
}

HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\]+?))?")
CALL = re.compile(r"\bpip\b[^&]*? (?:install|wheel) [^&]*")


@dataclass(frozen=True)
class Pin:
    version: str
    hashes: list[str]
    wanted_by: list[str]


def pins_of(text: str) -> dict[str, Pin]:
    """The pins of a list by project; ValueError if it holds anything else."""
    pins = {}
    blocks = re.split(r"\n(?=[^\s#])", text)
    if blocks[0] != "# Made by scripts/lock; not to be edited." or blocks[1].strip() != (
        "--only-binary :all:"
    ):
        raise ValueError("the list does not begin as it should")
    for block in blocks[2:]:
        lines = [line.strip().removesuffix("\\").strip() for line in block.splitlines()]
        lines = [line for line in lines if line]
        found = PIN.fullmatch(lines[0])
        hashes = [line for line in lines[1:] if HASH.fullmatch(line)]
        comments = [line for line in lines[1:] if line.startswith("# via ")]
        if found is None or not hashes or len(lines) != 1 + len(hashes) + len(comments):
            raise ValueError(f"not a pin with hashes: {block}")
        via = [name for line in comments for name in line.removeprefix("# via ").split(", ")]
        pins[found["name"]] = Pin(found["version"], hashes, via)
    return pins


def unmet(declared: list[str], pins: dict[str, Pin]) -> list[str]:
    """The declared requirements that no pin satisfies."""
    return [
        str(wanted)
        for wanted in map(Requirement, declared)
        if (pin := pins.get(canonicalize_name(wanted.name))) is None
        or not wanted.specifier.contains(pin.version)
    ]


@pytest.fixture(params=[RUN, BUILD])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def text(name: str) -> str:
    return (ROOT / "deploy" / name).read_text()


def test_the_pins_satisfy_what_is_declared(name: str, text: str) -> None:
    assert not unmet(DECLARED[name], pins_of(text)), "run scripts/lock"


def test_every_pin_is_there_for_a_reason(name: str, text: str) -> None:
    pins = pins_of(text)
    declared = {canonicalize_name(Requirement(line).name) for line in DECLARED[name]}
    for project, pin in pins.items():
        reasons = {reason for reason in pin.wanted_by if reason in pins}
        assert project in declared or reasons, f"run scripts/lock: nobody needs {project}"


def test_nothing_in_the_lists_names_an_index_or_a_machine(text: str) -> None:
    assert "://" not in text
    assert "/" not in text.replace("scripts/lock", "")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: re.sub(r" \\\n(    --hash.*\n)+", "\n", text, count=1),
        lambda text: text + "extra==1.0\n",
        lambda text: text + "extra\n",
        lambda text: text + "-r more.txt\n",
        lambda text: text + "--extra-index-url https://packages.example/simple/\n",
        lambda text: text.replace("--only-binary :all:\n", ""),
        lambda text: text.replace("sha256:", "md5:", 1),
    ],
    ids=["no hash", "unhashed", "unpinned", "file", "index", "sources", "weak hash"],
)
def test_a_spoilt_list_is_noticed(text: str, spoil: Callable[[str], str]) -> None:
    assert pins_of(text)
    with pytest.raises(ValueError, match=r"list|pin"):
        pins_of(spoil(text))


def test_a_pin_that_no_longer_fits_is_noticed() -> None:
    pins = {"httpx": Pin("0.28.1", ["hash"], []), "anyio": Pin("4.7.0", ["hash"], [])}
    declared = ["anyio>=4.8", "httpx>=0.28,<0.29", "idna"]
    assert unmet(declared, pins) == ["anyio>=4.8", "idna"]


def test_the_image_installs_nothing_without_a_digest() -> None:
    recipe = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    calls = [call for line in recipe.splitlines() for call in CALL.findall(line)]
    assert len(calls) == recipe.count(" install ") + recipe.count(" wheel ") == 4
    for call in calls:
        assert "--require-hashes" in call or "--no-index" in call, call
    assert recipe.count("deploy/requirements.txt") == 2
    assert recipe.count("deploy/requirements-build.txt") == 2


AUDIT = runpy.run_path(str(ROOT / "scripts" / "audit"))
DISKCACHE = {
    "name": "diskcache",
    "version": "5.6.3",
    "vulns": [{"id": "GHSA-w8v5-vhqr-4h9v", "aliases": ["CVE-2025-69872"], "fix_versions": []}],
}
OTHER = {"id": "PYSEC-2099-1", "aliases": ["CVE-2099-1"], "fix_versions": ["9.0"]}
CLEAN = {"name": "idna", "version": "3.20", "vulns": []}


@pytest.mark.parametrize(
    ("releases", "wrong"),
    [
        ([DISKCACHE, CLEAN], []),
        ([CLEAN], ["no longer reported"]),
        ([{**DISKCACHE, "vulns": []}, CLEAN], ["no longer reported"]),
        ([DISKCACHE, {**CLEAN, "vulns": [OTHER]}], ["idna 3.20: PYSEC-2099-1, mended in 9.0"]),
        ([{**DISKCACHE, "vulns": [*DISKCACHE["vulns"], OTHER]}], ["diskcache 5.6.3: PYSEC-2099-1"]),
        ([DISKCACHE, {"name": "idna", "skip_reason": "unknown"}], ["idna could not be audited"]),
        ([{"name": "diskcache", "skip_reason": "unknown"}, CLEAN], ["diskcache could not be"]),
    ],
    ids=["clean", "not installed", "mended", "another", "another of it", "skipped", "unknown"],
)
def test_the_audit_accepts_the_named_advisory_and_nothing_else(
    releases: list[dict[str, Any]], wrong: list[str]
) -> None:
    judged = AUDIT["judge"](releases)
    assert len(judged) == len(wrong)
    assert all(part in line for part, line in zip(wrong, judged, strict=True))


def test_an_advisory_is_excepted_by_project_and_not_everywhere() -> None:
    stray = {**DISKCACHE, "name": "idna"}
    assert len(AUDIT["judge"]([DISKCACHE, stray])) == 1


def test_the_security_policy_names_tests_that_exist() -> None:
    policy = (ROOT / "SECURITY.md").read_text()
    paths = set(re.findall(r"`((?:tests|scripts|src|deploy)/[\w./-]*)`", policy))
    names = set(re.findall(r"`(test_\w+)`", policy))
    assert "tests/contract/test_index.py" in paths
    assert "test_a_planted_pickle_would_run_without_our_fence" in names
    assert not [path for path in sorted(paths) if not (ROOT / path).exists()]
    source = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name in sorted(names) if f"def {name}(" not in source]


def test_the_security_policy_and_the_audit_except_the_same() -> None:
    policy = (ROOT / "SECURITY.md").read_text()
    for names in AUDIT["EXCEPTIONS"].values():
        assert all(name in policy for name in names)

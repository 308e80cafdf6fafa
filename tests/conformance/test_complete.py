"""Every check of the conformance list has a test that carries its number."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent

CHECKS = {
    int(number)
    for number in re.findall(
        r"^- \*\*(\d+)\*\* ",
        (ROOT.parent / "docs" / "conformance.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
}

_NUMBERED = re.compile(r"test_((?:\d{3}_)+)")
_CASE = re.compile(r"(\d{3})(?!\d)")


def numbers_in(source: str) -> set[int]:
    """The checks that the tests of a module name: `test_007_…`, `test_066_067_…`, `id="014-…"`."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if match := _NUMBERED.match(node.name):
                found |= {int(number) for number in match[1].split("_") if number}
        elif isinstance(node, ast.keyword) and node.arg in ("id", "ids"):
            texts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
            found |= {int(m[1]) for text in texts if (m := _CASE.match(str(text)))}
    return found


def test_every_check_has_a_test() -> None:
    assert len(CHECKS) > 100
    tested: set[int] = set()
    for file in ROOT.rglob("test_*.py"):
        tested |= numbers_in(file.read_text())
    assert tested >= CHECKS, f"checks without a test: {sorted(CHECKS - tested)}"


def test_numbers_are_read_from_names_and_from_ids() -> None:
    source = """
def test_007_a(): ...
async def test_066_067_b(): ...
def test_c_008(): ...
@pytest.mark.parametrize("x", [pytest.param(1, id="014-d")], ids=["015-e", "other", "1234"])
def test_e(): ...
"""
    assert numbers_in(source) == {7, 66, 67, 14, 15}

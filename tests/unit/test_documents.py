"""What the documents show as a configuration is one: nobody should copy a mistake."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest

from proxyindex.config import NotReady, load

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^( *)```toml\n(.*?)^ *```", re.M | re.S)

EXAMPLES = [
    pytest.param(found[2], id=f"{path.name}-{path.read_text()[: found.start()].count(chr(10)) + 1}")
    for path in DOCUMENTS
    for found in _FENCE.finditer(path.read_text())
    if "[tool." not in found[2] and "[[tool." not in found[2]  # that is a pyproject.toml
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_without_mistake(example: str, tmp_path: Path) -> None:
    """Files and folders that it names are not there, which is another matter."""
    path = tmp_path / "proxyindex.toml"
    path.write_text(example)
    variables = dict.fromkeys(re.findall(r'password-env = "(\w+)"', example), "sesame")
    with suppress(NotReady):
        load({"config": str(path)}, variables)

"""Projects that installers can really install: `tree-<any>-1` requires `-2` and `-3`, and so on, to
the last of `NODES`; one wheel each, made of its name alone."""

from __future__ import annotations

import functools
import io
import random
import zipfile

NODES = 31
_PAYLOAD = 20_000  # bytes
_DATE = (2024, 5, 20, 0, 0, 0)


def metadata(project: str) -> bytes:
    """Its core metadata."""
    root, _, number = project.rpartition("-")
    children = [n for n in (2 * int(number), 2 * int(number) + 1) if n <= NODES]
    lines = ["Metadata-Version: 2.1", f"Name: {project}", "Version: 1.0"]
    lines += [f"Requires-Dist: {root}-{child}" for child in children]
    return "\n".join([*lines, "", ""]).encode()


@functools.lru_cache(4 * NODES)
def wheel(project: str) -> bytes:
    """Its wheel."""
    module = project.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    tag = b"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    entries = {
        f"{module}/data.bin": random.Random(project).randbytes(_PAYLOAD),
        f"{info}/WHEEL": tag,
        f"{info}/METADATA": metadata(project),
        f"{info}/RECORD": b"",
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)
    return made.getvalue()

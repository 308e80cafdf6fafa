"""Builds tiny valid archives in memory, and ones that are broken in one chosen way."""

import gzip
import hashlib
import io
import random
import tarfile
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support.privacy import file_is_private

_EPOCH = (2020, 2, 2, 0, 0, 0)


def metadata(
    name: str = "demo",
    version: str = "1.0",
    *,
    requires_dist: Iterable[str] = (),
    requires_python: str | None = None,
) -> bytes:
    """The text of a METADATA or PKG-INFO file."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    lines += [f"Requires-Dist: {requirement}" for requirement in requires_dist]
    return "\n".join([*lines, "", f"{name} is a test.", ""]).encode()


def wheel_name(name: str = "demo", version: str = "1.0", tag: str = "py3-none-any") -> str:
    return f"{_escaped(name)}-{version}-{tag}.whl"


def sdist_name(name: str = "demo", version: str = "1.0", suffix: str = ".tar.gz") -> str:
    return f"{_escaped(name)}-{version}{suffix}"


def make_wheel(
    name: str = "demo",
    version: str = "1.0",
    *,
    requires_dist: Iterable[str] = (),
    requires_python: str | None = None,
    payload: int = 0,
    extra: Mapping[str, bytes] | None = None,
    dist_info: str | None = None,
    core_metadata: bytes | None = None,
) -> bytes:
    """An installable wheel.

    `payload` adds so many incompressible bytes, the same for the same name and version. `extra`
    adds or replaces entries; `dist_info` renames that directory; `core_metadata` replaces METADATA.
    """
    module = _escaped(name)
    home = dist_info or f"{module}-{version}.dist-info"
    if core_metadata is None:
        core_metadata = metadata(
            name, version, requires_dist=requires_dist, requires_python=requires_python
        )
    entries = {
        f"{module}/__init__.py": f"__version__ = {version!r}\n".encode(),
        f"{home}/METADATA": core_metadata,
        f"{home}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if payload:
        entries[f"{module}/payload.bin"] = noise(payload, seed=f"{name} {version}")
    entries |= extra or {}
    return make_zip([*entries.items(), (f"{home}/RECORD", _record(entries, home))])


def make_sdist(
    name: str = "demo",
    version: str = "1.0",
    *,
    requires_python: str | None = None,
    payload: int = 0,
    suffix: str = ".tar.gz",
    extra: Mapping[str, bytes] | None = None,
    pkg_info: bool = True,
    tar_format: int = tarfile.PAX_FORMAT,
) -> bytes:
    """A source archive, `.tar.gz` or `.zip`, that builds without build requirements."""
    top = f"{_escaped(name)}-{version}"
    entries = {
        f"{top}/pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "backend"\n'
        b'backend-path = ["."]\n',
        f"{top}/backend.py": _backend(name, version, requires_python),
    }
    if pkg_info:
        entries[f"{top}/PKG-INFO"] = metadata(name, version, requires_python=requires_python)
    if payload:
        entries[f"{top}/payload.bin"] = noise(payload, seed=f"{name} {version}")
    entries |= extra or {}
    if suffix == ".zip":
        return make_zip(entries.items())
    return gzip.compress(make_tar(entries.items(), tar_format=tar_format), mtime=0)


def make_zip(entries: Iterable[tuple[str, bytes]], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these entries, in order; equal names are kept twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for entry, content in entries:
            info = zipfile.ZipInfo(entry, _EPOCH)
            info.compress_type = method
            info.external_attr = 0o644 << 16
            # writestr() warns of names it has seen
            archive.NameToInfo.pop(entry, None)
            archive.writestr(info, content)
    return buffer.getvalue()


def make_tar(
    entries: Iterable[tuple[str, bytes]], *, tar_format: int = tarfile.PAX_FORMAT
) -> bytes:
    """An uncompressed tar of these entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for entry, content in entries:
            info = tarfile.TarInfo(entry)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def put(folder: Path, filename: str, content: bytes) -> Path:
    """Writes the archive into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / filename
    path.write_bytes(content)
    file_is_private(filename)
    return path


def put_wheel(folder: Path, name: str = "demo", version: str = "1.0", **options: object) -> Path:
    """Builds a wheel straight into a folder; `options` as for `make_wheel`."""
    content = make_wheel(name, version, **options)  # type: ignore[arg-type]
    return put(folder, wheel_name(name, version), content)


def put_sdist(folder: Path, name: str = "demo", version: str = "1.0", **options: object) -> Path:
    """Builds a source archive straight into a folder; `options` as for `make_sdist`."""
    content = make_sdist(name, version, **options)  # type: ignore[arg-type]
    return put(folder, sdist_name(name, version, str(options.get("suffix", ".tar.gz"))), content)


def noise(size: int, *, seed: str) -> bytes:
    """Incompressible bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def _escaped(name: str) -> str:
    return name.replace("-", "_").replace(".", "_")


def _record(entries: Mapping[str, bytes], home: str) -> bytes:
    lines = [
        f"{entry},sha256={urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')}"
        f",{len(content)}\n"
        for entry, content in entries.items()
    ]
    return "".join([*lines, f"{home}/RECORD,,\n"]).encode()


def _backend(name: str, version: str, requires_python: str | None) -> bytes:
    """A build backend that writes the same wheel `make_wheel` makes."""
    content = make_wheel(name, version, requires_python=requires_python)
    return (
        f"CONTENT = {content!r}\n"
        "def build_wheel(folder, settings=None, metadata=None):\n"
        f"    with open(folder + '/{wheel_name(name, version)}', 'wb') as target:\n"
        "        target.write(CONTENT)\n"
        f"    return '{wheel_name(name, version)}'\n"
    ).encode()

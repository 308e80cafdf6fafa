"""Targets for the configuration: a TOML file, environment variables, and flags."""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
import tomllib
from functools import cache
from pathlib import Path

from proxyindex.config import layers
from proxyindex.config.load import Loaded, load
from proxyindex.config.mistakes import Mistakes, Place, Rank
from proxyindex.config.options import OPTIONS
from proxyindex.config.show import as_json, as_toml
from proxyindex.errors import ConfigError
from proxyindex.policy.rules import Pattern
from proxyindex.settings import PolicySettings, Settings

SECRET = "hunter2"  # inputs may use it as a password; nothing printed may show it
_PASSWORD = re.compile(
    rf"""^password = '{SECRET}'$"""
    rf"""|(?:^url = |^upstream = \[|^[^=\n]*_UPSTREAM=|^upstream=)["']?[a-z]+://[a-z]+:{SECRET}x*@""",
    re.MULTILINE,
)
_READ_OUTSIDE = {"HOME", "NETRC"}  # files of the machine under test


def configuration(data: bytes) -> None:
    """Three parts parted by NUL: a TOML file, `NAME=VALUE` lines, `option=VALUE` flags."""
    toml, _, rest = data.partition(b"\0")
    environment, _, flags = rest.decode("utf-8", "replace").partition("\0")
    path = _folder() / "proxyindex.toml"
    path.write_bytes(toml)
    environ = {k: v for k, v in _pairs(environment) if k not in _READ_OUTSIDE}
    given: dict[str, object] = dict(_pairs(flags))
    try:
        loaded = load({**given, "config": str(path)}, environ)
    except ConfigError as problem:
        _check_mistakes(problem.mistakes, data)
    else:
        _check_loaded(loaded, data)


def rule(data: bytes) -> None:
    """A policy rule of the configuration: what is accepted there can be applied."""
    text = data.decode("utf-8", "replace")
    option = next(option for option in OPTIONS if option.key == "policy.deny")
    mistakes = Mistakes()
    read = layers.read(option, layers.Given([text], Place(Rank.FILE, "policy.deny")), mistakes)
    assert (read is None) is bool(mistakes.wrong)
    if read is None:
        return
    assert isinstance(read.value, tuple)
    for item in read.value:
        pattern = Pattern.parse(item)
        pattern.covers_version("1.0")
        pattern.covers_version("not a version")


def _check_mistakes(mistakes: list[str], data: bytes) -> None:
    assert mistakes
    for mistake in mistakes:
        assert mistake.endswith((".", "?")), mistake
        assert len(mistake) < 4 * len(data) + 2000
        _check_secret(mistake, data)


def _check_loaded(loaded: Loaded, data: bytes) -> None:
    as_read = json.loads(as_json(loaded))
    assert set(as_read) == {"settings", "upstreams", "indexes"}
    shown = as_toml(loaded)
    _check_secret(shown + as_json(loaded), data)
    tomllib.loads(shown)
    path = _folder() / "again.toml"
    path.write_text(shown)
    # what is shown is a file that says the same, but for the secrets
    again = load({"config": str(path), **_no_upstream(loaded.settings)})
    assert _comparable(again.settings) == _comparable(loaded.settings)


def _no_upstream(settings: Settings) -> dict[str, object]:
    return {} if settings.upstreams else {"no_upstream": True}


def _comparable(settings: Settings) -> list[object]:
    fields = [
        getattr(settings, name)
        for name in Settings.__dataclass_fields__
        if name not in {"upstreams", "config_file", "policy"}
    ]
    upstreams = [(u.name, u.url, u.username, u.file_hosts, u.retries) for u in settings.upstreams]
    policy = [getattr(settings.policy, name) for name in PolicySettings.__dataclass_fields__]
    return [*fields, policy, upstreams]


def _check_secret(text: str, data: bytes) -> None:
    """A password is not shown where it was given as one, and as nothing else."""
    if SECRET not in _PASSWORD.sub("", data.decode(errors="replace")):
        assert SECRET not in text, text[:400]


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = (line.partition("=") for line in text.split("\n") if "=" in line)
    return [(name, value) for name, _, value in pairs if "\0" not in value]


@cache
def _folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="proxyindex-fuzz-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path

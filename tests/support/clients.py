"""Real pip, uv, poetry and pipenv, newest or as installed, in fresh and hermetic environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.hermetic import environment

Done = subprocess.CompletedProcess[str]  # standard output and error together in `stdout`
SECONDS = 110.0  # below pytest's own limit, so that the client's output is seen


class ClientFailedError(Exception):
    """An installer ended with an error; shows the command and everything it wrote."""

    def __init__(self, done: Done) -> None:
        super().__init__(f"{' '.join(map(str, done.args))} -> {done.returncode}\n{done.stdout}")
        self.done = done


def tool(name: str) -> str:
    """The program beside the running interpreter (`.[e2e]` brings it), else on the PATH."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=places)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: pip install '.[e2e]'")
    return found


class Workbench:
    """A private home, an empty virtual environment, and the installers to fill it.

    Nothing is remembered from one workbench to the next. Within one, uv and poetry keep their
    caches (pass `--no-cache` or ask for a new workbench); pip keeps none unless `is_caching`.
    Every method returns the finished process and raises `ClientFailedError` if it failed, unless
    `check=False`.
    """

    def __init__(self, folder: Path, *, is_caching: bool = False, seconds: float = SECONDS) -> None:
        self.folder = folder
        self.is_caching = is_caching
        self.seconds = seconds
        folder.mkdir(parents=True, exist_ok=True)
        private = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",  # it would ask the index for pip itself
            "PIP_NO_INPUT": "1",
            "UV_NO_CONFIG": "1",
            "UV_CACHE_DIR": str(folder / "uv-cache"),
            "UV_PYTHON": sys.executable,
            "UV_PYTHON_DOWNLOADS": "never",
            "POETRY_CACHE_DIR": str(folder / "poetry-cache"),
            "POETRY_CONFIG_DIR": str(folder / "poetry-config"),
            "POETRY_VIRTUALENVS_CREATE": "false",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "PIPENV_VENV_IN_PROJECT": "1",
            "PIPENV_CACHE_DIR": str(folder / "pipenv-cache"),
            "PIPENV_NOSPIN": "1",
            "PIPENV_YES": "1",
            "VIRTUALENV_NO_PERIODIC_UPDATE": "1",
        }
        self.env = environment(folder / "home", private)

    def run(self, *command: str | Path, cwd: Path | None = None, check: bool = True) -> Done:
        """Run any program on this workbench."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.seconds,
            check=False,
        )
        if check and done.returncode:
            raise ClientFailedError(done)
        return done

    @cached_property
    def python(self) -> Path:
        """The interpreter of an empty virtual environment, made on first use."""
        home = self.folder / "venv"
        venv.create(home, with_pip=False, symlinks=True)
        return home / "bin" / "python"

    def installed(self) -> dict[str, str]:
        """Name and version of what is in the virtual environment."""
        ask = (
            "from importlib.metadata import distributions as d\n"
            "for one in d(): print(one.metadata['Name'], one.version)"
        )
        lines = self.run(self.python, "-c", ask).stdout.splitlines()
        return dict(line.split() for line in lines)

    # pip

    def pip(self, *args: str | Path, check: bool = True) -> Done:
        """pip, acting on the virtual environment."""
        cache = () if self.is_caching else ("--no-cache-dir",)
        return self.run(
            sys.executable, "-m", "pip", "--python", self.python, *cache, *args, check=check
        )

    def pip_install(
        self, index_url: str, *requirements: str, args: Sequence[str] = (), check: bool = True
    ) -> Done:
        """`pip install` into the virtual environment (`args=["--target", …]` to go elsewhere)."""
        return self.pip("install", "--index-url", index_url, *args, *requirements, check=check)

    def pip_download(
        self, index_url: str, *requirements: str, args: Sequence[str] = (), check: bool = True
    ) -> Done:
        """`pip download` into `downloads`."""
        target = ("--dest", str(self.downloads))
        return self.pip(
            "download", "--index-url", index_url, *target, *args, *requirements, check=check
        )

    @property
    def downloads(self) -> Path:
        return self.folder / "downloads"

    # uv

    def uv(self, *args: str | Path, cwd: Path | None = None, check: bool = True) -> Done:
        return self.run(tool("uv"), *args, cwd=cwd, check=check)

    def uv_pip_install(
        self, index_url: str, *requirements: str, args: Sequence[str] = (), check: bool = True
    ) -> Done:
        """`uv pip install` into the virtual environment."""
        where = ("--default-index", index_url, "--python", str(self.python))
        return self.uv("pip", "install", *where, *args, *requirements, check=check)

    def uv_pip_compile(
        self, index_url: str, *requirements: str, args: Sequence[str] = (), check: bool = True
    ) -> Done:
        """`uv pip compile`; the resolution is part of the output."""
        source = self.folder / "requirements.in"
        source.write_text("\n".join(requirements) + "\n")
        return self.uv(
            "pip", "compile", "--default-index", index_url, *args, str(source), check=check
        )

    def uv_lock(
        self, index_url: str, *requirements: str, args: Sequence[str] = (), check: bool = True
    ) -> Done:
        """`uv lock` of a project needing `requirements`; the lock is `project/uv.lock`."""
        self.write_project(requirements)
        return self.uv("lock", "--default-index", index_url, *args, cwd=self.project, check=check)

    def uv_sync(self, index_url: str, *, args: Sequence[str] = (), check: bool = True) -> Done:
        """`uv sync` of the locked project into `project/.venv`."""
        return self.uv(
            "sync", "--frozen", "--default-index", index_url, *args, cwd=self.project, check=check
        )

    # poetry and pipenv

    def poetry_lock(
        self, index_url: str, *requirements: str, args: Sequence[str] = (), check: bool = True
    ) -> Done:
        """`poetry lock` of a project needing `requirements`; the lock is `project/poetry.lock`."""
        self.write_project(
            requirements,
            "[tool.poetry]",
            "package-mode = false",
            "[[tool.poetry.source]]",
            'name = "proxyindex"',
            f'url = "{index_url}"',
            'priority = "primary"',
        )
        return self.run(
            tool("poetry"), "lock", "--no-interaction", *args, cwd=self.project, check=check
        )

    def pipenv_lock(
        self, index_url: str, *requirements: str, args: Sequence[str] = (), check: bool = True
    ) -> Done:
        """`pipenv lock` of plain names; the lock is `project/Pipfile.lock`."""
        is_verified = "true" if urlsplit(index_url).scheme == "https" else "false"
        lines = ["[[source]]", 'name = "proxyindex"', f'url = "{index_url}"']
        lines += [f"verify_ssl = {is_verified}", "[packages]"]
        lines += [f'"{name}" = "*"' for name in requirements]
        self.project.mkdir(exist_ok=True)
        (self.project / "Pipfile").write_text("\n".join(lines) + "\n")
        python = ("--python", sys.executable)
        return self.run(tool("pipenv"), "lock", *python, *args, cwd=self.project, check=check)

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def write_project(self, requirements: Iterable[str], *more: str) -> None:
        """Write `project/pyproject.toml`."""
        self.project.mkdir(exist_ok=True)
        lines = ["[project]", 'name = "px-consumer"', 'version = "0"']
        lines += ['requires-python = ">=3.11"', f"dependencies = {list(requirements)!r}", *more]
        (self.project / "pyproject.toml").write_text("\n".join(lines) + "\n")

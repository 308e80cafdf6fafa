"""A real ssh server of one's own: on loopback, with keys made for it, for the user who runs it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.hermetic import environment, wait_until
from tests.support.ports import HeldPort

_NEEDED = ("sshd", "ssh", "ssh-keygen", "rsync")
_SEPARATION = Path("/run/sshd")  # where root's sshd wants an empty folder


@dataclass(frozen=True, slots=True)
class SshServer:
    """`command` is the ssh to give to others, `host` what to write before the colon."""

    command: str
    host: str


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """A running one. Skips the test, with the reason, where its programs are not installed."""
    programs = {name: _program(name) for name in _NEEDED}
    if missing := [name for name, path in programs.items() if path is None]:
        pytest.skip(f"{', '.join(missing)} not installed (scripts/debian does, as root)")
    folder.mkdir(parents=True)
    for key in ("host", "user"):
        made = [str(programs["ssh-keygen"]), "-q", "-t", "ed25519", "-N", "", "-f", folder / key]
        subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
    held = HeldPort()
    port = held.number
    config = _write_config(folder, port)
    if os.geteuid() == 0:
        _SEPARATION.mkdir(mode=0o755, exist_ok=True)
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            [str(programs["sshd"]), "-D", "-e", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(folder / "home"),
        )
    try:
        wait_until(lambda: _runs(process, port, folder), "an ssh server")
        command = (
            f"ssh -F none -p {port} -i {folder / 'user'} -o BatchMode=yes -o IdentitiesOnly=yes "
            f"-o UserKnownHostsFile={folder / 'known_hosts'} -o StrictHostKeyChecking=yes"
        )
        yield SshServer(command, f"{getpass.getuser()}@127.0.0.1")
    finally:
        process.terminate()
        process.wait()
        held.close()


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _write_config(folder: Path, port: int) -> Path:
    public = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    config = folder / "sshd_config"
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'user.pub'}",
        "AuthenticationMethods publickey",
        "PermitRootLogin prohibit-password",
        "StrictModes no",  # temporary folders may be writable for others
        "UsePAM no",
        "PidFile none",
    ]
    config.write_text("\n".join(lines) + "\n")
    return config


def _runs(process: subprocess.Popen[bytes], port: int, folder: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError((folder / "sshd.log").read_text())
    return answers(port)


def answers(port: int) -> bool:
    """Whether somebody listens there, on loopback."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0):
            return True
    except OSError:
        return False

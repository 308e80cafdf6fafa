"""Clients of large files at any pace, many at a time, and what they cost the server."""

from __future__ import annotations

import hashlib
import resource
import select
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

PIECE = 1024**2
PATIENCE = 30.0  # seconds without a byte; only used up when something is broken
SMALL_BUFFER = 8192  # bytes the kernel may hold for a reader that means to be slow


class Reader:
    """One GET on a connection of its own; of the body it keeps the count and the digest only.

    It has asked when it is made; `begin` waits for the head of the answer.
    """

    def __init__(self, url: str, target: str, *, buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        if buffer is not None:  # before connecting: it decides the window that is announced
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((parts.hostname or "", parts.port or 80))
        self.socket.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        self.size = -1
        self.received = 0
        self._digest = hashlib.sha256()

    def begin(self) -> Self:
        """Read the head, which must be that of a 200 with a length."""
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.socket.recv(1)  # not a byte of the body
            assert piece, head
            head += piece
        assert head.startswith(b"HTTP/1.1 200 "), head
        lines = head.lower().split(b"\r\n")
        (self.size,) = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
        return self

    def read(self, count: int) -> int:
        """Read `count` more bytes, fewer only at the end of body or connection; how many."""
        wanted = min(count, self.size - self.received)
        left = wanted
        while left:
            piece = self.socket.recv(min(left, PIECE))
            if not piece:
                break
            left -= len(piece)
            self._digest.update(piece)
        self.received += wanted - left
        return wanted - left

    def read_all(self) -> str:
        """Read to the end; the sha256 of all that came."""
        self.read(self.size)
        return self._digest.hexdigest()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def need_descriptors(count: int) -> None:
    """Let this process have so many open at once, or skip the test where it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"needs {count} descriptors; the hard limit is {hard}")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def answering(sockets: Iterable[socket.socket], seconds: float) -> list[socket.socket]:
    """Those that have something to be read (or have been closed) after at most `seconds`."""
    poll, found = select.poll(), {}
    for one in sockets:
        poll.register(one, select.POLLIN)
        found[one.fileno()] = one
    return [found[descriptor] for descriptor, _ in poll.poll(seconds * 1000)]


def memory(pid: int, what: str = "VmRSS") -> int:
    """Bytes a process has in memory now; with `VmHWM` the most it ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(what)

"""TLS in memory: records that drip in, and what breaks behind a good one."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpcore
import pytest

from proxyindex.upstream.secure import SecureStream, secured
from proxyindex.upstream.tls import trusting
from tests.support.certificates import Certificates


class Peer(httpcore.AsyncNetworkStream):
    """The server's side. What it says goes to the client in the pieces of `script`, if there is
    one, each `pause` seconds after the one before."""

    def __init__(self, made: Certificates) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.cert, made.key)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.script: Iterator[bytes] | None = None
        self.pause = 0.0
        self._has_shaken = False

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.incoming.write(buffer)
        if not self._has_shaken:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                return
            self._has_shaken = True

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self.script is None:
            return self.outgoing.read()
        await anyio.sleep(self.pause)
        return next(self.script, b"")

    async def aclose(self) -> None:
        pass

    def record(self, data: bytes) -> bytes:
        """One record of what the server says, behind what it has not sent yet."""
        self.tls.write(data)
        return self.outgoing.read()


@pytest.fixture
def peer(tmp_path: Path) -> Peer:
    return Peer(Certificates.make(tmp_path))


async def shaken(peer: Peer, tmp_path: Path) -> SecureStream:
    return await secured(peer, trusting(tmp_path / "ca.pem"), "localhost", 10)


async def test_a_record_that_drips_in_is_given_up(peer: Peer, tmp_path: Path) -> None:
    stream = await shaken(peer, tmp_path)
    record = peer.record(b"x" * 10_000)
    peer.script, peer.pause = (record[at : at + 1] for at in range(len(record))), 0.01
    with anyio.fail_after(20), pytest.raises(httpcore.ReadTimeout):
        await stream.read(1000, timeout=0.1)


async def test_all_records_that_have_arrived_come_together(peer: Peer, tmp_path: Path) -> None:
    stream = await shaken(peer, tmp_path)
    first, second = peer.record(b"a" * 10), peer.record(b"b" * 10)
    peer.script = iter([first + second[:-1], second[-1:]])
    assert await stream.read(1000, timeout=10) == b"a" * 10
    assert await stream.read(1000, timeout=10) == b"b" * 10
    assert await stream.read(1000, timeout=10) == b""
    assert await stream.read(1000, timeout=10) == b""


async def test_an_end_that_is_told_needs_no_closed_connection(peer: Peer, tmp_path: Path) -> None:
    stream = await shaken(peer, tmp_path)
    record = peer.record(b"last")
    with pytest.raises(ssl.SSLWantReadError):  # it has said farewell, and waits for ours
        peer.tls.unwrap()
    peer.script = iter([record + peer.outgoing.read()])
    assert await stream.read(1000, timeout=10) == b"last"
    peer.pause = 1000
    assert await stream.read(1000, timeout=10) == b""


async def test_what_breaks_behind_a_good_record_is_no_end(peer: Peer, tmp_path: Path) -> None:
    stream = await shaken(peer, tmp_path)
    good, bad = peer.record(b"good"), bytearray(peer.record(b"bad"))
    bad[-1] ^= 1
    peer.script = iter([good + bad])
    assert await stream.read(1000, timeout=10) == b"good"
    for _ in range(2):
        with pytest.raises(ssl.SSLError):
            await stream.read(1000, timeout=10)

"""Connections to upstreams: the address that answers, and no more bytes than were asked for."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import anyio.lowlevel
import httpcore
import pytest
from anyio import to_thread

from proxyindex.upstream.wire import WireBackend
from tests.support.ports import HeldPort

Address = tuple[str, int]
Resolver = Callable[[list[Address]], None]


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Says which addresses (host, port) every name has."""

    def say(addresses: list[tuple[str, int]]) -> None:
        async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", found) for found in addresses]

        monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)

    return say


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def unused() -> Iterator[Callable[[], Address]]:
    """Makes addresses that refuse."""
    with ExitStack() as stack:
        yield lambda: ("127.0.0.1", stack.enter_context(HeldPort()).number)


async def peer(connection: httpcore.AsyncNetworkStream) -> tuple[str, int]:
    address: tuple[str, int] = connection.get_extra_info("socket").getpeername()
    await connection.aclose()
    return address


async def test_an_address_that_refuses_gives_way_to_the_next(
    resolves: Resolver, listener: socket.socket, unused: Callable[[], Address]
) -> None:
    resolves([unused(), listener.getsockname()])
    connection = await WireBackend().connect_tcp("two.example", 443, timeout=10)
    assert await peer(connection) == listener.getsockname()


async def test_an_address_that_is_silent_does_not_use_up_the_time(
    resolves: Resolver, listener: socket.socket, silent: tuple[str, int]
) -> None:
    resolves([silent, listener.getsockname()])
    connection = await WireBackend().connect_tcp("two.example", 443, timeout=10)
    assert await peer(connection) == listener.getsockname()


async def test_silence_of_all_is_a_time_out(resolves: Resolver, silent: tuple[str, int]) -> None:
    resolves([silent])
    with pytest.raises(httpcore.ConnectTimeout):
        await WireBackend().connect_tcp("silent.example", 443, timeout=0.5)


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_where_nobody_listens_there_is_no_connection(
    resolves: Resolver, count: int, unused: Callable[[], Address]
) -> None:
    resolves([unused() for _ in range(count)])
    with pytest.raises(httpcore.ConnectError):
        await WireBackend().connect_tcp("gone.example", 443, timeout=10)


async def test_a_sender_is_held_up_by_a_reader_that_does_not_read(
    resolves: Resolver, listener: socket.socket
) -> None:
    resolves([listener.getsockname()])
    connection = await WireBackend().connect_tcp("fast.example", 443, timeout=10)
    sender, _ = await to_thread.run_sync(listener.accept)
    with sender:
        sender.setblocking(False)
        sent, is_held_up = 0, False
        while not is_held_up and sent < 256 * 1024**2:
            try:
                sent += sender.send(bytes(1024**2))
            except BlockingIOError:
                is_held_up = True
            await anyio.lowlevel.checkpoint()  # the event loop may read if it would
        assert is_held_up
        received = await connection.read(1000)
        assert len(received) == 1000
    await connection.aclose()


async def test_a_connection_that_is_reset_is_an_error_of_the_network(
    resolves: Resolver, listener: socket.socket
) -> None:
    resolves([listener.getsockname()])
    connection = await WireBackend().connect_tcp("rude.example", 443, timeout=10)
    sender, _ = await to_thread.run_sync(listener.accept)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sender.close()
    with pytest.raises(httpcore.ReadError):
        await connection.read(1000)
    assert connection.get_extra_info("ssl_object") is None
    await connection.aclose()


async def test_addresses_that_do_not_answer_are_asked_for_again(
    resolves: Resolver, listener: socket.socket, unused: Callable[[], Address]
) -> None:
    backend = WireBackend()
    resolves([unused()])
    with pytest.raises(httpcore.ConnectError):
        await backend.connect_tcp("host.example", 80, timeout=10)
    resolves([listener.getsockname()])
    assert await peer(await backend.connect_tcp("host.example", 80, timeout=10))
    # and those that did are not
    resolves([unused()])
    assert await peer(await backend.connect_tcp("host.example", 80, timeout=10))

"""The address that was judged is the address that is connected to, and there is no way around."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpcore
import pytest
from anyio.abc import SocketAttribute, SocketStream

from proxyindex.errors import UpstreamInvalid
from proxyindex.upstream import hostnames, wire
from proxyindex.upstream.client import Client
from proxyindex.upstream.connection import Connection
from proxyindex.upstream.network import ClosedNetwork, GuardedBackend
from proxyindex.upstream.pool import Pool
from proxyindex.upstream.ways import Straight
from proxyindex.upstream.wire import Wire

PUBLIC, OTHER_PUBLIC, PRIVATE, METADATA = "192.0.2.7", "192.0.2.8", "10.0.0.5", "169.254.169.254"
NAMES = {
    "files.corp.example": [PUBLIC],
    "two.corp.example": [PUBLIC, OTHER_PUBLIC],
    "many.corp.example": [f"192.0.2.{number}" for number in range(100)],
    "same.corp.example": [PUBLIC, PUBLIC],
    "inside.corp.example": [PRIVATE],
    "mixed.corp.example": [PUBLIC, PRIVATE],
    "cloud.corp.example": [METADATA],
    "six.corp.example": ["fe80::1%eth0"],
    "mapped.corp.example": ["::ffff:127.0.0.1"],
    "nothing.corp.example": [],
}


connected = wire._connected


class Network:
    """A name server whose answers are counted, and connections that are written down and made to
    a loopback server instead: that at `port`, or one of `others` by address."""

    def __init__(self) -> None:
        self.port = 0
        self.others: dict[str, tuple[str, int]] = {}
        self.resolved: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self.dead: dict[str, OSError] = {}

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        self.resolved.append(host)
        if host not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in NAMES[host]]

    async def connect(self, family: int, kind: int, protocol: int, _: str, address: Any) -> Wire:
        host, port = address[:2]
        self.connected.append((host, port))
        if host in self.dead:
            raise self.dead[host]
        there = self.others.get(host, ("127.0.0.1", self.port))
        return await connected(socket.AF_INET, kind, protocol, "", there)


@asynccontextmanager
async def serving(answers: dict[bytes, bytes]) -> AsyncIterator[int]:
    """A server on loopback that answers by Host; its port."""

    async def answer(stream: SocketStream) -> None:
        head = b""
        async with stream:
            while b"\r\n\r\n" not in head:
                try:
                    head += await stream.receive()
                except anyio.EndOfStream:
                    return
            host = head.lower().split(b"\r\nhost: ")[1].split(b"\r\n")[0]
            await stream.send(answers[host])

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, answer)
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


def redirect(url: str) -> bytes:
    return (
        f"HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ).encode()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> Network:
    """With the machine's own resolver."""
    made = Network()
    monkeypatch.setattr(wire, "_connected", made.connect)
    return made


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, unnamed: Network) -> Network:
    monkeypatch.setattr(anyio, "getaddrinfo", unnamed.getaddrinfo)
    return unnamed


def guarded(*trusted: str) -> GuardedBackend:
    return GuardedBackend(lambda host: host in trusted)


def client_of(url: str) -> Client:
    return Client(Connection("up", url, "px"))


def pool_of(client: Client) -> Pool:
    way = client._ways.straight
    assert isinstance(way, Straight)
    return way.pool


@pytest.mark.parametrize(
    "host",
    [
        "inside.corp.example",
        "mixed.corp.example",  # one closed address is enough
        "cloud.corp.example",
        "six.corp.example",
        "mapped.corp.example",
    ],
)
async def test_a_closed_address_is_never_connected_and_told_once(
    network: Network, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ClosedNetwork, match="closed network"):
        await guarded().connect_tcp(host, 443, timeout=20)
    assert network.resolved == [host]
    assert network.connected == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("host", ["nothing.corp.example", "unknown.corp.example"])
async def test_an_unknown_name_is_never_connected(network: Network, host: str) -> None:
    with pytest.raises(httpcore.ConnectError):
        await guarded().connect_tcp(host, 443, timeout=20)
    assert network.resolved == [host]
    assert network.connected == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "169.254.169.254", "10.0.0.1"])
async def test_a_literal_closed_address_is_refused_by_the_real_resolver(
    unnamed: Network, host: str
) -> None:
    with pytest.raises(ClosedNetwork, match="closed network"):
        await guarded().connect_tcp(host, 443, timeout=20)
    assert unnamed.connected == []


async def test_a_name_that_no_dns_can_hold_is_no_connection() -> None:
    with pytest.raises(httpcore.ConnectError):
        await guarded().connect_tcp("x\udcff", 443, timeout=20)


async def test_the_address_connected_is_the_one_judged_and_resolved_once(network: Network) -> None:
    async with serving({}) as network.port:
        stream = await guarded().connect_tcp("two.corp.example", 8443, timeout=20)
        await stream.aclose()
    assert network.resolved == ["two.corp.example"]
    assert network.connected == [(PUBLIC, 8443)]


@pytest.mark.parametrize("problem", [ConnectionRefusedError, TimeoutError])
async def test_the_next_judged_address_is_tried_when_one_is_dead(
    network: Network, problem: type[OSError]
) -> None:
    network.dead[PUBLIC] = problem("dead")
    async with serving({}) as network.port:
        stream = await guarded().connect_tcp("two.corp.example", 443, timeout=20)
        await stream.aclose()
    assert network.resolved == ["two.corp.example"]
    assert network.connected == [(PUBLIC, 443), (OTHER_PUBLIC, 443)]


async def test_the_last_problem_is_told_when_all_addresses_are_dead(network: Network) -> None:
    network.dead = {PUBLIC: OSError("one"), OTHER_PUBLIC: OSError("2")}
    with pytest.raises(httpcore.ConnectError, match="2"):
        await guarded().connect_tcp("two.corp.example", 443, timeout=20)
    assert network.connected == [(PUBLIC, 443), (OTHER_PUBLIC, 443)]


async def test_an_address_that_is_silent_has_a_head_start_and_no_more(
    network: Network, silent: tuple[str, int]
) -> None:
    network.others[PUBLIC] = silent
    async with serving({}) as network.port:
        with anyio.fail_after(5):
            stream = await guarded().connect_tcp("two.corp.example", 443, timeout=60)
        await stream.aclose()
    assert network.resolved == ["two.corp.example"]
    assert network.connected == [(PUBLIC, 443), (OTHER_PUBLIC, 443)]


async def test_the_time_is_for_all_addresses_together(
    network: Network, silent: tuple[str, int]
) -> None:
    network.others = {PUBLIC: silent, OTHER_PUBLIC: silent}
    with anyio.fail_after(5), pytest.raises(httpcore.ConnectTimeout):
        await guarded().connect_tcp("two.corp.example", 443, timeout=1)
    assert network.connected == [(PUBLIC, 443), (OTHER_PUBLIC, 443)]


async def test_a_name_with_a_hundred_addresses_is_tried_at_four(network: Network) -> None:
    network.dead = {a: OSError(a) for a in NAMES["many.corp.example"]}
    with pytest.raises(httpcore.ConnectError):
        await guarded().connect_tcp("many.corp.example", 443)
    assert len(network.connected) == 4


async def test_an_address_told_twice_is_tried_once(network: Network) -> None:
    network.dead = {PUBLIC: OSError("dead")}
    with pytest.raises(httpcore.ConnectError):
        await guarded().connect_tcp("same.corp.example", 443, timeout=20)
    assert network.connected == [(PUBLIC, 443)]


async def test_a_trusted_name_is_connected_as_it_is(network: Network) -> None:
    async with serving({}) as network.port:
        backend = guarded("inside.corp.example")
        stream = await backend.connect_tcp("inside.corp.example", 80, timeout=20)
        await stream.aclose()
    assert network.connected == [(PRIVATE, 80)]


async def test_trusted_names_are_remembered_whatever_others_are_asked_for(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostnames, "_MOST_HOSTS", 1)
    judged, trusted = "files.corp.example", "inside.corp.example"
    backend = guarded(trusted)
    async with serving({}) as network.port:
        for host in (trusted, judged, trusted, judged):
            await (await backend.connect_tcp(host, 80, timeout=20)).aclose()
    assert network.resolved == [trusted, judged, judged]


async def test_a_name_server_that_is_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch, network: Network
) -> None:
    async def silent(*_: object, **__: object) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(anyio, "getaddrinfo", silent)
    with pytest.raises(httpcore.ConnectTimeout):
        await guarded().connect_tcp("files.corp.example", 80, timeout=0.01)
    assert network.connected == []


async def test_the_pool_of_a_client_uses_the_guard() -> None:
    client = Client(Connection("up", "https://pypi.corp.example/", "px"), max_connections=7)
    pool = pool_of(client)
    assert isinstance(pool._network_backend, GuardedBackend)
    assert pool._slots.value == 7
    await client.aclose()


async def test_a_family_host_is_reached_at_its_checked_address(network: Network) -> None:
    async with serving({b"files.corp.example": OK}) as network.port:
        client = client_of("http://pypi.corp.example/")
        async with client.get("http://files.corp.example/x", {}) as reply:
            assert await reply.text(10) == b"ok"
        await client.aclose()
    assert network.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize("host", ["inside.corp.example", "cloud.corp.example"])
async def test_a_redirect_into_a_closed_network_is_not_followed(
    network: Network, host: str
) -> None:
    answers = {b"files.corp.example": redirect(f"http://{host}/x")}
    async with serving(answers) as network.port:
        client = client_of("http://pypi.corp.example/")
        with pytest.raises(UpstreamInvalid):
            async with client.get("http://files.corp.example/x", {}):
                pass
        await client.aclose()
    assert network.resolved == ["files.corp.example", host]
    assert network.connected == [(PUBLIC, 80)]


async def test_a_name_that_moves_between_two_answers_is_judged_again(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving({b"files.corp.example": OK}) as network.port:
        client = client_of("http://pypi.corp.example/")
        async with client.get("http://files.corp.example/x", {}) as reply:
            await reply.text(10)
        monkeypatch.setitem(NAMES, "files.corp.example", [PRIVATE])
        with pytest.raises(UpstreamInvalid):
            async with client.get("http://files.corp.example/x", {}):
                pass
        await client.aclose()
    assert network.connected == [(PUBLIC, 80)]

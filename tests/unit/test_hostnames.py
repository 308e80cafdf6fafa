"""Addresses of hosts: asked for once for many, and old ones rather than none."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from proxyindex.upstream import hostnames
from proxyindex.upstream.hostnames import Hostnames

HOST = ("pypi.corp.example", 443)


class NameServer:
    """Answers in turn: an address, an error, or `None` for nothing at all."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        if answer is None:
            await anyio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))]


def asked_of(monkeypatch: pytest.MonkeyPatch, *answers: str | Exception | None) -> NameServer:
    server = NameServer(*answers)
    monkeypatch.setattr(anyio, "getaddrinfo", server.getaddrinfo)
    return server


async def address(names: Hostnames) -> str:
    (entry,) = await names.addresses(*HOST)
    found: str = entry[4][0]
    return found


async def test_many_connections_at_once_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    server, names, found = asked_of(monkeypatch, "192.0.2.1", "192.0.2.2"), Hostnames(), []

    async def one() -> None:
        found.append(await address(names))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(one)
    assert found == ["192.0.2.1"] * 50
    assert server.asked == 1
    assert await address(names) == "192.0.2.1"
    names.forget(*HOST)
    assert await address(names) == "192.0.2.2"


async def test_it_is_asked_again_when_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostnames, "_FRESH_SECONDS", 0.0)
    asked_of(monkeypatch, "192.0.2.1", "192.0.2.2")
    names = Hostnames()
    assert [await address(names) for _ in range(3)] == ["192.0.2.1", "192.0.2.2", "192.0.2.2"]


BUSY = socket.gaierror(socket.EAI_AGAIN, "try again")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "unknown")


@pytest.mark.parametrize("problem", [BUSY, None])
async def test_an_old_answer_is_better_than_none(
    monkeypatch: pytest.MonkeyPatch, problem: Exception | None
) -> None:
    monkeypatch.setattr(hostnames, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(hostnames, "_LOST_SECONDS", 0.01)
    server, names = asked_of(monkeypatch, "192.0.2.1", problem), Hostnames()
    assert [await address(names) for _ in range(3)] == ["192.0.2.1"] * 3
    assert server.asked == 3


async def test_a_host_that_is_gone_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostnames, "_FRESH_SECONDS", 0.0)
    asked_of(monkeypatch, "192.0.2.1", UNKNOWN)
    names = Hostnames()
    await address(names)
    with pytest.raises(socket.gaierror):
        await address(names)


async def test_a_question_that_was_lost_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostnames, "_LOST_SECONDS", 0.01)
    server = asked_of(monkeypatch, None, "192.0.2.1")
    assert await address(Hostnames()) == "192.0.2.1"
    assert server.asked == 2


async def test_whoever_leaves_keeps_nobody_from_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    server, names = asked_of(monkeypatch, None, "192.0.2.1"), Hostnames()
    with anyio.move_on_after(0.01):
        await address(names)
    assert await address(names) == "192.0.2.1"
    assert server.asked == 2


async def test_an_error_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_of(monkeypatch, UNKNOWN, "192.0.2.1")
    names = Hostnames()
    with pytest.raises(socket.gaierror):
        await address(names)
    assert await address(names) == "192.0.2.1"


async def test_families_take_turns_so_that_a_dead_one_costs_one_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    told = [(six, "2001:db8::1"), (six, "2001:db8::2"), (six, "2001:db8::1"), (six, "2001:db8::3")]
    told += [(four, "192.0.2.1"), (four, "192.0.2.2")]

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in told]

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    found = [entry[4][0] for entry in await Hostnames().addresses(*HOST)]
    assert found == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"]

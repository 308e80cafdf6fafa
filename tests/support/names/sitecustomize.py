"""Gives a child interpreter a name server and a network of the test's own.

Python imports a module of this name at start: put this folder on `PYTHONPATH`, and into
`TEST_NETWORK` a JSON object: `names` (a host's answers, one list of addresses per question, the
last for ever), `port` (where every connection that is let through leads, on loopback), `dead`
(addresses that refuse) and `log`. Each line of the log is a JSON list: "resolved" and a host, or
"connected", an address, and a port. `tests/faults/test_border.py` reads it.
"""

import json
import os
import socket
from typing import Any


def _begin(settings: dict[str, Any]) -> None:
    import anyio  # noqa: PLC0415 - not in every interpreter that finds this module

    from proxyindex.upstream import wire  # noqa: PLC0415

    names: dict[str, list[list[str]]] = settings["names"]
    connect = wire._connected

    def note(*what: object) -> None:
        with open(settings["log"], "a") as log:
            log.write(json.dumps(what) + "\n")

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        note("resolved", host)
        if not (answers := names.get(host)):
            raise socket.gaierror(socket.EAI_NONAME, "unknown here")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    async def connected(*entry: Any) -> wire.Wire:
        *kind, (host, port) = entry
        note("connected", host, port)
        if host in settings["dead"]:
            raise ConnectionRefusedError
        return await connect(*kind, ("127.0.0.1", settings["port"]))

    anyio.getaddrinfo = getaddrinfo
    wire._connected = connected


if "TEST_NETWORK" in os.environ:
    _begin(json.loads(os.environ["TEST_NETWORK"]))

"""What one configuration serves, and which index of it a request is for.

A house is replaced as a whole when the configuration is read again; a request stays in the one it
has entered.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from proxyindex.web.accesslog import HOUSES_KEY
from proxyindex.web.credentials import basic
from proxyindex.web.express import Express
from proxyindex.web.health import Health
from proxyindex.web.index import IndexService

# what there is below the name of an index; `/metrics`, for one, is there only once
_PARTS = frozenset({"", "simple", "legacy", "api", "pypi"})
_DESCRIPTION = "/json"  # ends what is asked for directly below a name


@dataclass(slots=True, eq=False)
class House:
    """Indexes by name, the `default` one among them, and what else a configuration decides.

    `landing` has the page for people of each index, and under no name the one of all.
    `public_url`: by which clients know us, empty where that is not told.
    `transfers` tells how many downloads are under way, `idle` waits until there is none.
    """

    indexes: Mapping[str, IndexService]
    default: str
    select_by_user: bool
    public_url: str
    landing: Mapping[str, bytes]
    health: Health
    express: Express
    transfers: Callable[[], int]
    idle: Callable[[], Awaitable[None]]
    _guests: int = 0
    _is_retired: bool = False
    _empty: anyio.Event = field(default_factory=anyio.Event)

    @contextmanager
    def guest(self) -> Iterator[None]:
        """For the time of one request."""
        self._guests += 1
        try:
            yield
        finally:
            self._guests -= 1
            self._look()

    def targets(self, source: IndexService) -> dict[str, IndexService]:
        """The indexes by name that files of this one can be pushed to."""
        others = ((name, one) for name, one in self.indexes.items() if one is not source)
        return {name: one for name, one in others if one.publisher is not None}

    def has_one_guest(self) -> bool:
        """Whether one request at most is being answered, but for those from memory."""
        return self._guests <= 1

    def retire(self) -> None:
        """No request will enter any more."""
        self._is_retired = True
        self.express.close()
        self._look()

    async def empty(self) -> None:
        """Wait until it is retired and the last request has left."""
        await self._empty.wait()

    def _look(self) -> None:
        if self._is_retired and not self._guests:
            self._empty.set()


class Houses(Protocol):
    """Knows the house that requests enter now."""

    @property
    def current(self) -> House: ...


class Reception:
    """ASGI middleware: shows each request into the present house, to the index it is for.

    `/NAME/…` is for the index NAME; its name is moved from the path into `root_path`, so that
    what follows sees the addresses of a single index. Everything else is for the default index, or
    for the one that the user name tells where the configuration allows that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        house: House = state[HOUSES_KEY].current
        below = scope["path"].removeprefix(scope["root_path"])
        _, first, *rest = below.split("/", 2)
        name, prefix = house.default, ""
        if first in house.indexes:
            if not rest:
                await RedirectResponse(f"{scope['root_path']}/{first}/", 301)(scope, receive, send)
                return
            if rest[0].partition("/")[0] in _PARTS or rest[0].endswith(_DESCRIPTION):
                name = prefix = first
                scope["root_path"] += f"/{first}"
        elif house.select_by_user and (user := basic_user(scope["headers"])) in house.indexes:
            name = str(user)
        index, landing = house.indexes[name], house.landing[prefix]
        state |= {"house": house, "index": index, "landing": landing}
        with house.guest():
            await self._app(scope, receive, send)


def basic_user(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """The user name of Basic credentials, believed or not."""
    for name, value in headers:
        if name == b"authorization" and (pair := basic(value)):
            return pair[0]
    return None

"""The servers under test, by name, in the order of the columns."""

from bench.servers.base import Server
from bench.servers.devpi import Devpi
from bench.servers.limits import RawAsgi, Sendfile, Starlette
from bench.servers.nginx import NginxCache, NginxStatic
from bench.servers.ours import ProxyIndex
from bench.servers.proxpi import Proxpi
from bench.servers.simple_repository import SimpleRepository

ALL: tuple[Server, ...] = (
    ProxyIndex(),
    RawAsgi(),
    Sendfile(),
    Starlette(),
    NginxStatic(),
    NginxCache(),
    Proxpi(),
    Devpi(),
    SimpleRepository(),
)
SERVERS = {server.name: server for server in ALL}

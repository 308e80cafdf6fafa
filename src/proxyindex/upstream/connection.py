"""How one upstream is spoken to, as the configuration says."""

import ssl
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Connection:
    """How to speak to one upstream. Times in seconds; `via` names this server to others.

    `tls` takes 30 ms to make, and is made by the first who needs it unless it is given.
    """

    name: str
    url: str
    via: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    proxy: str | None = field(default=None, repr=False)
    connect_timeout: float = 3.0
    read_timeout: float = 20.0
    max_connections: int = 20
    file_hosts: tuple[str, ...] = ()

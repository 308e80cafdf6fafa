"""Running the server: sockets, processes, signals, and the HTTP protocol's bounds."""

from proxyindex.server.listen import StartError
from proxyindex.server.run import serve

__all__ = ["StartError", "serve"]

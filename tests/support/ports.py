"""Ports of loopback that nobody else is given between their choice and their use."""

from __future__ import annotations

import socket
import sys
import weakref
from typing import Self


class HeldPort:
    """A free port, reserved until it is closed or forgotten.

    On Linux a socket is bound to it that never listens: the system gives the port to nobody who
    asks for any, a connection is refused while nobody listens there, and who names it may listen
    if it sets SO_REUSEADDR, as servers do. Elsewhere that would be in their way.
    """

    def __init__(self) -> None:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        self.number: int = holder.getsockname()[1]
        self.close = weakref.finalize(self, holder.close)
        if sys.platform != "linux":
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

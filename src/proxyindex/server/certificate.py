"""The certificate by which clients know this server, read again while it serves."""

import ssl
from collections.abc import Callable


class Certificate:
    """What uvicorn makes of the files it was told.

    The listening context is never changed. Each handshake begins in it and is led into the newest
    one, which was made whole before. Loading into the context in use could leave it with a key that
    does not fit, and would keep the old certificate where the new one has another kind of key.
    Connections keep what they began with.
    """

    def __init__(self) -> None:
        self._make: Callable[[], ssl.SSLContext] | None = None
        self._loaded: ssl.SSLContext | None = None
        self._newest: ssl.SSLContext | None = None

    def context(self, config: object, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """The context to listen with; uvicorn's `make` gives one with the files as they are."""
        self._make = make
        listening = make()
        listening.sni_callback = self._lead  # also for clients that name no server
        return listening

    def load(self) -> None:
        """Read the files; `take` makes the result effective. Blocks. Raises `OSError`."""
        assert self._make is not None
        self._loaded = self._make()

    def take(self) -> None:
        """Show what was loaded last from the next handshake on."""
        self._newest = self._loaded

    def _lead(self, connection: ssl.SSLObject, name: str | None, listening: ssl.SSLContext) -> None:
        if self._newest is not None:
            connection.context = self._newest

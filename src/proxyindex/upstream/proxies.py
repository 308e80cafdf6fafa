"""Forward proxies: the configured one for every request, else the environment's, as pip has it."""

import urllib.request
from urllib.parse import urlsplit


class Proxies:
    """Which proxy a request goes through; the environment is read once, here."""

    def __init__(self, configured: str | None) -> None:
        self._configured = configured
        self._variables = {} if configured else urllib.request.getproxies_environment()

    def of(self, url: str) -> str | None:
        """The proxy on the way to `url`; `None` if there is none."""
        if self._configured:
            return self._configured
        parts = urlsplit(url)
        proxy = self._variables.get(parts.scheme) or self._variables.get("all")
        return proxy if proxy and not self._is_excepted(parts.netloc) else None

    def _is_excepted(self, netloc: str) -> bool:
        """By NO_PROXY. Where systems have settings of their own for it, those are not asked."""
        excepts = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]
        return bool(excepts(netloc, self._variables))

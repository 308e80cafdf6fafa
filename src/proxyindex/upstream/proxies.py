"""Forward proxies: the configured one for every request, else the environment's, as pip has it."""

import re
import urllib.request
from urllib.parse import urlsplit

from proxyindex.errors import ProxyindexError
from proxyindex.texts import is_host


class ProxyUnusable(ProxyindexError):
    """A variable of the environment names no proxy that can be used; its value may be secret."""

    def __init__(self, scheme: str) -> None:
        super().__init__(
            f"The variable {scheme}_proxy (or {scheme.upper()}_PROXY) holds no http(s) proxy such "
            "as http://proxy.example:3128."
        )


class Proxies:
    """Which proxy a request goes through; the environment is read once, here."""

    def __init__(self, configured: str | None) -> None:
        self._configured = configured
        self._variables = {} if configured else urllib.request.getproxies_environment()

    def of(self, url: str) -> str | None:
        """The proxy on the way to `url`; `None` if there is none. Raises `ProxyUnusable`."""
        if self._configured:
            return self._configured
        parts = urlsplit(url)
        scheme = parts.scheme if parts.scheme in self._variables else "all"
        if scheme not in self._variables or self._is_excepted(parts.netloc):
            return None
        return _read(self._variables[scheme], scheme)

    def _is_excepted(self, netloc: str) -> bool:
        """By NO_PROXY. Where systems have settings of their own for it, those are not asked."""
        excepts = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]
        return bool(excepts(netloc, self._variables))


def _read(text: str, scheme: str) -> str:
    """A variable's proxy, judged as the option is; `host:port` is one as well, as for pip."""
    proxy = text.strip() if "://" in text else f"http://{text.strip()}"
    try:
        parts = urlsplit(proxy)
        has_host = is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        raise ProxyUnusable(scheme) from None
    if parts.scheme not in {"http", "https"} or not has_host or re.search(r"[\s\\?#]", proxy):
        raise ProxyUnusable(scheme)
    return proxy

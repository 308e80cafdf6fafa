"""The door to httpx for what we send to others; `upstream/client.py` is the one for what we fetch.

Two doors, for they share nothing: that one guards a server against what pages may point at, this
one sends what a person said to where the person said, credentials included, and follows nothing.
"""

from __future__ import annotations

import html
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from proxyindex.errors import ProxyindexError
from proxyindex.publishing.credentials import Credentials
from proxyindex.upstream.tls import trusting
from proxyindex.version import __version__

Transport = httpx.BaseTransport  # what stands in for the network in tests
MAX_PAGE = 64 * 1024**2
_MAX_TEXT = 64 * 1024
_SHOWN = 500  # characters of a server's message
_TAG = re.compile(r"<[^>]*>")
# an index may read, check and copy two gigabytes before it answers
_TIMEOUT = httpx.Timeout(600.0, connect=15.0, write=60.0, pool=15.0)
_LOCATION = "proxyindex.location"
# not yet valid, expired, of another name, of another address (OpenSSL's X509_V_ERR_…)
_NO_MATTER_OF_AUTHORITY = frozenset({9, 10, 62, 64})


class Unreachable(ProxyindexError):
    """There was no answer; the same request may be sent again."""

    def __init__(self, host: str, problem: str) -> None:
        super().__init__(f"{host} {problem}.")


class Untrusted(ProxyindexError):
    """The server's certificate is of an authority that is not trusted: sending again is no use."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"The server's certificate is not trusted ({problem}). Name the PEM file of the "
            "authority that signed it with --ca-file."
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` have lower-case names; `location` is where a redirect leads, as it was sent."""

    status: int
    reason: str
    body: bytes
    location: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def said(self, known: Credentials | None) -> str:
        """What it says to a person, on one line; else its reason phrase. Without `known`."""
        hidden = known.hide if known else str
        text = hidden(self.body.decode("utf-8", "replace"))  # before tags are looked for in it
        if "html" in self.headers.get("content-type", ""):
            text = html.unescape(_TAG.sub(" ", text))
        text = " ".join(text.split())
        text = hidden("".join(c for c in text if c.isprintable()))  # as it would be shown
        return text[:_SHOWN] or hidden(self.reason)

    def leads(self) -> str:
        """A redirect's target as it may be shown: no user information, no query."""
        bare = self.location.partition("?")[0].partition("#")[0]
        scheme, mark, rest = bare.rpartition("//")
        host, slash, path = rest.partition("/")
        return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"[:_SHOWN]


class Client:
    """Requests with each origin's own credentials. To be closed. `transport` is for tests.

    Raises `OSError` for a CA file that holds no certificates, and `ProxyindexError` for variables
    of the environment that name no usable proxy.
    """

    def __init__(
        self,
        logins: Mapping[str, Credentials],
        *,
        ca_file: Path | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._logins = logins
        trust = trusting(ca_file)
        try:
            self._http = self._made(trust, transport)
        except (httpx.InvalidURL, ValueError, ImportError) as problem:  # whose texts may be secret
            raise ProxyindexError(
                "One of the variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY cannot be "
                "used; a proxy is written as http://proxy.example:3128."
            ) from problem

    def _made(self, trust: ssl.SSLContext, transport: Transport | None) -> httpx.Client:
        return httpx.Client(
            transport=transport,
            verify=trust,
            timeout=_TIMEOUT,
            follow_redirects=False,  # credentials and bytes go nowhere else
            trust_env=transport is None,  # forward proxies; netrc is not read by httpx itself
            event_hooks={"response": [_hide_location]},
            headers={"User-Agent": f"proxyindex/{__version__}"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )

    def post(self, url: str, content_type: str, length: int, pieces: Iterator[bytes]) -> Answer:
        """Send a body of this length, piece by piece. Raises `Unreachable` and `Untrusted`."""
        headers = {
            "Content-Type": content_type,
            "Content-Length": str(length),
            "Accept": "text/plain, */*;q=0.5",
        }
        return self._answer("POST", url, headers, pieces, _MAX_TEXT)

    def get(self, url: str, accept: str) -> Answer:
        """The answer to a GET that no cache answers. Raises `Unreachable` and `Untrusted`."""
        headers = {"Accept": accept, "Cache-Control": "no-cache", "Accept-Encoding": "identity"}
        return self._answer("GET", url, headers, None, MAX_PAGE)

    def ask(self, method: str, url: str, document: bytes | None) -> Answer:
        """The answer of an API that takes and gives JSON. Raises `Unreachable` and `Untrusted`."""
        headers = {"Accept": "application/json, text/plain;q=0.5"}
        if document is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(document))}
        return self._answer(method, url, headers, document, MAX_PAGE)

    def close(self) -> None:
        self._http.close()

    def _answer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: Iterator[bytes] | bytes | None,
        limit: int,
    ) -> Answer:
        with _mapped(urlsplit(url).netloc):
            request = self._http.build_request(method, url, headers=headers, content=content)
            response = self._http.send(request, stream=True, auth=self._auth(url))
            try:
                body = _read(response, limit)
            finally:
                response.close()
        return Answer(
            response.status_code,
            response.reason_phrase,
            body,
            response.extensions.get(_LOCATION, ""),
            dict(response.headers),
        )

    def _auth(self, url: str) -> httpx.BasicAuth | None:
        known = self._logins.get(origin(url))
        return httpx.BasicAuth(known.username, known.password) if known else None


def origin(url: str) -> str:
    """Scheme, host and port: whom credentials are for."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def _read(response: httpx.Response, limit: int) -> bytes:
    """The decoded body, cut off at the limit: a message is for people, a page that long is none."""
    body = bytearray()
    try:
        for piece in response.iter_bytes():
            body += piece
            if len(body) > limit:
                break
    except httpx.HTTPError:
        # an answer to half an upload is often torn; its status stands
        if response.status_code < 400:
            raise
    return bytes(body[: limit + 1])


def _hide_location(response: httpx.Response) -> None:
    """httpx parses a redirect's target even where it follows none, and breaks where it cannot."""
    if "location" in response.headers:
        response.extensions[_LOCATION] = response.headers.pop("location")


@contextmanager
def _mapped(host: str) -> Iterator[None]:
    """httpx's exceptions as ours, whose texts name the host and nothing else of the URL."""
    try:
        yield
    except httpx.TimeoutException as problem:
        raise Unreachable(host, "did not answer in time") from problem
    except httpx.ConnectError as problem:
        if (distrust := _distrust(problem)) is not None:
            raise Untrusted(distrust) from problem
        raise Unreachable(host, f"cannot be reached ({problem})") from problem
    except httpx.InvalidURL as problem:
        raise ProxyindexError(f"The URL cannot be used: {problem}.") from problem
    except UnicodeError as problem:  # of Python's look-up, which knows other names than httpx
        raise ProxyindexError(
            f"{host} cannot be reached: it, or the proxy on the way there, has a name that cannot "
            "be looked up."
        ) from problem
    except (httpx.HTTPError, httpx.StreamError) as problem:
        raise Unreachable(host, "broke the connection") from problem


def _distrust(problem: BaseException) -> str | None:
    """Why the authority is not trusted, if the connection failed for that."""
    cause: BaseException | None = problem
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None or cause.verify_code in _NO_MATTER_OF_AUTHORITY:
        return None
    return str(cause.verify_message)

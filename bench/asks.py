"""Requests for warm pages, the check of their answers, and the same bytes for the limits."""

from __future__ import annotations

import gzip
import json
import ssl
import urllib.request
from dataclasses import dataclass, field

from bench import catalogue, client
from bench.client import Answer, Request
from bench.errors import Unavailable, WrongAnswer
from bench.lab import Lab
from bench.servers.base import Site, links

_FORMS = {"json": catalogue.JSON_TYPE, "html": "text/html"}
# What the limits' own servers say, or what belongs to one connection
_NOT_OURS = {"date", "server", "connection", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True, slots=True)
class PageAsk:
    """A request for a project page in a form and coding, perhaps one the client has already."""

    project: str
    form: str = "json"
    is_gzip: bool = False
    is_conditional: bool = False
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        coding = "gzip" if self.is_gzip else "identity"
        headers = {"Accept": _FORMS[self.form], "Accept-Encoding": coding}
        object.__setattr__(self, "headers", headers)

    @property
    def key(self) -> str:
        words = [self.project, self.form, "gzip" if self.is_gzip else "plain"]
        return "-".join([*words, *(["304"] if self.is_conditional else [])])

    def request(self, lab: Lab, site: Site) -> Request:
        """The request for this site, whose answer has been checked. Raises `Unavailable`."""
        if site.is_limit:
            size = capture(lab, self)
            request = self._conditional(Request(f"{site.url}/answer/{self.key}", self.headers))
            _, body = client.body(request)
            if not self.is_conditional and len(body) != size:
                raise WrongAnswer(f"{len(body)} bytes instead of {size}")
            return request
        request = self._conditional(Request(site.page(self.project), self.headers))
        if not self.is_conditional:
            self.check(*client.body(request))
        return request

    def check(self, answer: Answer, body: bytes) -> None:
        """Raises `Unavailable` if this is not the page that was asked for."""
        if answer.status != 200:
            raise WrongAnswer(f"status {answer.status}")
        is_gzip = answer.headers.get("content-encoding") == "gzip"
        if self.is_gzip and not is_gzip:
            raise Unavailable("does not compress pages")
        if self.form not in answer.headers.get("content-type", ""):
            raise Unavailable(f"has no {self.form.upper()} pages")
        plain = gzip.decompress(body) if is_gzip else body
        names = {name for name, _ in links(answer, plain)}
        wanted = set(catalogue.filenames(self.project))
        if names != wanted:
            raise WrongAnswer(f"{len(names & wanted)} of {len(wanted)} files are on the page")

    def _conditional(self, request: Request) -> Request:
        """The request with the ETag of its answer, if that is wanted and offered."""
        if not self.is_conditional:
            return request
        answer = client.one(request)
        if answer.status == 304:
            return request
        if not (etag := answer.headers.get("etag")):
            raise Unavailable("pages have no ETag")
        request = Request(request.url, {**request.headers, "If-None-Match": etag})
        if client.one(request).status != 304:
            raise Unavailable("answers 304 to no page")
        return request


def capture(lab: Lab, ask: PageAsk) -> int:
    """Keep our own answer for the limits to serve; the length of its body."""
    folder = lab.answers / "answer"
    site = lab.running("proxyindex")
    answer, body = client.body(ask.request(lab, site))
    pairs = [(name, value) for name, value in answer.headers.items() if name not in _NOT_OURS]
    head = {"status": answer.status, "headers": pairs, "is_gzip": ask.is_gzip}
    (folder / f"{ask.key}.json").write_text(json.dumps(head))
    (folder / f"{ask.key}{'.gz' if ask.is_gzip else ''}").write_bytes(body)
    return len(body)


def provide_file(lab: Lab, project: str) -> None:
    """The project's first file for the limits to serve."""
    path = lab.answers / "file" / project
    if path.exists():
        return
    if catalogue.kind_of(project) == "big":
        path.write_bytes(catalogue.big_range(project, 0, catalogue.BIG_BYTES))
    else:
        filename = catalogue.first_file(project).filename
        path.write_bytes(catalogue.small_body(project, filename))


def over_tls(request: Request) -> tuple[int, bytes]:
    """Status and body of a request by https, whoever's certificate that is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    asked = urllib.request.Request(request.url, headers=dict(request.headers))
    try:
        with urllib.request.urlopen(asked, timeout=60, context=context) as response:
            return response.status, response.read()
    except OSError as problem:
        raise WrongAnswer(str(problem)) from problem

"""What must hold whatever an upstream lists: properties, tried against one real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import http
from tests.support.builders import make_sdist, make_wheel, metadata, put, sdist_name, wheel_name
from tests.support.fixtures import Index, start_server
from tests.support.pages import JSON_TYPE, FileSpec
from tests.support.reply import NOT_FOUND, Reply, sha256_of
from tests.support.upstream import FakeUpstream, html_reply, json_reply

JSON = {"Accept": JSON_TYPE}
HTML = {"Accept": "text/html"}
bounded = settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
USER, PASSWORD = "robot", "upstream-secret"
SIBLINGS = ("", ".metadata", ".asc")


class House(Index):
    """An index that is short about itself: hypothesis prints the arguments of what fails."""

    def _repr_pretty_(self, printer: Any, is_cycle: bool) -> None:
        printer.text("House()")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A server that asks its upstream, with credentials, for every page."""
    home = tmp_path_factory.mktemp("invariants")
    folder = home / "packages"
    folder.mkdir()
    with FakeUpstream() as upstream:
        url = upstream.simple_url.replace("://", f"://{USER}:{PASSWORD}@")
        running = start_server(home / "server", folder, "--upstream", url, "--page-ttl", "0s")
        made = House(running, upstream, folder)
        with running:
            yield made


# what upstreams list

SIDECARS: dict[
    str, tuple[bool | dict[str, str] | None, bool]
] = {  # what is advertised, and whether it is there
    "hash": (None, True),
    "true": (True, True),
    "empty": ({}, True),
    "silent": (False, True),
    "missing": (True, False),
    "none": (False, False),
}
UNSAFE = ["..", ".x-1.0.tar.gz", "-x-1.0.tar.gz", "a b-1.0.tar.gz", "x.whl.metadata"]
UNSAFE += ["n\x01-1.0-py3-none-any.whl"]


@dataclass(frozen=True, slots=True)
class Sketch:
    """One entry of an upstream page: most are good, some are another project's, or unsafe."""

    kind: str  # wheel, sdist, zip, egg, or an unsafe file name
    owner: str  # own, OWN (in capitals), other
    version: str
    tag: str
    sidecar: str
    is_sized: bool
    is_hashed: bool
    yanked: str | bool | None
    requires_python: str | None
    upload_time: str | None
    gpg_sig: bool | None

    def make(self, project: str) -> FileSpec:
        owner = {"own": project, "OWN": project.upper(), "other": "some-other"}[self.owner]
        told: dict[str, Any] = {
            "yanked": self.yanked,
            "requires_python": self.requires_python,
            "upload_time": self.upload_time,
            "gpg_sig": self.gpg_sig,
            "size": -1 if self.is_sized else None,
            "hashes": None if self.is_hashed else {},
        }
        match self.kind:
            case "wheel":
                told["core_metadata"], _ = SIDECARS[self.sidecar]
                told["metadata"] = metadata(owner, self.version)
                told["body"] = make_wheel(owner, self.version)
                told["filename"] = wheel_name(owner, self.version, self.tag)
            case "sdist" | "zip":
                suffix = ".zip" if self.kind == "zip" else ".tar.gz"
                told["body"] = make_sdist(owner, self.version, suffix=suffix)
                told["filename"] = sdist_name(owner, self.version, suffix)
            case "egg":
                told |= {"filename": f"{owner}-{self.version}-py3.11.egg", "body": b"egg" * 100}
            case unsafe:
                told |= {"filename": unsafe, "body": b"unsafe"}
        return FileSpec(**told)


SKETCHES = st.builds(
    Sketch,
    kind=st.sampled_from(["wheel"] * 6 + ["sdist", "zip", "egg", *UNSAFE]),
    owner=st.sampled_from(["own", "own", "own", "OWN", "other"]),
    version=st.sampled_from(["0.1", "1.0", "1.0+local.1", "2.0rc1", "2!1.0", "1.0.post1"]),
    tag=st.sampled_from(["py3-none-any", "cp311-cp311-linux_x86_64"]),
    sidecar=st.sampled_from(sorted(SIDECARS)),
    is_sized=st.booleans(),
    is_hashed=st.booleans(),
    yanked=st.sampled_from([None, True, "bad <b>", ""]),
    requires_python=st.sampled_from([None, ">=3.8", ">=3.8,<4", "&lt;'\""]),
    upload_time=st.sampled_from([None, "2024-01-17T16:53:12.779164Z", "yesterday"]),
    gpg_sig=st.sampled_from([None, True, False]),
)
PAGES = st.lists(SKETCHES, max_size=6)
FORMS = st.sampled_from(["json", "html"])


@dataclass(slots=True)
class Placed:
    """A project upstream, under a name that no example had before, and all we said of it."""

    name: str
    specs: list[FileSpec] = field(default_factory=list)
    answers: list[http.Response] = field(default_factory=list)


def place(house: House, form: str, sketches: list[Sketch]) -> Placed:
    name = house.new_name()
    made = {(spec := sketch.make(name)).filename: (spec, sketch) for sketch in sketches}
    specs = [spec for spec, _ in made.values()]
    make = json_reply if form == "json" else html_reply
    house.upstream.script(f"/simple/{name}/", make(name, *specs))
    for spec, sketch in made.values():
        house.upstream.file(spec)
        if not SIDECARS[sketch.sidecar][1]:
            house.upstream.script(spec.path + ".metadata", NOT_FOUND)
    return Placed(name, specs)


def ask(
    house: House, placed: Placed, target: str, headers: http.Headers = (), **more: Any
) -> http.Response:
    answer = house.get(f"/simple/{placed.name}/{target}", headers, **more)
    placed.answers.append(answer)
    return answer


def entries(house: House, placed: Placed) -> dict[str, dict[str, Any]]:
    answer = ask(house, placed, "", JSON)
    assert answer.status == 200
    return {entry["filename"]: entry for entry in answer.json()["files"]}


@given(form=FORMS, sketches=PAGES)
@bounded
def test_listed_is_got_is_headed(house: House, form: str, sketches: list[Sketch]) -> None:
    placed = place(house, form, sketches)
    listed = entries(house, placed)
    html = ask(house, placed, "", HTML).text
    candidates = {spec.filename for spec in placed.specs} | set(listed)
    for filename in candidates | {"no-7.7-py3-none-any.whl", "index.html"}:
        headed = ask(house, placed, segment(filename), method="HEAD")
        got = ask(house, placed, segment(filename))
        assert (got.status == 200) is (headed.status == 200) is (filename in listed)
        assert (f">{filename}</a>" in html) is (filename in listed)
        if got.status == 200:
            assert headed.header("content-length") == str(len(got.body))
            entry = entries(house, placed)[filename]
            assert entry["hashes"]["sha256"] == sha256_of(got.body)
            assert entry["size"] == len(got.body)


@given(form=FORMS, sketches=PAGES)
@bounded
def test_good_entries_are_listed_and_others_are_not(
    house: House, form: str, sketches: list[Sketch]
) -> None:
    placed = place(house, form, sketches)
    good = {
        sketch.make(placed.name).filename
        for sketch in sketches
        if sketch.kind not in UNSAFE and (sketch.owner != "other" or sketch.kind == "egg")
    }
    assert set(entries(house, placed)) == good


@given(form=FORMS, sketches=PAGES)
@bounded
def test_advertised_metadata_is_there_with_that_hash(
    house: House, form: str, sketches: list[Sketch]
) -> None:
    placed = place(house, form, sketches)
    known = {spec.filename: spec.metadata for spec in placed.specs}
    for filename, entry in entries(house, placed).items():
        advertised = entry.get("core-metadata", False)
        target = segment(filename) + ".metadata"
        got, headed = ask(house, placed, target), ask(house, placed, target, method="HEAD")
        assert (got.status == 200) is (headed.status == 200) is bool(advertised)
        if got.status == 200:
            digest = {"sha256": sha256_of(got.body)}
            assert got.body == known[filename]
            assert advertised in (True, digest)
            assert entries(house, placed)[filename]["core-metadata"] == digest


@given(form=FORMS, sketches=PAGES, is_refusing=st.booleans())
@bounded
def test_no_answer_tells_where_upstream_is(
    house: House, form: str, sketches: list[Sketch], is_refusing: bool
) -> None:
    placed = place(house, form, sketches)
    if is_refusing:
        for spec in placed.specs:
            house.upstream.script(spec.path, Reply(status=403, body=b"/files/", etag=None))
    targets = [segment(spec.filename) + end for spec in placed.specs for end in SIBLINGS]
    for target in ["", "no-7.7.tar.gz", *targets]:
        ask(house, placed, target, HTML)
        ask(house, placed, target, {"Range": "bytes=0-9", **JSON})
    for answer in placed.answers:
        told = repr(answer.headers) + answer.body.decode("latin-1")
        if answer.header("content-encoding") == "gzip":
            told += answer.text
        for secret in (f":{house.upstream.port}", "/files/", USER, PASSWORD, "Basic "):
            assert secret not in told
        assert str(house.server.workdir.parent) not in told


# an upstream that changes its mind

FICKLE = "fickle.egg"


@dataclass(slots=True)
class Fickle:
    """One file name at an upstream that offers now these bytes under it, now those."""

    house: House
    placed: Placed
    is_hashed: bool
    number: int = 0
    delivered: set[bytes] = field(default_factory=set)
    tags: set[str | None] = field(default_factory=set)

    def offer(self, *, is_hashed: bool) -> None:
        body = f"version {self.number} of {self.placed.name}".encode() * 50
        spec = FileSpec(
            filename=FICKLE,
            body=body,
            hashes=None if is_hashed else {},
            url=f"/files/{self.placed.name}/{FICKLE}",
        )
        self.house.upstream.project(self.placed.name, spec)
        self.house.upstream.script(spec.href, Reply(body=body))

    def change(self) -> None:
        self.number += 1
        self.offer(is_hashed=self.is_hashed)

    def bare(self) -> None:
        self.offer(is_hashed=False)

    def restore(self) -> None:
        self.offer(is_hashed=True)

    def remove(self) -> None:
        self.house.upstream.project(self.placed.name)

    def gone(self) -> None:
        self.house.upstream.script(f"/simple/{self.placed.name}/", NOT_FOUND)

    def page(self) -> None:
        ask(self.house, self.placed, "", JSON)

    def head(self) -> None:
        ask(self.house, self.placed, FICKLE, method="HEAD")

    def get(self) -> None:
        try:
            answer = ask(self.house, self.placed, FICKLE)
        except http.ShortBodyError:  # the page had promised other bytes: not delivered whole
            return
        assert answer.status in (200, 404, 502, 503)
        if answer.status == 200:
            self.delivered.add(answer.body)
            self.tags.add(answer.header("etag"))


OFTEN, SELDOM = ["get", "change"], ["head", "page", "bare", "restore", "remove", "gone"]
ACTIONS = st.lists(st.sampled_from(OFTEN * 3 + SELDOM), min_size=4, max_size=14)


@given(actions=ACTIONS, is_hashed=st.booleans())
@bounded
def test_the_bytes_of_a_url_never_change(house: House, actions: list[str], is_hashed: bool) -> None:
    fickle = Fickle(house, place(house, "json", []), is_hashed)
    fickle.change()
    for action in actions:
        getattr(fickle, action)()
    if actions[0] == "get":
        assert fickle.delivered
    assert len(fickle.delivered) <= 1
    assert fickle.tags - {None} <= {f'"{sha256_of(body)}"' for body in fickle.delivered}


# nothing is lost on the way


RULES = {
    "dist-info-metadata": "old spelling of core-metadata",
    "data-dist-info-metadata": "old spelling of core-metadata",
    "gpg-sig": "says nothing when it is false",
    "requires-python": "null says nothing",
    "provenance": "null says nothing",
}
PAGE_RULES = {
    "alternate-locations": "of a rejected proposal",
    "namespaces": "of a version we do not announce",
    "project-status": "says nothing when the project is active",
}
TEXT = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), max_size=30)
UNKNOWN = st.dictionaries(
    st.from_regex(r"\A_?x-[a-z]{1,8}\Z"), st.one_of(st.integers(), TEXT, st.none()), max_size=3
)


@st.composite
def entry_extras(draw: st.DrawFn) -> dict[str, Any]:
    digest = st.from_regex(r"\A[0-9a-f]{64}\Z")
    known: dict[str, Any] = {
        "requires-python": draw(st.sampled_from([None, ">=3.8", ">=3.9, !=3.10.*", "~=3.11"])),
        "yanked": draw(st.one_of(st.booleans(), TEXT.filter(str.strip))),
        "provenance": draw(st.sampled_from([None, "https://attest.example/a/b"])),
        "gpg-sig": draw(st.booleans()),
        "core-metadata": draw(st.one_of(st.booleans(), st.builds(lambda d: {"sha256": d}, digest))),
        "upload-time": draw(st.datetimes().map(lambda t: t.isoformat() + "Z")),
        "dist-info-metadata": draw(st.booleans()),
    }
    dropped = draw(st.sets(st.sampled_from(sorted(known))))
    kept = {key: value for key, value in known.items() if key not in dropped}
    return {**kept, **draw(UNKNOWN)}


@given(
    extras=st.lists(entry_extras(), min_size=1, max_size=4),
    page=UNKNOWN,
    status=st.sampled_from([None, "active", "archived", "deprecated"]),
)
@bounded
def test_every_key_of_upstream_is_kept_or_dropped_by_a_named_rule(
    house: House, extras: list[dict[str, Any]], page: dict[str, Any], status: str | None
) -> None:
    placed = place(house, "json", [])
    specs = [
        FileSpec(filename=sdist_name(placed.name, f"{number}.0"), body=b"x" * number, entry=extra)
        for number, extra in enumerate(extras, 1)
    ]
    told = json.loads(json_reply(placed.name, *specs).body)  # type: ignore[arg-type]
    told |= {"alternate-locations": ["https://x.example/"], "namespaces": None, **page}
    told["meta"] |= {"_last-serial": 7, "tracks": ["https://x.example/"]}
    if status:
        told["project-status"] = {"status": status, "reason": "why"}
    body = json.dumps(told).encode()
    house.upstream.script(f"/simple/{placed.name}/", json_reply(placed.name).with_(body=body))

    ours = ask(house, placed, "", JSON).json()
    for key in told:
        is_dropped = key.startswith(("_", "x-")) or key in PAGE_RULES
        assert key in ours or is_dropped, key
    assert ours["versions"] == told["versions"]
    if status and status != "active":
        assert ours["project-status"] == told["project-status"]
    found = {entry["filename"]: entry for entry in ours["files"]}
    for entry in told["files"]:
        compare(entry, found[entry["filename"]])


def compare(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Every key of `theirs` is in `ours`, with the same meaning, or is named in `RULES`."""
    for key, value in theirs.items():
        if key.startswith(("_", "x-")):
            assert key not in ours
            continue
        says_nothing = value is None or value is False
        assert key in ours or (key in RULES and (says_nothing or "spelling" in RULES[key])), key
        match key:
            case "url":
                assert ours["url"] == theirs["filename"]
            case "core-metadata":
                assert ours[key] is False, "an sdist has none"
            case "upload-time":
                assert moment(ours[key]) == moment(value)
            case "dist-info-metadata":
                pass
            case _ if key in ours:
                assert ours[key] == value


def moment(text: str) -> str:
    """Without trailing zeros of the fraction, which carry no meaning."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return whole + ("." + fraction.rstrip("0") if fraction.rstrip("0") else "")


@given(yanked=st.one_of(st.none(), TEXT), requires=st.sampled_from([None, ">=3.8", "<4 & \"'>"]))
@bounded
def test_both_forms_say_the_same(house: House, yanked: str | None, requires: str | None) -> None:
    placed, again = place(house, "json", []), place(house, "json", [])
    told = {"yanked": yanked, "requires_python": requires}
    spec = FileSpec(filename="same.egg", body=b"same", **told)  # type: ignore[arg-type]
    house.upstream.project(placed.name, spec)
    [entry] = entries(house, placed).values()
    # our HTML, read as an upstream's by ourselves, must come to the same entry
    html = ask(house, placed, "", HTML).body
    house.upstream.script(f"/simple/{again.name}/", html_reply(again.name).with_(body=html))
    [read] = entries(house, again).values()
    for key in ("filename", "hashes", "requires-python", "yanked", "core-metadata"):
        assert read.get(key) == entry.get(key), key


def segment(filename: str) -> str:
    """A file name as a segment of a path."""
    return filename.replace(" ", "%20").replace("+", "%2B").replace("\x01", "%01")


def test_local_files_hold_the_same_promises(house: House) -> None:
    put(house.folder, "own_lib-1.0-py3-none-any.whl", make_wheel("own-lib"))
    put(house.folder, "own_lib-1.0.tar.gz", make_sdist("own-lib"))
    placed = Placed("own-lib", [])
    listed = entries(house, placed)
    assert len(listed) == 2
    for filename, entry in listed.items():
        got, headed = ask(house, placed, filename), ask(house, placed, filename, method="HEAD")
        assert got.status == headed.status == 200
        assert entry["hashes"]["sha256"] == sha256_of(got.body)
        assert entry["size"] == len(got.body)
        assert entry["upload-time"]
        sidecar = ask(house, placed, filename + ".metadata")
        assert (sidecar.status == 200) is bool(entry["core-metadata"])
    for answer in placed.answers:
        assert str(house.folder) not in repr(answer.headers)

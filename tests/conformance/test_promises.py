"""What one upstream says of a file answers for no other: decision 36.

`mine` is an upstream whose wheel everybody wants; `other` lists a wheel of its own, in a project
that `mine` does not have, and promises the very bytes of the first.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.builders import make_wheel, metadata
from tests.support.crowd import attempt, together
from tests.support.fixtures import ServerFactory
from tests.support.http import Response
from tests.support.pages import JSON_TYPE, FileSpec, wheel_spec
from tests.support.reply import NOT_FOUND, Reply
from tests.support.server import ProxyIndex
from tests.support.upstream import FakeUpstream

SIGNATURE = b"-----BEGIN PGP SIGNATURE-----\n"
FORGED = metadata("wanted", "1.0", requires_dist=("payload",))


@dataclass(slots=True)
class Neighbours:
    """A server with both upstreams, the wanted wheel and the one that promises its bytes."""

    server: ProxyIndex
    mine: FakeUpstream
    other: FakeUpstream
    wanted: FileSpec
    forged: FileSpec

    def wants(self, suffix: str = "") -> Response:
        return self.server.get(f"/simple/wanted/{self.wanted.filename}{suffix}")

    def begin(self, suffix: str = "") -> None:
        """Have the server ask the other upstream, which holds its answer; nobody waits for it."""
        with self.server.connect() as connection:
            connection.start(f"/simple/forged/{self.forged.filename}{suffix}")
            self.other.wait_held()


@pytest.fixture(params=["upstream", "project"])
def neighbours(
    request: pytest.FixtureRequest,
    server: ServerFactory,
    upstream: FakeUpstream,
    other_upstream: FakeUpstream,
    workers: int,
) -> Neighbours:
    """With the forged file at another upstream, and in another project of the same one."""
    is_alone = request.param == "project"
    other = upstream if is_alone else other_upstream
    wanted = wheel_spec("wanted", payload=400_000)
    upstream.project("wanted", wanted)
    upstream.script(wanted.path + ".asc", Reply(body=SIGNATURE))
    forged = FileSpec(filename="forged-1.0-py3-none-any.whl", body=wanted.body, metadata=FORGED)
    other.project("forged", forged)
    more = () if is_alone else ("--upstream", other.simple_url)
    running = server("--upstream", upstream.simple_url, *more, workers=workers)
    return Neighbours(running, upstream, other, wanted, forged)


def test_a_search_for_metadata_answers_for_its_own_page_only(neighbours: Neighbours) -> None:
    sidecar = neighbours.forged.path + ".metadata"
    neighbours.other.script(sidecar, Reply(body=FORGED, hold_at=10))
    neighbours.begin(".metadata")
    answers = together(8, lambda: neighbours.wants(".metadata"))
    assert {answer.body for answer in answers} == {neighbours.wanted.metadata}
    assert neighbours.mine.count(neighbours.wanted.path + ".metadata") == 1


def test_a_download_answers_for_its_own_page_only(neighbours: Neighbours) -> None:
    zeros = Reply(body=bytes(len(neighbours.wanted.body)), hold_at=300_000)
    neighbours.other.script(neighbours.forged.path, zeros)
    neighbours.begin()
    answers = together(8, neighbours.wants)
    assert {answer.body for answer in answers} == {neighbours.wanted.body}
    assert neighbours.mine.count(neighbours.wanted.path) == 1


def test_what_is_left_of_a_download_is_continued_for_its_own_page_only(
    neighbours: Neighbours,
) -> None:
    zeros = Reply(body=bytes(len(neighbours.wanted.body)), cut_after=300_000)
    refusal = Reply(status=503, headers={"Retry-After": "60"}, etag=None)
    neighbours.other.script(neighbours.forged.path, zeros, refusal)
    target = f"/simple/forged/{neighbours.forged.filename}"
    assert attempt(neighbours.server.url, target) is None
    partials = neighbours.server.cache_dir / "partials"
    assert [path.stat().st_size > 0 for path in partials.glob("*")] == [True], "to be continued"
    assert neighbours.wants().body == neighbours.wanted.body
    assert neighbours.mine.count(neighbours.wanted.path) == 1


def test_a_file_that_one_denies_is_not_gone_elsewhere(neighbours: Neighbours) -> None:
    neighbours.other.script(neighbours.forged.path, NOT_FOUND)
    target = f"/simple/forged/{neighbours.forged.filename}"
    assert neighbours.server.get(target).status == 404
    assert neighbours.wants().body == neighbours.wanted.body


def test_a_signature_that_one_has_not_is_not_missing_elsewhere(neighbours: Neighbours) -> None:
    target = f"/simple/forged/{neighbours.forged.filename}.asc"
    assert neighbours.server.get(target).status == 404
    answer = neighbours.wants(".asc")
    assert (answer.status, answer.body) == (200, SIGNATURE)


def test_what_is_proven_is_fetched_once_for_all(neighbours: Neighbours) -> None:
    assert neighbours.wants().status == 200
    answer = neighbours.server.get(f"/simple/forged/{neighbours.forged.filename}")
    assert (answer.header("x-proxyindex"), answer.body) == ("hit", neighbours.wanted.body)
    assert neighbours.other.count(neighbours.forged.path) == 0


def test_a_file_is_fetched_once_for_all_indexes_workers_and_clients(
    server: ServerFactory, upstream: FakeUpstream, workers: int, tmp_path: Path
) -> None:
    spec = wheel_spec("wanted", payload=400_000)
    upstream.project("wanted", spec)
    upstream.script(spec.path, Reply(body=spec.body, hold_at=100_000))
    upstream.script(spec.path + ".metadata", Reply(body=spec.metadata or b"", hold_at=10))
    config = tmp_path / "proxyindex.toml"
    config.write_text(
        f'[[upstream]]\nname = "up"\nurl = "{upstream.simple_url}"\n'
        '[index.one]\nupstreams = ["up"]\n[index.two]\nbases = ["up"]\n'
    )
    running = server("--config", config, workers=workers, is_started=False)
    running.args.remove("--no-upstream")
    running.start()
    targets = [
        f"{index}/simple/wanted/{spec.filename}{suffix}"
        for index in ("", "/one", "/two")
        for suffix in ("", ".metadata")
    ] * 4

    with ThreadPoolExecutor(len(targets)) as pool:
        asked = [pool.submit(running.get, target) for target in targets]
        upstream.wait_held(count=2)
        upstream.release()
        answers = [one.result() for one in asked]
    found = {(answer.status, answer.body) for answer in answers}
    assert found == {(200, spec.body), (200, spec.metadata)}
    assert [upstream.count(spec.path + suffix) for suffix in ("", ".metadata")] == [1, 1]


def test_a_part_of_a_wheel_does_not_belie_its_page(
    server: ServerFactory, upstream: FakeUpstream
) -> None:
    """The page tells the metadata's digest; whoever serves files can send a forged wheel's end."""
    spec = wheel_spec("wanted", size=None)
    upstream.project("wanted", spec)
    upstream.script(spec.path + ".metadata", NOT_FOUND)
    upstream.file(
        FileSpec(filename=spec.filename, body=make_wheel("wanted", requires_dist=("payload",)))
    )
    running = server(upstream=upstream)
    answer = running.get(f"/simple/wanted/{spec.filename}.metadata")
    assert (answer.status, b"payload" in answer.body) == (502, False)
    page = running.get("/simple/wanted/", {"Accept": JSON_TYPE}).json()
    assert page["files"][0]["core-metadata"] == spec.advertised()

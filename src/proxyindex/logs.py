"""Log lines: where they go, what they look like, and what must never be in them.

One formatter per format. Both mask credentials and escape control characters, so that no request
and no upstream can forge a line or write to an operator's terminal.
"""

import errno
import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from proxyindex import audit

log = logging.getLogger(__name__)

MASK = "****"

_USERINFO = r"(?ia)\b([a-z][a-z0-9+.-]{0,15}://)[^\s/@?#'\"]*(?:@[^\s/@?#'\"]*)*@"
_QUERY = r"(?ia)\b(https?://[^\s?#'\"<>]*)\?[^\s#'\"<>]+"
_SCHEME = r"(?ia)\b(basic|bearer)\s+(?=\S*[0-9=])[a-z0-9+/._~=-]{6,}"
_HEADER = r"(?ia)\b(authorization['\"]?\s*[:=]\s*b?['\"]?\w+)\s+[^\s'\"]+"
_OURS = r"(?a)\bpxi_[\w-]{8,}"  # a token (users.tokens), wherever somebody put it
_SECRETS = (
    (re.compile(_USERINFO), rf"\1{MASK}@"),
    (re.compile(_QUERY), rf"\1?{MASK}"),
    (re.compile(_SCHEME), rf"\1 {MASK}"),
    (re.compile(_HEADER), rf"\1 {MASK}"),
    (re.compile(_OURS), f"pxi_{MASK}"),
)
# no secret is without one of them: few lines are searched for all (1 µs instead of 30)
_MARKS = ("://", "basic", "bearer", "authorization", "pxi_")
# C0, DEL, C1, and the two Unicode line separators
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# They log every request's URL or headers below this level.
_TALKATIVE = ("httpx", "httpcore", "asyncio")


def mask(text: str) -> str:
    """`text` without the user names, passwords, tokens and query strings in it."""
    if not any(map(text.casefold().__contains__, _MARKS)):
        return text
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def escape(text: str) -> str:
    """`text` on one line: control characters and line separators become `\\xNN` or `\\uNNNN`."""
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


class TextFormatter(logging.Formatter):
    """`2026-11-23T06:40:00.123Z INFO proxyindex.access: message`; tracebacks follow, indented."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}"
        first = escape(mask(line))
        trace = _trace(self, record)
        return "\n".join([first, *(f"    {escape(part)}" for part in trace.split("\n") if part)])


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the record's `fields` if any."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        for key, value in getattr(record, "fields", {}).items():
            entry.setdefault(key, mask(value) if isinstance(value, str) else value)
        if trace := _trace(self, record):
            entry["trace"] = trace
        return json.dumps(entry, default=str)


class _AuditFile(logging.Handler):
    """Appends each line to a file. Where that fails, `otherwise` has it, and a line that says why.

    The file is opened for each line: nobody has to tell us that it was moved away or deleted
    (measured: 7 µs a line instead of 1).
    """

    def __init__(self, path: Path, otherwise: logging.Handler) -> None:
        super().__init__()
        self._path = path
        self._otherwise = otherwise
        self.setFormatter(otherwise.formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            append(self._path, f"{self.format(record)}\n")
        except OSError as problem:
            log.error("the audit log %s cannot be written: %s", self._path, problem.strerror)
            self._otherwise.handle(record)


def append(path: Path, text: str) -> None:
    """Append by one write, so that lines of several processes stay whole; for us and our group.

    Raises `OSError`; a part of the text may have been written.
    """
    # a pipe that nobody reads is an error here, and not a wait without end
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    fd = os.open(path, flags, 0o640)
    try:
        body = text.encode(errors="backslashreplace")
        if os.write(fd, body) < len(body):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(fd)


def setup(log_format: Literal["text", "json"], level: str, audit_log: Path | None = None) -> None:
    """Send all log records of this process to standard error in `log_format`, from `level` up.

    Those of the audit log whatever the level, and to the file `audit_log` instead if there is one.
    Replaces whatever handlers the root logger had.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    audit.logger.setLevel(logging.INFO)
    audit.logger.handlers[:] = [_AuditFile(audit_log, handler)] if audit_log else []
    audit.logger.propagate = audit_log is None
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # its start and stop messages repeat ours, and requests that are refused have an access line
    uvicorn_level = logging.INFO if level == "debug" else logging.ERROR
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.setLevel(uvicorn_level)
    uvicorn.addFilter(_calmed)


def _calmed(record: logging.LogRecord) -> bool:
    """A stop that cuts off what outlasts `grace` is orderly; uvicorn calls that an error."""
    if str(record.msg).startswith("Cancel %s running task(s)"):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg = "the time for running answers (grace) is over; cut off: %s"
    return record.levelno >= logging.getLogger().level


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if not record.exc_info and not record.stack_info:
        return ""
    parts = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return mask("\n".join(parts))

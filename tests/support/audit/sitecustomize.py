"""Has a child interpreter write down what it opens, runs, connects to or removes.

Python imports a module of this name at start: put this folder on `PYTHONPATH`, and the name of the
log into `TEST_AUDIT_LOG`. Each line is a JSON list, the event's name and its arguments as text;
read by `tests/support/openings.py`. Forked children write to the same log.
"""

import json
import os
import sys

_TOLD = ("os.", "shutil.", "subprocess.", "tempfile.", "sqlite3.", "pickle.", "glob.", "pty.")
_EVENTS = {
    "open",
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "ctypes.dlopen",
}


def _begin(log: str) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event in _EVENTS or event.startswith(_TOLD):
            told = [os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in arguments]
            os.write(handle, (json.dumps([event, *told]) + "\n").encode())

    sys.addaudithook(note)


if "TEST_AUDIT_LOG" in os.environ:
    _begin(os.environ["TEST_AUDIT_LOG"])

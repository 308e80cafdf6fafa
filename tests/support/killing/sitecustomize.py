"""Has a child interpreter killed, as by `kill -9`, right before its Nth change below one folder.

Python imports a module of this name at start: put this folder on `PYTHONPATH`, the folder that is
changed into `TEST_KILL_BELOW`, and N into `TEST_KILL_AT`. Each process counts for itself.
"""

import os
import signal
import sys

_CHANGES = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.utime"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _begin(below: str, at: int) -> None:
    seen = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        is_change = event in _CHANGES
        if event == "open":
            flags = arguments[2] if len(arguments) > 2 else 0
            is_change = isinstance(flags, int) and bool(flags & _WRITING)
        if is_change and any(below in str(one) for one in arguments):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


if "TEST_KILL_AT" in os.environ:
    _begin(os.environ["TEST_KILL_BELOW"], int(os.environ["TEST_KILL_AT"]))

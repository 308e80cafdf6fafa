"""Has the process that runs this file killed, as by `kill -9`, right before its Nth change.

It is the `hook` of a server in a test. Changes are those below the folder `TEST_KILL_BELOW`, and N
is in the file `TEST_KILL_ORDER`, elsewhere, which may come at any time. Changes are counted while
it is there, by each process for itself; the first that comes to N removes the file and dies, and
the others live on.
"""

import os
import signal
import sys

_CHANGES = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.utime"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _begin(below: str, order: str) -> None:
    seen = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        is_change = event in _CHANGES
        if event == "open":
            flags = arguments[2] if len(arguments) > 2 else 0
            is_change = isinstance(flags, int) and bool(flags & _WRITING)
        if not is_change or not any(below in str(one) for one in arguments):
            return
        seen = seen + 1 if (at := _ordered(order)) else 0
        if at and seen >= at:
            try:
                os.unlink(order)
            except FileNotFoundError:  # another was the first
                return
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def _ordered(order: str) -> int:
    try:
        with open(order) as source:
            return int(source.read() or 0)
    except FileNotFoundError:
        return 0


_begin(os.environ["TEST_KILL_BELOW"], os.environ["TEST_KILL_ORDER"])

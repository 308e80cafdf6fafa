"""The process that forks the ones of `preloaded`.

Orders arrive as lines of JSON on standard input and are answered, in turn, on standard output. It
ends when standard input closes; what it forked is ended by who ordered it.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Mapping
from typing import Any

# what a server imports, now or when it is first needed
import proxyindex.app
import proxyindex.cli.serve
import proxyindex.houses
import proxyindex.server.run


def serve() -> Mapping[str, Any] | None:
    """Do what is ordered; in a forked process the order it was forked for."""
    for line in sys.stdin:
        order = json.loads(line)
        if "fork" in order:
            if (answer := os.fork()) == 0:
                return order["fork"]  # type: ignore[no-any-return]
        else:
            pid, status = os.waitpid(order["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)
    return None


def become(order: Mapping[str, Any]) -> None:
    """All that `subprocess.Popen` would have changed."""
    os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    for fd, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, order["log"], os.O_WRONLY | os.O_APPEND),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, fd)
        os.close(opened)
    os.dup2(1, 2)
    sys.argv = list(order["args"])
    if os.path.exists(order["hook"]):
        runpy.run_path(order["hook"])


if __name__ == "__main__" and (mine := serve()):
    become(mine)
    proxyindex.cli.main()

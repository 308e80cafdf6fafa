"""A server started by a test never outlives the test run, however that ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.hermetic import wait_until

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, time
from pathlib import Path
from tests.support.server import ProxyIndex
server = ProxyIndex("--no-upstream", "packages", workdir=Path(sys.argv[1])).start()
print(server.pid, flush=True)
time.sleep(60)
"""


def test_a_server_ends_with_a_killed_test_run(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout
        server = int(run.stdout.readline())
        assert is_alive(server)
        run.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(server), "the end of the server")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False

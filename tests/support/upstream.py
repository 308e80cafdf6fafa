"""The fake upstream as a test sees it: a handle on a real separate process.

    with FakeUpstream() as upstream:
        upstream.project("foo-bar", FileSpec(filename="foo_bar-1.0-py3-none-any.whl", body=wheel))
        upstream.script("/simple/shaky/", Reply(status=503), json_reply("shaky", ...))
        ...
        assert upstream.count("/simple/foo-bar/") == 1

Every call is synchronous and short, except the `wait_…` methods, which an async test runs in a
thread (`await to_thread.run_sync(upstream.wait_held)`), as it must let its own client proceed.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from tests.support import privacy
from tests.support.answer import Seen
from tests.support.hermetic import PATIENCE
from tests.support.pages import HTML_TYPE, JSON_TYPE, FileSpec, html_page, json_list, json_page
from tests.support.reply import Reply

ROOT = Path(__file__).parents[2]


def json_reply(name: str, *files: FileSpec, **behaviour: Any) -> Reply:
    """A project page in JSON, as PyPI sends it."""
    return _page_reply(json_page(name, files), JSON_TYPE, behaviour)


def html_reply(name: str, *files: FileSpec, **behaviour: Any) -> Reply:
    """A project page in HTML."""
    return _page_reply(html_page(name, files), HTML_TYPE, behaviour)


def _page_reply(body: bytes, content_type: str, behaviour: dict[str, Any]) -> Reply:
    usual = Reply(
        body=body,
        content_type=content_type,
        headers={"Cache-Control": "max-age=600, public", "Vary": "Accept"},
        ranges="none",
    )
    return usual.with_(**behaviour)


class FakeUpstream:
    """A fake upstream index on loopback; a context manager that always ends its process.

    `cert` and `key` (PEM files) make it speak TLS.
    """

    living: ClassVar[list[FakeUpstream]] = []

    def __init__(self, *, cert: Path | None = None, key: Path | None = None) -> None:
        command = [sys.executable, "-m", "tests.support.upstream_process"]
        command += [str(path) for path in (cert, key) if path]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._answers: dict[int, Future[Any]] = {}
        assert self._process.stdout
        self.port: int = json.loads(self._process.stdout.readline())["port"]
        self.url = f"{'https' if cert else 'http'}://127.0.0.1:{self.port}"
        self._reader = threading.Thread(target=self._read_answers, daemon=True)
        self._reader.start()
        FakeUpstream.living.append(self)

    @property
    def simple_url(self) -> str:
        """What to give as `--upstream`."""
        return self.url + "/simple/"

    @property
    def pid(self) -> int:
        return self._process.pid

    # what it serves

    def script(self, path: str, *replies: Reply, method: str | None = None) -> None:
        """Answer `path` (with or without its query) by these replies in turn, the last for ever.

        Without a script of its own a HEAD is answered like the next GET and uses up no turn.
        """
        plain = [reply.to_json() for reply in replies]
        self._call("script", path=path, method=method, replies=plain)

    def otherwise(self, reply: Reply) -> None:
        """Answer everything that is not scripted; 404 at first."""
        self._call("otherwise", reply=reply.to_json())

    def project(
        self, name: str, *files: FileSpec, form: Literal["json", "html"] = "json", **behaviour: Any
    ) -> None:
        """Serve a project: its page at `/simple/<name>/`, its files and their metadata.

        `behaviour` are fields of `Reply` for the page.
        """
        page = json_reply if form == "json" else html_reply
        self.script(f"/simple/{name}/", page(name, *files, **behaviour))
        for file in files:
            self.file(file)

    def file(self, spec: FileSpec, **behaviour: Any) -> None:
        """Serve a file, and its metadata if it has any; `behaviour` are the file's `Reply`."""
        usual = Reply(body=spec.body, last_modified="Wed, 17 Jan 2024 16:53:12 GMT")
        self.script(spec.path, usual.with_(**behaviour))
        if spec.metadata is not None:
            self.script(spec.path + ".metadata", Reply(body=spec.metadata))

    def project_list(self, *names: str) -> None:
        """Serve the project list in JSON."""
        self.script("/simple/", _page_reply(json_list(names), JSON_TYPE, {}))

    # what it saw

    def requests(self, path: str | None = None, *, method: str | None = None) -> list[Seen]:
        """The requests so far, in order; of one path (with or without query) if given."""
        seen = [Seen(**plain) for plain in self._call("seen")]
        return [one for one in seen if one.matches(path, method)]

    def count(self, path: str | None = None, *, method: str | None = None) -> int:
        """How many requests there were so far."""
        return len(self.requests(path, method=method))

    @property
    def connections(self) -> int:
        """How many connections were opened so far."""
        return int(self._call("connections")[0])

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return int(self._call("connections")[1])

    # when it goes on

    def release(self, gate: str = "gate") -> None:
        """Let the answers held at `gate` go on, and all later ones pass."""
        self._call("release", gate=gate)

    def wait_held(self, gate: str = "gate", count: int = 1, timeout: float = PATIENCE) -> None:
        """Return when `count` answers have been held at `gate`; else `TimeoutError`."""
        self._until("held", timeout, gate=gate, count=count)

    def wait_requests(
        self, path: str | None = None, count: int = 1, timeout: float = PATIENCE
    ) -> None:
        """Return when `count` requests (for `path`) have arrived."""
        self._until("seen", timeout, path=path, count=count)

    def wait_finished(
        self, path: str | None = None, count: int = 1, timeout: float = PATIENCE
    ) -> None:
        """Return when `count` requests (for `path`) have been answered to the end."""
        self._until("is_finished", timeout, path=path, count=count)

    def wait_left(self, path: str | None = None, count: int = 1, timeout: float = PATIENCE) -> None:
        """Return when `count` requests (for `path`) were given up by the client."""
        self._until("is_left", timeout, path=path, count=count)

    def down(self) -> None:
        """Refuse connections and break the open ones, until `up`."""
        self._call("down")

    def up(self) -> None:
        """Listen again, on the same port."""
        self._call("up")

    def reset(self) -> None:
        """Forget scripts, gates and records; break every connection; listen."""
        self._hand_over()
        self._call("reset")

    def close(self) -> None:
        """End the process; may be called twice."""
        if self in FakeUpstream.living:
            FakeUpstream.living.remove(self)
            try:
                self._hand_over()
            finally:
                self._end()

    def _hand_over(self) -> None:
        """Tell who listens what was asked here."""
        if privacy.is_heard():
            privacy.upstream_saw(self.requests())

    def _end(self) -> None:
        process = self._process
        assert process.stdin
        assert process.stdout
        process.stdin.close()  # which is how it learns that it is not needed any more
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join()
        process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _until(self, what: str, timeout: float, **condition: Any) -> None:
        wanted = {"path": None, "gate": None, **condition}
        self._call("until", what=what, timeout=timeout, **wanted)

    def _call(self, do: str, **arguments: Any) -> Any:
        assert self._process.stdin
        answer: Future[Any] = Future()
        with self._lock:
            number = next(self._numbers)
            self._answers[number] = answer
            command = {"id": number, "do": do, **arguments}
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        return answer.result(arguments.get("timeout", 0.0) + PATIENCE)

    def _read_answers(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            reply = json.loads(line)
            answer = self._answers.pop(reply["id"])
            if "error" in reply:
                answer.set_exception(TimeoutError(reply["error"]))
            else:
                answer.set_result(reply.get("value"))
        for answer in self._answers.values():
            answer.set_exception(RuntimeError("the fake upstream has ended"))

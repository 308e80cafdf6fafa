"""Files that are replaced and yanked while others read: each is seen with what is noted of it."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.builders import make_wheel, wheel_name
from tests.support.fixtures import ServerFactory
from tests.support.pages import JSON_TYPE
from tests.support.server import ProxyIndex
from tests.support.stores import sha256
from tests.support.uploads import UploadForm, upload_form

PROJECT = "px-moving"
ROUNDS = 60
READERS = 3
WITH_FRACTION = re.compile(r"\.\d*[1-9]\d*Z\Z")  # of a second: only a record has it
WHEEL = wheel_name(PROJECT)
# all of one size, which must not be what tells them apart
CONTENTS = [make_wheel(PROJECT, extra={"px.txt": b"%06d" % number}) for number in range(ROUNDS + 1)]
TURN = {sha256(content): number for number, content in enumerate(CONTENTS)}


class Reader:
    """Asks for the page and the file in turn; `seen` must never go back.

    States are in the order in which they come: a file is uploaded, yanked, and replaced.
    """

    def __init__(self, server: ProxyIndex) -> None:
        self._server = server
        self.seen: list[tuple[int, bool]] = []

    def read(self, is_over: threading.Event) -> None:
        while not is_over.is_set():
            self.look()

    def look(self) -> None:
        page = self._server.get(f"/simple/{PROJECT}/", {"Accept": JSON_TYPE})
        assert page.status == 200, page.text
        (entry,) = page.json()["files"]
        assert WITH_FRACTION.search(entry["upload-time"]), "without its record"
        turn, yanked = TURN[entry["hashes"]["sha256"]], entry["yanked"]
        assert yanked in (False, str(turn)), f"{turn} with the record of {yanked}"
        self.note(turn, is_yanked=bool(yanked))
        served = self._server.get(f"/simple/{PROJECT}/{WHEEL}")
        assert served.status == 200, served.text
        digest = sha256(served.body)
        assert served.header("etag") == f'"{digest}"', "other bytes than the page's"
        assert TURN[digest] >= turn, "older bytes than those listed before"

    def note(self, turn: int, *, is_yanked: bool) -> None:
        state = (turn, is_yanked)
        assert not self.seen or state >= self.seen[-1], f"{state} after {self.seen[-1]}"
        self.seen.append(state)


def form(content: bytes) -> UploadForm:
    return upload_form(WHEEL, content, name=PROJECT)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_is_never_seen_with_the_record_of_other_bytes_or_none(
    server: ServerFactory, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "own").mkdir()
    rights = ("--upload", "*", "--yank", "*", "--overwrite")
    running = server(tmp_path / "own", *rights, workers=workers)
    assert form(CONTENTS[0]).post(running).status == 200
    is_over, readers = threading.Event(), [Reader(running) for _ in range(READERS)]
    with ThreadPoolExecutor(READERS) as pool:
        reading = [pool.submit(reader.read, is_over) for reader in readers]
        try:
            for number in range(ROUNDS):
                body = json.dumps({"reason": str(number)}).encode()
                target = f"/api/projects/{PROJECT}/1.0/yank"
                assert running.get(target, method="POST", body=body).status == 200
                assert form(CONTENTS[number + 1]).post(running).status == 200
        finally:
            is_over.set()
        for one in reading:
            one.result()
    assert all(len(set(reader.seen)) > ROUNDS // 10 for reader in readers)

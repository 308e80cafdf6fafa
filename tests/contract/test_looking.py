"""Folders that do not answer, as those of a file server that is gone: closed, and only they."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from packaging.utils import NormalizedName

from proxyindex.inquiry import Inquiry
from proxyindex.model import ProjectList, ProjectPage
from proxyindex.repository.local import Local
from proxyindex.repository.looking import Looker
from proxyindex.repository.priority import Priority
from proxyindex.repository.scan import FolderUnavailable, Scanner
from proxyindex.store import mounts
from tests.contract.test_local import Notebook, later
from tests.support.builders import put_wheel
from tests.support.hermetic import until, wait_until

pytestmark = pytest.mark.anyio
SHORT = 0.2  # seconds of patience, where they are used up
DEMO = NormalizedName("demo")
MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
36 27 8:1 / / rw - ext4 /dev/sda1 rw
41 36 0:52 / /srv/own rw,relatime shared:7 master:2 - nfs4 files.example:/own rw,vers=4.2
42 36 0:53 / /srv/a\\040b rw - fuse.sshfs me@files.example: rw
43 36 8:17 / /srv/stick rw - fuseblk /dev/sdb1 rw
44 36 0:54 / /srv/win rw - cifs //files.example/win rw
not a line
45 36 x:y / /srv/odd rw - nfs odd rw
"""


class Hanging:
    """A clock that does not answer while told so: it is asked in the thread that reads folders."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.asked = 0

    def __call__(self) -> int:
        self.asked += 1
        self.answers.wait()
        return time.time_ns()


class Outside:
    """An upstream that must not be asked."""

    async def projects(self, inquiry: Inquiry) -> ProjectList:
        raise AssertionError

    async def project(self, name: NormalizedName, inquiry: Inquiry) -> ProjectPage:
        raise AssertionError


@pytest.fixture
def clock() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.answers.set()  # else the thread would never end


async def test_a_name_in_doubt_is_asked_nowhere_while_its_folder_does_not_answer(
    tmp_path: Path, clock: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    put_wheel(tmp_path)
    local = Local([tmp_path], Notebook(), clock=clock, patience=SHORT)
    whole = Priority([local, Outside()])

    async def answers() -> bool:
        try:
            return bool((await whole.project(DEMO, Inquiry())).files)
        except FolderUnavailable:
            return False

    await until(answers, "an answer, which on a busy machine may take longer than that")
    caplog.clear()
    clock.answers.clear()
    for name in ("demo", "unknown"):
        with pytest.raises(FolderUnavailable):
            await whole.project(NormalizedName(name), Inquiry())
    with pytest.raises(FolderUnavailable):
        await whole.projects(Inquiry())
    assert caplog.text.count("does not answer") == 1
    clock.answers.set()
    await until(answers, "another answer")


async def test_one_thread_hangs_and_nobody_is_sent_after_it(clock: Hanging) -> None:
    looker = Looker("own", patience=SHORT)
    clock.answers.clear()
    for _ in range(50):
        with pytest.raises(FolderUnavailable):
            await looker.run(clock)
    assert clock.asked == 1


async def test_requests_that_come_at_once_are_all_refused(tmp_path: Path, clock: Hanging) -> None:
    put_wheel(tmp_path)
    local = Local([tmp_path], Notebook(), clock=clock, patience=SHORT)
    clock.answers.clear()
    refused: list[FolderUnavailable] = []

    async def ask() -> None:
        try:
            await local.project(DEMO, Inquiry())
        except FolderUnavailable as problem:
            refused.append(problem)

    async with anyio.create_task_group() as tasks:
        for _ in range(60):
            tasks.start_soon(ask)
    assert len(refused) == 60
    assert clock.asked == 1


async def test_a_request_that_left_takes_nothing_with_it(tmp_path: Path, clock: Hanging) -> None:
    put_wheel(tmp_path)
    local = Local([tmp_path], Notebook(), clock=clock)
    clock.answers.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(local.project, DEMO, Inquiry())
        await anyio.to_thread.run_sync(lambda: wait_until(lambda: clock.asked, "the look"))
        tasks.cancel_scope.cancel()
    clock.answers.set()
    assert (await local.project(DEMO, Inquiry())).files


async def test_those_who_leave_early_find_it_out_as_well(
    clock: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    looker = Looker("own", patience=SHORT)
    clock.answers.clear()

    async def ask_in_haste() -> None:
        with anyio.fail_after(10):
            while True:
                with anyio.move_on_after(SHORT / 10):
                    await looker.run(clock)

    with pytest.raises(FolderUnavailable):
        await ask_in_haste()
    assert caplog.text.count("does not answer") == 1
    asked = clock.asked
    with pytest.raises(FolderUnavailable):
        await looker.run(clock)
    assert clock.asked == asked


async def test_who_leaves_a_folder_that_answers_does_no_harm(clock: Hanging) -> None:
    looker = Looker("own")
    clock.answers.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(looker.run, clock)
        await anyio.to_thread.run_sync(lambda: wait_until(lambda: clock.asked, "the look"))
        tasks.cancel_scope.cancel()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(looker.run, clock)
        await anyio.to_thread.run_sync(lambda: wait_until(lambda: clock.asked > 1, "another"))
        clock.answers.set()


def test_the_express_way_does_not_rest_on_what_may_hang(tmp_path: Path) -> None:
    put_wheel(tmp_path)
    device = os.stat(tmp_path).st_dev
    near = Scanner([tmp_path], clock=later, remote=frozenset)
    far = Scanner([tmp_path], clock=later, remote=lambda: {device})
    assert near.scan() == far.scan()
    assert near.witnesses()
    assert far.witnesses() is None


def test_mounts_tell_what_is_on_other_machines() -> None:
    far = {os.makedev(0, 52), os.makedev(0, 53), os.makedev(0, 54)}
    assert mounts.parse(MOUNTS) == far
    assert os.stat("/proc").st_dev not in mounts.remote_devices()

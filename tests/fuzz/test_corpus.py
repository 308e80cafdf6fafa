"""Every input kept so far, seeds and old crashers alike, through its target; and the guards."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.clients import pip_reads, uv_reads_html, uv_reads_json
from tests.fuzz.guard import MAX_GROWTH, Excess, bounded, confined, peak
from tests.fuzz.targets import CORPUS, TARGETS

INPUTS = [path for name in TARGETS for path in sorted((CORPUS / name).iterdir())]
HASH = "a1" * 32
FILE = f'{{"filename":"demo_pkg-1.0.zip","url":"demo_pkg-1.0.zip","hashes":{{"sha256":"{HASH}"}}'
JSON = "application/vnd.pypi.simple.v1+json"


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_of_the_corpus_holds_all_promises(path: Path) -> None:
    TARGETS[path.parent.name].run(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_memory_stays_bounded_over_a_corpus(name: str) -> None:
    TARGETS[name].run(b"")  # what is imported late is not the input's
    tracemalloc.start()
    try:
        for path in sorted(TARGETS[name].seeds.iterdir()):
            TARGETS[name].check(path.read_bytes())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_GROWTH


def test_the_corpus_is_small_and_all_of_it_is_used() -> None:
    kept = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert set(kept) == set(INPUTS)
    assert sum(path.stat().st_size for path in kept) <= 300_000


def _busy() -> None:
    start = time.process_time()
    while time.process_time() - start < 1.2:
        pass


def _hoard() -> None:
    held = bytearray(peak() + 2 * MAX_GROWTH)  # more than this process ever had
    held[::4096] = b"x" * len(held[::4096])  # pages that are not touched are not there


@pytest.mark.parametrize("fault", [_busy, _hoard])
def test_the_guard_notices_work_and_memory_out_of_proportion(fault: Callable[[], None]) -> None:
    with pytest.raises(Excess, match="took"), bounded():
        fault()


def test_the_guard_notices_what_is_written_and_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"")
    with pytest.raises(Excess, match="open"), confined():
        (tmp_path / "old").read_bytes()
    with pytest.raises(Excess, match="open"), confined():
        (tmp_path / "new").write_bytes(b"")
    with pytest.raises(Excess, match="mkdir"), confined():
        (tmp_path / "folder").mkdir()


@pytest.mark.parametrize(
    "rest",
    [
        ',"core-metadata":false}',
        ',"core-metadata":false,"yanked":null}',
        ',"core-metadata":{},"yanked":false}',
        ',"core-metadata":false,"yanked":""}',
        ',"core-metadata":false,"yanked":false,"size":null}',
        ',"core-metadata":false,"yanked":false,"size":"12"}',
        ',"core-metadata":false,"yanked":false,"upload-time":"2024-01-01T00:00:00"}',
        ',"core-metadata":false,"yanked":"a\\u0000"}',
        ',"core-metadata":false,"yanked":false,"url":"x/demo_pkg-1.0.zip"}',
        ',"core-metadata":false,"yanked":false,"hashes":{"sha256":"00"}}',
    ],
)
def test_what_uv_refuses_in_json_is_refused_here(rest: str) -> None:
    page = '{"meta":{"api-version":"1.0"},"name":"demo-pkg","versions":[],"files":[%s]}'
    sound = FILE + ',"core-metadata":false,"yanked":false}'
    assert len(uv_reads_json((page % sound).encode())) == 1
    with pytest.raises((AssertionError, KeyError)):
        uv_reads_json((page % (FILE + rest)).encode())


@pytest.mark.parametrize(
    "link",
    [
        '<a href="../demo_pkg-1.0.zip">demo_pkg-1.0.zip</a>',
        '<a href="demo_pkg-1.0.zip?x">demo_pkg-1.0.zip</a>',
        '<a href="..%2fdemo_pkg-1.0.zip">..%2fdemo_pkg-1.0.zip</a>',
        '<a href="demo_pkg-1.0.zip#sha1=00">demo_pkg-1.0.zip</a>',
        '<a href="demo_pkg-1.0.zip" data-yanked>demo_pkg-1.0.zip</a>',
        '<a href="demo_pkg-1.0.zip" data-core-metadata="false">demo_pkg-1.0.zip</a>',
        '<base href="/x/"><a href="demo_pkg-1.0.zip">demo_pkg-1.0.zip</a>',
        '<a href="demo_pkg-1.0.zip" data-yanked="\x01">demo_pkg-1.0.zip</a>',
        '<a href="demo_pkg-1.0.zip">another</a>',
    ],
)
def test_what_uv_refuses_in_html_is_refused_here(link: str) -> None:
    page = "<!DOCTYPE html><html><body>%s</body></html>"
    sound = f'<a href="demo_pkg-1.0.zip#sha256={HASH}">demo_pkg-1.0.zip</a>'
    assert len(uv_reads_html((page % sound).encode())) == 1
    with pytest.raises((AssertionError, KeyError)):
        uv_reads_html((page % link).encode())


@pytest.mark.parametrize("url", ["https://elsewhere.example/demo_pkg-1.0.zip", "x%2fdemo-1.0.zip"])
def test_a_link_that_pip_would_follow_elsewhere_is_refused_here(url: str) -> None:
    with pytest.raises(AssertionError):
        pip_reads(f'{{"files":[{{"url":"{url}"}}]}}'.encode(), JSON)

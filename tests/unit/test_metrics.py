"""Counters, their exposition, and several processes adding up."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import Histogram
from prometheus_client.parser import text_string_to_metric_families

from proxyindex.metrics import SECONDS, Metrics
from tests.support.hermetic import until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(body: bytes) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(body: bytes, name: str, **labels: str) -> float:
    return parsed(body)[name, tuple(sorted(labels.items()))]


def test_requests_are_counted_by_kind_status_and_outcome() -> None:
    metrics = Metrics()
    metrics.request("file", 200, "hit", 0.003, 100)
    metrics.request("file", 200, "hit", 0.7, 50)
    body, content_type = metrics.exposition()
    labels = {"kind": "file", "status": "200", "outcome": "hit"}
    assert content_type.startswith("text/plain; version=0.0.4")
    assert value(body, "proxyindex_requests_total", **labels) == 2
    assert value(body, "proxyindex_response_bytes_total", kind="file") == 150
    assert value(body, "proxyindex_request_seconds_count", kind="file") == 2
    assert value(body, "proxyindex_request_seconds_bucket", kind="file", le="0.5") == 1
    assert b"_created" not in body, "no document tells of them"


def test_tallied_seconds_fall_into_the_buckets_of_prometheus() -> None:
    metrics, histogram = Metrics(), Histogram("x", "x", buckets=SECONDS, registry=None)
    for seconds in (0.0, 0.002, 0.0021, 0.5, 29.9, 119.9, 120.0, 120.1, 1e9):
        metrics.request("file", 200, "hit", seconds, 1)
        histogram.observe(seconds)
    body, _ = metrics.exposition()
    for sample in histogram.collect()[0].samples:
        if sample.name != "x_created":
            name = sample.name.replace("x", "proxyindex_request_seconds", 1)
            assert value(body, name, kind="file", **sample.labels) == sample.value


async def test_what_was_tallied_is_shared_with_other_processes_at_once() -> None:
    metrics = Metrics()
    metrics.request("file", 200, "hit", 0.1, 1)
    labels = {"kind": "file", "status": "200", "outcome": "hit"}
    await until(
        lambda: metrics._registry.get_sample_value("proxyindex_requests_total", labels), "the tally"
    )


def test_events_are_counted() -> None:
    metrics = Metrics()
    metrics.page("pypi", "fresh")
    metrics.flight("file", "joined")
    metrics.transfer("pypi", "adopted", 7)
    metrics.trim("blobs", 9)
    metrics.alarm("digest-mismatch")
    body, _ = metrics.exposition()
    assert value(body, "proxyindex_pages_total", upstream="pypi", decision="fresh") == 1
    assert value(body, "proxyindex_flights_total", kind="file", role="joined") == 1
    assert value(body, "proxyindex_transfers_total", upstream="pypi", result="adopted") == 1
    assert value(body, "proxyindex_transfer_bytes_total", upstream="pypi") == 7
    assert value(body, "proxyindex_trimmed_bytes_total", store="blobs") == 9
    assert value(body, "proxyindex_alarms_total", kind="digest-mismatch") == 1


def test_each_object_counts_for_itself() -> None:
    first, second = Metrics(), Metrics()
    first.alarm("x")
    assert b'alarms_total{kind="x"}' not in second.exposition()[0]


def test_gauge_is_read_at_each_exposition() -> None:
    metrics = Metrics()
    readings = iter([1.0, 2.0])
    metrics.gauge("cache_bytes", "Bytes in the cache", lambda: next(readings))
    assert value(metrics.exposition()[0], "proxyindex_cache_bytes") == 1
    assert value(metrics.exposition()[0], "proxyindex_cache_bytes") == 2


def test_unexpected_request_labels_become_other() -> None:
    metrics = Metrics()
    metrics.request("/etc/passwd", 99999, "made-up", 0.1, 0)
    labels = {"kind": "other", "status": "other", "outcome": "other"}
    assert value(metrics.exposition()[0], "proxyindex_requests_total", **labels) == 1


WORKERS = """
import os, sys
from proxyindex.metrics import Metrics
assert "prometheus_client" not in sys.modules
for size in (1, 2, 3):
    if (pid := os.fork()) == 0:
        metrics = Metrics()
        metrics.transfer("pypi", "adopted", size)
        metrics.request("page", 200, "hit", 0.01, 10)
        os._exit(0)
    os.waitpid(pid, 0)
metrics = Metrics()
metrics.gauge("cache_bytes", "Bytes", lambda: 42.0)
metrics.transfer("pypi", "adopted", 4)
sys.stdout.buffer.write(metrics.exposition()[0])
"""


def test_processes_add_up_even_after_some_have_ended(tmp_path: Path) -> None:
    body = subprocess.run(
        [sys.executable, "-c", WORKERS],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout
    assert value(body, "proxyindex_transfer_bytes_total", upstream="pypi") == 10
    assert value(body, "proxyindex_transfers_total", upstream="pypi", result="adopted") == 4
    assert value(body, "proxyindex_request_seconds_count", kind="page") == 3
    assert value(body, "proxyindex_cache_bytes") == 42


SWEPT = """
import os, shutil, sys
from concurrent.futures import ThreadPoolExecutor
from proxyindex.metrics import Metrics
metrics = Metrics()
metrics.alarm("before")
shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
metrics.alarm("after")
metrics.request("page", 200, "hit", 0.01, 10)
with ThreadPoolExecutor(8) as pool:
    bodies = [asked.result()[0] for asked in [pool.submit(metrics.exposition) for _ in range(8)]]
sys.stdout.buffer.write(bodies[-1])
"""


def test_a_process_whose_shared_files_were_swept_away_counts_for_itself(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SWEPT],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "shared")},
        check=True,
        capture_output=True,
        timeout=60,
    )
    for kind in ("before", "after"):
        assert value(done.stdout, "proxyindex_alarms_total", kind=kind) == 1
    assert value(done.stdout, "proxyindex_request_seconds_count", kind="page") == 1
    assert done.stderr.count(b"counts for itself") == 1

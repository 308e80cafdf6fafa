"""What is counted, and its exposition for Prometheus, right with one worker process or several.

`prometheus_client` chooses between plain memory and files shared by processes once, when it is
imported, by `PROMETHEUS_MULTIPROC_DIR`. It is therefore imported when a `Metrics` is made, which
`server/workers.py` lets happen only in the worker processes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from proxyindex.inquiry import UNCHANGED, Outcome
from proxyindex.web.accesslog import Kind

if TYPE_CHECKING:
    from prometheus_client import Histogram
    from prometheus_client.metrics_core import Metric

log = logging.getLogger(__name__)

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

KINDS: frozenset[str] = frozenset(get_args(Kind))
OUTCOMES = frozenset(
    {*(outcome.value for outcome in Outcome)}
    | {"denied", "missing", "redirected", "refused", "failed", "done", UNCHANGED, "-"}
)
OTHER = "other"

# from "answered from memory" to "a large cold wheel over a slow line"
SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)

_FLUSH_SECONDS = 0.05
_SHARED_SIZE = 1024**2  # bytes that `prometheus_client` begins with; some thousand series

Reading = tuple[str, str, Callable[[], float]]


class Metrics:
    """Counters of one server; implements `proxyindex.events.Events`.

    Every object has a registry of its own. Of a request what is not known is counted as `other`,
    so that no client can make series; all other labels are the code's and the configuration's.
    """

    def __init__(self) -> None:
        _reserve()  # before it is imported: then it chooses
        from prometheus_client import (  # noqa: PLC0415
            CollectorRegistry,
            Counter,
            Histogram,
            disable_created_metrics,
        )

        # a `…_created` beside each series, which nobody asked for
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"proxyindex_{name}", text, labels, registry=registry)

        self._registry = registry
        self._readings: list[Reading] = []
        self._tallies: dict[tuple[str, int, str], _Tally] = {}
        self._page_tallies: dict[tuple[str, str], int] = {}
        self._tally_lock = threading.Lock()  # `exposition` is called in other threads
        self._is_flush_due = False
        self._requests = counter("requests", "Requests answered", "kind", "status", "outcome")
        self._seconds = Histogram(
            "proxyindex_request_seconds",
            "Seconds from a request to the last byte of its answer",
            ("kind",),
            buckets=SECONDS,
            registry=registry,
        )
        self._bytes = counter("response_bytes", "Body bytes sent to clients", "kind")
        self._pages = counter("pages", "Pages asked of mirrors", "upstream", "decision")
        self._flights = counter("flights", "Shared work", "kind", "role")
        self._transfers = counter("transfers", "Downloads ended", "upstream", "result")
        self._transferred = counter("transfer_bytes", "Bytes downloaded", "upstream")
        self._trimmed = counter("trimmed_bytes", "Bytes evicted from the cache", "store")
        self._alarms = counter("alarms", "Events an operator must look at", "kind")
        # opens the two files that are shared, if any are: once their folder has been swept away
        # counting would fail, and with it whatever is counted
        self._seconds.labels("health")
        self._bytes.labels("health")

    def request(self, kind: str, status: int, outcome: str, seconds: float, size: int) -> None:
        """An answer of `size` body bytes was sent `seconds` after its request arrived."""
        with self._tally_lock:
            tally = self._tallies.get((kind, status, outcome))
            if tally is None:
                kind = kind if kind in KINDS else OTHER
                outcome = outcome if outcome in OUTCOMES else OTHER
                status = status if 100 <= status <= 599 else 0
                tally = self._tallies.setdefault((kind, status, outcome), _Tally())
            tally.add(seconds, size)
        if not self._is_flush_due:
            self._flush_soon()

    def flush(self) -> None:
        """Hand what was tallied on to Prometheus."""
        self._is_flush_due = False
        with self._tally_lock:
            tallies, self._tallies = self._tallies, {}
            pages, self._page_tallies = self._page_tallies, {}
        for (upstream, decision), count in pages.items():
            self._pages.labels(upstream, decision).inc(count)
        for (kind, status, outcome), tally in tallies.items():
            self._requests.labels(kind, str(status) if status else OTHER, outcome).inc(tally.count)
            self._bytes.labels(kind).inc(tally.size)
            tally.pour(self._seconds.labels(kind))

    def _flush_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        self._is_flush_due = True
        loop.call_later(_FLUSH_SECONDS, self.flush)

    def page(self, upstream: str, decision: str) -> None:
        key = upstream, decision  # tallied, too: 1.3 µs of each warm page, with several workers 3
        with self._tally_lock:
            self._page_tallies[key] = self._page_tallies.get(key, 0) + 1
        if not self._is_flush_due:
            self._flush_soon()

    def flight(self, kind: str, role: str) -> None:
        self._flights.labels(kind, role).inc()

    def transfer(self, upstream: str, result: str, size: int) -> None:
        self._transfers.labels(upstream, result).inc()
        self._transferred.labels(upstream).inc(size)

    def trim(self, store: str, freed: int) -> None:
        self._trimmed.labels(store).inc(freed)

    def alarm(self, kind: str) -> None:
        self._alarms.labels(kind).inc()

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Expose `read()` as `proxyindex_<name>`; it is called for each exposition.

        The worker that answers is the one that reads, so `read` should see something the workers
        share, such as the size of the cache.
        """
        self._readings.append((f"proxyindex_{name}", help_text, read))

    def exposition(self) -> tuple[bytes, str]:
        """Body and content type of `/metrics`, all workers' counts added up."""
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415

        self.flush()
        readings = CollectorRegistry()
        readings.register(_Readings(self._readings))
        return self._counted() + generate_latest(readings), CONTENT_TYPE

    def _counted(self) -> bytes:
        """What all processes have counted; what this one has, where the files they share are gone
        (its own it has open)."""
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

        if directory := os.environ.get(MULTIPROCESS_VARIABLE):
            everybody = CollectorRegistry()
            try:
                for path in _shared_files(directory):
                    path.stat()
                MultiProcessCollector(everybody, path=directory)  # type: ignore[no-untyped-call]
                return generate_latest(everybody)
            except (OSError, ValueError) as problem:  # ValueError: the folder, between the two
                _part(problem)
        return generate_latest(self._registry)


def _shared_files(directory: str) -> list[Path]:
    """Those that this process counts in."""
    return [Path(directory, f"{kind}_{os.getpid()}.db") for kind in ("counter", "histogram")]


def _part(problem: Exception) -> None:
    """Share nothing any more; told once, also where two expositions find out at a time."""
    if os.environ.pop(MULTIPROCESS_VARIABLE, None) is None:
        return
    log.warning(
        "the folder for temporary files (TMPDIR) takes no counters (%s): worker %d counts for "
        "itself, and /metrics tells what the one that answers has counted",
        getattr(problem, "strerror", None) or problem,
        os.getpid(),
    )


def _reserve() -> None:
    """Have room on the disk for the files that this process shares, or share none.

    `prometheus_client` maps them as they are, sparse: on a full disk the first count that needs a
    page of them would end the process (SIGBUS).
    """
    directory = os.environ.get(MULTIPROCESS_VARIABLE)
    if not directory:
        return
    files = _shared_files(directory)
    try:
        for path in files:
            with suppress(FileExistsError), path.open("xb") as file:  # one of that number has ended
                file.write(bytes(_SHARED_SIZE))
    except OSError as problem:
        for path in files:  # half of one is none to be read
            path.unlink(missing_ok=True)
        _part(problem)


class _Tally:
    """Requests of one kind, status and outcome since the last flush: plain numbers.

    Three calls of prometheus_client for each request cost 6 µs, with several workers 10.
    """

    def __init__(self) -> None:
        self.count, self.size, self.seconds = 0, 0, 0.0
        self.buckets = [0] * (len(SECONDS) + 1)

    def add(self, seconds: float, size: int) -> None:
        self.count += 1
        self.size += size
        self.seconds += seconds
        self.buckets[bisect_left(SECONDS, seconds)] += 1

    def pour(self, histogram: Histogram) -> None:
        """Into the histogram."""
        # it has no public way to observe many at once (tests/unit/test_metrics.py compares)
        histogram._sum.inc(self.seconds)
        for bucket, count in zip(histogram._buckets, self.buckets, strict=True):
            if count:
                bucket.inc(count)


class _Readings:
    """Gauges read at the moment of exposition."""

    def __init__(self, readings: list[Reading]) -> None:
        self._readings = readings

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

        for name, help_text, read in self._readings:
            yield GaugeMetricFamily(name, help_text, value=read())

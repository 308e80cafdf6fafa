"""All workloads by name, in the order of the table."""

from bench.workloads import cold, cost, far, herd, house, live, rights, warm
from bench.workloads.base import Workload

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for module in (warm, cold, cost, far, herd, house, rights, live)
    for workload in module.WORKLOADS
}
# What a day's work should not make worse; with these servers in under three minutes.
QUICK = (
    "warm-small-json",
    "warm-300-json",
    "warm-300-json-gzip",
    "warm-12000-json-gzip",
    "warm-small-304",
    "warm-file-10k",
    "warm-file-200m",
    "warm-ranges",
    "cold-small",
    "cold-12000",
)
QUICK_SERVERS = ("proxyindex", "raw-asgi", "sendfile", "direct")

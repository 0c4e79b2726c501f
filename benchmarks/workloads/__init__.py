"""One module a workload. ``ALL`` has them by name, in the order of the tables."""

from __future__ import annotations

from benchmarks.workloads import w1, w2, w3, w4, w5, w7, w8, w9
from benchmarks.workloads.common import Floor, Prepared, Setup, Workload

ALL: dict[str, Workload] = {
    workload.name: workload for module in (w1, w2, w3, w4, w5, w7, w8, w9) for workload in module.WORKLOADS
}

__all__ = ["ALL", "Floor", "Prepared", "Setup", "Workload"]

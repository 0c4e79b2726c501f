"""W9: W4 with zstd."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.workloads import w4
from benchmarks.workloads.common import Prepared, Setup, Workload, packing


def prepare(setup: Setup) -> Prepared:
    ready = w4.prepare(setup)
    return replace(ready, compression="zstd", floors=packing(ready.context, zstd=True))


WORKLOADS = (Workload("W9", "COPY of 100,000 real files, zstd", prepare),)

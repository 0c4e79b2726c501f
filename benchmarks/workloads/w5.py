"""W5: COPY of one large file."""

from __future__ import annotations

import os

from benchmarks.samples import write_stream
from benchmarks.workloads.common import SEED, Prepared, Setup, Workload, dockerfile, packing, push_busybox

BYTES = 2_000_000_000


def prepare(setup: Setup) -> Prepared:
    base = push_busybox(setup)
    context, path = dockerfile(setup, f"FROM {base}\nCOPY large.bin /large.bin\n")
    large = os.path.join(context, "large.bin")
    size = setup.scaled(BYTES)
    write_stream(large, setup.files, size, SEED)
    return Prepared(context, path, f"{size / 1e9:.2f} GB", files=1, floors=packing(large))


WORKLOADS = (Workload("W5", "COPY of one 2 GB file", prepare),)

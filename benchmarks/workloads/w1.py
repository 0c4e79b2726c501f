"""W1: the smallest build. What a builder costs before it does anything."""

from __future__ import annotations

import os

from benchmarks.workloads.common import Prepared, Setup, Workload, dockerfile, push_busybox


def prepare(setup: Setup) -> Prepared:
    base = push_busybox(setup)
    context, path = dockerfile(setup, f"FROM {base}\nCOPY hello.txt /hello.txt\n")
    with open(os.path.join(context, "hello.txt"), "w") as f:
        f.write("hello\n")
    return Prepared(context, path, "one file of 6 bytes", files=1)


WORKLOADS = (Workload("W1", "busybox, COPY of one file", prepare),)

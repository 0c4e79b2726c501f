"""W8: a base of very many small files, one RUN. What an entry costs."""

from __future__ import annotations

import random

from benchmarks.samples import Item, busybox
from benchmarks.workloads.common import (
    SEED,
    Prepared,
    Setup,
    Workload,
    dockerfile,
    extraction,
    in_full_mode,
    push_layers,
)

FILES = 300_000


def prepare(setup: Setup) -> Prepared:
    count = setup.scaled(FILES, 300)
    base, written, entries = push_layers(setup, "base/many", [busybox() + small_files(count)])
    context, path = dockerfile(setup, f"FROM {base}\nRUN touch /x\n")
    what = f"{entries} entries, {written[0].size / 1e6:.0f} MB compressed"
    return Prepared(context, path, what, floors=extraction(written))


def small_files(count: int) -> list[Item]:
    """Files of 20 to 1,500 bytes, a hundred in a folder, a hundred folders in one above."""
    numbers = random.Random(SEED)
    words = [f"{numbers.getrandbits(32):x}" for _ in range(4000)]
    items = []
    for n in range(count):
        text = " ".join(numbers.choices(words, k=numbers.randint(3, 160)))
        items.append(Item(f"data/{n // 10_000:02}/{n // 100 % 100:02}/file-{n}.txt", data=text.encode()))
    return items


WORKLOADS = (
    Workload("W8", "base of 300,000 small files, one RUN", prepare),
    Workload("W8-full", "the same, snapshot mode full", in_full_mode(prepare), kaniko_only=True),
)

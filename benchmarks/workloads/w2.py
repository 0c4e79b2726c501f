"""W2: a large base and a RUN that hardly does anything. Downloading, extracting and looking for what changed."""

from __future__ import annotations

from dataclasses import replace

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

FILES, LINKS, BYTES = 50_200, 6_000, 2_360_000_000
SHARES = (0.30, 0.25, 0.18, 0.13, 0.09, 0.05)


def prepare(setup: Setup) -> Prepared:
    items = setup.files.take(setup.scaled(FILES, 60), setup.scaled(BYTES), SEED)
    items += setup.files.take_links(setup.scaled(LINKS), SEED)
    items = sorted((replace(item, path=f"usr/{item.path}") for item in items), key=lambda item: item.path)
    layers = cut(items)
    layers[0] = busybox() + layers[0]
    base, written, entries = push_layers(setup, "base/large", layers)
    context, path = dockerfile(setup, f"FROM {base}\nRUN touch /x\n")
    packed = sum(layer.size for layer in written)
    what = f"{entries} entries, {sum(i.size for i in items) / 1e9:.2f} GB in 6 layers of {packed / 1e9:.2f} GB together"
    return Prepared(context, path, what, base_layers=len(layers), floors=extraction(written))


def cut(items: list[Item]) -> list[list[Item]]:
    """Six runs of the items, each with its share of their number."""
    layers, begin, share = [], 0, 0.0
    for part in SHARES:
        share += part
        end = round(len(items) * share)
        layers.append(items[begin:end])
        begin = end
    return layers


WORKLOADS = (
    Workload("W2", "large base, RUN touch /x", prepare),
    Workload("W2-full", "the same, snapshot mode full", in_full_mode(prepare), kaniko_only=True),
)

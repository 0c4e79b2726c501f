"""Unpacking one layer: the extractor with its digest beside GNU tar fed by igzip, and the index alone.

    python -m benchmarks.micro.untar [--entries 68000] [--bytes 2400000000] [--rounds 3] [--dir /tmp]

The layer is made of this machine's /usr (samples.py). Each run unpacks to a fresh ext4 mounted by loop (places.py). Wall and CPU seconds
(user and system, children included) as medians, and memory of the index an entry.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Command, measure
from benchmarks.places import best_kind, own_mounts, place
from benchmarks.samples import RealFiles, write_layer

OURS = """
import json, os, sys
from pybuild._native.index import Index
from pybuild._native.untar import Extractor
from pybuild.rootfs.extract import extract_layer
layer, diff_id, target, note = sys.argv[1:]
fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY) if target else -1
index = Index()
extractor = Extractor(index, fd)
with open(layer, "rb", buffering=0) as f:
    extract_layer(f, "", diff_id or None, extractor)
with open(note, "w") as out:
    json.dump({"entries": index.count, "memory": index.memory / index.count, "bytes": extractor.bytes}, out)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=68_000)
    parser.add_argument("--bytes", type=int, default=2_400_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=tempfile.gettempdir())
    args = parser.parse_args()
    own_mounts()
    kind = best_kind(args.dir)
    with tempfile.TemporaryDirectory(dir=args.dir) as work:
        layer = os.path.join(work, "layer.tar.gz")
        made, count = write_layer(layer, RealFiles().take(args.entries, args.bytes, 1))
        note = os.path.join(work, "note")
        env = {"PYTHONPATH": "src", "PATH": os.environ["PATH"]}
        here = str(Path.cwd())

        def ours(diff_id: str, target: str) -> Command:
            return Command((sys.executable, "-c", OURS, layer, diff_id, target, note), env=env, cwd=here)

        def gnu(target: str) -> Command:
            script = 'igzip -d -c "$1" | tar --numeric-owner -C "$2" -xf -'
            return Command(("sh", "-c", script, "sh", layer, target), env=env)

        rows = {
            "extractor, digest": lambda target: ours(made.diff_id, target),
            "extractor": lambda target: ours("", target),
            "index alone": lambda target: ours("", ""),
            "igzip | tar": gnu,
            "igzip | sha256sum": lambda target: Command(
                ("sh", "-c", 'igzip -d -c "$1" | sha256sum', "sh", layer), env=env
            ),
        }
        seen: dict[str, list[tuple[float, float, int]]] = {name: [] for name in rows}
        for _ in range(args.rounds):
            for name, command in rows.items():
                with place(args.dir, kind) as target:
                    subprocess.run(["sync"], check=True)
                    log = os.path.join(work, "log")
                    usage = measure((command(target),), log, 600)
                    if usage.status:
                        sys.exit(f"{name}: {Path(log).read_text()}")
                    seen[name].append((usage.wall, usage.cpu, usage.memory))
        facts = json.loads(Path(note).read_text())
        print(
            f"{count} entries, {facts['bytes'] / 1e9:.2f} GB, {os.stat(layer).st_size / 1e9:.2f} GB compressed, on {kind}"
        )
        print(f"index: {facts['memory']:.0f} bytes an entry")
        print(f"{'':20} {'wall s':>8} {'CPU s':>8} {'MB':>6}")
        for name, runs in seen.items():
            wall, cpu, memory = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"{name:20} {wall:8.2f} {cpu:8.2f} {memory / 1e6:6.0f}")


if __name__ == "__main__":
    main()

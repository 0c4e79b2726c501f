"""A directory to a layer: collection, tar, both digests and gzip in one pass, beside GNU tar piped into compressors.

    python -m benchmarks.micro.tar [--entries 100000] [--bytes 1900000000] [--rounds 3] [--dir /tmp]
    python -m benchmarks.micro.tar --entries 1 --bytes 2000000000

The files are this machine's ``/usr`` (samples.py) on a fresh ext4 (places.py), in the page cache; with one entry it is a single
file of that size. The peers make no digest: ``sha256sum`` rows say what those cost on top. Medians of wall and CPU seconds (user and
system, children included), the highest memory and the bytes that came out.
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
from benchmarks.samples import RealFiles, write_context, write_stream
from benchmarks.workloads.common import SEED

OURS = """
import json, os, sys
from pybuild._native.collect import collect
from pybuild._native.entries import EntryList
from pybuild._native.tar import TarWriter
from pybuild.layer.types import Compression
from pybuild.layer.write import write_layer
from pybuild.oci.blobs import BlobStore
source, out, kind, level, threads, note = sys.argv[1:]
fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
entries = EntryList()
collect(entries, entries.add_root(fd), "", "data", uid=0, gid=0)
entries.sort()
size = 0
if kind == "tar":
    tar, buffer = TarWriter(entries), bytearray(1 << 20)
    while count := tar.read_into(buffer):
        size += count
elif kind != "collect":
    layer = write_layer(entries, BlobStore(out), Compression(kind, int(level)), media_type="", threads=int(threads))
    size = layer.descriptor.size
with open(note, "w") as f:
    json.dump({"bytes": size, "memory": entries.memory / len(entries)}, f)
"""

SHELL = {
    "tar": 'tar -C "$1" -cf - . | cat >"$2/layer"',
    "tar | igzip -1": 'tar -C "$1" -cf - . | igzip -1 -c - >"$2/layer"',
    "tar | igzip -1 -T 2": 'tar -C "$1" -cf - . | igzip -1 -T 2 -c - >"$2/layer"',
    "tar | pigz -1": 'tar -C "$1" -cf - . | pigz -1 -p 2 >"$2/layer"',
    "tar | pigz -6": 'tar -C "$1" -cf - . | pigz -6 -p 2 >"$2/layer"',
    "tar | tee sha256sum | igzip -1": 'mkfifo "$2/p"; sha256sum <"$2/p" >/dev/null & tar -C "$1" -cf - . | tee "$2/p" | igzip -1 -c - | tee "$2/layer" | sha256sum >/dev/null; wait; rm "$2/p"',
}

KINDS = {
    "collect alone": ("collect", -1, 1),
    "collect, tar": ("tar", -1, 1),
    "layer, plain": ("none", -1, 1),
    "layer, gzip, 1 thread": ("gzip", -1, 1),
    "layer, gzip, 2 threads": ("gzip", -1, 2),
    "layer, gzip level 2": ("gzip", 2, 2),
    "layer, zstd": ("zstd", -1, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=1_900_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=tempfile.gettempdir())
    parser.add_argument("--only", default="", help="rows whose name has this text")
    args = parser.parse_args()
    own_mounts()
    kind = best_kind(args.dir)
    env = {"PYTHONPATH": "src", "PATH": os.environ["PATH"]}
    here = str(Path.cwd())
    with place(args.dir, kind) as top, tempfile.TemporaryDirectory(dir=args.dir) as work:
        source, note, log = os.path.join(top, "source"), os.path.join(work, "note"), os.path.join(work, "log")
        os.mkdir(source)
        if args.entries == 1:
            write_stream(os.path.join(source, "file"), RealFiles(), args.bytes, SEED)
        else:
            write_context(source, RealFiles().take(args.entries, args.bytes, SEED))
        subprocess.run(["sync"], check=True)

        def command(name: str, out: str) -> Command:
            if name in SHELL:
                return Command(("sh", "-c", SHELL[name], "sh", source, out), env=env)
            form, level, threads = KINDS[name]
            return Command(
                (sys.executable, "-c", OURS, source, out, form, str(level), str(threads), note), env=env, cwd=here
            )

        rows = [name for name in (*KINDS, *SHELL) if args.only in name]
        seen: dict[str, list[tuple[float, float, int]]] = {name: [] for name in rows}
        size: dict[str, int] = {}
        facts = {"memory": 0.0}
        # once for the page cache
        measure((Command(("sh", "-c", 'tar -C "$1" -cf - . | cat >/dev/null', "sh", source), env=env),), log, 600)
        for number in range(args.rounds):
            for name in rows:
                out = os.path.join(top, f"out-{number}-{rows.index(name)}")
                os.mkdir(out)
                usage = measure((command(name, out),), log, 600)
                if usage.status:
                    sys.exit(f"{name}: {Path(log).read_text()}")
                seen[name].append((usage.wall, usage.cpu, usage.memory))
                if name in SHELL:
                    size[name] = os.stat(os.path.join(out, "layer")).st_size
                else:
                    facts = json.loads(Path(note).read_text())
                    size[name] = facts["bytes"]
                # keep the page cache for the source
                for folder, _, names in os.walk(out):
                    for path in names:
                        os.truncate(os.path.join(folder, path), 0)
        print(
            f"{args.entries} files, {args.bytes / 1e9:.2f} GB, on {kind}; entry list: {facts['memory']:.0f} bytes an entry"
        )
        print(f"{'':32} {'wall s':>8} {'CPU s':>8} {'MB':>6} {'MB out':>8}")
        for name, runs in seen.items():
            wall, cpu, memory = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"{name:32} {wall:8.2f} {cpu:8.2f} {memory / 1e6:6.0f} {size[name] / 1e6:8.1f}")


if __name__ == "__main__":
    main()

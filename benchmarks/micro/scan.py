"""Finding what changed in a tree: the change detector beside ``find -printf`` on the same files.

    python -m benchmarks.micro.scan [--entries 300000] [--rounds 5] [--dir /tmp]

A tree of small files on a fresh ext4 (places.py), everything in the page cache. Microseconds of CPU an entry and wall seconds, medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.places import best_kind, own_mounts, place
from pybuild._native.index import Index


def make_tree(top: str, entries: int) -> None:
    """Directories of 20 files, three levels deep."""
    made = 0
    number = 0
    while made < entries:
        folder = Path(top, f"package{number // 400:03}", f"module{number // 20 % 20:02}", f"part{number % 20:02}")
        folder.mkdir(parents=True)
        made += 1
        for i in range(20):
            with open(folder / f"source_file_{i:03}.py", "wb") as f:
                f.write(b"x" * (i * 37))
            made += 1
        number += 1


def cpu() -> float:
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", default=tempfile.gettempdir())
    args = parser.parse_args()
    own_mounts()
    kind = best_kind(args.dir)
    with place(args.dir, kind) as top:
        make_tree(top, args.entries)
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        index = Index()
        begin = cpu()
        index.scan(fd, mode="redo")
        first = cpu() - begin
        count = index.count
        index.settle()

        def scan(mode: str, threads: int) -> Callable[[], None]:
            def run() -> None:
                assert len(index.scan(fd, mode=mode, threads=threads)) == 0

            return run

        def find() -> None:
            subprocess.run(["find", top, "-printf", "%p %s %m %U %G %T@\n"], stdout=subprocess.DEVNULL, check=True)

        rows = {
            "find -printf": find,
            "redo, 1 thread": scan("redo", 1),
            "redo, 2 threads": scan("redo", 2),
            "full, 2 threads": scan("full", 2),
        }
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
        for _ in range(args.rounds):
            for name, run in rows.items():
                wall, begin = time.perf_counter(), cpu()
                run()
                seen[name].append((time.perf_counter() - wall, cpu() - begin))
        os.close(fd)
        print(
            f"{count} entries on {kind}, index {index.memory / count:.0f} bytes an entry, first scan {first / count * 1e6:.2f} µs an entry"
        )
        print(f"{'':20} {'wall s':>8} {'µs CPU':>8}")
        for name, runs in seen.items():
            wall, used = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"{name:20} {wall:8.3f} {used / count * 1e6:8.2f}")


if __name__ == "__main__":
    main()

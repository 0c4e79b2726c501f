"""Compressors on the tar of real files: speed of one core, and size.

    python -m benchmarks.micro.compress [--bytes 400000000] [--rounds 3]

Rows named ``ours`` are the builder's own, block by block as a layer is written; the others are whole streams by the usual tools.
MB of tar a second of CPU (the best round), and the size relative to the tar's.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable

from benchmarks.samples import RealFiles, add, with_parents
from benchmarks.workloads.common import SEED
from pybuild.layer.compress import BLOCK, WINDOW, BlockCompressor, gzip_block, zstd_block

TOOLS = [
    "igzip -0",
    "igzip -1",
    "igzip -2",
    "igzip -3",
    "pigz -p 1 -1",
    "pigz -p 1 -6",
    "gzip -1",
    "zstd -T1 -1",
    "zstd -T1 -3",
]


def sample(total: int) -> bytes:
    """A tar of about ``total`` bytes of this machine's files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for item, folder in with_parents(RealFiles().take(max(100, total // 19_000), total, SEED)):
            add(archive, item, folder)
    return out.getvalue()


def blocks(tar: bytes, compress: BlockCompressor) -> Callable[[], tuple[float, int]]:
    def run() -> tuple[float, int]:
        size, window = 0, b""
        begin = time.thread_time()
        view = memoryview(tar)
        for at in range(0, len(tar), BLOCK):
            block = view[at : at + BLOCK]
            size += len(compress(block, window))
            window = bytes(block[-WINDOW:])
        return time.thread_time() - begin, size

    return run


def tool(path: str, text: str) -> Callable[[], tuple[float, int]]:
    def run() -> tuple[float, int]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with open(path, "rb") as source, tempfile.TemporaryFile(dir=os.path.dirname(path)) as out:
            subprocess.run([*text.split(), "-c"], stdin=source, stdout=out, check=True)
            size = os.fstat(out.fileno()).st_size
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, size

    return run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bytes", type=int, default=400_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    tar = sample(args.bytes)
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, "tar")
        with open(path, "wb") as f:
            f.write(tar)
        rows = {f"ours, gzip {level}": blocks(tar, gzip_block(level)) for level in (1, 2, 6)}
        rows |= {f"ours, zstd {level}": blocks(tar, zstd_block(level)) for level in (1, 3)}
        rows |= {text: tool(path, text) for text in TOOLS}
        print(f"{len(tar) / 1e6:.0f} MB of tar")
        print(f"{'':16} {'MB/s':>7} {'size':>7} {'MB':>8}")
        for name, run in rows.items():
            runs = [run() for _ in range(args.rounds)]
            seconds, size = min(runs)
            print(f"{name:16} {len(tar) / 1e6 / seconds:7.0f} {size / len(tar):7.4f} {size / 1e6:8.1f}")


if __name__ == "__main__":
    main()

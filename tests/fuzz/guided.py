"""Coverage-guided fuzzing of the frontend: ``python tests/fuzz/guided.py TARGET [--seconds N] [--keep]``.

Needs the package atheris. New inputs go to a temporary folder; ``--keep`` copies some small
ones that reached something new to the seeds. A crash prints its input, also written to the working directory.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent


def fuzz(name: str, corpus: str, seconds: int) -> None:
    """Runs in a process of its own: libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["pybuild.dockerfile"]):
        sys.path.insert(0, str(HERE))
        from targets import TARGETS, check
    target = TARGETS[name]
    options = [
        f"-max_total_time={seconds}",
        "-max_len=4096",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], corpus, str(HERE / "seeds" / name), *options], lambda data: check(target, data))
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.corpus:
        fuzz(options.target, options.corpus, options.seconds)
        return 0
    with tempfile.TemporaryDirectory() as corpus:
        command = [sys.executable, __file__, options.target, "--seconds", str(options.seconds), "--corpus", corpus]
        ended = subprocess.run(command, env=os.environ, check=False)
        found = sorted(pathlib.Path(corpus).iterdir())
        print(f"{options.target}: {len(found)} new inputs, status {ended.returncode}")
        if options.keep:
            folder = HERE / "seeds" / options.target
            folder.mkdir(parents=True, exist_ok=True)
            small = sorted((p for p in found if p.stat().st_size <= 400), key=lambda p: p.stat().st_size)
            # some of every size
            for path in small[:: max(1, len(small) // 25)]:
                shutil.copy(path, folder / hashlib.sha256(path.read_bytes()).hexdigest()[:16])
    return ended.returncode


if __name__ == "__main__":
    raise SystemExit(main())

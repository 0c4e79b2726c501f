"""A Debian base, made once per machine with mmdebstrap by the example's script."""

from __future__ import annotations

import os
import pathlib
import subprocess

from benchmarks.samples import compress_tar
from benchmarks.workloads.common import PATH, Setup

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "examples" / "debian-app" / "make-base"


def debian_tar(cache: str) -> str:
    """Path of a tar of a minimal Debian root in ``cache``; made when it is not there yet (about 20 s)."""
    path = os.path.join(cache, "debian", "base.tar")
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        subprocess.run([str(SCRIPT), path], check=True, stdout=subprocess.DEVNULL)
    return path


def push_debian(setup: Setup) -> str:
    layer = compress_tar(debian_tar(setup.cache), os.path.join(setup.folder, "debian.tar.gz"))
    return setup.registry.put_image("base/debian", [layer], PATH)

"""A suite from elsewhere: the folder that ``$PYBUILD_CONFORMANCE`` names, run by ``ci/conformance``."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.root
@pytest.mark.registry
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not os.environ.get("PYBUILD_CONFORMANCE"), reason="PYBUILD_CONFORMANCE names no suite")
def test_suite() -> None:
    done = subprocess.run([sys.executable, ROOT / "ci" / "conformance"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr

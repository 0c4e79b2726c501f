"""docs/flags.md says what the program says."""

from __future__ import annotations

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_the_page_is_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "ci" / "flags_page.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr

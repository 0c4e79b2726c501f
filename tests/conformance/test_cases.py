"""Builds of the cases in ``cases/``, compared with what is expected of them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from .cases import describe, expected, names, prepare, without_free_times
from .image import Tree, merged, read_layout

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The layout of the base image."""
    layout = tmp_path_factory.mktemp("base") / "layout"
    subprocess.run(
        [sys.executable, ROOT / "examples" / "hello" / "make_base.py", layout], check=True, stdout=subprocess.DEVNULL
    )
    return layout


@pytest.fixture(scope="session")
def base_tree(base: pathlib.Path) -> Tree:
    return merged(read_layout(base)[2])


@pytest.mark.parametrize("name", names())
def test_case(name: str, base: pathlib.Path, base_tree: Tree, tmp_path: pathlib.Path) -> None:
    prepared = prepare(name, tmp_path, "base")
    out = tmp_path / "out"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pybuild",
            *prepared.arguments,
            f"--build-context=base=oci-layout://{base}",
            "--no-push",
            f"--oci-layout-path={out}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert "Traceback" not in done.stderr
    wanted = expected(name)
    if wanted.get("error"):
        assert done.returncode != 0
        assert wanted.get("message", "error") in done.stderr
        assert not out.exists()
        return
    assert done.returncode == 0, done.stderr
    assert without_free_times(describe(out, base_tree)) == without_free_times(wanted)

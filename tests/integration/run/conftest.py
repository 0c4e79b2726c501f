"""Real roots: a static busybox with its applets."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.rootfs.isolation import Isolation, choose

from .support import BUSYBOX, Box, make_root


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not BUSYBOX:
        pytest.skip("needs busybox-static")
    return make_root(tmp_path_factory.mktemp("template") / "root")


@pytest.fixture(scope="session")
def namespaces() -> Isolation:
    return choose("namespaces")


@pytest.fixture
def make_box(tmp_path: Path, template: Path) -> Callable[[Isolation], Box]:
    def make(isolation: Isolation) -> Box:
        root = tmp_path / "work" / "root"
        root.parent.mkdir()
        subprocess.run(["cp", "-a", str(template), str(root)], check=True)
        return Box(root, isolation)

    return make


@pytest.fixture
def box(make_box: Callable[[Isolation], Box], namespaces: Isolation) -> Box:
    return make_box(namespaces)

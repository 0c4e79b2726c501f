"""A real registry, reached through a proxy that makes faults."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from .support import Served, serve


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("upstream")) as served:
        yield served


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "home"
    path.mkdir()
    return path

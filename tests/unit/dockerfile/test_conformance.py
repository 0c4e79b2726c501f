"""The frontend against data that BuildKit agrees with; ``PYBUILD_CONFORMANCE`` names the folder."""

from __future__ import annotations

import json
import os
import pathlib
import re

import pytest

from pybuild.dockerfile.dump import dump
from pybuild.dockerfile.parser import parse, parse_nodes
from pybuild.dockerfile.words import expand, expand_words
from pybuild.errors import DockerfileError, PybuildError

_ROOT = os.environ.get("PYBUILD_CONFORMANCE", "")
ROOT = pathlib.Path(_ROOT or "/nonexistent")
pytestmark = pytest.mark.skipif(not _ROOT, reason="PYBUILD_CONFORMANCE does not name a folder with conformance data")


def folders(path: str) -> list[str]:
    return sorted(p.name for p in (ROOT / path).iterdir() if p.is_dir()) if (ROOT / path).is_dir() else []


@pytest.mark.parametrize("name", folders("frontend/parser"))
def test_parser(name: str) -> None:
    folder = ROOT / "frontend/parser" / name
    nodes = parse_nodes((folder / "Dockerfile").read_bytes())
    assert dump(nodes).strip() == (folder / "result").read_text().strip()


@pytest.mark.parametrize("name", folders("frontend/parser-negative"))
def test_parser_refuses(name: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse((ROOT / "frontend/parser-negative" / name / "Dockerfile").read_bytes())
    assert caught.value.place is not None
    assert caught.value.place.line >= 1


def rows(name: str) -> list[str]:
    path = ROOT / "frontend" / name
    return path.read_text().split("\n") if path.is_file() else []


def test_expansion() -> None:
    env = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": ""}
    wrong = []
    count = 0
    for line in rows("expansion.txt"):
        if not line.strip() or line.startswith("#"):
            continue
        platform, word, expected = line.split("|", 2)
        if platform.strip() not in ("U", "A"):
            continue
        count += 1
        expected = re.sub(r"\s+#\s.*$", "", expected).strip()
        try:
            found = expand(word.strip(), env)
        except PybuildError:
            found = "error"
        if found != expected:
            wrong.append((word, expected, found))
    assert not wrong
    assert count > 100


def test_words() -> None:
    env: dict[str, str] = {}
    wrong = []
    count = 0
    for line in rows("words.txt"):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("ENV "):
            name, _, value = line[4:].lstrip().partition("=")
            env[name] = value
            continue
        word, _, expected = line.partition("|")
        count += 1
        try:
            found = ",".join(expand_words(word.strip(), env))
        except PybuildError:
            found = "error"
        if found != expected.lstrip():
            wrong.append((word, expected, found))
    assert not wrong
    assert count > 20


@pytest.mark.parametrize("name", folders("cases"))
def test_cases_parse(name: str) -> None:
    folder = ROOT / "cases" / name
    data = (folder / "Dockerfile").read_bytes().replace(b"@BASE@", b"base")
    must_fail = bool(json.loads((folder / "expected.json").read_text()).get("error"))
    if must_fail and name.startswith("syntax-"):
        with pytest.raises(DockerfileError):
            parse(data)
    elif must_fail:
        # what is wrong may show here or later
        try:
            parse(data)
        except DockerfileError as e:
            assert e.place is not None
    else:
        parse(data)

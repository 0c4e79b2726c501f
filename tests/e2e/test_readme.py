"""What the README and the other pages say is so."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from pybuild.cli.executor_flags import EXECUTOR_FLAGS
from pybuild.cli.pflag import FlagTable, parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/exit-codes.md",
    "examples/hello/README.md",
    "benchmarks/README.md",
]


def commands(page: str) -> list[list[str]]:
    """The calls of pybuild in a page's indented blocks."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    return [shlex.split(line, comments=True)[1:] for line in text.splitlines() if re.match(r"    pybuild\b", line)]


@pytest.mark.parametrize("words", commands("README.md") + commands("examples/hello/README.md"), ids=shlex.join)
def test_shown_flags_exist(words: list[str]) -> None:
    found = parse(words, FlagTable(EXECUTOR_FLAGS))
    assert found.arguments == []
    assert found.on("no-push") or found.texts("destination")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_flags_in_running_text_exist(page: str) -> None:
    table = FlagTable(EXECUTOR_FLAGS)
    others = {
        "--chown",
        "--from",
        "--mount",
        "--peer",
        "--scale",
        "--rounds",
        "--workload",
        "--pybuild",
        "--json",
        "--markdown",
        "--place",
    }
    for name in re.findall(r"`(--[a-z-]+)", (ROOT / page).read_text()):
        assert name[2:] in table.long or name in others, name


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_rooms_of_the_architecture_page_exist() -> None:
    rooms = {
        path.name for path in (ROOT / "src" / "pybuild").iterdir() if path.is_dir() and not path.name.startswith("__")
    }
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text[text.index("| room |") : text.index("## Two native")]
    first = "".join(line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|"))
    assert set(re.findall(r"`(\w+)`", first)) == rooms | {"events", "errors"}


def test_layout_and_archive_at_once(base_layout: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The second command of the README, and what ``examples/hello`` prints when it is run."""
    out, tar = tmp_path / "out", tmp_path / "app.tar"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    hello = ROOT / "examples" / "hello"
    words = [
        f"--context={hello}",
        f"--dockerfile={hello}/Dockerfile",
        f"--build-context=base=oci-layout://{base_layout}",
    ]
    words += [
        "--no-push",
        f"--oci-layout-path={out}",
        f"--tar-path={tar}",
        "--destination=app:1.0",
        "--build-arg=NAME=reader",
    ]
    subprocess.run([sys.executable, "-m", "pybuild", *words], check=True, env=env, capture_output=True, timeout=120)
    digest = json.loads((out / "index.json").read_text())["manifests"][0]["digest"]
    shown = subprocess.run(
        [sys.executable, hello / "show_image.py", out], check=True, env=env, capture_output=True, text=True, timeout=120
    )
    assert digest in shown.stdout
    assert "Hello, reader!" in shown.stdout
    assert "I am hello (1000), in /home/hello, Linux, year 1970." in shown.stdout
    assert "Words: blob config digest layer manifest" in shown.stdout
    named = subprocess.run(["tar", "-xOf", tar, "manifest.json"], check=True, capture_output=True, text=True).stdout
    assert json.loads(named)[0]["RepoTags"] == ["app:1.0"]

"""The program from outside, without a build: help, version, usage errors, streams that nobody reads."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from pybuild.cli.main import main
from pybuild.version import VERSION


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pybuild", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        check=False,
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert VERSION in capsys.readouterr().out
    assert main(["--verbosity=debug", "version", "--no-push"]) == 0


def test_help_names_every_shown_flag(capsys: pytest.CaptureFixture[str]) -> None:
    from pybuild.cli.executor_flags import EXECUTOR_FLAGS

    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for flag in EXECUTOR_FLAGS:
        assert (f"--{flag.name} " in out or f"--{flag.name}\n" in out) != flag.hidden, flag.name
    assert main(["help"]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--destinaton=x"], "Error: unknown flag: --destinaton\nhint: did you mean --destination?\n"),
        (["--no-push", "false"], 'Error: unknown command "false" for "pybuild"\nhint: write --no-push=false'),
        (["verison"], 'Error: unknown command "verison" for "pybuild"\nhint: did you mean version?'),
        (["--verbosity=loud", "--no-push"], 'parsing log level: not a valid logrus Level: "loud"'),
        (["--log-format=xml", "--no-push"], 'not a valid log format: "xml". Please specify one of (text, color, json)'),
        (["--context=x"], "Error: you must provide --destination, or use --no-push\n"),
        (["--no-push", "--", "x"], 'unexpected argument "x"'),
    ],
)
def test_usage_errors(capsys: pytest.CaptureFixture[str], words: list[str], part: str) -> None:
    assert main(words) == 1
    captured = capsys.readouterr()
    assert part in captured.err
    assert "Usage:" in captured.err
    assert captured.out == ""


def test_an_unknown_kind_of_context(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--context=ftp://x", "--no-push"]) == 1
    assert "error resolving source context: unknown build context prefix provided" in capsys.readouterr().err


def test_help_needs_few_modules() -> None:
    """What takes long to import is not needed to answer."""
    code = (
        "import sys; from pybuild.cli.main import main; main(['--help']); main(['version'])\n"
        "heavy = {'asyncio', 'httpx', 'uvloop', 'ssl', 'subprocess', 'msgspec', 'zstandard', 'json', 'inspect'} & sys.modules.keys()\n"
        "heavy -= {'inspect'}  # dataclasses needs it\n"
        "sys.exit(f'imported: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_help_into_a_closed_pipe_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "pybuild", "--help"], stdout=out, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.returncode == 141
    assert done.stderr == b""


def test_module_and_package_agree() -> None:
    assert run("version").stdout == f"pybuild version :  v{VERSION}\n"


def test_versions_agree() -> None:
    import tomllib

    project = pathlib.Path(__file__).resolve().parents[3] / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == VERSION

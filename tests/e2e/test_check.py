"""``--check``: findings and the exit status, nothing built."""

from __future__ import annotations

import pathlib

from .conftest import Program


def run_check(program: Program, context: pathlib.Path, text: str, *more: str) -> tuple[int, str]:
    (context / "Dockerfile").write_text(text)
    ended = program.run("--check", "--context", str(context), "--dockerfile", str(context / "Dockerfile"), *more)
    return ended.code, ended.err


def test_a_clean_file_has_status_0(program: Program, context: pathlib.Path) -> None:
    assert run_check(program, context, 'FROM scratch\nCMD ["/x"]\n')[0] == 0


def test_findings_have_rule_and_line(program: Program, context: pathlib.Path) -> None:
    code, told = run_check(program, context, "FROM example.com/base AS Stage\nMAINTAINER me\nCMD echo hello\n")
    assert code == 1
    assert "StageNameCasing" in told
    assert "Dockerfile:1" in told
    assert "MaintainerDeprecated" in told
    assert "Dockerfile:2" in told
    assert "JSONArgsRecommended" in told


def test_ignored_sources_are_told(program: Program, context: pathlib.Path) -> None:
    (context / ".dockerignore").write_text("secret\n")
    code, told = run_check(program, context, "FROM scratch\nCOPY secret /s\n")
    assert code == 1
    assert "CopyIgnoredFile" in told


def test_rules_can_be_left_out(program: Program, context: pathlib.Path) -> None:
    code, _ = run_check(
        program, context, "FROM scratch AS Stage\n", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=StageNameCasing"
    )
    assert code == 0

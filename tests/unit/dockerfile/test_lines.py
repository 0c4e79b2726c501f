"""Physical lines, directives, comments, continuations."""

from __future__ import annotations

import pytest

from pybuild.dockerfile.instructions import Copy, Env, From, Instruction, Label, Run, Workdir
from pybuild.dockerfile.parser import parse
from pybuild.errors import DockerfileError


def body(text: str | bytes) -> tuple[Instruction, ...]:
    data = text if isinstance(text, bytes) else text.encode()
    return parse(b"FROM base\n" + data).stages[0].instructions


def only(text: str | bytes) -> Instruction:
    (found,) = body(text)
    return found


def command(text: str) -> str:
    found = only(text)
    assert isinstance(found, Run)
    assert found.command.shell
    return found.command.argv[0]


def test_byte_order_mark_is_dropped_from_the_first_line() -> None:
    parsed = parse(b"\xef\xbb\xbf# escape=`\nFROM base\n")
    assert parsed.escape == "`"
    with pytest.raises(DockerfileError):
        parse(b"FROM base\n\xef\xbb\xbfRUN x\n")


def test_crlf_lines() -> None:
    parsed = parse(b"# escape=`\r\nFROM base\r\nRUN a `\r\n  b\r\nENV X=1\r\n")
    run, env = parsed.stages[0].instructions
    assert isinstance(run, Run) and run.command.argv == ("a   b",)
    assert isinstance(env, Env) and env.pairs[0].value == "1"


def test_crlf_within_a_heredoc_stays() -> None:
    found = only(b"COPY <<EOF /x\r\none\r\nEOF\r\n")
    assert isinstance(found, Copy)
    assert found.heredocs[0].content == "one\r\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN a \\\n b", "a  b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\  \t\n b", "a  b"),
        ("RUN a \\\n\n\n b", "a  b"),
        ("RUN a \\\n# note\n b", "a  b"),
        ("RUN a \\\n  # note \\\n b", "a  b"),
        ("RUN a \\\n\\\nb", "a b"),
        ("RUN a \\\\\n", "a \\\\"),
        ("RUN a \\", "a"),
        ("RUN a \\\n", "a"),
        ("RUN a \\\n\n# end", "a"),
        ("\t RUN\ta\tb ", "a\tb"),
        ("RUN \\\n  a", "a"),
        ("R\\\nUN a", "a"),
        ("RUN a # no comment", "a # no comment"),
        ("RUN \u00a0a", "a"),
    ],
)
def test_continuations_and_comments(text: str, expected: str) -> None:
    assert command(text) == expected


def test_empty_continuation_lines_are_a_finding() -> None:
    parsed = parse(b"FROM base\nRUN a \\\n\n  b\n")
    assert [(w.rule, w.place.line) for w in parsed.warnings] == [("NoEmptyContinuation", 4)]


def test_places_span_what_was_written() -> None:
    parsed = parse(b"# syntax=x\n\nFROM base AS a\n# c\nRUN one \\\n  two \\\n# c\n  three\nCOPY <<X /x\nbody\nX\n")
    from_ = parsed.stages[0].from_
    run, copy = parsed.stages[0].instructions
    assert (from_.place.line, from_.end_line) == (3, 3)
    assert (run.place.line, run.end_line) == (5, 8)
    assert (copy.place.line, copy.end_line) == (9, 11)
    assert run.place.text == "RUN one \\"
    assert run.text == "RUN one   two   three"
    assert str(copy.place) == "Dockerfile:9"


def test_comments_right_above_are_kept() -> None:
    parsed = parse(b"# far\n\n# name is a stage\n# more\nFROM base AS name\n#\n# run\nRUN x\nRUN y\n")
    assert parsed.stages[0].from_.comments == ("name is a stage", "more")
    run, other = parsed.stages[0].instructions
    assert run.comments == ("run",)
    assert other.comments == ()


# --- directives


def test_directives() -> None:
    parsed = parse(b"#SYNTAX = docker/dockerfile:1\n# Escape=`\n#check=skip=all\nFROM base\nRUN a `\n b\n")
    assert parsed.directives == {"syntax": "docker/dockerfile:1", "escape": "`", "check": "skip=all"}
    assert parsed.escape == "`"


@pytest.mark.parametrize("before", ["# a comment\n", "\n", "ARG X\n", "# unknown=x\n", "#\n"])
def test_directives_end_at_anything_else(before: str) -> None:
    assert parse(f"{before}# escape=`\nFROM base\n".encode()).escape == "\\"


def test_directive_twice() -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile:2: only one escape parser directive.*line 1"):
        parse(b"# escape=`\n# ESCAPE=`\nFROM base\n")


def test_bad_escape() -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:1: invalid escape token 'x'") as caught:
        parse(b"# escape=x\nFROM base\n")
    assert caught.value.place is not None
    assert caught.value.place.column == 9


def test_syntax_counts_below_a_shebang_but_escape_does_not() -> None:
    parsed = parse(b"#!/usr/bin/env thing\n# syntax=x\n# escape=`\nFROM base\n")
    assert parsed.directives["syntax"] == "x"
    assert parsed.escape == "\\"


def test_backtick_escape_in_words() -> None:
    parsed = parse(b'# escape=`\nFROM base\nENV A=a` b B="x`"y"\nWORKDIR C:\\dir\\\nLABEL x=`\ny\n')
    env, workdir, label = parsed.stages[0].instructions
    assert isinstance(env, Env)
    assert [(p.key, p.value) for p in env.pairs] == [("A", "a` b"), ("B", '"x`"y"')]
    assert isinstance(workdir, Workdir) and workdir.path == "C:\\dir\\"
    assert isinstance(label, Label)


# --- limits and odd bytes


def test_lines_that_are_too_long() -> None:
    parse(b"FROM base\nRUN " + b"x" * (65535 - 4) + b"\n")
    with pytest.raises(DockerfileError, match=r"Dockerfile:2: .*max allowed size of 65535"):
        parse(b"FROM base\nRUN " + b"x" * (65536 - 4) + b"\n")
    with pytest.raises(DockerfileError, match="max allowed size"):
        parse(b"FROM base\nRUN " + "é".encode() * 32767 + b"\n")
    with pytest.raises(DockerfileError, match="max allowed size"):
        parse(b"FROM base\nCOPY <<E /x\n" + b"x" * 65536 + b"\nE\n")
    # joined lines may be longer
    parse(b"FROM base\nRUN " + b"\\\n".join([b"x" * 60000] * 3) + b"\n")


def test_bytes_that_are_no_utf8_survive() -> None:
    found = only(b"ENV A=\xff\xfe")
    assert isinstance(found, Env)
    assert found.pairs[0].value.encode("utf-8", "surrogateescape") == b"\xff\xfe"


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# only\n# comments\n", b"\xef\xbb\xbf", b" \t\r\n"])
def test_files_without_instructions(data: bytes) -> None:
    with pytest.raises(DockerfileError, match="file with no instructions"):
        parse(data)


def test_nothing_before_from_but_arg() -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile:2: no build stage"):
        parse(b"ARG A\nRUN x\nFROM base\n")
    with pytest.raises(DockerfileError, match="no stages"):
        parse(b"ARG A\n")
    parsed = parse(b"ARG A=1 B\nFROM base\nARG C\n")
    assert [[(p.key, p.value) for p in a.pairs] for a in parsed.global_args] == [[("A", "1"), ("B", None)]]
    assert isinstance(parsed.stages[0].from_, From)


def test_a_line_of_nothing_but_continuations() -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:2"):
        parse(b"FROM base\n\\\n\\\n")

"""Here-documents in all their forms."""

from __future__ import annotations

import pytest

from pybuild.dockerfile.heredocs import Mark, marks_of_line, parse_mark, try_mark
from pybuild.dockerfile.instructions import Add, Copy, Onbuild, Run
from pybuild.dockerfile.parser import parse, parse_trigger
from pybuild.errors import DockerfileError, Place


def only(text: str) -> object:
    (found,) = parse(("FROM base\n" + text).encode()).stages[0].instructions
    return found


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("<<EOF", Mark("EOF", True, False)),
        ("<<-EOF", Mark("EOF", True, True)),
        ("<<'EOF'", Mark("EOF", False, False)),
        ('<<"EOF"', Mark("EOF", False, False)),
        ("<<E'O'F", Mark("EOF", False, False)),
        ("<<-'E F'", Mark("E F", False, True)),
        ("3<<EOF", Mark("EOF", True, False, 3)),
        ("<< EOF", Mark("EOF", True, False)),
        (r"<<\'EOF", Mark("'EOF", True, False)),
        ("<<$EOF", Mark("$EOF", True, False)),
        ("<<~EOF", Mark("~EOF", True, False)),
        ("<<EOF>file", Mark("EOF>file", True, False)),
        ("<<", None),
        ("<<-", None),
        ("<<<EOF", None),
        ("<EOF", None),
        ("x<<EOF", None),
        ("<<A<<B", None),
        ("<<A B", None),
        ("EOF", None),
    ],
)
def test_words(word: str, expected: Mark | None) -> None:
    assert parse_mark(word) == expected


def test_words_that_cannot_be_read_are_none() -> None:
    assert try_mark("<<'EOF") is None
    assert marks_of_line("cat <<EOF 'open") == []


def test_several_on_a_line() -> None:
    found = marks_of_line("RUN cat <<A 3<<-'B' \"<<C\" '<<D' \\<<E $((1<<2)) <<<F")
    assert [m.name for m in found] == ["A", "B"]


def test_run_script() -> None:
    run = only("RUN <<EOF\n#!/bin/sh\n# kept\necho \\\n  $X\n\nEOF\n")
    assert isinstance(run, Run)
    assert run.command.argv == ("<<EOF",)
    assert run.heredocs[0].content == "#!/bin/sh\n# kept\necho \\\n  $X\n\n"


def test_run_with_commands_around_and_a_body_for_each() -> None:
    run = only("RUN cat <<A - <<'B' > /out && \\\n  true\none $X\nB\nA\ntwo\nB\n")
    assert isinstance(run, Run)
    assert run.command.argv == ("cat <<A - <<'B' > /out &&   true",)
    assert [(h.name, h.content, h.expand) for h in run.heredocs] == [("A", "one $X\nB\n", True), ("B", "two\n", False)]


def test_flags_stay_out_of_the_command() -> None:
    run = only("RUN --network=none <<EOF\nx\nEOF\n")
    assert isinstance(run, Run)
    assert run.command.argv == ("<<EOF",)
    assert run.network == "none"


def test_tabs_are_dropped_with_a_dash() -> None:
    run = only("RUN <<-EOF\n\t\techo a\n  \tb\n\tEOF\n")
    assert isinstance(run, Run)
    assert run.heredocs[0].content == "echo a\n  \tb\n"
    assert run.heredocs[0].raw == "\t\techo a\n  \tb\n"
    with pytest.raises(DockerfileError, match=r"unterminated heredoc.*blanks beside it.*<<-"):
        only("RUN <<EOF\nx\n\tEOF\n")


def test_copy_and_add_files() -> None:
    copy = only("COPY --chmod=600 <<one.txt a <<-'two' /dest/\n1\none.txt\n\t2 $X\ntwo\n")
    assert isinstance(copy, Copy)
    assert copy.sources == ("a",)
    assert copy.destination == "/dest/"
    assert [(h.name, h.content, h.expand) for h in copy.heredocs] == [
        ("one.txt", "1\n", True),
        ("two", "2 $X\n", False),
    ]
    add = only("ADD <<E /x\nE\n")
    assert isinstance(add, Add)
    assert add.heredocs[0].content == ""


def test_a_destination_cannot_be_one() -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile:2: COPY cannot accept a heredoc as a destination") as caught:
        only("COPY a <<EOF\nx\nEOF\n")
    assert caught.value.place is not None
    assert caught.value.place.column == 7


def test_the_end_mark_must_come() -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile:2: unterminated heredoc: no line 'EOF'") as caught:
        only("RUN cat <<EOF\nx\n")
    assert caught.value.place is not None
    assert caught.value.place.column == 8
    assert isinstance(only("RUN <<EOF\nx\nEOF"), Run)


@pytest.mark.parametrize(
    "text",
    [
        'RUN ["cat", "<<EOF"]',
        'COPY ["a", "b"]',
        "CMD cat <<EOF",
        "ENTRYPOINT <<EOF",
        "LABEL a='<<EOF'",
        'RUN echo "<<EOF"',
        "RUN a <<<EOF",
    ],
)
def test_where_there_are_none(text: str) -> None:
    only(text + "\n")


def test_onbuild_carries_bodies_to_the_trigger() -> None:
    found = only("ONBUILD COPY <<-'A' <<B /d/\n\ta\n\tA\nb\nB\n")
    assert isinstance(found, Onbuild)
    assert found.trigger == "COPY <<-'A' <<B /d/\n\ta\nA\nb\nB"
    copy = parse_trigger(found.trigger, place=Place("Dockerfile", 7))
    assert isinstance(copy, Copy)
    assert copy.place.line == 7
    assert [(h.name, h.content, h.expand) for h in copy.heredocs] == [("A", "a\n", False), ("B", "b\n", True)]

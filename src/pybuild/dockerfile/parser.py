"""A Dockerfile's bytes to typed instructions in stages.

``parse`` reads a file, ``parse_trigger`` an ONBUILD trigger. Everything that is wrong raises ``DockerfileError`` with the line, the
line itself, the column where it can be told, and a suggestion when a name is close.
"""

from __future__ import annotations

from dataclasses import replace

from pybuild.dockerfile.heredocs import Mark, marks_of_line
from pybuild.dockerfile.instructions import Arg, Dockerfile, From, Instruction, Stage, Warning_
from pybuild.dockerfile.lines import Logical, Source, read_logical
from pybuild.dockerfile.nodes import HEREDOC_INSTRUCTIONS, Node, parse_node
from pybuild.dockerfile.spaces import SPACES
from pybuild.dockerfile.text_error import TextError
from pybuild.dockerfile.typed import type_instruction
from pybuild.errors import DockerfileError, Place


def parse(
    data: bytes, file: str = "Dockerfile", *, check: str | None = None, fail_on_findings: bool = True
) -> Dockerfile:
    """Read a Dockerfile; ``file`` is the name for messages.

    Its ``warnings`` are the findings of the build checks that the file alone decides (``dockerfile.checks``), as its ``# check=``
    directive, or ``check`` in its place, selects them. With ``error=true`` there, findings raise, unless ``fail_on_findings`` is
    false (to list them all).
    """
    from pybuild.dockerfile import checks

    source, instructions = read_instructions(data, file)
    if not instructions:
        raise DockerfileError(
            "file with no instructions",
            place=Place(file, max(1, len(source.lines))),
            hint="a Dockerfile begins with FROM",
        )
    global_args: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for instruction in instructions:
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        else:
            raise DockerfileError(
                "no build stage in current context",
                place=instruction.place,
                hint="only ARG can stand before the first FROM",
            )
    if not stages:
        raise DockerfileError(
            "dockerfile contains no stages to build", place=instructions[-1].place, hint="add a FROM line"
        )
    parsed = Dockerfile(
        file=file,
        global_args=tuple(global_args),
        stages=tuple(Stage(i, from_, tuple(body)) for i, (from_, body) in enumerate(stages)),
        escape=source.escape,
        directives=dict(source.directives),
    )
    empty = tuple(
        Warning_("NoEmptyContinuation", "Empty continuation line", source.place(n)) for n in source.empty_continuations
    )
    if check is not None:
        parsed = replace(parsed, directives={**parsed.directives, "check": check})
    try:
        options = checks.check_options(parsed)
    except DockerfileError as e:
        if check is None:
            e.place = source.place(source.directive_lines["check"])
        raise
    warnings = checks.check_dockerfile(replace(parsed, warnings=empty), options)
    if fail_on_findings:
        checks.fail_on_findings(warnings, options)
    return replace(parsed, warnings=warnings)


def parse_trigger(text: str, *, place: Place, escape: str = "\\") -> Instruction:
    """The instruction of an ONBUILD trigger (``escape`` is for its words, its lines always use ``\\``, as BuildKit reads them).
    The result and errors have ``place``, the FROM that fired it."""
    try:
        _, found = read_instructions(text.encode("utf-8", "surrogateescape"), place.file)
    except DockerfileError as e:
        raise DockerfileError(f"ONBUILD trigger {shorten(text)!r}: {e.message}", place=place, hint=e.hint) from None
    except UnicodeEncodeError:
        raise DockerfileError("an ONBUILD trigger is not valid text", place=place) from None
    if len(found) != 1:
        raise DockerfileError(f"onbuild trigger should be a single expression: {shorten(text)!r}", place=place)
    if isinstance(found[0], From):
        raise DockerfileError("FROM isn't allowed as an ONBUILD trigger", place=place)
    return replace(found[0], place=place, end_line=place.line, comments=())


def shorten(text: str) -> str:
    line = text.split("\n", 1)[0]
    return line if len(line) <= 80 else line[:77] + "..."


def read_instructions(data: bytes, file: str) -> tuple[Source, list[Instruction]]:
    """The file's lines and its instructions in order, without a look at how they belong together."""
    reader = _Reader()
    source, logical = read_logical(data, file, reader.marks)
    return source, [read_instruction(source, line) for line in logical]


def parse_nodes(data: bytes, file: str = "Dockerfile") -> list[Node]:
    """Instructions taken apart but not yet checked, for the parser's conformance data."""
    source, logical = read_logical(data, file, _Reader().marks)
    if not logical:
        raise DockerfileError("file with no instructions", place=Place(file, max(1, len(source.lines))))
    return [take_apart(source, line) for line in logical]


class _Reader:
    """Tells which here-documents a line begins: only RUN, COPY and ADD have some, also within ONBUILD, not in JSON form."""

    def marks(self, text: str) -> list[Mark]:
        name = text.split(None, 1)[0].lower()
        if name not in HEREDOC_INSTRUCTIONS and name != "onbuild":
            return []
        # the shape does not depend on the escape character for these
        if not parse_node(text, "\\").takes_heredocs():
            return []
        return marks_of_line(text)


def take_apart(source: Source, line: Logical) -> Node:
    try:
        return parse_node(line.text, source.escape)
    except TextError as e:
        raise DockerfileError(e.message, place=source.find(line.start, line.end, e.word), hint=e.hint) from None


def read_instruction(source: Source, line: Logical) -> Instruction:
    node = take_apart(source, line)
    common = {
        "place": source.place(line.start),
        "text": line.text.strip(SPACES),
        "end_line": line.end,
        "comments": line.comments,
    }
    try:
        return type_instruction(node, line.bodies, common)
    except TextError as e:
        raise DockerfileError(e.message, place=source.find(line.start, line.end, e.word), hint=e.hint) from None

"""What is wrong is named: line, column, what was expected, what was meant."""

from __future__ import annotations

import pytest

from pybuild.dockerfile.parser import parse
from pybuild.dockerfile.suggest import closest
from pybuild.errors import DockerfileError


def error(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse(text.encode(), "sub/Dockerfile")
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("FROM a\nRUM x\n", 2, 0, "unknown instruction: RUM", "did you mean RUN?"),
        ("FROM a\nxyzzy x\n", 2, 0, "unknown instruction: xyzzy", "an instruction begins with"),
        ("FROM a\nCOPY --chwon=1 a b\n", 2, 5, "unknown flag: --chwon", "did you mean --chown?"),
        ("FROM a\nCOPY \\\n  --frm=x \\\n  a b\n", 3, 2, "unknown flag: --frm", "did you mean --from?"),
        ("FROM a\nENV --x a=b\n", 2, 4, "unknown flag: --x", "takes no flags"),
        (
            "FROM a\nCOPY --link=maybe a b\n",
            2,
            5,
            "expecting boolean value for flag --link, not: maybe",
            "true or false",
        ),
        ("FROM a\nCOPY --link= a b\n", 2, 5, "missing a value on flag: --link", "--link=true"),
        ("FROM a\nCOPY --chown a b\n", 2, 5, "missing a value on flag: --chown", "--chown=VALUE"),
        ("FROM a\nCOPY --chown=1 --chown=2 a b\n", 2, 5, "duplicate flag specified: --chown", "once"),
        ("FROM a\nRUN --mount x\n", 2, 4, "missing a value on flag: --mount", "--mount=VALUE"),
        ("FROM a\nRUN --network=hots x\n", 2, 14, "network mode 'hots' is not supported", "did you mean host?"),
        ("FROM a\nRUN --security=x y\n", 2, 15, "security mode 'x' is not supported", "sandbox, insecure"),
        ("FROM a\nRUN --mount=from=$X,target=/y z\n", 2, 4, "doesn't support variable expansion", "define a stage"),
        ("FROM a AS 1x\n", 1, 10, "invalid name for build stage: '1x'", "a name is a letter"),
        ("FROM a # b\n", 1, 7, "FROM requires either one or three arguments", "FROM IMAGE AS NAME"),
        ("FROM a\nENV A\n", 2, 4, "ENV must have two arguments", "ENV A=value"),
        ("FROM a\nENV A=b c=d e f\n", 2, 12, "can't find = in", "quote a value"),
        ("FROM a\nLABEL\n", 2, None, "LABEL requires at least one argument", ""),
        ("FROM a\nUSER\n", 2, None, "USER requires exactly one argument", ""),
        ("FROM a\nENV =x\n", 2, 4, "ENV names can not be blank", ""),
        ("FROM a\nARG =x\n", 2, 4, "ARG names can not be blank", ""),
    ],
)
def test_places_and_hints(text: str, line: int, column: int | None, message: str, hint: str) -> None:
    found = error(text)
    assert found.place is not None
    assert (found.place.file, found.place.line, found.place.column) == ("sub/Dockerfile", line, column)
    assert found.place.text == text.split("\n")[line - 1]
    assert message in found.message
    assert hint in found.hint


@pytest.mark.parametrize(
    ("word", "options", "expected"),
    [
        ("RNU", ["RUN", "ENV"], "RUN"),
        ("entrypiont", ["ENTRYPOINT"], "ENTRYPOINT"),
        ("zzz", ["RUN", "ENV"], ""),
        ("", ["RUN"], ""),
        ("x" * 10000, ["RUN"], ""),
        ("x", ["y", "z"], ""),
    ],
)
def test_closest(word: str, options: list[str], expected: str) -> None:
    assert closest(word, options) == expected

"""Reading ignore files."""

from __future__ import annotations

import pytest

from pybuild.dockerfile.ignore import ignore_matcher, read_ignore
from pybuild.errors import DockerfileError


def test_reading() -> None:
    data = b"\xef\xbb\xbf# comment\n\n  a/b/  \n/abs\n!keep\n! /abs/../x \n #no-comment\n./c//d\n\\#x\n**\r\n/\n"
    assert read_ignore(data) == ["a/b", "abs", "!keep", "!x", "#no-comment", "c/d", "\\#x", "**", "/"]


def test_a_lone_mark_is_refused() -> None:
    with pytest.raises(DockerfileError, match=r"x.dockerignore:2: illegal exclusion pattern"):
        read_ignore(b"a\n ! \n", "x.dockerignore")


def test_matcher() -> None:
    assert ignore_matcher(b"# nothing\n\n") is None
    matcher = ignore_matcher(b"*.log\n!keep.log\ndir\n")
    assert matcher is not None
    assert [matcher.matches(p) for p in ("a.log", "keep.log", "dir/x", "other")] == [True, False, True, False]


@pytest.mark.parametrize("pattern", ["[a", "a[]", "x\\", "[z-a]*"])
def test_a_bad_pattern_names_its_line(pattern: str) -> None:
    with pytest.raises(DockerfileError, match=r"\.dockerignore:3: syntax error in pattern") as caught:
        ignore_matcher(f"a\nb\n{pattern}\nc\n".encode())
    assert caught.value.place is not None
    assert caught.value.place.text == pattern

"""Expansion, quotes and word splitting beyond the conformance data."""

from __future__ import annotations

import pytest

from pybuild.dockerfile.text_error import TextError
from pybuild.dockerfile.words import expand, expand_heredoc, expand_words, process, used_names

ENV = {
    "A": "a",
    "PATHS": "/usr/local/lib/libfoo.so.1",
    "EMPTY": "",
    "STARS": "a*b?c",
    "N": "one\ntwo",
    "X": "xxyxx",
    "S": "a  b",
}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        # shortest and longest, from both ends
        ("${PATHS#*/}", "usr/local/lib/libfoo.so.1"),
        ("${PATHS##*/}", "libfoo.so.1"),
        ("${PATHS%.*}", "/usr/local/lib/libfoo.so"),
        ("${PATHS%%.*}", "/usr/local/lib/libfoo"),
        ("${PATHS#nope}", ENV["PATHS"]),
        ("${PATHS##*}", ""),
        ("${PATHS#*}", ENV["PATHS"]),
        ("${PATHS%}", ENV["PATHS"]),
        ("${X#x}", "xyxx"),
        ("${X#??}", "yxx"),
        ("${X%%x*}", ""),
        ("${X%x*}", "xxyx"),
        ("${X##x*y}", "xx"),
        ("${X%%y*x}", "xx"),
        # escaped wildcards and closing braces
        (r"${STARS#a\*}", "b?c"),
        (r"${STARS%\?c}", "a*b"),
        (r"${STARS/\*/+}", "a+b?c"),
        (r"${STARS//\?/}", "a*bc"),
        (r"${A#\}}", "a"),
        # replacing
        ("${PATHS/lib/LIB}", "/usr/local/LIB/libfoo.so.1"),
        ("${PATHS//lib/LIB}", "/usr/local/LIB/LIBfoo.so.1"),
        (r"${PATHS//\//-}", "-usr-local-lib-libfoo.so.1"),
        ("${PATHS/l*l/X}", "/usr/Xibfoo.so.1"),
        ("${X//x/}", "y"),
        ("${X/?/_}", "_xyxx"),
        ("${X//x*/_}", "_"),
        ("${X//z*/_}", "xxyxx"),
        ("${NOPE/a/b}", ""),
        ("${X/x/$A}", "axyxx"),
        ("${X/${NOPE:-y}/${A}}", "xxaxx"),
        # a star ends at a line end
        ("${N#*e}", "\ntwo"),
        ("${N##*e}", "\ntwo"),
        ("${N##*o}", "ne\ntwo"),
        ("${N%t*}", "one\n"),
        ("${N//o*/_}", "_\ntw_"),
        # defaults
        ("${A-x}${NOPE-x}${EMPTY-x}", "ax"),
        ("${A:-x}${NOPE:-x}${EMPTY:-x}", "axx"),
        ("${A+x}${NOPE+x}${EMPTY+x}", "xx"),
        ("${A:+x}${NOPE:+x}${EMPTY:+x}", "x"),
        ("${EMPTY?m}${A:?m}", "a"),
        ("${NOPE:-'$A'\"$A\"}", "$Aa"),
        ("${NOPE:-${NOPE:-${A}}}", "a"),
        ("'${A}'\"'${A}'\"", "${A}'a'"),
        ("$A$", "a$"),
        ("$A.$-x$$", "a.x"),
        (r"\\$A\$A", r"\a$A"),
        ("${A}${A", None),
        ("${A:=x}", None),
        ("${A:#x}", None),
        ("${A:%x}", None),
        ("${A:", None),
        ("${A/x", None),
        ("${A/x/y", None),
        ("${{A}}", None),
        ("${A!}", None),
        ("${A#\\x}", None),
        ('"${A:-\'}"', None),
    ],
)
def test_expand(word: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(TextError):
            expand(word, ENV)
    else:
        assert expand(word, ENV) == expected


def test_messages_of_required_variables() -> None:
    with pytest.raises(TextError, match=r"^NOPE: is not allowed to be unset$"):
        expand("${NOPE?}", ENV)
    with pytest.raises(TextError, match=r"^EMPTY: is not allowed to be empty$"):
        expand("${EMPTY:?}", ENV)
    with pytest.raises(TextError, match=r"^NOPE: give a$"):
        expand("${NOPE:?give ${A}}", ENV)


def test_other_escape_character() -> None:
    assert expand(r"a\b`$A`` $A", ENV, escape="`") == r"a\b$A` a"
    assert expand('"`"$A`x"', ENV, escape="`") == '"a`x'


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a$S", ["aa", "b"]),
        ('a"$S"', ["aa  b"]),
        ("'' x \"\"", ["x"]),
        (r"a\ b c", ["a b", "c"]),
        ("${NOPE:-x y}", ["x", "y"]),
        ("80${EMPTY:-80}", ["8080"]),
        ("a\tb\nc", ["a", "b", "c"]),
        ("", []),
    ],
)
def test_words(word: str, expected: list[str]) -> None:
    assert expand_words(word, ENV) == expected


def test_which_variables_a_word_names() -> None:
    found = process("$A ${NOPE:-$OTHER} '$QUOTED' \\$ESCAPED ${EMPTY}", ENV)
    assert found.used == {"A", "EMPTY"}
    assert found.missing == {"NOPE", "OTHER"}
    assert used_names(["$A${B:-$C}", "$D${", "'$E'"]) == {"A", "B", "C", "D"}


def test_heredoc_bodies_keep_their_quotes() -> None:
    body = 'x=\'$A\' "$A" it\'s \\$A \\n ${NOPE:-"d"}\n'
    assert expand_heredoc(body, ENV) == 'x=\'a\' "a" it\'s $A n "d"\n'
    assert expand_heredoc("`$A`", ENV) == "`a`"


def test_nesting_and_growth_have_a_limit() -> None:
    deep = "${a:-" * 5000 + "x" + "}" * 5000
    with pytest.raises(TextError, match="nested"):
        expand(deep, {})
    assert expand("${a:-" * 50 + "x" + "}" * 50, {}) == "x"
    with pytest.raises(TextError, match="nested"):
        expand('"${a:-' * 5000 + "x" + '}"' * 5000, {})
    assert expand('"${a:-' * 60 + "x" + '}"' * 60, {}) == "x"
    big = {"B": "b" * (1 << 20)}
    with pytest.raises(TextError, match="longer than 16 MiB"):
        expand("$B" * 20, big)
    with pytest.raises(TextError, match="longer than 16 MiB"):
        expand("${B//b/" + "c" * 100 + "}", big)


def test_patterns_do_not_explode() -> None:
    env = {"V": "a" * 20000}
    assert expand("${V##*a*a*a*a*a*a*a*a*b}", env) == env["V"]
    assert expand("${V//*a*a*a*a*a*a*a*a*b/x}", env) == env["V"]
    assert expand("${V%%b*a*a*a*a*a*a*a*a*}", env) == env["V"]

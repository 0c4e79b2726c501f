"""Ignore patterns and Go's ``filepath.Match``: known answers, and a second implementation by regular expressions to agree with."""

from __future__ import annotations

import posixpath
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild._native.match import Matcher, clean_path, go_match


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("**", "file", True), ("**", "dir/file", True), ("**/**", "dir/file", True), ("dir/**", "dir/file", True),
        ("dir/**", "dir/dir2/file", True), ("dir/**", "dir", False), ("dir**", "dir", True), ("dir**", "dirx/y", True),
        ("**/dir", "dir", True), ("**/dir", "a/dir", True), ("**/dir", "a/dir/b", True), ("**/dir", "adir", False),
        ("**/dir2/*", "dir/dir2/file", True), ("**/dir2/*", "dir/dir2", False), ("**/dir2/*", "dir/dir2/dir2/file", True),
        ("**/dir2/**", "dir/dir2/dir2/file", True), ("**/dir2/**", "dir2/file", True), ("**/dir2/**", "dir2", False),
        ("**file", "file", True), ("**file", "a/xfile", True), ("**/file*", "dir/dir/file.txt", True),
        ("**/file*txt", "dir/dir/file.txt", True), ("**/*.txt", "file.txt", True), ("**/*.txt", "a/b.txt/c", True),
        ("**/**/*.txt2", "dir/dir/file.txt", False), ("a**/*.txt", "a/file.txt", True), ("a**/*.txt", "a/dir/file.txt", True),
        ("a/*.txt", "a/dir/file.txt", False), ("a/*.txt**", "a/file.txt", True), ("a/**/b", "a/b", True), ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/xb", False), ("*", "a", True), ("*", "a/b", True), ("*/*", "a", False), ("*.txt", "a.txt", True),
        ("*.txt", "d/a.txt", False), ("*.txt", "d.txt/a", True), ("?", "a", True), ("?", "é", True), ("?", "ab", False), ("?/x", "//x", False),
        ("a?c", "a/c", False), ("a[b-d]e", "ace", True), ("a[b-d]e", "ae", False), ("a[^b-d]e", "aze", True), ("a[^b-d]e", "ace", False),
        ("[a-]", "a", None), ("a[^x]b", "a/b", True), ("abc.def", "abcdef", False), ("abc.def", "abcZdef", False), ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False), ("a\\\\", "a\\", True), (".*", ".foo", True), (".*", "foo", False), ("f(o)o+", "f(o)o+", True),
        ("a|b", "a", False), ("{a}$", "{a}$", True), ("x{2}*", "xx", False), ("foo", "foo/bar/baz", True), ("foo/bar", "foo", False),
        ("/foo", "foo", False), ("./foo", "foo", True), ("foo/", "foo", True), ("foo/./bar/../x", "foo/x", True), (" foo ", "foo", True),
        ("^foo", "foo", False), ("^foo", "^foo", True), ("^f*", "foo", True), ("a^*", "a^x", False), ("a\\d*", "a1x", True),
        ("a\\d*", "adx", False), ("[\\]a]x*", "]xy", True), ("[[:digit:]]*", "7x", True), ("**/**/x", "x", True), ("***", "a/b", True),
        ("a/***/b", "a/x/b", True), ("**/a/**/*.o", "x/a/y/z/f.o", True), ("b*", "bé/ñ", True), ("[é]*", "éa", True), ("[à-ü]x", "éx", True),
        ("src\\bin", "src\\bin", False), ("a\\b.*", "a.x", True), ("a\\b*", "ab", False), ("a\\Bb*", "ab", True), ("bin\\Debug", "bin/ebug", True),
        ("a\\zb*", "ab", False), ("*a\\z", "ba", True), ("\\Aa*", "ab", True), ("x\\Query*", "xuery", False), ("\\pLx*", "éxa", True), ("[\\PL]x*", "éx", False),
        ("", "a", False), (".", "a", False), ("..", "a", False), ("*a*b*c", "xaxbxc", True), ("*a*b*c", "xaxbxcx", False),
    ],
)  # fmt: skip
def test_patterns(pattern: str, path: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="syntax error in pattern"):
            Matcher([pattern])
        return
    assert Matcher([pattern]).matches(path) is expected


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        (["*.md", "!README.md"], "README.md", False),
        (["!README.md", "*.md"], "README.md", True),
        (["**", "!util/docker/web"], "util/docker/web/foo", False),
        (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
        (["**", "!dist/*.whl"], "dist/a.whl", False),
        (["a", "!a/b", "a/b/c"], "a/b/c", True),
        (["a", "!a/b", "a/b/c"], "a/b/d", False),
        (["a/b", "!a"], "a/b/c", False),
        (["a", "", "  ", "!b"], "a", True),
        (["! a"], "a", False),
    ],
)
def test_order_decides(patterns: list[str], path: str, expected: bool) -> None:
    assert Matcher(patterns).matches(path) is expected


def test_the_root_is_never_ignored() -> None:
    for path in ("", ".", "a/.."):
        assert Matcher(["**"]).matches(path) is False


@pytest.mark.parametrize(
    "pattern",
    [
        "[",
        "a[",
        "[]",
        "[]a]",
        "[^",
        "[a-",
        "[-a]",
        "a\\",
        "!",
        "[z-a]x",
        "\\e*",
        "\\8*",
        "\\é",
        "\\Release",
        "x[\\b]",
        "\\pq",
        "x\0y",
    ],
)
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Matcher(["fine", pattern])


def test_names_that_are_no_utf8() -> None:
    name = b"a\xffb".decode("utf-8", "surrogateescape")
    assert Matcher(["a?b"]).matches(name)
    assert Matcher(["a*"]).matches(name)
    assert Matcher([name]).matches(name)
    assert Matcher([name + "*"]).matches(name)
    assert not Matcher(["ab"]).matches(name)


def test_walking_is_what_a_build_does() -> None:
    # the last pattern is not looked at for "a", so it leaves no mark for what is below (moby's MatchesUsingParentResults)
    matcher = Matcher(["a", "!a/b", "a"])
    assert matcher.matches("a/b") is True
    ignored, state = matcher.match_below("a", None)
    assert ignored
    assert matcher.match_below("a/b", state)[0] is False
    assert matcher.walk_state("a/b") == matcher.match_below("a/b", state)
    with pytest.raises(ValueError, match="state"):
        matcher.match_below("a/b", b"\0")


@pytest.mark.parametrize(
    ("patterns", "directory", "expected"),
    [
        (["a"], "a", False),
        (["a", "!a/b"], "a", True),
        (["a", "!a/b/c/d"], "a/b", True),
        (["a", "!b"], "a", False),
        (["a", "!ab"], "a", False),
        (["a", "!a"], "a", False),
        (["a", "!**/x"], "a", True),
        (["a", "!*.txt"], "a", False),
        (["a", "!*/x"], "a", True),
        (["a", "!*/x"], "a/b", False),
        (["a", "!a/**"], "a/b/c", True),
        (["a", "!b/**"], "a", False),
        (["a", "!a/b/**"], "a", True),
        (["a", "!a**"], "a/b", True),
        (["a", "!x/**/y"], "a", False),
        (["a", "!a/**/y"], "a/b/c", True),
        (["a", "!a/?/y"], "a/b", True),
        (["a", "!a/?/y"], "a/bb", False),
        (["a", "!**"], "a", True),
        (["a", "!b"], "", True),
        (["a", "!a\\b/x"], "a", True),
        (["a", "!a/\\bx"], "a", True),
        (["a", "!a\\z"], "a", False),
    ],
)
def test_may_reinclude(patterns: list[str], directory: str, expected: bool) -> None:
    assert Matcher(patterns).may_reinclude(directory) is expected


def test_what_a_matcher_tells() -> None:
    matcher = Matcher(["a/./b", "!c", " "])
    assert matcher.patterns == ("a/b", "c")
    assert matcher.negations
    assert not Matcher(["a"]).negations
    assert not Matcher([]).matches("a")


def test_time_is_linear() -> None:
    matcher = Matcher(["*a" * 40 + "b", "**/" + "a*" * 60 + "/b", "b/" * 500 + "*"])
    begin = time.process_time()
    assert not matcher.matches("a" * 4000)
    assert not matcher.matches("/".join("a" * 2000))
    assert time.process_time() - begin < 1.0
    with pytest.raises(ValueError, match="too long"):
        Matcher(["?" * 5000])


def test_many_names() -> None:
    matcher = Matcher(
        ["**/*.pyc", "**/__pycache__", "node_modules", "*.log", "docs/**", "a/*/b?c*", "**/x*y*z/*.o", "!keep/**/*.me"]
    )
    begin = time.process_time()
    for i in range(50_000):
        matcher.matches(f"src/package/deep/dir/module{i}.py")
    assert time.process_time() - begin < 2.0


# --- Go's filepath.Match


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("abc", "abc", True), ("*", "abc", True), ("*c", "abc", True), ("a*", "a", True), ("a*", "ab/c", False), ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False), ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True), ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True), ("a*b?c*x", "abxbbxdbxebxczzy", False), ("ab[c]", "abc", True), ("ab[b-d]", "abc", True),
        ("ab[^c]", "abc", False), ("ab[^e-g]", "abc", True), ("a\\*b", "a*b", True), ("a\\*b", "ab", False), ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True), ("a???b", "a☺b", False), ("[a-ζ]*", "α", True), ("*[a-ζ]", "A", False), ("a?b", "a/b", False),
        ("a*b", "a/b", False), ("[\\]a]", "]", True), ("[\\-x]", "-", True), ("[x\\-]", "z", False), ("*x", "xxx", True), ("", "", True),
        ("", "x", False), ("*", "", True), ("?", "", False), ("[]a]", "]", None), ("[-]", "-", None), ("[x-]", "x", None),
        ("[a-b-c]", "a", None), ("[", "a", None), ("[^", "a", None), ("[^bc", "a", None), ("a[", "a", None), ("a/b[", "x", None), ("\\", "a", None),
        ("*a*a*a*a*b", "a" * 2000, False),
    ],
)  # fmt: skip
def test_go_match(pattern: str, name: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="syntax error in pattern"):
            go_match(pattern, name)
        return
    assert go_match(pattern, name) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [("", "."), ("a/", "a"), ("//a", "/a"), ("a/../..", ".."), ("/..", "/"), ("./a//b/.", "a/b"), ("!a/../b", "b")],
)
def test_clean_path(path: str, expected: str) -> None:
    assert clean_path(path) == expected


# --- a second implementation: moby's way, by regular expressions

ALPHABET = "ab./*?[]^-\\!é"


def as_regex(pattern: str) -> tuple[str, str]:
    """What moby makes of a pattern: how it matches, and the text or expression."""
    out, kind, at = "^", "exact", 0
    while at < len(pattern):
        start, ch = at, pattern[at]
        at += 1
        if ch == "*" and pattern[at : at + 1] == "*":
            at += 1
            at += pattern[at : at + 1] == "/"
            if at == len(pattern):
                if kind == "exact":
                    kind = "prefix"
                else:
                    out, kind = out + ".*", "regexp"
            else:
                out, kind = out + "(.*/)?", "regexp"
            if start == 0:
                kind = "suffix"
        elif ch == "*":
            out, kind = out + "[^/]*", "regexp"
        elif ch == "?":
            out, kind = out + "[^/]", "regexp"
        elif ch in ".+()|{}$":
            out += "\\" + ch
        elif ch == "\\":
            if at < len(pattern):
                out, kind = out + "\\" + pattern[at], "regexp"
                at += 1
            else:
                out += "\\"
        elif ch in "[]":
            out, kind = out + ch, "regexp"
        else:
            out += ch
    return kind, {"exact": pattern, "prefix": pattern[:-2], "suffix": pattern[2:]}.get(kind, out + "$")


def reference_match(pattern: str, path: str) -> bool:
    kind, text = as_regex(pattern)
    if kind == "exact":
        return path == text
    if kind == "prefix":
        return path.startswith(text)
    if kind == "suffix":
        return path.endswith(text) or (text[:1] == "/" and path == text[1:])
    return re.search(text[:-1] + r"\Z", path) is not None


def reference(patterns: list[str], path: str) -> bool:
    matched = False
    for pattern in patterns:
        exclusion = pattern.startswith("!")
        bare = pattern[1:] if exclusion else pattern
        if exclusion != matched:
            continue
        parts = path.split("/")
        if any(reference_match(bare, "/".join(parts[:n])) for n in range(len(parts), 0, -1)):
            matched = not exclusion
    return matched


# no classes here: Python reads some of them in another way than RE2
simple = st.text("ab./*?é", min_size=1, max_size=12).map(clean_path).filter(lambda p: not p.startswith(("/", ".")))
paths = st.lists(
    st.text("ab.é", min_size=1, max_size=4).filter(lambda p: p not in (".", "..")), min_size=1, max_size=4
).map("/".join)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.booleans(), simple), min_size=1, max_size=4), paths)
def test_agrees_with_regular_expressions(items: list[tuple[bool, str]], path: str) -> None:
    patterns = ["!" + p if negated else p for negated, p in items]
    matcher = Matcher(patterns)
    assert matcher.matches(path) == reference(patterns, path)


@settings(max_examples=300, deadline=None)
@given(simple, paths, paths)
def test_skipped_directories_hide_nothing(pattern: str, directory: str, below: str) -> None:
    matcher = Matcher([directory, "!" + pattern])
    if not matcher.may_reinclude(directory):
        assert not reference_match(pattern, posixpath.join(directory, below))


@settings(max_examples=400, deadline=None)
@given(st.text(ALPHABET, max_size=12), st.text(ALPHABET, max_size=12))
def test_anything_is_matched_or_refused(pattern: str, path: str) -> None:
    try:
        matcher = Matcher([pattern])
    except ValueError:
        return
    matcher.matches(path)
    matcher.may_reinclude(path)

"""Ports, durations, signals, modes, git addresses."""

from __future__ import annotations

import pytest

from pybuild.dockerfile.durations import parse_duration
from pybuild.dockerfile.git_ref import parse_git_ref
from pybuild.dockerfile.modes import parse_chmod
from pybuild.dockerfile.ports import expand_ports
from pybuild.dockerfile.signals import check_signal
from pybuild.dockerfile.text_error import TextError


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80", ["80/tcp"]),
        ("80/UDP", ["80/udp"]),
        ("80/", ["80/tcp"]),
        ("0", ["0/tcp"]),
        ("8000-8002/sctp", ["8000/sctp", "8001/sctp", "8002/sctp"]),
        ("80-80", ["80/tcp"]),
        ("8080:80", ["80/tcp"]),
        ("1.2.3.4:8080:80", ["80/tcp"]),
        ("[::1]:8080:80/udp", ["80/udp"]),
        ("::1:8080:80", ["80/tcp"]),
        ("8000-8010:80", ["80/tcp"]),
        ("1.2.3.4::80", ["80/tcp"]),
    ],
)
def test_ports(word: str, expected: list[str]) -> None:
    assert expand_ports(word) == expected


@pytest.mark.parametrize(
    "word",
    [
        "",
        "/tcp",
        "x",
        "80/icmp",
        "65536",
        "-1",
        "81-80",
        "80-81-82",
        "80-",
        "8000-8010:80-81",
        "x:80",
        "1.2.3:1:80",
        "80/tcp/udp",
        "٣",
        "9" * 5000,
    ],
)
def test_ports_refused(word: str) -> None:
    with pytest.raises(TextError):
        expand_ports(word)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("5s", 5 * 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5h", 5400 * 10**9),
        ("300ms", 3 * 10**8),
        ("1us", 1000),
        ("1µs", 1000),
        ("7ns", 7),
        ("-1s", -(10**9)),
        ("+.5s", 5 * 10**8),
        ("1.s", 10**9),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "5", "s", ".s", "1 s", "1x", "1s2", "9" * 30 + "h", "-", "1e3s"])
def test_durations_refused(text: str) -> None:
    with pytest.raises(TextError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["SIGTERM", "term", "Sigkill", "9", "RTMIN+3", "SIGRTMAX-1", "64"])
def test_signals(text: str) -> None:
    check_signal(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [("SIGTREM", "SIGTERM"), ("0", "begin at 1"), ("", "name like"), ("-1", "name like"), ("NOPE", "")],
)
def test_signals_refused(text: str, hint: str) -> None:
    with pytest.raises(TextError) as caught:
        check_signal(text)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "mode", "is_dir", "expected"),
    [
        ("755", 0, False, 0o755),
        ("0644", 0o777, True, 0o644),
        ("4755", 0, False, 0o4755),
        ("0", 0o777, False, 0),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o700, False, 0o755),
        ("u=rwX,go=rX", 0o600, True, 0o755),
        ("a+X", 0o644, False, 0o644),
        ("+X", 0o744, False, 0o755),
        ("a-x,a+X", 0o755, False, 0o755),
        ("go-w", 0o666, False, 0o644),
        ("+w", 0o444, False, 0o666),
        ("=r", 0o4755, False, 0o444),
        ("u=rw", 0o4755, False, 0o655),
        ("g=u", 0o740, False, 0o770),
        ("o=u-w", 0o640, False, 0o644),
        ("g+o", 0o604, False, 0o644),
        ("o-u", 0o767, False, 0o760),
        ("u+s,g+s", 0o755, False, 0o6755),
        ("o+s", 0o755, False, 0o755),
        ("+t", 0o777, True, 0o1777),
        ("o+t", 0o777, True, 0o777),
        ("ug+rw-x", 0o711, False, 0o661),
        ("go=", 0o777, False, 0o700),
        ("=", 0o777, False, 0),
        ("u+r,", 0, False, None),
        ("u", 0, False, None),
        ("", 0, False, None),
        ("u+y", 0, False, None),
        ("8", 0, False, None),
        ("10000", 0, False, None),
        ("755x", 0, False, None),
        ("u+r,,g+r", 0, False, None),
        ("-755", 0, False, None),
    ],
)
def test_modes(text: str, mode: int, is_dir: bool, expected: int | None) -> None:
    if expected is None:
        with pytest.raises(TextError, match="invalid chmod parameter"):
            parse_chmod(text)
    else:
        assert oct(parse_chmod(text).apply(mode, is_dir)) == oct(expected)


def test_octal_modes_are_told() -> None:
    assert parse_chmod("0755").octal == 0o755
    assert parse_chmod("a+x").octal is None


# --- git


@pytest.mark.parametrize(
    "text",
    [
        "./x.git",
        "../x.git",
        "x.git",
        "dir/x",
        "https://h/x",
        "https://h/x.git/sub",
        "https://h/x.tar.gz",
        "ftp://h/x.git",
        "github.com/a/b",
        "http://h/x?y=.git",
        "/abs/x.git",
        "git@host",
    ],
)
def test_what_is_no_git_address(text: str) -> None:
    assert parse_git_ref(text) is None


@pytest.mark.parametrize(
    ("text", "remote", "name", "ref", "subdir"),
    [
        ("https://h/a/b.git", "https://h/a/b.git", "b", "", ""),
        ("https://h/a/b.git#v1", "https://h/a/b.git", "b", "v1", ""),
        ("https://h/a/b.git#v1:sub/dir", "https://h/a/b.git", "b", "v1", "sub/dir"),
        ("https://h/a/b.git#:sub", "https://h/a/b.git", "b", "", "sub"),
        ("git://h/a/b", "git://h/a/b", "b", "", ""),
        ("ssh://git@h:22/a/b.git#x", "ssh://git@h:22/a/b.git", "b", "x", ""),
        ("git@h:a/b.git#x:y", "git@h:a/b.git", "b", "x", "y"),
        ("git@h:b", "git@h:b", "b", "", ""),
        ("HTTPS://h/b.git", "HTTPS://h/b.git", "b", "", ""),
        ("https://h/b.git?ref=r&subdir=s", "https://h/b.git", "b", "r", "s"),
        ("https://h/b.git?tag=v1", "https://h/b.git", "b", "refs/tags/v1", ""),
        ("https://h/b.git?branch=refs/heads/m", "https://h/b.git", "b", "refs/heads/m", ""),
        ("https://h/b.git?ref=r#r", "https://h/b.git", "b", "r", ""),
        ("git@h:b.git?tag=v1#:s", "git@h:b.git", "b", "refs/tags/v1", "s"),
    ],
)
def test_git_addresses(text: str, remote: str, name: str, ref: str, subdir: str) -> None:
    found = parse_git_ref(text)
    assert found is not None
    assert (found.remote, found.name, found.ref, found.subdir) == (remote, name, ref, subdir)


def test_git_queries() -> None:
    found = parse_git_ref("https://h/b.git?checksum=abc&keep-git-dir&submodules=false&mtime=commit&fetch-by-commit=1")
    assert found is not None
    assert (found.checksum, found.ref, found.keep_git_dir, found.submodules, found.mtime, found.fetch_by_commit) == (
        "abc", "abc", True, False, "commit", True,
    )  # fmt: skip
    plain = parse_git_ref("http://h/b.git")
    assert plain is not None and plain.keep_git_dir is None and plain.unencrypted
    context = parse_git_ref("github.com/a/b#x", context=True)
    assert context is not None and context.remote == "https://github.com/a/b" and context.ref == "x"


@pytest.mark.parametrize(
    "query",
    [
        "ref=a&ref=b",
        "rfe=a",
        "ref=",
        "tag=a&branch=b",
        "keep-git-dir=maybe",
        "mtime=now",
        "ref=b#a",
        "subdir=x#:y",
        "tag=v1#v1",
        "checksum=a&commit=b",
    ],
)
def test_git_queries_refused(query: str) -> None:
    with pytest.raises(TextError):
        parse_git_ref(f"https://h/b.git?{query}")

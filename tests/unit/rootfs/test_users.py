from __future__ import annotations

import pytest

from pybuild.errors import DockerfileError
from pybuild.rootfs.users import User, parse_group, parse_passwd, resolve_chown, resolve_user

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
app:x:1000:1001:app:/home/app:/bin/sh
twin:x:1000:7:second entry of a number:/twin:/bin/sh

  padded:x:5:6::/p:/bin/false
short:x:9
"""
GROUP = b"root:x:0:root\nbin:x:1:root,app\nstaff:x:50:app,other\napp:x:1001:\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", User(0, 0, (0, 1), "/root")),
        ("root", User(0, 0, (0, 1), "/root")),
        ("0", User(0, 0, (0, 1), "/root")),
        ("0:0", User(0, 0, (0,), "/root")),
        ("app", User(1000, 1001, (1001, 1, 50), "/home/app")),
        ("1000", User(1000, 1001, (1001, 1, 50), "/home/app")),
        ("app:staff", User(1000, 50, (50,), "/home/app")),
        ("app:77", User(1000, 77, (77,), "/home/app")),
        ("1000:staff", User(1000, 50, (50,), "/home/app")),
        ("1000:2000", User(1000, 2000, (2000,), "/home/app")),
        ("4242", User(4242, 0, (0,), "/")),
        ("4242:staff", User(4242, 50, (50,), "/")),
        ("twin", User(1000, 7, (7,), "/home/app")),
        ("padded", User(5, 6, (6,), "/p")),
        ("short", User(9, 0, (0,), "/")),
        (":staff", User(0, 50, (50,), "/root")),
    ],
)
def test_user(text: str, expected: User) -> None:
    assert resolve_user(text, PASSWD, GROUP) == expected


@pytest.mark.parametrize("text", ["", "0", "5", "5:6"])
def test_user_without_files(text: str) -> None:
    number = int(text.split(":")[0] or 0)
    gid = 6 if ":" in text else 0
    assert resolve_user(text, None, None) == User(number, gid, (gid,), "/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ghost", "unable to find user ghost"),
        ("app:ghosts", "unable to find group ghosts"),
        ("1000:ghosts", "unable to find group ghosts"),
        ("4294967296", "out of range"),
        ("1:99999999999", "out of range"),
        ("-1", "unable to find user -1"),
        ("\u0663", "unable to find user"),
    ],
)
def test_user_errors(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message):
        resolve_user(text, PASSWD, GROUP)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1000", (1000, 1000)),
        ("app", (1000, 1001)),
        ("app:staff", (1000, 50)),
        ("12:34", (12, 34)),
        ("12:staff", (12, 50)),
        ("app:9", (1000, 9)),
        ("app:", (1000, 1001)),
        (":staff", (0, 50)),
    ],
)
def test_chown(text: str, expected: tuple[int, int]) -> None:
    assert resolve_chown(text, PASSWD, GROUP) == expected


@pytest.mark.parametrize(
    ("text", "passwd", "group"),
    [("ghost", PASSWD, GROUP), ("app:ghosts", PASSWD, GROUP), ("app", None, None), ("1:app", PASSWD, None)],
)
def test_chown_of_unknown_names(text: str, passwd: bytes | None, group: bytes | None) -> None:
    with pytest.raises(DockerfileError, match="in --chown: not in the image"):
        resolve_chown(text, passwd, group)


def test_files_with_anything_in_them() -> None:
    data = b"\xff\xfe:x:1:1:::\n:::\n#comment\n" + b"a" * 10000 + b"\n"
    assert parse_passwd(data)[0].name == "\udcff\udcfe"
    assert [g.members for g in parse_group(b"g:x:1:a,,b\nh\n")] == [("a", "b"), ()]

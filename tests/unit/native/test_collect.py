"""Entries from a directory tree on disk."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pybuild._native.cancel import Cancel
from pybuild._native.collect import collect
from pybuild._native.entries import EntryList, LayerEntry
from pybuild._native.match import Matcher
from pybuild.dockerfile.modes import parse_chmod


def gather(root: Path, source: str = "", dest: str = "", **rest: Any) -> dict[str, LayerEntry]:
    entries = EntryList()
    fd = os.open(root, os.O_RDONLY)
    try:
        number = entries.add_root(fd)
    finally:
        os.close(fd)
    count = collect(entries, number, source, dest, **rest)
    assert count == len(entries)
    entries.sort()
    return {e.path: e for e in entries}


def tree(root: Path, *paths: str) -> None:
    """Files with their own path as content; a path with a slash at its end is a directory."""
    for path in paths:
        place = root / path
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(path)


def test_modes_times_sizes_and_owners(tmp_path: Path) -> None:
    tree(tmp_path, "d/f")
    (tmp_path / "d/f").chmod(0o4751)
    (tmp_path / "d").chmod(0o1777)
    os.utime(tmp_path / "d/f", ns=(1, 1_600_000_000_123_456_789))
    found = gather(tmp_path)
    f = found["d/f"]
    assert (f.type, f.mode, f.size, f.mtime_ns, f.source) == ("file", 0o4751, 3, 1_600_000_000_123_456_789, "d/f")
    assert (f.uid, f.gid) == (os.getuid(), os.getgid())
    assert (found["d"].type, found["d"].mode) == ("dir", 0o1777)


def test_a_directory_gives_its_contents_anything_else_itself(tmp_path: Path) -> None:
    tree(tmp_path, "a/b/f")
    (tmp_path / "a/l").symlink_to("b")
    assert list(gather(tmp_path, "a", "to/here")) == ["to/here/b", "to/here/b/f", "to/here/l"]
    assert list(gather(tmp_path, "a/b/f", "to/name")) == ["to/name"]
    link = gather(tmp_path, "a/l", "to/l")["to/l"]
    assert (link.type, link.link) == ("symlink", "b")


def test_the_owner_can_be_replaced(tmp_path: Path) -> None:
    tree(tmp_path, "d/f")
    assert {(e.uid, e.gid) for e in gather(tmp_path, uid=5, gid=4294967294).values()} == {(5, 4294967294)}
    assert {(e.uid, e.gid) for e in gather(tmp_path, gid=7).values()} == {(os.getuid(), 7)}


def test_names_of_one_inode_are_hard_links(tmp_path: Path) -> None:
    tree(tmp_path, "m/one", "alone")
    (tmp_path / "a").mkdir()
    os.link(tmp_path / "m/one", tmp_path / "a/two")
    os.link(tmp_path / "m/one", tmp_path / "z")
    found = gather(tmp_path, dest="to")
    assert found["to/a/two"].type == "file"
    assert found["to/a/two"].size == 5
    assert {(found[p].type, found[p].link) for p in ("to/m/one", "to/z")} == {("hardlink", "to/a/two")}
    assert found["to/alone"].type == "file"


def test_a_name_whose_other_names_are_outside_is_a_file(tmp_path: Path) -> None:
    tree(tmp_path, "in/f")
    os.link(tmp_path / "in/f", tmp_path / "outside")
    assert gather(tmp_path, "in")["f"].type == "file"


def test_many_hard_links(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{i}" for i in range(400)))
    for i in range(400):
        os.link(tmp_path / str(i), tmp_path / f"{i}-too")
    found = gather(tmp_path)
    for i in range(400):
        assert (found[str(i)].type, found[f"{i}-too"].type, found[f"{i}-too"].link) == ("file", "hardlink", str(i))


def test_symlinks_are_kept_not_followed(tmp_path: Path) -> None:
    tree(tmp_path, "outside/secret", "in/")
    (tmp_path / "in/dir").symlink_to("../outside")
    (tmp_path / "in/broken").symlink_to("/nowhere/" + "x" * 3000)
    found = gather(tmp_path, "in")
    assert {p: e.link for p, e in found.items()} == {"dir": "../outside", "broken": "/nowhere/" + "x" * 3000}
    with pytest.raises(OSError):
        gather(tmp_path, "in/dir/secret")


def test_fifos_are_kept_and_sockets_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o640)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "sock"))
        found = gather(tmp_path)
        assert gather(tmp_path, "sock", "sock") == {}
    assert [(e.path, e.type, e.mode) for e in found.values()] == [("pipe", "fifo", 0o640)]


@pytest.mark.root
def test_devices(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "null", 0o020666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("may not make devices")
    found = gather(tmp_path)["null"]
    assert (found.type, found.rdev) == ("char", (1, 3))


def test_ignored_with_something_brought_back(tmp_path: Path) -> None:
    tree(tmp_path, "node/a", "node/keep/deep/b", "node/keep/c", "log/x.log", "src/y.log", "src/z", "empty/")
    matcher = Matcher(["node", "!node/keep/deep", "log", "**/*.log"])
    # a directory that is ignored is there for the sake of what is brought back in it alone
    assert sorted(gather(tmp_path, ignore=matcher)) == [
        "empty", "node", "node/keep", "node/keep/deep", "node/keep/deep/b", "src", "src/z",
    ]  # fmt: skip


def test_ignore_is_about_the_path_below_the_root(tmp_path: Path) -> None:
    tree(tmp_path, "a/b/f", "a/b/g", "a/f")
    assert sorted(gather(tmp_path, "a", ignore=Matcher(["a/b/f"]))) == ["b", "b/g", "f"]
    assert sorted(gather(tmp_path, "a/b", ignore=Matcher(["a", "!a/b/g"]))) == ["g"]
    assert sorted(gather(tmp_path, "a/b", ignore=Matcher(["a"]))) == []


def test_exclude_is_about_the_path_below_the_source(tmp_path: Path) -> None:
    tree(tmp_path, "a/b/f", "a/b/g", "a/f", "f")
    assert sorted(gather(tmp_path, "a", exclude=Matcher(["f"]))) == ["b", "b/f", "b/g"]
    assert sorted(gather(tmp_path, "a", exclude=Matcher(["b", "!b/g"]))) == ["b", "b/g", "f"]
    assert sorted(gather(tmp_path, exclude=Matcher(["a/b"]), ignore=Matcher(["a/f"]))) == ["a", "f"]


@pytest.mark.parametrize(
    ("text", "file", "directory"), [("640", 0o640, 0o640), ("u+s,g-w,o=", 0o4640, 0o4740), ("a+X", 0o664, 0o775), ("7777", 0o7777, 0o7777)]
)
def test_modes_can_be_changed(text: str, file: int, directory: int, tmp_path: Path) -> None:
    tree(tmp_path, "d/f")
    (tmp_path / "d").chmod(0o764)
    (tmp_path / "d/f").chmod(0o664)
    (tmp_path / "l").symlink_to("d")
    found = gather(tmp_path, mode=parse_chmod(text))
    assert (found["d/f"].mode, found["d"].mode) == (file, directory)
    assert found["l"].mode == 0o777


def test_extended_attributes(tmp_path: Path) -> None:
    tree(tmp_path, "f", "d/")
    try:
        os.setxattr(tmp_path / "f", "user.z", b"last")
    except OSError:
        pytest.skip("no user.* attributes here")
    os.setxattr(tmp_path / "f", "user.a", b"bin\0ary")
    os.setxattr(tmp_path / "f", "user.empty", b"")
    os.setxattr(tmp_path / "d", "user.dir", b"x" * 2000)
    os.setxattr(tmp_path / "d", "user.overlay.opaque", b"y")
    found = gather(tmp_path)
    assert list(found["f"].xattrs.items()) == [("user.a", b"bin\0ary"), ("user.empty", b""), ("user.z", b"last")]
    assert found["d"].xattrs == {"user.dir": b"x" * 2000}


@pytest.mark.root
def test_capabilities(tmp_path: Path) -> None:
    tree(tmp_path, "f")
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    try:
        os.setxattr(tmp_path / "f", "security.capability", value)
    except OSError:
        pytest.skip("may not set capabilities")
    assert gather(tmp_path)["f"].xattrs["security.capability"] == value


def test_three_hundred_directories_deep(tmp_path: Path) -> None:
    path = "/".join(["d" * 5] * 300)
    (tmp_path / path).mkdir(parents=True)
    (tmp_path / path / "f").touch()
    found = gather(tmp_path, dest="to")
    assert len(found) == 301
    assert found[f"to/{path}/f"].source == f"{path}/f"


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = b"d\xff"
    os.mkdir(os.fsencode(tmp_path) + b"/" + name)
    os.symlink(b"\xfe", os.fsencode(tmp_path) + b"/" + name + b"/\x80")
    found = gather(tmp_path, os.fsdecode(name), os.fsdecode(b"\xf0"))
    assert [(os.fsencode(e.path), os.fsencode(e.link)) for e in found.values()] == [(b"\xf0/\x80", b"\xfe")]


def test_a_failure_leaves_the_list_as_it_was(tmp_path: Path) -> None:
    tree(tmp_path, "a/f", "b/f")
    entries = EntryList()
    fd = os.open(tmp_path, os.O_RDONLY)
    root = entries.add_root(fd)
    os.close(fd)
    entries.add("before", "dir", mode=0o755)
    flag = Cancel()
    flag.set()
    with pytest.raises(OSError) as cancelled:
        collect(entries, root, "", "", cancel=flag)
    assert cancelled.value.errno == errno.ECANCELED
    with pytest.raises(FileNotFoundError) as missing:
        collect(entries, root, "a/nothing", "")
    assert missing.value.filename == "a/nothing"
    with pytest.raises(FileNotFoundError):
        collect(entries, root, "nowhere/f", "")
    with pytest.raises(OSError) as too_long:
        collect(entries, root, "a", "/".join(["x" * 255] * 127) + "/" + "y" * 254)
    assert too_long.value.errno == errno.ENAMETOOLONG
    with pytest.raises(ValueError, match="source root"):
        collect(entries, root + 1, "a", "")
    assert [e.path for e in entries] == ["before"]

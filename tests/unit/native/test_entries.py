"""The list of a layer's entries."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from pybuild._native.entries import EntryList


def files(*paths: str) -> EntryList:
    found = EntryList()
    for path in paths:
        found.add(path, "file", mode=0o644, data=os.fsencode(path))
    return found


def paths(entries: EntryList) -> list[str]:
    return [e.path for e in entries]


def links(entries: EntryList) -> dict[str, str]:
    return {e.path: e.link if e.type == "hardlink" else e.type for e in entries}


def test_what_goes_in_comes_out() -> None:
    found = EntryList()
    found.add(
        "a/b",
        "char",
        mode=0o6755,
        uid=4294967295,
        gid=7,
        mtime_ns=-5,
        xattrs={"user.b": b"\0", "user.a": b""},
        rdev=(4095, 1048575),
    )
    found.add("\udcff", "symlink", mode=0o777, link="\udcfe")
    found.add("f", "file", mode=0o644, data=b"12345", size=99)
    first, second, third = found
    assert first == ("a/b", "char", 0o6755, 4294967295, 7, 0, -5, "", {"user.a": b"", "user.b": b"\0"}, (4095, 1048575), -1, "")
    assert (second.path, second.link) == ("\udcff", "\udcfe")
    assert third.size == 5
    assert found[-1] == third and len(found) == 3 and found.total_size == 5
    for i in (3, -4):
        with pytest.raises(IndexError):
            found[i]


@pytest.mark.parametrize("path", ["/a", "a/", "a\0b"])
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        files(path)


def test_arguments_that_do_not_go_together() -> None:
    found = EntryList()
    with pytest.raises(ValueError, match="entry type"):
        found.add("a", "door", mode=0)
    with pytest.raises(ValueError, match="source root"):
        found.add("a", "file", mode=0, root=0, source="a")
    assert len(found) == 0


def test_parents_come_before_children_and_names_sort_by_components() -> None:
    wanted = ["", "a", "a/b", "a/b/c", "a/b/c!", "a/z", "a!", "a-b", "a.", "a0", "b", "\udcff"]
    for seed in range(20):
        mixed = random.Random(seed).sample(wanted, len(wanted))
        found = files(*mixed)
        found.sort()
        assert paths(found) == wanted


def test_whiteouts_and_opaque_marks_come_first() -> None:
    found = files("a", "z")
    found.add("z/old", "whiteout", mode=0)
    found.add("b", "opaque", mode=0)
    found.add("a", "whiteout", mode=0)
    found.sort()
    assert [(e.type, e.path) for e in found] == [
        ("whiteout", "a"), ("opaque", "b"), ("whiteout", "z/old"), ("file", "a"), ("file", "z"),
    ]  # fmt: skip


def test_the_last_of_several_for_one_path_wins() -> None:
    found = EntryList()
    for i in range(5):
        for path in ("a", "b/c"):
            found.add(path, "file", mode=0o600 + i, data=str(i).encode())
    found.add("a", "dir", mode=0o755)
    found.sort()
    assert [(e.path, e.type, e.mode) for e in found] == [("a", "dir", 0o755), ("b/c", "file", 0o604)]
    assert found.read(1, 10) == b"4"
    found.sort()
    assert len(found) == 2


def test_the_first_name_of_an_inode_has_the_content() -> None:
    found = EntryList()
    found.add("m", "file", mode=0o4755, uid=3, mtime_ns=9, xattrs={"user.a": b"1"}, data=b"content")
    for name in ("z", "b", "a/deep"):
        found.add(name, "hardlink", mode=0o4755, uid=3, mtime_ns=9, link="m")
    found.sort()
    assert links(found) == {"a/deep": "file", "b": "a/deep", "m": "a/deep", "z": "a/deep"}
    assert (found[0].mode, found[0].uid, found[0].xattrs, found[0].size) == (0o4755, 3, {"user.a": b"1"}, 7)
    assert found.read(0, 100) == b"content"
    assert found.total_size == 7
    found.sort()
    assert links(found) == {"a/deep": "file", "b": "a/deep", "m": "a/deep", "z": "a/deep"}


def test_hard_links_whose_target_is_written_over_keep_their_content() -> None:
    found = EntryList()
    found.add("m", "file", mode=0o644, data=b"first")
    found.add("n", "hardlink", mode=0o644, link="m")
    found.add("o", "hardlink", mode=0o644, link="m")
    found.add("m", "file", mode=0o600, data=b"second")
    found.sort()
    assert links(found) == {"m": "file", "n": "file", "o": "n"}
    assert (found.read(found.find("m"), 10), found.read(found.find("n"), 10)) == (b"second", b"first")


def test_hard_links_to_what_became_a_directory() -> None:
    found = EntryList()
    found.add("m", "file", mode=0o644, data=b"first")
    found.add("a", "hardlink", mode=0o644, link="m")
    found.add("m", "dir", mode=0o755)
    found.sort()
    assert links(found) == {"a": "file", "m": "dir"}
    assert found.read(0, 10) == b"first"


def test_hard_links_to_what_was_written_over_before() -> None:
    found = EntryList()
    found.add("m", "file", mode=0o644, data=b"first")
    found.add("m", "file", mode=0o644, data=b"second")
    found.add("n", "hardlink", mode=0o644, link="m")
    found.sort()
    assert links(found) == {"m": "file", "n": "m"}
    assert found.read(0, 10) == b"second"


def test_the_same_linked_files_twice() -> None:
    found = EntryList()
    for content in (b"first", b"second"):
        found.add("m", "file", mode=0o644, data=content)
        found.add("n", "hardlink", mode=0o644, link="m")
    found.sort()
    assert links(found) == {"m": "file", "n": "m"}
    assert found.read(0, 10) == b"second"


def test_find() -> None:
    found = files("a", "b", "a")
    assert (found.find("a"), found.find("b"), found.find("c"), found.find("")) == (2, 1, -1, -1)
    found.sort()
    assert (found.find("a"), found.find("b")) == (0, 1)
    assert EntryList().find("a") == -1


def test_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    (tmp_path / "l").symlink_to("f")
    found = files("inline")
    fd = os.open(tmp_path, os.O_RDONLY)
    root = found.add_root(fd)
    os.close(fd)
    found.add("x", "file", mode=0o644, size=5, root=root, source="f")
    found.add("y", "file", mode=0o644, size=5, root=root, source="l")
    found.add("d", "dir", mode=0o755)
    assert (found.read(0, 6), found.read(1, 5)) == (b"inline", b"12345")
    for i, limit, code in ((0, 5, errno.EFBIG), (1, 4, errno.EFBIG), (2, 100, errno.ELOOP)):
        with pytest.raises(OSError) as caught:
            found.read(i, limit)
        assert caught.value.errno == code
    for i in (3, 4, -1):
        with pytest.raises(IndexError):
            found.read(i, 100)


def test_extend_takes_the_roots_along(tmp_path: Path) -> None:
    lists = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
        made = EntryList()
        fd = os.open(tmp_path / name, os.O_RDONLY)
        root = made.add_root(fd)
        os.close(fd)
        made.add(name, "file", mode=0o644, size=3, root=root, source="f", xattrs={"user.n": name.encode()})
        made.add(f"{name}-link", "hardlink", mode=0o644, link=name)
        lists.append(made)
    found = EntryList()
    found.extend(EntryList())
    for made in lists:
        found.extend(made)
    del lists, made
    assert [(e.path, e.root, e.link) for e in found] == [("one", 0, ""), ("one-link", -1, "one"), ("two", 1, ""), ("two-link", -1, "two")]
    assert [found.read(i, 10) for i in (0, 2)] == [b"one", b"two"]
    assert found[2].xattrs == {"user.n": b"two"}
    with pytest.raises(ValueError, match="itself"):
        found.extend(found)


def test_roots_have_a_limit_and_are_closed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    found = EntryList()
    fd = os.open(tmp_path, os.O_RDONLY)
    for i in range(254):
        assert found.add_root(fd) == i
    with pytest.raises(ValueError, match="254"):
        found.add_root(fd)
    os.close(fd)
    with pytest.raises(OSError):
        EntryList().add_root(fd)
    del found
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_entry_takes_little_memory() -> None:
    found = EntryList()
    for i in range(20_000):
        found.add(f"usr/lib/python3/{i:05}", "file", mode=0o644, root=-1)
    found.sort()
    assert found.memory / 20_000 < 200

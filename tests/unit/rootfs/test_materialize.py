"""Entries written to the disk: the same there as in the list, and nothing for change detection to find."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild._native.cancel import Cancel
from pybuild._native.collect import collect
from pybuild._native.entries import EntryList
from pybuild._native.index import Index
from pybuild.rootfs.materialize import materialize

SECOND = 1_000_000_000
ROOT = os.getuid() == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    fd = os.open(tmp_path / "root", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "root"


def sample() -> EntryList:
    uid, gid = (12, 34) if ROOT else (os.getuid(), os.getgid())
    found = EntryList()
    found.add("d", "dir", mode=0o2750, uid=uid, gid=gid, mtime_ns=5 * SECOND)
    found.add("d/" + "n" * 200, "file", mode=0o4755, uid=uid, gid=gid, mtime_ns=1_600_000_000 * SECOND + 7, data=b"content" * 200_000)
    found.add("d/link", "hardlink", mode=0o4755, uid=uid, gid=gid, mtime_ns=1_600_000_000 * SECOND + 7, link="d/" + "n" * 200)
    found.add("d/sym", "symlink", mode=0o777, uid=uid, gid=gid, mtime_ns=SECOND, link="/nowhere")
    found.add("empty", "file", mode=0, uid=uid, gid=gid, mtime_ns=3, data=b"")
    found.add("pipe", "fifo", mode=0o600, uid=uid, gid=gid, mtime_ns=SECOND)
    found.sort()
    return found


def gathered(fd: int) -> EntryList:
    found = EntryList()
    collect(found, found.add_root(fd), "", "")
    found.sort()
    return found


def comparable(entries: EntryList) -> list[tuple[object, ...]]:
    return [(e.path, e.type, e.mode, e.uid, e.gid, e.mtime_ns, e.link, e.size if e.type == "file" else 0, e.rdev) for e in entries]


def test_the_disk_is_as_the_entries_say(disk: int) -> None:
    entries, index = sample(), Index()
    materialize(entries, disk, index, owners=ROOT)
    found = gathered(disk)
    assert comparable(found) == comparable(entries)
    for i, e in enumerate(entries):
        if e.type == "file":
            assert found.read(i, 1 << 22) == entries.read(i, 1 << 22)


@pytest.mark.parametrize("mode", ["time", "redo", "full"])
def test_a_scan_afterwards_finds_nothing(mode: str, disk: int, place: Path) -> None:
    index = Index()
    index.refresh(disk, [""])
    materialize(sample(), disk, index, owners=ROOT)
    index.refresh(disk, [""])
    assert [e.path for e in index.scan(disk, mode=mode, owners=ROOT)] == []
    index.settle()
    (place / "empty").chmod(0o644)
    (place / "empty").write_text("now")
    assert [e.path for e in index.scan(disk, mode=mode, owners=ROOT)] == ["empty"]


def test_the_same_content_again_is_no_change(disk: int, place: Path) -> None:
    index = Index()
    materialize(sample(), disk, index, owners=ROOT)
    index.refresh(disk, [""])
    index.settle()
    path = place / "d" / ("n" * 200)
    before = path.stat()
    data = path.read_bytes()
    path.write_bytes(data)
    path.chmod(before.st_mode & 0o7777)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [e.path for e in index.scan(disk, owners=ROOT)] == []


def test_what_is_there_is_replaced_and_whiteouts_remove(disk: int, place: Path) -> None:
    index = Index()
    materialize(sample(), disk, index, owners=ROOT)
    entries = EntryList()
    entries.add("d/sym", "whiteout", mode=0)
    entries.add("empty", "dir", mode=0o755, uid=os.getuid(), gid=os.getgid())
    entries.add("pipe", "file", mode=0o644, uid=os.getuid(), gid=os.getgid(), data=b"file now")
    entries.sort()
    materialize(entries, disk, index, owners=ROOT)
    assert (place / "empty").is_dir()
    assert (place / "pipe").read_bytes() == b"file now"
    assert not (place / "d/sym").is_symlink()
    assert index.lookup("d/sym") is None
    stat = index.lookup("pipe")
    assert stat is not None and (stat.type, stat.size) == ("file", 8)


def test_without_owners_the_index_has_the_right_ones(disk: int, place: Path) -> None:
    entries = EntryList()
    entries.add("f", "file", mode=0o644, uid=4000, gid=5000, data=b"")
    index = Index()
    materialize(entries, disk, index, owners=False)
    stat = index.lookup("f")
    assert stat is not None and (stat.uid, stat.gid) == (4000, 5000)
    assert ((place / "f").stat().st_uid, (place / "f").stat().st_gid) == (os.getuid(), os.getgid())


def test_the_disk_is_never_left(disk: int, place: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (place / "l").symlink_to("../outside")
    index = Index()
    index.refresh(disk, ["l"])
    entries = EntryList()
    entries.add("l/f", "file", mode=0o644, uid=os.getuid(), gid=os.getgid(), data=b"")
    materialize(entries, disk, index, owners=ROOT)
    assert os.listdir(tmp_path / "outside") == []
    assert (place / "outside/f").exists()


def test_cancelled(disk: int, place: Path) -> None:
    flag = Cancel()
    flag.set()
    with pytest.raises(OSError) as caught:
        materialize(sample(), disk, Index(), owners=ROOT, cancel=flag)
    assert caught.value.errno == errno.ECANCELED
    assert os.listdir(place) == []

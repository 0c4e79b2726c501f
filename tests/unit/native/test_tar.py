"""The tar stream, compared through another reader (Python's tarfile)."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybuild._native.cancel import Cancel
from pybuild._native.entries import EntryList
from pybuild._native.tar import TarWriter

NS = 1_000_000_000


def stream(entries: EntryList, piece: int = 1 << 16, clamp_mtime_ns: int = -1) -> bytes:
    writer = TarWriter(entries, clamp_mtime_ns=clamp_mtime_ns)
    buffer = bytearray(piece)
    found = b""
    while count := writer.read_into(buffer):
        found += buffer[:count]
    return found


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errors="surrogateescape") as tar:
        return tar.getmembers()


def one(path: str, type: str = "file", *, clamp_mtime_ns: int = -1, **rest: Any) -> tarfile.TarInfo:
    entries = EntryList()
    entries.add(path, type, mode=rest.pop("mode", 0o644), **rest)
    found = members(stream(entries, clamp_mtime_ns=clamp_mtime_ns))
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "n" * 100,
        "n" * 101,
        "n" * 255,
        "d" * 155 + "/" + "f" * 100,
        "d" * 156 + "/" + "f" * 100,
        "d" * 155 + "/" + "f" * 101,
        "d/" * 120 + "f",
        "d/" * 400 + "f",
        "x" * 200 + "/" + "y" * 200 + "/" + "z" * 200,
        "grün/日本語",
        "ü" * 120,
    ],
)
@pytest.mark.parametrize("type", ["file", "dir"])
def test_names_of_any_length(name: str, type: str) -> None:
    assert one(name, type).name == name


@pytest.mark.parametrize("length", [1, 99, 100, 101, 4095])
def test_links_of_any_length(length: int) -> None:
    target = "t" * length
    assert one("l", "symlink", link=target, mode=0o777).linkname == target
    assert one("l" * 150, "symlink", link=target, mode=0o777).linkname == target
    assert one("l", "hardlink", link=target).linkname == target


def test_names_that_are_no_utf8() -> None:
    name = os.fsdecode(b"\xff\xfe/" + b"\xe9" * 120)
    assert os.fsencode(one(name).name) == os.fsencode(name)


@pytest.mark.parametrize("number", [0, 1000, 0o7777777, 0o10000000, 4294967294])
def test_owners(number: int) -> None:
    found = one("f", uid=number, gid=number)
    assert (found.uid, found.gid, found.uname, found.gname) == (number, number, "", "")


@pytest.mark.parametrize(
    ("ns", "record"),
    [
        (0, None),
        (1_700_000_000 * NS, None),
        (8_589_934_591 * NS, None),
        (8_589_934_592 * NS, "8589934592"),
        (1_700_000_000 * NS + 1, "1700000000.000000001"),
        (1_700_000_000 * NS + 500_000_000, "1700000000.5"),
        (-NS, "-1"),
        (-1, "-0.000000001"),
        (-NS - 500_000_000, "-1.5"),
        (-2 * NS + 1, "-1.999999999"),
    ],
)
def test_times(ns: int, record: str | None) -> None:
    found = one("f", mtime_ns=ns)
    assert found.pax_headers.get("mtime") == record
    assert found.mtime == pytest.approx(ns / NS, abs=1e-6)


def test_times_are_clamped_not_raised() -> None:
    assert one("f", mtime_ns=10 * NS + 7, clamp_mtime_ns=5 * NS).mtime == 5
    assert one("f", mtime_ns=3 * NS, clamp_mtime_ns=5 * NS).mtime == 3
    assert one("f", mtime_ns=3 * NS, clamp_mtime_ns=0).mtime == 0
    assert one("f", mtime_ns=-3 * NS, clamp_mtime_ns=0).mtime == -3


def test_xattrs_are_records_in_the_order_of_their_names() -> None:
    found = one("f", xattrs={"user.b": b"two\nlines", "user.a": b"", "security.capability": b"text"})
    assert [(k, v) for k, v in found.pax_headers.items() if k.startswith("SCHILY")] == [
        ("SCHILY.xattr.security.capability", "text"),
        ("SCHILY.xattr.user.a", ""),
        ("SCHILY.xattr.user.b", "two\nlines"),
    ]


def test_xattrs_with_any_bytes_and_lengths() -> None:
    # lengths about which the record's own length gets another digit
    for length in (*range(60, 80), *range(955, 990), 60_000):
        value = bytes(i % 255 + 1 for i in range(length))
        entries = EntryList()
        entries.add("f", "file", mode=0o644, xattrs={"user.x": value}, data=b"after")
        data = stream(entries)
        assert b"SCHILY.xattr.user.x=" + value + b"\n" in data
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            content = tar.extractfile("f")
            assert content is not None and content.read() == b"after"


def test_modes_keep_the_special_bits() -> None:
    assert one("f", mode=0o6755).mode == 0o6755
    assert one("d", "dir", mode=0o1777).mode == 0o1777


def test_devices_and_fifos() -> None:
    char, block, fifo = one("c", "char", rdev=(4095, 1048575)), one("b", "block", rdev=(8, 1)), one("p", "fifo")
    assert char.ischr() and (char.devmajor, char.devminor) == (4095, 1048575)
    assert block.isblk() and (block.devmajor, block.devminor) == (8, 1)
    assert fifo.isfifo()


def test_hard_links_have_no_content() -> None:
    entries = EntryList()
    entries.add("a", "file", mode=0o644, data=b"content")
    entries.add("b", "hardlink", mode=0o644, link="a")
    entries.add("c", "file", mode=0o644, data=b"after")
    first, link, after = members(stream(entries))
    assert link.islnk() and (link.linkname, link.size) == ("a", 0)
    assert (first.size, after.name, after.size) == (7, "c", 5)


def test_whiteouts_and_opaque_marks() -> None:
    entries = EntryList()
    for path in ("gone", "d/e/gone", "x" * 120 + "/gone", "d/" + "n" * 250):
        entries.add(path, "whiteout", mode=0)
    for path in ("", "d/e"):
        entries.add(path, "opaque", mode=0)
    found = members(stream(entries))
    assert [m.name for m in found] == [
        ".wh.gone", "d/e/.wh.gone", "x" * 120 + "/.wh.gone", "d/.wh." + "n" * 250, ".wh..wh..opq", "d/e/.wh..wh..opq",
    ]  # fmt: skip
    assert all(m.isreg() and m.size == 0 for m in found)


def test_the_root_itself() -> None:
    assert one("", "dir", mode=0o711).name in (".", "./")


def test_any_buffer_size_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(os.urandom(5000))
    entries = EntryList()
    fd = os.open(tmp_path, os.O_RDONLY)
    root = entries.add_root(fd)
    os.close(fd)
    entries.add("d" * 200, "dir", mode=0o755, mtime_ns=1)
    entries.add("f", "file", mode=0o644, size=5000, root=root, source="f")
    entries.add("g", "file", mode=0o644, data=b"x" * 512)
    whole = stream(entries)
    assert len(whole) % 512 == 0 and whole.endswith(bytes(1024))
    for piece in (1, 7, 511, 512, 513):
        assert stream(entries, piece) == whole


def test_counts_what_was_read(tmp_path: Path) -> None:
    entries = EntryList()
    entries.add("a", "file", mode=0o644, data=b"12345")
    entries.add("d", "dir", mode=0o755)
    entries.add("z", "file", mode=0o644, data=b"678")
    writer = TarWriter(entries)
    while writer.read_into(bytearray(100)):
        pass
    assert (writer.files, writer.bytes_read) == (2, 8)


def referring(top: Path, source: str) -> EntryList:
    entries = EntryList()
    fd = os.open(top, os.O_RDONLY)
    root = entries.add_root(fd)
    os.close(fd)
    entries.add("to", "file", mode=0o644, size=6, root=root, source=source)
    return entries


@pytest.mark.parametrize("source", ["f", "d/secret", "d/e/secret"])
def test_a_link_in_place_of_the_file_or_on_the_way_is_not_followed(source: str, tmp_path: Path) -> None:
    (tmp_path / "real/e").mkdir(parents=True)
    for name in ("secret", "real/secret", "real/e/secret"):
        (tmp_path / name).write_text("secret")
    (tmp_path / "f").symlink_to("secret")
    (tmp_path / "d").symlink_to("real")
    with pytest.raises(OSError) as caught:
        stream(referring(tmp_path, source))
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, "to")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_file_that_is_something_else_now_is_named(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "f")
    with pytest.raises(OSError, match="no regular file any more") as caught:
        stream(referring(tmp_path, "f"))
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, "to")


def test_a_file_deeper_than_a_path_may_be_long(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(50):
        os.mkdir("d" * 100, dir_fd=at)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=at))
    os.close(at)
    found = members(stream(referring(tmp_path, "/".join(["d" * 100] * 50) + "/f")))
    assert [(m.name, m.size) for m in found] == [("to", 0)]


def test_cancelled_and_buffers_that_will_not_do() -> None:
    entries = EntryList()
    entries.add("a", "file", mode=0o644, data=b"12345")
    flag = Cancel()
    flag.set()
    with pytest.raises(OSError) as caught:
        TarWriter(entries, cancel=flag).read_into(bytearray(100))
    assert caught.value.errno == errno.ECANCELED
    with pytest.raises(ValueError, match="empty"):
        TarWriter(entries).read_into(bytearray())

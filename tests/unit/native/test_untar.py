"""The extractor on archives that mean well: formats, attributes, layers."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tarblocks import (
    END,
    directory,
    entry,
    extract,
    gnu_long,
    hardlink,
    header,
    indexed,
    libarchive_value,
    listing,
    pax,
    symlink,
)  # fmt: skip

from pybuild._native.index import Index
from pybuild._native.untar import Extractor

ROOT = os.geteuid() == 0


def xattrs_work(path: Path) -> bool:
    try:
        os.setxattr(path, "user.probe", b"1")
    except OSError:
        return False
    os.removexattr(path, "user.probe")
    return True


@pytest.mark.parametrize("chunk", [0, 1, 7, 511, 512, 513, 1000])
def test_any_chunking_gives_the_same_tree(tmp_path: Path, chunk: int) -> None:
    big = bytes(range(256)) * 20
    index = extract(
        tmp_path / "r",
        directory("d/", mode=0o750, mtime=1_600_000_000), entry("d/f", big, mtime=1_500_000_000), entry("empty"),
        pax({"path": "d/" + "long" * 60}), entry("x", b"1"), gnu_long("d/gnu" * 30), entry("y", b"22"),
        symlink("d/l", "f"), hardlink("h", "d/f"),
        chunk=chunk,
    )  # fmt: skip
    root = tmp_path / "r"
    assert listing(root) == indexed(index)
    assert (root / "d/f").read_bytes() == big
    assert (root / ("d/" + "long" * 60)).read_bytes() == b"1"
    assert (root / ("d/gnu" * 30)).read_bytes() == b"22"
    assert os.stat(root / "h").st_ino == os.stat(root / "d/f").st_ino
    assert stat.S_IMODE(os.stat(root / "d").st_mode) == 0o750
    assert os.stat(root / "d").st_mtime == 1_600_000_000
    assert os.stat(root / "d/f").st_mtime == 1_500_000_000


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_the_standard_library(tmp_path: Path, format: int) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as archive:
        for name, data in (("a/b/c.txt", b"hello"), ("p" * 90 + "/" + "n" * 90, b"split"), ("\u00e9\udcff", b"name")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1_234_567_890
            info.mode = 0o640
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("l")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * (90 if format == tarfile.USTAR_FORMAT else 300)
        archive.addfile(link)
    root = tmp_path / "r"
    index = extract(root, stream.getvalue(), end=b"")
    assert listing(root) == indexed(index)
    assert (root / "a/b/c.txt").read_bytes() == b"hello"
    assert (root / ("p" * 90) / ("n" * 90)).read_bytes() == b"split"
    assert os.readlink(root / "l") == link.linkname
    assert {oct(p.stat().st_mode & 0o7777) for p in root.rglob("*.txt")} == {"0o640"}


def test_v7_headers_without_magic_and_old_directories(tmp_path: Path) -> None:
    extract(tmp_path / "r", header("old/", "\0", magic=b""), entry("old/f", b"x", magic=b"", prefix=b"not a prefix"))
    assert listing(tmp_path / "r") == {"old": "d", "old/f": "f"}


def test_times_to_the_nanosecond_and_before_1970(tmp_path: Path) -> None:
    index = extract(
        tmp_path / "r",
        pax({"mtime": "1700000000.123456789"}), entry("a"),
        pax({"mtime": "1700000000.1234567899"}), entry("b"),
        pax({"mtime": "-1.5"}), entry("c"),
        entry("d", mtime=b"\xff" * 11 + b"\xfe"),
        pax({"mtime": "99999999999999"}), entry("far"),
        pax({"mtime": "1700000000.5"}), symlink("l", "a"),
        pax({"mtime": "1700000000.25"}), directory("dir"),
    )  # fmt: skip
    times = {p.name: os.lstat(p).st_mtime_ns for p in (tmp_path / "r").iterdir()}
    assert times == {
        "a": 1_700_000_000_123_456_789, "b": 1_700_000_000_123_456_789, "c": -1_500_000_000, "d": -2_000_000_000, "far": 0,
        "l": 1_700_000_000_500_000_000, "dir": 1_700_000_000_250_000_000,
    }  # fmt: skip
    assert {n: index.lookup(n).mtime_ns for n in times} == times  # type: ignore[union-attr]


def test_numbers_in_base_256_and_pax_override_the_header(tmp_path: Path) -> None:
    base256 = b"\x80" + (70_000).to_bytes(7, "big")
    index = extract(
        tmp_path / "r",
        entry("a", uid=base256, gid=base256), pax({"uid": "4000000000", "gid": "12"}), entry("b", uid=5),
        pax({"size": "3"}), header("sized", size=0) + b"abc" + bytes(509),
        pax({"uid": "77"}, "g"), entry("c", uid=5), pax({"uid": "1"}), entry("d", uid=5), entry("e", uid=5),
        owners=ROOT,
    )  # fmt: skip
    assert [(index.lookup(n).uid, index.lookup(n).gid) for n in "abcde"] == [  # type: ignore[union-attr]
        (70_000, 70_000), (4_000_000_000, 12), (77, 0), (1, 0), (77, 0),
    ]  # fmt: skip
    assert (tmp_path / "r/sized").read_bytes() == b"abc"
    if ROOT:
        assert os.stat(tmp_path / "r/b").st_uid == 4_000_000_000


@pytest.mark.root
def test_owner_and_special_bits(tmp_path: Path) -> None:
    index = extract(
        tmp_path / "r",
        entry("su", b"x", mode=0o4755, uid=12, gid=34), entry("sg", mode=0o2711, uid=0, gid=5), entry("ww", mode=0o666),
        directory("t", mode=0o1777, uid=9), directory("sgd", mode=0o2755, gid=42), entry("sgd/f", mode=0o644), directory("sgd/d"),
        header("l", "2", link="x", uid=7, gid=8), header("f", "6", mode=0o622, uid=3),
        header("c", "3", dev=(1, 3), mode=0o666), header("b", "4", dev=(7, 300), uid=1),
    )  # fmt: skip
    found = {}
    for path in (tmp_path / "r").rglob("*"):
        s = os.lstat(path)
        found[str(path.relative_to(tmp_path / "r"))] = (oct(stat.S_IMODE(s.st_mode)), s.st_uid, s.st_gid)
    assert found == {
        "su": ("0o4755", 12, 34), "sg": ("0o2711", 0, 5), "ww": ("0o666", 0, 0), "t": ("0o1777", 9, 0), "sgd": ("0o2755", 0, 42),
        "sgd/f": ("0o644", 0, 0), "sgd/d": ("0o755", 0, 0), "l": ("0o777", 7, 8), "f": ("0o622", 3, 0), "c": ("0o666", 0, 0),
        "b": ("0o644", 1, 0),
    }  # fmt: skip
    device = os.lstat(tmp_path / "r/b").st_rdev
    assert (os.major(device), os.minor(device)) == (7, 300)
    assert index.lookup("b").rdev == (7, 300)  # type: ignore[union-attr]


@pytest.mark.root
def test_capabilities_survive_owner_and_contents(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    index = extract(
        tmp_path / "r",
        pax({"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.security.selinux": "host_u", "SCHILY.xattr.trusted.overlay.opaque": "y"}),
        entry("ping", b"elf", mode=0o755, uid=5),
    )  # fmt: skip
    assert os.getxattr(tmp_path / "r/ping", "security.capability") == capability
    fd = os.open(tmp_path / "r", os.O_RDONLY)
    try:
        assert next(iter(index.entries(fd))).xattrs == {"security.capability": capability}
    finally:
        os.close(fd)


def test_extended_attributes_in_both_spellings(tmp_path: Path) -> None:
    if not xattrs_work(tmp_path):
        pytest.skip("no user attributes on this file system")
    index = extract(
        tmp_path / "r",
        pax({"SCHILY.xattr.user.b": "2\0\n", "SCHILY.xattr.user.a": "1", "LIBARCHIVE.xattr.user.b": libarchive_value(b"other")}), entry("f"),
        pax({"LIBARCHIVE.xattr.user.x%20y": libarchive_value(b"\0\1\2\3")}), directory("d"),
    )  # fmt: skip
    f, d = tmp_path / "r/f", tmp_path / "r/d"
    assert {n: os.getxattr(f, n) for n in os.listxattr(f)} == {"user.a": b"1", "user.b": b"2\0\n"}
    assert os.getxattr(d, "user.x y") == b"\0\1\2\3"
    # a later layer's directory entry replaces the attributes
    extract(tmp_path / "r", pax({"SCHILY.xattr.user.new": "n"}), directory("d"), index=index)
    assert os.listxattr(d) == ["user.new"]


def test_the_index_alone_gives_the_same_answers(tmp_path: Path) -> None:
    blocks = (
        directory("d"), entry("d/f", b"12345"), symlink("s", "d"), entry("s/g", b"1"), hardlink("h", "s/f"), entry("x/y/z"),
        header("dev", "3", dev=(5, 1)), directory("d", mode=0o700), entry("h"), symlink("x", "d"),
    )  # fmt: skip
    on_disk = extract(tmp_path / "r", *blocks, devices=False)
    index = Index()
    extractor = Extractor(index)
    extractor.feed(b"".join(blocks) + END)
    extractor.finish()
    assert indexed(index) == indexed(on_disk)
    assert all(index.lookup(p) == on_disk.lookup(p) for p in indexed(index))
    assert (extractor.files, extractor.bytes) == (10, 6)
    assert listing(tmp_path / "r") == {k: v for k, v in indexed(on_disk).items() if k != "dev"}


# --- layers ---------------------------------------------------------------------------------------------------------


def layers(root: Path, *streams: tuple[bytes, ...], **options: object) -> Index:
    index = Index()
    for blocks in streams:
        extract(root, *blocks, index=index, **options)
    assert listing(root) == indexed(index)
    return index


def test_whiteouts_and_types_that_change_between_layers(tmp_path: Path) -> None:
    layers(
        tmp_path / "r",
        (directory("d"), entry("d/a", b"1"), entry("d/b"), entry("file", b"2"), directory("dir"), entry("dir/x"), symlink("sym", "d"), entry("e/f/g")),
        (entry("d/.wh.a"), entry("file/now/a/dir", b"3"), entry("dir", b"4"), directory("sym"), entry("sym/real"), entry("e/.wh.f"), entry(".wh.nothing")),
    )  # fmt: skip
    assert listing(tmp_path / "r") == {
        "d": "d", "d/b": "f", "file": "d", "file/now": "d", "file/now/a": "d", "file/now/a/dir": "f", "dir": "f", "sym": "d", "sym/real": "f", "e": "d",
    }  # fmt: skip


@pytest.mark.parametrize("reverse", [False, True])
def test_whiteouts_spare_their_own_layer_in_any_order(tmp_path: Path, reverse: bool) -> None:
    upper = [
        entry("d/.wh..wh..opq"),
        entry("d/new", b"n"),
        entry("d/sub/new"),
        entry(".wh.w"),
        entry("w/again", b"w"),
        entry("f", b"new"),
        entry(".wh.f"),
    ]
    layers(
        tmp_path / "r",
        (entry("d/old"), entry("d/sub/old"), entry("d/gone/deep/x"), entry("w/old"), entry("f", b"old")),
        tuple(reversed(upper) if reverse else upper),
    )
    assert listing(tmp_path / "r") == {
        "d": "d",
        "d/new": "f",
        "d/sub": "d",
        "d/sub/new": "f",
        "w": "d",
        "w/again": "f",
        "f": "f",
    }
    assert (tmp_path / "r/f").read_bytes() == b"new"


def test_an_opaque_mark_on_a_linked_directory_clears_where_the_link_leads(tmp_path: Path) -> None:
    layers(tmp_path / "r", (entry("real/x"), symlink("l", "real")), (entry("l/.wh..wh..opq"), entry("l/y")))
    assert listing(tmp_path / "r") == {"real": "d", "real/y": "f", "l": "l real"}


def test_hard_links_into_lower_layers(tmp_path: Path) -> None:
    index = layers(
        tmp_path / "r",
        (entry("a", b"x", mtime=5), symlink("s", "a")),
        (hardlink("b", "a"), hardlink("d/c", "/b"), hardlink("s2", "s")),
    )
    r = tmp_path / "r"
    assert len({os.stat(r / n).st_ino for n in ("a", "b", "d/c")}) == 1
    assert index.lookup("a").nlink_group == index.lookup("d/c").nlink_group != 0  # type: ignore[union-attr]
    assert os.readlink(r / "s2") == "a"
    layers_again = extract(r, entry("b", b"own"), index=index)
    assert (r / "a").read_bytes() == b"x"
    assert layers_again.lookup("b").nlink_group == 0  # type: ignore[union-attr]


def test_directories_keep_their_times_when_later_layers_fill_them(tmp_path: Path) -> None:
    index = layers(tmp_path / "r", (directory("d", mtime=1_000_000), entry("d/x")), (entry("d/y"), entry("d/.wh.x")))
    assert os.stat(tmp_path / "r/d").st_mtime == 1_000_000
    assert index.lookup("d").mtime_ns == 1_000_000 * 10**9  # type: ignore[union-attr]


def test_what_aufs_left_is_not_unpacked(tmp_path: Path) -> None:
    layers(tmp_path / "r", (directory(".wh..wh.plnk"), entry(".wh..wh.plnk/1.2"), entry(".wh..wh.aufs"), entry("x")))
    assert listing(tmp_path / "r") == {"x": "f"}


def test_archives_that_are_no_layers_keep_such_names(tmp_path: Path) -> None:
    extract(tmp_path / "r", entry("keep"), entry(".wh.keep"), whiteouts=False)
    assert listing(tmp_path / "r") == {"keep": "f", ".wh.keep": "f"}


def test_skipped_paths_are_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "r"
    (root / "proc").mkdir(parents=True)
    (root / "proc/mine").write_text("1")
    (root / "a/keep").mkdir(parents=True)
    (root / "a/keep/x").write_text("2")
    index = Index()
    extract(
        root,
        directory("a"), entry("a/keep/x", b"evil"), directory("proc", mode=0o700), entry("proc/f"), symlink("p", "proc"), entry("p/g"),
        hardlink("h", "proc/mine"), entry("a/other"),
        index=index, skip=["proc", "a/keep"],
    )  # fmt: skip
    extract(root, entry(".wh.a"), entry(".wh.proc"), index=index, skip=["proc", "a/keep"])
    assert listing(root) == {"proc": "d", "proc/mine": "f", "a": "d", "a/keep": "d", "a/keep/x": "f", "p": "l proc"}
    assert (root / "a/keep/x").read_text() == "2"
    with pytest.raises(OSError, match="busy"):
        extract(root, entry("a", b"file"), index=index, skip=["proc", "a/keep"])


def test_below_a_destination(tmp_path: Path) -> None:
    index = extract(tmp_path / "r", directory("opt/app"), symlink("srv", "opt"))
    extract(
        tmp_path / "r",
        directory("./"),
        entry("../f"),
        symlink("l", "/etc"),
        hardlink("h", "f"),
        index=index,
        dest="srv/app",
        whiteouts=False,
    )
    assert listing(tmp_path / "r").keys() == {"opt", "opt/app", "opt/app/f", "opt/app/l", "opt/app/h", "srv"}
    assert indexed(index) == listing(tmp_path / "r")


def test_kept_contents(tmp_path: Path) -> None:
    for root in (-1, 0):
        index = Index()
        fd = os.open(tmp_path, os.O_RDONLY) if root == 0 else -1
        extractor = Extractor(index, fd, keep=["etc/passwd", "etc/group", "etc/big", "etc/none"])
        stream = (
            entry("./etc/passwd", b"old"), entry("etc/passwd", b"root:x:0:0"), entry("etc/group", b"g"), entry("etc/.wh.group"),
            entry("etc/big", bytes(2 << 20)), entry("etc/other", b"x"),
        )  # fmt: skip
        data = b"".join(stream) + END
        for at in range(0, len(data), 300_000):
            extractor.feed(data[at : at + 300_000])
        extractor.finish()
        assert extractor.kept == {"etc/passwd": b"root:x:0:0", "etc/group": b"g"}
        if fd >= 0:
            os.close(fd)


def test_a_tree_as_gnu_tar_packs_it(tmp_path: Path) -> None:
    source = tmp_path / "s"
    for i in range(30):
        place = source / f"d{i % 5}" / f"e{i % 3}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{i}").write_bytes(os.urandom(i * 700))
        os.utime(place / f"f{i}", ns=(0, 10**18 + i * 1_000_001))
    os.link(source / "d0/e0/f0", source / "zz")
    (source / "lnk").symlink_to("y" * 130)
    os.mkfifo(source / "pipe")
    for format in ("gnu", "posix", "ustar"):
        links = [] if format != "ustar" else ["--exclude=./lnk"]
        stream = subprocess.run(
            ["tar", "-C", source, f"--format={format}", *links, "-cf", "-", "."], check=True, capture_output=True
        ).stdout
        root = tmp_path / format
        extract(root, stream, end=b"")
        for path in source.rglob("*"):
            name = path.relative_to(source)
            if format == "ustar" and name == Path("lnk"):
                continue
            a, b = os.lstat(path), os.lstat(root / name)
            assert (a.st_mode, a.st_uid, a.st_nlink, a.st_size if not path.is_dir() else 0) == (
                b.st_mode, b.st_uid, b.st_nlink, b.st_size if not path.is_dir() else 0,
            )  # fmt: skip
            assert (
                a.st_mtime_ns == b.st_mtime_ns
                if format == "posix"
                else a.st_mtime_ns // 10**9 == b.st_mtime_ns // 10**9
            )
            if path.is_file():
                assert path.read_bytes() == (root / name).read_bytes()


@pytest.fixture
def public() -> Iterator[Path]:
    """A temporary directory that other users can search."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.root
def test_without_privileges_everything_else_is_as_it_should_be(public: Path) -> None:
    script = """
import os, sys
sys.path[:0] = [{tests!r}, {source!r}]
from pathlib import Path
from tarblocks import *
import pybuild._native.listing, pybuild._native.scan
os.setgroups([]); os.setgid(12345); os.setuid(12345)
os.umask(0o077)
root = Path({root!r})
index = extract(root, directory('locked', mode=0o555, mtime=5), entry('locked/f', b'x', uid=3, mode=0o4711), directory('none', mode=0),
    header('none/deep', '5', mode=0), entry('none/deep/f', b'y', mode=0o444), header('dev', '3', dev=(1, 3)),
    pax({{'SCHILY.xattr.security.capability': bytes.fromhex('0100000200200000000000000000000000000000')}}), entry('cap'), owners=False)
extract(root, entry('none/deep/g'), entry('locked/.wh.f'), hardlink('locked/h', 'none/deep/f'), entry('none/.wh.x'), index=index, owners=False)
for p in ('locked', 'none', 'none/deep'):
    print(p, oct(index.lookup(p).mode))
print(oct(os.stat(root / 'locked').st_mode & 0o7777), oct(os.stat(root / 'none').st_mode & 0o7777), os.stat(root / 'locked').st_mtime)
print(index.lookup('locked/h').uid, index.lookup('dev').type, (root / 'dev').exists(), (root / 'cap').exists())
fd = os.open(root, os.O_RDONLY)
print([e.path for e in index.scan(fd, owners=False)])
print({{e.path: e.uid for e in index.entries(fd)}}['dev'])
extract(root, entry('.wh.none'), entry('.wh.locked'), index=index, owners=False)
print(sorted(os.listdir(root)))
""".format(tests=str(Path(__file__).parent), source="src", root=str(public / "r"))
    (public / "r").mkdir()
    os.chown(public / "r", 12345, 12345)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "locked 0o555", "none 0o0", "none/deep 0o0", "0o555 0o0 5.0", "0 char False True", "[]", "0", "['cap']",
    ]  # fmt: skip

"""Archives that mean harm, and those that are broken. Whatever they say, nothing outside of the root is touched: a tree beside it is
compared afterwards, its inodes, contents and modes included."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tarblocks import (
    END,
    directory,
    entry,
    extract,
    gnu_long,
    hardlink,
    header,
    indexed,
    listing,
    octal,
    padded,
    pax,
    record,
    symlink,
)

from pybuild._native.index import Index
from pybuild._native.untar import Extractor


def fingerprint(path: Path) -> str:
    digest = hashlib.sha256()
    for where, directories, files in os.walk(path):
        directories.sort()
        for name in sorted(directories + files):
            whole = os.path.join(where, name)
            s = os.lstat(whole)
            row = (
                whole,
                s.st_mode,
                s.st_uid,
                s.st_gid,
                s.st_size if name in files else 0,
                s.st_mtime_ns,
                s.st_ctime_ns,
                s.st_nlink,
                s.st_ino,
            )
            digest.update(repr(row).encode())
    return digest.hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The root, beside a tree of which nothing may change."""
    outside = tmp_path / "outside"
    (outside / "dir").mkdir(parents=True)
    (outside / "file").write_text("precious")
    (outside / "dir/inner").write_text("precious too")
    (outside / "victim").write_text("v")
    for name in ("etc", "tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "passwd").write_text("x")
    inside = tmp_path / "root"
    inside.mkdir()
    before = {name: fingerprint(tmp_path / name) for name in ("outside", "etc", "tmp")}
    yield inside
    assert {name: fingerprint(tmp_path / name) for name in before} == before
    assert sorted(os.listdir(tmp_path)) == ["etc", "outside", "root", "tmp"]


def clamped(root: Path, *blocks: bytes, **options: object) -> dict[str, str]:
    """Unpack as a layer, check that disk and index agree, and give the tree."""
    index = extract(root, *blocks, **options)
    assert indexed(index) == listing(root)
    return listing(root)


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("../outside/file", "outside/file"),
        ("/outside/file", "outside/file"),
        ("a/../../../outside/new", "outside/new"),
        ("./../../x", "x"),
        ("..//..//x", "x"),
        ("a/b/../../../../etc/passwd", "etc/passwd"),
        ("////x", "x"),
        ("./././x", "x"),
    ],
)
def test_names_that_climb_stay_inside(root: Path, name: str, path: str) -> None:
    assert clamped(root, entry(name, b"evil"))[path] == "f"
    climbs = ".." in name
    other = root.parent / "root"
    shutil.rmtree(other)
    other.mkdir()
    if climbs:
        with pytest.raises(ValueError, match="leads out of the archive"):
            extract(root, entry(name, b"evil"), strict=True)
        assert listing(root) == {}
    else:
        extract(root, entry(name, b"evil"), strict=True)


@pytest.mark.parametrize("name", [".", "./", "/", "..", "../", "x/..", "./../."])
@pytest.mark.parametrize("kind", ["0", "2", "1", "6"])
def test_the_root_stays_a_directory(root: Path, name: str, kind: str) -> None:
    if kind == "0" and name.endswith("/"):
        return  # a directory in an old archive
    with pytest.raises(ValueError, match="root must be a directory"):
        extract(root, header(name, kind, link="../outside"))
    assert root.is_dir()
    assert not root.is_symlink()


def test_the_root_takes_attributes_of_a_directory_only(root: Path) -> None:
    extract(root, directory("./", mode=0o711, mtime=77))
    assert (root.stat().st_mode & 0o7777, root.stat().st_mtime) == (0o711, 77)


# --- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    ["../outside", "/../outside", "../../../../../../../outside", "/proc/self/root/outside", "x/../../outside"],
)
def test_nothing_is_written_through_a_symlink(root: Path, target: str) -> None:
    tree = clamped(root, symlink("l", target), entry("l/file", b"evil"), entry("l/dir/inner", b"evil"), directory("l/dir"), entry("l/.wh.victim"), entry("l/.wh..wh..opq"))  # fmt: skip
    assert tree["l"] == f"l {target}"


def test_a_file_over_a_symlink_replaces_the_link(root: Path) -> None:
    tree = clamped(
        root,
        symlink("l", "../outside/file"),
        entry("l", b"evil"),
        symlink("m", str(root.parent / "outside/file")),
        entry("m", b"evil"),
    )
    assert tree == {"l": "f", "m": "f"}


def test_a_directory_over_a_symlink_replaces_the_link(root: Path) -> None:
    clamped(root, symlink("l", "../outside/dir"), directory("l", mode=0o700), entry("l/inner", b"evil"))
    assert listing(root) == {"l": "d", "l/inner": "f"}


@pytest.mark.parametrize("target", ["../outside", "/outside", "../../outside/"])
def test_a_directory_swapped_for_a_symlink_between_two_entries(root: Path, target: str) -> None:
    clamped(
        root, directory("d"), entry("d/a"), symlink("d", target), entry("d/file", b"evil"), entry("d/dir/x", b"evil")
    )
    assert listing(root) == {
        "d": f"l {target}",
        "outside": "d",
        "outside/file": "f",
        "outside/dir": "d",
        "outside/dir/x": "f",
    }


def test_chains_of_symlinks(root: Path) -> None:
    clamped(
        root,
        symlink("a", "b/../.."),
        symlink("b", "c"),
        symlink("c", "../.."),
        entry("a/outside/file", b"evil"),
        symlink("d", "a/b/c/a"),
        entry("d/x"),
    )


def test_a_loop_of_symlinks_is_an_error(root: Path) -> None:
    with pytest.raises(OSError, match="symbolic links"):
        extract(root, symlink("a", "b"), symlink("b", "a"), entry("a/x"))


@pytest.mark.parametrize(
    "target", ["../outside/file", "/outside/file", "../../../../etc/passwd", "outside/file", "l/file"]
)
def test_hard_links_reach_nothing_outside(root: Path, target: str) -> None:
    with pytest.raises(ValueError, match="not there"):
        extract(root, symlink("l", "../outside"), hardlink("h", target), entry("h", b"evil"))
    assert "h" not in listing(root)


def test_a_hard_link_to_a_symlink_is_one_to_the_link(root: Path) -> None:
    tree = clamped(root, symlink("l", "../outside/file"), hardlink("h", "l"))
    assert tree == {"l": "l ../outside/file", "h": "l ../outside/file"}
    with pytest.raises(ValueError, match="root must be"):
        extract(root, hardlink("..", "l"), index=Index())


def test_attributes_of_a_hard_link_entry_change_nothing(root: Path) -> None:
    clamped(
        root,
        entry("a", b"x", mode=0o600, uid=5, mtime=9),
        header("h", "1", link="a", mode=0o4777, uid=0, mtime=1),
        owners=False,
    )
    s = os.stat(root / "a")
    assert (s.st_mode & 0o7777, s.st_mtime) == (0o600, 9)


def test_hard_links_to_later_entries_directories_and_themselves(root: Path) -> None:
    for blocks in (
        (hardlink("h", "later"), entry("later")),
        (directory("d"), hardlink("h", "d")),
        (hardlink("h", "h"),),
        (entry("d/x"), hardlink("d", "d/x")),
    ):
        with pytest.raises(ValueError, match="hard link"):
            extract(root, *blocks)
        shutil.rmtree(root)
        root.mkdir()
    assert clamped(root, entry("a", b"1"), hardlink("a", "a"), hardlink("b", "a"), hardlink("a", "b")) == {
        "a": "f",
        "b": "f",
    }
    assert (root / "a").read_bytes() == b"1"


def test_strict_archives_may_not_link_out(root: Path) -> None:
    for block in (
        symlink("l", "../x"),
        symlink("d/l", "../../x"),
        symlink("d/l", "a/../../../x"),
        hardlink("h", "../x"),
    ):
        with pytest.raises(ValueError, match="out"):
            extract(root, entry("x"), block, strict=True)
    extract(root, entry("x"), symlink("d/l", "../x"), symlink("abs", "/etc/passwd"), symlink("in", "a/../b"), hardlink("h", "./x"), strict=True)  # fmt: skip


# --- whiteouts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."])
def test_whiteouts_without_a_name(root: Path, name: str) -> None:
    with pytest.raises(ValueError, match="whiteout without a name"):
        extract(root, directory("d"), entry(name))
    assert root.is_dir()


@pytest.mark.parametrize(
    "name",
    [
        "../outside/.wh.file",
        "l/.wh.file",
        "l/.wh..wh..opq",
        "../.wh.outside",
        "m/.wh.dir",
        ".wh.l/../../outside",
        ".wh.../x",
    ],
)
def test_whiteouts_reach_nothing_outside(root: Path, name: str) -> None:
    clamped(root, symlink("l", "../outside"), symlink("m", "/outside"), entry(name))


def test_a_whiteout_of_a_symlink_removes_the_link(root: Path) -> None:
    index = extract(root, symlink("l", "../outside/dir"))
    extract(root, entry(".wh.l"), index=index)
    assert listing(root) == {}


def test_removing_never_follows_links_in_the_tree(root: Path) -> None:
    index = extract(
        root, entry("d/x"), symlink("d/l", str(root.parent / "outside")), symlink("d/e", "../../outside/dir")
    )
    extract(root, entry(".wh.d"), index=index)
    assert listing(root) == {}


def test_what_is_on_disk_unknown_to_the_index_is_replaced_not_followed(root: Path) -> None:
    outside = root.parent / "outside"
    for name in ("d", "f", "s", "deep"):
        (root / name).symlink_to(outside)
    (root / "h").symlink_to(outside / "file")
    clamped(
        root,
        directory("d", mode=0o700),
        entry("d/file", b"evil"),
        entry("f", b"x"),
        symlink("s", "t"),
        entry("deep/dir/inner", b"evil"),
        entry("a"),
        hardlink("h", "a"),
    )


def test_a_disk_that_changes_behind_the_index_is_an_error(root: Path) -> None:
    index = extract(root, directory("d"), directory("d/e"))
    (root / "d/e").rmdir()
    (root / "d").rmdir()
    (root / "d").symlink_to(root.parent / "outside")
    for block in (
        entry("d/file", b"evil"),
        entry("d/e/x", b"evil"),
        directory("d/dir"),
        symlink("d/l", "x"),
        hardlink("d/h", "d/file"),
    ):
        with pytest.raises((OSError, ValueError)):
            extract(root, block, index=index.copy())


def test_trees_deeper_than_a_path_may_be_long(root: Path) -> None:
    deep = "/".join(["d" * 50] * 200)
    index = extract(root, gnu_long(deep + "/f"), entry("x", b"deep"))
    assert index.lookup(deep + "/f") is not None
    fd = os.open(root, os.O_RDONLY)
    try:
        index.settle()
        assert len(index.scan(fd, mode="full")) == 0
    finally:
        os.close(fd)
    extract(root, entry(".wh." + "d" * 50), index=index)
    assert listing(root) == {}


# --- broken streams -------------------------------------------------------------------------------------------------


def refused(match: str, *blocks: bytes, end: bytes = END) -> None:
    extractor = Extractor(Index())
    with pytest.raises(ValueError, match=match):
        extractor.feed(b"".join(blocks) + end)
        extractor.finish()
    with pytest.raises(ValueError):
        extractor.finish()


def test_truncated_anywhere_but_between_entries() -> None:
    stream = entry("a", b"x" * 700) + pax({"path": "b" * 200}) + entry("b", b"y") + END
    boundaries = {0, 512 + 1024, len(stream) - 1024, len(stream) - 512, len(stream)}
    for cut in range(len(stream) + 1):
        extractor = Extractor(Index())
        extractor.feed(stream[:cut])
        if cut in boundaries:
            extractor.finish()
        else:
            with pytest.raises(ValueError, match="ends"):
                extractor.finish()


@pytest.mark.parametrize(
    ("match", "blocks"),
    [
        ("checksum", [b"\x01" * 512]),
        ("checksum", [header("a", checksum=b"000000\0 ")]),
        ("checksum", [zlib.compress(os.urandom(4096))]),
        ("size", [header("a", size=b"\xff" * 12)]),
        ("size", [header("a", size=b"\xc0" + b"\0" * 11)]),
        ("size", [header("a", size=b"\x80" + b"\xff" * 11)]),
        ("size", [header("a", size=b"-0000000001\0")]),
        ("size", [header("a", size=b"12345678z90\0")]),
        ("number", [header("a", uid=b"99999999")]),
        ("owner", [header("a", uid=b"\xff" * 8)]),
        ("owner", [header("a", uid=b"\x80\0\0\1\0\0\0\0")]),
        ("number", [header("a", mtime=b"x" * 12)]),
        ("without a name", [header("")]),
        ("unknown type", [header("a", "Z")]),
        ("unknown type", [header("a", "M")]),
        ("sparse", [header("a", "S")]),
        ("sparse", [pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}), entry("a")]),
        ("without a target", [header("l", "2")]),
        ("without a target", [header("l", "1")]),
        ("lone block", [bytes(512), entry("a")]),
        ("too large", [header("p", "x", size=(1 << 20) + 1)]),
        ("too large", [header("p", "x", size=7 << 30)]),
        ("too large", [header("p", "g", size=7 << 30)]),
        ("too large", [header("p", "L", size=1 << 16)]),
        ("too large", [header("p", "K", size=7 << 30)]),
        ("too long", [pax({"path": "a/" * 20000}), entry("a")]),
        ("empty long name", [gnu_long(""), entry("a")]),
        ("two names", [gnu_long("x"), pax({"path": "y"}), entry("a")]),
        ("two targets", [gnu_long("x", "K"), pax({"linkpath": "y"}), header("l", "2")]),
        ("NUL", [pax({"path": "a\0b"}), entry("a")]),
        ("NUL", [pax({"linkpath": "a\0b"}), symlink("a", "b")]),
        ("global", [pax({"path": "x"}, "g"), entry("a")]),
        ("global", [pax({"size": "5"}, "g"), entry("a")]),
        ("not a number", [pax({"size": "-5"}), entry("a")]),
        ("not a number", [pax({"size": "0x10"}), entry("a")]),
        ("not a number", [pax({"size": "99999999999999999999999"}), entry("a")]),
        ("not a number", [pax({"size": str(2**63 - 1)}), entry("a")]),
        ("not a number", [pax({"size": "1.5"}), entry("a")]),
        ("not a number", [pax({"uid": "-1"}), entry("a")]),
        ("not a number", [pax({"uid": str(2**32 - 1)}), entry("a")]),
        ("not a number", [pax({"mtime": "soon"}), entry("a")]),
        ("not a number", [pax({"mtime": "1.5e3"}), entry("a")]),
        ("malformed PAX", [pax(b"9999 path=x\n"), entry("a")]),
        ("malformed PAX", [pax(b"5 a=b"), entry("a")]),
        ("malformed PAX", [pax(b"-6 a=b\n"), entry("a")]),
        ("malformed PAX", [pax(b"6 =ab\n"), entry("a")]),
        ("malformed PAX", [pax(b"6 abc\n"), entry("a")]),
        ("malformed PAX", [pax(b"0 a=b\n"), entry("a")]),
        ("malformed PAX", [pax(b"99999999999999999999 a=b\n"), entry("a")]),
        ("malformed PAX", [pax(b" 6 a=b\n"), entry("a")]),
        ("too many", [pax(b"".join(record(f"SCHILY.xattr.user.{i}", "") for i in range(300))), entry("a")]),
        ("base64", [pax({"LIBARCHIVE.xattr.user.a": "!!"}), entry("a")]),
        ("usable name", [pax({"SCHILY.xattr." + "n" * 300: "AA"}), entry("a")]),
        ("ends after", [pax({"path": "x"})]),
        ("ends after", [gnu_long("x")]),
        ("no directory", [entry("a"), entry("a/b")]),
    ],
)  # fmt: skip
def test_malformed(match: str, blocks: list[bytes]) -> None:
    refused(match, *blocks)


def test_a_component_that_no_file_system_takes(root: Path) -> None:
    for name in ("n" * 256, "n" * 256 + "/x", "a/" + "n" * 300):
        with pytest.raises(OSError, match="too long"):
            extract(root, pax({"path": name}), entry("x"))


def test_the_pax_size_counts_not_that_of_the_header(root: Path) -> None:
    # a reader that believes the header would see the file "smuggled"
    inner = entry("smuggled", b"evil")
    clamped(root, pax({"size": str(len(inner))}), header("outer", size=0) + inner, entry("after"))
    assert listing(root) == {"outer": "f", "after": "f"}
    assert (root / "outer").read_bytes() == inner


def test_sizes_of_entries_without_data_are_ignored(root: Path) -> None:
    clamped(
        root,
        header("l", "2", link="x", size=512),
        header("d", "5", size=4096),
        entry("a"),
        header("h", "1", link="a", size=99999),
        entry("b"),
    )
    assert listing(root) == {"l": "l x", "d": "d", "a": "f", "h": "f", "b": "f"}


def test_what_follows_the_end_is_ignored(root: Path) -> None:
    clamped(root, entry("a"), END, entry("b"), b"garbage")
    assert listing(root) == {"a": "f"}


def test_a_million_headers_that_say_nothing_cost_little() -> None:
    extractor = Extractor(Index())
    block = directory("./") * 1000
    for _ in range(1000):
        extractor.feed(block)
    extractor.finish()
    assert extractor.files == 1_000_000


def test_many_extended_headers_before_an_entry_do_not_add_up() -> None:
    extractor = Extractor(Index())
    big = pax({"path": "x" * 500, "comment": "c" * 500_000})
    for _ in range(100):
        extractor.feed(big)
    extractor.feed(pax({"path": "y"}) + entry("x"))
    extractor.feed(END)
    extractor.finish()


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts a small file system")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
    try:
        with pytest.raises(OSError, match="No space") as caught:
            extract(place / "r", entry("dir/large", bytes(1 << 20)))
        assert caught.value.filename == "dir/large"
    finally:
        subprocess.run(["umount", place], check=True)


def test_mounts_below_the_root_survive_removal(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts")
    index = extract(tmp_path / "r", entry("d/m/x"), entry("d/y"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("1")
    subprocess.run(["mount", "--bind", outside, tmp_path / "r/d/m"], check=True)
    try:
        with pytest.raises(OSError, match="busy"):
            extract(tmp_path / "r", entry(".wh.d"), index=index)
        assert (outside / "precious").exists()
    finally:
        subprocess.run(["umount", tmp_path / "r/d/m"], check=True)


# --- random streams -------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "a/b", "a/b/c", "l", "l/x", "m/../x", "../o", "/abs", "d/", "d", ".wh.a", ".wh.l", "a/.wh..wh..opq", ".wh..wh..opq", "l/.wh.x", "."])  # fmt: skip
TARGETS = st.sampled_from(["a", "b", "../outside", "/outside", "l", ".", "..", "a/b", "m", "/", "d/../l"])


@st.composite
def streams(draw: Callable[..., str]) -> list[bytes]:
    blocks = []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from("0005521"))
        name = draw(NAMES)
        if kind == "0":
            blocks.append(entry(name, draw(st.sampled_from([b"", b"1", b"x" * 600]))))
        elif kind == "5":
            blocks.append(directory(name))
        else:
            blocks.append(header(name, kind, link=draw(TARGETS), mode=0o777))
    return blocks


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(streams(), min_size=1, max_size=3))
def test_disk_and_index_agree_and_nothing_leaves(root: Path, layers: list[list[bytes]]) -> None:
    for child in root.iterdir():
        shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    index, alone = Index(), Index()
    for blocks in layers:
        try:
            extract(root, *blocks, index=index)
        except (ValueError, OSError) as e:
            extractor = Extractor(alone)
            with pytest.raises(type(e)):
                extractor.feed(b"".join(blocks) + END)
                extractor.finish()
            return
        extractor = Extractor(alone)
        extractor.feed(b"".join(blocks) + END)
        extractor.finish()
        assert indexed(index) == listing(root) == indexed(alone)
    fd = os.open(root, os.O_RDONLY)
    try:
        assert [e.path for e in index.scan(fd, mode="full")] == []
    finally:
        os.close(fd)


def test_flipped_bits_are_refused_or_read_as_others_read_them() -> None:
    """Where we accept a damaged archive, the standard library must see the same names (it accepts more)."""
    rng = random.Random(7)
    whole = (
        pax({"path": "p" * 120, "mtime": "5.25"})
        + entry("p", b"1" * 600)
        + directory("d")
        + gnu_long("g" * 130)
        + entry("g", b"22")
        + symlink("l", "d")
        + END
    )
    accepted = 0
    for _ in range(3000):
        stream = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(stream))
            stream[at] ^= 1 << rng.randrange(8)
            start = at - at % 512
            block = stream[start : start + 512]
            if block[257:262] == b"ustar" and rng.random() < 0.8:
                block[148:156] = b" " * 8
                stream[start + 148 : start + 156] = octal(sum(block), 7)[:6] + b"\0 "
        index = Index()
        extractor = Extractor(index, whiteouts=False)
        try:
            extractor.feed(bytes(stream))
            extractor.finish()
        except (ValueError, OSError):
            continue
        ours = {p for p, kind in indexed(index).items() if kind != "d"}
        try:
            with tarfile.open(fileobj=io.BytesIO(bytes(stream)), errorlevel=0) as archive:
                members = archive.getmembers()
        except (tarfile.TarError, ValueError, OverflowError):
            continue
        if extractor.files != len(members):
            continue  # the standard library ends silently at a damaged header
        accepted += 1
        theirs = {os.path.normpath("/" + m.name).lstrip("/") for m in members if not m.isdir()}
        assert ours <= theirs
    assert accepted > 100


def test_padding_and_end_in_pieces() -> None:
    extractor = Extractor(Index())
    for piece in (entry("a", b"x"), bytes(512), bytes(100), bytes(412), bytes(5000)):
        extractor.feed(memoryview(piece))
    extractor.feed(b"")
    extractor.finish()
    assert extractor.files == 1
    assert padded(b"x") == b"x" + bytes(511)

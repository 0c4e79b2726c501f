"""Small operations below a root: nothing ever leaves it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybuild._native import fsops


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "outside").write_text("outside")
    (tmp_path / "root").mkdir()
    fd = fsops.open_root(str(tmp_path / "root"))
    yield fd
    os.close(fd)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", ""),
        ("/", ""),
        ("..", ""),
        ("../../etc/passwd", "etc/passwd"),
        ("a/./b//c/", "a/b/c"),
        ("a/../../b", "b"),
        ("rel", "a/b"),
        ("rel/..", "a"),
        ("rel/../rel/x", "a/rel/x"),
        ("abs/x", "a/x"),
        ("abs-up", "outside"),
        ("up/outside", "outside"),
        ("chain", "a/b"),
        ("nothing/../a", "a"),
        ("nothing/there", "nothing/there"),
        ("file/below", "file/below"),
        ("broken", "nowhere/at/all"),
        ("to-root/a", "a"),
    ],
)
def test_resolve(path: str, found: str, root: int, place: Path) -> None:
    (place / "a/b").mkdir(parents=True)
    (place / "file").touch()
    links = {
        "rel": "a/b",
        "abs": "/a",
        "abs-up": "/../../outside",
        "up": "../../..",
        "broken": "nowhere/at/all",
        "to-root": "/",
    }
    for name, target in {**links, "chain": "one", "one": "/two", "two": "./rel"}.items():
        (place / name).symlink_to(target)
    assert fsops.resolve(root, path) == found


def test_resolve_without_the_last_link(root: int, place: Path) -> None:
    (place / "d").mkdir()
    (place / "l").symlink_to("d")
    (place / "d/m").symlink_to("/l")
    assert fsops.resolve(root, "l", follow_last=False) == "l"
    assert fsops.resolve(root, "l/m", follow_last=False) == "d/m"
    assert fsops.resolve(root, "l/m/..", follow_last=False) == ""


def test_resolve_loops_and_long_chains(root: int, place: Path) -> None:
    (place / "x").symlink_to("y")
    (place / "y").symlink_to("x")
    (place / "self").symlink_to("self/below")
    for path in ("x", "x/below", "self"):
        with pytest.raises(OSError) as caught:
            fsops.resolve(root, path)
        assert caught.value.errno == errno.ELOOP
    for i in range(41):
        (place / f"c{i}").symlink_to(f"c{i + 1}")
    assert fsops.resolve(root, "c1") == "c41"
    with pytest.raises(OSError):
        fsops.resolve(root, "c0")


def test_lstat(root: int, place: Path) -> None:
    (place / "d").mkdir()
    (place / "d/f").write_text("12345")
    (place / "d/f").chmod(0o4640)
    os.utime(place / "d/f", ns=(1, 1_600_000_000_000_000_007))
    (place / "l").symlink_to("/d")
    os.mkfifo(place / "p")
    f = fsops.lstat(root, "/l/f")
    assert f is not None
    assert (f.type, f.mode, f.size, f.mtime_ns, f.nlink, f.link) == (
        "file",
        0o4640,
        5,
        1_600_000_000_000_000_007,
        1,
        "",
    )
    assert (f.uid, f.gid, f.ino) == (os.getuid(), os.getgid(), (place / "d/f").stat().st_ino)
    link, pipe = fsops.lstat(root, "l"), fsops.lstat(root, "p")
    assert link is not None and (link.type, link.link) == ("symlink", "/d")
    assert pipe is not None and pipe.type == "fifo"
    assert fsops.lstat(root, "nothing") is None
    assert fsops.lstat(root, "d/f/below") is None


@pytest.mark.parametrize("path", ["", "/", ".", "..", "../..", "d/..", "d/../..", "l/../.."])
def test_lstat_stays_inside(path: str, root: int, place: Path) -> None:
    (place / "d").mkdir()
    (place / "l").symlink_to("d")
    found = fsops.lstat(root, path)
    assert found is not None and found.ino == place.stat().st_ino
    assert fsops.lstat(root, "../outside") is None


def test_listdir(root: int, place: Path) -> None:
    (place / "d").mkdir()
    for name in (b"b", b"a", b"\xff", b"B"):
        open(os.fsencode(place) + b"/d/" + name, "w").close()
    (place / "d/dir").mkdir()
    (place / "d/link").symlink_to("dir")
    os.mkfifo(place / "d/pipe")
    (place / "abs").symlink_to("/d")
    expected = [
        ("B", "file"),
        ("a", "file"),
        ("b", "file"),
        ("dir", "dir"),
        ("link", "symlink"),
        ("pipe", "other"),
        ("\udcff", "file"),
    ]
    assert fsops.listdir(root, "d") == fsops.listdir(root, "abs") == expected
    assert [n for n, _ in fsops.listdir(root, "..")] == ["abs", "d"]
    with pytest.raises(FileNotFoundError):
        fsops.listdir(root, "nothing")
    with pytest.raises(NotADirectoryError):
        fsops.listdir(root, "d/a")


def test_read_file(root: int, place: Path) -> None:
    (place / "f").write_bytes(b"12345")
    (place / "l").symlink_to("../../f")
    assert fsops.read_file(root, "l", 5) == b"12345"
    with pytest.raises(OSError) as caught:
        fsops.read_file(root, "f", 4)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, "f")
    with pytest.raises(FileNotFoundError):
        fsops.read_file(root, "../outside", 100)


def test_remove_tree(root: int, place: Path) -> None:
    for i in range(20):
        (place / f"t/{i}/below").mkdir(parents=True)
        (place / f"t/{i}/below/f").touch()
        (place / f"t/{i}.empty").mkdir()
    os.mkfifo(place / "t/pipe")
    (place / "kept").touch()
    fsops.remove_tree(root, "t")
    fsops.remove_tree(root, "t")
    assert os.listdir(place) == ["kept"]
    fsops.remove_tree(root, "kept")
    assert os.listdir(place) == []


def test_remove_tree_never_follows_links(root: int, place: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/f").touch()
    (place / "t").mkdir()
    (place / "t/l").symlink_to(tmp_path / "precious")
    (place / "l").symlink_to(tmp_path / "precious")
    fsops.remove_tree(root, "t")
    fsops.remove_tree(root, "l")
    assert os.listdir(place) == []
    assert os.listdir(tmp_path / "precious") == ["f"]


def test_remove_tree_three_hundred_directories_deep(root: int, place: Path) -> None:
    (place / "/".join(["d"] * 300)).mkdir(parents=True)
    fsops.remove_tree(root, "d")
    assert os.listdir(place) == []


MOUNTED = """
import ctypes, errno, os, sys
from pybuild._native import fsops
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x00020000) or libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None):
    sys.exit(77)
os.chdir(sys.argv[1])
os.makedirs("t/a/m")
os.mkdir("m")
for path in ("t/a/m", "m"):
    if libc.mount(b"tmpfs", path.encode(), b"tmpfs", 0, None):
        sys.exit(77)
    open(path + "/precious", "w").close()
    try:
        fsops.remove_tree(fsops.open_root("."), path.split("/")[0])
        sys.exit("removed")
    except OSError as e:
        assert e.errno == errno.EBUSY, e
    assert os.listdir(path) == ["precious"], path
"""


@pytest.mark.root
def test_remove_tree_leaves_what_is_mounted(tmp_path: Path) -> None:
    said = subprocess.run([sys.executable, "-c", MOUNTED, tmp_path], capture_output=True, text=True, check=False)
    if said.returncode == 77:
        pytest.skip("may not mount")
    assert said.stderr == ""


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_remove_tree_takes_names_alone(root: int, place: Path, name: str) -> None:
    (place / "a/b").mkdir(parents=True)
    with pytest.raises(ValueError, match="not the name"):
        fsops.remove_tree(root, name)
    assert (place / "a/b").is_dir()


CLOSED = """
import os, sys
from pybuild._native import fsops
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
os.chdir(sys.argv[1])
for mode in (0, 0o100, 0o400, 0o555, 0o200, 0o300):
    os.makedirs("t/a/b")
    open("t/a/b/f", "w").close()
    open("t/a/f", "w").close()
    for path in ("t/a/b", "t/a", "t"):
        os.chmod(path, mode)
    fsops.remove_tree(fsops.open_root("."), "t")
    assert os.listdir(".") == [], mode
"""


def test_remove_tree_opens_what_is_closed() -> None:
    # not below pytest's directory, which another user may not enter
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        if os.getuid() == 0:
            os.chown(place, 65534, 65534)
        said = subprocess.run([sys.executable, "-c", CLOSED, place], capture_output=True, text=True, check=False)
        assert said.stderr == ""
        assert said.returncode == 0

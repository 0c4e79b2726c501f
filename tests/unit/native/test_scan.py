"""The change detector: what a command did to a tree, as the entries of a layer."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tarblocks import directory, entry, extract, hardlink, header, indexed, listing, pax, symlink

from pybuild._native.cancel import Cancel
from pybuild._native.entries import LayerEntry
from pybuild._native.index import Index

MODES = ["redo", "full"]
BASE_TIME = 1_700_000_000


class Tree:
    """A small base image on disk and its index."""

    def __init__(self, path: Path, *blocks: bytes) -> None:
        self.path = path
        self.index = extract(path, *(blocks or BASE))
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.index.settle()

    def scan(self, mode: str = "redo", **options: object) -> dict[str, LayerEntry]:
        entries = self.index.scan(self.fd, mode=mode, **options)  # type: ignore[arg-type]
        found = list(entries)
        paths = [e.path for e in found]
        assert len(set(paths)) == len(paths)
        entries.sort()
        assert [e.path for e in entries] == paths, "the list is in tar order"
        return {e.path: e for e in found}

    def changed(self, mode: str = "redo", **options: object) -> set[str]:
        """Paths of what changed, directories left out; a whiteout with a leading minus."""
        return {
            ("-" if e.type == "whiteout" else "") + p for p, e in self.scan(mode, **options).items() if e.type != "dir"
        }


BASE = (
    directory("etc", mtime=BASE_TIME), entry("etc/passwd", b"root:x:0:0", mtime=BASE_TIME), entry("etc/hosts", b"", mtime=BASE_TIME),
    directory("bin", mtime=BASE_TIME), entry("bin/su", b"elf", mode=0o4755, mtime=BASE_TIME), symlink("bin/sh", "su"),
    directory("opt", mtime=BASE_TIME), directory("opt/data", mode=0o775, mtime=BASE_TIME), entry("opt/data/one", b"one", mtime=BASE_TIME),
    hardlink("opt/data/twin", "opt/data/one"), directory("var/deep/tree", mtime=BASE_TIME), entry("var/deep/tree/f", b"f", mtime=BASE_TIME),
    header("pipe", "6", mtime=BASE_TIME),
)  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path / "root")
    yield made
    os.close(made.fd)


def sh(tree: Tree, script: str) -> None:
    subprocess.run(["sh", "-ec", script], cwd=tree.path, check=True)


@pytest.mark.parametrize("mode", ["redo", "full", "time"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_nothing_changed(tree: Tree, mode: str, threads: int) -> None:
    assert tree.scan(mode, threads=threads) == {}
    assert tree.scan(mode) == {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo x > new", {"new"}),
        ("echo more >> etc/passwd", {"etc/passwd"}),
        ("chmod 600 etc/passwd", {"etc/passwd"}),
        ("chmod 4700 etc/passwd", {"etc/passwd"}),
        ("touch -d @1600000000 etc/passwd", {"etc/passwd"}),
        ("printf 'ROOT:X:0:0' > etc/passwd; touch -d @1700000000 etc/passwd", {"etc/passwd"}),
        ("cp -p etc/passwd t; mv t etc/passwd", set()),
        ("chmod 600 etc/passwd; chmod 644 etc/passwd", set()),
        ("printf root > etc/passwd; printf root:x:0:0 > etc/passwd; touch -d @1700000000 etc/passwd", set()),
        ("ln etc/passwd tmp; rm tmp", set()),
        ("ln etc/passwd etc/again", {"etc/again"}),
        ("rm etc/hosts", {"-etc/hosts"}),
        ("rm -r var", {"-var"}),
        ("rm -r var/deep", {"-var/deep"}),
        ("rm etc/hosts; mkdir etc/hosts; echo > etc/hosts/x", {"etc/hosts/x"}),
        ("rm -r var; echo > var", {"var"}),
        ("rm bin/sh; ln -s other bin/sh", {"bin/sh"}),
        ("rm bin/sh; mkdir bin/sh; echo > bin/sh/x", {"bin/sh/x"}),
        ("rm bin/su; ln -s sh bin/su", {"bin/su"}),
        ("mv opt/data opt/moved", {"-opt/data", "opt/moved/one", "opt/moved/twin"}),
        ("mkfifo p2; rm pipe", {"p2", "-pipe"}),
        ("rm -r var; mkdir -p var/deep; echo > var/deep/g", {"-var/deep/tree", "var/deep/g"}),
        ("echo 1 > opt/data/one", {"opt/data/one", "opt/data/twin"}),
        ("cp -p opt/data/twin t; rm opt/data/twin; mv t opt/data/twin", {"opt/data/twin"}),
        ("cp -p opt/data/one t; rm opt/data/*; mv t opt/data/one; ln opt/data/one opt/data/twin", set()),
        ("echo h > h1; ln h1 h2; ln opt/data/one opt/data/three", {"h1", "h2", "opt/data/three"}),
        ("touch ' a\nb'", {" a\nb"}),
        ("rm -r *", {"-bin", "-etc", "-opt", "-pipe", "-var"}),
    ],
)  # fmt: skip
def test_changes(tree: Tree, mode: str, script: str, expected: set[str]) -> None:
    sh(tree, script)
    assert tree.changed(mode) == expected
    assert tree.scan(mode) == {}, "the index has the new state"
    assert indexed(tree.index) == listing(tree.path)


@pytest.mark.parametrize("mode", MODES)
def test_attributes_of_entries(tree: Tree, mode: str) -> None:
    sh(
        tree,
        "printf hello > new; chmod 2640 new; touch -d '2020-01-01 UTC' new; ln -s ../x lnk; mkdir -m 1777 d; rm etc/hosts",
    )
    os.utime(tree.path / "new", ns=(0, 1_600_000_000_123_456_789))
    found = tree.scan(mode)
    new = found["new"]
    assert (new.type, new.mode, new.size, new.mtime_ns, new.source, new.root) == (
        "file",
        0o2640,
        5,
        1_600_000_000_123_456_789,
        "new",
        0,
    )
    assert (found["lnk"].type, found["lnk"].link) == ("symlink", "../x")
    assert (found["d"].type, found["d"].mode) == ("dir", 0o1777)
    gone = found["etc/hosts"]
    assert (gone.type, gone.mode, gone.mtime_ns, gone.uid) == ("whiteout", 0, 0, 0)
    assert "" not in found, "the root is in no layer"


def test_only_what_changed_itself_is_there_not_its_parents(tree: Tree) -> None:
    os.utime(tree.path / "var/deep/tree/f", (5, 5))
    assert set(tree.scan()) == {"var/deep/tree/f"}


def test_a_directory_whose_attributes_changed(tree: Tree) -> None:
    sh(tree, "chmod 700 opt; touch -d @5 var; touch bin/x; rm bin/x; touch -d @1700000000 bin")
    assert {p: e.type for p, e in tree.scan().items()} == {"opt": "dir", "var": "dir"}


@pytest.mark.parametrize("mode", MODES)
def test_hard_links_in_one_layer(tree: Tree, mode: str) -> None:
    sh(tree, "echo 1 > z; ln z a; mkdir m; ln z m/b; ln opt/data/one c1; ln opt/data/one c2")
    found = tree.scan(mode)
    assert {p: (e.type, e.link) for p, e in found.items() if e.type != "dir"} == {
        "a": ("file", ""), "m/b": ("hardlink", "a"), "z": ("hardlink", "a"), "c1": ("file", ""), "c2": ("hardlink", "c1"),
    }  # fmt: skip
    assert tree.index.lookup("a") == tree.index.lookup("z")
    assert tree.index.lookup("opt/data/one") == tree.index.lookup("opt/data/twin")
    assert tree.index.lookup("c1").nlink_group != tree.index.lookup("opt/data/one").nlink_group  # type: ignore[union-attr]


@pytest.mark.root
@pytest.mark.parametrize("mode", MODES)
def test_owners_and_devices(tree: Tree, mode: str) -> None:
    sh(
        tree,
        "chown 33:33 etc/passwd; chown -h 34 bin/sh; chown 0:0 bin/su; chmod 4755 bin/su; mknod null c 1 3; mknod blk b 7 300; chown 9 opt",
    )
    found = tree.scan(mode)
    assert {p: (e.uid, e.gid) for p, e in found.items()} == {
        "etc/passwd": (33, 33), "bin/sh": (34, 0), "null": (0, 0), "blk": (0, 0), "opt": (9, 0),
    }  # fmt: skip
    assert (found["null"].type, found["null"].rdev) == ("char", (1, 3))
    assert (found["blk"].type, found["blk"].rdev) == ("block", (7, 300))
    sh(tree, "rm null; mknod null c 1 5; touch -d @0 null; rm blk; mknod blk b 7 301")
    assert tree.changed(mode) == {"null", "blk"}


@pytest.mark.root
@pytest.mark.parametrize("mode", MODES)
def test_capabilities_and_attributes_alone(tmp_path: Path, mode: str) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    tree = Tree(
        tmp_path / "r",
        pax({"SCHILY.xattr.security.capability": capability}),
        entry("ping", b"elf"),
        entry("plain"),
        entry("other"),
        directory("d"),
    )
    assert tree.scan(mode) == {}
    os.setxattr(tree.path / "plain", "security.capability", capability)
    os.setxattr(tree.path / "d", "trusted.mark", b"1")
    found = tree.scan(mode)
    assert {p: e.xattrs for p, e in found.items()} == {
        "plain": {"security.capability": capability},
        "d": {"trusted.mark": b"1"},
    }
    os.removexattr(tree.path / "ping", "security.capability")
    os.setxattr(tree.path / "other", "trusted.overlay.opaque", b"y")
    assert {p: e.xattrs for p, e in tree.scan(mode).items()} == {"ping": {}}
    assert tree.scan(mode) == {}
    os.close(tree.fd)


def test_mode_time_looks_at_times_alone(tree: Tree) -> None:
    sh(
        tree,
        "chmod 600 etc/passwd; printf 'ROOT:X:0:0' > etc/hosts; touch -d @1700000000 etc/hosts; echo > bin/new; rm bin/sh; touch var/deep/tree/f",
    )
    assert tree.changed("time") == {"bin/new", "-bin/sh", "var/deep/tree/f"}
    with pytest.raises(ValueError, match="no snapshot mode"):
        tree.scan("sometimes")


@pytest.mark.parametrize("mode", MODES)
def test_every_change_right_after_settling_is_found(tmp_path: Path, mode: str) -> None:
    """Same size, same mtime, made as soon as the index says that it can tell."""
    tree = Tree(tmp_path / "r", *(entry(f"f{i:03}", b"a" * 10, mtime=5) for i in range(200)))
    for round in range(10):
        tree.index.settle()
        for i in range(round, 200, 10):
            with open(tree.path / f"f{i:03}", "r+b") as f:
                f.write(bytes([round + 1]))
            os.utime(tree.path / f"f{i:03}", (5, 5))
        assert tree.changed(mode) == {f"f{i:03}" for i in range(round, 200, 10)}
    os.close(tree.fd)


def test_full_knows_the_contents_of_its_own_layers(tree: Tree) -> None:
    sh(tree, "mkdir app; for i in 1 2 3; do echo $i > app/$i; done")
    assert tree.changed("full") == {"app/1", "app/2", "app/3"}
    sh(tree, "chmod 600 app/*; chmod 644 app/*; printf x > app/2")
    assert tree.changed("full") == {"app/2"}


def test_redo_errs_on_the_side_of_a_change_when_contents_are_not_known(tree: Tree) -> None:
    sh(tree, "echo 1 > new")
    assert tree.changed("redo") == {"new"}
    sh(tree, "chmod 600 new; chmod 644 new")
    assert tree.changed("redo") == {"new"}


@pytest.mark.parametrize("threads", [1, 3])
def test_ignored_paths_are_not_looked_at(tree: Tree, threads: int) -> None:
    sh(
        tree,
        "mkdir proc; echo > proc/x; rm -r var/deep; echo > etc/hosts; touch etc/hostsfile; mkdir -p opt/data/one.d; echo > opt/data/one.d/x; rm opt/data/one",
    )
    os.chmod(tree.path / "proc", 0)
    found = tree.changed(ignore=["/proc/", "var/deep", "etc/hosts", "opt/data"], threads=threads)
    assert found == {"etc/hostsfile"}
    assert tree.index.lookup("var/deep/tree/f") is not None
    assert tree.index.lookup("proc") is None
    os.chmod(tree.path / "proc", 0o755)
    assert tree.changed() == {"proc/x", "-var/deep", "opt/data/one.d/x", "-opt/data/one"} | {"etc/hosts"}


def test_a_parent_of_an_ignored_path_that_is_gone(tree: Tree) -> None:
    shutil.rmtree(tree.path / "var")
    assert tree.changed(ignore=["var/deep"]) == {"-var"}


def test_sockets_are_no_entries(tree: Tree) -> None:
    (tree.path / "etc/hosts").unlink()
    for name in ("sock", "etc/hosts"):
        with socket.socket(socket.AF_UNIX) as s:
            here = os.getcwd()
            os.chdir(tree.path)
            s.bind(name)
            os.chdir(here)
    assert tree.changed() == {"-etc/hosts"}


def test_a_new_tree_is_found_with_all_threads(tree: Tree) -> None:
    for i in range(40):
        for j in range(5):
            place = tree.path / f"n{i}" / f"m{j}"
            place.mkdir(parents=True)
            for k in range(15):
                (place / f"f{k}").write_text(f"{i}{j}{k}")
    one = tree.index.copy()
    expected = [tuple(e) for e in one.scan(tree.fd, mode="full", threads=1)]
    assert [tuple(e) for e in tree.index.scan(tree.fd, mode="full", threads=4)] == expected
    assert len(expected) == 40 * (1 + 5 + 75)
    shutil.rmtree(tree.path / "n7")
    os.utime(tree.path / "n8/m1/f3", (1, 1))
    assert {p for p, e in tree.scan(threads=4).items()} == {"n7", "n8/m1/f3"}


def test_an_empty_index_finds_everything_and_entries_give_it_back(tree: Tree) -> None:
    index = Index()
    found = {e.path: e for e in index.scan(tree.fd, mode="full")}
    assert found.keys() == listing(tree.path).keys()
    again = {e.path: e for e in index.entries(tree.fd)}
    assert {p: e._replace(root=0) for p, e in again.items()} == {p: e._replace(root=0) for p, e in found.items()}


def test_entries_applied_to_a_copy_give_the_same_tree(tree: Tree) -> None:
    before = tree.index.copy()
    sh(
        tree,
        "rm -r var; echo > var; mv opt/data etc/data; rm bin/sh; mkdir bin/sh; echo > bin/sh/x; rm pipe; ln etc/passwd p2; chmod 700 etc",
    )
    before.apply(tree.index.scan(tree.fd, mode="full"))
    assert indexed(before) == indexed(tree.index) == listing(tree.path)
    assert all(before.lookup(p) is not None for p in indexed(before))


def test_entries_that_could_not_be_made_on_disk_are_not_removed(tmp_path: Path) -> None:
    index = extract(tmp_path / "r", header("dev/null", "3", dev=(1, 3)), entry("dev/x"), devices=False)
    fd = os.open(tmp_path / "r", os.O_RDONLY)
    assert [e.path for e in index.scan(fd)] == []
    (tmp_path / "r/dev/x").unlink()
    os.utime(tmp_path / "r/dev", ns=(0, index.lookup("dev").mtime_ns))  # type: ignore[union-attr]
    assert [(e.path, e.type) for e in index.scan(fd)] == [("dev/x", "whiteout")]
    shutil.rmtree(tmp_path / "r/dev")
    assert [(e.path, e.type) for e in index.scan(fd)] == [("dev", "whiteout")]
    os.close(fd)


@pytest.mark.root
def test_owners_that_could_not_be_set_on_disk_stay_in_the_index(tmp_path: Path) -> None:
    index = extract(tmp_path / "r", entry("f", b"x", uid=33, gid=44), directory("d", uid=5), owners=False)
    fd = os.open(tmp_path / "r", os.O_RDONLY)
    index.settle()
    assert os.stat(tmp_path / "r/f").st_uid == 0
    assert [e.path for e in index.scan(fd, owners=False)] == []
    (tmp_path / "r/f").write_text("y")
    (tmp_path / "r/n").write_text("y")
    os.chown(tmp_path / "r/n", 4711, 4711)
    assert {e.path: (e.uid, e.gid) for e in index.scan(fd, owners=False)} == {"f": (33, 44), "n": (0, 0)}
    os.close(fd)


def test_refresh_takes_over_what_somebody_else_made(tree: Tree) -> None:
    sh(
        tree,
        "echo stub > etc/resolv.conf; mkdir proc; rm bin/sh; echo changed > etc/passwd; chmod 700 opt; touch -d @1700000000 etc bin",
    )
    tree.index.refresh(tree.fd, ["etc/resolv.conf", "proc", "bin/sh", "etc/passwd", "opt", "never/was", ""])
    assert tree.scan() == {}
    assert tree.index.lookup("bin/sh") is None
    assert tree.index.lookup("opt").mode == 0o700  # type: ignore[union-attr]
    with pytest.raises(OSError):
        os.mkdir(tree.path / "unknown")
        os.mkdir(tree.path / "unknown/dir")
        tree.index.refresh(tree.fd, ["unknown/dir"])


def test_a_cancelled_scan(tree: Tree) -> None:
    cancel = Cancel()
    cancel.set()
    for threads in (1, 4):
        with pytest.raises(OSError) as caught:
            tree.index.scan(tree.fd, cancel=cancel, threads=threads)
        assert caught.value.errno == errno.ECANCELED
    assert cancel.is_set


def test_cancelling_from_another_thread_ends_a_long_read(tree: Tree) -> None:
    with open(tree.path / "etc/passwd", "wb") as f:
        f.truncate(1 << 40)
    cancel = Cancel()
    caught: list[BaseException] = []

    def run() -> None:
        try:
            tree.index.scan(tree.fd, mode="full", cancel=cancel)
        except OSError as e:
            caught.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    cancel.set()
    thread.join(30)
    assert not thread.is_alive()
    assert [getattr(e, "errno", 0) for e in caught] == [errno.ECANCELED]


def test_a_symlink_in_place_of_a_directory_is_not_followed(tree: Tree) -> None:
    outside = tree.path.parent / "outside"
    outside.mkdir()
    (outside / "f").write_text("x")
    shutil.rmtree(tree.path / "var")
    (tree.path / "var").symlink_to(outside)
    found = tree.scan()
    assert {p: e.type for p, e in found.items()} == {"var": "symlink"}


def test_atime_of_what_is_looked_at_does_not_move(tree: Tree) -> None:
    os.utime(tree.path / "etc/passwd", (1, BASE_TIME))
    os.utime(tree.path / "etc", (1, BASE_TIME))
    tree.scan("full")
    assert {os.stat(tree.path / p).st_atime for p in ("etc", "etc/passwd")} == {1}


def test_an_unreadable_directory_names_itself(tmp_path: Path) -> None:
    place = tmp_path / "r"
    place.mkdir()
    fd = os.open(place, os.O_RDONLY)
    os.close(fd)
    with pytest.raises(OSError) as caught:
        Index().scan(fd)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("mode", MODES)
def test_any_sequence_of_commands_gives_layers_that_rebuild_the_tree(tmp_path: Path, mode: str) -> None:
    """Random commands over several RUNs: the base and all layers on top, applied elsewhere, are the tree on disk."""
    import random

    rng = random.Random(5)
    tree = Tree(tmp_path / "r")
    rebuilt = tree.index.copy()
    names = ["a", "b", "etc", "opt", "etc/x", "opt/data/y", "a/b", "a/b/c", "bin/sh", "var/deep", "n"]

    def act(name: str, other: str) -> None:
        path, second = tree.path / name, tree.path / other
        choice = rng.randrange(8)
        if choice == 0:
            path.write_text(str(rng.random()))
        elif choice == 1:
            path.mkdir(parents=True)
        elif choice == 2:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        elif choice == 3:
            path.symlink_to(other)
        elif choice == 4:
            os.rename(path, second)
        elif choice == 5:
            os.link(path, second, follow_symlinks=False)
        elif choice == 6:
            os.chmod(path, rng.choice([0o700, 0o755]))
        else:
            os.utime(path, (rng.randrange(100), rng.randrange(100)), follow_symlinks=False)

    for _ in range(60):
        tree.index.settle()
        for _ in range(rng.randrange(6)):
            try:
                act(rng.choice(names), rng.choice(names))
            except OSError:
                continue
        entries = tree.index.scan(tree.fd, mode=mode)
        rebuilt.apply(entries)
        tree.index.add_parents(entries)
        assert indexed(rebuilt) == indexed(tree.index) == listing(tree.path)
        for path in indexed(rebuilt):
            found, s = rebuilt.lookup(path), os.lstat(tree.path / path)
            assert found is not None
            assert (found.mode, found.mtime_ns) == (stat.S_IMODE(s.st_mode), s.st_mtime_ns)
            assert found.type == "dir" or found.size == s.st_size
        assert tree.scan(mode) == {}
    os.close(tree.fd)


def test_many_descriptors_are_not_needed(tree: Tree) -> None:
    deep = tree.path
    for i in range(300):
        deep = deep / f"d{i}"
        os.mkdir(deep)
    script = f"""
import os, resource, sys
sys.path.insert(0, "src")
from pybuild._native.index import Index
import pybuild._native.scan
fd = os.open({str(tree.path)!r}, os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
print(len(Index().scan(fd, threads=1)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 300 + len(indexed(tree.index))

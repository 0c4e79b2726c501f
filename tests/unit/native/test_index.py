"""The index: what is where after layers, how paths resolve, and that hostile or odd layers end in an error or the right tree."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pybuild._native.entries import EntryList
from pybuild._native.index import Index


def layer(*entries: tuple[object, ...]) -> EntryList:
    """Entries as (path, type) or (path, type, {attributes})."""
    found = EntryList()
    for entry in entries:
        path, kind, *rest = entry
        attributes = {"mode": 0o755 if kind == "dir" else 0o644, **(rest[0] if rest else {})}
        if kind == "file":
            attributes.setdefault("data", b"")
        found.add(path, kind, **attributes)  # type: ignore[arg-type]
    return found


def made(*layers: EntryList) -> Index:
    index = Index()
    for entries in layers:
        index.apply(entries)
    return index


def tree(index: Index, path: str = "") -> dict[str, str]:
    """Every path and its type."""
    found = {}
    for name, kind in index.children(path):
        whole = f"{path}/{name}" if path else name
        found[whole] = kind
        if kind == "dir":
            found.update(tree(index, whole))
    return found


def test_an_empty_index_has_a_root_directory() -> None:
    index = Index()
    root = index.lookup("")
    assert root is not None
    assert (root.type, root.mode, root.uid, root.gid) == ("dir", 0o755, 0, 0)
    assert index.count == 0
    assert index.children("") == []


def test_attributes_come_back_as_they_went_in() -> None:
    index = made(
        layer(
            (
                "f",
                "file",
                {"mode": 0o4751, "uid": 4_000_000_000, "gid": 7, "mtime_ns": 1_700_000_000_123_456_789, "data": b"abc"},
            ),
            ("l", "symlink", {"link": "../x/\udcff", "mode": 0o777, "uid": 5}),
            ("c", "char", {"rdev": (1, 3), "mode": 0o666}),
            ("b", "block", {"rdev": (4095, 1_048_575)}),
            ("p", "fifo"),
            ("old", "file", {"mtime_ns": -1_500_000_000}),
        )
    )
    f = index.lookup("f")
    assert f is not None
    assert (f.type, f.mode, f.uid, f.gid, f.size, f.mtime_ns, f.nlink_group) == (
        "file", 0o4751, 4_000_000_000, 7, 3, 1_700_000_000_123_456_789, 0,
    )  # fmt: skip
    link = index.lookup("l")
    assert link is not None
    assert (link.type, link.link, link.uid) == ("symlink", "../x/\udcff", 5)
    assert [index.lookup(p).rdev for p in "cb"] == [(1, 3), (4095, 1_048_575)]  # type: ignore[union-attr]
    assert index.lookup("p").type == "fifo"  # type: ignore[union-attr]
    assert index.lookup("old").mtime_ns == -1_500_000_000  # type: ignore[union-attr]
    assert index.lookup("missing") is None
    assert index.lookup("f/x") is None


def test_missing_parents_are_implied_and_existing_ones_stay() -> None:
    index = made(layer(("a", "dir", {"mode": 0o700, "uid": 9})), layer(("a/b/c/f", "file")))
    assert tree(index) == {"a": "dir", "a/b": "dir", "a/b/c": "dir", "a/b/c/f": "file"}
    assert (index.lookup("a").mode, index.lookup("a").uid) == (0o700, 9)  # type: ignore[union-attr]
    assert (index.lookup("a/b").mode, index.lookup("a/b").uid) == (0o755, 0)  # type: ignore[union-attr]


def test_types_replace_each_other_and_directories_merge() -> None:
    index = made(layer(("d/x", "file"), ("f", "file"), ("l", "symlink", {"link": "d"})))
    index.apply(layer(("d", "file"), ("f", "dir"), ("f/y", "file"), ("l", "dir")))
    assert tree(index) == {"d": "file", "f": "dir", "f/y": "file", "l": "dir"}
    index.apply(layer(("f", "dir", {"mode": 0o700})))
    assert tree(index)["f/y"] == "file"
    assert index.lookup("f").mode == 0o700  # type: ignore[union-attr]


def test_a_parent_that_is_a_symlink_is_followed_inside_the_root() -> None:
    index = made(
        layer(("usr/lib", "dir"), ("lib", "symlink", {"link": "usr/lib"}), ("abs", "symlink", {"link": "/../../usr"}))
    )
    index.apply(layer(("lib/a", "file"), ("abs/lib/b", "file")))
    assert {"usr/lib/a", "usr/lib/b"} <= tree(index).keys()
    assert tree(index)["lib"] == "symlink"


def test_a_dangling_parent_symlink_makes_its_target() -> None:
    index = made(layer(("l", "symlink", {"link": "var/deep"})), layer(("l/f", "file")))
    assert tree(index) == {"l": "symlink", "var": "dir", "var/deep": "dir", "var/deep/f": "file"}


def test_a_loop_of_symlinks_in_a_parent_is_an_error() -> None:
    index = made(layer(("a", "symlink", {"link": "b"}), ("b", "symlink", {"link": "a"})))
    with pytest.raises(OSError) as caught:
        index.apply(layer(("a/x", "file")))
    assert caught.value.errno == errno.ELOOP
    assert caught.value.filename == "a/x"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", "a/b"),
        ("a/./b//", "a/b"),
        ("../../a", "a"),
        ("a/../../etc", "etc"),
        ("lib/x", "usr/lib/x"),
        ("abs/x", "etc/x"),
        ("up/x", "x"),
        ("chain", "usr/lib"),
        ("chain/../f", "usr/f"),
        ("missing/../a/b", "a/b"),
        ("missing/x/y", "missing/x/y"),
        ("lib/missing/deeper", "usr/lib/missing/deeper"),
        ("f/x", "f/x"),
        ("lib/", "usr/lib"),
        ("lib/.", "usr/lib"),
        ("", ""),
        ("/", ""),
    ],
)
def test_resolve(path: str, expected: str) -> None:
    index = made(
        layer(
            ("a/b", "dir"), ("usr/lib", "dir"), ("etc", "dir"), ("f", "file"),
            ("lib", "symlink", {"link": "usr/lib"}), ("abs", "symlink", {"link": "/etc"}),
            ("up", "symlink", {"link": "../../.."}), ("chain", "symlink", {"link": "a/../lib"}),
        )
    )  # fmt: skip
    assert index.resolve(path) == expected


def test_resolve_without_the_last_link() -> None:
    index = made(layer(("usr/lib/l", "symlink", {"link": "/x"}), ("lib", "symlink", {"link": "usr/lib"})))
    assert index.resolve("lib/l", follow_last=False) == "usr/lib/l"
    assert index.resolve("lib/l") == "x"
    assert index.resolve("lib", follow_last=False) == "lib"


def test_resolve_ends_on_loops_and_overlong_paths() -> None:
    index = made(layer(("a", "symlink", {"link": "a"}), ("long", "symlink", {"link": "x/" * 2000 + "long"})))
    with pytest.raises(OSError) as caught:
        index.resolve("a/b")
    assert caught.value.errno == errno.ELOOP
    assert index.resolve("a", follow_last=False) == "a"
    with pytest.raises(OSError) as caught:
        index.resolve("x" * 40000)
    assert caught.value.errno == errno.ENAMETOOLONG
    assert index.resolve("long").endswith("x/long")


def test_whiteouts_remove_what_lower_layers_have() -> None:
    index = made(
        layer(("a/b/c", "file"), ("a/d", "file"), ("e", "file")),
        layer(("a/b", "whiteout"), ("e", "whiteout"), ("no/such", "whiteout")),
    )
    assert tree(index) == {"a": "dir", "a/d": "file"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_whiteout_spares_the_entries_of_its_own_layer(order: tuple[int, int]) -> None:
    rows = [("d", "whiteout"), ("d/new", "file")]
    index = made(layer(("d/old", "file"), ("d/sub/old", "file")), layer(*(rows[i] for i in order)))
    assert tree(index) == {"d": "dir", "d/new": "file"}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_an_opaque_mark_hides_lower_layers_in_any_order(order: tuple[int, ...]) -> None:
    rows = [("d", "opaque"), ("d/new", "file"), ("d/sub/new", "file")]
    index = made(
        layer(("d/old", "file"), ("d/sub/old", "file"), ("d/gone/x", "file")), layer(*(rows[i] for i in order))
    )
    assert tree(index) == {"d": "dir", "d/new": "file", "d/sub": "dir", "d/sub/new": "file"}


def test_an_opaque_root_leaves_the_layer_alone() -> None:
    index = made(layer(("a/b", "file"), ("c", "file")), layer(("x", "file"), ("", "opaque")))
    assert tree(index) == {"x": "file"}


def test_hard_links_share_and_outlive_each_other() -> None:
    index = made(layer(("a", "file", {"data": b"12", "uid": 3}), ("b", "hardlink", {"link": "a"}), ("alone", "file")))
    a, b = index.lookup("a"), index.lookup("b")
    assert a is not None
    assert b is not None
    assert a == b
    assert a.nlink_group != 0
    assert index.lookup("alone").nlink_group == 0  # type: ignore[union-attr]
    index.apply(layer(("a", "whiteout")))
    assert index.lookup("b") == b._replace(nlink_group=0)
    index.apply(layer(("c/d", "hardlink", {"link": "b"})))
    assert index.lookup("c/d").uid == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("target", ["missing", "d"])
def test_a_hard_link_to_nothing_or_a_directory_is_an_error(target: str) -> None:
    index = made(layer(("d", "dir")))
    with pytest.raises(OSError, match="hard link"):
        index.apply(layer(("x", "hardlink", {"link": target})))


def test_the_root_cannot_become_a_file() -> None:
    index = made(layer(("", "dir", {"mode": 0o700})))
    assert index.lookup("").mode == 0o700  # type: ignore[union-attr]
    for kind in ("file", "symlink", "hardlink"):
        with pytest.raises(OSError, match="root must be a directory"):
            index.apply(layer(("", kind, {"link": "x"})))


def test_a_copy_is_independent() -> None:
    index = made(layer(*((f"d{i % 10}/f{i}", "file") for i in range(1000))))
    other = index.copy()
    other.apply(layer(("d1", "whiteout"), ("new", "file")))
    assert index.count == 1010
    assert other.count == 1010 - 101 + 1
    assert index.lookup("new") is None
    assert len(index.children("d1")) == 100
    index.apply(layer(("d2", "whiteout")))
    assert len(other.children("d2")) == 100


def test_names_removed_and_made_again_many_times_do_not_grow_the_tree() -> None:
    index = made(layer(("keep", "file")))
    for _ in range(20):
        index.apply(layer(*((f"d/{i}", "file") for i in range(500))))
        index.apply(layer(("d", "whiteout")))
    assert tree(index) == {"keep": "file"}
    index.apply(layer(*((f"d/{i}", "file") for i in range(500))))
    assert index.count == 502
    assert [n for n, _ in index.children("d")] == sorted(map(str, range(500)))


def test_memory_of_an_entry() -> None:
    entries = EntryList()
    for i in range(100_000):
        if i % 100 == 0:
            entries.add(f"usr/share/directory{i:06}", "dir", mode=0o755)
        entries.add(f"usr/share/directory{i - i % 100:06}/file{i:08}", "file", mode=0o644, data=b"")
    index = made(entries)
    assert index.count == 101_002
    # names have 12 bytes here
    assert index.memory / index.count < 128


def test_everything_below_a_path_as_a_layer(tmp_path: Path) -> None:
    index = made(
        layer(
            ("a", "dir", {"mode": 0o711}), ("a/f", "file", {"uid": 4, "data": b"xy"}), ("a/g", "hardlink", {"link": "a/f"}),
            ("a/l", "symlink", {"link": "f"}), ("a.b", "file"), ("a/z/deep", "file"), ("other", "file", {"xattrs": {"user.k": b"v"}}),
        )
    )  # fmt: skip
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        whole = index.entries(fd)
        assert [e.path for e in whole] == [
            "a", "a/f", "a/g", "a/l", "a/z", "a/z/deep", "a.b", "other",
        ]  # fmt: skip
        by_path = {e.path: e for e in whole}
        assert (by_path["a/f"].source, by_path["a/f"].root, by_path["a/f"].size) == ("a/f", 0, 2)
        assert (by_path["a/g"].type, by_path["a/g"].link) == ("hardlink", "a/f")
        assert by_path["other"].xattrs == {"user.k": b"v"}
        moved = index.entries(fd, "a", dest="x/y", owner=(1, 2))
        assert [(e.path, e.source, e.uid, e.gid) for e in moved if e.type == "file"] == [
            ("x/y/a/f", "a/f", 1, 2),
            ("x/y/a/z/deep", "a/z/deep", 1, 2),
        ]
        assert next(e.link for e in moved if e.type == "hardlink") == "x/y/a/f"
        with pytest.raises(FileNotFoundError):
            index.entries(fd, "nothing")
    finally:
        os.close(fd)


def test_parents_are_added_as_the_index_has_them() -> None:
    index = made(layer(("a", "dir", {"mode": 0o700, "uid": 1}), ("a/b/c", "file"), ("w/x", "file"), ("o", "dir")))
    entries = layer(("a/b/c", "file"), ("w/x", "whiteout"), ("o", "opaque"), ("top", "file"))
    index.add_parents(entries)
    assert [(e.path, e.type, e.mode, e.uid) for e in entries if e.type == "dir"] == [
        ("a", "dir", 0o700, 1), ("a/b", "dir", 0o755, 0), ("o", "dir", 0o755, 0), ("w", "dir", 0o755, 0),
    ]  # fmt: skip
    paths = [e.path for e in entries]
    assert paths.index("a/b") < paths.index("a/b/c")
    index.add_parents(entries)
    assert [e.path for e in entries] == paths


def test_conflicts_between_directories_and_others() -> None:
    index = made(layer(("d/x", "file"), ("f", "file"), ("l", "symlink", {"link": "d"})))
    entries = layer(("d", "file"), ("f", "dir"), ("l", "dir"), ("d/x", "symlink", {"link": "y"}), ("new", "dir"))
    assert index.conflicts(entries) == [("d", "dir", "file"), ("f", "file", "dir"), ("l", "symlink", "dir")]

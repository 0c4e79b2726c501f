from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pybuild.rootfs import mounts
from pybuild.rootfs.mounts import RunMount, name_resolution, native_mounts, order, tmpfs_options
from pybuild.rootfs.run import RunSpec, exec_failure, ignored_paths


def test_parents_come_before_what_lies_below() -> None:
    targets = ["/a/b/c", "/a-b", "/b", "/a/b", "/a/b/../b", "/"]
    assert [m.target for m in order(RunMount("tmpfs", t) for t in targets)] == [
        "/",
        "/a/b",
        "/a/b/../b",
        "/a/b/c",
        "/a-b",
        "/b",
    ]


def test_hosts_has_the_name_once(monkeypatch: object) -> None:
    hosts = next(m for m in name_resolution("some-name") if m.target == "/etc/hosts")
    assert hosts.contents.count(b"some-name") == 1
    assert hosts.readonly
    assert b"localhost" in hosts.contents


def test_tmpfs_options() -> None:
    assert tmpfs_options(RunMount("tmpfs", "/t")) == "mode=1777"
    assert tmpfs_options(RunMount("tmpfs", "/t", size=4096, mode=0o700)) == "mode=700,size=4096"


def test_temporary_directories_go_away(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with contextlib.ExitStack() as held:
        found = native_mounts(
            [RunMount("bind", "/m", str(tmp_path)), RunMount("secret", "/s", data=b"x")], str(root), "h", held
        )
        by_target = {m.target: m for m in found}
        assert by_target["/m"].kind == "copy-up"
        assert sorted(os.listdir(by_target["/m"].data)) == ["upper", "work"]
        assert (by_target["/s"].mode, by_target["/s"].readonly) == (0o400, True)
    assert os.listdir(tmp_path) == ["root"]


def test_messages_for_commands_that_cannot_be_executed() -> None:
    assert exec_failure("x", 2) == ('exec: "x": executable file not found in $PATH\n', 127)
    assert exec_failure("/x", 2) == ("exec /x: no such file or directory\n", 127)
    assert exec_failure("/x", 13) == ("exec /x: permission denied\n", 126)
    assert exec_failure("/x", 8) == ("exec /x: exec format error\n", 126)


def test_the_standard_places_are_never_scanned() -> None:
    assert set(ignored_paths(RunSpec(root="/r", argv=("x",), env={}))) == {"proc", "sys", "dev"}


def test_missing_files_are_no_contents(tmp_path: Path) -> None:
    assert mounts.contents(str(tmp_path / "none")) is None

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pybuild.errors import StorageError
from pybuild.rootfs.cleanup import locked, mounted_below, remove, remove_stale, work_directory

OTHER = """
import sys
from pybuild.rootfs.cleanup import work_directory
with work_directory(sys.argv[1]) as path:
    print(path, flush=True)
    sys.stdin.read()
"""


def other_build(base: Path) -> tuple[subprocess.Popen[str], Path]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(base)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_directory_lives_as_long_as_the_build(tmp_path: Path) -> None:
    with work_directory(str(tmp_path / "base")) as path:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        (Path(path) / "a/b").mkdir(parents=True)
        (Path(path) / "a/link").symlink_to(tmp_path)
        (tmp_path / "kept").touch()
    assert os.listdir(tmp_path / "base") == []
    assert (tmp_path / "kept").exists()


def test_removed_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(KeyError), work_directory(str(tmp_path)):
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_builds_side_by_side_leave_each_other_alone(tmp_path: Path) -> None:
    process, theirs = other_build(tmp_path)
    with work_directory(str(tmp_path)) as mine:
        assert sorted(os.listdir(tmp_path)) == sorted([theirs.name, os.path.basename(mine)])
    assert os.listdir(tmp_path) == [theirs.name]
    process.communicate()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    process, theirs = other_build(tmp_path)
    (theirs / "root").mkdir()
    (theirs / "root/file").touch()
    process.kill()
    process.communicate()
    assert theirs.exists()
    with work_directory(str(tmp_path)):
        assert not theirs.exists()


def test_only_own_leftovers_are_taken(tmp_path: Path) -> None:
    (tmp_path / "pybuild-notes").mkdir()
    (tmp_path / "pybuild-0123456789ab").write_text("a file of that name")
    (tmp_path / "target").mkdir()
    (tmp_path / "pybuild-0123456789ac").symlink_to("target")
    assert remove_stale(str(tmp_path)) == []
    assert len(os.listdir(tmp_path)) == 4


def test_lock_is_exclusive_and_gone_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "d"
    path.mkdir()
    first = locked(str(path))
    assert first is not None
    assert locked(str(path)) is None
    os.close(first)
    second = locked(str(path))
    assert second is not None
    os.close(second)
    path.rmdir()
    assert locked(str(path)) is None


def test_directories_without_permissions(tmp_path: Path) -> None:
    (tmp_path / "t/closed/deeper").mkdir(parents=True)
    (tmp_path / "t/closed/deeper/f").touch()
    (tmp_path / "t/closed").chmod(0)
    remove(str(tmp_path / "t"))
    assert not (tmp_path / "t").exists()


@pytest.mark.root
def test_mounts_are_detached_not_emptied(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "work/with blank/m"
    source.mkdir()
    (source / "precious").touch()
    target.mkdir(parents=True)
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        assert mounted_below(str(tmp_path / "work")) == [str(target)]
        remove(str(tmp_path / "work"))
        assert not (tmp_path / "work").exists()
        assert (source / "precious").exists()
    finally:
        subprocess.run(["umount", target], capture_output=True)


def test_a_place_that_cannot_be_written_to() -> None:
    with (
        pytest.raises(StorageError, match="no working directory can be made in /proc/nowhere"),
        work_directory("/proc/nowhere"),
    ):
        raise AssertionError("not reached")

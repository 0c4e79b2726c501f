"""The same steps where nothing can be mounted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.errors import IsolationError
from pybuild.rootfs.isolation import Isolation, choose
from pybuild.rootfs.run import RunMount
from pybuild.rootfs.users import User

from .support import Box, listing

pytestmark = pytest.mark.root


@pytest.fixture
def box(make_box: Callable[[Isolation], Box]) -> Box:
    return make_box(choose("chroot"))


def test_command_and_its_end(box: Box) -> None:
    ran = box.sh("pwd; id -G; cat; echo err >&2; exit 7", cwd="/tmp", user=User(1000, 1000, (1000, 50)))
    assert (ran.code, ran.out, ran.err) == (7, "/tmp\n1000 50\n", "err\n")
    assert box.sh("kill -15 $$").result.signal == 15
    assert box.run("none").code == 127


def test_devices_and_name_resolution_leave_nothing(box: Box) -> None:
    (box.root / "etc/hosts").write_text("192.0.2.1 image\n")
    os.utime(box.root / "etc/hosts", (5, 5))
    os.utime(box.root / "etc", (6, 6))
    before = listing(box.root)
    ran = box.sh(
        "echo x > /dev/null && head -c3 /dev/zero | wc -c; grep -c image /etc/hosts; grep -c localhost /etc/hosts"
    )
    assert ran.out.split()[:2] == ["3", "0"]
    assert ran.err == ""
    assert listing(box.root) == before
    assert (box.root / "etc/hosts").read_text() == "192.0.2.1 image\n"


def test_all_descendants_end(box: Box) -> None:
    """There is no process namespace here: sessions of their own and double forks do not help."""
    mark = f"7{os.getpid():07d}"
    ran = box.sh(f"sleep {mark} & (setsid sh -c 'sleep {mark} & sleep {mark}' &) ; setsid sleep {mark} & echo done")
    assert ran.out == "done\n"
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                assert mark.encode() not in Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue


def test_mounts_by_other_means(box: Box, tmp_path: Path) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    source.mkdir()
    cache.mkdir()
    (source / "a").write_text("a\n")
    (box.root / "covered").mkdir()
    (box.root / "covered/own").write_text("own\n")
    before, outside = listing(box.root), listing(source)
    mounts = (
        RunMount("bind", "/covered", str(source)),
        RunMount("cache", "/c/d", str(cache)),
        RunMount("tmpfs", "/t"),
        RunMount("secret", "/run/secrets/s", data=b"hunter2"),
        RunMount("file", "/dev/pipes/x", data=b"#!/bin/sh\necho script\n", mode=0o755),
    )
    ran = box.sh(
        "ls /covered; echo n > /covered/n; echo v > /c/d/v; echo t > /t/t; cat /run/secrets/s; stat -c ' %a' /run/secrets/s; /dev/pipes/x",
        mounts=mounts,
    )
    assert (ran.out, ran.err) == ("a\nhunter2 400\nscript\n", "")
    assert (listing(box.root), listing(source)) == (before, outside)
    assert (cache / "v").read_text() == "v\n"
    assert box.sh("cat /c/d/v", mounts=mounts).out == "v\n"
    assert os.listdir(box.root.parent) == ["root"]


def test_cache_on_another_filesystem(box: Box) -> None:
    if os.stat("/dev/shm").st_dev == box.root.stat().st_dev:
        pytest.skip("no other filesystem here")
    cache = Path(f"/dev/shm/pybuild-test-cache-{os.getpid()}")
    cache.mkdir()
    try:
        mount = RunMount("cache", "/c", str(cache))
        assert box.sh("echo v > /c/v; ln -s /etc/passwd /c/l", mounts=(mount,)).code == 0
        assert box.sh("cat /c/v; readlink /c/l", mounts=(mount,)).out == "v\n/etc/passwd\n"
        assert not (box.root / "c").exists()
    finally:
        box.run("/bin/true")
        import shutil

        shutil.rmtree(cache)


def test_places_that_were_replaced_by_links_during_the_step(box: Box, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "secrets").mkdir(parents=True)
    (outside / "secrets/token").write_text("keep")
    (outside / "hosts").write_text("keep")
    before = listing(outside)
    cache = tmp_path / "cache"
    cache.mkdir()
    ran = box.sh(
        f"mv /run /moved; ln -s {outside} /run; mv /etc /etc2; ln -s {outside} /etc; rm -r /c; ln -s {outside} /c",
        mounts=(RunMount("secret", "/run/secrets/token", data=b"x"), RunMount("cache", "/c", str(cache))),
    )
    assert ran.code == 0
    assert listing(outside) == before
    assert stat.S_ISDIR(cache.lstat().st_mode)
    assert not (box.root / "moved/secrets/token").exists()


def test_a_step_that_changes_beside(box: Box) -> None:
    os.utime(box.root / "etc", (6, 6))
    box.sh("echo x > /etc/new")
    assert (box.root / "etc").stat().st_mtime > 1000
    assert sorted(os.listdir(box.root / "etc")) == ["group", "new", "passwd"]


def test_what_it_cannot_do_is_refused(box: Box) -> None:
    with pytest.raises(IsolationError, match="network=none needs namespaces"):
        box.sh("true", network="none")
    with pytest.raises(IsolationError, match="ssh needs namespaces"):
        box.sh("true", mounts=(RunMount("ssh", "/s", "/nowhere"),))

"""Images that try to lead the builder out of their root, and commands that try to leave it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pybuild.errors import IsolationError
from pybuild.rootfs.run import RunMount

from .support import Box, listing

pytestmark = pytest.mark.root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the root that must never change."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "canary").write_text("untouched")
    return path


def replace(path: Path, target: str) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
@pytest.mark.parametrize("kind", ["link-out", "link-in", "file", "dangling"])
def test_standard_places_that_are_no_directories(box: Box, outside: Path, name: str, kind: str) -> None:
    place = box.root / name
    if kind == "file":
        place.rmdir()
        place.write_text("x")
    else:
        replace(place, {"link-out": str(outside), "link-in": "/etc", "dangling": "/not/there"}[kind])
    before = listing(outside)
    with pytest.raises(IsolationError, match=f"the image has a /{name} that is no directory"):
        box.sh("true")
    assert listing(outside) == before
    assert sorted(os.listdir(box.root / "etc")) == ["group", "passwd"]


@pytest.mark.parametrize("up", ["", "../../../../../.."])
def test_etc_is_a_link_out(box: Box, outside: Path, up: str) -> None:
    """It leads to a place of the same name inside the root, which is made and goes away again."""
    replace(box.root / "etc", f"{up}{outside}")
    before, root_before = listing(outside), listing(box.root)
    ran = box.sh("cat /etc/hosts | wc -l; ls -a /etc/")
    assert int(ran.out.split()[0]) > 0
    assert "canary" not in ran.out
    assert listing(outside) == before
    assert listing(box.root) == root_before


@pytest.mark.parametrize(
    "link",
    [
        "../run/systemd/resolve/stub-resolv.conf",
        "/run/resolv.conf",
        "/proc/self/fd/0",
        "/dev/null",
        "/proc/1/root/etc/x",
    ],
)
def test_resolv_conf_is_a_link(box: Box, link: str) -> None:
    if not os.path.exists("/etc/resolv.conf"):
        pytest.skip("no resolv.conf here")
    (box.root / "etc/resolv.conf").symlink_to(link)
    before = listing(box.root)
    try:
        box.sh("cat /etc/resolv.conf")
    except IsolationError as e:
        assert "/etc/resolv.conf" in str(e)
    assert listing(box.root) == before


def test_links_in_a_circle(box: Box) -> None:
    (box.root / "a").symlink_to("b")
    (box.root / "b").symlink_to("a")
    with pytest.raises(IsolationError, match="mount point /a/x cannot be used: Too many levels of symbolic links"):
        box.sh("true", mounts=(RunMount("tmpfs", "/a/x"),))


@pytest.mark.parametrize("target", ["/link/x", "/link", "../../../outside/x", "/../../../../{outside}/x"])
def test_mount_targets_that_lead_out(box: Box, outside: Path, target: str) -> None:
    (box.root / "link").symlink_to(outside)
    before = listing(outside)
    box.sh("true", mounts=(RunMount("tmpfs", target.format(outside=outside)),))
    assert listing(outside) == before


def test_mount_point_replaced_by_a_link_during_the_step(box: Box, outside: Path, tmp_path: Path) -> None:
    """A step that puts links in the way of the removal of mount points removes nothing elsewhere."""
    (outside / "secrets").mkdir()
    (outside / "secrets/token").touch()
    before = listing(outside)
    box.sh(
        f"umount -l /run/secrets/token; mv /run /moved; ln -s {outside} /run",
        mounts=(RunMount("secret", "/run/secrets/token", data=b"x"),),
    )
    assert listing(outside) == before


def test_the_root_cannot_be_left(box: Box, outside: Path) -> None:
    """The known ways out: chroot in a chroot, init's root and directory, descriptors, a new mount, the devices of the machine."""
    (box.root / "escape").mkdir()
    ran = box.sh(
        f"""
        chroot /escape /bin/true
        cd /proc/1/root && cat .{outside}/canary
        cd /proc/1/cwd && cat .{outside}/canary ../../../..{outside}/canary
        for fd in 0 1 2 3 4 5 6 7 8 9; do cat /proc/self/fd/$fd/..{outside}/canary /proc/1/fd/$fd/..{outside}/canary; done
        cat /../../../..{outside}/canary
        mount --bind / /escape; mount -t proc proc /escape
        mknod /escape/disk b 254 0; dd if=/escape/disk bs=512 count=1 | wc -c
        nsenter -t 1 -m /bin/cat {outside}/canary
        unshare -m /bin/true && echo unshared
        true"""
    )
    assert "untouched" not in ran.out
    assert "unshared" not in ran.out


def test_init_cannot_be_traced_or_read(box: Box) -> None:
    ran = box.sh(
        "for f in environ maps mem exe auxv; do cat /proc/1/$f >/dev/null 2>&1 && echo $f; done; ls -l /proc/1/fd/ | grep -c -- '->'"
    )
    assert ran.out.strip() == "0"


def test_step_cannot_end_its_init_and_live_on(box: Box) -> None:
    ran = box.sh("kill -9 1; kill -15 1; kill -9 -1; echo alive")
    assert ran.out == "alive\n" or ran.result.signal == 9


def test_builder_processes_cannot_be_seen_or_ended(box: Box) -> None:
    me = os.getpid()
    ran = box.sh(f"kill -0 {me} && echo seen; ls /proc/{me} && echo seen")
    assert "seen" not in ran.out

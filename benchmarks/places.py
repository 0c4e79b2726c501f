"""Where the measured files lie: a fresh filesystem each time.

An old, much used filesystem answers differently from one run to the next, and deleting a large tree makes the creates
after it slow. So each run gets a new ext4 in a sparse file, mounted by loop, and the mount is dropped afterwards instead
of deleting what is in it. The file loses its name as soon as it is mounted, and all mounts are made in a mount
namespace of the driver's own: whatever ends the driver, nothing stays behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Literal

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 0x4000, 0x40000

Kind = Literal["loop", "tmpfs", "directory"]


def own_mounts() -> None:
    """Move this process to a mount namespace of its own. Does nothing without the right to (then there are no mounts)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) == 0:
        libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def best_kind(base: str) -> Kind:
    """``loop`` where ext4 can be mounted from a file in ``base``, else ``tmpfs``, else ``directory``."""
    kinds: tuple[Kind, ...] = ("loop", "tmpfs")
    for kind in kinds:
        with contextlib.suppress(OSError, subprocess.CalledProcessError), place(base, kind, size=1 << 26, inodes=1000):
            return kind
    return "directory"


@contextlib.contextmanager
def place(base: str, kind: Kind, *, size: int = 24 << 30, inodes: int = 1_500_000) -> Iterator[str]:
    """A fresh, empty directory of its own filesystem. ``size`` in bytes (sparse: only what is written takes room)."""
    mountpoint = tempfile.mkdtemp(prefix="place-", dir=base)
    mounted = False
    try:
        if kind == "loop":
            mount_loop(base, mountpoint, size, inodes)
            mounted = True
            os.rmdir(os.path.join(mountpoint, "lost+found"))
        elif kind == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", f"mode=755,size={size},nr_inodes={inodes}", "place", mountpoint)
            mounted = True
        yield mountpoint
    finally:
        if mounted:
            run("umount", "-R", "-l", mountpoint)
        shutil.rmtree(mountpoint, ignore_errors=True)


def mount_loop(base: str, mountpoint: str, size: int, inodes: int) -> None:
    descriptor, image = tempfile.mkstemp(prefix="ext4-", dir=base)
    try:
        os.ftruncate(descriptor, size)
        run("mkfs.ext4", "-q", "-F", "-N", str(inodes), "-E", "nodiscard", image)
        # Without noinit_itable a kernel thread writes the inode tables while we measure.
        run("mount", "-o", "loop,noinit_itable,nodiscard", image, mountpoint)
    finally:
        os.close(descriptor)
        os.unlink(image)


@contextlib.contextmanager
def bound(source: str, target: str) -> Iterator[None]:
    """``source`` seen at ``target`` as well (a bind mount). Needs a mount namespace of our own to be safe."""
    run("mount", "--bind", source, target)
    try:
        yield
    finally:
        run("umount", "-R", "-l", target)


@contextlib.contextmanager
def mounted(kind: str, target: str) -> Iterator[None]:
    """A new ``proc`` or ``tmpfs`` at ``target``."""
    run("mount", "-t", kind, kind, target)
    try:
        yield
    finally:
        run("umount", "-R", "-l", target)


def run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, argv, stderr=done.stderr)

"""The directory of a build: its own while it lives, removed at its end, or by the next build when it was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator

from pybuild.errors import StorageError

PREFIX = "pybuild-"


@contextlib.contextmanager
def work_directory(base: str = "") -> Iterator[str]:
    """A new directory (mode 0700) below ``base`` (default: $TMPDIR or /tmp), removed at the end with all that is in it.

    It is locked (flock on the directory itself) as long as this process lives; directories of this user below ``base`` that
    nobody has locked any more are removed first. ``StorageError`` when none can be made.
    """
    base = os.path.realpath(base or default_base())
    try:
        os.makedirs(base, exist_ok=True)
        remove_stale(base)
        path, lock = create(base)
    except OSError as e:
        raise StorageError(
            f"no working directory can be made in {base}: {e.strerror}", hint="name another one with --work-dir"
        ) from e
    try:
        yield path
    finally:
        try:
            remove(path)
        finally:
            os.close(lock)


def default_base() -> str:
    return os.environ.get("TMPDIR") or "/tmp"


def create(base: str) -> tuple[str, int]:
    """A new locked directory and the descriptor that holds its lock."""
    while True:
        path = os.path.join(base, PREFIX + secrets.token_hex(6))
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            continue
        lock = locked(path)
        if lock is not None:
            return path, lock
        # another build took it for a stale one between the two calls


def locked(path: str) -> int | None:
    """A descriptor with an exclusive lock on a directory; ``None`` when it is gone, is none, or somebody has it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine, there = os.fstat(fd), os.stat(path, follow_symlinks=False)
        if (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino):
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def remove_stale(base: str) -> list[str]:
    """Remove directories that builds which were killed left below ``base``; those of other users are not touched."""
    removed = []
    with os.scandir(base) as entries:
        names = [e.name for e in entries if e.name.startswith(PREFIX) and len(e.name) == len(PREFIX) + 12]
    for name in names:
        path = os.path.join(base, name)
        lock = locked(path)
        if lock is None:
            continue
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                with contextlib.suppress(OSError):
                    remove(path)
                    removed.append(path)
        finally:
            os.close(lock)
    return removed


def remove(path: str) -> None:
    """Remove a directory tree; what is mounted inside is detached first, never emptied."""
    for point in mounted_below(path):
        from pybuild._native import spawn

        with contextlib.suppress(OSError):
            spawn.unmount(point)
    try:
        from pybuild._native.fsops import remove_tree
    except ImportError:
        shutil.rmtree(path, onerror=retry_writable)
        return
    parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(parent, os.path.basename(path))
    finally:
        os.close(parent)


def retry_writable(function: object, path: str, info: object) -> None:
    """An ordinary user's own directory without permissions cannot be emptied before it has them."""
    parent = os.path.dirname(path)
    os.chmod(parent, stat.S_IRWXU)
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, stat.S_IRWXU)
        shutil.rmtree(path)
    else:
        os.unlink(path)


def mounted_below(path: str) -> list[str]:
    """Mount points at or below a path in this process's namespace, deepest first."""
    try:
        with open("/proc/self/mountinfo", "rb") as f:
            points = [line.split()[4] for line in f]
    except OSError:
        return []
    found = []
    for point in points:
        text = os.fsdecode(unescaped(point))
        if text == path or text.startswith(path + "/"):
            found.append(text)
    return sorted(found, key=len, reverse=True)


def unescaped(text: bytes) -> bytes:
    """mountinfo writes blanks, tabs, newlines and backslashes as octal numbers."""
    for code, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        text = text.replace(code, char)
    return text

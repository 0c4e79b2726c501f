"""RUN with chroot alone, where nothing can be mounted: what would be mounted is put in place before the step and taken away after it.

There is no /proc and no /sys. /dev gets the usual nodes where they may be made. What lay at a mount's target is moved aside, beside
the root, and moved back, so that its inode and its times stay the same.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator

from pybuild._native import fsops
from pybuild.errors import IsolationError, StorageError
from pybuild.rootfs.mounts import RunMount, name_resolution, order
from pybuild.rootfs.run import RunSpec, copy_tree

DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


@contextlib.contextmanager
def prepared(spec: RunSpec) -> Iterator[tuple[str, ...]]:
    """Put the step's mounts in place for as long as the context lasts; yields the paths (relative to the root) that this touched.
    ``IsolationError`` for what cannot be done without mounting."""
    if spec.network == "none":
        raise IsolationError(
            "--network=none needs namespaces, which this place does not permit", hint="see pybuild doctor"
        )
    root = os.open(spec.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    touched: list[str] = []
    try:
        with contextlib.ExitStack() as held:
            place = Place(spec.root, root, touched, held)
            place.devices()
            for resolver in name_resolution(spec.hostname):
                place.file(resolver.target, resolver.contents, resolver.mode, 0, 0)
            for mount in order(spec.mounts):
                place.mount(mount)
            yield tuple(touched)
    except OSError as e:
        raise StorageError(
            f"the step could not be set up: {e.strerror}{f': {e.filename}' if e.filename else ''}"
        ) from e
    finally:
        os.close(root)


class Place:
    """Puts things into a root and takes them away again in reverse order.

    Taking away happens after the command could change anything below the root, so it goes by descriptors of the directories that
    were opened before, never by paths.
    """

    def __init__(self, path: str, fd: int, touched: list[str], held: contextlib.ExitStack) -> None:
        self.path = path
        self.fd = fd
        self.touched = touched
        self.held = held
        self.beside = self.open(os.path.dirname(os.path.abspath(path)))

    def open(self, path: str) -> int:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self.held.callback(os.close, fd)
        return fd

    @contextlib.contextmanager
    def claim(self, target: str) -> Iterator[str]:
        """Make room at a path inside the root, links followed inside it: parents are made, what is there is moved aside. Yields the
        path outside, at which something may be made within the context; all of that is undone later."""
        resolved = fsops.resolve(self.fd, target)
        if not resolved:
            raise IsolationError(f"nothing can be mounted at {target}")
        *parents, name = resolved.split("/")
        directory, at = self.fd, ""
        for parent in parents:
            at = f"{at}/{parent}" if at else parent
            if fsops.lstat(self.fd, at) is None:
                with unchanged(directory):
                    os.mkdir(parent, 0o755, dir_fd=directory)
                self.touched.append(at)
                self.held.callback(remove_empty, directory, parent)
            directory = self.open(os.path.join(self.path, at))
        self.touched.append(resolved)
        with unchanged(directory):
            aside = f"aside-{secrets.token_hex(6)}"
            if exists(directory, name):
                os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=self.beside)
                self.held.callback(restore, self.beside, aside, directory, name)
            else:
                self.held.callback(remove_any, directory, name)
            yield f"/proc/self/fd/{directory}/{name}"

    def file(self, target: str, contents: bytes, mode: int, uid: int, gid: int) -> None:
        with self.claim(target) as path:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as f:
                f.write(contents)
                if uid or gid:
                    os.fchown(fd, uid, gid)
                os.fchmod(fd, mode)

    def devices(self) -> None:
        """The usual device nodes, where the image has none; links into /proc would lead nowhere."""
        for name, (major, minor) in DEVICES.items():
            if fsops.lstat(self.fd, f"dev/{name}") is not None:
                continue
            try:
                with self.claim(f"/dev/{name}") as path:
                    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
                    os.chmod(path, 0o666)
            except PermissionError:
                return

    def mount(self, mount: RunMount) -> None:
        match mount.kind:
            case "secret" | "file":
                mode = mount.mode if mount.mode is not None else (0o400 if mount.kind == "secret" else 0o644)
                self.file(mount.target, mount.data or b"", mode, mount.uid, mount.gid)
            case "tmpfs":
                with self.claim(mount.target) as path:
                    os.mkdir(path)
                    os.chmod(path, mount.mode if mount.mode is not None else 0o1777)
            case "bind":
                with self.claim(mount.target) as path:
                    copy_tree(needed(mount), path)
            case "cache":
                source = needed(mount)
                with self.claim(mount.target) as path:
                    try:
                        os.rename(source, path)
                    except OSError:
                        copy_tree(source, path)
                if not (mount.readonly and os.path.lexists(source)):
                    self.held.callback(bring_back, path, source)
            case "ssh":
                raise IsolationError(
                    "RUN --mount=type=ssh needs namespaces, which this place does not permit", hint="see pybuild doctor"
                )


@contextlib.contextmanager
def unchanged(directory: int) -> Iterator[None]:
    """What is done in a directory within the context does not show in its mtime."""
    before = os.stat(directory)
    try:
        yield
    finally:
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


def needed(mount: RunMount) -> str:
    if mount.source is None:
        raise ValueError(f"a {mount.kind} mount has a source")
    return mount.source


def bring_back(path: str, source: str) -> None:
    """Return a cache to where it came from, by a rename, or by a copy to another filesystem. A cache that the command replaced by
    something that is no directory begins empty again."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.makedirs(source, exist_ok=True)
        return
    if not os.path.lexists(source):
        with unchanged_parent(path):
            os.rename(path, source)
        return
    fresh, old = f"{source}.{secrets.token_hex(4)}", f"{source}.{secrets.token_hex(4)}"
    copy_tree(path, fresh)
    os.rename(source, old)
    os.rename(fresh, source)
    shutil.rmtree(old)


@contextlib.contextmanager
def unchanged_parent(path: str) -> Iterator[None]:
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with unchanged(fd):
            yield
    finally:
        os.close(fd)


def exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def remove_any(directory: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError), unchanged(directory):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)


def remove_empty(directory: int, name: str) -> None:
    with contextlib.suppress(OSError), unchanged(directory):
        os.rmdir(name, dir_fd=directory)


def restore(beside: int, aside: str, directory: int, name: str) -> None:
    """Put back what was moved aside, over whatever the command left at its place."""
    remove_any(directory, name)
    with unchanged(directory):
        os.rename(aside, name, src_dir_fd=beside, dst_dir_fd=directory)

"""Run one command in a root filesystem and see to it that nothing of it stays: no process, no mount, no mount point."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NoReturn, Protocol

from pybuild._native import spawn
from pybuild.errors import IsolationError, RunError, StorageError
from pybuild.rootfs.isolation import Isolation
from pybuild.rootfs.mounts import HOSTNAME, NativeMount, RunMount, native_mounts
from pybuild.rootfs.users import User

__all__ = ["HOSTNAME", "RunMount", "RunResult", "RunSpec", "ignored_paths", "run", "unwritable"]

TAIL = 16 * 1024  # bytes of the last output that are kept for an error
READ = 256 * 1024  # bytes read from a pipe at once
POLL = 50  # milliseconds between two looks at the cancel flag

F_SETPIPE_SZ = 1031


class Cancelled(Protocol):
    """A flag that another thread sets when the build is to end."""

    @property
    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One command: ``root`` is the root filesystem's path on this machine, ``env`` the whole environment, ``cwd`` a path
    inside the root (made if missing, as BuildKit does)."""

    root: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str = "/"
    user: User = field(default_factory=User)
    mounts: tuple[RunMount, ...] = ()
    network: Literal["host", "none"] = "host"
    hostname: str = HOSTNAME


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a command ended: ``exit_code`` (128 + n for signal n), ``signal`` or None, the last bytes of its output, and the
    paths (relative to the root) that were made as mount points and removed again."""

    exit_code: int
    signal: int | None
    tail: bytes
    touched: tuple[str, ...] = ()


class Output:
    """Hands on what the command writes and keeps the last of it."""

    def __init__(self, output: Callable[[int, bytes], None]) -> None:
        self._output = output
        self._kept: deque[bytes] = deque()
        self._size = 0

    def __call__(self, stream: int, data: bytes) -> None:
        self._output(stream, data)
        self._kept.append(data[-TAIL:])
        self._size += len(self._kept[-1])
        while self._size - len(self._kept[0]) >= TAIL:
            self._size -= len(self._kept.popleft())

    def tail(self) -> bytes:
        return b"".join(self._kept)[-TAIL:]


def unwritable(spec: RunSpec) -> tuple[str, ...]:
    """Paths, relative to the root, that a command cannot have changed in the image, since something of the build's lies over
    them while it runs. What is found there afterwards is what the base had."""
    return ("dev", "proc", "sys")


ignored_paths = unwritable


def run(
    spec: RunSpec, isolation: Isolation, *, output: Callable[[int, bytes], None], cancel: Cancelled | None = None
) -> RunResult:
    """Run the command to its end; blocking, to be called in a worker thread that lives on until it returns.

    ``output(stream, data)`` is called in this thread for everything the command writes (stream 1 or 2). When ``cancel`` is set,
    the command and all of its descendants are killed and the result has signal 9. However the command ends, all processes that
    it started have ended when this returns.
    A command that cannot be executed has exit code 127 (not found) or 126, with the reason as its output.
    ``IsolationError`` when the place or the image does not permit what is needed, ``RunError`` for an unusable WORKDIR,
    ``StorageError`` when there is no memory, space or descriptor left.
    """
    if isolation.name == "chroot":
        from pybuild.rootfs.chroot import prepared
    elif isolation.name == "namespaces":
        prepared = no_preparation
    else:
        raise IsolationError(f"isolation {isolation.name} cannot run commands")
    told = Output(output)
    with contextlib.ExitStack() as held:
        mounts = native_mounts(spec.mounts, spec.root, spec.hostname, held) if isolation.name == "namespaces" else []
        touched = held.enter_context(prepared(spec))
        result = attempt(spec, isolation, mounts, told, cancel)
        if result is None:
            # an overlay for a writable bind is not to be had: a copy does the same
            result = attempt(spec, isolation, copied(mounts, held, spec), told, cancel)
        if result is None:
            raise IsolationError("a writable bind mount could not be made")
        return replace(result, touched=(*result.touched, *touched)) if touched else result


@contextlib.contextmanager
def no_preparation(spec: RunSpec) -> Iterator[tuple[str, ...]]:
    yield ()


def attempt(
    spec: RunSpec, isolation: Isolation, mounts: Sequence[NativeMount], output: Output, cancel: Cancelled | None
) -> RunResult | None:
    """One run; ``None`` when an overlay was wanted and could not be mounted (nothing was executed then)."""
    try:
        child = spawn.spawn(
            spec.root,
            spec.argv,
            spec.env,
            cwd=spec.cwd,
            uid=spec.user.uid,
            gid=spec.user.gid,
            groups=spec.user.groups,
            mounts=[m.native() for m in mounts],
            stage_dir=os.path.dirname(os.path.abspath(spec.root)),
            hostname=spec.hostname,
            user_namespace=isolation.user_namespace,
            uid_map=isolation.uid_map,
            gid_map=isolation.gid_map,
            deny_setgroups=isolation.deny_setgroups,
            new_network=spec.network == "none",
            chroot=isolation.name == "chroot",
        )
    except ValueError as e:
        raise RunError(f"the command cannot be run: {e}", exit_code=1) from None
    except OSError as e:
        raise cannot_start(e) from None
    reaped = None
    try:
        forward(child, output, cancel)
        reaped = child.reap()
        drain(child, output)
    finally:
        if reaped is None:
            child.kill()
            with contextlib.suppress(OSError, RuntimeError):
                child.reap()
        for fd in (child.out, child.err, child.status):
            os.close(fd)
    stage, error, index, path, status, made = reaped
    if stage == "overlay":
        return None
    if stage == "exec":
        text, code = exec_failure(path, error)
        output(2, text.encode("utf-8", "surrogateescape"))
        return RunResult(code, None, output.tail(), made)
    if stage == "lost" or (not stage and status is None):
        return RunResult(128 + (error or 9), error or 9, output.tail(), made)
    if stage:
        refuse(stage, error, index, path, spec, mounts)
    if status is None:
        raise RuntimeError("a command that was started has a status")
    code = os.waitstatus_to_exitcode(status)
    return RunResult(128 - code, -code, output.tail(), made) if code < 0 else RunResult(code, None, output.tail(), made)


def forward(child: spawn.Child, output: Output, cancel: Cancelled | None) -> None:
    """Hand on the command's output until its init has ended and both pipes are at their end, or init has ended and another
    process outside still holds one."""
    streams = {child.out: 1, child.err: 2}
    for fd in streams:
        os.set_blocking(fd, False)
        with contextlib.suppress(OSError):
            import fcntl

            fcntl.fcntl(fd, F_SETPIPE_SZ, 1 << 20)
    poll = select.poll()
    for fd in (*streams, child.status):
        poll.register(fd, select.POLLIN)
    killed = False
    while True:
        if not killed and cancel is not None and cancel.is_set:
            child.kill()
            killed = True
        for fd, _ in poll.poll(POLL if cancel is not None else None):
            if fd == child.status:
                if not os.read(fd, 64):
                    return
                continue
            try:
                data = os.read(fd, READ)
            except BlockingIOError:
                continue
            if data:
                output(streams[fd], data)
            else:
                poll.unregister(fd)


def drain(child: spawn.Child, output: Output) -> None:
    """What is left in the pipes after the end of all processes."""
    for fd, stream in ((child.out, 1), (child.err, 2)):
        with contextlib.suppress(BlockingIOError):
            while data := os.read(fd, READ):
                output(stream, data)


def exec_failure(name: str, error: int) -> tuple[str, int]:
    """The message and exit status for a command that could not be executed: a shell's statuses, BuildKit's words."""
    if error == errno.ENOENT and "/" not in name:
        return f'exec: "{name}": executable file not found in $PATH\n', 127
    reason = "exec format error" if error == errno.ENOEXEC else os.strerror(error).lower()
    return f"exec {name}: {reason}\n", 127 if error in (errno.ENOENT, errno.ENOTDIR) else 126


def cannot_start(e: OSError) -> IsolationError | StorageError:
    if e.errno in (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE):
        return StorageError(
            f"no process could be started: {e.strerror}", hint="look at the limits of memory and process numbers"
        )
    return IsolationError(f"no isolated process could be started: {e.strerror}", hint="see pybuild doctor")


def refuse(stage: str, error: int, index: int, path: str, spec: RunSpec, mounts: Sequence[NativeMount]) -> NoReturn:
    """The error for a step whose set-up failed."""
    reason = os.strerror(error)
    if error in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
        raise StorageError(f"the step could not be set up ({stage} {path}): {reason}")
    match stage:
        case "standard":
            if error in (errno.ENOTDIR, errno.EEXIST):
                raise IsolationError(
                    f"the image has a {path} that is no directory, so {path} cannot be mounted for RUN"
                )
            raise IsolationError(f"{path} could not be mounted for RUN: {reason}")
        case "source":
            source = mounts[index].source or path
            raise IsolationError(
                f"the source of the mount at {mounts[index].target} cannot be opened: {source}: {reason}"
            )
        case "target":
            hint = (
                "a file can only be mounted on a file and a directory on a directory"
                if error in (errno.ENOTDIR, errno.EISDIR)
                else ""
            )
            raise IsolationError(f"the mount point {mounts[index].target} cannot be used: {reason}", hint=hint)
        case "mount":
            raise IsolationError(f"{mounts[index].target} could not be mounted: {reason}")
        case "cwd":
            raise RunError(f"the working directory {spec.cwd} cannot be entered: {reason}", exit_code=1)
        case "identity":
            hint = (
                "only one user id is mapped here: subordinate ids (/etc/subuid) or root are needed"
                if error == errno.EINVAL
                else ""
            )
            raise IsolationError(
                f"the command's {path} {index or ''} cannot be set: {reason}".replace("  ", " "), hint=hint
            )
        case "id-map":
            raise IsolationError(f"the ids of a user namespace could not be mapped: {reason}")
        case "network":
            raise IsolationError(f"an empty network could not be made: {reason}")
    raise IsolationError(f"the step could not be set up ({stage} {path}): {reason}")


def copied(mounts: Sequence[NativeMount], held: contextlib.ExitStack, spec: RunSpec) -> list[NativeMount]:
    """The mounts with each writable bind replaced by a bind of a copy, which is removed with ``held``."""
    found = []
    for mount in mounts:
        if mount.kind == "copy-up":
            directory = tempfile.mkdtemp(prefix="copy-", dir=os.path.dirname(os.path.abspath(spec.root)))
            held.callback(shutil.rmtree, directory, ignore_errors=True)
            target = os.path.join(directory, "copy")
            copy_tree(mount.source, target)
            mount = replace(mount, kind="bind", source=target, data="")
        found.append(mount)
    return found


def copy_tree(source: str, target: str) -> None:
    """Copy a file or a directory with owners (where permitted), modes, times and links; sockets and devices are left out."""
    if os.path.isdir(source) and not os.path.islink(source):
        os.mkdir(target)
        with os.scandir(source) as entries:
            for entry in entries:
                copy_tree(entry.path, os.path.join(target, entry.name))
    elif os.path.islink(source):
        os.symlink(os.readlink(source), target)
    elif os.path.isfile(source):
        shutil.copyfile(source, target)
    else:
        return
    st = os.lstat(source)
    with contextlib.suppress(PermissionError):
        os.chown(target, st.st_uid, st.st_gid, follow_symlinks=False)
    shutil.copystat(source, target, follow_symlinks=False)

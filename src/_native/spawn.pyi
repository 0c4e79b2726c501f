"""Commands in a root filesystem of their own."""

from collections.abc import Mapping, Sequence

STAGES: tuple[str, ...]  # names for Outcome.stage, by number
DOCKER_CAPABILITIES: int

class Child:
    """A running command. Its three descriptors are to be read and closed by the caller; ``reap`` must be called. The command
    and all that it started are ended by the kernel when this process dies, however it dies."""

    pid: int  # of the init process, as seen from here
    out: int  # read end of the command's stdout
    err: int  # of its stderr
    status: int  # end of file on this means that init has ended; nothing else is to be read
    def kill(self) -> None:
        """End the command and everything that it started. Needs ``reap`` all the same."""
    def reap(self) -> tuple[str, int, int, str, int | None, tuple[str, ...]]:
        """Wait for the end of the command and of every process that it left; remove the mount points that were made for it.

        Returns ``(stage, errno, index, path, wait_status, made)``. ``stage`` is "" when the command was started; otherwise the
        name of what failed before that, with errno, the number of the mount and the path it is about ("lost": init was killed,
        ``errno`` is the signal). ``wait_status`` is for ``os.waitstatus_to_exitcode``, None when there is none. ``made`` are the
        paths, relative to the root, that were made and removed again."""

def prepare() -> None:
    """Fork the process that starts commands, if that was not done yet (``spawn`` does it too). The earlier, the less this
    process has in memory that must be copied for a moment. ``OSError``."""

def spawn(
    root: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: str,
    uid: int,
    gid: int,
    groups: Sequence[int],
    mounts: Sequence[tuple[str, str, str, str, bytes, bool, int, int, int]],
    stage_dir: str,
    hostname: str,
    capabilities: int = ...,
    user_namespace: bool = False,
    uid_map: bytes = b"",
    gid_map: bytes = b"",
    deny_setgroups: bool = False,
    new_network: bool = False,
    chroot: bool = False,
) -> Child:
    """Start a command in the directory ``root``.

    With namespaces (the default) it gets its own mounts, process ids, IPC and host name; /proc, /sys and /dev are mounted, then
    ``mounts`` in their order: tuples ``(kind, source, target, data, contents, readonly, mode, uid, gid)`` with kind "bind",
    "copy-up" (a bind whose writes go to ``data``, a directory that holds empty "upper" and "work"), "tmpfs" (``data``: options)
    or "file" (``contents``, in memory). Targets are resolved inside the root and made when they are missing.
    ``stage_dir`` is any directory outside the root. ``env`` is the whole environment; ``capabilities`` the most it may have.
    ``chroot`` uses chroot alone: no mounts. ``OSError`` when no process could be made; everything later is told by ``reap``."""

def probe(
    stage_dir: str,
    *,
    user_namespace: bool = False,
    uid_map: bytes = b"",
    gid_map: bytes = b"",
    deny_setgroups: bool = False,
) -> tuple[bool, bool, bool, int]:
    """Try namespaces with mounts in a child: ``(namespaces and tmpfs, a new /proc, overlay, errno of the first failure)``."""

def set_dumpable(dumpable: bool) -> None:
    """Whether other processes of this user may trace this one and read its memory and environment (prctl PR_SET_DUMPABLE)."""

def effective_capabilities() -> int:
    """Bit mask of this process's effective capabilities."""

def unmount(path: str) -> None:
    """Detach the mount at a path (umount2 MNT_DETACH). ``OSError``."""

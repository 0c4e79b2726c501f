"""RUN's mounts: from expanded ``--mount`` options to things on this machine that a step can be shown.

Sources: the Dockerfile reference's table of mount types, BuildKit for what it leaves open.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pybuild.dockerfile.instructions import Mount
from pybuild.dockerfile.mounts import parse_size
from pybuild.errors import ContextError, DockerfileError, Place, UsageError
from pybuild.rootfs.run import RunMount

if TYPE_CHECKING:
    from pybuild.build.stage import Stage

SECRET_DIRECTORY = "/run/secrets/"
SSH_DIRECTORY = "/run/buildkit/"
SECRET_LIMIT = 512 * 1024


@dataclass(slots=True)
class Mounts:
    """Mounts of one step, environment variables that come with them (secrets, SSH_AUTH_SOCK)."""

    mounts: list[RunMount] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def resolve_mounts(stage: Stage, mounts: Sequence[Mount], workdir: str, place: Place) -> Iterator[Mounts]:
    """Everything that the mounts of one RUN need, held until the step is over (locks of caches, temporary directories)."""
    with contextlib.ExitStack() as held:
        found = Mounts()
        for number, mount in enumerate(mounts):
            match mount.type:
                case "bind":
                    found.mounts.append(bind_mount(stage, mount, workdir, place))
                case "cache":
                    found.mounts.append(cache_mount(stage, mount, workdir, place, held))
                case "tmpfs":
                    size = parse_size(mount.size) if mount.size else None
                    found.mounts.append(RunMount(kind="tmpfs", target=absolute(mount.target, workdir), size=size))
                case "secret":
                    secret_mount(stage, mount, workdir, place, found)
                case "ssh":
                    ssh_mount(stage, mount, workdir, place, found, number)
                case other:
                    raise DockerfileError(f"unsupported mount type {other!r}", place=place)
        yield found


def absolute(target: str | None, workdir: str) -> str:
    return os.path.normpath(os.path.join("/", workdir, target or ""))


def below(root_path: str, root_fd: int, source: str, what: str, place: Place) -> str:
    """The path on this machine of ``source`` within a tree, links resolved inside it; ``ContextError`` when it is missing."""
    from pybuild._native import fsops

    resolved = fsops.resolve(root_fd, source or "/")
    if fsops.lstat(root_fd, resolved) is None:
        raise ContextError(f"mount source {source!r} not found in {what}", place=place)
    return os.path.join(root_path, resolved) if resolved else root_path


def bind_mount(stage: Stage, mount: Mount, workdir: str, place: Place) -> RunMount:
    """``type=bind``: from the context, a stage or an image; read-only unless ``rw``, whose writes are thrown away."""
    if mount.from_:
        root = stage.source_root(mount.from_)
        what = f"{mount.from_}"
    else:
        root = stage.session.context_root()
        what = "the build context"
    source = below(root.path, root.fd, mount.source or "", what, place)
    return RunMount(kind="bind", target=absolute(mount.target, workdir), source=source, readonly=mount.readonly is not False)


def cache_mount(stage: Stage, mount: Mount, workdir: str, place: Place, held: contextlib.ExitStack) -> RunMount:
    """``type=cache``: a directory that outlives the build, one for each id and, as in BuildKit, for each owner, mode and source
    that it begins with. ``locked`` waits for other builds, ``private`` takes a fresh directory while another has it."""
    target = absolute(mount.target, workdir)
    base = os.path.join(stage.session.cache_mounts(), "mounts")
    os.makedirs(base, exist_ok=True)
    parts = (mount.id or target, mount.uid or "0", mount.gid or "0", mount.mode or "", mount.from_ or "", mount.source or "")
    identity = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    path = os.path.join(base, identity)
    sharing = mount.sharing or "shared"
    if sharing == "locked":
        hold_lock(held, path + ".lock", block=True)
    elif sharing == "private":
        number = 0
        while not hold_lock(held, f"{path}.lock", block=False):
            number += 1
            path = os.path.join(base, f"{identity}-{number}")
    if not os.path.isdir(path):
        seed_cache(stage, mount, path, place)
    return RunMount(kind="cache", target=target, source=path, readonly=mount.readonly is True)


def seed_cache(stage: Stage, mount: Mount, path: str, place: Place) -> None:
    """Make a cache directory, from ``from=`` and ``source=`` when they are given, under another name first."""
    temporary = f"{path}.{os.getpid()}.{stage.session.next_step()}"
    if mount.from_:
        root = stage.source_root(mount.from_)
        source = below(root.path, root.fd, mount.source or "", mount.from_, place)
        shutil.copytree(source, temporary, symlinks=True)
    else:
        os.mkdir(temporary)
    os.chmod(temporary, int(mount.mode, 8) if mount.mode else 0o755)
    if mount.uid or mount.gid:
        os.chown(temporary, int(mount.uid or 0), int(mount.gid or 0))
    try:
        os.rename(temporary, path)
    except OSError:
        # another build was quicker
        shutil.rmtree(temporary, ignore_errors=True)


def hold_lock(held: contextlib.ExitStack, path: str, *, block: bool) -> bool:
    """Take an exclusive lock until the step is over; false when ``block`` is false and another has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(fd)
        return False
    held.callback(os.close, fd)
    return True


def secret_mount(stage: Stage, mount: Mount, workdir: str, place: Place, found: Mounts) -> None:
    """``type=secret``: a file in memory (0400 by default) or a variable; a missing one is skipped unless ``required``."""
    name = mount.id or os.path.basename(mount.source or mount.target or "")
    data = read_secret(stage, name, place)
    if data is None:
        if mount.required:
            raise UsageError(f"secret not defined: {name}", place=place, hint=f"give it with --secret id={name},src=FILE or ,env=NAME")
        stage.session.log(f'skip mounting "{name}" as it is not available')
        return
    if mount.env:
        found.env[mount.env] = data.decode("utf-8", "surrogateescape")
        if not mount.target:
            return
    found.mounts.append(
        RunMount(
            kind="secret",
            target=absolute(mount.target or SECRET_DIRECTORY + name, workdir),
            data=data,
            mode=int(mount.mode, 8) if mount.mode else 0o400,
            uid=int(mount.uid or 0),
            gid=int(mount.gid or 0),
            readonly=True,
        )
    )


def read_secret(stage: Stage, name: str, place: Place) -> bytes | None:
    """The value of a secret given on the command line, ``None`` when it was not given."""
    for secret in stage.session.options.secrets:
        if secret.id != name:
            continue
        if secret.kind == "env":
            value = os.environb.get(os.fsencode(secret.source))
            if value is None:
                raise UsageError(f"secret {name}: the environment variable {secret.source} is not set", place=place)
            return value
        try:
            with open(secret.source, "rb") as f:
                data = f.read(SECRET_LIMIT + 1)
        except OSError as e:
            raise UsageError(f"secret {name}: cannot read {secret.source}: {e.strerror}", place=place) from None
        if len(data) > SECRET_LIMIT:
            raise UsageError(f"secret {name}: {secret.source} is larger than {SECRET_LIMIT // 1024} KiB", place=place)
        return data
    return None


def ssh_mount(stage: Stage, mount: Mount, workdir: str, place: Place, found: Mounts, number: int) -> None:
    """``type=ssh``: an agent's socket, named by SSH_AUTH_SOCK."""
    name = mount.id or "default"
    socket = stage.session.options.ssh.get(name)
    if socket is None:
        if mount.required:
            raise UsageError(f"ssh agent not defined: {name}", place=place, hint=f"give it with --ssh {name}=SOCKET")
        stage.session.log(f'skip mounting ssh agent "{name}" as it is not available')
        return
    target = absolute(mount.target or f"{SSH_DIRECTORY}ssh_agent.{number}", workdir)
    found.env["SSH_AUTH_SOCK"] = target
    found.mounts.append(
        RunMount(
            kind="ssh",
            target=target,
            source=socket,
            mode=int(mount.mode, 8) if mount.mode else 0o600,
            uid=int(mount.uid or 0),
            gid=int(mount.gid or 0),
        )
    )

"""The builders that are compared: how each is called, and what it needs around it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.measure import Command
from benchmarks.places import bound, mounted
from benchmarks.workloads import Prepared

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}


@dataclass(frozen=True)
class Job:
    """One build. ``place``: an empty directory on the measured filesystem. ``repository``: never used before."""

    ready: Prepared
    place: str
    host: str
    repository: str

    @property
    def destination(self) -> str:
        return f"{self.host}/{self.repository}:latest"


@dataclass(frozen=True)
class Tool:
    """A builder. ``around`` sets up what a job needs (not measured), gives the commands, and takes it away after."""

    name: str
    around: Callable[[Job], contextlib.AbstractContextManager[tuple[Command, ...]]]
    kaniko: bool = True


def environment(job: Job, **more: str) -> dict[str, str]:
    """A small environment whose temporary and home directories are in the measured place."""
    for name in ("tmp", "home"):
        os.makedirs(os.path.join(job.place, name), exist_ok=True)
    return {
        "PATH": SYSTEM_PATH,
        "LANG": "C.UTF-8",
        "TMPDIR": os.path.join(job.place, "tmp"),
        "HOME": os.path.join(job.place, "home"),
        **more,
    }


def kaniko_flags(job: Job, context: str, dockerfile: str) -> tuple[str, ...]:
    return (
        f"--context={context}",
        f"--dockerfile={dockerfile}",
        f"--destination={job.destination}",
        "--insecure",
        "--insecure-pull",
        f"--snapshot-mode={job.ready.mode}",
        f"--compression={job.ready.compression}",
        "--verbosity=warn",
    )


def pybuild(command: str, name: str = "pybuild", extra: str = "") -> Tool:
    """``command``: how it is called, words as in a shell. ``extra``: more flags."""
    words = shlex.split(command)
    program = shutil.which(words[0])
    if program is None:
        raise SystemExit(f"{words[0]}: no such command (see --pybuild)")

    @contextlib.contextmanager
    def around(job: Job) -> Iterator[tuple[Command, ...]]:
        passed = {key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}
        env = environment(job, **passed)
        argv = (program, *words[1:], *kaniko_flags(job, job.ready.context, job.ready.dockerfile), *shlex.split(extra))
        yield (Command(argv, env),)

    return Tool(name, around)


def buildah(layers: bool) -> Tool:
    """Debian's buildah: ``bud`` and ``push``, overlay storage in the measured place, nothing remembered from before.

    ``layers``: one layer an instruction (its build cache, and so a commit after each step) or one a stage.
    """
    program = shutil.which("buildah")
    if program is None:
        raise SystemExit("buildah is not installed")

    @contextlib.contextmanager
    def around(job: Job) -> Iterator[tuple[Command, ...]]:
        known = os.path.join(job.place, "known")
        for folder in (known, "/var/lib/containers"):
            os.makedirs(folder, exist_ok=True)
        # Overlay on overlay is refused by the kernel: inside a container without a volume vfs is what remains.
        storage = ("--root", f"{job.place}/root", "--runroot", f"{job.place}/run", "--storage-driver", "overlay")
        build = (
            program, *storage, "bud", "--isolation", "chroot", "--network", "host", f"--layers={str(layers).lower()}",
            "--tls-verify=false", "--quiet", "-f", job.ready.dockerfile, "-t", "localhost/built", job.ready.context,
        )  # fmt: skip
        push = (
            program, *storage, "push", "--tls-verify=false", "--quiet",
            "--compression-format", job.ready.compression, "localhost/built", f"docker://{job.destination}",
        )  # fmt: skip
        env = environment(job)
        # What buildah knows about blobs in registries lies here, whatever --root says.
        with bound(known, "/var/lib/containers"):
            yield Command(build, env), Command(push, env)
        # its storage stays mounted below itself; the place is dropped as a whole

    return Tool("buildah --layers" if layers else "buildah", around, kaniko=False)


def executor(path: str, name: str) -> Tool:
    """Any kaniko-compatible executor, a static program, in a chroot of its own: it unpacks over its root."""
    if not os.access(path, os.X_OK):
        raise SystemExit(f"{path}: not an executable file")

    @contextlib.contextmanager
    def around(job: Job) -> Iterator[tuple[Command, ...]]:
        root = os.path.join(job.place, "chroot")
        for folder in ("kaniko/.docker", "kaniko/ssl/certs", "workspace", "proc", "sys", "dev", "etc", "root", "tmp"):
            os.makedirs(os.path.join(root, folder))
        shutil.copy2(path, os.path.join(root, "kaniko", "executor"))
        for file in ("/etc/resolv.conf", "/etc/hosts"):
            shutil.copy(file, root + file)
        for file, text in {"passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n"}.items():
            with open(os.path.join(root, "etc", file), "w") as f:
                f.write(text)
        shutil.copy(job.ready.dockerfile, os.path.join(root, "kaniko", "Dockerfile.bench"))
        env = {
            "PATH": "/usr/local/bin:/kaniko:" + SYSTEM_PATH,
            "HOME": "/root",
            "USER": "root",
            "DOCKER_CONFIG": "/kaniko/.docker/",
            "SSL_CERT_DIR": "/kaniko/ssl/certs",
            "container": "oci",
        }
        flags = kaniko_flags(job, "/workspace", "/kaniko/Dockerfile.bench")
        with contextlib.ExitStack() as mounts:
            mounts.enter_context(bound(job.ready.context, os.path.join(root, "workspace")))
            mounts.enter_context(bound("/sys", os.path.join(root, "sys")))
            mounts.enter_context(mounted("proc", os.path.join(root, "proc")))
            # a /dev of its own: a builder that clears its root must not meet ours
            mounts.enter_context(mounted("tmpfs", os.path.join(root, "dev")))
            for device, number in DEVICES.items():
                os.mknod(os.path.join(root, "dev", device), stat.S_IFCHR | 0o666, os.makedev(1, number))
            yield (Command(("/kaniko/executor", *flags, "--force"), env, cwd="/workspace", root=root),)

    return Tool(name, around)


def peer(text: str) -> Tool:
    """``buildah``, ``buildah-layers``, ``executor=PATH`` or ``NAME=executor=PATH`` (to tell two of them apart)."""
    if text == "buildah":
        return buildah(layers=False)
    if text == "buildah-layers":
        return buildah(layers=True)
    head, _, path = text.rpartition("=")
    name, _, kind = head.rpartition("=")
    if kind == "executor":
        return executor(os.path.abspath(path), name or "executor")
    raise SystemExit(f"--peer {text}: not buildah, buildah-layers, executor=PATH or NAME=executor=PATH")

"""Real roots: a static busybox with its applets."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pybuild.rootfs.isolation import Isolation
from pybuild.rootfs.run import RunResult, RunSpec, run
from pybuild.rootfs.users import User

BUSYBOX = next((p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), "")


def make_root(path: Path) -> Path:
    (path / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, path / "bin/busybox")
    for applet in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            (path / "bin" / applet).symlink_to("busybox")
    for name in ("etc", "tmp", "root", "dev", "proc", "sys"):
        (path / name).mkdir()
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\napp:x:1000:\nstaff:x:50:app\n")
    return path


@dataclass
class Ran:
    """What a command wrote and how it ended."""

    result: RunResult
    out: str
    err: str

    @property
    def code(self) -> int:
        return self.result.exit_code


@dataclass
class Box:
    """A root and a way to run things in it."""

    root: Path
    isolation: Isolation
    env: dict[str, str] = field(default_factory=lambda: {"PATH": "/bin", "HOME": "/root"})

    def run(self, *argv: str, user: User | None = None, cancel: Any = None, **spec: Any) -> Ran:
        written: dict[int, list[bytes]] = {1: [], 2: []}
        result = run(
            RunSpec(root=str(self.root), argv=argv, env=spec.pop("env", self.env), user=user or User(), **spec),
            self.isolation,
            output=lambda stream, data: written[stream].append(data),
            cancel=cancel,
        )
        return Ran(result, b"".join(written[1]).decode(), b"".join(written[2]).decode())

    def sh(self, text: str, **spec: Any) -> Ran:
        return self.run("/bin/sh", "-c", text, **spec)


def listing(root: Path) -> dict[str, tuple[int, int, int, int]]:
    """Everything below a root: mode, owner, inode and modification time in nanoseconds."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in [".", *names, *files]:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            found[os.path.normpath(os.path.relpath(path, root))] = (st.st_mode, st.st_uid, st.st_ino, st.st_mtime_ns)
    return found

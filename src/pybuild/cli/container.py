"""Whether this process runs in a container, by the signs that kaniko's executor looks for."""

from __future__ import annotations

import os
from collections.abc import Mapping

_MARKS = (
    "run/.containerenv",
    ".dockerenv",
    "var/run/secrets/kubernetes.io/serviceaccount",
    "__runsc_containers__",
    "run/systemd/container",
)
_GROUPS = (b"docker", b"rkt", b"lxc", b"kube", b"garden", b"podman", b"containerd", b"libpod")

REFUSAL = (
    "kaniko should only be run inside of a container, run with the --force flag if you are sure you want to continue"
)


def in_container(root: str = "/", environment: Mapping[str, str] = os.environ) -> bool:
    """Whether anything says so. ``root`` is where to look, for tests."""
    if environment.get("container"):
        return True
    if any(os.path.exists(os.path.join(root, mark)) for mark in _MARKS):
        return True
    if os.path.exists(os.path.join(root, "proc/vz")) and not os.path.exists(os.path.join(root, "proc/bc")):
        return True
    if any(name in _read(os.path.join(root, "proc/self/cgroup")) for name in _GROUPS):
        return True
    return overlay_root(_read(os.path.join(root, "proc/mounts")))


def overlay_root(mounts: bytes) -> bool:
    """Whether / is an overlay, as container runtimes make it."""
    kinds = [words[2] for line in mounts.splitlines() if len(words := line.split()) > 2 and words[1] == b"/"]
    return bool(kinds) and kinds[-1] == b"overlay"


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as f:
            return f.read(1 << 20)
    except OSError:
        return b""

"""What a RUN step is shown besides its root: mounts as the build knows them, and as the kernel is given them."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

#: The host name of a step: always the same, so that programs that write it down write the same each time. BuildKit's.
HOSTNAME = "buildkitsandbox"

Kind = Literal["bind", "cache", "tmpfs", "secret", "ssh", "file"]
NativeTuple = tuple[str, str, str, str, bytes, bool, int, int, int]


@dataclass(frozen=True, slots=True)
class RunMount:
    """One mount of a step. ``target`` is a path inside the root. ``source`` (bind, cache, ssh) is a path on this machine, links
    in it already followed. ``data`` (secret, file) is the contents. A bind that is not ``readonly`` can be written to and
    forgets it. ``mode``, ``uid``, ``gid`` are for secret, file and ssh; ``size`` in bytes is for tmpfs."""

    kind: Kind
    target: str
    source: str | None = None
    readonly: bool = False
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class NativeMount:
    """A mount as ``spawn`` takes it."""

    kind: str
    target: str
    source: str = ""
    data: str = ""
    contents: bytes = b""
    readonly: bool = False
    mode: int = 0
    uid: int = 0
    gid: int = 0

    def native(self) -> NativeTuple:
        return (
            self.kind,
            self.source,
            self.target,
            self.data,
            self.contents,
            self.readonly,
            self.mode,
            self.uid,
            self.gid,
        )


def order(mounts: Iterable[RunMount]) -> list[RunMount]:
    """Parents before what lies below them, as BuildKit orders them; otherwise as written."""
    return sorted(mounts, key=lambda m: posixpath.normpath(m.target).strip("/").split("/"))


def native_mounts(
    mounts: Iterable[RunMount], root: str, hostname: str, held: contextlib.ExitStack
) -> list[NativeMount]:
    """Name resolution files, then the step's own mounts, in the order to mount them. Temporary directories live as ``held``."""
    found = name_resolution(hostname)
    for mount in order(mounts):
        found.append(native_mount(mount, root, held))
    return found


def native_mount(mount: RunMount, root: str, held: contextlib.ExitStack) -> NativeMount:
    match mount.kind:
        case "bind":
            if mount.readonly:
                return NativeMount("bind", mount.target, needed(mount), readonly=True)
            scratch = temporary(root, held)
            os.mkdir(os.path.join(scratch, "upper"))
            os.mkdir(os.path.join(scratch, "work"))
            return NativeMount("copy-up", mount.target, needed(mount), scratch)
        case "cache":
            return NativeMount("bind", mount.target, needed(mount), readonly=mount.readonly)
        case "tmpfs":
            return NativeMount("tmpfs", mount.target, data=tmpfs_options(mount))
        case "secret" | "file":
            mode = mount.mode if mount.mode is not None else (0o400 if mount.kind == "secret" else 0o644)
            readonly = mount.readonly or mount.kind == "secret"
            return NativeMount(
                "file",
                mount.target,
                contents=mount.data or b"",
                readonly=readonly,
                mode=mode,
                uid=mount.uid,
                gid=mount.gid,
            )
        case "ssh":
            from pybuild.rootfs.ssh import relay

            mode = mount.mode if mount.mode is not None else 0o600
            socket = os.path.join(temporary(root, held), "agent")
            held.enter_context(relay(needed(mount), socket, mode, mount.uid, mount.gid))
            return NativeMount("bind", mount.target, socket)


def needed(mount: RunMount) -> str:
    if mount.source is None:
        raise ValueError(f"a {mount.kind} mount has a source")
    return mount.source


def temporary(root: str, held: contextlib.ExitStack) -> str:
    """A directory beside the root, so on the same filesystem, removed with ``held``."""
    path = tempfile.mkdtemp(prefix="mount-", dir=os.path.dirname(os.path.abspath(root)))
    held.callback(shutil.rmtree, path, ignore_errors=True)
    return path


def tmpfs_options(mount: RunMount) -> str:
    options = [f"mode={mount.mode if mount.mode is not None else 0o1777:o}"]
    if mount.size:
        options.append(f"size={mount.size}")
    return ",".join(options)


def name_resolution(hostname: str) -> list[NativeMount]:
    """/etc/resolv.conf and /etc/hosts as they are here, read-only as BuildKit has them, with the step's host name added."""
    found = []
    resolv = contents("/etc/resolv.conf")
    if resolv is not None:
        found.append(NativeMount("file", "/etc/resolv.conf", contents=resolv, readonly=True, mode=0o644))
    hosts = contents("/etc/hosts") or b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    name = hostname.encode()
    if not any(name in line.split()[1:] for line in hosts.splitlines()):
        hosts = hosts.rstrip(b"\n") + b"\n127.0.0.1\t" + name + b"\n"
    found.append(NativeMount("file", "/etc/hosts", contents=hosts, readonly=True, mode=0o644))
    return found


def contents(path: str, limit: int = 1 << 20) -> bytes | None:
    try:
        with open(path, "rb") as f:
            return f.read(limit)
    except OSError:
        return None

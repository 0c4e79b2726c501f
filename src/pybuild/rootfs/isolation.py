"""How RUN steps are kept apart from the builder: what this place permits, and the choice among it."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Literal

from pybuild._native import spawn
from pybuild.errors import IsolationError

Name = Literal["auto", "namespaces", "chroot", "in-place"]

CAP_SETUID, CAP_SYS_CHROOT, CAP_SYS_ADMIN = 7, 18, 21


@dataclass(frozen=True, slots=True)
class Isolation:
    """A way to run commands, and why it was taken.

    ``user_namespace``: a new one is needed to be allowed to mount; the maps are its texts for /proc/PID/{uid,gid}_map.
    ``deny_setgroups``: supplementary groups cannot be set. ``new_proc``: a fresh /proc can be mounted; ``overlay``: overlays can.
    """

    name: Literal["namespaces", "chroot", "in-place"]
    reason: str
    user_namespace: bool = False
    uid_map: bytes = b""
    gid_map: bytes = b""
    deny_setgroups: bool = False
    new_proc: bool = True
    overlay: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def single_id(self) -> bool:
        """Only one user and group exist for a command."""
        return self.deny_setgroups


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something cannot be had here."""

    what: str
    error: int

    def __str__(self) -> str:
        return f"{self.what}: {os.strerror(self.error)}" if self.error else self.what


def identity_map(path: str) -> bytes:
    """The text of a map that keeps every id of this process's own user namespace as it is."""
    with open(path, "rb") as f:
        lines = [line.split() for line in f]
    return b"".join(b"%s %s %s\n" % (inside, inside, count) for inside, _, count in lines)


def probe_namespaces() -> Isolation | Refusal:
    """Namespaces as this process is; else in a user namespace with all ids; else in one with this user's id alone."""
    capabilities = spawn.effective_capabilities()
    with tempfile.TemporaryDirectory(prefix="pybuild-probe-") as directory:
        error = 0
        if capabilities >> CAP_SYS_ADMIN & 1:
            works, proc, overlay, error = spawn.probe(directory)
            if works:
                return Isolation("namespaces", "mounting is permitted", new_proc=proc, overlay=overlay)
        if capabilities >> CAP_SETUID & 1 and os.geteuid() == 0:
            uid_map, gid_map = identity_map("/proc/self/uid_map"), identity_map("/proc/self/gid_map")
            works, proc, overlay, error = spawn.probe(directory, user_namespace=True, uid_map=uid_map, gid_map=gid_map)
            if works:
                return Isolation(
                    "namespaces",
                    "in a user namespace with all ids",
                    True,
                    uid_map,
                    gid_map,
                    new_proc=proc,
                    overlay=overlay,
                )
        uid_map, gid_map = b"0 %d 1\n" % os.geteuid(), b"0 %d 1\n" % os.getegid()
        works, proc, overlay, second = spawn.probe(
            directory, user_namespace=True, uid_map=uid_map, gid_map=gid_map, deny_setgroups=True
        )
        if works:
            return Isolation(
                "namespaces",
                "in a user namespace with a single id",
                True,
                uid_map,
                gid_map,
                deny_setgroups=True,
                new_proc=proc,
                overlay=overlay,
                warnings=(
                    "only one user id can be mapped here: RUN steps that change owners or run as another USER will fail",
                ),
            )
    return Refusal("user namespaces and mounts are refused", second or error)


def probe_chroot() -> Isolation | Refusal:
    """chroot alone: no mounts, no process namespace."""
    if spawn.effective_capabilities() >> CAP_SYS_CHROOT & 1:
        return Isolation("chroot", "chroot is permitted; there is no /proc for commands", new_proc=False)
    return Refusal("chroot is refused: no CAP_SYS_CHROOT", 0)


HINT = (
    "RUN needs user namespaces (seccompProfile: Unconfined and no AppArmor denial), or root with CAP_SYS_ADMIN; "
    "a build without RUN works as it is"
)


def choose(name: Name) -> Isolation:
    """The isolation asked for, or the strongest one that works when ``name`` is "auto". ``IsolationError`` when it does not."""
    refusals: list[str] = []
    if name in ("auto", "namespaces"):
        found = probe_namespaces()
        if isinstance(found, Isolation):
            return found
        refusals.append(str(found))
        if name == "namespaces":
            raise IsolationError(f"--isolation=namespaces does not work here: {found}", hint=HINT)
    if name in ("auto", "chroot"):
        found = probe_chroot()
        if isinstance(found, Isolation):
            if name == "auto":
                return Isolation("chroot", f"{refusals[0]}; chroot is permitted", new_proc=False)
            return found
        refusals.append(str(found))
        if name == "chroot":
            raise IsolationError(
                f"--isolation=chroot does not work here: {found}", hint="add SYS_CHROOT to the pod's capabilities"
            )
    if name == "in-place":
        raise IsolationError(
            "--isolation=in-place is not available in this build",
            hint="use --isolation=auto, which takes the strongest that works",
        )
    raise IsolationError(f"RUN cannot be carried out here: {'; '.join(refusals)}", hint=HINT)

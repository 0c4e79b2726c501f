"""Who a name is: the image's own passwd and group files, never those of this machine.

Source of the rules: BuildKit. ``USER`` and ``--chown`` differ in one point: a number without a group means group 0 (or the
primary group of the passwd entry with that number) for ``USER``, and the group of the same number for ``--chown``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pybuild.errors import DockerfileError

HIGHEST_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class User:
    """What a command runs as. ``groups`` are the supplementary groups, the primary one first; ``home`` is for HOME."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = (0,)
    home: str = "/"


@dataclass(frozen=True, slots=True)
class PasswdEntry:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class GroupEntry:
    name: str
    gid: int
    members: tuple[str, ...]


def number(text: str) -> int | None:
    """A decimal number, ``None`` for anything else."""
    return int(text) if text.isascii() and text.isdigit() else None


def records(data: bytes | None, fields: int) -> Iterator[list[str]]:
    """Lines of a colon-separated file, padded to ``fields`` fields; empty lines are skipped."""
    for line in (data or b"").splitlines():
        text = line.decode("utf-8", "surrogateescape").strip()
        if text:
            parts = text.split(":")
            yield parts + [""] * (fields - len(parts))


def parse_passwd(data: bytes | None) -> list[PasswdEntry]:
    """Entries of an /etc/passwd, in order. A number that is none reads as 0, as Docker reads it."""
    return [PasswdEntry(p[0], number(p[2]) or 0, number(p[3]) or 0, p[5]) for p in records(data, 7)]


def parse_group(data: bytes | None) -> list[GroupEntry]:
    """Entries of an /etc/group, in order."""
    return [GroupEntry(p[0], number(p[2]) or 0, tuple(m for m in p[3].split(",") if m)) for p in records(data, 4)]


def checked(value: int, what: str) -> int:
    if value > HIGHEST_ID:
        raise DockerfileError(f"{what} {value} is out of range", hint=f"ids are at most {HIGHEST_ID}")
    return value


def home_of(uid: int, users: list[PasswdEntry]) -> str:
    """The home directory of the first entry with this number; "/" when there is none."""
    return next((u.home for u in users if u.uid == uid), "") or "/"


def resolve_user(text: str, passwd: bytes | None, group: bytes | None) -> User:
    """``USER``'s ``name|uid[:group|gid]``; "" is root. Supplementary groups are those that list the user, and only without an
    explicit group. ``DockerfileError`` for a name that the files do not have."""
    users = parse_passwd(passwd)
    name, _, group_name = (text or "0").partition(":")
    uid, gid = number(name), number(group_name)
    if uid is not None and gid is not None:
        return User(checked(uid, "user id"), checked(gid, "group id"), (gid,), home_of(uid, users))
    entry = next(
        (u for u in users if (u.name == name if name else u.uid == 0) or (uid is not None and u.uid == uid)), None
    )
    if entry is None and name and uid is None:
        raise DockerfileError(
            f"unable to find user {name}: no matching entries in passwd file",
            hint="make the user in an earlier step (useradd, adduser), or give a number",
        )
    found_uid = entry.uid if entry else checked(uid or 0, "user id")
    found_gid = entry.gid if entry else 0
    others: tuple[int, ...] = ()
    if group_name:
        groups = parse_group(group)
        match = next((g for g in groups if g.name == group_name or (gid is not None and g.gid == gid)), None)
        if match is None and gid is None:
            raise DockerfileError(
                f"unable to find group {group_name}: no matching entries in group file",
                hint="make the group in an earlier step (groupadd, addgroup), or give a number",
            )
        found_gid = match.gid if match else checked(gid or 0, "group id")
    elif entry is not None:
        others = tuple(g.gid for g in parse_group(group) if entry.name in g.members)
    return User(found_uid, found_gid, tuple(dict.fromkeys((found_gid, *others))), home_of(found_uid, users))


def resolve_chown(text: str, passwd: bytes | None, group: bytes | None) -> tuple[int, int]:
    """``--chown``'s ``user[:group]``, names or numbers. Without a group: a name's primary group, a number's own value.
    ``DockerfileError`` for an unknown name."""
    name, colon, group_name = text.partition(":")
    uid = number(name)
    if uid is not None:
        found_uid = found_gid = checked(uid, "user id")
    elif not name:
        found_uid = found_gid = 0
    else:
        entry = next((u for u in parse_passwd(passwd) if u.name == name), None)
        if entry is None:
            raise DockerfileError(
                f"invalid user {name!r} in --chown: not in the image's /etc/passwd",
                hint="names are those of the image, not of this machine",
            )
        found_uid, found_gid = entry.uid, entry.gid
    if colon and group_name:
        gid = number(group_name)
        if gid is None:
            match = next((g for g in parse_group(group) if g.name == group_name), None)
            if match is None:
                raise DockerfileError(
                    f"invalid group {group_name!r} in --chown: not in the image's /etc/group",
                    hint="names are those of the image, not of this machine",
                )
            gid = match.gid
        found_gid = checked(gid, "group id")
    return found_uid, found_gid

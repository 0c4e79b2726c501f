"""COPY and the local part of ADD: from sources in a tree on disk to the entries of a layer.

Matches BuildKit's file operation: sources are rooted in their tree with ``..`` clamped, a source that is itself a symlink is
followed, a directory gives its contents, missing parents of the destination are made with mode 0755 and the owner asked for,
a directory that exists keeps its mode and owner when it is the destination itself and takes the source's below that.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pybuild.build.effects import join_workdir
from pybuild.dockerfile.modes import ModeChange
from pybuild.errors import ContextError, DockerfileError, Place

if TYPE_CHECKING:
    from pybuild._native.cancel import Cancel
    from pybuild._native.entries import EntryList
    from pybuild._native.fsops import DiskStat
    from pybuild._native.index import Index
    from pybuild._native.match import Matcher

_WILDCARD = re.compile(r"[*?\[\\]")


@dataclass(frozen=True, slots=True)
class SourceTree:
    """Files that can be copied from: a descriptor of the tree's root, what to call it in messages, the context's ignore rules.
    ``keep_owners`` is true for stages and images, false for a context, whose files belong to root."""

    fd: int
    title: str
    ignore: Matcher | None = None
    keep_owners: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """How copied files look: the owner (``None``: as the source tree says), a mode change, the time of directories that are made."""

    owner: tuple[int, int] | None
    mode: ModeChange | None
    now_ns: int

    @property
    def directory_mode(self) -> int:
        """The mode of directories that COPY has to make: an octal ``--chmod`` without its special bits, else 0755."""
        return self.mode.octal & 0o777 if self.mode is not None and self.mode.octal is not None else 0o755


@dataclass(slots=True)
class Destination:
    """The layer being collected, over the tree it lands on."""

    index: Index
    entries: EntryList
    place: Place
    made: set[str] = field(default_factory=set)

    def is_dir(self, path: str) -> bool:
        if path in self.made or not path:
            return True
        found = self.index.lookup(path)
        return found is not None and found.type == "dir"

    def make_dirs(self, path: str, placement: Placement) -> bool:
        """Make ``path`` (already resolved) and its missing parents; true when the last one is new."""
        if self.is_dir(path):
            return False
        if self.index.lookup(path) is not None:
            raise DockerfileError(f"cannot create directory /{path}: a file of that name is in the way", place=self.place)
        parent = posixpath.dirname(path)
        self.make_dirs(parent, placement)
        uid, gid = placement.owner or (0, 0)
        mode = placement.directory_mode
        above = self.index.lookup(parent)
        if above is not None and above.mode & 0o2000:
            # the kernel hands the set-group-id bit and the group of a directory on to what is made in it
            mode |= 0o2000
            if placement.owner is None:
                gid = above.gid
        self.entries.add(path, "dir", mode=mode, uid=uid, gid=gid, mtime_ns=placement.now_ns)
        self.made.add(path)
        return True


def destination_path(workdir: str, text: str) -> tuple[str, bool]:
    """The destination as an absolute path, and whether it must be a directory (it ends in ``/`` or is ``.``)."""
    must = text in ("", ".") or text.endswith(("/", "/."))
    return join_workdir(workdir, text), must


def expand_sources(tree: SourceTree, sources: Sequence[str], place: Place) -> list[str]:
    """Source texts to paths below the tree's root, in the order of the sources and by name within a pattern.

    A pattern that matches nothing is no error (as in BuildKit); a literal path that is missing is.
    """
    found: list[str] = []
    for text in sources:
        path = posixpath.normpath(posixpath.join("/", text)).lstrip("/")
        if _WILDCARD.search(path):
            found += match_wildcard(tree, path, place)
        else:
            found.append(path)
    return found


def match_wildcard(tree: SourceTree, pattern: str, place: Place) -> list[str]:
    """Paths that a pattern with wildcards matches: Go's ``filepath.Match``, one component at a time, links not followed on the way."""
    from pybuild._native import fsops
    from pybuild._native.match import go_match

    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if _WILDCARD.search(part))
    try:
        paths = [fsops.resolve(tree.fd, "/".join(parts[:fixed]))]
        for depth, part in enumerate(parts[fixed:], fixed):
            last = depth == len(parts) - 1
            step: list[str] = []
            for path in paths:
                try:
                    listing = fsops.listdir(tree.fd, path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                for name, kind in listing:
                    if (last or kind == "dir") and go_match(part, name):
                        step.append(posixpath.join(path, name))
            paths = step
    except ValueError as e:
        raise DockerfileError(f"bad source pattern {pattern!r}: {e}", place=place) from None
    return [p for p in paths if visible(tree, p)]


def visible(tree: SourceTree, path: str) -> bool:
    """Whether the ignore rules leave a path, or something below it, in the context."""
    if tree.ignore is None or not path or not tree.ignore.matches(path):
        return True
    return tree.ignore.may_reinclude(path)


def copy_into(
    destination: Destination,
    tree: SourceTree,
    sources: Sequence[str],
    target: str,
    *,
    must_be_dir: bool,
    placement: Placement,
    exclude: Matcher | None = None,
    cancel: Cancel | None = None,
) -> None:
    """Collect expanded ``sources`` (``expand_sources``) to the absolute path ``target``.

    Raises ``ContextError`` for a source that is missing, ``DockerfileError`` for a destination that cannot take it.
    """
    root = destination.entries.add_root(tree.fd)
    for source in sources:
        followed, stat = find(tree, source, destination.place)
        resolved = destination.index.resolve(target)
        destination.make_dirs(resolved if must_be_dir else posixpath.dirname(resolved), placement)
        if stat.type == "dir":
            copy_directory(destination, tree, root, followed, stat, resolved, placement, exclude, cancel)
        else:
            if destination.is_dir(resolved):
                resolved = posixpath.join(resolved, posixpath.basename(source))
            copy_file(destination, tree, root, followed, resolved, placement, exclude, cancel)


def find(tree: SourceTree, source: str, place: Place) -> tuple[str, DiskStat]:
    """A source's path with links followed, and its state; ``ContextError`` when it is missing or ignored."""
    from pybuild._native import fsops

    hint = f"paths are relative to the {tree.title}"
    if not visible(tree, source):
        raise ContextError(
            f"failed to get fileinfo for {source}: it is excluded by .dockerignore", place=place, hint="re-include it with a ! line"
        )
    try:
        followed = fsops.resolve(tree.fd, source)
        stat = fsops.lstat(tree.fd, followed)
    except OSError as e:
        raise ContextError(f"failed to get fileinfo for {source} in the {tree.title}: {e.strerror}", place=place) from None
    if stat is None:
        raise ContextError(f"failed to get fileinfo for {source}: no such file or directory: /{source}: not found", place=place, hint=hint)
    return followed, stat


def copy_directory(
    destination: Destination,
    tree: SourceTree,
    root: int,
    source: str,
    stat: DiskStat,
    target: str,
    placement: Placement,
    exclude: Matcher | None,
    cancel: Cancel | None,
) -> None:
    """The contents of a directory to ``target``, which keeps its own mode and owner when it is there."""
    new = destination.make_dirs(target, placement) or target in destination.made
    if target:
        uid, gid = placement.owner or (0, 0)
        mode = placement.directory_mode
        before = destination.index.lookup(target)
        if not new and before is not None:
            uid, gid, mode = before.uid, before.gid, before.mode
        elif new:
            above = destination.index.lookup(posixpath.dirname(target))
            if above is not None and above.mode & 0o2000:
                mode |= 0o2000
                gid = above.gid if placement.owner is None else gid
        destination.entries.add(target, "dir", mode=mode, uid=uid, gid=gid, mtime_ns=stat.mtime_ns)
    collect_into(destination, tree, root, source, target, placement, exclude, cancel)


def copy_file(
    destination: Destination,
    tree: SourceTree,
    root: int,
    source: str,
    target: str,
    placement: Placement,
    exclude: Matcher | None,
    cancel: Cancel | None,
) -> None:
    """One file, link or special file to the path ``target``."""
    if exclude is not None and exclude.matches(posixpath.basename(source)):
        return
    collect_into(destination, tree, root, source, target, placement, None, cancel)


def collect_into(
    destination: Destination,
    tree: SourceTree,
    root: int,
    source: str,
    target: str,
    placement: Placement,
    exclude: Matcher | None,
    cancel: Cancel | None,
) -> None:
    from pybuild._native.collect import collect

    owner: tuple[int | None, int | None] = placement.owner or ((None, None) if tree.keep_owners else (0, 0))
    try:
        collect(
            destination.entries,
            root,
            source,
            target,
            ignore=tree.ignore,
            exclude=exclude,
            uid=owner[0],
            gid=owner[1],
            mode=placement.mode,
            cancel=cancel,
        )
    except FileNotFoundError as e:
        raise ContextError(f"{e.filename} vanished from the {tree.title} while it was read", place=destination.place) from None
    except PermissionError as e:
        raise ContextError(f"cannot read {e.filename} in the {tree.title}: permission denied", place=destination.place) from None


def check_conflicts(destination: Destination) -> None:
    """Refuse what BuildKit refuses: a directory onto something else, something else onto a directory."""
    for path, there, new in destination.index.conflicts(destination.entries):
        if new == "dir":
            raise DockerfileError(
                f"cannot copy to non-directory: /{path} is a {there} in the image",
                place=destination.place,
                hint="remove it first, or copy elsewhere",
            )
        raise DockerfileError(f"cannot replace directory /{path} with a {new}", place=destination.place, hint="remove the directory first")

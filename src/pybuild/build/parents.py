"""``COPY --parents``: sources keep their directories below the destination.

``a/./b/c`` keeps only what follows the pivot ``/./``. ``**`` spans any number of components. A path without wildcards must exist.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.build.copy import _WILDCARD, Destination, Placement, SourceTree, collect_into, find, visible
from pybuild.errors import DockerfileError

if TYPE_CHECKING:
    from pybuild._native.cancel import Cancel
    from pybuild._native.match import Matcher


def copy_parents(
    destination: Destination,
    tree: SourceTree,
    sources: Sequence[str],
    target: str,
    placement: Placement,
    exclude: Matcher | None,
    cancel: Cancel | None,
) -> None:
    """Collect ``sources`` below the directory ``target`` with their parents' modes (and owners, from a stage or an image)."""
    root = destination.entries.add_root(tree.fd)
    resolved = destination.index.resolve(target)
    for text in sources:
        pivot, _, rest = text.partition("/./") if "/./" in text else ("", "", text)
        base = posixpath.normpath(posixpath.join("/", pivot)).lstrip("/")
        pattern = posixpath.normpath(posixpath.join("/", rest)).lstrip("/")
        for path in matching(tree, base, pattern, destination):
            full = posixpath.join(base, path) if base else path
            followed, stat = find(tree, full, destination.place)
            destination.make_dirs(resolved, placement)
            make_parents(destination, tree, base, path, resolved, placement)
            if exclude is not None and path and exclude.matches(path):
                continue
            goal = posixpath.join(resolved, path) if path else resolved
            if stat.type == "dir" and path and not destination.is_dir(goal):
                make_like(destination, tree, full, goal, placement)
            collect_into(destination, tree, root, followed, goal, placement, exclude, cancel)


def make_parents(destination: Destination, tree: SourceTree, base: str, path: str, resolved: str, placement: Placement) -> None:
    """The directories above ``path``, made like those of the source."""
    done = ""
    for part in path.split("/")[:-1]:
        done = posixpath.join(done, part)
        goal = posixpath.join(resolved, done)
        if not destination.is_dir(goal):
            make_like(destination, tree, posixpath.join(base, done), goal, placement)


def make_like(destination: Destination, tree: SourceTree, source: str, goal: str, placement: Placement) -> None:
    from pybuild._native import fsops

    stat = fsops.lstat(tree.fd, source)
    mode = stat.mode if stat is not None else 0o755
    owner = placement.owner or ((stat.uid, stat.gid) if tree.keep_owners and stat is not None else (0, 0))
    if placement.mode is not None:
        mode = placement.mode.apply(mode, True)
    destination.entries.add(
        goal, "dir", mode=mode, uid=owner[0], gid=owner[1], mtime_ns=stat.mtime_ns if stat is not None else placement.now_ns
    )
    destination.made.add(goal)


def matching(tree: SourceTree, base: str, pattern: str, destination: Destination) -> list[str]:
    """Paths below ``base`` that a pattern matches; a literal one is taken as it is."""
    if not _WILDCARD.search(pattern):
        return [pattern]
    try:
        return sorted(set(walk(tree, base, "", pattern.split("/"))))
    except ValueError as e:
        raise DockerfileError(f"bad source pattern {pattern!r}: {e}", place=destination.place) from None


def walk(tree: SourceTree, base: str, path: str, parts: list[str]) -> list[str]:
    """Matches of the components ``parts`` below ``path``; links are not followed on the way."""
    from pybuild._native import fsops
    from pybuild._native.match import go_match

    if not parts:
        return [path] if visible(tree, posixpath.join(base, path)) else []
    found: list[str] = []
    head, rest = parts[0], parts[1:]
    try:
        listing = fsops.listdir(tree.fd, posixpath.join(base, path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    if head == "**":
        if rest:
            found += walk(tree, base, path, rest)
        for name, kind in listing:
            below = posixpath.join(path, name)
            if not rest:
                found += walk(tree, base, below, [])
            elif kind == "dir":
                found += walk(tree, base, below, parts)
        return found
    for name, kind in listing:
        if go_match(head, name) and (not rest or kind == "dir"):
            found += walk(tree, base, posixpath.join(path, name), rest)
    return found

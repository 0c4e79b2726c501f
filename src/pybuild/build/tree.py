"""A stage's file system as the build sees it: an index always, a root on disk only when something needs one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybuild._native.cancel import Cancel
    from pybuild._native.entries import EntryList
    from pybuild._native.index import Index

#: Files of an image whose contents the builder itself reads; kept in memory when there is no root on disk.
KEPT_FILES = ("etc/passwd", "etc/group")
KEPT_LIMIT = 1 << 20


class Root:
    """A root file system on disk: its path and a directory descriptor, closed by ``close``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass(slots=True)
class Tree:
    """``index`` knows every path of the image so far. ``kept`` has the contents of ``KEPT_FILES`` while there is no ``root``."""

    index: Index
    root: Root | None = None
    kept: dict[str, bytes] = field(default_factory=dict)
    #: owners are set on disk too (needs privileges); in the index and the layers they always are
    owners: bool = True

    def copy(self) -> Tree:
        """The same files, without a root on disk."""
        kept = dict(self.kept)
        if self.root is not None:
            kept = {p: data for p in KEPT_FILES if (data := self.read(p)) is not None}
        return Tree(self.index.copy(), None, kept, self.owners)

    def read(self, path: str) -> bytes | None:
        """The contents of one of ``KEPT_FILES`` (symlinks followed within the image), ``None`` when it is missing."""
        from pybuild._native import fsops

        if self.root is None:
            return self.kept.get(path)
        try:
            return fsops.read_file(self.root.fd, path, KEPT_LIMIT)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def apply(self, entries: EntryList, cancel: Cancel | None = None) -> None:
        """Bring the entries of a new layer into the tree: on disk and into the index, or into the index alone."""
        if self.root is not None:
            from pybuild.rootfs.materialize import materialize

            materialize(entries, self.root.fd, self.index, owners=self.owners, cancel=cancel)
            return
        self.index.apply(entries)
        for path in KEPT_FILES:
            at = entries.find(path)
            if at >= 0:
                entry = entries[at]
                if entry.type == "file":
                    self.kept[path] = entries.read(at, KEPT_LIMIT)
                else:
                    self.kept.pop(path, None)


def names(paths: Sequence[str]) -> tuple[str, ...]:
    """Absolute or relative paths as layer paths: no leading or trailing slash."""
    return tuple(os.path.normpath(p).strip("/") for p in paths)

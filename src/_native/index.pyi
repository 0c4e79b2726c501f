"""The state of a root file system: path to metadata, about 115 bytes an entry with its name. Made from tar headers by extraction,
from the entries of layers (``apply``) or from the disk (``scan``).

Paths are relative to the root, without leading or trailing slash, the root itself is ``""``. Not for concurrent use."""

from collections.abc import Sequence
from typing import NamedTuple

from pybuild._native.cancel import Cancel
from pybuild._native.entries import EntryList

class Stat(NamedTuple):
    """One entry. ``size`` in bytes (of a symlink: of its target). ``nlink_group`` is the same number for all names of one
    hard-linked file, 0 for a file with one name."""

    type: str  # 'file' 'symlink' 'char' 'block' 'dir' 'fifo'
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: str
    rdev: tuple[int, int]
    nlink_group: int

class Index:
    def __init__(self) -> None:
        """An empty root: a directory 0755 of 0:0."""
    def copy(self) -> Index:
        """An independent copy (a copy of memory, some 10 ms for 300,000 entries)."""
    def lookup(self, path: str) -> Stat | None:
        """The entry of exactly this path; no symlink is followed, in no component."""
    def resolve(self, path: str, *, follow_last: bool = True) -> str:
        """The path with symlinks followed inside the root and ``..`` clamped to it. What does not exist is kept as it is written.
        ``OSError``: ELOOP after 40 links, ENAMETOOLONG past 32 KiB."""
    def children(self, path: str) -> list[tuple[str, str]]:
        """Names and types in a directory, sorted by name bytes. ``FileNotFoundError``, ``NotADirectoryError``."""
    def apply(self, entries: EntryList) -> None:
        """Bring a layer in, as unpacking it would: missing parents are directories 0755 of 0:0, parents that are symlinks are
        followed, another type replaces what is there, whiteouts and opaque marks remove what earlier layers have (in any order
        within the layer: image-spec, layer.md), hard links share their target's metadata.
        ``OSError``: ENOENT for a hard link to nothing, ENOTDIR, ELOOP, ENAMETOOLONG."""
    def scan(
        self,
        rootfd: int,
        *,
        mode: str = "redo",
        ignore: Sequence[str] = (),
        threads: int = 0,
        cancel: Cancel | None = None,
        owners: bool = True,
    ) -> EntryList:
        """Compare the disk with the index and return what changed as the entries of a layer, sorted; the index then has the new state.

        Added and changed entries refer to the files below ``rootfd``; of what was removed only the top-most path is there, as a
        whiteout. Sockets are no entries. Parents of changes are not included unless they changed themselves (see ``add_parents``).

        ``mode``: ``time`` looks at modification times alone. ``redo`` looks at mtime, size, mode, owner, link, device, and where ctime
        or the inode number moved also at extended attributes and, the rest being equal, at the contents, if their digest
        is known (else the file counts as changed). ``full`` also reads files whose ctime lies within a clock tick
        of the newest one in the index, all files on file systems whose ctimes are not to be trusted (network, FUSE, 9p), and takes
        digests of what changed.
        ``ignore``: paths that are not looked at, with all below them. ``threads``: 0 means one a core, at most 8.
        ``owners``: false when files on disk do not have the owners that they should have; new files are then of 0:0.
        ``OSError`` with errno and path; ECANCELED."""
    def refresh(self, rootfd: int, paths: Sequence[str]) -> None:
        """Take over what the disk has at these paths (not below them), after something else changed them on purpose."""
    def entries(
        self, rootfd: int, prefix: str = "", *, dest: str = "", owner: tuple[int, int] | None = None
    ) -> EntryList:
        """Everything at and below ``prefix`` as a layer, contents from below ``rootfd``, metadata from the index. The root itself is
        left out. Below ``dest`` when that is given; with ``owner``, everything has that one. ``FileNotFoundError`` without such a prefix."""
    def add_parents(self, entries: EntryList) -> None:
        """Add the directories that lead to the entries and are not among them, as the index has them, and sort."""
    def conflicts(self, entries: EntryList) -> list[tuple[str, str, str]]:
        """(path, type here, type there) where a directory would replace something else or something else a directory."""
    def settle(self) -> None:
        """Return when a change made from now on gets a later ctime than any in the index: at once, or after a clock tick (4 to 10 ms; up
        to a second where the file system keeps whole seconds)."""
    @property
    def count(self) -> int:
        """Entries, without the root."""
    @property
    def memory(self) -> int:
        """Bytes of memory held."""
    @property
    def newest_ctime_ns(self) -> int: ...

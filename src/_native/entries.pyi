"""The entries of one layer, compactly (about 100 bytes and the names each)."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

class LayerEntry(NamedTuple):
    """One entry as Python sees it (tests, small lists). Paths are relative to the image's root, without leading or
    trailing slash; the root itself is "". Bytes that are no UTF-8 are kept as surrogates (``os.fsdecode``)."""

    path: str
    type: str  # 'file' 'hardlink' 'symlink' 'char' 'block' 'dir' 'fifo' 'whiteout' 'opaque'
    mode: int
    uid: int
    gid: int
    size: int  # bytes
    mtime_ns: int
    link: str
    xattrs: dict[str, bytes]
    rdev: tuple[int, int]
    root: int  # -1: content inline
    source: str

class EntryList:
    def __init__(self) -> None: ...
    def add_root(self, fd: int) -> int:
        """Duplicate the directory descriptor (close-on-exec) and return its root number. ``OSError`` when that fails, ``ValueError`` past 254."""
    def add(
        self,
        path: str,
        type: str,
        *,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime_ns: int = 0,
        link: str = "",
        xattrs: Mapping[str, bytes] | None = None,
        rdev: tuple[int, int] = (0, 0),
        root: int = -1,
        source: str = "",
        data: bytes | None = None,
    ) -> None:
        """Append one entry. A file has either ``data`` (inline; size is its length) or ``root`` and ``source``, a path below that root.
        The ``link`` of a hard link is the path of the entry with the content, never of another hard link."""
    def extend(self, other: EntryList) -> None:
        """Append all entries of another list, with their roots."""
    def sort(self) -> None:
        """Order for a tar stream: whiteouts and opaque marks first, then by path bytes component-wise, so that parents precede
        children. A hard link whose target sorts after it changes places with it, so that the first of the names holds the content.
        Of several entries for one path the last added wins; names that were linked to an earlier one keep its content."""
    def find(self, path: str) -> int:
        """The position of the last entry added for a path, or -1."""
    def read(self, i: int, limit: int) -> bytes:
        """The contents of the regular file at position ``i``; ``OSError`` EFBIG past ``limit`` bytes."""
    def __len__(self) -> int: ...
    def __getitem__(self, i: int) -> LayerEntry: ...
    def __iter__(self) -> Iterator[LayerEntry]: ...
    @property
    def total_size(self) -> int:
        """Sum of the sizes of regular files, in bytes."""
    @property
    def memory(self) -> int:
        """Bytes of memory held."""

"""Small operations below a root directory's descriptor. Symlinks are followed inside the root; ``..`` never leaves it."""

from typing import NamedTuple

class DiskStat(NamedTuple):
    """``size`` in bytes, times in ns; ``link`` is a symlink's target."""

    type: str  # 'file' 'dir' 'symlink' 'char' 'block' 'fifo' 'socket'
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    dev: int
    nlink: int
    rdev: tuple[int, int]
    link: str

def open_root(path: str) -> int:
    """A descriptor of a directory (close-on-exec). ``OSError``."""

def resolve(rootfd: int, path: str, *, follow_last: bool = True) -> str:
    """The path with symlinks followed inside the root; what does not exist is kept as it is written. ``OSError`` ELOOP after 40 links."""

def lstat(rootfd: int, path: str) -> DiskStat | None:
    """The state of a path, parents followed, the last component not; ``None`` when it is missing."""

def listdir(rootfd: int, path: str) -> list[tuple[str, str]]:
    """Names and types ('file' 'dir' 'symlink' 'other') in a directory, sorted by name bytes. ``FileNotFoundError``, ``NotADirectoryError``."""

def read_file(rootfd: int, path: str, limit: int) -> bytes:
    """A regular file's contents; ``OSError`` EFBIG past ``limit`` bytes."""

def remove_tree(parent_fd: int, name: str) -> None:
    """Remove an entry of a directory with all below it; one that is missing is no error. Links are not followed, closed directories
    are opened. Nothing that is mounted there or below is touched: ``OSError`` EBUSY with the name, as any other failure."""

"""The entries of a layer from a directory tree on disk."""

from pybuild._native.cancel import Cancel
from pybuild._native.entries import EntryList
from pybuild._native.match import Matcher
from pybuild.dockerfile.modes import ModeChange

def collect(
    entries: EntryList,
    root: int,
    source: str,
    dest: str,
    *,
    ignore: Matcher | None = None,
    exclude: Matcher | None = None,
    uid: int | None = None,
    gid: int | None = None,
    mode: ModeChange | None = None,
    cancel: Cancel | None = None,
) -> int:
    """Append what is at ``source`` (a path below source root number ``root``, without symlinks in it) as entries at ``dest``.

    A directory gives its contents, itself not; anything else gives one entry. Modes, times and extended attributes are kept, the
    owner too where ``uid`` or ``gid`` is None; ``mode`` changes the modes of files and directories. Names of one inode become
    hard links; sockets are left out; symlinks are never followed. ``ignore`` is matched against the path below the root,
    ``exclude`` against the path below the source. Returns the number of entries. ``OSError`` with errno and path, ECANCELED
    included; the list is then as it was before.
    """

"""The tar stream of a layer, made from its entries without the interpreter lock."""

from typing_extensions import Buffer

from pybuild._native.cancel import Cancel
from pybuild._native.entries import EntryList

class TarWriter:
    """Writes ustar headers, and PAX records where those cannot hold a value (long names, large ids and sizes, times with a fraction,
    extended attributes). Owner names are empty, there are no access or change times: the same entries give the same bytes.
    Whiteouts are ``.wh.NAME``, opaque marks ``.wh..wh..opq`` (image-spec, layer.md)."""

    files: int  # regular files begun so far
    bytes_read: int  # bytes of their contents so far
    def __init__(self, entries: EntryList, *, clamp_mtime_ns: int = -1, cancel: Cancel | None = None) -> None:
        """``entries`` must be sorted and must not change any more. No time is later than ``clamp_mtime_ns`` unless that is negative."""
    def read_into(self, buffer: Buffer) -> int:
        """Fill a writable buffer with the next bytes; how many, 0 at the end of the stream.

        Files are read as they are when their turn comes: one that has grown since is written whole. ``OSError`` with errno and the
        layer's path: a file that is gone, is reached by a symlink now (ELOOP), is none any more or becomes shorter while it is read (EIO), ECANCELED."""

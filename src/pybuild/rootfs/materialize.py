"""Entries of a layer onto a root on disk: the layer's own tar stream, unpacked as any other layer would be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild._native.tar import TarWriter
from pybuild._native.untar import Extractor
from pybuild.errors import ArchiveError

if TYPE_CHECKING:
    from pybuild._native.cancel import Cancel
    from pybuild._native.entries import EntryList
    from pybuild._native.index import Index

CHUNK = 1 << 20


def materialize(entries: EntryList, rootfd: int, index: Index, *, owners: bool = True, cancel: Cancel | None = None) -> None:
    """Write sorted entries below ``rootfd`` and bring them into the index, inode numbers and content digests included; blocking.

    ``owners`` false: the disk keeps this process's owner, the index has the right one. ``OSError`` with the path, ECANCELED.
    """
    writer = TarWriter(entries, cancel=cancel)
    extractor = Extractor(index, rootfd, owners=owners, devices=owners)
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    try:
        while count := writer.read_into(buffer):
            extractor.feed(view[:count])
        extractor.finish()
    except ValueError as e:
        raise ArchiveError(f"the layer cannot be written to the root: {e}") from None

"""Unpacks tar streams: layers of images and archives of a context. Reads the format itself, see tar_header.h for its sources."""

from collections.abc import Sequence

from typing_extensions import Buffer

from pybuild._native.index import Index

class Extractor:
    """Takes a tar stream in pieces and brings its entries into an index and, with ``rootfd``, onto the disk below that directory.

    Nothing is written outside of ``rootfd``, whatever names and links the stream has: names are cleaned and clamped, links in parents are
    resolved by the index inside the root, and the disk is reached through descriptors of directories opened with
    ``openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)``.

    What the disk cannot have without privileges is kept in the index only: owners (``owners=False``), devices (``devices=False``, or where
    the kernel refuses them) and, for others than root, extended attributes. ``whiteouts``: names that begin with ``.wh.`` remove what lower
    layers have (image-spec, layer.md), in any order within the layer. ``strict``: a name or link that leads out of the archive is an
    error; otherwise it is clamped to the root. ``skip``: paths that are left alone with all below them, also by whiteouts.
    ``dest``: everything goes below this path. ``keep``: the contents of these regular files (at most 1 MiB each) go to ``kept``.
    """

    def __init__(
        self,
        index: Index,
        rootfd: int = -1,
        *,
        whiteouts: bool = True,
        strict: bool = False,
        skip: Sequence[str] = (),
        owners: bool = True,
        devices: bool = True,
        dest: str = "",
        keep: Sequence[str] = (),
    ) -> None: ...
    def feed(self, data: Buffer) -> None:
        """The next bytes of the stream, in any chunking; large pieces (64 KiB and more) are best. Releases the interpreter lock.

        ``ValueError`` for a malformed or unsafe stream, ``OSError`` with errno and path for what the disk refuses. After an error the
        extractor takes nothing more. What follows the end of the archive (two blocks of zeros) is ignored."""
    def finish(self) -> None:
        """The stream is over: sets modes and times of directories. ``ValueError`` when it ended too early."""
    @property
    def kept(self) -> dict[str, bytes]: ...
    @property
    def files(self) -> int:
        """Entries of any type so far."""
    @property
    def bytes(self) -> int:
        """Bytes of file contents so far."""

"""Layers and archives as streams: decompressed in one thread, hashed in a second, unpacked in a third, with a few MiB between them."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from pybuild.errors import ArchiveError, DigestError, StorageError

if TYPE_CHECKING:
    from pybuild._native.cancel import Cancel
    from pybuild._native.untar import Extractor

#: Bytes read and handed on at once, and how many such pieces may wait for one consumer.
PIECE = 1 << 20
WAITING = 6

#: The largest zstd window that is accepted, as in containerd and the zstd command: 128 MiB.
ZSTD_WINDOW = 1 << 27


class Source(Protocol):
    """Compressed bytes: ``read`` blocks, and returns nothing at the end."""

    def read(self, n: int, /) -> bytes: ...


class Consumer(threading.Thread):
    """Feeds pieces to a function. After its first error it takes and drops what comes, so that nobody waits for it."""

    def __init__(self, name: str, take: Callable[[bytes], object]) -> None:
        super().__init__(name=name, daemon=True)
        self._take = take
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._room = threading.Semaphore(WAITING)
        self.error: BaseException | None = None

    def put(self, piece: bytes) -> None:
        self._room.acquire()
        self._queue.put(piece)

    def end(self) -> None:
        """Wait until everything is taken."""
        self._queue.put(None)
        self.join()

    def run(self) -> None:
        while (piece := self._queue.get()) is not None:
            if self.error is None:
                try:
                    self._take(piece)
                except BaseException as e:
                    self.error = e
            self._room.release()


def extract_layer(
    source: Source,
    media_type: str,
    diff_id: str | None,
    extractor: Extractor,
    *,
    cancel: Cancel | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Unpack one layer blob and finish the extractor.

    The compression is told by the stream's first bytes (gzip, also of several members; zstd; none), as containerd does;
    ``media_type`` is for messages. ``diff_id``: the sha256 that the uncompressed stream must have. ``progress`` gets the number of
    uncompressed bytes of each piece. Raises ``ArchiveError`` (damaged, truncated, unsafe), ``DigestError``, ``StorageError``
    (the disk refused something), ``OSError`` ECANCELED, and whatever ``source.read`` raises.
    """
    unpack = Consumer("unpack", extractor.feed)
    consumers = [unpack]
    digest = None
    if diff_id is not None:
        algorithm, _, wanted = diff_id.partition(":")
        if algorithm not in ("sha256", "sha384", "sha512") or not wanted:
            raise DigestError(f"unknown digest {diff_id!r}")
        digest = hashlib.new(algorithm)
        consumers.append(Consumer("digest", digest.update))
    pump(decompressed(source), consumers, cancel, progress)
    if digest is not None and digest.hexdigest() != wanted:
        raise DigestError(f"layer has the diff ID {digest.name}:{digest.hexdigest()}, but the image says {diff_id}")
    finish(extractor, media_type)


def extract_archive(source: Source, head: bytes, extractor: Extractor, *, cancel: Cancel | None = None) -> None:
    """Unpack an archive of a context: like ``extract_layer``, but bzip2 and xz are understood too and nothing is known of its digest.

    ``head``: the first bytes of the stream (which still begins with them)."""
    pump(decompressed(source, head), [Consumer("unpack", extractor.feed)], cancel, None)
    finish(extractor, "")


def pump(
    pieces: Iterator[bytes], consumers: list[Consumer], cancel: Cancel | None, progress: Callable[[int], None] | None
) -> None:
    """Hand every piece to every consumer; raises the first error of anybody."""
    for consumer in consumers:
        consumer.start()
    try:
        for piece in pieces:
            if cancel is not None and cancel.is_set:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            if any(consumer.error for consumer in consumers):
                break
            for consumer in consumers:
                consumer.put(piece)
            if progress is not None:
                progress(len(piece))
    finally:
        for consumer in consumers:
            consumer.end()
    for consumer in consumers:
        if consumer.error is not None:
            raise translated(consumer.error) from None


def finish(extractor: Extractor, media_type: str) -> None:
    try:
        extractor.finish()
    except (ValueError, OSError) as e:
        raise translated(e, media_type) from None


def translated(error: BaseException, media_type: str = "") -> BaseException:
    """The extractor's errors as those that a user is shown."""
    if isinstance(error, ValueError):
        return ArchiveError(f"{error}{f' in a layer of type {media_type}' if media_type else ''}")
    if isinstance(error, OSError) and error.errno != errno.ECANCELED:
        hint = (
            "free some space, or give the build another directory"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else ""
        )
        return StorageError(f"cannot unpack /{error.filename or ''}: {error.strerror}", hint=hint)
    return error


def decompressed(source: Source, head: bytes | None = None) -> Iterator[bytes]:
    """The plain stream in pieces of at most ``PIECE`` bytes. ``head``: as in ``extract_archive``."""
    first = source.read(PIECE)
    while first and len(first) < 6 and (more := source.read(PIECE)):
        first += more
    if first.startswith(b"\x1f\x8b"):
        return gunzip(first, source)
    if first[:4] == b"\x28\xb5\x2f\xfd" or (first[1:4] == b"\x2a\x4d\x18" and first[0] & 0xF0 == 0x50):
        return unzstd(first, source)
    if head is not None and first.startswith(b"BZh"):
        import bz2

        return inflate(first, source, bz2.BZ2Decompressor, "bzip2")
    if head is not None and first.startswith(b"\xfd7zXZ\x00"):
        import lzma

        # a stream that needs more memory than xz's own largest preset is refused
        return inflate(first, source, lambda: lzma.LZMADecompressor(memlimit=256 << 20), "xz")
    return plain(first, source)


def plain(piece: bytes, source: Source) -> Iterator[bytes]:
    while piece:
        yield piece
        piece = source.read(PIECE)


def gunzip(first: bytes, source: Source) -> Iterator[bytes]:
    from isal import igzip_lib

    return inflate(first, source, lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), "gzip")


def inflate(data: bytes, source: Source, new: Callable[[], Any], name: str) -> Iterator[bytes]:
    """One compressed member after the other, until the source ends; zeros after a member are padding."""
    decompressor = new()
    while True:
        try:
            piece = decompressor.decompress(data, PIECE)
        except Exception as e:
            if isinstance(e, MemoryError):
                raise
            raise ArchiveError(f"damaged {name} stream: {e}") from None
        if piece:
            yield piece
        data = b""
        if decompressor.eof:
            data = decompressor.unused_data.lstrip(b"\0")
            while not data:
                data = source.read(PIECE)
                if not data:
                    return
                data = data.lstrip(b"\0")
            decompressor = new()
        elif decompressor.needs_input:
            data = source.read(PIECE)
            if not data:
                raise ArchiveError(f"truncated {name} stream")


class Joined:
    """A source whose first bytes were read already."""

    def __init__(self, first: bytes, source: Source) -> None:
        self._first = first
        self._source = source

    def read(self, n: int) -> bytes:
        if self._first:
            piece, self._first = self._first[:n], self._first[n:]
            return piece
        return self._source.read(n)


def unzstd(first: bytes, source: Source) -> Iterator[bytes]:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    try:
        joined: Any = Joined(first, source)
        with decompressor.stream_reader(joined, read_size=PIECE, read_across_frames=True, closefd=False) as reader:
            while piece := reader.read(PIECE):
                yield piece
    except zstandard.ZstdError as e:
        raise ArchiveError(f"damaged zstd stream: {e}") from None

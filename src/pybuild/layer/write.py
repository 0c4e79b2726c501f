"""A layer's entries to a blob: tar, both digests and compression in one pass, with memory that does not grow with the layer.

    tar writer ─┬─► sha256 of the tar
                └─► block compressors (threads) ─► sha256 of the blob, file
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from pybuild.layer.compress import BLOCK, GZIP_HEADER, GZIP_LEVEL, WINDOW, ZSTD_LEVEL, gzip_block, gzip_end, zstd_block
from pybuild.layer.types import Compression, Layer
from pybuild.oci.blobs import BlobStore
from pybuild.oci.descriptor import Descriptor

if TYPE_CHECKING:
    from pybuild._native.cancel import Cancel
    from pybuild._native.entries import EntryList

MAX_THREADS = 16


def write_layer(
    entries: EntryList,
    blobs: BlobStore,
    compression: Compression,
    *,
    media_type: str,
    threads: int,
    clamp_mtime_ns: int = -1,
    cancel: Cancel | None = None,
    progress: Callable[[int], None] | None = None,
) -> Layer:
    """Write sorted entries as a layer into the store; blocking. ``threads`` compress at the same time; the bytes are the same
    for any number of them. ``progress`` is called with the bytes of tar done so far.

    Raises ``OSError`` with the path (a file that vanished or shrank, no space left, ECANCELED). Nothing stays in the store then.
    """
    fd, temporary = blobs.temp()
    try:
        with os.fdopen(fd, "wb", buffering=0) as out:
            stream = _Stream(entries, out.fileno(), compression, max(1, min(threads, MAX_THREADS)), clamp_mtime_ns, cancel, progress)
            try:
                stream.run()
            except OSError as e:
                # what failed without a file's name is the write: a full disk has to be told by its place
                if e.filename is None and e.errno != errno.ECANCELED:
                    e.filename = blobs.path_
                raise
        digest = f"sha256:{stream.blob_hash.hexdigest()}"
        blobs.commit(temporary, digest)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return Layer(
        Descriptor(media_type, digest, stream.blob_size), f"sha256:{stream.tar_hash.hexdigest()}", stream.tar_size, len(entries)
    )


class _Stream:
    """One layer on its way. The caller's thread reads files and writes the blob; a pool hashes and compresses."""

    def __init__(
        self,
        entries: EntryList,
        out: int,
        compression: Compression,
        threads: int,
        clamp_mtime_ns: int,
        cancel: Cancel | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        from pybuild._native.tar import TarWriter

        self.tar = TarWriter(entries, clamp_mtime_ns=clamp_mtime_ns, cancel=cancel)
        self.out = out
        self.kind = compression.kind
        self.threads = threads
        self.cancel = cancel
        self.progress = progress
        self.tar_hash = hashlib.sha256()
        self.blob_hash = hashlib.sha256()
        self.tar_size = 0
        self.blob_size = 0
        self.crc = 0
        level = compression.level
        if self.kind == "gzip":
            self.compress = gzip_block(level if level > 0 else GZIP_LEVEL)
        elif self.kind == "zstd":
            self.compress = zstd_block(level if level > 0 else ZSTD_LEVEL)
        else:
            self.compress = lambda block, window: bytes(block)

    def run(self) -> None:
        free = [bytearray(BLOCK) for _ in range(self.threads + 2)]
        waiting: deque[tuple[bytearray, Future[None], Future[bytes]]] = deque()
        window = b""
        if self.kind == "gzip":
            self.emit(GZIP_HEADER)
        with ThreadPoolExecutor(self.threads, "compress") as pool, ThreadPoolExecutor(1, "sha256") as hasher:
            try:
                while True:
                    if not free:
                        free.append(self.finish(waiting.popleft()))
                    block = free.pop()
                    count = self.tar.read_into(block)
                    if not count:
                        break
                    view = memoryview(block)[:count]
                    hashed = hasher.submit(self.hash, view)
                    waiting.append((block, hashed, pool.submit(self.compress, view, window)))
                    if self.kind == "gzip":
                        window = bytes(view[-WINDOW:])
                    self.tar_size += count
                    if self.progress is not None:
                        self.progress(self.tar_size)
                while waiting:
                    self.finish(waiting.popleft())
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                hasher.shutdown(wait=True, cancel_futures=True)
                raise
        if self.kind == "gzip":
            self.emit(gzip_end(self.crc, self.tar_size))

    def hash(self, view: memoryview) -> None:
        from isal import isal_zlib

        self.tar_hash.update(view)
        if self.kind == "gzip":
            self.crc = isal_zlib.crc32(view, self.crc)

    def finish(self, item: tuple[bytearray, Future[None], Future[bytes]]) -> bytearray:
        """Write a block in its turn; its buffer is free then."""
        block, hashed, compressed = item
        self.emit(compressed.result())
        hashed.result()
        return block

    def emit(self, data: bytes) -> None:
        if self.cancel is not None and self.cancel.is_set:
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
        self.blob_hash.update(data)
        self.blob_size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self.out, view) :]

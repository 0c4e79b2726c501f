"""Block compressors: bytes that depend on the input and the level alone, never on how many threads work."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

BLOCK = 1 << 20
WINDOW = 32 * 1024
GZIP_LEVEL = 1
ZSTD_LEVEL = 3
#: gzip header without name and time; the operating system byte is "unknown"
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

#: (block, the 32 KiB before it) to compressed bytes; called in any thread
BlockCompressor = Callable[[memoryview, bytes], bytes]


def gzip_block(level: int) -> BlockCompressor:
    """Raw deflate of one block with the previous window as dictionary, ended on a byte boundary, so that blocks can be joined.

    Levels up to 2 are ISA-L's, whose bytes are the same on every processor with SSE 4; above that zlib's.
    """
    if level <= 2:
        from isal import isal_zlib

        def with_isal(block: memoryview, window: bytes) -> bytes:
            made = isal_zlib.compressobj(level, isal_zlib.DEFLATED, -15, zdict=window) if window else isal_zlib.compressobj(level, isal_zlib.DEFLATED, -15)
            return bytes(made.compress(block)) + bytes(made.flush(isal_zlib.Z_SYNC_FLUSH))

        return with_isal

    def with_zlib(block: memoryview, window: bytes) -> bytes:
        made = zlib.compressobj(level, zlib.DEFLATED, -15, 9, zdict=window) if window else zlib.compressobj(level, zlib.DEFLATED, -15, 9)
        return made.compress(block) + made.flush(zlib.Z_SYNC_FLUSH)

    return with_zlib


def gzip_end(crc: int, size: int) -> bytes:
    """The last, empty deflate block and the member's trailer."""
    return b"\x03\x00" + struct.pack("<II", crc & 0xFFFFFFFF, size & 0xFFFFFFFF)


def zstd_block(level: int) -> BlockCompressor:
    """One zstd frame a block, with its size and checksum; frames can be joined."""
    import threading

    import zstandard

    local = threading.local()

    def with_zstd(block: memoryview, window: bytes) -> bytes:
        compressor = getattr(local, "compressor", None)
        if compressor is None:
            compressor = local.compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
        return bytes(compressor.compress(block))

    return with_zstd

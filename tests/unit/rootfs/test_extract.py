"""Layers as streams: compressions, digests, what goes wrong on the way."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import random
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pybuild._native.cancel import Cancel
from pybuild._native.index import Index
from pybuild._native.untar import Extractor
from pybuild.errors import ArchiveError, DigestError, RegistryError, StorageError
from pybuild.rootfs.extract import extract_archive, extract_layer

CONTENT = random.Random(3).randbytes(1 << 20) + bytes(2 << 20)


def archive() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for i in range(3):
            info = tarfile.TarInfo(f"d/f{i}")
            info.size = len(CONTENT)
            tar.addfile(info, io.BytesIO(CONTENT))
    return stream.getvalue()


PLAIN = archive()
DIFF_ID = "sha256:" + hashlib.sha256(PLAIN).hexdigest()
HALF = len(PLAIN) // 2


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(data)


class Trickle:
    """A source that gives what it likes, as a network does; may end in an error."""

    def __init__(self, data: bytes, most: int, error: BaseException | None = None) -> None:
        self.data, self.most, self.error, self.at = data, most, error, 0

    def read(self, n: int, /) -> bytes:
        piece = self.data[self.at : self.at + min(n, self.most)]
        self.at += len(piece)
        if not piece and self.error is not None:
            raise self.error
        return piece


def unpack(
    data: bytes, *, diff_id: str | None = DIFF_ID, most: int = 1 << 20, root: Path | None = None, **options: object
) -> Index:
    index = Index()
    fd = os.open(root, os.O_RDONLY) if root is not None else -1
    try:
        extract_layer(Trickle(data, most), "application/x-test", diff_id, Extractor(index, fd), **options)  # type: ignore[arg-type]
    finally:
        if fd >= 0:
            os.close(fd)
    return index


COMPRESSIONS: dict[str, Callable[[], bytes]] = {
    "plain": lambda: PLAIN,
    "gzip": lambda: gzip.compress(PLAIN, 1),
    "gzip, best": lambda: gzip.compress(PLAIN[:100_000], 9) + gzip.compress(PLAIN[100_000:], 1),
    "gzip, many members": lambda: b"".join(
        gzip.compress(PLAIN[i : i + 400_000], 1) for i in range(0, len(PLAIN), 400_000)
    ),
    "gzip, an empty member": lambda: gzip.compress(b"") + gzip.compress(PLAIN, 1) + gzip.compress(b""),
    "gzip, padded with zeros": lambda: gzip.compress(PLAIN, 1) + bytes(3000),
    "gzip, member, zeros, member": lambda: gzip.compress(PLAIN[:HALF], 1) + bytes(100) + gzip.compress(PLAIN[HALF:], 1),
    "zstd": lambda: zstd(PLAIN),
    "zstd, two frames": lambda: zstd(PLAIN[:HALF]) + zstd(PLAIN[HALF:]),
    "zstd, a skippable frame": lambda: b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstd(PLAIN),
}


@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("most", [1 << 20, 4093])
def test_compressions(tmp_path: Path, name: str, most: int) -> None:
    counted: list[int] = []
    index = unpack(COMPRESSIONS[name](), most=most, root=tmp_path, progress=counted.append)
    assert index.count == 4
    assert all((tmp_path / f"d/f{i}").read_bytes() == CONTENT for i in range(3))
    assert sum(counted) == len(PLAIN)


def test_an_empty_layer() -> None:
    assert unpack(gzip.compress(bytes(1024)), diff_id=None).count == 0
    assert unpack(bytes(1024), diff_id="sha256:" + hashlib.sha256(bytes(1024)).hexdigest()).count == 0


@pytest.mark.parametrize("name", ["gzip", "gzip, many members", "zstd"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_truncated(name: str, part: float) -> None:
    data = COMPRESSIONS[name]()
    with pytest.raises((ArchiveError, DigestError)) as caught:
        unpack(data[: int(len(data) * part)])
    if name == "gzip":
        assert "truncated gzip stream" in str(caught.value)


def test_damaged_gzip() -> None:
    data = bytearray(COMPRESSIONS["gzip"]())
    data[len(data) // 2] ^= 0x55
    with pytest.raises((ArchiveError, DigestError)):
        unpack(bytes(data))
    checksum = bytearray(COMPRESSIONS["gzip"]())
    checksum[-6] ^= 1
    with pytest.raises(ArchiveError, match="damaged gzip"):
        unpack(bytes(checksum))
    with pytest.raises(ArchiveError, match="damaged gzip"):
        unpack(COMPRESSIONS["gzip"]() + b"garbage that is no member")


def test_damaged_zstd() -> None:
    data = bytearray(zstd(os.urandom(500_000)))
    data[5:20] = bytes(15)
    with pytest.raises((ArchiveError, DigestError)):
        unpack(bytes(data))


def test_a_zstd_window_that_is_too_large_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=30, enable_ldm=False)
    data = zstandard.ZstdCompressor(compression_params=parameters).compressobj().compress(b"")
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = stream.compress(PLAIN) + stream.flush()
    with pytest.raises(ArchiveError, match="zstd"):
        unpack(data)


def test_another_diff_id() -> None:
    with pytest.raises(DigestError, match=f"{DIFF_ID}.*sha256:0000"):
        unpack(PLAIN, diff_id="sha256:" + "0" * 64)
    with pytest.raises(DigestError, match="unknown digest"):
        unpack(PLAIN, diff_id="md5:00")


def test_what_follows_the_archive_counts_for_the_digest() -> None:
    with pytest.raises(DigestError):
        unpack(gzip.compress(PLAIN + b"more", 1))


def test_no_archive() -> None:
    for data in (b"<html>not found</html>" * 100, gzip.compress(b"x" * 5000)):
        with pytest.raises(ArchiveError, match="no tar archive"):
            unpack(data, diff_id=None)


def test_a_truncated_archive_names_the_layer() -> None:
    with pytest.raises(ArchiveError, match=r"ends too early .*in a layer of type application/x-test"):
        unpack(PLAIN[:2_000_000], diff_id=None)


def test_the_sources_error_comes_through() -> None:
    data = COMPRESSIONS["gzip"]()
    with pytest.raises(RegistryError, match="connection lost"):
        extract_layer(Trickle(data[:1000], 500, RegistryError("connection lost")), "", DIFF_ID, Extractor(Index()))


def test_an_unsafe_archive_ends_early(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../evil"))
    source = Trickle(stream.getvalue() + PLAIN * 20, 1 << 20)
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(ArchiveError, match="leads out of the archive"):
        extract_layer(source, "", None, Extractor(Index(), fd, strict=True))
    os.close(fd)
    assert source.at < len(source.data)
    assert not list(tmp_path.iterdir())


def test_what_the_disk_refuses(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts a small file system")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
    try:
        with pytest.raises(StorageError, match=r"cannot unpack /d/f0: No space left on device .*free some space"):
            unpack(PLAIN, root=tmp_path)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_cancelling() -> None:
    cancel = Cancel()
    seen = 0

    def progress(n: int) -> None:
        nonlocal seen
        seen += n
        cancel.set()

    with pytest.raises(OSError) as caught:
        unpack(PLAIN, cancel=cancel, progress=progress)
    assert caught.value.errno == errno.ECANCELED
    assert seen < len(PLAIN)


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """A GiB of zeros in a MiB: unpacked in constant memory."""
    script = """
import gzip, resource, sys
sys.path.insert(0, "src")
from pybuild._native.index import Index
from pybuild._native.untar import Extractor
from pybuild.rootfs.extract import extract_layer
extractor = Extractor(Index())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
extract_layer(open(sys.argv[1], "rb"), "", None, extractor)
print(extractor.bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    path = tmp_path / "bomb.gz"
    header = tarfile.TarInfo("zeros")
    header.size = 512 << 20
    with gzip.open(path, "wb", 1) as f:
        f.write(header.tobuf())
        for _ in range(512):
            f.write(bytes(1 << 20))
        f.write(bytes(1024))
    import sys

    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    size, grown = map(int, done.stdout.split())
    assert size == 512 << 20
    assert grown < 40_000  # KiB


@pytest.mark.parametrize("name", ["plain", "gzip", "bzip2", "xz", "zstd"])
def test_archives_of_a_context(tmp_path: Path, name: str) -> None:
    small = PLAIN
    data = {
        "plain": small,
        "gzip": gzip.compress(small),
        "bzip2": bz2.compress(small, 1),
        "xz": lzma.compress(small, preset=0),
        "zstd": zstd(small),
    }[name]
    fd = os.open(tmp_path, os.O_RDONLY)
    index = Index()
    extract_archive(io.BytesIO(data), data[:512], Extractor(index, fd, whiteouts=False, strict=True))
    os.close(fd)
    assert index.count == 4
    assert (tmp_path / "d/f2").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["bzip2", "xz"])
def test_truncated_archives_of_a_context(name: str) -> None:
    data = {"bzip2": bz2.compress(PLAIN[:50_000]), "xz": lzma.compress(PLAIN[:50_000])}[name]
    with pytest.raises(ArchiveError, match=f"truncated {name} stream"):
        extract_archive(io.BytesIO(data[:-20]), data[:512], Extractor(Index()))

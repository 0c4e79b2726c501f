"""Layers as blobs: the same bytes however they were made, and readable by everyone else's tools."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from pybuild._native.cancel import Cancel
from pybuild._native.entries import EntryList
from pybuild.layer.types import Compression, Layer
from pybuild.layer.write import write_layer
from pybuild.oci.blobs import BlobStore
from pybuild.oci.descriptor import OCI_LAYER_GZIP

#: more than three blocks, the middle of it without any redundancy
BIG = b"pybuild " * 100_000 + random.Random(7).randbytes(2 << 20) + bytes(700_001)
KINDS: list[Literal["gzip", "zstd", "none"]] = ["gzip", "zstd", "none"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    found = tmp_path / "source"
    found.mkdir()
    (found / "big").write_bytes(BIG)
    return found


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "store"))


def entries_of(source: Path) -> EntryList:
    found = EntryList()
    fd = os.open(source, os.O_RDONLY)
    try:
        root = found.add_root(fd)
    finally:
        os.close(fd)
    found.add("d", "dir", mode=0o755)
    found.add("d/big", "file", mode=0o644, size=len(BIG), root=root, source="big", mtime_ns=1_700_000_000_000_000_000)
    found.add("d/small", "file", mode=0o600, data=b"hello\n")
    found.add("d/empty", "file", mode=0o600, data=b"")
    found.sort()
    return found


def write(entries: EntryList, store: BlobStore, kind: Literal["gzip", "zstd", "none"] = "gzip", threads: int = 2, level: int = -1) -> Layer:
    return write_layer(entries, store, Compression(kind, level), media_type=OCI_LAYER_GZIP, threads=threads)


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def files_in(store: BlobStore) -> list[str]:
    return [name for _, _, names in os.walk(store.path_) for name in names]


def unpacked(path: str, kind: str) -> bytes:
    command = {"gzip": ["gzip", "-dc"], "zstd": ["zstd", "-dcq"], "none": ["cat"]}[kind]
    return subprocess.run(command, stdin=open(path, "rb"), check=True, capture_output=True).stdout


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [-1, 6])
def test_any_number_of_threads_gives_the_same_bytes(kind: Literal["gzip", "zstd", "none"], level: int, source: Path, tmp_path: Path) -> None:
    made = [write(entries_of(source), BlobStore(str(tmp_path / str(n))), kind, n, level) for n in (1, 2, 4)]
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize("kind", KINDS)
def test_digests_and_sizes_are_those_of_the_bytes(kind: Literal["gzip", "zstd", "none"], source: Path, store: BlobStore) -> None:
    layer = write(entries_of(source), store, kind)
    blob = Path(store.path(layer.descriptor.digest)).read_bytes()
    tar = unpacked(store.path(layer.descriptor.digest), kind)
    assert layer.descriptor.digest == sha256(blob)
    assert layer.descriptor.size == len(blob)
    assert layer.descriptor.media_type == OCI_LAYER_GZIP
    assert layer.diff_id == sha256(tar)
    assert layer.uncompressed_size == len(tar)
    assert layer.entries == 4
    assert files_in(store) == [layer.descriptor.digest.removeprefix("sha256:")]


def test_other_tools_read_it(source: Path, store: BlobStore, tmp_path: Path) -> None:
    path = store.path(write(entries_of(source), store).descriptor.digest)
    subprocess.run(["gzip", "-t"], stdin=open(path, "rb"), check=True)  # noqa: SIM115
    out = tmp_path / "out"
    out.mkdir()
    said = subprocess.run(["tar", "-xzf", path, "-C", str(out)], check=True, capture_output=True)
    assert said.stderr == b""
    assert (out / "d/big").read_bytes() == BIG
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["d", "d/big", "d/empty", "d/small"]
        content = tar.extractfile("d/big")
        assert content is not None and content.read() == BIG
        assert tar.getmember("d/big").mtime == 1_700_000_000


def test_zstd_frames_are_whole(source: Path, store: BlobStore) -> None:
    path = store.path(write(entries_of(source), store, "zstd").descriptor.digest)
    subprocess.run(["zstd", "-tq"], stdin=open(path, "rb"), check=True)  # noqa: SIM115


def test_compression_shrinks_what_can_be_and_hardly_grows_the_rest(store: BlobStore) -> None:
    for data, limit in ((bytes(4 << 20), 64 << 10), (random.Random(1).randbytes(4 << 20), (4 << 20) + (16 << 10))):
        entries = EntryList()
        entries.add("f", "file", mode=0o644, data=data)
        for kind in KINDS[:2]:
            assert write(entries, store, kind).descriptor.size < limit


def test_no_entries_give_an_empty_tar(store: BlobStore) -> None:
    layer = write(EntryList(), store)
    assert unpacked(store.path(layer.descriptor.digest), "gzip") == bytes(1024)
    assert layer.entries == 0


def test_progress_counts_the_tar(source: Path, store: BlobStore) -> None:
    seen: list[int] = []
    layer = write_layer(entries_of(source), store, Compression(), media_type="", threads=1, progress=seen.append)
    assert seen == sorted(set(seen))
    assert seen[-1] == layer.uncompressed_size


def test_times_are_clamped(source: Path, store: BlobStore) -> None:
    layer = write_layer(entries_of(source), store, Compression(), media_type="", threads=1, clamp_mtime_ns=5_000_000_000)
    with tarfile.open(store.path(layer.descriptor.digest)) as tar:
        assert {m.name: m.mtime for m in tar} == {"d": 0, "d/big": 5, "d/empty": 0, "d/small": 0}


def test_a_file_that_vanished_is_named_and_nothing_is_left(source: Path, store: BlobStore) -> None:
    entries = entries_of(source)
    (source / "big").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        write(entries, store)
    assert caught.value.filename == "d/big"
    assert files_in(store) == []


def test_a_file_that_grew_is_written_whole(source: Path, store: BlobStore) -> None:
    entries = entries_of(source)
    with open(source / "big", "ab") as f:
        f.write(b"more")
    with tarfile.open(store.path(write(entries, store).descriptor.digest)) as tar:
        content = tar.extractfile("d/big")
        assert content is not None and content.read() == BIG + b"more"


def test_a_file_that_shrinks_meanwhile_is_named(source: Path, store: BlobStore) -> None:
    def shrink(_: int) -> None:
        os.truncate(source / "big", 1 << 20)

    with pytest.raises(OSError, match="shorter") as caught:
        write_layer(entries_of(source), store, Compression(), media_type="", threads=1, progress=shrink)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, "d/big")
    assert files_in(store) == []


def test_cancelled_before_and_in_the_middle(source: Path, store: BlobStore) -> None:
    early, late = Cancel(), Cancel()
    early.set()
    for flag in (early, late):
        with pytest.raises(OSError) as caught:
            write_layer(
                entries_of(source), store, Compression(), media_type="", threads=2, cancel=flag, progress=lambda _: late.set()
            )
        assert caught.value.errno == errno.ECANCELED
        assert files_in(store) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], check=False, capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
def test_a_full_disk_is_told_with_the_place_and_left_clean(source: Path, small_disk: Path) -> None:
    store = BlobStore(str(small_disk))
    with pytest.raises(OSError) as caught:
        write(entries_of(source), store)
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value.filename).startswith(str(small_disk))
    assert files_in(store) == []

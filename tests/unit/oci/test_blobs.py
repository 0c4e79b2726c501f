"""The blob store, and blobs that are read while they arrive."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pybuild.errors import DigestError
from pybuild.oci.blobs import BlobStore, GrowingBlob, VerifiedReader


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_put_and_open(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "s"))
    digest, size = store.put(b"hello")
    assert (digest, size) == (sha256(b"hello"), 5) == store.put(b"hello")
    assert store.has(digest)
    with store.open(digest) as f:
        assert f.read() == b"hello"
    assert os.listdir(tmp_path / "s/tmp") == []
    assert BlobStore(str(tmp_path / "s")).has(digest)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../x", "sha512:" + "0" * 64, "sha256:" + "A" * 64, "0" * 64])
def test_malformed_digests_name_no_file(digest: str, tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    for use in (store.path, store.has, store.open):
        with pytest.raises(DigestError):
            use(digest)


def test_a_blob_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DigestError, match="not in the store"):
        BlobStore(str(tmp_path)).open(sha256(b""))


def test_committed_files_have_their_name(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    fd, temporary = store.temp()
    with os.fdopen(fd, "wb") as f:
        f.write(b"x")
    assert not store.has(sha256(b"x"))
    assert store.commit(temporary, sha256(b"x")) == store.path(sha256(b"x"))
    assert not os.path.exists(temporary)


def read_all(blob: GrowingBlob, piece: int) -> bytes:
    found = []
    with blob.open_reader() as reader:
        while data := reader.read(piece):
            found.append(data)
    return b"".join(found)


def test_readers_get_all_of_a_blob_while_it_grows(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    path, final = tmp_path / "part", tmp_path / "whole"
    path.touch()
    blob = GrowingBlob(str(path), len(data))
    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read_all, blob, piece) for piece in (100, 4096, 1 << 20)]
        waiter = pool.submit(blob.wait)
        with open(path, "ab", buffering=0) as f:
            for at in range(0, len(data), 7000):
                blob.advance(f.write(data[at : at + 7000]))
        os.rename(path, final)
        blob.finish(str(final))
        assert [r.result(20) == data for r in readers] == [True] * 3
        assert waiter.result(20) == str(final)
    assert read_all(blob, 4096) == data
    assert blob.written == len(data)


def test_a_reader_sees_what_is_there_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"first, not announced")
    blob = GrowingBlob(str(path), 100)
    blob.advance(5)
    with blob.open_reader() as reader:
        assert reader.read(100) == b"first"
        blob.finish(str(path))
        assert reader.read(100) == b""


def test_a_failure_reaches_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"12345")
    blob = GrowingBlob(str(path), 10)
    blob.advance(5)
    reader = blob.open_reader()
    assert reader.read(10) == b"12345"
    started = threading.Event()

    def wait() -> bytes:
        started.set()
        return reader.read(10)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        assert started.wait(20)
        path.unlink()
        blob.fail(DigestError("damaged"))
        with pytest.raises(DigestError, match="damaged"):
            waiting.result(20)
    reader.close()
    for use in (blob.wait, blob.open_reader):
        with pytest.raises(DigestError, match="damaged"):
            use()


def test_a_reader_opened_after_the_rename_waits_for_the_new_name(tmp_path: Path) -> None:
    blob = GrowingBlob(str(tmp_path / "gone"), 3)
    (tmp_path / "whole").write_bytes(b"abc")
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_all, blob, 10)
        blob.advance(3)
        blob.finish(str(tmp_path / "whole"))
        assert reading.result(20) == b"abc"


def test_verified_readers() -> None:
    data = os.urandom(10_000)
    with VerifiedReader(io.BytesIO(data), sha256(data), len(data), "here") as reader:
        assert b"".join(iter(lambda: reader.read(999), b"")) == data
    for found in (data[:-1] + b"\0" if data[-1] else data[:-1] + b"\1", data[:-1], data + b"\0", b""):
        with pytest.raises(DigestError, match="of here is damaged"), VerifiedReader(io.BytesIO(found), sha256(data), len(data), "here") as reader:
            while reader.read(999):
                pass

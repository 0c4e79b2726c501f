"""Blobs on disk by digest, and blobs that are still arriving."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from typing import BinaryIO

from pybuild.errors import DigestError
from pybuild.oci.descriptor import check_digest


class BlobStore:
    """A directory of blobs named by their digests' hex digits. Files appear whole or not at all."""

    def __init__(self, path: str) -> None:
        self.path_ = path
        os.makedirs(os.path.join(path, "sha256"), exist_ok=True)
        os.makedirs(os.path.join(path, "tmp"), exist_ok=True)

    def path(self, digest: str) -> str:
        """Where the blob is or would be; ``DigestError`` when the digest is malformed."""
        return os.path.join(self.path_, "sha256", check_digest(digest).removeprefix("sha256:"))

    def has(self, digest: str) -> bool:
        return os.path.exists(self.path(digest))

    def temp(self) -> tuple[int, str]:
        """A new file to write a blob into: descriptor and path. Commit or unlink it."""
        return tempfile.mkstemp(dir=os.path.join(self.path_, "tmp"))

    def commit(self, temporary: str, digest: str) -> str:
        """Give a finished file its name; the caller has verified the digest."""
        path = self.path(digest)
        os.rename(temporary, path)
        return path

    def put(self, data: bytes) -> tuple[str, int]:
        """Store bytes; their digest and size."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if not self.has(digest):
            fd, temporary = self.temp()
            try:
                with os.fdopen(fd, "wb") as f:
                    f.write(data)
                self.commit(temporary, digest)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        return digest, len(data)

    def open(self, digest: str) -> BinaryIO:
        """Open a blob for reading; ``DigestError`` when it is not there."""
        try:
            return open(self.path(digest), "rb", buffering=0)
        except FileNotFoundError:
            raise DigestError(f"blob {digest} is not in the store") from None


class GrowingBlob:
    """A file that one thread appends to while others read it. Readers block until bytes are there, the end, or a failure."""

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.size = size
        self._written = 0
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    @property
    def written(self) -> int:
        return self._written

    def advance(self, count: int) -> None:
        """Say that ``count`` more bytes are in the file."""
        with self._changed:
            self._written += count
            self._changed.notify_all()

    def finish(self, path: str) -> None:
        """Say that the blob is whole, verified and now at ``path``."""
        with self._changed:
            self.path = path
            self._ended = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Say that it will never be whole; readers get the error."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def wait(self) -> str:
        """Block until the blob is whole; its path. Raises what ``fail`` was given."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._error is not None)
            if self._error is not None:
                raise self._error
            return self.path

    def wait_for(self, position: int) -> int:
        """Block until bytes past ``position`` are there; how many, 0 at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._written > position or self._ended or self._error is not None)
            if self._error is not None:
                raise self._error
            return self._written - position

    def open_reader(self) -> GrowingReader:
        """A new reader from the beginning. Raises what the blob failed with."""
        try:
            with self._changed:
                return GrowingReader(self, open(self.path, "rb", buffering=0))
        except FileNotFoundError:
            # it is just being given its final name, or it failed and is gone
            return GrowingReader(self, open(self.wait(), "rb", buffering=0))


class GrowingReader:
    """Reads a growing blob from its beginning. ``with`` closes it."""

    def __init__(self, blob: GrowingBlob, file: BinaryIO) -> None:
        self._blob = blob
        self._file = file
        self._position = 0

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes, at least one unless the blob ended. Blocks; raises what the download failed with."""
        available = self._blob.wait_for(self._position)
        if available <= 0:
            return b""
        data = self._file.read(min(count, available))
        self._position += len(data)
        return data

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> GrowingReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class VerifiedReader:
    """Reads a blob's file and compares digest and size at its end, so that a damaged store is not passed on. ``with`` closes it."""

    def __init__(self, file: BinaryIO, digest: str, size: int, origin: str) -> None:
        self._file = file
        self._digest = digest
        self._left = size
        self._origin = origin
        self._hash = hashlib.sha256()

    def read(self, count: int) -> bytes:
        """At most ``count`` bytes, ``b""`` at the end. ``DigestError`` with the last bytes when they are not the blob's."""
        data = self._file.read(count)
        self._hash.update(data)
        self._left -= len(data)
        if self._left <= 0 or not data:
            found = f"sha256:{self._hash.hexdigest()}"
            if self._left or found != self._digest:
                raise DigestError(f"blob {self._digest} of {self._origin} is damaged: it has the digest {found}")
        return data

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> VerifiedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

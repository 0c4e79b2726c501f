"""A blob from a registry into a file: hashed while it arrives, taken up again where a connection broke."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import httpx

from pybuild.errors import AuthError, DigestError, NotFoundError, RegistryError, StorageError, TLSError
from pybuild.oci.descriptor import Descriptor
from pybuild.oci.reference import Reference
from pybuild.registry.bodies import read_body
from pybuild.registry.options import RegistryOptions
from pybuild.registry.protocol import blob_path, pull_scope
from pybuild.registry.retries import pause
from pybuild.registry.transport import Transport, closing, expect, translate

#: a connection that brought at least this much before it broke is no failure of the server
PROGRESS = 256 << 10
_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class BrokenRangeError(RegistryError):
    """A server answered a range with another one, or with none."""


class Download:
    """One blob. ``transport`` gives the connections to a registry, ``wait`` sleeps and raises when the build ends; ``arrived`` is told
    how many bytes more are in the file."""

    def __init__(
        self,
        candidates: Sequence[Reference],
        descriptor: Descriptor,
        options: RegistryOptions,
        *,
        transport: Callable[[Reference], Transport],
        wait: Callable[[float], None],
        arrived: Callable[[int], None],
    ) -> None:
        self._candidates = candidates
        self._descriptor = descriptor
        self._options = options
        self._transport = transport
        self._wait = wait
        self._arrived = arrived
        self._ranges = True
        self._done = 0

    def into(self, out: BinaryIO) -> None:
        """Fetch the blob. ``RegistryError`` when no try helped, ``DigestError`` when the bytes are wrong, ``StorageError``."""
        descriptor = self._descriptor
        digest = hashlib.sha256()
        failures = 0
        candidate = 0
        while True:
            before = self._done
            reference = self._candidates[candidate]
            try:
                for piece in self._pieces(reference):
                    if self._done + len(piece) > descriptor.size:
                        raise DigestError(f"blob {descriptor.digest} of {reference} is longer than its {descriptor.size} bytes")
                    digest.update(piece)
                    store(out, piece, descriptor.digest)
                    self._done += len(piece)
                    self._arrived(len(piece))
                if self._done == descriptor.size:
                    break
                error: RegistryError = RegistryError(
                    f"blob {descriptor.digest} of {reference} ended after {self._done} of {descriptor.size} bytes"
                )
            except httpx.TransportError as e:
                error = translate(e, reference.registry)
            except BrokenRangeError as e:
                self._ranges = False
                error = e
            except (NotFoundError, AuthError, TLSError):
                # asking again does not help, asking elsewhere may
                if candidate == len(self._candidates) - 1:
                    raise
                candidate += 1
                failures = 0
                continue
            except RegistryError as e:
                error = e
            failures = 1 if self._done - before >= PROGRESS else failures + 1
            if failures >= self._options.attempts:
                if candidate == len(self._candidates) - 1:
                    raise error
                candidate += 1
                failures = 0
            self._wait(pause(failures - 1, self._options.backoff) if failures else 0)
        found = f"sha256:{digest.hexdigest()}"
        if found != descriptor.digest:
            raise DigestError(f"blob {descriptor.digest} of {reference} arrived with digest {found}")

    def _pieces(self, reference: Reference) -> Iterator[bytes | memoryview]:
        """The bytes of the blob that are still missing."""
        descriptor, start = self._descriptor, self._done
        if start == descriptor.size and start:
            return
        headers = {"Range": f"bytes={start}-"} if start and self._ranges else {}
        what = f"blob {descriptor.digest} of {reference}"
        response = self._transport(reference).request(
            "GET", blob_path(reference, descriptor.digest), scope=pull_scope(reference), headers=headers, stream=True
        )
        if response.status_code == 416 or (headers and response.status_code == 206 and starts_at(response) != start):
            response.close()
            raise BrokenRangeError(f"registry {reference.registry} answered a range of {what} with another one")
        with closing(expect(response, (200, 206), what, reference.registry)):
            skip = start if response.status_code == 200 else 0
            for piece in read_body(response, self._options.stall):
                self._wait(0)
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                yield piece[skip:] if skip else piece
                skip = 0


def starts_at(response: httpx.Response) -> int | None:
    """Where the range of an answer begins."""
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def store(out: BinaryIO, data: bytes | memoryview, digest: str) -> None:
    """Append to the file; ``StorageError`` in a user's words."""
    try:
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += out.write(view[done:])
    except OSError as e:
        hint = "free some space, or put the builder's directory elsewhere" if e.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise StorageError(f"cannot store blob {digest}: {e.strerror}", hint=hint) from e

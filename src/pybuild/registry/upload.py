"""A blob into a repository: skipped when it is there, in one request where that is taken, in chunks where it is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx

from pybuild.errors import AuthError, DigestError, NotFoundError, RegistryError, TLSError
from pybuild.oci.descriptor import Descriptor
from pybuild.oci.layout import Readable
from pybuild.oci.reference import Reference
from pybuild.registry.options import RegistryOptions
from pybuild.registry.protocol import blob_path, push_scope, uploads_path
from pybuild.registry.retries import RETRY_STATUS, pause
from pybuild.registry.transport import Transport, expect

PIECE = 1 << 20
CHUNK = 16 << 20
SMALLEST_CHUNK = 1 << 20
#: an upload that failed with these may succeed when it is begun again: the session is lost, or the bytes were damaged on the way
AGAIN = RETRY_STATUS | {400, 404, 416}
_TAKEN = re.compile(r"(?:bytes=)?0-(\d+)")


class Upload:
    """One blob to one repository. ``open_blob`` opens its bytes, anew for every try; ``sent`` is told how many bytes are on their way."""

    def __init__(
        self,
        transport: Transport,
        reference: Reference,
        descriptor: Descriptor,
        open_blob: Callable[[], Readable],
        options: RegistryOptions,
        *,
        wait: Callable[[float], None],
        sent: Callable[[int], None],
    ) -> None:
        self._transport = transport
        self._reference = reference
        self._descriptor = descriptor
        self._open = open_blob
        self._options = options
        self._wait = wait
        self._sent = sent
        self._what = f"the upload of blob {descriptor.digest} to {reference.name}"
        self._chunk = 0

    def run(self) -> None:
        """Upload the blob. ``AuthError``, ``RegistryError`` when no try helped; ``DigestError`` when the source is not the blob."""
        attempts = max(self._options.attempts, self._options.push_retries + 1)
        for attempt in range(attempts):
            last = attempt == attempts - 1
            retry_after = ""
            try:
                response = self._try()
                if response.status_code in (201, 204):
                    return
                if response.status_code == 413 and not last:
                    self._smaller()
                    continue
                if response.status_code not in AGAIN or last:
                    expect(response, (201, 204), self._what, self._reference.registry)
                retry_after = response.headers.get("Retry-After", "")
                response.close()
            except (AuthError, TLSError):
                raise
            except RegistryError as e:
                if last or isinstance(e, NotFoundError):
                    raise
                if attempt >= 1:
                    # some proxies break large bodies off
                    self._smaller()
            self._wait(pause(attempt, self._options.backoff, retry_after))
            if self.exists():
                # it arrived, the answer did not
                return

    def exists(self) -> bool:
        """Whether the repository has the blob. ``AuthError``, ``RegistryError``."""
        path = blob_path(self._reference, self._descriptor.digest)
        response = self._transport.request("HEAD", path, scope=push_scope(self._reference))
        response.close()
        return response.status_code == 200

    def _smaller(self) -> None:
        """Chunks from now on, smaller ones each time."""
        self._chunk = max(SMALLEST_CHUNK, self._chunk // 2) if self._chunk else CHUNK

    def _request(self, method: str, place: str, headers: dict[str, str], content: Callable[[], Any] | None = None) -> httpx.Response:
        scope = push_scope(self._reference)
        return self._transport.request(method, place, scope=scope, headers=headers, content=content, retry=False)

    def _try(self) -> httpx.Response:
        begun = self._transport.request("POST", uploads_path(self._reference), scope=push_scope(self._reference), headers={"Content-Length": "0"})
        begun = expect(begun, (202,), self._what, self._reference.registry)
        place = self._place(begun, uploads_path(self._reference))
        if not place:
            raise RegistryError(f"registry {self._reference.registry} began an upload without saying where")
        if self._chunk and self._descriptor.size:
            return self._put_chunks(place, max(self._chunk, smallest_chunk(begun)))
        headers = {"Content-Length": str(self._descriptor.size), "Content-Type": "application/octet-stream"}
        return self._request("PUT", self._final(place), headers, lambda: self._body(self._descriptor.size))

    def _place(self, response: httpx.Response, before: str) -> str:
        """Where the upload goes on, as an absolute URL: the registry's word is relative to what was asked."""
        location = response.headers.get("Location", "")
        return str(response.request.url.join(location)) if location else ""

    def _final(self, place: str) -> str:
        return f"{place}{'&' if '?' in place else '?'}digest={quote(self._descriptor.digest, safe='')}"

    def _body(self, size: int) -> Iterator[bytes]:
        with self._open() as source:
            yield from self._read(source, 0, size, complete=True)

    def _read(self, source: Readable, done: int, end: int, *, complete: bool) -> Iterator[bytes]:
        """The bytes from ``done`` to ``end`` of the source, which is at ``done``."""
        size = self._descriptor.size
        while done < end:
            piece = source.read(min(PIECE, end - done))
            if not piece:
                raise DigestError(f"blob {self._descriptor.digest} has {done} bytes in place of {size}")
            done += len(piece)
            self._wait(0)
            yield piece
            self._sent(done)
        if complete and source.read(1):
            raise DigestError(f"blob {self._descriptor.digest} has more than {size} bytes")

    def _put_chunks(self, place: str, chunk: int) -> httpx.Response:
        """PATCH by PATCH in order, then the end. What the registry says it has decides where the next one begins."""
        size = self._descriptor.size
        done = 0
        with self._open() as source:
            while done < size:
                end = min(done + chunk, size)
                data = b"".join(self._read(source, done, end, complete=end == size))
                headers = {
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(len(data)),
                    "Content-Range": f"{done}-{end - 1}",
                }
                response = self._request("PATCH", place, headers, lambda data=data: data)  # type: ignore[misc]
                if response.status_code not in (201, 202, 204):
                    return response
                response.close()
                place = self._place(response, place) or place
                if taken(response, end) != end:
                    raise RegistryError(f"registry {self._reference.registry} took only a part of {self._what}")
                done = end
        return self._request("PUT", self._final(place), {"Content-Length": "0"})


def smallest_chunk(response: httpx.Response) -> int:
    """``OCI-Chunk-Min-Length``, 0 when it is missing."""
    text = response.headers.get("OCI-Chunk-Min-Length", "")
    return int(text[:12]) if text.isascii() and text.isdigit() else 0


def taken(response: httpx.Response, otherwise: int) -> int:
    """How many bytes a registry says it has."""
    found = _TAKEN.fullmatch(response.headers.get("Range", "").strip())
    return int(found[1]) + 1 if found else otherwise

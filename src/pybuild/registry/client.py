"""The registries of a build: resolve, download, upload. The methods are coroutines; the work is done in threads, in large pieces."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import httpx

from pybuild.errors import DigestError, NotFoundError, PybuildError, RegistryError
from pybuild.events import Emit, Log, Progress, Span
from pybuild.oci.blobs import BlobStore, GrowingBlob
from pybuild.oci.descriptor import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, check_digest
from pybuild.oci.image import Image, make_image
from pybuild.oci.manifest import MANIFEST_LIMIT, Index, parse_manifest
from pybuild.oci.platform import Platform, select
from pybuild.oci.reference import Reference
from pybuild.registry.credentials import CredentialStore
from pybuild.registry.options import RegistryOptions
from pybuild.registry.transport import ATTEMPTS, RETRY_STATUS, Transport, closing, expect, pause, translate

T = TypeVar("T")
PIECE = 1 << 20
CLOSE_SECONDS = 2.0
ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))


class Stopped(Exception):
    """The build was cancelled while a transfer waited."""


class Registries:
    """Connections to the registries of one build. ``close`` ends them and everything under way."""

    def __init__(self, options: RegistryOptions | None, emit: Emit) -> None:
        self._options = options or RegistryOptions()
        self._emit = emit
        self._credentials = CredentialStore(os.environ)
        self._transports: dict[tuple[str, bool], Transport] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(32, "registry")
        self._transfers = threading.Semaphore(self._options.transfers)

    async def close(self) -> None:
        """End everything: transfers under way are broken off. A thread that waits for a connection to be made is not waited for."""
        self._stop.set()
        with self._lock:
            transports = list(self._transports.values())
        for transport in transports:
            transport.break_off()
        ending = threading.Thread(target=self._pool.shutdown, kwargs={"wait": True, "cancel_futures": True}, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, CLOSE_SECONDS)
        for transport in transports:
            transport.close()

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped("the build was cancelled")

    def _transport(self, host: str, *, push: bool) -> Transport:
        with self._lock:
            found = self._transports.get((host, push))
            if found is None:
                found = self._transports[host, push] = Transport(host, self._options, self._credentials, push=push, wait=self._wait)
            return found

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    # --- pull ---------------------------------------------------------------------------------------------------------

    async def resolve(self, reference: Reference, platform: Platform) -> Image:
        """The image of a reference for a platform, its manifest and config verified. Mirrors are asked first.

        Raises ``NotFoundError``, ``AuthError``, ``TLSError``, ``RegistryError``, ``DigestError``."""
        return await self._run(lambda: self._resolve(reference, platform))

    def candidates(self, reference: Reference) -> list[Reference]:
        """Where a reference can be pulled from, in order: the places its registry is mapped to, then itself."""
        found = []
        for place in self._options.maps.get(reference.registry, ()):
            host, _, prefix = place.partition("/")
            repository = f"{prefix}/{reference.repository}" if prefix else reference.repository
            found.append(Reference(host, repository, reference.tag, reference.digest))
        if not (found and self._options.skip_default_fallback):
            found.append(reference)
        return found

    def _resolve(self, reference: Reference, platform: Platform) -> Image:
        candidates = self.candidates(reference)
        for number, candidate in enumerate(candidates, 1):
            for attempt in range(self._options.download_retries + 1):
                try:
                    return self._resolve_at(candidate, platform)
                except RegistryError as e:
                    if attempt < self._options.download_retries and not isinstance(e, NotFoundError):
                        self._wait(pause(attempt))
                        continue
                    if number == len(candidates):
                        raise
                    self._emit(
                        Log(
                            "warning",
                            f"Failed to retrieve image {candidate} from remapped registry {candidate.registry}: {e}. "
                            "Will try with the next registry, or fallback to the original registry.",
                        )
                    )
                    break
        raise NotFoundError(f"image {reference} was found nowhere")

    def _resolve_at(self, reference: Reference, platform: Platform) -> Image:
        data, media_type = self._manifest(reference, reference.identifier)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if reference.digest and digest != reference.digest:
            raise DigestError(f"registry {reference.registry} answered {reference} with a manifest of digest {digest}")
        for _ in range(4):
            parsed = parse_manifest(data, media_type)
            if not isinstance(parsed, Index):
                config = self._small_blob(reference, parsed.config)
                return make_image(digest, data, parsed, config)
            chosen = select(parsed.manifests, platform)
            if chosen is None:
                have = ", ".join(sorted({f"{(m.platform or {}).get('os')}/{(m.platform or {}).get('architecture')}" for m in parsed.manifests}))
                raise NotFoundError(f"image {reference} has no manifest for {platform}", hint=f"it has: {have}")
            data, media_type = self._manifest(reference, chosen.digest)
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            if digest != chosen.digest:
                raise DigestError(f"registry {reference.registry} answered {reference.name}@{chosen.digest} with a manifest of digest {digest}")
        raise RegistryError(f"the indexes of {reference} are nested too deeply")

    def _manifest(self, reference: Reference, identifier: str) -> tuple[bytes, str]:
        transport = self._transport(reference.registry, push=False)
        path = f"/v2/{reference.repository}/manifests/{quote(identifier, safe=':')}"
        response = transport.request("GET", path, scope=pull_scope(reference), headers={"Accept": ACCEPT}, stream=True)
        with closing(expect(response, (200,), f"image {reference}", reference.registry)):
            return read_limited(response, MANIFEST_LIMIT, f"the manifest of {reference}"), response.headers.get("Content-Type", "")

    def _small_blob(self, reference: Reference, descriptor: Descriptor) -> bytes:
        transport = self._transport(reference.registry, push=False)
        response = transport.request("GET", blob_path(reference, descriptor.digest), scope=pull_scope(reference), stream=True)
        with closing(expect(response, (200,), f"blob {descriptor.digest} of {reference}", reference.registry)):
            data = read_limited(response, MANIFEST_LIMIT, f"the config of {reference}")
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if found != descriptor.digest or len(data) != descriptor.size:
            raise DigestError(f"blob {descriptor.digest} of {reference} arrived with digest {found} and {len(data)} bytes")
        return data

    def download(self, reference: Reference, descriptor: Descriptor, blobs: BlobStore) -> GrowingBlob:
        """Begin to fetch a blob into the store; readers of the result follow it while it arrives.

        It is verified while it streams. A connection that breaks is taken up again where it broke; when that does not help, or the bytes
        are wrong, readers get ``RegistryError`` or ``DigestError`` and nothing stays in the store."""
        fd, temporary = blobs.temp()
        growing = GrowingBlob(temporary, descriptor.size)

        def work() -> None:
            try:
                with os.fdopen(fd, "wb", buffering=0) as out, self._transfers:
                    self._fetch(reference, descriptor, out, growing)
                growing.finish(blobs.commit(temporary, descriptor.digest))
            except BaseException as e:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                growing.fail(RegistryError("the download was cancelled") if isinstance(e, Stopped) else e)

        try:
            self._pool.submit(work)
        except RuntimeError:
            os.close(fd)
            os.unlink(temporary)
            growing.fail(RegistryError("the download was cancelled"))
        return growing

    def _fetch(self, reference: Reference, descriptor: Descriptor, out: BinaryIO, growing: GrowingBlob) -> None:
        import time

        begin = time.monotonic()
        digest = hashlib.sha256()
        done = 0
        failures = 0
        candidates = self.candidates(reference)
        while done < descriptor.size or descriptor.size == 0:
            before = done
            try:
                for piece in self._pieces(candidates[failures % len(candidates)] if failures else candidates[0], descriptor, done):
                    if self._stop.is_set():
                        raise Stopped
                    if done + len(piece) > descriptor.size:
                        raise DigestError(f"blob {descriptor.digest} of {reference} is longer than its {descriptor.size} bytes")
                    digest.update(piece)
                    write_all(out, piece)
                    done += len(piece)
                    growing.advance(len(piece))
                    self._emit(Progress("download", descriptor.digest[7:19], done, descriptor.size))
                if done == descriptor.size:
                    break
                error: Exception = RegistryError(
                    f"blob {descriptor.digest} of {reference} ended after {done} of {descriptor.size} bytes"
                )
            except httpx.TransportError as e:
                error = translate(e, reference.registry)
            except NotFoundError as e:
                if failures + 1 >= len(candidates):
                    raise
                error = e
            failures = 1 if done > before and failures < ATTEMPTS else failures + 1
            if failures >= ATTEMPTS or (done == before and failures >= ATTEMPTS):
                raise error
            self._wait(pause(failures))
        found = f"sha256:{digest.hexdigest()}"
        if found != descriptor.digest:
            raise DigestError(f"blob {descriptor.digest} of {reference} arrived with digest {found}")
        self._emit(Span("download", descriptor.digest[7:19], begin, time.monotonic(), descriptor.size))

    def _pieces(self, reference: Reference, descriptor: Descriptor, start: int) -> Iterator[bytes]:
        """The bytes of a blob from ``start`` on."""
        transport = self._transport(reference.registry, push=False)
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        response = transport.request("GET", blob_path(reference, descriptor.digest), scope=pull_scope(reference), headers=headers, stream=True)
        with closing(expect(response, (200, 206), f"blob {descriptor.digest} of {reference}", reference.registry)):
            skip = start
            if response.status_code == 206:
                said = response.headers.get("Content-Range", "").partition("-")[0].removeprefix("bytes").strip()
                if said != str(start):
                    raise RegistryError(f"registry {reference.registry} answered a range of blob {descriptor.digest} with another one")
                skip = 0
            for piece in response.iter_raw(PIECE):
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                yield piece[skip:] if skip else piece
                skip = 0

    # --- push ---------------------------------------------------------------------------------------------------------

    async def check_push(self, reference: Reference) -> None:
        """Whether the registry takes uploads to a repository: an upload is begun and given up. ``AuthError``, ``RegistryError``."""

        def probe() -> None:
            transport = self._transport(reference.registry, push=True)
            response = transport.request("POST", f"/v2/{reference.repository}/blobs/uploads/", scope=push_scope(reference), headers={"Content-Length": "0"})
            response = expect(response, (201, 202), f"an upload to {reference.name}", reference.registry)
            place = response.headers.get("Location", "")
            response.close()
            if place:
                with contextlib.suppress(PybuildError):
                    transport.request("DELETE", place, scope=push_scope(reference), retry=False).close()

        await self._run(probe)

    async def has_blob(self, reference: Reference, descriptor: Descriptor) -> bool:
        """Whether a repository has a blob."""
        return await self._run(lambda: self._has_blob(reference, descriptor))

    def _has_blob(self, reference: Reference, descriptor: Descriptor) -> bool:
        transport = self._transport(reference.registry, push=True)
        response = transport.request("HEAD", blob_path(reference, descriptor.digest), scope=push_scope(reference))
        response.close()
        return response.status_code == 200

    async def mount_blob(self, reference: Reference, descriptor: Descriptor, sources: Sequence[Reference]) -> bool:
        """Try to take a blob over from other repositories of the same registry; whether one was."""
        for source in sources:
            near = source.registry == reference.registry and source.repository != reference.repository
            if near and await self._run(partial(self._mount, reference, descriptor, source)):
                return True
        return False

    def _mount(self, reference: Reference, descriptor: Descriptor, source: Reference) -> bool:
        transport = self._transport(reference.registry, push=True)
        path = f"/v2/{reference.repository}/blobs/uploads/?mount={quote(descriptor.digest)}&from={quote(source.repository)}"
        try:
            response = transport.request("POST", path, scope=push_scope(reference, source), headers={"Content-Length": "0"})
        except RegistryError:
            return False
        response.close()
        if response.status_code == 202 and response.headers.get("Location"):
            with contextlib.suppress(PybuildError):
                transport.request("DELETE", response.headers["Location"], scope=push_scope(reference), retry=False).close()
        return response.status_code == 201

    async def upload_blob(self, reference: Reference, descriptor: Descriptor, open_blob: Callable[[], BinaryIO]) -> bool:
        """Upload a blob unless the repository has it; whether it had to be. ``open_blob`` opens its bytes, anew for every try."""
        return await self._run(lambda: self._upload(reference, descriptor, open_blob))

    def _upload(self, reference: Reference, descriptor: Descriptor, open_blob: Callable[[], BinaryIO]) -> bool:
        import time

        check_digest(descriptor.digest)
        if self._has_blob(reference, descriptor):
            return False
        begin = time.monotonic()
        attempts = max(ATTEMPTS, self._options.push_retries + 1)
        with self._transfers:
            for attempt in range(attempts):
                try:
                    response = self._put_blob(reference, descriptor, open_blob)
                except RegistryError as e:
                    # the registry may have it all the same: the answer was lost
                    if attempt == attempts - 1 or getattr(e, "final", False):
                        raise
                    self._wait(pause(attempt))
                    if self._has_blob(reference, descriptor):
                        break
                    continue
                if response.status_code in (201, 204):
                    break
                if response.status_code not in (*RETRY_STATUS, 404, 416) or attempt == attempts - 1:
                    expect(response, (201, 204), f"the upload of blob {descriptor.digest} to {reference.name}", reference.registry)
                self._wait(pause(attempt, response.headers.get("Retry-After", "")))
        self._emit(Span("upload", descriptor.digest[7:19], begin, time.monotonic(), descriptor.size))
        return True

    def _put_blob(self, reference: Reference, descriptor: Descriptor, open_blob: Callable[[], BinaryIO]) -> httpx.Response:
        transport = self._transport(reference.registry, push=True)
        scope = push_scope(reference)
        begun = transport.request("POST", f"/v2/{reference.repository}/blobs/uploads/", scope=scope, headers={"Content-Length": "0"})
        begun = expect(begun, (202,), f"an upload to {reference.name}", reference.registry)
        place = begun.headers.get("Location", "")
        begun.close()
        if not place:
            raise RegistryError(f"registry {reference.registry} began an upload without saying where")
        place += ("&" if "?" in place else "?") + f"digest={quote(descriptor.digest)}"
        headers = {"Content-Length": str(descriptor.size), "Content-Type": "application/octet-stream"}

        def body() -> Iterator[bytes]:
            done = 0
            with open_blob() as f:
                while piece := f.read(PIECE):
                    if self._stop.is_set():
                        raise Stopped
                    done += len(piece)
                    yield piece
                    self._emit(Progress("upload", descriptor.digest[7:19], done, descriptor.size))

        response = transport.request("PUT", place, scope=scope, headers=headers, content=body, retry=False)
        response.close()
        return response

    async def put_manifest(self, reference: Reference, data: bytes, media_type: str) -> None:
        """Put a manifest at a reference's tag (or its digest, when it has no tag). ``RegistryError``."""

        def put() -> None:
            transport = self._transport(reference.registry, push=True)
            identifier = reference.tag or f"sha256:{hashlib.sha256(data).hexdigest()}"
            path = f"/v2/{reference.repository}/manifests/{quote(identifier, safe=':')}"
            headers = {"Content-Type": media_type}
            response = transport.request("PUT", path, scope=push_scope(reference), headers=headers, content=lambda: data)
            if self._options.ignore_immutable_tags and is_immutable(response):
                self._emit(Log("info", f"Immutable tag error ignored for {reference}"))
                return
            expect(response, (200, 201, 202), f"the manifest of {reference}", reference.registry).close()

        await self._run(put)


def is_immutable(response: httpx.Response) -> bool:
    text = response.text if response.status_code >= 400 else ""
    return "TAG_INVALID" in text or "immutable" in text.lower()


def pull_scope(reference: Reference) -> str:
    return f"repository:{reference.repository}:pull"


def push_scope(reference: Reference, source: Reference | None = None) -> str:
    scope = f"repository:{reference.repository}:pull,push"
    return f"{scope} repository:{source.repository}:pull" if source is not None else scope


def blob_path(reference: Reference, digest: str) -> str:
    return f"/v2/{reference.repository}/blobs/{check_digest(digest)}"


def read_limited(response: httpx.Response, limit: int, what: str) -> bytes:
    found = bytearray()
    for piece in response.iter_bytes():
        found += piece
        if len(found) > limit:
            raise RegistryError(f"{what} is larger than {limit} bytes")
    return bytes(found)


def write_all(out: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]

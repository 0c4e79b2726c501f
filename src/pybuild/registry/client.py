"""The registries of a build: resolve, download, upload. The methods are coroutines; the work is done in threads, in large pieces."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, Self, TypeVar
from urllib.parse import quote

import httpx

from pybuild.errors import AuthError, DigestError, NotFoundError, PybuildError, RegistryError
from pybuild.events import Emit, Log, Progress, Span
from pybuild.oci.blobs import BlobStore, GrowingBlob
from pybuild.oci.descriptor import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, check_digest
from pybuild.oci.image import Image, make_image
from pybuild.oci.layout import Readable
from pybuild.oci.manifest import MANIFEST_LIMIT, Index, parse_manifest
from pybuild.oci.platform import Platform, is_attestation, of_json, select
from pybuild.oci.reference import HUB_ALIASES, Reference
from pybuild.registry.credentials import CredentialStore
from pybuild.registry.download import Download
from pybuild.registry.options import RegistryOptions
from pybuild.registry.protocol import blob_path, manifest_path, pull_scope, push_scope, uploads_path
from pybuild.registry.retries import pause
from pybuild.registry.tls import verifies
from pybuild.registry.transport import Transport, closing, expect, is_private, translate
from pybuild.registry.upload import Upload

T = TypeVar("T")
CLOSE_SECONDS = 2.0
REQUESTS = 16
NESTED = 4
MANIFEST_TRIES = 3
#: bytes between two events about the same transfer
TELL_EVERY = 1 << 20
ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))
#: what registries say of a tag that must not be moved: Artifact Registry, ECR before and since 2025
IMMUTABLE = (
    "the repository has enabled tag immutability",
    "cannot be overwritten because the repository is immutable",
    "cannot be overwritten because the tag is immutable",
)


class Stopped(Exception):
    """The build was cancelled while a transfer waited."""


class Registries:
    """Connections to the registries of one build. ``close`` ends them and everything under way; ``async with`` does so too."""

    def __init__(self, options: RegistryOptions | None, emit: Emit, env: Mapping[str, str] = os.environ) -> None:
        self._options = options or RegistryOptions()
        self._emit = emit
        self._env = env
        self._credentials = CredentialStore(env)
        self._transports: dict[tuple[str, bool, bool], Transport] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        # three pools: a download that an upload waits for must not wait for that upload
        self._requests = ThreadPoolExecutor(REQUESTS, "registry")
        self._downloads = ThreadPoolExecutor(self._options.transfers, "download")
        self._uploads = ThreadPoolExecutor(self._options.transfers, "upload")
        self._answered: dict[tuple[str, str], Reference] = {}
        self._present: dict[tuple[str, str, str], bool] = {}
        self._uploading: dict[tuple[str, str, str], threading.Lock] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End everything: transfers under way are broken off. A thread that waits for a connection to be made is not waited for."""
        self._stop.set()
        with self._lock:
            transports = list(self._transports.values())
        for transport in transports:
            transport.break_off()

        def end() -> None:
            for pool in (self._requests, self._downloads, self._uploads):
                pool.shutdown(wait=True, cancel_futures=True)

        ending = threading.Thread(target=end, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, CLOSE_SECONDS)
        for transport in transports:
            transport.close()

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds) if seconds else self._stop.is_set():
            raise Stopped("the build was cancelled")

    def _transport(self, host: str, *, push: bool) -> Transport:
        options = self._options
        plain = host in options.insecure_registries or (options.insecure if push else options.insecure_pull) or is_private(host)
        key = (host, plain, verifies(options, host, push=push))
        with self._lock:
            found = self._transports.get(key)
            if found is None:
                if self._stop.is_set():
                    raise Stopped("the build was cancelled")
                found = self._transports[key] = Transport(
                    host, options, self._credentials, plain=plain, verify=key[2], wait=self._wait, env=self._env
                )
            return found

    async def _run(self, call: Callable[[], T], pool: ThreadPoolExecutor | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool or self._requests, call)

    # --- pull ---------------------------------------------------------------------------------------------------------

    async def resolve(self, reference: Reference, platform: Platform) -> Image:
        """The image of a reference for a platform, its manifest and config verified. Mirrors are asked first.

        Raises ``NotFoundError``, ``AuthError``, ``TLSError``, ``RegistryError``, ``DigestError``."""
        return await self._run(lambda: self._resolve(reference, platform))

    def candidates(self, reference: Reference) -> list[Reference]:
        """Where a reference can be pulled from, in order: the places its registry is mapped to, then itself. Once one has answered,
        that one is first."""
        found = []
        names = HUB_ALIASES if reference.registry in HUB_ALIASES else (reference.registry,)
        for place in dict.fromkeys(p for name in names for p in self._options.maps.get(name, ())):
            host, _, prefix = place.strip("/").partition("/")
            repository = f"{prefix}/{reference.repository}" if prefix else reference.repository
            found.append(Reference(host, repository, reference.tag, reference.digest))
        if not (found and self._options.skip_default_fallback):
            found.append(reference)
        answered = self._answered.get((reference.registry, reference.repository))
        if answered is not None:
            found.sort(key=lambda r: (r.registry, r.repository) != (answered.registry, answered.repository))
        return found

    def _resolve(self, reference: Reference, platform: Platform) -> Image:
        candidates = self.candidates(reference)
        for number, candidate in enumerate(candidates, 1):
            for attempt in range(self._options.download_retries + 1):
                try:
                    found = self._resolve_at(candidate, platform)
                    self._answered[reference.registry, reference.repository] = candidate
                    return found
                except (RegistryError, DigestError) as e:
                    if attempt < self._options.download_retries and not isinstance(e, NotFoundError | AuthError):
                        self._wait(pause(attempt, self._options.backoff))
                        continue
                    if number == len(candidates):
                        if len(candidates) > 1 and self._options.skip_default_fallback:
                            e.hint = e.hint or f"image not found on any configured mapped registries for {reference}"
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
        data, media_type = self._small(reference, manifest_path(reference, reference.identifier), f"image {reference}")
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if reference.digest and digest != reference.digest:
            raise DigestError(f"registry {reference.registry} answered {reference} with a manifest of digest {digest}")
        for _ in range(NESTED):
            parsed = parse_manifest(data, media_type)
            if not isinstance(parsed, Index):
                config, _ = self._small(
                    reference, blob_path(reference, parsed.config.digest), f"the config of {reference}", wanted=parsed.config
                )
                return make_image(digest, data, parsed, config)
            chosen = select(parsed.manifests, platform)
            if chosen is None:
                have = sorted({str(of_json(m.platform or {})) for m in parsed.manifests if not is_attestation(m)})
                raise NotFoundError(f"no child with platform {platform} in index {reference}", hint=f"it has: {', '.join(have)}")
            what = f"manifest {chosen.digest} of {reference}"
            data, media_type = self._small(reference, manifest_path(reference, chosen.digest), what, wanted=chosen)
            digest = chosen.digest
        raise RegistryError(f"the indexes of {reference} are nested too deeply")

    def _small(self, reference: Reference, path: str, what: str, wanted: Descriptor | None = None) -> tuple[bytes, str]:
        """A manifest or config with its Content-Type, verified when its descriptor is ``wanted``. Tried again when it breaks off or
        arrives damaged."""
        transport = self._transport(reference.registry, push=False)
        for attempt in range(self._options.attempts):
            last = attempt == self._options.attempts - 1
            response = transport.request("GET", path, scope=pull_scope(reference), headers={"Accept": ACCEPT}, stream=True)
            try:
                with closing(expect(response, (200,), what, reference.registry)):
                    data = read_limited(response, MANIFEST_LIMIT, what)
                check_bytes(data, what, wanted)
                return data, response.headers.get("Content-Type", "")
            except httpx.TransportError as e:
                if last:
                    raise translate(e, reference.registry) from None
            except DigestError:
                if last:
                    raise
            self._wait(pause(attempt, self._options.backoff))
        raise RegistryError(f"{what} was not asked for")

    def download(self, reference: Reference, descriptor: Descriptor, blobs: BlobStore) -> GrowingBlob:
        """Begin to fetch a blob into the store; readers of the result follow it while it arrives.

        It is verified while it streams. A connection that breaks is taken up again where it broke; when that does not help, or the bytes
        are wrong, readers get ``RegistryError`` or ``DigestError`` and nothing stays in the store."""
        fd, temporary = blobs.temp()
        growing = GrowingBlob(temporary, descriptor.size)
        name = descriptor.digest[7:19]
        told = 0

        def arrived(count: int) -> None:
            nonlocal told
            growing.advance(count)
            if growing.written - told >= TELL_EVERY or growing.written == descriptor.size:
                told = growing.written
                self._emit(Progress("download", name, told, descriptor.size))

        def work() -> None:
            begin = time.monotonic()
            try:
                with os.fdopen(fd, "wb", buffering=0) as out:
                    self._wait(0)
                    Download(
                        self.candidates(reference),
                        descriptor,
                        self._options,
                        transport=lambda r: self._transport(r.registry, push=False),
                        wait=self._wait,
                        arrived=arrived,
                    ).into(out)
                growing.finish(blobs.commit(temporary, descriptor.digest))
                self._emit(Span("download", name, begin, time.monotonic(), descriptor.size))
            except BaseException as e:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                growing.fail(RegistryError("the download was cancelled") if isinstance(e, Stopped) or self._stop.is_set() else e)

        def cancelled() -> None:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            growing.fail(RegistryError("the download was cancelled"))

        try:
            self._downloads.submit(work).add_done_callback(lambda future: cancelled() if future.cancelled() else None)
        except RuntimeError:
            cancelled()
        return growing

    # --- push ---------------------------------------------------------------------------------------------------------

    async def check_push(self, reference: Reference) -> None:
        """Whether the registry takes uploads to a repository: an upload is begun and given up. ``AuthError``, ``RegistryError``."""

        def probe() -> None:
            transport = self._transport(reference.registry, push=True)
            response = transport.request("POST", uploads_path(reference), scope=push_scope(reference), headers={"Content-Length": "0"})
            response = expect(response, (201, 202), f"an upload to {reference.name}", reference.registry)
            self._give_up(transport, reference, response)

        await self._run(probe)

    def _give_up(self, transport: Transport, reference: Reference, response: httpx.Response) -> None:
        """End an upload that was begun; the registry forgets it sooner or later anyhow."""
        response.close()
        if response.headers.get("Location"):
            place = str(response.request.url.join(response.headers["Location"]))
            with contextlib.suppress(PybuildError):
                # a token for pushing may not be enough for this: no other one is fetched
                transport.request("DELETE", place, scope=push_scope(reference), retry=False, renew=False).close()

    def _blob_key(self, reference: Reference, descriptor: Descriptor) -> tuple[str, str, str]:
        return reference.registry, reference.repository, check_digest(descriptor.digest)

    async def has_blob(self, reference: Reference, descriptor: Descriptor) -> bool:
        """Whether a repository has a blob; asked once."""
        return await self._run(lambda: self._has_blob(reference, descriptor))

    def _has_blob(self, reference: Reference, descriptor: Descriptor) -> bool:
        key = self._blob_key(reference, descriptor)
        found = self._present.get(key)
        if found is None:
            transport = self._transport(reference.registry, push=True)
            response = transport.request("HEAD", blob_path(reference, descriptor.digest), scope=push_scope(reference))
            response.close()
            found = response.status_code == 200
            # never from there to not there: an upload may have ended meanwhile
            found = self._present.setdefault(key, found) or found
        return found

    async def mount_blob(self, reference: Reference, descriptor: Descriptor, sources: Sequence[Reference]) -> bool:
        """Try to take a blob over from other repositories of the same registry; whether one was."""
        for source in sources:
            near = source.registry == reference.registry and source.repository != reference.repository
            if near and await self._run(partial(self._mount, reference, descriptor, source)):
                return True
        return False

    def _mount(self, reference: Reference, descriptor: Descriptor, source: Reference) -> bool:
        transport = self._transport(reference.registry, push=True)
        path = f"{uploads_path(reference)}?mount={quote(descriptor.digest, safe='')}&from={quote(source.repository, safe='')}"
        try:
            response = transport.request(
                "POST", path, scope=push_scope(reference), more_scopes=(pull_scope(source),), headers={"Content-Length": "0"}
            )
        except RegistryError:
            return False
        if response.status_code == 202:
            self._give_up(transport, reference, response)
        response.close()
        if response.status_code == 201:
            self._present[self._blob_key(reference, descriptor)] = True
            return True
        return False

    async def upload_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        source: Callable[[], Readable] | GrowingBlob,
        mount_from: Sequence[Reference] = (),
    ) -> Literal["existed", "mounted", "uploaded"]:
        """Have a blob in a repository: it is there, is taken over from another repository, or is uploaded.

        ``source`` opens its bytes, anew for every try; a blob that is still growing is read as it grows. ``AuthError``,
        ``RegistryError``, ``DigestError`` when the source is not the blob."""
        if await self.has_blob(reference, descriptor):
            return "existed"
        if mount_from and await self.mount_blob(reference, descriptor, mount_from):
            return "mounted"
        opener = source.open_reader if isinstance(source, GrowingBlob) else source
        return await self._run(lambda: self._upload(reference, descriptor, opener), self._uploads)

    def _upload(self, reference: Reference, descriptor: Descriptor, opener: Callable[[], Readable]) -> Literal["existed", "uploaded"]:
        key = self._blob_key(reference, descriptor)
        with self._lock:
            lock = self._uploading.setdefault(key, threading.Lock())
        with lock:
            if self._present.get(key):
                return "existed"
            begin = time.monotonic()
            name = descriptor.digest[7:19]
            Upload(
                self._transport(reference.registry, push=True),
                reference,
                descriptor,
                opener,
                self._options,
                wait=self._wait,
                sent=lambda done: self._emit(Progress("upload", name, done, descriptor.size)),
            ).run()
            self._present[key] = True
            self._emit(Span("upload", name, begin, time.monotonic(), descriptor.size))
            return "uploaded"

    async def put_manifest(self, reference: Reference, data: bytes, media_type: str) -> None:
        """Put a manifest at a reference's tag (or its digest, when it has no tag). ``AuthError``, ``RegistryError``, ``DigestError``
        when the registry stored something else."""
        await self._run(lambda: self._put_manifest(reference, data, media_type))

    def _put_manifest(self, reference: Reference, data: bytes, media_type: str) -> None:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        for attempt in range(MANIFEST_TRIES):
            try:
                self._try_manifest(reference, data, media_type, digest)
                return
            except (NotFoundError, AuthError):
                raise
            except (RegistryError, DigestError) as e:
                # "invalid" may mean that it was damaged on the way; what the transport has tried again already is not tried once more
                damaged = isinstance(e, DigestError) or "status 400" in e.message
                if not damaged or attempt == MANIFEST_TRIES - 1:
                    raise
            self._wait(pause(attempt, self._options.backoff))

    def _try_manifest(self, reference: Reference, data: bytes, media_type: str, digest: str) -> None:
        transport = self._transport(reference.registry, push=True)
        path = manifest_path(reference, reference.tag or digest)
        try:
            response = transport.request(
                "PUT", path, scope=push_scope(reference), headers={"Content-Type": media_type}, content=lambda: data
            )
            response = expect(response, (200, 201, 202), f"the manifest of {reference}", reference.registry)
        except RegistryError as e:
            if self._options.ignore_immutable_tags and any(text in e.message.lower() for text in IMMUTABLE):
                self._emit(Log("info", f"Immutable tag error ignored for {reference.familiar}"))
                return
            raise
        response.close()
        said = response.headers.get("Docker-Content-Digest", "")
        if said.startswith("sha256:") and said != digest:
            raise DigestError(f"registry {reference.registry} stored the manifest of {reference} with digest {said[:80]}, not {digest}")


def check_bytes(data: bytes, what: str, wanted: Descriptor | None) -> None:
    """``DigestError`` unless the bytes are those of the descriptor."""
    if wanted is None:
        return
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != wanted.digest or len(data) != wanted.size:
        raise DigestError(f"{what} has to be {wanted.digest} of {wanted.size} bytes, and arrived as {found} of {len(data)} bytes")


def read_limited(response: httpx.Response, limit: int, what: str) -> bytes:
    """The body; ``RegistryError`` beyond ``limit`` bytes."""
    found = bytearray()
    for piece in response.iter_raw():
        found += piece
        if len(found) > limit:
            raise RegistryError(f"{what} is larger than {limit} bytes")
    return bytes(found)

"""OCI image layouts: read one as a source of images, write one as an output."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Protocol, Self

from pybuild.errors import DigestError, NotFoundError, RegistryError
from pybuild.oci.blobs import VerifiedReader
from pybuild.oci.descriptor import OCI_INDEX, Descriptor, check_digest, from_json
from pybuild.oci.image import Image, make_image
from pybuild.oci.manifest import MANIFEST_LIMIT, Index, parse_manifest
from pybuild.oci.platform import Platform, select

REF_NAME = "org.opencontainers.image.ref.name"
_HEX = re.compile(r"[0-9a-f]{64}")


class Readable(Protocol):
    """What a blob is copied from."""

    def read(self, count: int, /) -> bytes: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: Any) -> None: ...


def split_layout_text(text: str) -> tuple[str, str]:
    """``DIR``, ``DIR:TAG``, ``DIR@DIGEST`` or ``DIR:TAG@DIGEST`` to the directory and the selector (tag or digest, may be empty)."""
    path, at, digest = text.partition("@")
    if at:
        if not os.path.isdir(path):
            path = path.rpartition(":")[0] or path
        return path, digest
    if not os.path.isdir(path) and ":" in os.path.basename(path):
        path, _, tag = path.rpartition(":")
        return path, tag
    return path, ""


def blob_path(layout: str, digest: str) -> str:
    return os.path.join(layout, "blobs", "sha256", check_digest(digest).removeprefix("sha256:"))


def open_blob(layout: str, descriptor: Descriptor) -> BinaryIO:
    """Open a blob for reading; its size is checked here, its digest by who reads it (see ``open_verified``)."""
    path = blob_path(layout, descriptor.digest)
    try:
        f = open(path, "rb", buffering=0)  # noqa: SIM115 - handed to the caller
    except OSError as e:
        raise NotFoundError(f"blob {descriptor.digest} of the layout {layout}: {e.strerror}") from None
    if os.fstat(f.fileno()).st_size != descriptor.size:
        f.close()
        raise DigestError(f"blob {descriptor.digest} of the layout {layout} has not the size {descriptor.size} that its manifest says")
    return f


def open_verified(layout: str, descriptor: Descriptor) -> VerifiedReader:
    """Open a blob for reading; its end raises ``DigestError`` when the bytes are not the blob's."""
    return VerifiedReader(open_blob(layout, descriptor), descriptor.digest, descriptor.size, f"the layout {layout}")


def read_small(layout: str, descriptor: Descriptor) -> bytes:
    """A manifest or config, verified."""
    with open_blob(layout, descriptor) as f:
        data = f.read(MANIFEST_LIMIT + 1)
        while len(data) < descriptor.size and len(data) <= MANIFEST_LIMIT and (more := f.read(MANIFEST_LIMIT)):
            data += more
    if len(data) > MANIFEST_LIMIT:
        raise RegistryError(f"{descriptor.digest} of the layout {layout} is larger than {MANIFEST_LIMIT} bytes")
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != descriptor.digest:
        raise DigestError(f"blob {descriptor.digest} of the layout {layout} has the digest {found}")
    return data


def read_image(layout: str, selector: str, platform: Platform) -> Image:
    """The image with a tag or digest (``selector``), or the only one, for a platform.

    Raises ``NotFoundError``, ``RegistryError`` for a malformed layout, ``DigestError`` for a damaged one."""
    try:
        with open(os.path.join(layout, "index.json"), "rb") as f:
            document: Any = json.load(f)
        entries = [from_json(m) for m in document["manifests"]]
    except OSError as e:
        raise NotFoundError(f"{layout} is no OCI layout: index.json: {e.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise RegistryError(f"{layout}/index.json is malformed: {e}") from None
    if selector:
        tags = sorted(filter(None, (e.annotations.get(REF_NAME) for e in entries)))
        entries = [e for e in entries if selector in (e.digest, e.annotations.get(REF_NAME))]
        if not entries and selector.startswith("sha256:") and os.path.isfile(path := blob_path(layout, selector)):
            # an image inside an index
            entries = [Descriptor("", selector, os.stat(path).st_size)]
        if not entries:
            hint = f"it has: {', '.join(tags[:20])}" if tags else "its images have no tags: leave the tag out, or give a digest"
            raise NotFoundError(f"the layout {layout} has no image {selector}", hint=hint)
    if not entries:
        raise NotFoundError(f"the layout {layout} has no image")
    found: Descriptor | None = entries[0]
    if len(entries) > 1:
        found = select(entries, platform)
    for _ in range(4):
        if found is None:
            raise NotFoundError(f"the layout {layout} has no image for {platform}")
        data = read_small(layout, found)
        parsed = parse_manifest(data, found.media_type)
        if not isinstance(parsed, Index):
            return make_image(found.digest, data, parsed, read_small(layout, parsed.config))
        found = select(parsed.manifests, platform)
    raise RegistryError(f"the indexes of the layout {layout} are nested too deeply")


def write_layout(out: str, manifest: bytes, media_type: str, blobs: Iterable[tuple[str, Callable[[], Readable]]]) -> None:
    """Write a layout with one image. ``blobs`` are digests and ways to open them. ``OSError`` when it fails.

    A new directory appears whole, or not at all. One that is there (perhaps a mount) is kept: blobs are added, then the index is
    replaced in one step, then the older image's blobs go. Until that step, and after a failure, it is as it was; files that belong
    to no layout are never touched.
    """
    out = os.path.abspath(out)
    if os.path.isdir(out):
        add_to_layout(out, manifest, media_type, blobs)
        return
    parent = os.path.dirname(out)
    os.makedirs(parent, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=f".{os.path.basename(out)}.", dir=parent)
    try:
        os.chmod(temporary, 0o755)
        add_to_layout(temporary, manifest, media_type, blobs)
        os.rename(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def add_to_layout(directory: str, manifest: bytes, media_type: str, blobs: Iterable[tuple[str, Callable[[], Readable]]]) -> None:
    """Put an image into a directory in place of what its index names."""
    store = os.path.join(directory, "blobs", "sha256")
    os.makedirs(store, exist_ok=True)
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": media_type, "digest": digest, "size": len(manifest)}],
    }
    added: list[str] = []
    wanted = {digest}
    try:
        for name, opener in (*blobs, (digest, lambda: io.BytesIO(manifest))):
            wanted.add(name)
            path = blob_path(directory, name)
            new = not os.path.lexists(path)
            with replacing(path) as target, opener() as source:
                copy_blob(source, target)
            if new:
                added.append(path)
        with replacing(os.path.join(directory, "oci-layout")) as f:
            f.write(b'{"imageLayoutVersion":"1.0.0"}')
        with replacing(os.path.join(directory, "index.json")) as f:
            f.write(json.dumps(index, separators=(",", ":")).encode())
    except BaseException:
        for path in added:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise
    for name in os.listdir(store):
        if _HEX.fullmatch(name) and f"sha256:{name}" not in wanted:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(store, name))


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` when the block ends well, and is gone when it does not."""
    fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".")
    try:
        with os.fdopen(fd, "wb", buffering=0) as f:
            yield f
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def copy_blob(source: Readable, target: BinaryIO) -> None:
    """Copy an open blob to a new file, in the kernel where that is possible."""
    if isinstance(source, io.FileIO):
        try:
            while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
                pass
            return
        except OSError as e:
            if e.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
                raise
            # both offsets are where the kernel left them
    while piece := source.read(1 << 20):
        view = memoryview(piece)
        while view:
            view = view[target.write(view) :]

"""OCI image layouts: read one as a source of images, write one as an output."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from pybuild.errors import DigestError, NotFoundError, RegistryError
from pybuild.oci.descriptor import Descriptor, check_digest, from_json
from pybuild.oci.image import Image, make_image
from pybuild.oci.manifest import MANIFEST_LIMIT, Index, parse_manifest
from pybuild.oci.platform import Platform, select

REF_NAME = "org.opencontainers.image.ref.name"


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
    """Open a blob for reading; its size is checked here, its digest by who reads it (see ``VerifiedReader``)."""
    path = blob_path(layout, descriptor.digest)
    try:
        f = open(path, "rb", buffering=0)  # noqa: SIM115 - handed to the caller
    except OSError as e:
        raise NotFoundError(f"blob {descriptor.digest} of the layout {layout}: {e.strerror}") from None
    if os.fstat(f.fileno()).st_size != descriptor.size:
        f.close()
        raise DigestError(f"blob {descriptor.digest} of the layout {layout} has not the size {descriptor.size} that its manifest says")
    return f


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
    """The image with a tag or digest (``selector``), or the only one, for a platform."""
    try:
        with open(os.path.join(layout, "index.json"), "rb") as f:
            document: Any = json.load(f)
        entries = [from_json(m) for m in document["manifests"]]
    except OSError as e:
        raise NotFoundError(f"{layout} is no OCI layout: index.json: {e.strerror}") from None
    except (ValueError, KeyError, TypeError) as e:
        raise RegistryError(f"{layout}/index.json is malformed: {e}") from None
    if selector:
        entries = [e for e in entries if selector in (e.digest, e.annotations.get(REF_NAME))]
    if not entries:
        raise NotFoundError(f"the layout {layout} has no image{f' {selector}' if selector else ''}")
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


def write_layout(out: str, manifest: bytes, media_type: str, blobs: Iterable[tuple[str, Callable[[], BinaryIO]]]) -> None:
    """Write a layout with one image. ``blobs`` are digests and ways to open them. The directory appears whole, in place of an
    older one; when writing fails nothing is left of it. ``OSError`` when it fails."""
    out = os.path.abspath(out)
    parent = os.path.dirname(out)
    os.makedirs(parent, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=f".{os.path.basename(out)}.", dir=parent)
    try:
        os.chmod(temporary, 0o755)
        os.makedirs(os.path.join(temporary, "blobs", "sha256"))
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        with open(blob_path(temporary, digest), "xb") as f:
            f.write(manifest)
        for name, opener in blobs:
            path = blob_path(temporary, name)
            if not os.path.exists(path):
                with opener() as source:
                    copy_blob(source, path)
        with open(os.path.join(temporary, "oci-layout"), "x") as g:
            g.write('{"imageLayoutVersion":"1.0.0"}')
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{"mediaType": media_type, "digest": digest, "size": len(manifest)}],
        }
        with open(os.path.join(temporary, "index.json"), "x") as g:
            json.dump(index, g, separators=(",", ":"))
        replace_directory(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def copy_blob(source: BinaryIO, path: str) -> None:
    """Copy an open blob to a new file, in the kernel where that is possible."""
    with open(path, "xb", buffering=0) as target:
        size = os.fstat(source.fileno()).st_size
        offset = 0
        while offset < size:
            try:
                done = os.copy_file_range(source.fileno(), target.fileno(), min(size - offset, 1 << 30), offset, offset)
            except OSError:
                os.lseek(source.fileno(), offset, os.SEEK_SET)
                os.lseek(target.fileno(), offset, os.SEEK_SET)
                shutil.copyfileobj(source, target, 1 << 20)
                return
            if not done:
                return
            offset += done


def replace_directory(temporary: str, out: str) -> None:
    """Put a finished directory where ``out`` is or was."""
    old = None
    if os.path.lexists(out):
        old = tempfile.mkdtemp(prefix=f".{os.path.basename(out)}.", dir=os.path.dirname(out))
        os.rename(out, os.path.join(old, "old"))
    try:
        os.rename(temporary, out)
    except BaseException:
        if old is not None:
            os.rename(os.path.join(old, "old"), out)
        raise
    finally:
        if old is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(old)
